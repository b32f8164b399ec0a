//! Reading as a whole: several files, broken texts, and texts that are none.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::code::Code;
use super::*;

fn told(loaded: &Loaded) -> Vec<(Code, usize)> {
    let line = |span| loaded.sources.find(span).map_or(0, |source| source.line_column(span.start).0);
    loaded.problems.sorted().iter().map(|d| (d.code, d.span.map_or(0, line))).collect()
}

fn read(text: &str) -> Loaded {
    load_text(Path::new("gateway.toml"), text)
}

fn files(files: &[(&str, &str)]) -> (tempfile::TempDir, Loaded) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let loaded = load(&dir.path().join(files[0].0));
    (dir, loaded)
}

#[test]
fn tables_of_several_files_are_joined_and_lists_follow_each_other() {
    let (dir, loaded) = files(&[
        (
            "main.toml",
            "include = [\"conf.d/*.toml\", \"more.toml\"]\n[bus.a]\ndevice = \"/dev/a\"\n[[sensor]]\nid = \"one\"\ndriver = \"uart\"\nbus = \"a\"\n",
        ),
        ("conf.d/20.toml", "[[sensor]]\nid = \"three\"\ndriver = \"uart\"\nbus = \"a\"\n"),
        (
            "conf.d/10.toml",
            "[bus.a]\nserial = \"4800 8N1\"\n[bus.b]\ndevice = \"/dev/b\"\n[[sensor]]\nid = \"two\"\ndriver = \"uart\"\nbus = \"b\"\n",
        ),
        ("more.toml", "[[sensor]]\nid = \"four\"\ndriver = \"uart\"\nbus = \"a\"\n"),
    ]);
    assert_eq!(told(&loaded), []);
    let ids: Vec<_> = loaded.file.sensor.iter().map(|sensor| sensor.id.as_ref().unwrap().value.0.as_str()).collect();
    assert_eq!(ids, ["one", "two", "three", "four"]);
    let buses: Vec<_> = loaded.file.bus.0.iter().map(|(name, bus)| (name.value.as_str(), bus.serial.baud)).collect();
    assert_eq!(buses, [("a", 4800), ("b", 9600)]);
    let last = loaded.file.sensor.last().unwrap();
    assert_eq!(loaded.sources.find(last.span).unwrap().path, dir.path().join("more.toml"));
}

#[test]
fn a_path_in_an_included_file_starts_where_that_file_is() {
    let (dir, loaded) =
        files(&[("main.toml", "include = [\"sub/a.toml\"]\n"), ("sub/a.toml", "[gateway]\nstate_dir = \"here\"\n")]);
    let span = loaded.file.gateway.state_dir.as_ref().unwrap().span;
    assert_eq!(loaded.sources.directory(span), dir.path().join("sub"));
}

#[test]
fn more_files_than_any_config_needs_are_refused_once() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..crate::limits::CONFIG_FILES_MAX + 5 {
        fs::write(dir.path().join(format!("{number}.toml")), "").unwrap();
    }
    fs::write(dir.path().join("main"), "include = [\"*.toml\"]\n").unwrap();
    assert_eq!(told(&load(&dir.path().join("main"))), [(Code::TooMuch, 1)]);
}

#[test]
fn a_file_without_end_is_refused_and_not_read() {
    assert_eq!(told(&load(Path::new("/dev/zero"))), [(Code::TooMuch, 0)]);
    assert_eq!(told(&load(Path::new("/"))), [(Code::FileUnreadable, 0)]);
}

#[test]
fn while_the_text_cannot_be_read_nothing_is_called_missing() {
    let loaded = read("[[sensor]]\nid = \"a\"\ndriver = uart\n[log]\nlevel = 3\n");
    assert_eq!(told(&loaded), [(Code::Syntax, 3), (Code::WrongType, 5)]);
}

#[test]
fn nested_beyond_reason_is_an_error_and_no_crash() {
    for deep in ["a = ".to_owned() + &"[".repeat(100_000), "a.".repeat(100_000) + "b = 1", "[".repeat(100_000)] {
        assert!(read(&deep).problems.any(Code::Syntax));
    }
}

#[test]
fn of_a_file_that_is_no_config_the_first_mistakes_are_shown_and_all_are_counted() {
    let loaded = read(&"[\n".repeat(100_000));
    let report = Report { sources: loaded.sources, problems: loaded.problems };
    let text = report.render(false);
    assert_eq!(text.matches("error[G003]").count(), crate::limits::DIAGNOSTICS_TOLD_MAX);
    assert!(text.ends_with("… and 99800 more\n\n100000 errors; nothing was started\n"));
    assert_eq!(report.to_json()["errors"], 100_000);
}

#[test]
fn a_file_as_windows_writes_it_is_read_and_its_places_are_right() {
    let loaded = read("\u{feff}[gateway]\r\nid = \"a\"\r\nidd = \"b\"\r\n");
    assert_eq!(loaded.file.gateway.id.as_ref().unwrap().value.0, "a");
    let report = Report { sources: loaded.sources, problems: loaded.problems };
    let text = report.render(false);
    assert!(text.contains("gateway.toml:3:1") && !text.contains('\r') && !text.contains('␍'), "{text}");
}

#[test]
fn a_line_too_long_to_show_is_told_by_its_column() {
    let loaded = read(&format!("x = \"{}\"\n", "a".repeat(10_000)));
    let report = Report { sources: loaded.sources, problems: loaded.problems };
    let text = report.render(false);
    assert!(text.contains("gateway.toml:1:1") && text.len() < 500, "{text}");
}

const REFERENCE: &str = include_str!("../../config/tidegate.toml");

/// The reference with every setting switched on: the longest text that is right.
fn switched_on() -> String {
    let lines = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Reads, judges and renders: all that a text from outside goes through.
fn survives(text: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    fs::write(&path, text).unwrap();
    let loaded = load(&path);
    let report = Report { sources: loaded.sources.clone(), problems: loaded.problems.clone() };
    report.render(true);
    report.to_json();
    show::to_toml(&loaded.root, &[]);
    let environment = crate::plan::Environment {
        variable: Box::new(|_| None),
        host_name: "test".into(),
        secrets: crate::plan::Secrets::Ignored,
        ..crate::plan::Environment::of_process()
    };
    match crate::plan::plan(loaded, &environment) {
        Ok((_, report)) => assert!(!report.is_fatal()),
        Err(report) => assert!(report.render(false).contains("nothing was started")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        survives(&bytes);
    }

    #[test]
    fn no_text_in_the_alphabet_of_toml_makes_it_panic(text in "[a-z\\[\\]{}=\"'.,#\\n 0-9:_/+-]{0,200}") {
        survives(text.as_bytes());
    }

    #[test]
    fn no_damage_to_a_good_config_makes_it_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..24, proptest::collection::vec(any::<u8>(), 0..8)), 1..8)
    ) {
        let mut bytes = switched_on().into_bytes();
        for (index, length, insert) in edits {
            let at = index.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, insert);
        }
        survives(&bytes);
    }

    /// Values swapped between keys: every key meets values of every other's type.
    #[test]
    fn no_value_at_another_key_makes_it_panic(from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let text = switched_on();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let settings: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].contains(" = ") && !lines[*i].starts_with('#')).collect();
        let (from, to) = (settings[from.index(settings.len())], settings[to.index(settings.len())]);
        let value = lines[from].split_once(" = ").unwrap().1.to_owned();
        let key = lines[to].split_once(" = ").unwrap().0.to_owned();
        lines[to] = format!("{key} = {value}");
        survives(lines.join("\n").as_bytes());
    }
}

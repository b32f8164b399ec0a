//! Is a wrong config told as a whole, at its places, before anything is started?
//!
//! Each folder below `tests/cases/config/` holds a config and what `tidegate check` must say of it. `BLESS=1` writes the answers anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tidegate::config::code::Code;

const CONFIG_ERROR: i32 = 78;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/config");
    let mut cases: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// Runs the binary in a case's folder, so that paths are told as they would be to a user there.
fn tidegate(case: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(case).args(arguments).args(["--config", "gateway.toml"]);
    command.env_remove("CREDENTIALS_DIRECTORY").env_remove("STATE_DIRECTORY").env_remove("TIDEGATE_TEST_UNSET");
    command.output().unwrap()
}

#[test]
fn every_wrong_config_is_told_word_for_word_with_exit_code_78() {
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        // A secret for the cases that need one which can be read, and by its owner alone.
        for key in fs::read_dir(&case)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "key"))
        {
            fs::set_permissions(key, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let output = tidegate(&case, &["check"]);
        let told = String::from_utf8(output.stderr).unwrap();
        if std::env::var_os("BLESS").is_some() {
            fs::write(case.join("error.txt"), &told).unwrap();
        }
        let expected = fs::read_to_string(case.join("error.txt")).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{name}: told\n{told}\ninstead of\n{expected}"));
        }
        if output.status.code() != Some(CONFIG_ERROR) {
            wrong.push(format!("{name}: ended with {}", output.status));
        }
        if !output.stdout.is_empty() {
            wrong.push(format!("{name}: said to standard output: {}", String::from_utf8_lossy(&output.stdout)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn no_answer_repeats_a_secret() {
    for case in cases() {
        let told = String::from_utf8(tidegate(&case, &["check"]).stderr).unwrap();
        assert!(!told.contains("horse") && !told.contains("battery"), "{}: {told}", case.display());
    }
}

#[test]
fn every_kind_of_error_has_a_case() {
    let told: String =
        cases().iter().map(|case| fs::read_to_string(case.join("error.txt")).unwrap_or_default()).collect();
    // A missing file has a test below, and what is too large is made by the unit tests. Numbers from G060 are warnings.
    let without =
        Code::ALL.iter().map(|code| code.number()).filter(|code| *code < "G060" && !["G001", "G004"].contains(code));
    let missing: Vec<_> = without.filter(|code| !told.contains(&format!("error[{code}]"))).collect();
    assert!(missing.is_empty(), "no case tells {missing:?}");
}

#[test]
fn run_refuses_a_wrong_config_as_check_does_and_starts_nothing() {
    let state = tempfile::tempdir().unwrap();
    let case = tempfile::tempdir().unwrap();
    let config = format!(
        "[gateway]\nstate_dir = \"{}\"\n[broker]\nlisten = \"127.0.0.1:0\"\nlisen = 1\n",
        state.path().display()
    );
    fs::write(case.path().join("gateway.toml"), config).unwrap();
    let output = tidegate(case.path(), &["run"]);
    assert_eq!(output.status.code(), Some(CONFIG_ERROR));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("gateway.toml:5:1") && told.contains("did you mean `listen`?"), "{told}");
    assert!(told.ends_with("1 error; nothing was started\n"), "{told}");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "the state directory was touched");
}

#[test]
fn a_program_gets_the_same_mistakes_as_json() {
    let case = cases().into_iter().find(|case| case.ends_with("two-mistakes-together")).unwrap();
    let output = tidegate(&case, &["check", "--json"]);
    assert_eq!(output.status.code(), Some(CONFIG_ERROR));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let places: Vec<_> = answer["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            (
                d["code"].as_str().unwrap(),
                d["file"].as_str().unwrap(),
                d["line"].as_u64().unwrap(),
                d["column"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(places, [("G010", "gateway.toml", 3, 1), ("G021", "gateway.toml", 8, 7)]);
    assert_eq!(answer["ok"], false);
}

#[test]
fn warnings_are_told_and_stop_nothing() {
    let case = tempfile::tempdir().unwrap();
    fs::write(case.path().join("cloud.password"), "correct horse\n").unwrap();
    fs::set_permissions(case.path().join("cloud.password"), PermissionsExt::from_mode(0o644)).unwrap();
    let config = "[gateway]\nid = \"shed\"\n[bus.spare]\ndevice = \"/dev/ttyUSB7\"\n[[bridge]]\nid = \"cloud\"\n\
                  url = \"mqtt://broker.example.com\"\nusername = \"me\"\npassword = \"file:cloud.password\"\n";
    fs::write(case.path().join("gateway.toml"), config).unwrap();
    let output = tidegate(case.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "gateway.toml: ok; gateway `shed`, 1 bus, 0 sensors, 1 bridge\n"
    );
    let told = String::from_utf8(output.stderr).unwrap();
    let codes: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("warning[")?.get(..4)).collect();
    assert_eq!(codes, ["G062", "G063", "G061", "G060"], "{told}");
    assert!(told.ends_with("4 warnings\n"), "{told}");
}

#[test]
fn a_config_that_is_not_there_is_an_error_of_the_config() {
    let case = tempfile::tempdir().unwrap();
    let output = tidegate(case.path(), &["check"]);
    assert_eq!(output.status.code(), Some(CONFIG_ERROR));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        told,
        "error[G001]: `gateway.toml` cannot be read: No such file or directory (os error 2)\n\n1 error; nothing was started\n"
    );
}

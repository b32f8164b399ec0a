//! Is every config that we show one that works, and does every generated page say what the program does?
//!
//! `BLESS=1` writes the generated pages anew.

use std::path::{Path, PathBuf};

use tidegate::cli::config::reference_page;
use tidegate::config::code::Code;
use tidegate::config::decode::{Block, Presence, Shape};
use tidegate::config::{self, File, Loaded};
use tidegate::plan::{self, Environment, Plan, Secrets};

use crate::source::{files_below, read, root};

/// A machine that has none of the secrets.
pub(crate) fn environment() -> Environment {
    Environment {
        variable: Box::new(|_| None),
        host_name: "example".into(),
        secrets: Secrets::Ignored,
        ..Environment::of_process()
    }
}

/// The plan of a config that must be without errors and without warnings.
pub(crate) fn plan_of(what: &str, loaded: Loaded) -> Result<Plan, String> {
    match plan::plan(loaded, &environment()) {
        Ok((plan, report)) if report.render(false).is_empty() => Ok(plan),
        Ok((_, report)) | Err(report) => Err(format!("{what}:\n{}", report.render(false))),
    }
}

fn assert_all(outcomes: impl IntoIterator<Item = Result<Plan, String>>) {
    let wrong: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_works_without_a_warning() {
    let examples = files_below("config/examples");
    let whole = examples.iter().filter(|path| path.parent() == Some(Path::new("config/examples")));
    assert_all(whole.map(|path| plan_of(&path.display().to_string(), config::load(&root().join(path)))));
    let included = examples.iter().filter(|path| path.parent() != Some(Path::new("config/examples")));
    let workshop = plan_of("workshop.toml", config::load(&root().join("config/examples/workshop.toml"))).unwrap();
    assert_eq!(workshop.buses.len(), included.count(), "each included file declares one bus");
}

#[test]
fn every_case_that_expects_no_error_has_a_config_that_works() {
    let cases: Vec<PathBuf> = if root().join("tests/cases").is_dir() { files_below("tests/cases") } else { Vec::new() };
    let configs = cases.iter().filter(|path| {
        path.file_name().is_some_and(|name| name == "gateway.toml")
            && !root().join(path).with_file_name("error.txt").exists()
    });
    let outcomes = configs.map(|path| match plan::plan(config::load(&root().join(path)), &environment()) {
        Ok((plan, _)) => Ok(plan),
        Err(report) => Err(report.render(false)),
    });
    assert_all(outcomes);
}

/// The blocks of TOML in a page, with the line each starts at.
fn toml_blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in page.lines().enumerate() {
        match (&mut open, line.trim()) {
            (None, "```toml") => open = Some((index + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn every_config_in_a_page_works() {
    let mut pages = files_below("docs");
    pages.push("README.md".into());
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    let mut outcomes = Vec::new();
    for page in pages {
        let mut above = String::new();
        for (line, block) in toml_blocks(&read(&page)) {
            let place = root().join(&page);
            let alone = config::load_text(&place, &block);
            // A block may build on those above it in its page: then it is read with them.
            let joined = format!("{above}{block}");
            let works = plan::plan(alone, &environment()).is_ok()
                || plan::plan(config::load_text(&place, &joined), &environment()).is_ok();
            if !works {
                let report = plan::plan(config::load_text(&place, &block), &environment()).err().unwrap_or_default();
                outcomes.push(Err(format!("{}:{line}:\n{}", page.display(), report.render(false))));
            }
            above = joined;
        }
    }
    assert_all(outcomes);
}

/// The reference config with all settings switched on that one engine of the broker has.
fn reference_for(engine: &str) -> String {
    let mut document: toml::Table = toml::from_str(&reference_switched_on()).unwrap();
    let broker = document["broker"].as_table_mut().unwrap();
    broker.insert("engine".into(), engine.into());
    broker.retain(|key, _| match engine {
        "external" => ["engine", "external", "max_packet"].contains(&key),
        _ => key != "external",
    });
    toml::to_string(&document).unwrap()
}

/// The reference config with its settings switched on: `#key = value` becomes `key = value`, prose stays a comment.
fn reference_switched_on() -> String {
    let lines = read("config/tidegate.toml");
    let lines = lines.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_config_works_as_shipped_and_with_every_setting_switched_on() {
    let path = root().join("config/tidegate.toml");
    let shipped = plan_of("as shipped", config::load_text(&path, &read("config/tidegate.toml"))).unwrap();
    let empty = plan_of("empty", config::load_text(&path, "")).unwrap();
    assert_eq!(shipped, empty, "what is not commented out must change nothing");
    for engine in ["embedded", "external"] {
        plan_of(&format!("switched on, {engine}"), config::load_text(&path, &reference_for(engine))).unwrap();
    }
}

#[test]
fn the_reference_config_shows_every_key_and_each_default_as_it_is() {
    let text = reference_switched_on();
    let document: toml::Table = toml::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    compare(&File::BLOCK, &document, "", &mut wrong);
    assert!(wrong.is_empty(), "config/tidegate.toml:\n{}", wrong.join("\n"));
}

fn compare(block: &Block, table: &toml::Table, path: &str, wrong: &mut Vec<String>) {
    for key in block.keys {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        let Some(value) = table.get(key.name) else {
            wrong.push(format!("`{path}` is not shown"));
            continue;
        };
        let inner = match ((key.shape)(), value) {
            (Shape::Block(inner), toml::Value::Table(table)) => Some((inner, table.clone())),
            (Shape::Named(inner), toml::Value::Table(tables)) => Some((inner, together(tables.values()))),
            (Shape::List(shape), toml::Value::Array(items)) => match *shape {
                Shape::Block(inner) => Some((inner, together(items))),
                _ => None,
            },
            _ => None,
        };
        if let Some((inner, table)) = inner {
            compare(inner, &table, &path, wrong);
        } else if let Presence::Default(default) = key.presence
            && default != "[]"
        {
            let default: toml::Table = toml::from_str(&format!("value = {default}")).unwrap();
            if default["value"] != *value {
                wrong.push(format!("`{path}` is shown as {value}; its default is {}", default["value"]));
            }
        }
    }
}

/// What several blocks of a kind show together: not every key has its place in each. Of two that show a key, the first counts.
fn together<'t>(blocks: impl IntoIterator<Item = &'t toml::Value>) -> toml::Table {
    let mut all = toml::Table::new();
    for (key, value) in blocks.into_iter().filter_map(toml::Value::as_table).flatten() {
        all.entry(key.clone()).or_insert_with(|| value.clone());
    }
    all
}

/// Compares a generated page with what is in the tree, or writes it.
pub(crate) fn assert_generated(path: &str, page: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(root().join(path), page).unwrap();
    }
    let there = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    assert!(there == page, "{path} is not what the program says: BLESS=1 cargo test --test house writes it anew");
}

#[test]
fn the_config_reference_is_what_the_program_knows() {
    assert_generated("docs/config.md", &reference_page());
}

#[test]
fn the_list_of_errors_is_what_the_program_tells() {
    assert_generated("docs/errors.md", &Code::page());
}

#[test]
fn the_list_of_metrics_is_what_the_program_tells() {
    const BEGIN: &str = "<!-- metrics: written by BLESS=1 cargo test --test house -->\n";
    const END: &str = "<!-- end of metrics -->";

    let page = read("docs/http.md");
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    assert_generated("docs/http.md", &format!("{before}{BEGIN}\n{}\n{END}{after}", tidegate::http::metrics::table()));
}

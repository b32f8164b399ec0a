//! Does a driver's page say what the driver says of itself? The parts between `begin` and `end` are made of its schema.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tidegate::bus::simulated::{self, Simulated};
use tidegate::drivers::registry::DRIVERS;

/// The page with the part between two marks replaced.
fn replaced(page: &str, mark: &str, part: &str) -> String {
    let (begin, end) = (format!("<!-- begin {mark} -->\n"), format!("<!-- end {mark} -->"));
    let (head, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("the page has no `{begin}`"));
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("the page has no `{end}`"));
    format!("{head}{begin}{part}{end}{tail}")
}

/// Rows for the keys of an object of the schema, those of tables inside it after them. What several keys lead to is told once.
fn keys(schema: &Value, object: &Value, prefix: &str, told: &mut Vec<String>, out: &mut String) {
    let required: Vec<&str> = object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut inner = Vec::new();
    for (name, key) in object["properties"].as_object().unwrap() {
        let text = key["description"].as_str().unwrap().replace('\n', " ").replace('|', "\\|");
        let needed = if required.contains(&name.as_str()) { " *Required.*" } else { "" };
        let _ = writeln!(out, "| `{prefix}{name}` | {text}{needed} |");
        let ways = [
            (&key["$ref"], ""),
            (&key["anyOf"][0]["$ref"], ""),
            (&key["items"]["$ref"], "[]"),
            (&key["additionalProperties"]["$ref"], ".NAME"),
        ];
        let definition =
            ways.iter().find_map(|(reference, way)| Some((reference.as_str()?.strip_prefix("#/$defs/")?, way)));
        if let Some((definition, way)) = definition
            && !told.iter().any(|known| known == definition)
        {
            told.push(definition.to_owned());
            inner.push((format!("{prefix}{name}{way}."), &schema["$defs"][definition]));
        }
    }
    for (prefix, object) in inner {
        keys(schema, object, &prefix, told, out);
    }
}

#[test]
fn every_driver_has_a_page_that_says_what_it_says_of_itself() {
    for driver in DRIVERS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/drivers/{}.md", driver.name));
        let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let schema = serde_json::to_value((driver.schema)()).unwrap();
        let mut table = String::from("| key | meaning |\n|---|---|\n");
        keys(&schema, &schema, "", &mut Vec::new(), &mut table);
        let mut made = replaced(&page, "keys", &table);
        if page.contains("<!-- begin simulated -->") {
            let mut ports = String::from("| name | what it plays | its first line |\n|---|---|---|\n");
            for (name, what) in simulated::NAMES {
                let line = Simulated::new(name).unwrap().next_line();
                let _ = writeln!(ports, "| `sim:{name}` | {what} | `{}` |", line.trim_end());
            }
            made = replaced(&made, "simulated", &ports);
        }
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &made).unwrap();
        } else {
            let advice = "BLESS=1 cargo test --test cases writes it anew";
            assert!(page == made, "{} is not what the driver says: {advice}", path.display());
        }
    }
}

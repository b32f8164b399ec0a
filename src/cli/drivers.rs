//! `tidegate drivers`: what can be read, from what the drivers say of themselves.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::config::diagnostic::nearest;
use crate::drivers::registry::{DRIVERS, find};
use crate::drivers::{BusKind, DriverSpec};
use crate::exit;

pub(super) fn run(name: Option<&str>, as_json: bool) -> ExitCode {
    let Some(name) = name else {
        if as_json {
            let all: Vec<Value> = DRIVERS.iter().map(to_json).collect();
            return super::print(&format!("{:#}\n", Value::from(all)));
        }
        return super::print(&table());
    };
    let Some(spec) = find(name) else {
        let near = nearest(name, DRIVERS.iter().map(|spec| spec.name));
        let hint =
            near.map_or_else(|| "`tidegate drivers` lists them".into(), |near| format!("did you mean `{near}`?"));
        eprintln!("error: no driver named `{name}`; {hint}");
        return exit::code(exit::USAGE);
    };
    if as_json { super::print(&format!("{:#}\n", to_json(spec))) } else { super::print(&page(spec)) }
}

/// What a driver hangs on, as the config says it.
fn hangs_on(kind: BusKind) -> &'static str {
    kind.word()
}

fn table() -> String {
    let width = DRIVERS.iter().map(|spec| spec.name.len()).max().unwrap_or(0);
    let on = DRIVERS.iter().map(|spec| hangs_on(spec.bus()).chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for spec in DRIVERS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:width$}  {:on$}  {}", spec.name, hangs_on(spec.bus()), spec.summary);
    }
    text
}

fn page(spec: &DriverSpec) -> String {
    let mut text = format!("{}: {}\nHangs on: {}\n", spec.name, spec.summary, hangs_on(spec.bus()));
    if !spec.channels.is_empty() {
        text.push_str("\nValues:\n");
        for channel in spec.channels {
            let (min, max) = channel.range;
            let _ = writeln!(text, "  {}: {min} to {max} {}", channel.name, channel.unit);
        }
    }
    text.push_str("\nKeys of its own:\n");
    for (name, key) in keys(spec) {
        let _ = writeln!(text, "  {name}: {key}");
    }
    let _ = write!(text, "\nFor example:\n{}", example(spec));
    text
}

/// The driver's own keys, with what each means.
fn keys(spec: &DriverSpec) -> Vec<(String, String)> {
    let schema = (spec.schema)().to_value();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    properties
        .iter()
        .map(|(name, key)| {
            let meaning = key["description"].as_str().unwrap_or_default().replace('\n', " ");
            let needed = if required.contains(&name.as_str()) { " Required." } else { "" };
            (name.clone(), format!("{meaning}{needed}"))
        })
        .collect()
}

/// A whole block to paste.
fn example(spec: &DriverSpec) -> String {
    let bus = match spec.bus() {
        BusKind::Serial => "bus = \"usb\"\n",
        BusKind::I2c => "bus = \"i2c-1\"\n",
        BusKind::Files | BusKind::Line => "",
    };
    format!("[[sensor]]\nid = \"my-{}\"\ndriver = \"{}\"\n{bus}{}", spec.name, spec.name, spec.example)
}

fn to_json(spec: &DriverSpec) -> Value {
    let channel = |channel: &crate::drivers::Channel| json!({ "name": channel.name, "unit": channel.unit, "min": channel.range.0, "max": channel.range.1 });
    json!({
        "name": spec.name,
        "summary": spec.summary,
        "bus": hangs_on(spec.bus()),
        "values": spec.channels.iter().map(channel).collect::<Vec<_>>(),
        "keys": keys(spec).into_iter().map(|(name, meaning)| json!({ "name": name, "meaning": meaning })).collect::<Vec<_>>(),
        "example": example(spec),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_tells_its_keys_and_an_example() {
        for spec in DRIVERS {
            let page = page(spec);
            assert!(page.contains(spec.example.trim()), "{page}");
            for (key, meaning) in keys(spec) {
                assert!(!meaning.is_empty(), "{}: `{key}` has no meaning", spec.name);
            }
        }
        assert_eq!(table().lines().count(), DRIVERS.len());
    }
}

//! `tidegate drivers`: what can be read and moved, from what the drivers say of themselves.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::actuators::registry::ACTUATORS;
use crate::config::diagnostic::nearest;
use crate::drivers::registry::DRIVERS;
use crate::drivers::{BusKind, Channel};
use crate::exit;

/// A driver of a sensor, or of an actuator.
struct Driver {
    name: &'static str,
    summary: &'static str,
    /// `sensor` or `actuator`.
    of: &'static str,
    /// What it hangs on, for people; an actuator's keys tell that.
    on: Option<BusKind>,
    channels: &'static [Channel],
    schema: Value,
    /// A block to paste, with its own keys.
    example: String,
}

/// All of them: those of sensors, then those of actuators.
fn all() -> Vec<Driver> {
    let sensors = DRIVERS.iter().map(|spec| {
        let bus = match spec.bus() {
            BusKind::Serial => "bus = \"usb\"\n",
            BusKind::I2c => "bus = \"i2c-1\"\n",
            BusKind::Files | BusKind::Line => "",
        };
        Driver {
            name: spec.name,
            summary: spec.summary,
            of: "sensor",
            on: Some(spec.bus()),
            channels: spec.channels,
            schema: (spec.schema)().to_value(),
            example: block("sensor", spec.name, &format!("{bus}{}", spec.example)),
        }
    });
    let actuators = ACTUATORS.iter().map(|spec| Driver {
        name: spec.name,
        summary: spec.summary,
        of: "actuator",
        on: None,
        channels: &[],
        schema: (spec.schema)().to_value(),
        example: block("actuator", spec.name, spec.example),
    });
    sensors.chain(actuators).collect()
}

fn block(of: &str, driver: &str, keys: &str) -> String {
    format!("[[{of}]]\nid = \"my-{driver}\"\ndriver = \"{driver}\"\n{keys}")
}

pub(super) fn run(name: Option<&str>, as_json: bool) -> ExitCode {
    let drivers = all();
    let Some(name) = name else {
        if as_json {
            let all: Vec<Value> = drivers.iter().map(to_json).collect();
            return super::print(&format!("{:#}\n", Value::from(all)));
        }
        return super::print(&table(&drivers));
    };
    let Some(driver) = drivers.iter().find(|driver| driver.name == name) else {
        let near = nearest(name, drivers.iter().map(|driver| driver.name));
        let hint =
            near.map_or_else(|| "`tidegate drivers` lists them".into(), |near| format!("did you mean `{near}`?"));
        eprintln!("error: no driver named `{name}`; {hint}");
        return exit::code(exit::USAGE);
    };
    if as_json { super::print(&format!("{:#}\n", to_json(driver))) } else { super::print(&page(driver)) }
}

/// What a driver hangs on, or that it moves something.
fn kind(driver: &Driver) -> &'static str {
    driver.on.map_or("actuator", BusKind::word)
}

fn table(drivers: &[Driver]) -> String {
    let width = drivers.iter().map(|driver| driver.name.len()).max().unwrap_or(0);
    let on = drivers.iter().map(|driver| kind(driver).chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for driver in drivers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:width$}  {:on$}  {}", driver.name, kind(driver), driver.summary);
    }
    text
}

fn page(driver: &Driver) -> String {
    let mut text = format!("{}: {}\n", driver.name, driver.summary);
    if let Some(on) = driver.on {
        let _ = writeln!(text, "Hangs on: {}", on.word());
    }
    if !driver.channels.is_empty() {
        text.push_str("\nValues:\n");
        for channel in driver.channels {
            let (min, max) = channel.range;
            let _ = writeln!(text, "  {}: {min} to {max} {}", channel.name, channel.unit);
        }
    }
    text.push_str("\nKeys of its own:\n");
    for (name, key) in keys(driver) {
        let _ = writeln!(text, "  {name}: {key}");
    }
    let _ = write!(text, "\nFor example:\n{}", driver.example);
    text
}

/// The driver's own keys, with what each means.
fn keys(driver: &Driver) -> Vec<(String, String)> {
    let schema = &driver.schema;
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

fn to_json(driver: &Driver) -> Value {
    let channel = |channel: &Channel| json!({ "name": channel.name, "unit": channel.unit, "min": channel.range.0, "max": channel.range.1 });
    json!({
        "name": driver.name,
        "summary": driver.summary,
        "of": driver.of,
        "bus": driver.on.map(BusKind::word),
        "values": driver.channels.iter().map(channel).collect::<Vec<_>>(),
        "keys": keys(driver).into_iter().map(|(name, meaning)| json!({ "name": name, "meaning": meaning })).collect::<Vec<_>>(),
        "example": driver.example,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_tells_its_keys_and_an_example() {
        let drivers = all();
        for driver in &drivers {
            let page = page(driver);
            assert!(page.ends_with(&driver.example), "{page}");
            for (key, meaning) in keys(driver) {
                assert!(!meaning.is_empty(), "{}: `{key}` has no meaning", driver.name);
            }
        }
        assert_eq!(table(&drivers).lines().count(), DRIVERS.len() + ACTUATORS.len());
    }
}

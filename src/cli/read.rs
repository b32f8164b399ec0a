//! `tidegate read`: one sensor, once, as it would be published, without the rest of the gateway.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use crate::clock::SystemClock;
use crate::exit;
use crate::health::Health;
use crate::limits::READ_LOOK;
use crate::model::{Message, Value};
use crate::plan::{self, Environment, Plan, Secrets};
use crate::ports::Publish;
use crate::sensing::{Sensing, SensorView};
use crate::telemetry::{LogSettings, log};

/// Nobody listens: what a sensor says is looked at where it was made.
struct Nobody;

impl Publish for Nobody {
    fn publish(&self, _message: Message) {}
}

pub(super) fn run(config: &std::path::Path, sensor: &str, wait: Duration, as_json: bool) -> ExitCode {
    // Reading a sensor hangs on no secret.
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    let plan = match plan::read(config, &environment) {
        Ok((plan, _)) => plan,
        Err(report) => {
            super::tell(&report);
            return exit::code(exit::CONFIG);
        }
    };
    if !plan.sensors.iter().any(|plan| plan.id.as_str() == sensor) {
        let known: Vec<&str> = plan.sensors.iter().map(|plan| plan.id.as_str()).collect();
        eprintln!("error: no sensor named `{sensor}`; there are: {}", known.join(", "));
        return exit::code(exit::USAGE);
    }
    // Why a sensor does not answer is said by the log, on standard error.
    let _ = log::init(&LogSettings { level: "warn".into(), ..LogSettings::default() });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return exit::code(exit::UNAVAILABLE);
        }
    };
    let view = runtime.block_on(one(&plan, sensor, wait));
    runtime.shutdown_background();
    match view {
        Some(view) if as_json => super::print(&format!("{:#}\n", to_json(&view))),
        Some(view) => super::print(&text(&view)),
        None => {
            eprintln!("error: sensor `{sensor}` gave no reading");
            exit::code(exit::UNAVAILABLE)
        }
    }
}

/// What the sensor says first; `None` when it says nothing in time, or is found not to be there.
async fn one(plan: &Plan, sensor: &str, wait: Duration) -> Option<SensorView> {
    let sensors: Vec<_> = plan.sensors.iter().filter(|plan| plan.id.as_str() == sensor).cloned().collect();
    let clock = SystemClock::shared();
    let end = clock.now() + wait;
    let sensing = Sensing::start(&plan.buses, &sensors, Arc::new(Nobody), Arc::clone(&clock), &Health::new());
    let view = loop {
        let view = sensing.views().into_iter().next();
        match view {
            Some(view) if view.at.is_some() => break Some(view),
            Some(view) if view.online == Some(false) => break None,
            _ if clock.now() >= end => break None,
            _ => tokio::time::sleep(READ_LOOK).await,
        }
    };
    sensing.stop(READ_LOOK).await;
    view
}

fn unit<'v>(view: &'v SensorView, name: &str) -> Option<&'v str> {
    view.units.iter().find(|(value, _)| **value == *name).map(|(_, unit)| &**unit)
}

fn text(view: &SensorView) -> String {
    let width = view.values.iter().map(|sample| sample.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for sample in &view.values {
        let unit = unit(view, &sample.name).map_or_else(String::new, |unit| format!(" {unit}"));
        let value = match &sample.value {
            Value::Integer(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => super::table::plain(text),
            Value::Flag(flag) => flag.to_string(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:width$}  {value}{unit}", super::table::plain(&sample.name));
    }
    if let Some(word) = view.quality.word() {
        let _ = writeln!(text, "quality: {word}");
    }
    text
}

fn to_json(view: &SensorView) -> Json {
    let values: Map<String, Json> = view
        .values
        .iter()
        .map(|sample| {
            let value = match &sample.value {
                Value::Integer(number) => Json::from(*number),
                Value::Number(number) => Json::from(*number),
                Value::Text(text) => Json::from(&**text),
                Value::Flag(flag) => Json::from(*flag),
            };
            let unit = unit(view, &sample.name);
            (sample.name.to_string(), json!({ "value": value, "unit": unit }))
        })
        .collect();
    json!({ "sensor": view.id.as_str(), "values": values, "quality": view.quality.word().unwrap_or("good") })
}

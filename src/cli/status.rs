//! `tidegate status` and `set`: what the running gateway says, for a person or as JSON.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::ConfigFile;
use super::control::{self, Daemon};
use super::table::{Table, span};
use crate::exit;
use crate::model::overview::{Answered, BridgeOverview, Overview, SensorOverview};

/// `tidegate status`.
pub(super) fn status(file: &ConfigFile, json: bool) -> ExitCode {
    let plan = control::plan_of(&file.path);
    let overview = Daemon::find(plan.as_ref()).and_then(|daemon| daemon.get::<Value>("/api/overview"));
    match overview {
        Err(error) => error.tell(),
        Ok(overview) if json => super::print(&format!("{overview:#}\n")),
        Ok(overview) => match serde_json::from_value(overview) {
            Ok(overview) => super::print(&page(&overview)),
            Err(error) => {
                eprintln!("error: the gateway speaks of what this program does not know: {error}");
                exit::code(exit::UNAVAILABLE)
            }
        },
    }
}

/// `tidegate set`.
pub(super) fn set(file: &ConfigFile, actuator: &str, value: &str, json: bool) -> ExitCode {
    if crate::model::ActuatorId::parse(actuator).is_err() {
        eprintln!("error: `{}` is no actuator's id", actuator.escape_debug());
        return exit::code(exit::USAGE);
    }
    // An object is a command with an id and the like; anything else is the value itself.
    let body = match serde_json::from_str(value) {
        Ok(object @ Value::Object(_)) => object,
        _ => Value::from(value),
    };
    let plan = control::plan_of(&file.path);
    let answered = Daemon::find(plan.as_ref())
        .and_then(|daemon| daemon.post::<Answered>(&format!("/api/actuators/{actuator}/set"), &body));
    let answered = match answered {
        Ok(answered) => answered,
        Err(error) => return error.tell(),
    };
    let printed = if json {
        super::print(&format!("{}\n", serde_json::json!(answered)))
    } else {
        let reason = answered.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        super::print(&format!("{actuator}: {}{reason}\n", answered.result))
    };
    if answered.result == "done" { printed } else { exit::code(exit::FAILED) }
}

fn page(overview: &Overview) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut text, overview);
    text
}

fn write_page(text: &mut String, overview: &Overview) -> std::fmt::Result {
    let Overview { gateway, version, broker, .. } = overview;
    let clock = if overview.synced { "" } else { "; the clock is not set" };
    writeln!(text, "{gateway}: tidegate {version}, up {}{clock}", ms(overview.uptime_ms))?;
    match &broker.external {
        None => writeln!(text, "local broker: {}, {} clients", broker.listen.join(", "), broker.clients)?,
        Some(external) => {
            let since = ms(u64::try_from(overview.now_ms - external.since_ms).unwrap_or(0));
            let reason = external.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            let (url, state, waiting) = (&external.url, &external.state, external.waiting);
            writeln!(text, "local broker: {url}, {state} for {since}{reason}; {waiting} waiting")?;
        }
    }
    for bridge in &overview.bridges {
        let BridgeOverview { id, state, queued, delivered, .. } = bridge;
        let at_least = if bridge.counting { "at least " } else { "" };
        let dead = if bridge.dead > 0 { format!(", {} dead", bridge.dead) } else { String::new() };
        let since = ms(u64::try_from(overview.now_ms - bridge.since_ms).unwrap_or(0));
        let reason = bridge.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let drain = bridge.drain_ms.map_or_else(String::new, |drain| format!(", empty in {}", ms(drain)));
        let store = match bridge.store.as_str() {
            "" | "ok" => String::new(),
            store => format!(", store {store}"),
        };
        writeln!(
            text,
            "bridge {id}: {state} for {since}{reason}; {at_least}{queued} waiting{drain}, {delivered} delivered{dead}{store}"
        )?;
    }
    for table in [sensors(overview), actuators(overview)] {
        if !table.is_empty() {
            write!(text, "\n{table}")?;
        }
    }
    Ok(())
}

fn sensors(overview: &Overview) -> Table {
    let mut table = Table::new(&["sensor", "bus", "value", "reading", "quality", "age"]);
    for (bus, sensor) in overview.buses.iter().flat_map(|bus| bus.sensors.iter().map(move |sensor| (bus, sensor))) {
        let age = sensor.age_ms.map_or_else(|| "-".into(), ms);
        let row = |name: &str, reading: String| {
            [sensor.id.clone(), bus.id.clone(), name.to_owned(), reading, quality(sensor), age.clone()]
        };
        if sensor.values.is_empty() {
            table.row(row("-", "-".into()));
        }
        for value in &sensor.values {
            let unit = value.unit.as_ref().map_or_else(String::new, |unit| format!(" {unit}"));
            table.row(row(&value.name, format!("{}{unit}", value.value)));
        }
    }
    table
}

fn actuators(overview: &Overview) -> Table {
    let mut table = Table::new(&["actuator", "at", "state", "last answer"]);
    for actuator in &overview.actuators {
        let last = match &actuator.last {
            None => "-".to_owned(),
            Some(Answered { result, reason: None, .. }) => result.clone(),
            Some(Answered { result, reason: Some(reason), .. }) => format!("{result}: {reason}"),
        };
        let state = match (&actuator.value, actuator.online) {
            (_, Some(false)) => "does not answer".to_owned(),
            (Some(value), _) => value.clone(),
            (None, _) => "-".to_owned(),
        };
        table.row([actuator.id.clone(), actuator.at.clone(), state, last]);
    }
    table
}

pub(super) fn ms(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

fn quality(sensor: &SensorOverview) -> String {
    match (sensor.online, sensor.quality.as_str()) {
        (Some(false), "good" | "waiting") => "offline".to_owned(),
        (_, quality) => quality.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::overview::{BusOverview, Shown, ValueOverview};

    #[test]
    fn a_gateway_is_told_in_a_screen_of_lines() {
        let value = |name: &str, value, unit: Option<&str>| ValueOverview {
            name: name.into(),
            value,
            unit: unit.map(Into::into),
        };
        let air = SensorOverview {
            id: "air".into(),
            quality: "good".into(),
            online: Some(true),
            age_ms: Some(800),
            values: vec![value("temperature", Shown::Number(21.8), Some("°C")), value("wet", Shown::Flag(false), None)],
            ..SensorOverview::default()
        };
        let text = page(&Overview {
            gateway: "pump-house".into(),
            version: "1.2.3".into(),
            now_ms: 100_000,
            synced: true,
            uptime_ms: 3_600_000,
            buses: vec![BusOverview { id: "usb".into(), sensors: vec![air], ..BusOverview::default() }],
            bridges: vec![BridgeOverview {
                id: "cloud".into(),
                state: "offline".into(),
                since_ms: 88_000,
                reason: Some("connection reset".into()),
                queued: 241,
                ..BridgeOverview::default()
            }],
            ..Overview::default()
        });
        assert_eq!(
            text,
            "pump-house: tidegate 1.2.3, up 60 min\n\
             local broker: , 0 clients\n\
             bridge cloud: offline for 12 s: connection reset; 241 waiting, 0 delivered\n\
             \n\
             SENSOR  BUS  VALUE        READING  QUALITY  AGE\n\
             air     usb  temperature  21.8 °C  good     0.8 s\n\
             air     usb  wet          off      good     0.8 s\n"
        );
    }
}

//! `tidegate status`, `set` and `outbox status`: what the running gateway says, for a person or as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use super::ConfigFile;
use super::control::{self, Daemon};
use super::table::{Table, span};
use crate::clock::{Clock as _, SystemClock};
use crate::exit;
use crate::model::overview::{Answered, BridgeOverview, Overview, SensorOverview};
use crate::plan::Plan;
use crate::store::Peek;

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

#[derive(Debug, Subcommand)]
pub(super) enum Outbox {
    /// Show what waits for each cloud; from the store files while no gateway is running
    Status {
        #[command(flatten)]
        file: ConfigFile,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

impl Outbox {
    pub(super) fn run(&self) -> ExitCode {
        match self {
            Self::Status { file, json } => outbox(&file.path, *json),
        }
    }
}

fn outbox(config: &Path, json: bool) -> ExitCode {
    let plan = control::plan_of(config);
    let bridges = match (Daemon::find(plan.as_ref()).and_then(|daemon| daemon.get("/api/outbox")), &plan) {
        (Ok(bridges), _) => bridges,
        (Err(control::ControlError::Nobody(_)), Some(plan)) => match peek(plan) {
            Ok(bridges) => bridges,
            Err(code) => return code,
        },
        (Err(error), _) => return error.tell(),
    };
    if json {
        return super::print(&format!("{:#}\n", serde_json::json!(bridges)));
    }
    super::print(&waiting(&bridges))
}

/// What the store files hold while nobody owns them.
fn peek(plan: &Plan) -> Result<Vec<BridgeOverview>, ExitCode> {
    let wall = SystemClock.wall();
    let mut bridges = Vec::new();
    for bridge in &plan.bridges {
        let path = bridge.outbox.dir.join(format!("outbox-{}.db", bridge.id));
        let peek = Peek::at(&path).map_err(|error| {
            eprintln!("error: `{}` cannot be read: {error}", path.display());
            exit::code(exit::IO)
        })?;
        let peek = peek.unwrap_or_default();
        let oldest = peek.oldest.filter(|(_, synced)| *synced == wall.synced);
        bridges.push(BridgeOverview {
            id: bridge.id.to_string(),
            url: bridge.url.to_string(),
            state: "stopped".into(),
            queued: peek.queued,
            bytes: peek.bytes,
            oldest_ms: oldest.map(|(time, _)| u64::try_from(wall.unix_ms - time).unwrap_or(0)),
            ..BridgeOverview::default()
        });
    }
    Ok(bridges)
}

fn waiting(bridges: &[BridgeOverview]) -> String {
    if bridges.is_empty() {
        return "the config declares no bridge\n".into();
    }
    let mut table = Table::new(&["bridge", "state", "waiting", "oldest", "empty in", "delivered", "dropped", "store"]);
    for bridge in bridges {
        let known = |time: Option<u64>| time.map_or_else(|| "-".into(), ms);
        let running = bridge.state != "stopped";
        let since_start = |count: u64| if running { count.to_string() } else { "-".into() };
        table.row([
            bridge.id.clone(),
            bridge.state.clone(),
            bridge.queued.to_string(),
            known(bridge.oldest_ms),
            known(bridge.drain_ms),
            since_start(bridge.delivered),
            since_start(bridge.dropped.iter().map(|dropped| dropped.count).sum()),
            format!("{} KiB", bridge.bytes / 1024),
        ]);
    }
    table.to_string()
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
    writeln!(text, "local broker: {}, {} clients", broker.listen.join(", "), broker.clients)?;
    for bridge in &overview.bridges {
        let BridgeOverview { id, state, queued, delivered, .. } = bridge;
        let since = ms(u64::try_from(overview.now_ms - bridge.since_ms).unwrap_or(0));
        let reason = bridge.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let drain = bridge.drain_ms.map_or_else(String::new, |drain| format!(", empty in {}", ms(drain)));
        writeln!(text, "bridge {id}: {state} for {since}{reason}; {queued} waiting{drain}, {delivered} delivered")?;
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

fn ms(ms: u64) -> String {
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

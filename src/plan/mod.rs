//! The plan: what the config says, resolved against the registries and checked as a whole.
//!
//! No port, socket or database is opened to make one; only secrets and certificates are read, since a gateway that starts
//! without them would fail later and farther from the mistake.

mod actuators;
mod bridges;
mod brokers;
mod buses;
mod clouds;
mod credentials;
pub mod environment;
mod external;
mod hints;
mod lines;
mod options;
mod page;
mod rules;
mod sensors;
mod simulate;
mod topics;
mod validity;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use self::validity::Dated;
use crate::actuators::ActuatorFactory;
use crate::bridge;
use crate::broker;
use crate::bus::BusSettings;
use crate::bus::gpio::{GpioSettings, LineRef};
use crate::config::code::Code;
use crate::config::{self, Loaded, Problems, Report, Sources, Span, file};
use crate::drivers::Factory;
use crate::http;
use crate::logic::command::Rules;
use crate::logic::output::OutputSettings;
use crate::logic::pipeline::SensorSettings;
use crate::logic::route::PublishSettings;
use crate::logic::tell::ActuatorTopics;
use crate::model::{ActuatorId, BusId, GatewayId, SensorId, TopicName};
use crate::telemetry::{LogFormat, LogSettings};
pub use environment::{Environment, Secrets};

/// Where the databases live unless somebody says otherwise: what the unit's `StateDirectory=` makes.
pub const STATE_DIR: &str = "/var/lib/tidegate";

/// Everything the gateway is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Who this gateway is.
    pub gateway: GatewayId,
    /// `tidegate/<gateway>/status`.
    pub status_topic: TopicName,
    /// `tidegate/<gateway>/event`.
    pub event_topic: TopicName,
    /// Where the databases live: `[gateway] state_dir`, else systemd's `$STATE_DIRECTORY`, else `/var/lib/tidegate`.
    pub state_dir: PathBuf,
    /// The log.
    pub log: LogSettings,
    /// The declared buses, and those that sensors share without declaring them.
    pub buses: Vec<BusSettings>,
    /// Sensors.
    pub sensors: Vec<SensorPlan>,
    /// Actuators.
    pub actuators: Vec<ActuatorPlan>,
    /// The gateway's own broker. Its settings are the defaults where `external` is another.
    pub broker: broker::Settings,
    /// The broker that is there already, in place of one of the gateway's own.
    pub external: Option<broker::settings::External>,
    /// The bridges.
    pub bridges: Vec<bridge::Settings>,
    /// The page; `None` where there is to be none.
    pub http: Option<http::Settings>,
    /// The control socket, by which the command line reaches the running gateway.
    pub control_socket: PathBuf,
    /// The certificates it goes by.
    pub certificates: Vec<Dated>,
    /// The GPIO lines of its sensors and actuators.
    pub lines: BTreeSet<LineRef>,
    /// The credentials that systemd is to hand it, by their names.
    pub credentials: BTreeSet<String>,
}

/// One sensor.
#[derive(Clone)]
pub struct SensorPlan {
    /// Who it is.
    pub id: SensorId,
    /// The bus it hangs on.
    pub bus: BusId,
    /// Name of its driver.
    pub driver: &'static str,
    /// How often it is asked, or tells its values when nothing happens; `None` where it speaks by itself.
    pub every: Option<Duration>,
    /// The driver's own keys as canonical text: two equal texts make equal drivers.
    pub options: String,
    /// Makes its driver.
    pub factory: Factory,
    /// What is done to its values.
    pub pipeline: SensorSettings,
    /// How it is published.
    pub publish: PublishSettings,
}

/// Whether a reload may leave the sensor running. The factory follows from driver and options.
impl PartialEq for SensorPlan {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.bus == other.bus
            && self.driver == other.driver
            && self.every == other.every
            && self.options == other.options
            && self.pipeline == other.pipeline
            && self.publish == other.publish
    }
}

impl std::fmt::Debug for SensorPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SensorPlan")
            .field("id", &self.id)
            .field("bus", &self.bus)
            .field("driver", &self.driver)
            .field("every", &self.every)
            .field("options", &self.options)
            .field("pipeline", &self.pipeline)
            .field("publish", &self.publish)
            .finish_non_exhaustive()
    }
}

/// One actuator.
#[derive(Debug, Clone)]
pub struct ActuatorPlan {
    /// Who it is.
    pub id: ActuatorId,
    /// Name of its driver.
    pub driver: &'static str,
    /// The bus it hangs on; `None` for a GPIO line.
    pub bus: Option<BusSettings>,
    /// How lines are spoken to.
    pub gpio: GpioSettings,
    /// The driver's own keys as canonical text: two equal texts make equal devices.
    pub options: String,
    /// Makes its device.
    pub factory: Arc<dyn ActuatorFactory>,
    /// Which commands it takes.
    pub rules: Rules,
    /// How it is kept.
    pub output: OutputSettings,
    /// Where it hears and speaks.
    pub topics: ActuatorTopics,
}

impl ActuatorPlan {
    /// Whether its device is the same, so that a reload need not let go of it.
    pub fn same_device(&self, other: &Self) -> bool {
        self.driver == other.driver
            && self.bus == other.bus
            && self.gpio == other.gpio
            && self.options == other.options
            && self.id == other.id
    }
}

impl Plan {
    /// The serial ports that actuators write to.
    pub fn written_ports(&self) -> Vec<BusId> {
        let ports = self.actuators.iter().filter_map(|actuator| match &actuator.bus {
            Some(BusSettings::Serial(bus)) => Some(bus.id.clone()),
            _ => None,
        });
        ports.collect()
    }
}

/// Whether a reload may leave the actuator as it is. The factory follows from driver and options.
impl PartialEq for ActuatorPlan {
    fn eq(&self, other: &Self) -> bool {
        self.same_device(other)
            && self.rules == other.rules
            && self.output == other.output
            && self.topics == other.topics
    }
}

/// Reads a config file and makes its plan. The report beside a plan holds warnings alone.
///
/// # Errors
/// All mistakes together, when there is an error among them.
pub fn read(path: &Path, environment: &Environment) -> Result<(Plan, Report), Report> {
    plan(config::load(path), environment)
}

/// Makes the plan of a config that was read. The report beside a plan holds warnings alone.
///
/// # Errors
/// All mistakes together, those of the reading included, when there is an error among them.
pub fn plan(loaded: Loaded, environment: &Environment) -> Result<(Plan, Report), Report> {
    let is_readable = loaded.is_readable();
    let Loaded { sources, mut problems, file, .. } = loaded;
    // What stands on a text that cannot be read is not judged: a bus may be missing only because its header is misspelt.
    if !is_readable {
        return Err(Report { sources, problems });
    }
    let plan = Planner::new(&file, &sources, environment, &mut problems).plan();
    let report = Report { sources, problems };
    match plan {
        Some(plan) if !report.is_fatal() => Ok((plan, report)),
        _ => Err(report),
    }
}

/// Levels below `tidegate/<gateway>/` that are the gateway's own.
const RESERVED: [&str; 4] = ["status", "bridge", "event", "health"];

/// Everything the parts of a plan are made from.
struct Planner<'a> {
    file: &'a file::File,
    sources: &'a Sources,
    environment: &'a Environment,
    problems: &'a mut Problems,
    gateway: GatewayId,
    state_dir: PathBuf,
    status_topic: TopicName,
    event_topic: TopicName,
    /// The lines that have a user, and where it says so.
    lines: HashMap<LineRef, Span>,
    /// The certificates that were looked at.
    dated: Vec<Dated>,
    /// The credentials that are named.
    credentials: BTreeSet<String>,
}

impl<'a> Planner<'a> {
    fn new(
        file: &'a file::File,
        sources: &'a Sources,
        environment: &'a Environment,
        problems: &'a mut Problems,
    ) -> Self {
        let written = file.gateway.id.as_ref().map(|id| id.value.0.clone());
        let gateway = GatewayId::parse(&written.unwrap_or_else(|| environment.gateway_id()))
            .expect("the config took it as an id, or it was made of a host name as one");
        let own = |level: &str| {
            TopicName::parse(&format!("tidegate/{gateway}/{level}"))
                .expect("an id holds neither wildcard nor U+0000, and is short")
        };
        let state_dir = match &file.gateway.state_dir {
            Some(path) => sources.directory(path.span).join(&path.value.0),
            None => (environment.variable)("STATE_DIRECTORY").map_or_else(
                || PathBuf::from(STATE_DIR),
                |dirs| {
                    // systemd lists several directories with colons; the first is the unit's own.
                    PathBuf::from(dirs.split(':').next().unwrap_or_default())
                },
            ),
        };
        let (status_topic, event_topic) = (own("status"), own("event"));
        Self {
            file,
            sources,
            environment,
            problems,
            gateway,
            state_dir,
            status_topic,
            event_topic,
            lines: HashMap::new(),
            dated: Vec::new(),
            credentials: BTreeSet::new(),
        }
    }

    fn plan(mut self) -> Option<Plan> {
        let log = self.log();
        let mut buses = self.buses();
        let sensors = self.sensors(&mut buses);
        let actuators = self.actuators(&buses, &sensors);
        let broker = self.broker();
        let bridges = self.bridges(&actuators);
        let external = self.external(&bridges, &actuators);
        let http = self.page();
        let control_socket = self.control_socket();
        if !self.problems.no_error() {
            return None;
        }
        self.hints();
        Some(Plan {
            gateway: self.gateway,
            status_topic: self.status_topic,
            event_topic: self.event_topic,
            state_dir: self.state_dir,
            log,
            buses,
            sensors,
            actuators,
            broker,
            external,
            bridges,
            http,
            control_socket,
            certificates: self.dated,
            lines: self.lines.into_keys().collect(),
            credentials: self.credentials,
        })
    }

    /// No sensor and no actuator publishes where the gateway itself does.
    fn own_topic(&mut self, topic: &TopicName, id: &str, span: Span, what: &str) {
        let own = format!("tidegate/{}/", self.gateway);
        if let Some(level) = topic.as_str().strip_prefix(&own).and_then(|rest| rest.split('/').next())
            && RESERVED.contains(&level)
            && level != id
        {
            self.problems
                .error(Code::ReservedId, span, format!("no {what} can publish to `{topic}`"))
                .label("a topic of the gateway itself");
        }
    }

    fn log(&mut self) -> LogSettings {
        let log = &self.file.log.value;
        if crate::telemetry::log::check_level(&log.level.value.0).is_err() {
            self.problems
                .error(Code::Malformed, log.level.span, format!("`level` is no filter: `{}`", log.level.value.0))
                .label("expected error, warn, info, debug or trace, or by room: info,tidegate::bridge=debug");
        }
        LogSettings {
            level: log.level.value.0.clone(),
            format: match log.format.value {
                file::LogFormat::Auto => LogFormat::Auto,
                file::LogFormat::Text => LogFormat::Text,
                file::LogFormat::Json => LogFormat::Json,
                file::LogFormat::Journald => LogFormat::Journald,
            },
        }
    }
}

#[cfg(test)]
mod tests;

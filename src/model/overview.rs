//! What there is to see of a running gateway: what the page, the metrics and `tidegate status` show, as one snapshot.
//!
//! The same types are read and written: the daemon answers with them as JSON, and the command line takes them from there. Ids are texts here,
//! since they are shown and no longer used.

use serde::{Deserialize, Serialize};

use super::{Ack, ActuatorView, Quality, Sample, Setting, Timestamp, Value};

/// The gateway at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Overview {
    /// Its id.
    pub gateway: String,
    /// Version of the program.
    pub version: String,
    /// The wall clock, milliseconds since the epoch.
    pub now_ms: i64,
    /// Whether the wall clock has been set.
    pub synced: bool,
    /// Time since the gateway started, milliseconds.
    pub uptime_ms: u64,
    /// Sensors by bus, in the order of the config.
    pub buses: Vec<BusOverview>,
    /// Actuators, in the order of the config.
    pub actuators: Vec<ActuatorOverview>,
    /// Ways to the cloud.
    pub bridges: Vec<BridgeOverview>,
    /// The local broker.
    pub broker: BrokerOverview,
    /// Bytes that the process has written to disks; `None` where the kernel does not count them.
    #[serde(default)]
    pub disk_written: Option<u64>,
    /// The demo's stage; `None` when this is no demo.
    pub stage: Option<StageOverview>,
    /// What happened of late, oldest first.
    pub events: Vec<Event>,
}

/// A bus and the sensors on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BusOverview {
    /// Its id; empty for sensors that hang on none.
    pub id: String,
    /// The device, as the config has it.
    pub device: String,
    /// Its sensors.
    pub sensors: Vec<SensorOverview>,
}

/// A sensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SensorOverview {
    /// Its id.
    pub id: String,
    /// Name of its driver.
    pub driver: String,
    /// Values last told, processed.
    pub values: Vec<ValueOverview>,
    /// `good`, `range`, `stale`, `fault`; `waiting` before the first reading.
    pub quality: String,
    /// Whether it answers; `None` before that is known.
    pub online: Option<bool>,
    /// Age of the values, milliseconds.
    pub age_ms: Option<u64>,
    /// Frames or transactions read since its start.
    pub good: u64,
    /// Those that could not be read.
    pub bad: u64,
    /// Those that were somebody else's.
    pub ignored: u64,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueOverview {
    /// Its name within the sensor.
    pub name: String,
    /// The value.
    pub value: Shown,
    /// Unit it is in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
}

/// A value as JSON has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shown {
    /// On or off.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl From<&Value> for Shown {
    fn from(value: &Value) -> Self {
        match value {
            Value::Flag(flag) => Self::Flag(*flag),
            Value::Integer(integer) => Self::Integer(*integer),
            Value::Number(number) => Self::Number(*number),
            Value::Text(text) => Self::Text(text.to_string()),
        }
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(if *flag { "on" } else { "off" }),
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl ValueOverview {
    /// A sample, with the unit it is in.
    pub fn of(sample: &Sample, unit: Option<&str>) -> Self {
        Self { name: sample.name.to_string(), value: (&sample.value).into(), unit: unit.map(str::to_owned) }
    }
}

impl SensorOverview {
    /// The word for a quality; before the first reading there is none.
    pub fn word(quality: Quality, read: bool) -> &'static str {
        match (quality, read) {
            (Quality::Good, false) => "waiting",
            (quality, _) => quality.word().unwrap_or("good"),
        }
    }
}

/// An actuator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActuatorOverview {
    /// Its id.
    pub id: String,
    /// Name of its driver.
    pub driver: String,
    /// The bus it hangs on, or its GPIO line.
    pub at: String,
    /// The words it takes; empty when it takes other values.
    pub words: Vec<String>,
    /// What it was read back as; `None` before it is known.
    pub value: Option<String>,
    /// Since when, milliseconds since the epoch.
    pub since_ms: Option<i64>,
    /// Its safe state, where it has one.
    pub safe: Option<String>,
    /// Whether the device answers; `None` before it is known.
    pub online: Option<bool>,
    /// Its last answer.
    pub last: Option<Answered>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answered {
    /// The command's id, where it had one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// `done`, `refused`, `expired` and the other words of docs/topics.md.
    pub result: String,
    /// Why, where it was not done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// When it was given, milliseconds since the epoch; `None` in the answer itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at_ms: Option<i64>,
}

impl Answered {
    /// An answer, and when it was given.
    pub fn of(ack: &Ack, at: Option<Timestamp>) -> Self {
        Self {
            id: ack.id.as_ref().map(ToString::to_string),
            result: ack.outcome.word().to_owned(),
            reason: ack.reason.as_deref().map(str::to_owned),
            at_ms: at.map(|at| at.unix_ms),
        }
    }
}

impl From<&ActuatorView> for ActuatorOverview {
    fn from(view: &ActuatorView) -> Self {
        let word = |setting: &Setting| setting.word().to_owned();
        Self {
            id: view.id.to_string(),
            driver: view.driver.to_owned(),
            at: view.at.clone(),
            words: view.words.iter().map(ToString::to_string).collect(),
            value: view.value.as_ref().map(word),
            since_ms: view.since.map(|since| since.unix_ms),
            safe: view.safe.as_ref().map(word),
            online: view.online,
            last: view.last_ack.as_ref().map(|(ack, at)| Answered::of(ack, Some(*at))),
        }
    }
}

/// What a store can be, in the words of [`BridgeOverview::store`].
pub const STORE_STATES: [&str; 8] =
    ["ok", "full", "failing", "read-only", "inaccessible", "foreign", "damaged", "salvaging"];

/// A way to the cloud.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BridgeOverview {
    /// Its id.
    pub id: String,
    /// Where the cloud is, without user name and password.
    pub url: String,
    /// `offline`, `connecting`, `online`.
    pub state: String,
    /// Since when, milliseconds since the epoch.
    pub since_ms: i64,
    /// Why it is not online.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Records waiting, in flight included; at least so many while `counting`.
    pub queued: u64,
    /// After a crash a large store is counted bit by bit.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub counting: bool,
    /// Letters that the cloud will never take, kept for a person.
    #[serde(default)]
    pub dead: u64,
    /// Size of the store, bytes.
    pub bytes: u64,
    /// Time since the oldest waiting record was accepted, milliseconds; `None` when none waits.
    pub oldest_ms: Option<u64>,
    /// When the queue will be empty at the pace of the last seconds, milliseconds; `None` when nothing waits or it does not shrink.
    pub drain_ms: Option<u64>,
    /// Records that the cloud acknowledged since start.
    pub delivered: u64,
    /// Messages dropped since start, by cause.
    pub dropped: Vec<DropOverview>,
    /// What its store is fit for; empty when nobody runs it.
    #[serde(default)]
    pub store: String,
    /// Transactions of its store that were committed since start.
    #[serde(default)]
    pub commits: u64,
    /// Times since start that its store could not be written.
    #[serde(default)]
    pub faults: u64,
    /// Damaged files of its store that were set aside since start.
    #[serde(default)]
    pub quarantined: u64,
    /// Records that were brought over from those.
    #[serde(default)]
    pub salvaged: u64,
    /// Times the cloud forgot the session while messages were in flight, since start.
    #[serde(default)]
    pub sessions_lost: u64,
}

/// Drops of one cause.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DropOverview {
    /// The cause, as in the event `dropped`.
    pub cause: String,
    /// How many since start.
    pub count: u64,
}

/// The local broker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BrokerOverview {
    /// Where it listens.
    pub listen: Vec<String>,
    /// Clients that are connected.
    pub clients: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// PUBLISH packets of clients since start.
    pub received: u64,
    /// PUBLISH packets to clients since start.
    pub sent: u64,
    /// Messages dropped for slow clients since start.
    pub dropped: u64,
    /// The broker that is there already, where the gateway runs none of its own; the figures are then those of the gateway as its client.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub external: Option<ExternalOverview>,
}

/// The connection to a broker that is there already.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExternalOverview {
    /// Where it is, without user name and password.
    pub url: String,
    /// `offline`, `connecting`, `online`.
    pub state: String,
    /// Since when, milliseconds since the epoch.
    pub since_ms: i64,
    /// Why it is not online, or what does not work although it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Messages that wait for it.
    pub waiting: u64,
}

/// What the demo shows beside the gateway: a link that can be cut, and what a subscriber at the cloud counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StageOverview {
    /// Whether the link is whole.
    pub link: bool,
    /// Whether the cloud runs.
    pub cloud: bool,
    /// Messages counted at the local broker.
    pub told: u64,
    /// Messages counted at the cloud.
    pub arrived: u64,
    /// Messages that others have overtaken, and that never came.
    pub lost: u64,
    /// QoS 2 messages that came again.
    pub doubled: u64,
    /// QoS 1 messages that came again, as MQTT allows.
    pub repeated: u64,
}

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with each.
    pub number: u64,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// Whether the wall clock had been set.
    pub synced: bool,
    /// Whether it is a trouble; else it is news.
    pub trouble: bool,
    /// Whom it is about: `bridge cloud`, `sensor air`.
    pub subject: String,
    /// What happened.
    pub text: String,
}

/// Whether the gateway lives and serves, with the reasons where it does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HealthReport {
    /// Who answers.
    pub gateway: String,
    /// Whether all is well.
    pub ok: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What is wrong and needs a person, while the gateway does its work all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl HealthReport {
    /// Well when there is no reason why not.
    pub fn of(gateway: &str, reasons: Vec<String>) -> Self {
        Self { gateway: gateway.to_owned(), ok: reasons.is_empty(), reasons, warnings: Vec::new() }
    }

    /// The same with what needs a person.
    #[must_use]
    pub fn warning(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

impl Event {
    /// An event without a number yet.
    pub fn new(at: Timestamp, trouble: bool, subject: String, text: String) -> Self {
        Self { number: 0, at_ms: at.unix_ms, synced: at.synced, trouble, subject, text }
    }
}

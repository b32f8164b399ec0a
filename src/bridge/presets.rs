//! Clouds that are data: what each takes, and what a bridge to it is told to be unless the user says otherwise.
//!
//! A new one is its text in `presets/` and its line here. A number that its maker does not state is left out, not guessed.

use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;

use super::settings::{CloudLimits, VersionChoice};
use crate::model::{Qos, Quota, Rate};

/// One cloud.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// As it is named in the config.
    #[serde(skip)]
    pub name: &'static str,
    /// As its maker names it.
    pub title: String,
    /// A line on what it is or lacks.
    pub summary: String,
    /// When `sources` were read, year-month-day.
    pub checked: String,
    /// Pages and files that the numbers are from.
    pub sources: Vec<String>,
    /// What of it was written from memory or second hand, and not found in the maker's own text, in words.
    #[serde(default)]
    pub unverified: Vec<String>,
    /// What to know beside the numbers, in Markdown.
    pub notes: String,
    /// A bridge to it, in TOML.
    pub example: String,
    /// What it takes.
    pub caps: Caps,
    /// What stands in for keys that the user left out.
    #[serde(default)]
    pub defaults: Defaults,
}

/// What a cloud takes. A missing number: none is stated.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caps {
    /// Versions of MQTT that it speaks.
    pub versions: Vec<Spoken>,
    /// Highest QoS, 0 to 2.
    pub qos: u8,
    /// What it makes of the retain flag.
    pub retain: Retain,
    /// Whether it takes a will.
    #[serde(default = "yes")]
    pub will: bool,
    /// Largest payload, bytes.
    pub max_payload: Option<usize>,
    /// Largest packet, bytes.
    pub max_packet: Option<usize>,
    /// Most levels of a topic.
    pub topic_levels: Option<usize>,
    /// Longest topic, bytes.
    pub topic_bytes: Option<usize>,
    /// Characters that no topic may have.
    #[serde(default)]
    pub forbidden_in_topics: String,
    /// Longest client id, bytes.
    pub client_id_bytes: Option<usize>,
    /// Whether the client id is the device's name, so that there is one connection for it and no second id.
    #[serde(default)]
    pub fixed_client_id: bool,
    /// Most subscriptions of one connection.
    pub subscriptions: Option<usize>,
    /// Most filters of one SUBSCRIBE; more are asked for in several.
    pub subscriptions_per_packet: Option<usize>,
    /// Shortest and longest keep alive, seconds.
    pub keep_alive_s: Option<(u64, u64)>,
    /// Most messages a second of one connection.
    pub messages_per_s: Option<u64>,
    /// Most messages a minute, where its maker counts so.
    pub messages_per_min: Option<u64>,
    /// Most bytes a second of one connection.
    pub bytes_per_s: Option<u64>,
    /// Most messages in flight.
    pub window: Option<u16>,
    /// How long it keeps a session, in words.
    pub session: String,
    /// Whether TLS may be left out.
    #[serde(default)]
    pub tls: Transport,
    /// Whether it has to be asked for by its host name.
    #[serde(default)]
    pub sni: bool,
    /// Ports it listens at with TLS; none are named where that is the owner's choice.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How the names of the maker's own hosts end, where there are brokers of other owners too: TLS, name and ports hold for these hosts alone.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Whether the owner of the broker can have set other numbers and topics: what is beyond these is told, and not refused.
    #[serde(default)]
    pub adjustable: bool,
    /// Ways to prove who one is, the usual one first.
    pub auth: Vec<AuthKind>,
    /// Topics that may be published to, as filters with the holes `{client_id}`, `{device}` and `{product}`; none: any.
    #[serde(default)]
    pub publish: Vec<String>,
    /// Topics that may be subscribed to, likewise.
    #[serde(default)]
    pub subscribe: Vec<String>,
}

/// What stands in for keys that the user left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// `version`
    pub version: Option<Spoken>,
    /// `window`
    pub window: Option<u16>,
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Spoken {
    /// 3.1.1
    #[serde(rename = "3.1.1")]
    V311,
    /// 5.0
    #[serde(rename = "5")]
    V5,
}

impl Spoken {
    /// As in the config.
    pub fn word(self) -> &'static str {
        match self {
            Spoken::V311 => "3.1.1",
            Spoken::V5 => "5",
        }
    }

    /// The choice of it alone.
    pub fn choice(self) -> VersionChoice {
        match self {
            Spoken::V311 => VersionChoice::V311,
            Spoken::V5 => VersionChoice::V5,
        }
    }
}

/// What a cloud makes of the retain flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retain {
    /// It retains.
    Kept,
    /// It takes the message and retains nothing.
    NotKept,
    /// It does not take the message, or is not known to.
    Refused,
    /// Not stated; sent as the rule says.
    Unknown,
}

/// Whether TLS may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// The owner of the broker decides.
    #[default]
    Optional,
    /// Without it there is no connection.
    Required,
}

/// One port.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Protocols of which ALPN has to offer one; the first is offered by itself.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// Whether MQTT is spoken in a WebSocket here.
    #[serde(default)]
    pub websocket: bool,
    /// Path of the WebSocket, where it is not the usual `/mqtt`.
    pub path: Option<String>,
}

/// A way to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthKind {
    /// A user name and a password, or either.
    Password,
    /// A client certificate.
    Certificate,
    /// A shared access signature.
    Sas,
    /// Alibaba's signature.
    Aliyun,
    /// Tencent's signature.
    Tencent,
    /// Huawei's signature.
    Huawei,
}

impl AuthKind {
    /// In the words of the config.
    pub fn word(self) -> &'static str {
        match self {
            AuthKind::Password => "password",
            AuthKind::Certificate => "certificate",
            AuthKind::Sas => "sas",
            AuthKind::Aliyun => "aliyun",
            AuthKind::Tencent => "tencent",
            AuthKind::Huawei => "huawei",
        }
    }
}

impl Caps {
    /// The port, as MQTT by itself or in a WebSocket.
    pub fn port(&self, number: u16, websocket: bool) -> Option<&Port> {
        self.ports.iter().find(|port| port.port == number && port.websocket == websocket)
    }
}

impl Preset {
    /// The fastest pace that it takes; `None` where none is stated.
    pub fn rate(&self) -> Option<Rate> {
        let quota = |count: u64, per_s| Quota { count, per: Duration::from_secs(per_s) };
        let a_minute = self.caps.messages_per_min.map(|count| quota(count, 60));
        let messages = self.caps.messages_per_s.map(|count| quota(count, 1)).or(a_minute);
        let bytes = self.caps.bytes_per_s.map(|count| quota(count, 1));
        (messages.is_some() || bytes.is_some()).then_some(Rate { messages, bytes })
    }

    /// What the engine has to keep to, whatever the config says.
    pub fn limits(&self) -> CloudLimits {
        let none = CloudLimits::default();
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
        CloudLimits {
            max_qos: qos[usize::from(self.caps.qos.min(2))],
            retain: !matches!(self.caps.retain, Retain::NotKept | Retain::Refused),
            max_payload: self.caps.max_payload.unwrap_or(none.max_payload),
            max_packet: self.caps.max_packet.unwrap_or(none.max_packet),
            adjustable: self.caps.adjustable,
            subscriptions_per_packet: self.caps.subscriptions_per_packet.unwrap_or(none.subscriptions_per_packet),
            will: self.caps.will,
            status: none.status,
            fixed_client_id: self.caps.fixed_client_id,
            greet: self.name == "generic",
        }
    }
}

fn yes() -> bool {
    true
}

macro_rules! presets {
    ($($name:literal),+ $(,)?) => {
        /// Each by name, and its text.
        const TEXTS: &[(&str, &str)] = &[$(($name, include_str!(concat!("presets/", $name, ".toml")))),+];
    };
}

presets! {
    "adafruit-io", "aliyun", "aws-iot", "azure-event-grid", "azure-iot-hub", "cumulocity", "emqx", "emqx-serverless", "flespi",
    "generic", "hivemq", "huawei", "mosquitto", "nats", "rabbitmq", "tencent", "thingsboard", "vernemq",
}

/// The name that stands for no cloud in particular.
pub const GENERIC: &str = "generic";

/// All of them, by name.
pub fn all() -> &'static [Preset] {
    static ALL: LazyLock<Vec<Preset>> = LazyLock::new(|| TEXTS.iter().map(|(name, text)| read(name, text)).collect());
    &ALL
}

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name)
}

fn read(name: &'static str, text: &str) -> Preset {
    let preset: Preset = toml::from_str(text).unwrap_or_else(|error| {
        // Part of the program, and read by a test.
        panic!("preset `{name}`: {error}")
    });
    Preset { name, ..preset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicFilter;

    #[test]
    fn every_preset_can_be_read_and_they_are_sorted() {
        let names: Vec<&str> = all().iter().map(|preset| preset.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(find(GENERIC).is_some());
    }

    #[test]
    fn every_text_in_the_folder_is_a_preset() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bridge/presets");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        there.sort_unstable();
        assert_eq!(there, TEXTS.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    }

    #[test]
    fn every_preset_is_whole_and_says_where_its_numbers_are_from() {
        for preset in all() {
            let Preset { name, caps, .. } = preset;
            assert!(!preset.sources.is_empty() && preset.checked.len() == 10, "{name}");
            assert!(!caps.versions.is_empty() && !caps.auth.is_empty() && caps.qos <= 2, "{name}");
            assert!(!preset.summary.ends_with('.') && !preset.notes.trim().is_empty(), "{name}");
            // A path is a WebSocket's, and what ALPN offers is MQTT's by itself.
            let fits = |port: &Port| if port.websocket { port.alpn.is_empty() } else { port.path.is_none() };
            assert!(caps.ports.iter().all(fits), "{name}");
            assert!(caps.keep_alive_s.is_none_or(|(least, most)| 5 <= least && least < most), "{name}");
            assert!(preset.defaults.version.is_none_or(|version| caps.versions.contains(&version)), "{name}");
            for filter in caps.publish.iter().chain(&caps.subscribe) {
                let filled = filter.replace("{client_id}", "x").replace("{device}", "x").replace("{product}", "x");
                assert!(TopicFilter::parse(&filled).is_ok_and(|_| !filled.contains('{')), "{name}: {filter}");
            }
            let named = preset.example.contains(&format!("preset = \"{name}\""));
            assert!(named || name == &GENERIC, "{name}: the example does not name it");
        }
    }

    #[test]
    fn a_generic_cloud_limits_nothing() {
        assert_eq!(find(GENERIC).unwrap().limits(), CloudLimits::default());
    }
}

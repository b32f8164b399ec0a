//! What one bridge is told to be.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::{BridgeId, GatewayId, Qos, Secret, TopicFilter, TopicName};

/// Settings of one bridge. Two equal values mean that a reload need not touch it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its name: in topics, logs, and its store's file name.
    pub id: BridgeId,
    /// The gateway it belongs to.
    pub gateway: GatewayId,
    /// Where the cloud is.
    pub url: CloudUrl,
    /// Protocol version to speak.
    pub version: VersionChoice,
    /// Client id at the cloud; fixed, since the cloud's session hangs on it.
    pub client_id: String,
    /// User name at the cloud.
    pub username: Option<String>,
    /// Password at the cloud.
    pub password: Option<Secret>,
    /// Keep alive, 5 s to 18 h.
    pub keep_alive: Duration,
    /// DNS, TCP, TLS and CONNACK together.
    pub connect_timeout: Duration,
    /// Back-off between attempts: full jitter between zero and a bound that doubles from `min` to `max`; reset after `stable` online.
    pub reconnect: Reconnect,
    /// Most QoS 1/2 messages in flight, 1 to 1,000; never above the cloud's Receive Maximum.
    pub window: u16,
    /// What becomes of QoS 2 messages whose handshake was half done when the cloud forgot the session.
    pub on_session_loss: OnSessionLoss,
    /// MQTT 5 session expiry asked of the cloud.
    pub session_expiry: Duration,
    /// MQTT 5 will delay: how long the cloud waits before it says `offline`.
    pub will_delay: Duration,
    /// TLS, where the URL asks for it.
    pub tls: Option<Tls>,
    /// What goes up, first match wins.
    pub out: Vec<OutRule>,
    /// What comes down, first match wins.
    pub inward: Vec<InRule>,
    /// The store.
    pub outbox: OutboxSettings,
    /// Local topic `tidegate/<gateway>/bridge/<id>`.
    pub state_topic: TopicName,
    /// Local topic `tidegate/<gateway>/event`.
    pub event_topic: TopicName,
    /// Local topic `tidegate/<gateway>/status`: never forwarded as a message, since the engine owns will and birth.
    pub local_status_topic: TopicName,
    /// Topic of will and birth at the cloud: the local status topic after the first `out` rule that maps it, or unmapped.
    pub cloud_status_topic: TopicName,
    /// Local filters that `out` never forwards (docs/topics.md): bridge states, `set` commands.
    pub never_out: Vec<TopicFilter>,
}

/// Address of a cloud broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudUrl {
    /// Whether TLS is spoken (`mqtts://`).
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port; 1883, or 8883 with TLS, unless the URL says otherwise.
    pub port: u16,
}

impl std::fmt::Display for CloudUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Protocol version to speak with the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VersionChoice {
    /// 5, and 3.1.1 from then on when the cloud refuses 5.
    #[default]
    Auto,
    /// MQTT 5.0 only.
    V5,
    /// MQTT 3.1.1 only.
    V311,
}

/// Back-off between connection attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// First bound.
    pub min: Duration,
    /// Last bound.
    pub max: Duration,
    /// How long a connection must have lasted for the bound to start anew.
    pub stable: Duration,
}

/// What becomes of half-done handshakes when the cloud forgot the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSessionLoss {
    /// Send it again: it may arrive twice, it is not lost.
    #[default]
    Resend,
    /// Drop it: it may be lost, it does not arrive twice. Counted.
    DropUncertain,
}

/// TLS towards the cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// PEM file of the roots to trust; the system's when `None`.
    pub ca: Option<PathBuf>,
    /// PEM text of the client's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM text of the client's private key.
    pub key: Option<Secret>,
    /// Name to ask for and to check the certificate against, when it is not the URL's host.
    pub server_name: Option<String>,
    /// ALPN protocols to offer.
    pub alpn: Vec<String>,
}

/// What goes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutRule {
    /// Local topics meant.
    pub from: TopicFilter,
    /// Topic at the cloud, `{1}`, `{2}`, … for what the wildcards of `from` stood for (`{gateway}` is filled in by `plan`). `None`: unchanged.
    pub to: Option<TopicTemplate>,
    /// QoS upstream, whatever the message had; `None`: its own.
    pub qos: Option<Qos>,
    /// Retain flag upstream; `None`: its own.
    pub retain: Option<bool>,
}

/// What comes down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InRule {
    /// Topics at the cloud to subscribe to.
    pub from: TopicFilter,
    /// Local topic, with `{1}`, `{2}`, …. `None`: unchanged.
    pub to: Option<TopicTemplate>,
    /// QoS of the subscription and of the local message, at most.
    pub qos: Qos,
}

/// A topic with holes `{1}` to `{9}` for what a filter's wildcards stood for. Checked by `plan` against the filter it goes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate(pub String);

/// The store of one bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxSettings {
    /// Directory of `outbox-<id>.db`.
    pub dir: PathBuf,
    /// Largest size of the database, write-ahead log not counted, bytes.
    pub max_bytes: u64,
    /// Most records waiting.
    pub max_messages: u64,
    /// Oldest record worth sending; `None`: any age.
    pub max_age: Option<Duration>,
    /// Longest a record waits for its commit when no acknowledgement hangs on it.
    pub linger: Duration,
}

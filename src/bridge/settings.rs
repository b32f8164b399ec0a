//! What one bridge is told to be.

use std::path::PathBuf;
use std::time::Duration;

use crate::logic::lanes::Order;
use crate::model::{BridgeId, GatewayId, Priority, Qos, Rate, RuleId, Secret, TopicFilter, TopicName};
use crate::mqtt::endpoint::Endpoint;
pub use crate::mqtt::endpoint::{CloudUrl, Tls, VersionChoice};

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
    /// Client id at the cloud, as it is sent but for what `auth` adds; fixed, since the cloud's session hangs on it.
    pub client_id: String,
    /// User name at the cloud, which may be a token; where `auth` makes one, this replaces it only for [`Auth::Sas`].
    pub username: Option<Secret>,
    /// Password at the cloud.
    pub password: Option<Secret>,
    /// How user name and password are made, where they are not given.
    pub auth: Auth,
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
    /// What the cloud takes, beside what it says of itself.
    pub limits: CloudLimits,
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

impl Settings {
    /// How the cloud is reached.
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint {
            name: self.id.to_string(),
            url: self.url.clone(),
            tls: self.tls.clone(),
            connect_timeout: self.connect_timeout,
        }
    }

    /// Whether a connection that runs by the old settings may stay under these.
    pub(super) fn keep_connection_of(&self, old: &Self) -> bool {
        // Listed by what may change without the cloud noticing, so that a field added later ends the connection until someone thinks of it.
        let quiet = Self {
            connect_timeout: old.connect_timeout,
            reconnect: old.reconnect,
            window: old.window,
            on_session_loss: old.on_session_loss,
            out: old.out.clone(),
            outbox: old.outbox.clone(),
            state_topic: old.state_topic.clone(),
            event_topic: old.event_topic.clone(),
            local_status_topic: old.local_status_topic.clone(),
            never_out: old.never_out.clone(),
            ..self.clone()
        };
        quiet == *old
    }

    /// File of its store.
    pub fn store_path(&self) -> PathBuf {
        self.outbox.dir.join(format!("outbox-{}.db", self.id))
    }
}

/// What a cloud is known to take, from its preset: a cloud of MQTT 3.1.1 cannot say so itself, and mostly hangs up instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloudLimits {
    /// Highest QoS; what has a higher one is sent with this.
    pub max_qos: Qos,
    /// Whether the retain flag is sent.
    pub retain: bool,
    /// Largest payload, bytes; what is larger is dropped and counted (`too-large`).
    pub max_payload: usize,
    /// Largest packet, bytes; likewise.
    pub max_packet: usize,
    /// Whether the cloud's own word on that counts instead where it has one, as with MQTT 5: its owner may have set another.
    pub adjustable: bool,
    /// Most filters of one SUBSCRIBE or UNSUBSCRIBE, at least 1.
    pub subscriptions_per_packet: usize,
    /// Whether it takes a will.
    pub will: bool,
    /// Whether it takes `online` and `offline` on the status topic.
    pub status: bool,
    /// Whether the client id is the device's name there, so that a second connection is another device or ends the first.
    pub fixed_client_id: bool,
    /// Whether it may be another gateway, and is told whose bridge it is.
    pub greet: bool,
}

impl Default for CloudLimits {
    fn default() -> Self {
        Self {
            max_qos: Qos::ExactlyOnce,
            retain: true,
            max_payload: usize::MAX,
            max_packet: usize::MAX,
            adjustable: false,
            subscriptions_per_packet: usize::MAX,
            will: true,
            status: true,
            fixed_client_id: false,
            greet: true,
        }
    }
}

/// How a bridge proves who it is beside a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// By the user name and password it was given, if any.
    Password,
    /// By a shared access signature of Azure's.
    Sas {
        /// Host name of the hub.
        host: String,
        /// The device.
        device: String,
        /// Name of the shared access policy that the key belongs to; `None`: the device's own key.
        policy: Option<String>,
        /// The key, base64.
        key: Secret,
        /// How long a token holds; it is renewed before.
        ttl: Duration,
    },
    /// By Alibaba's signature.
    Aliyun {
        /// Product key.
        product: String,
        /// Device name.
        device: String,
        /// Device secret.
        key: Secret,
    },
    /// By Tencent's signature.
    Tencent {
        /// Product id.
        product: String,
        /// Device name.
        device: String,
        /// The device's key, base64.
        key: Secret,
        /// How long a user name holds; it is renewed before.
        ttl: Duration,
    },
    /// By Huawei's signature.
    Huawei {
        /// Device id.
        device: String,
        /// Device secret.
        key: Secret,
    },
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
    /// Send it again, also where the loss may have gone unseen, since we were killed or cut off between CONNECT and CONNACK.
    NoLoss,
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
    /// What goes up before what.
    pub priority: Priority,
    /// Limits of its own on what waits.
    pub share: Share,
}

impl OutRule {
    /// The name of its records.
    pub fn id(&self) -> RuleId {
        RuleId::of(&self.from)
    }
}

/// Limits on the records of one rule, beside the store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Oldest worth sending; `None`: the store's.
    pub max_age: Option<Duration>,
    /// Most waiting, in flight excepted.
    pub max_messages: Option<u64>,
    /// Most bytes of topics and payloads waiting, in flight excepted.
    pub max_bytes: Option<u64>,
}

impl Share {
    /// Whether there is a limit that is kept by counting.
    pub fn is_counted(&self) -> bool {
        self.max_messages.is_some() || self.max_bytes.is_some()
    }
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

/// What a store does that is full. What is in flight never goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Full {
    /// The oldest of the lowest priority go.
    #[default]
    DropOldest,
    /// What comes in is acknowledged, dropped and counted.
    DropNewest,
    /// Of each topic's older records every second goes ([`crate::logic::thin`]), and where that frees too little, the oldest.
    Thin,
    /// Nothing new of QoS 1 and 2 is taken in.
    Block,
}

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut.
    #[default]
    Power,
    /// A kill. A power cut may take the last [`crate::limits::FLUSH_EVERY`].
    Process,
}

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
    /// What happens at `max_bytes` and `max_messages`.
    pub full: Full,
    /// How fast records and QoS 0 go up at most.
    pub rate: Option<Rate>,
    /// What a commit survives.
    pub durability: Durability,
    /// What goes up first within one priority.
    pub order: Order,
    /// Longest a record waits for its commit when no acknowledgement hangs on it.
    pub linger: Duration,
}

//! A message: what goes to a broker.

use std::sync::Arc;

use super::{BridgeId, ExchangeId, Moment, Payload, Timestamp, TopicName};

/// Quality of service of a delivery [MQTT-4.3].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Qos {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// The level as a number on the wire.
    pub const fn level(self) -> u8 {
        self as u8
    }

    /// The level of a number on the wire; `None` above 2.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// Where a message came into this gateway. Decides who is not told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A reading of one of our sensors.
    Sensor,
    /// The gateway speaking of itself: status, bridge state, availability, events.
    Gateway,
    /// A client of the local broker.
    Client,
    /// The cloud, by an `in` rule of this bridge.
    Bridge(BridgeId),
    /// Our own retained mirror, put back into the broker at start; never taken in again.
    Seed,
}

/// MQTT 5 properties that travel with a message from its publisher to its receivers unaltered [MQTT-3.3.2].
///
/// A message without any (all of 3.1.1) costs no allocation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// Payload format indicator: whether the payload is said to be UTF-8.
    pub utf8: Option<bool>,
    /// Seconds the message is worth delivering, counted from when it was received.
    pub expiry_s: Option<u32>,
    /// MIME type or the like.
    pub content_type: Option<Arc<str>>,
    /// Where a reply is wanted.
    pub response_topic: Option<TopicName>,
    /// What a reply is to carry.
    pub correlation_data: Option<Arc<[u8]>>,
    /// Name and value pairs, in order, repeats allowed.
    pub user: Vec<(Arc<str>, Arc<str>)>,
}

/// A message: topic name, payload, how it is to be delivered, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Topic name it is published to.
    pub topic: TopicName,
    /// Payload; any bytes, at most the broker's `max_packet`.
    pub payload: Payload,
    /// Quality of service it was published with.
    pub qos: Qos,
    /// Whether a broker keeps it for later subscribers.
    pub retain: bool,
    /// Where it came into this gateway.
    pub origin: Origin,
    /// MQTT 5 properties, `None` when there are none.
    pub properties: Option<Arc<Properties>>,
    /// When the time was taken that the payload begins with, where that was before the clock was set: it may be mended (`logic::restamp`).
    /// Only what the gateway itself wrote has one.
    pub stamp: Option<Moment>,
    /// What its publisher would say it again under after a crash, where it is to go up once all the same.
    pub exchange: Option<ExchangeId>,
}

impl Message {
    /// A message without properties.
    pub fn new(topic: TopicName, payload: impl Into<Payload>, qos: Qos, retain: bool, origin: Origin) -> Self {
        Self { topic, payload: payload.into(), qos, retain, origin, properties: None, stamp: None, exchange: None }
    }

    /// The same, for a payload that begins with this time, as `logic::restamp` writes it.
    #[must_use]
    pub fn stamped(self, time: Timestamp) -> Self {
        Self { stamp: time.at.filter(|_| !time.synced), ..self }
    }
}

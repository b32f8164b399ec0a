//! Which reading becomes which messages.

use crate::model::{Qos, TopicName};

/// How one sensor is published.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishSettings {
    /// Topic of the readings (`tidegate/<gateway>/<sensor>`).
    pub topic: TopicName,
    /// Topic of `online` / `offline` (`…/availability`).
    pub availability_topic: TopicName,
    /// Quality of service of the readings.
    pub qos: Qos,
    /// Whether brokers keep the last reading.
    pub retain: bool,
    /// Form of the payload.
    pub payload: PayloadForm,
    /// Whether each payload carries a number that rises by one (`"seq"`).
    pub seq: bool,
}

/// Form of a reading's payload (product.md §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadForm {
    /// One JSON object with `ts`, the values, and `q` and `tq` where needed.
    #[default]
    Json,
    /// One bare value a topic: `<topic>/<value name>`.
    Value,
}

//! What goes into an outbox, what comes out, and what was removed unsent.

use crate::model::{Qos, Seq, Timestamp};

/// A message on its way into the store.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Topic at the cloud.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// QoS upstream, 1 or 2.
    pub qos: Qos,
    /// Retain flag upstream.
    pub retain: bool,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Wall clock in milliseconds when its publisher no longer wants it delivered.
    pub expires_ms: Option<i64>,
    /// MQTT 5 properties as on the wire, length in front.
    pub properties: Option<&'a [u8]>,
}

/// A message in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its number.
    pub seq: Seq,
    /// Topic at the cloud.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS upstream, 1 or 2.
    pub qos: Qos,
    /// Retain flag upstream.
    pub retain: bool,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Wall clock in milliseconds when its publisher no longer wants it delivered.
    pub expires_ms: Option<i64>,
    /// MQTT 5 properties as on the wire, length in front.
    pub properties: Option<Vec<u8>>,
}

impl Record {
    /// Bytes of topic and payload.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// What was removed unsent, for the one who must announce it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// Lowest and highest number among them.
    pub seqs: (Seq, Seq),
    /// Oldest and newest acceptance time among them, wall clock, milliseconds.
    pub times_ms: (i64, i64),
}

impl Dropped {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Dropped) -> Dropped {
        match (self.count, other.count) {
            (0, _) => other,
            (_, 0) => self,
            _ => Dropped {
                count: self.count + other.count,
                seqs: (self.seqs.0.min(other.seqs.0), self.seqs.1.max(other.seqs.1)),
                times_ms: (self.times_ms.0.min(other.times_ms.0), self.times_ms.1.max(other.times_ms.1)),
            },
        }
    }
}

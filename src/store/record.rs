//! What goes into an outbox, what comes out, and what was removed unsent.

use crate::model::{Moment, Priority, Qos, RuleId, Seq, Timestamp};

/// A message on its way into the store.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// How urgent it is.
    pub priority: Priority,
    /// The `out` rule that took it up, where that is known.
    pub rule: Option<RuleId>,
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
    /// When the time was taken that the payload begins with, where it may be mended.
    pub stamp: Option<Moment>,
}

/// A message in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its number.
    pub seq: Seq,
    /// How urgent it is.
    pub priority: Priority,
    /// The `out` rule that took it up, where that is known.
    pub rule: Option<RuleId>,
    /// Topic at the cloud.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS upstream, 1 or 2.
    pub qos: Qos,
    /// Retain flag upstream.
    pub retain: bool,
    /// When it was accepted, as the clock told it then. If that had not been set, with the point on the monotonic clock of its boot.
    pub accepted: Timestamp,
    /// Wall clock in milliseconds when its publisher no longer wants it delivered, by the same clock.
    pub expires_ms: Option<i64>,
    /// MQTT 5 properties as on the wire, length in front.
    pub properties: Option<Vec<u8>>,
    /// When the time was taken that the payload begins with, while it may be mended: on the monotonic clock of its boot.
    pub stamp: Option<Moment>,
}

impl Record {
    /// Bytes of topic and payload.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// A record that is not in flight, without what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub seq: Seq,
    /// How urgent it is.
    pub priority: Priority,
    /// As [`Record::accepted`].
    pub accepted: Timestamp,
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
    /// Whether one of those is by a clock that had not been set, and not known better.
    pub unsynced: bool,
}

impl Dropped {
    /// One record, accepted at this time.
    pub fn one(seq: Seq, accepted: Timestamp) -> Self {
        let ms = accepted.unix_ms;
        Self { count: 1, seqs: (seq, seq), times_ms: (ms, ms), unsynced: !accepted.synced }
    }

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
                unsynced: self.unsynced || other.unsynced,
            },
        }
    }
}

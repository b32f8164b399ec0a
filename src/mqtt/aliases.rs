//! Topic aliases towards the cloud [MQTT-3.3.2.3.4]: a number in the place of a topic that this connection has carried before.
//!
//! They live as long as their connection: what is sent again on another one carries its topic.

use bytes::BytesMut;

use super::client::{Outgoing, Version, put_publish};
use crate::limits::TOPIC_ALIASES;
use crate::model::Qos;

/// The topics that have a number, in the order of their numbers, which begin at 1.
#[derive(Debug, Default)]
pub struct Aliases {
    max: usize,
    topics: Vec<Box<str>>,
    /// Packet id of the first message of QoS 1 or 2 that went by its topic's number alone.
    by_number: Option<u16>,
}

impl Aliases {
    /// So many the cloud takes: its Topic Alias Maximum. No more than [`TOPIC_ALIASES`] are used.
    pub fn allow(&mut self, max: u16) {
        self.max = max.min(TOPIC_ALIASES).into();
    }

    /// How many are given out.
    pub fn given(&self) -> usize {
        self.topics.len()
    }

    /// Takes back all but the first so many: the packets that gave them out never left.
    pub fn take_back(&mut self, given: usize) {
        self.topics.truncate(given);
        self.by_number = None;
    }

    /// The first message of QoS 1 or 2 that went by number, by its packet id: what the cloud makes of it shows whether it has learnt the topic.
    pub fn first_by_number(&self) -> Option<u16> {
        self.by_number
    }

    /// Writes a PUBLISH with as little of its topic as will do; otherwise as [`put_publish`]. What would not fit with its topic does not fit: it may have
    /// to be said again on another connection.
    pub fn put(&mut self, out: &mut BytesMut, version: Version, publish: &Outgoing<'_>, limit: usize) -> bool {
        if let Some(index) = self.topics.iter().position(|topic| **topic == *publish.topic) {
            let short = Outgoing { topic: "", alias: number(index), ..*publish };
            // The alias costs no less than what lengths may grow by with the topic.
            if !put_publish(out, version, &short, limit.saturating_sub(publish.topic.len())) {
                return put_publish(out, version, publish, limit);
            }
            if publish.qos > Qos::AtMostOnce {
                self.by_number.get_or_insert(publish.pkid);
            }
            return true;
        }
        let new = Outgoing { alias: number(self.topics.len()), ..*publish };
        if self.topics.len() < self.max && publish.topic.len() > COST && put_publish(out, version, &new, limit) {
            self.topics.push(publish.topic.into());
            return true;
        }
        put_publish(out, version, publish, limit)
    }
}

fn number(index: usize) -> Option<u16> {
    u16::try_from(index + 1).ok()
}

/// Bytes of an alias on the wire.
const COST: usize = 3;

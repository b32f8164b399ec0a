//! What waits for one client: messages of QoS 1 and 2 in one line, those of QoS 0 in another, both bounded together.

use std::collections::VecDeque;

use super::session::Delivery;
use crate::limits;
use crate::model::{Moment, Qos};

/// How a delivery was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits to be sent.
    Queued,
    /// It waits, and this many older ones had to go.
    Displaced(u64),
    /// It is not kept: no room for QoS 0 beside a queue of QoS 1 and 2.
    Dropped,
    /// It is not meant to wait: the client is away, and the message is QoS 0 or the session ends with its connection.
    Away,
}

/// See the module. When it is full the oldest goes, QoS 0 first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(u64, Delivery)>,
    loose: VecDeque<(u64, Delivery)>,
    bytes: usize,
    pushed: u64,
    max: usize,
    dropped_since_empty: u64,
}

impl Queue {
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Messages that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.loose.len()
    }

    /// Their payloads, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a message in.
    pub(super) fn push(&mut self, delivery: Delivery) -> Pushed {
        let bytes = delivery.message.payload.len();
        let mut displaced = 0;
        while self.is_full(bytes) {
            let oldest = match self.loose.pop_front() {
                None if delivery.qos == Qos::AtMostOnce => {
                    self.dropped_since_empty += 1;
                    return Pushed::Dropped;
                }
                None => self.waiting.pop_front(),
                some => some,
            };
            let Some((_, oldest)) = oldest else { break };
            self.bytes -= oldest.message.payload.len();
            displaced += 1;
        }
        self.bytes += bytes;
        self.pushed += 1;
        let line = if delivery.qos == Qos::AtMostOnce { &mut self.loose } else { &mut self.waiting };
        line.push_back((self.pushed, delivery));
        if displaced == 0 {
            return Pushed::Queued;
        }
        self.dropped_since_empty += displaced;
        Pushed::Displaced(displaced)
    }

    fn is_full(&self, more_bytes: usize) -> bool {
        let count = self.waiting.len() + self.loose.len();
        count > 0 && (count >= self.max || self.bytes + more_bytes > limits::BROKER_QUEUE_BYTES_MAX)
    }

    /// The next message that is still worth sending, in the order they came; QoS 0 alone while the wire has no room for others.
    pub(super) fn pop(&mut self, is_open: bool, now: Moment) -> Option<Delivery> {
        loop {
            let waiting = self.waiting.front().filter(|_| is_open).map(|(order, _)| *order);
            let loose = self.loose.front().map(|(order, _)| *order);
            let next = match (waiting, loose) {
                (Some(first), Some(second)) if second < first => self.loose.pop_front(),
                (Some(_), _) => self.waiting.pop_front(),
                (None, _) => self.loose.pop_front(),
            };
            let (_, delivery) = next?;
            self.bytes -= delivery.message.payload.len();
            if !delivery.is_expired(now) {
                return Some(delivery);
            }
        }
    }

    /// Takes out all that waits with a promise of delivery.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Delivery> {
        self.clear_loose();
        self.bytes = 0;
        self.waiting.drain(..).map(|(_, delivery)| delivery)
    }

    /// Drops what does not wait for an absent client.
    pub(super) fn clear_loose(&mut self) {
        for (_, delivery) in self.loose.drain(..) {
            self.bytes -= delivery.message.payload.len();
        }
    }

    /// Whether messages were dropped since the queue was last empty.
    pub(super) fn is_dropping(&self) -> bool {
        self.dropped_since_empty > 0
    }

    /// How many messages were dropped since the queue was last empty, once it is empty again: a recovery to tell.
    pub(super) fn take_recovery(&mut self) -> Option<u64> {
        let recovered = self.dropped_since_empty > 0 && self.waiting.is_empty() && self.loose.is_empty();
        recovered.then(|| std::mem::take(&mut self.dropped_since_empty))
    }
}

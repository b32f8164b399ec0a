//! What waits for one client: messages of QoS 1 and 2 in one line, those of QoS 0 in another, both bounded together.

use std::collections::VecDeque;

use super::journal::Diary;
use super::session::Delivery;
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

/// How much may wait for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Room {
    /// Messages.
    pub(super) messages: usize,
    /// Bytes, as messages weigh.
    pub(super) bytes: usize,
}

/// See the module. When it is full the oldest goes, QoS 0 first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(u64, Delivery)>,
    loose: VecDeque<(u64, Delivery)>,
    bytes: usize,
    pushed: u64,
    room: Room,
    dropped_since_empty: u64,
}

impl Queue {
    pub(super) fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// Messages that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.loose.len()
    }

    /// How many of QoS 1 and 2 wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What all that wait weigh.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a message in.
    pub(super) fn push(&mut self, delivery: Delivery, diary: &mut Diary) -> Pushed {
        let bytes = delivery.weighs();
        let mut displaced = 0;
        while self.is_full(bytes) {
            if self.loose.is_empty() && delivery.qos == Qos::AtMostOnce {
                self.dropped_since_empty += 1;
                return Pushed::Dropped;
            }
            if !self.drop_oldest(diary) {
                break;
            }
            displaced += 1;
        }
        self.put(delivery);
        if displaced == 0 { Pushed::Queued } else { Pushed::Displaced(displaced) }
    }

    /// Puts a message behind the others, whatever room there is.
    pub(super) fn put(&mut self, delivery: Delivery) {
        self.bytes += delivery.weighs();
        self.pushed += 1;
        let line = if delivery.qos == Qos::AtMostOnce { &mut self.loose } else { &mut self.waiting };
        line.push_back((self.pushed, delivery));
    }

    /// Drops the oldest message, QoS 0 first. Returns whether there was one.
    pub(super) fn drop_oldest(&mut self, diary: &mut Diary) -> bool {
        let Some((_, oldest)) = self.loose.pop_front().or_else(|| self.waiting.pop_front()) else { return false };
        self.bytes -= oldest.weighs();
        self.dropped_since_empty += 1;
        diary.gone(oldest.row, Some(&oldest));
        true
    }

    pub(super) fn each_delivery(&mut self, see: &mut dyn FnMut(&mut Delivery)) {
        self.waiting.iter_mut().for_each(|(_, delivery)| see(delivery));
    }

    /// Notes all of it anew.
    pub(super) fn note_again(&self, diary: &mut Diary) {
        for (_, delivery) in &self.waiting {
            diary.again(delivery.row, Some(delivery), None);
        }
    }

    fn is_full(&self, more_bytes: usize) -> bool {
        let count = self.waiting.len() + self.loose.len();
        count > 0 && (count >= self.room.messages || self.bytes + more_bytes > self.room.bytes)
    }

    /// The next message that is still worth sending, in the order they came; QoS 0 alone while the wire has no room for others.
    pub(super) fn pop(&mut self, is_open: bool, now: Moment, diary: &mut Diary) -> Option<Delivery> {
        loop {
            let waiting = self.waiting.front().filter(|_| is_open).map(|(order, _)| *order);
            let loose = self.loose.front().map(|(order, _)| *order);
            let next = match (waiting, loose) {
                (Some(first), Some(second)) if second < first => self.loose.pop_front(),
                (Some(_), _) => self.waiting.pop_front(),
                (None, _) => self.loose.pop_front(),
            };
            let (_, delivery) = next?;
            self.bytes -= delivery.weighs();
            if !delivery.is_expired(now) {
                return Some(delivery);
            }
            diary.gone(delivery.row, Some(&delivery));
        }
    }

    /// The next of QoS 1 and 2 that is still worth sending.
    pub(super) fn pop_waiting(&mut self, now: Moment, diary: &mut Diary) -> Option<Delivery> {
        while let Some((_, delivery)) = self.waiting.pop_front() {
            self.bytes -= delivery.weighs();
            if !delivery.is_expired(now) {
                return Some(delivery);
            }
            diary.gone(delivery.row, Some(&delivery));
        }
        None
    }

    /// Takes out all that waits with a promise of delivery.
    pub(super) fn drain(&mut self, diary: &mut Diary) -> Vec<Delivery> {
        self.clear_loose();
        self.bytes = 0;
        let left: Vec<Delivery> = self.waiting.drain(..).map(|(_, delivery)| delivery).collect();
        for delivery in &left {
            diary.left(delivery);
        }
        left
    }

    /// Drops what does not wait for an absent client.
    pub(super) fn clear_loose(&mut self) {
        for (_, delivery) in self.loose.drain(..) {
            self.bytes -= delivery.weighs();
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

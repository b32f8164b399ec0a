//! Which record goes up next: by priority, and in a class in the order of acceptance, or with what is new ahead of what has waited.
//!
//! A lane is a part of one class that is sent in the order of its numbers. With [`Order::OldestFirst`] a class is one lane. With
//! [`Order::LiveFirst`] it is two: what was accepted since the link came up, and ahead of which nothing of the class goes; and the backlog, all that
//! was accepted before. A cursor a lane says how far it has been read; a record behind it is on the wire or gone. The reverse does not
//! hold: a lane that was begun anew may meet records that are on the wire already, which its reader passes over.
//!
//! Guarantees: a lane gives its records in the order of their numbers; a lane is read only when those before it are at their end, or when their next
//! record is QoS 2 and has to wait for a window of its own. What is less urgent may then go meanwhile if it is QoS 1: the order that is promised
//! holds for each topic and QoS, and a topic's messages are of one class.

use crate::model::{Priority, Seq};

/// In what order the records of one priority go up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were accepted.
    #[default]
    OldestFirst,
    /// Those accepted since the link came up first; what had waited then goes in the room that they leave.
    LiveFirst,
}

/// A lane of one class, as it is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The class.
    pub priority: Priority,
    /// Records from here on, itself excepted.
    pub after: Seq,
    /// Records below this one.
    pub before: Seq,
    live: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Lane {
    /// Up to here everything is on the wire or gone.
    cursor: Seq,
    /// Nothing lies behind the cursor, until something is added or comes back.
    at_end: bool,
    /// The next record is QoS 2 and has to wait for that window: QoS 1 behind it in the lane does too.
    held: bool,
}

/// The lanes of all classes. A copy taken before a transaction is what a rollback puts back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lanes {
    order: Order,
    /// Where the live lanes begin; `None`: there are none.
    live_from: Option<Seq>,
    live: [Lane; Priority::ALL.len()],
    backlog: [Lane; Priority::ALL.len()],
}

/// No record has this number.
const LAST: Seq = Seq(u64::MAX);

impl Lanes {
    /// The lanes of a store that was just opened: nothing of it has been read.
    pub fn new(order: Order) -> Self {
        Self { order, ..Self::default() }
    }

    /// Everything may wait again: the cloud forgot the session, or the file was read anew.
    pub fn rewind(&mut self) {
        *self = Self { order: self.order, live_from: self.live_from, ..Self::default() };
        if let Some(from) = self.live_from {
            self.live = [Lane { cursor: before(from), ..Lane::default() }; Priority::ALL.len()];
        }
    }

    /// The link came up, and the next record to be accepted gets the number `next`: all that waits is backlog.
    pub fn link_up(&mut self, next: Seq) {
        self.live_from = (self.order == Order::LiveFirst).then_some(next);
        self.live = [Lane { cursor: before(next), at_end: true, held: false }; Priority::ALL.len()];
        for lane in &mut self.backlog {
            (lane.at_end, lane.held) = (false, false);
        }
    }

    /// Another order was chosen; `next` as in [`Lanes::link_up`]. What is live under the old one becomes backlog.
    pub fn set_order(&mut self, order: Order, next: Seq) {
        if order != self.order {
            self.order = order;
            self.link_up(next);
        }
    }

    /// A record of this class was added behind all others.
    pub fn added(&mut self, priority: Priority) {
        let lanes = if self.live_from.is_some() { &mut self.live } else { &mut self.backlog };
        lanes[priority.index()].at_end = false;
    }

    /// Where the next record is to be looked for; `None` when no lane has one that may go. `qos2`: whether the window has room for QoS 2.
    pub fn next(&self, qos2: bool) -> Option<Look> {
        let open = |lane: &Lane| !lane.at_end && (qos2 || !lane.held);
        Priority::ALL.into_iter().find_map(|priority| {
            let (live, backlog) = (self.live[priority.index()], self.backlog[priority.index()]);
            match self.live_from {
                Some(_) if open(&live) => Some(Look { priority, after: live.cursor, before: LAST, live: true }),
                from if open(&backlog) => {
                    Some(Look { priority, after: backlog.cursor, before: from.unwrap_or(LAST), live: false })
                }
                _ => None,
            }
        })
    }

    /// The record is on the wire, or gone.
    pub fn passed(&mut self, look: Look, seq: Seq) {
        let lane = self.lane(look);
        (lane.cursor, lane.held) = (seq, false);
    }

    /// The lane has no more.
    pub fn ended(&mut self, look: Look) {
        self.lane(look).at_end = true;
    }

    /// The lane's next record is QoS 2, and that window is full.
    pub fn held(&mut self, look: Look) {
        self.lane(look).held = true;
    }

    fn lane(&mut self, look: Look) -> &mut Lane {
        let lanes = if look.live { &mut self.live } else { &mut self.backlog };
        &mut lanes[look.priority.index()]
    }
}

fn before(seq: Seq) -> Seq {
    Seq(seq.0.saturating_sub(1))
}

#[cfg(test)]
mod tests;

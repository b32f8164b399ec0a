//! What is on the wire to one client and not acknowledged: packet ids, resending, and the state of each QoS 2 exchange.
//!
//! Where the session is on disk, a message of QoS 2 and a PUBREL are here before they may be sent: `after` says which of the session's notes must
//! be written first.

use std::collections::VecDeque;

use super::core::Weight;
use super::journal::{Diary, Op, Sent};
use super::session::{Action, Delivery};
use crate::limits;
use crate::model::Qos;

#[derive(Debug)]
struct InFlight {
    packet_id: u16,
    /// Counts allocations: tells how long ago this id was given out, and the order of sending.
    turn: i64,
    /// Its row on disk; 0 for none.
    row: i64,
    /// `None` once the PUBREC is there and only the PUBREL is left.
    delivery: Option<Delivery>,
    /// Whether it was sent before.
    tried: bool,
    /// The note that must be on disk before it is sent.
    after: u64,
}

impl InFlight {
    fn sent(&self) -> Sent {
        Sent { packet_id: self.packet_id, turn: self.turn }
    }
}

/// What a PUBREC asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Answer with PUBREL: the first PUBREC, a repeated one, or one for an id that is not known, whose sender wants it out of the way.
    Release,
    /// [`Wire::next`] answers, once that is on disk.
    Later,
    /// The client does not want the message; nothing is to be answered.
    Refused,
}

/// What is to be sent before anything new.
#[derive(Debug)]
pub(super) enum Next {
    /// This.
    Now(Action),
    /// A message, once the window has room or the disk has its packet id.
    Later,
    /// Nothing: all of it is on this connection's wire.
    Done,
}

/// See the module. In the order of sending, which is the order of resending.
#[derive(Debug, Default)]
pub(super) struct Wire {
    flights: VecDeque<InFlight>,
    /// How many of them, from the front, are on this connection's wire.
    sent: usize,
    /// Packet ids on this connection's wire whose PUBREL waits for the disk.
    releases: VecDeque<u16>,
    turns: i64,
    next_id: u16,
    /// Of their contents.
    bytes: usize,
}

impl Wire {
    /// Messages that were sent, on this connection or an earlier one, and are not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// What a file tells was on the wire, in the order of sending.
    pub(super) fn restore(&mut self, row: i64, delivery: Option<Delivery>, sent: Sent) {
        let Sent { packet_id, turn } = sent;
        self.turns = self.turns.max(turn);
        self.next_id = packet_id;
        let delivery = delivery.map(on_wire);
        self.bytes += delivery.as_ref().map_or(0, bytes);
        self.flights.push_back(InFlight { packet_id, turn, row, delivery, tried: true, after: 0 });
    }

    pub(super) fn each_delivery(&mut self, see: &mut dyn FnMut(&mut Delivery)) {
        self.flights.iter_mut().filter_map(|flight| flight.delivery.as_mut()).for_each(see);
    }

    /// Notes all of it anew.
    pub(super) fn note_again(&self, diary: &mut Diary) {
        for flight in &self.flights {
            diary.again(flight.row, flight.delivery.as_ref(), Some(flight.sent()));
        }
    }

    /// A connection begins or ends: nothing is on its wire.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
        self.releases.clear();
    }

    /// Whether one more message may be put on it, to be sent at once or once the disk has its packet id.
    pub(super) fn has_room(&self, window: usize) -> bool {
        self.flights.len() < window && self.bytes < limits::WIRE_BYTES_MAX
    }

    /// A PUBREL that the disk has by now, what an earlier connection left, and what has its packet id. A PUBREL needs no room: its message was
    /// counted when it was sent.
    pub(super) fn next(&mut self, window: usize, diary: &Diary) -> Next {
        while let Some(&packet_id) = self.releases.front() {
            match self.position(packet_id) {
                Some(index) if !diary.is_safe(self.flights[index].after) => break,
                found => {
                    self.releases.pop_front();
                    if found.is_some() {
                        return Next::Now(Action::Release(packet_id));
                    }
                }
            }
        }
        let has_room = self.sent < window;
        let Some(flight) = self.flights.get_mut(self.sent) else { return Next::Done };
        if !diary.is_safe(flight.after) {
            return Next::Later;
        }
        let packet_id = flight.packet_id;
        let action = match &flight.delivery {
            None => Action::Release(packet_id),
            Some(_) if !has_room => return Next::Later,
            Some(delivery) => Action::Publish { delivery: delivery.clone(), packet_id, dup: flight.tried },
        };
        flight.tried = true;
        self.sent += 1;
        Next::Now(action)
    }

    /// Puts a message of QoS 1 or 2 on it. [`Self::next`] sends it.
    pub(super) fn put(&mut self, delivery: Delivery, diary: &mut Diary) {
        let packet_id = self.allocate();
        let (row, turn) = (delivery.row, self.turns);
        let sent = Op::Sent(row, Sent { packet_id, turn });
        let after = match delivery.qos {
            _ if row == 0 => 0,
            Qos::ExactlyOnce => diary.note_awaited(sent),
            _ => {
                diary.note_lazily(sent);
                0
            }
        };
        let delivery = on_wire(delivery);
        self.bytes += bytes(&delivery);
        self.flights.push_back(InFlight { packet_id, turn, row, delivery: Some(delivery), tried: false, after });
    }

    /// The next packet id that is not in flight. Ids are given out in turn, so only one that has been in flight for nearly a whole turn can
    /// clash.
    fn allocate(&mut self) -> u16 {
        self.turns += 1;
        let may_clash = self.flights.front().is_some_and(|oldest| self.turns - oldest.turn > CLASH_FREE_TURNS);
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if !may_clash || self.flights.iter().all(|flight| flight.packet_id != self.next_id) {
                return self.next_id;
            }
        }
    }

    fn remove(&mut self, index: usize, diary: &mut Diary) {
        if let Some(flight) = self.flights.remove(index) {
            self.bytes -= flight.delivery.as_ref().map_or(0, bytes);
            diary.gone(flight.row, flight.delivery.as_ref());
        }
        if index < self.sent {
            self.sent -= 1;
        }
    }

    fn position(&self, packet_id: u16) -> Option<usize> {
        self.flights.iter().position(|flight| flight.packet_id == packet_id)
    }

    /// The client has a QoS 1 message. An acknowledgement nobody waits for is passed over: it may answer a message sent twice.
    pub(super) fn puback(&mut self, packet_id: u16, diary: &mut Diary) {
        if let Some(index) = self.position(packet_id) {
            let is_first = self.flights[index].delivery.as_ref().is_some_and(|d| d.qos == Qos::AtLeastOnce);
            if is_first {
                self.remove(index, diary);
            }
        }
    }

    /// The client has a QoS 2 message, or refuses it.
    pub(super) fn pubrec(&mut self, packet_id: u16, refused: bool, diary: &mut Diary) -> Recorded {
        let found = self.position(packet_id).filter(|&index| {
            self.flights[index].delivery.as_ref().is_none_or(|delivery| delivery.qos == Qos::ExactlyOnce)
        });
        match (found, refused) {
            (Some(index), true) => {
                self.remove(index, diary);
                Recorded::Refused
            }
            (Some(index), false) => {
                let flight = &mut self.flights[index];
                let sent = flight.sent();
                let released = flight.delivery.take().inspect(|delivery| self.bytes -= bytes(delivery));
                if let Some(delivery) = released
                    && flight.row != 0
                {
                    flight.after = diary.note_awaited(Op::Released(flight.row, sent, Some(delivery.message)));
                }
                if diary.is_safe(flight.after) {
                    return Recorded::Release;
                }
                // One that this connection has yet to send says so when its turn comes.
                if index < self.sent && !self.releases.contains(&packet_id) {
                    self.releases.push_back(packet_id);
                }
                Recorded::Later
            }
            (None, true) => Recorded::Refused,
            (None, false) => Recorded::Release,
        }
    }

    /// The client has released a QoS 2 message.
    pub(super) fn pubcomp(&mut self, packet_id: u16, diary: &mut Diary) {
        if let Some(index) = self.position(packet_id).filter(|&index| self.flights[index].delivery.is_none()) {
            self.remove(index, diary);
        }
    }

    /// Takes everything off; returns the messages that another client may have: of QoS 1 that was not acknowledged, of QoS 2 that was not sent.
    pub(super) fn drain_unacknowledged(&mut self, diary: &mut Diary) -> Vec<Delivery> {
        self.restart();
        self.bytes = 0;
        let mut left = Vec::new();
        for flight in self.flights.drain(..) {
            match flight.delivery {
                Some(delivery) if delivery.qos == Qos::AtLeastOnce || !flight.tried => {
                    diary.left(&delivery);
                    left.push(delivery);
                }
                other => diary.gone(flight.row, other.as_ref()),
            }
        }
        left
    }

    /// Forgets a message that cannot be sent to this client at all.
    pub(super) fn forget(&mut self, packet_id: u16, diary: &mut Diary) {
        if let Some(index) = self.position(packet_id) {
            self.remove(index, diary);
        }
    }
}

fn on_wire(delivery: Delivery) -> Delivery {
    Delivery { weight: delivery.weight.map(Weight::on_wire), ..delivery }
}

fn bytes(delivery: &Delivery) -> usize {
    delivery.message.contents()
}

/// Fewer ids than a whole turn of 65,535 by more than any window: within so many allocations no id comes twice.
const CLASH_FREE_TURNS: i64 = 60_000;

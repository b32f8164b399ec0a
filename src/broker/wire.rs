//! What is on the wire to one client and not acknowledged: packet ids, resending, and the state of each QoS 2 exchange.

use std::collections::VecDeque;

use super::session::{Action, Delivery};
use crate::model::Qos;

#[derive(Debug)]
struct InFlight {
    packet_id: u16,
    /// Counts allocations: tells how long ago this id was given out.
    allocation: u64,
    /// `None` once the PUBREC is there and only the PUBREL is left.
    delivery: Option<Delivery>,
}

/// What a PUBREC asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Answer with PUBREL: the first PUBREC, a repeated one, or one for an id that is not known, whose sender wants it out of the way.
    Release,
    /// The client does not want the message; nothing is to be answered.
    Refused,
}

/// What is to be sent before anything new.
#[derive(Debug)]
pub(super) enum Resend {
    /// This.
    Now(Action),
    /// A message, once the window has room.
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
    allocations: u64,
    next_id: u16,
}

impl Wire {
    /// Messages that were sent, on this connection or an earlier one, and are not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// A connection begins or ends: nothing is on its wire.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
    }

    /// Whether one more message may go out.
    pub(super) fn has_room(&self, window: usize) -> bool {
        self.sent < window
    }

    /// What an earlier connection left. A PUBREL needs no room: its message was counted when it was sent.
    pub(super) fn resend(&mut self, window: usize) -> Resend {
        let Some(flight) = self.flights.get(self.sent) else { return Resend::Done };
        let packet_id = flight.packet_id;
        let action = match &flight.delivery {
            None => Action::Release(packet_id),
            Some(_) if !self.has_room(window) => return Resend::Later,
            Some(delivery) => Action::Publish { delivery: delivery.clone(), packet_id, dup: true },
        };
        self.sent += 1;
        Resend::Now(action)
    }

    /// Sends a message for the first time.
    pub(super) fn send(&mut self, delivery: Delivery) -> Action {
        if delivery.qos == Qos::AtMostOnce {
            return Action::Publish { delivery, packet_id: 0, dup: false };
        }
        let packet_id = self.allocate();
        let kept = Some(delivery.clone());
        self.flights.push_back(InFlight { packet_id, allocation: self.allocations, delivery: kept });
        self.sent += 1;
        Action::Publish { delivery, packet_id, dup: false }
    }

    /// The next packet id that is not in flight. Ids are given out in turn, so only one that has been in flight for nearly a whole turn can
    /// clash.
    fn allocate(&mut self) -> u16 {
        self.allocations += 1;
        let may_clash =
            self.flights.front().is_some_and(|oldest| self.allocations - oldest.allocation > CLASH_FREE_ALLOCATIONS);
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if !may_clash || self.flights.iter().all(|flight| flight.packet_id != self.next_id) {
                return self.next_id;
            }
        }
    }

    fn remove(&mut self, index: usize) {
        self.flights.remove(index);
        if index < self.sent {
            self.sent -= 1;
        }
    }

    fn position(&self, packet_id: u16) -> Option<usize> {
        self.flights.iter().position(|flight| flight.packet_id == packet_id)
    }

    /// The client has a QoS 1 message. An acknowledgement nobody waits for is passed over: it may answer a message sent twice.
    pub(super) fn puback(&mut self, packet_id: u16) {
        if let Some(index) = self.position(packet_id) {
            let is_first = self.flights[index].delivery.as_ref().is_some_and(|d| d.qos == Qos::AtLeastOnce);
            if is_first {
                self.remove(index);
            }
        }
    }

    /// The client has a QoS 2 message, or refuses it.
    pub(super) fn pubrec(&mut self, packet_id: u16, refused: bool) -> Recorded {
        let found = self.position(packet_id).filter(|&index| {
            self.flights[index].delivery.as_ref().is_none_or(|delivery| delivery.qos == Qos::ExactlyOnce)
        });
        match (found, refused) {
            (Some(index), true) => {
                self.remove(index);
                Recorded::Refused
            }
            (Some(index), false) => {
                self.flights[index].delivery = None;
                Recorded::Release
            }
            (None, true) => Recorded::Refused,
            (None, false) => Recorded::Release,
        }
    }

    /// The client has released a QoS 2 message.
    pub(super) fn pubcomp(&mut self, packet_id: u16) {
        if let Some(index) = self.position(packet_id).filter(|&index| self.flights[index].delivery.is_none()) {
            self.remove(index);
        }
    }

    /// Takes everything off; returns the QoS 1 messages that were not acknowledged.
    pub(super) fn drain_unacknowledged(&mut self) -> Vec<Delivery> {
        self.sent = 0;
        let deliveries = self.flights.drain(..).filter_map(|flight| flight.delivery);
        deliveries.filter(|delivery| delivery.qos == Qos::AtLeastOnce).collect()
    }

    /// Forgets a message that cannot be sent to this client at all.
    pub(super) fn forget(&mut self, packet_id: u16) {
        if let Some(index) = self.position(packet_id) {
            self.remove(index);
        }
    }
}

/// Fewer ids than a whole turn of 65,535 by more than any window: within so many allocations no id comes twice.
const CLASH_FREE_ALLOCATIONS: u64 = 60_000;

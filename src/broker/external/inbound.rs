//! What comes from the broker: offered in its order, acknowledged in its order, and not before it was taken.
//!
//! A message of QoS 1 or 2 is known by its packet id until its handshake is over, also over a reconnection, so that what is said again is not offered
//! again. That is in memory: a message whose handshake was not over when the gateway was killed comes again, and is offered again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use crate::limits::{EXTERNAL_AGAIN, EXTERNAL_RECEIVE, EXTERNAL_RECEIVE_BYTES};
use crate::model::{Message, Moment, Qos};
use crate::mqtt::client;
use crate::ports::NotAccepted;

/// A message that is to be offered.
#[derive(Debug)]
pub(super) struct Offer {
    /// By which its outcome is told; `None` where nobody waits for it.
    pub(super) serial: Option<u64>,
    pub(super) message: Arc<Message>,
    /// What became of it when it was offered before.
    pub(super) before: Option<NotAccepted>,
}

/// A message that is not taken yet.
#[derive(Debug)]
struct Open {
    message: Arc<Message>,
    before: Option<NotAccepted>,
    /// Its outcome is awaited; else it is to be offered.
    offered: bool,
}

impl Open {
    /// Whether what comes after it may be offered: one that was refused may be refused once more.
    fn is_in_order(&self) -> bool {
        self.offered && self.before.is_none()
    }
}

/// A handshake that is not over.
#[derive(Debug, Clone, Copy)]
struct Held {
    serial: u64,
    qos: Qos,
    mark: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// By packet id.
    held: HashMap<u16, Held>,
    /// By serial. What is not here any more was taken.
    open: BTreeMap<u64, Open>,
    /// What the broker waits for on this connection, in the order it must get it [MQTT-4.6.0-2].
    owed: VecDeque<(u16, u64)>,
    /// Handshakes of QoS 2 that were over on this connection, and on earlier ones, newest last: packet id and mark.
    over: [VecDeque<(u16, u64)>; 2],
    next: u64,
    bytes: usize,
    again: Option<Moment>,
    received: u64,
}

impl Inbound {
    /// A connection stands. Where the session is gone, packet ids begin anew; what is not taken yet is offered all the same.
    pub(super) fn connected(&mut self, session_present: bool) {
        self.owed.clear();
        let [here, before] = &mut self.over;
        before.append(here);
        let many = before.len().saturating_sub(EXTERNAL_RECEIVE.into());
        before.drain(..many);
        if !session_present {
            before.clear();
            self.held.clear();
        }
    }

    /// The next broker is another one, whose packet ids are its own. What is not taken yet is offered all the same.
    pub(super) fn moved(&mut self) {
        self.held.clear();
        self.over.iter_mut().for_each(VecDeque::clear);
    }

    /// A message came. `mark` is what it is known by beside its packet id. Returns what is to be offered at once.
    pub(super) fn came(&mut self, message: Message, pkid: u16, mark: u64) -> Option<Offer> {
        let qos = message.qos;
        let message = Arc::new(message);
        if qos == Qos::AtMostOnce {
            self.received += 1;
            return Some(Offer { serial: None, message, before: None });
        }
        if let Some(held) = self.held.get(&pkid).filter(|held| held.qos == qos && held.mark == mark) {
            self.owed.push_back((pkid, held.serial));
            return None;
        }
        self.received += 1;
        let serial = self.next;
        self.next += 1;
        self.held.insert(pkid, Held { serial, qos, mark });
        self.owed.push_back((pkid, serial));
        self.bytes += message.weight();
        // Behind one that was refused: it must not overtake it.
        let offered = self.again.is_none();
        self.open.insert(serial, Open { message: Arc::clone(&message), before: None, offered });
        offered.then_some(Offer { serial: Some(serial), message, before: None })
    }

    /// A message came that nobody is to have: it is acknowledged in its turn.
    pub(super) fn came_for_nobody(&mut self, qos: Qos, pkid: u16, mark: u64) {
        if qos == Qos::AtMostOnce {
            return;
        }
        let known = self.held.get(&pkid).filter(|held| held.qos == qos && held.mark == mark);
        let serial = known.map_or(self.next, |held| held.serial);
        self.next += u64::from(serial == self.next);
        self.held.insert(pkid, Held { serial, qos, mark });
        self.owed.push_back((pkid, serial));
    }

    /// What became of an offer. Returns the reason when it is the first of a row that was refused.
    pub(super) fn settled(
        &mut self,
        serial: u64,
        outcome: Result<(), NotAccepted>,
        now: Moment,
    ) -> Option<NotAccepted> {
        match outcome {
            Ok(()) => {
                if let Some(open) = self.open.remove(&serial) {
                    self.bytes -= open.message.weight();
                }
                if self.open.values().all(Open::is_in_order) {
                    self.again = None;
                }
                None
            }
            Err(refused) => {
                let open = self.open.get_mut(&serial)?;
                open.offered = false;
                let is_first = open.before.is_none() && self.again.is_none();
                open.before = Some(refused.clone());
                self.again = self.again.or(Some(now + EXTERNAL_AGAIN));
                is_first.then_some(refused)
            }
        }
    }

    /// What is to be offered again, in its order.
    pub(super) fn due(&mut self, now: Moment) -> Vec<Offer> {
        if self.again.is_none_or(|again| now < again) {
            return Vec::new();
        }
        // Later ones still wait behind these, should they be refused again.
        self.again = Some(now + EXTERNAL_AGAIN);
        let due = self.open.iter_mut().filter(|(_, open)| !open.offered);
        let offer = |(serial, open): (&u64, &mut Open)| {
            open.offered = true;
            Offer { serial: Some(*serial), message: Arc::clone(&open.message), before: open.before.clone() }
        };
        let offers: Vec<Offer> = due.map(offer).collect();
        if offers.is_empty() && self.open.values().all(Open::is_in_order) {
            self.again = None;
        }
        offers
    }

    /// When something is to be offered again.
    pub(super) fn again(&self) -> Option<Moment> {
        self.again
    }

    /// Writes the acknowledgements that are due.
    pub(super) fn acknowledge(&mut self, out: &mut BytesMut) {
        while let Some((pkid, serial)) = self.owed.front().copied()
            && !self.open.contains_key(&serial)
        {
            self.owed.pop_front();
            let Some(held) = self.held.get(&pkid).filter(|held| held.serial == serial) else { continue };
            if held.qos == Qos::ExactlyOnce {
                client::put_pubrec(out, pkid);
            } else {
                client::put_puback(out, pkid);
                self.held.remove(&pkid);
            }
        }
    }

    /// PUBREL: the packet id is free. One that nobody knows gets the same answer, or it would come for ever.
    pub(super) fn released(&mut self, pkid: u16, out: &mut BytesMut) {
        if let Some(held) = self.held.remove(&pkid) {
            let [here, _] = &mut self.over;
            here.push_back((pkid, held.mark));
            if here.len() > EXTERNAL_RECEIVE.into() {
                here.pop_front();
            }
        }
        client::put_pubcomp(out, pkid);
    }

    /// Whether a message that is said to come again was over on an earlier connection. It was seen of Mosquitto 2.0.11, across
    /// two connections that broke one soon after the other; why it does so is not known. A new message of the same packet id and the same words, whose
    /// first sending was lost with a connection, looks no different, and is dropped.
    pub(super) fn is_over(&self, pkid: u16, mark: u64) -> bool {
        !self.held.contains_key(&pkid) && self.over[1].contains(&(pkid, mark))
    }

    /// Whether there is room for more. A broker that keeps to Receive Maximum is read at that number: what it acknowledges is not held up.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() <= EXTERNAL_RECEIVE.into() && self.bytes < EXTERNAL_RECEIVE_BYTES
    }

    /// Messages that came since the start.
    pub(super) fn received(&self) -> u64 {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Origin, Properties, TopicName};

    fn message(payload: &str, qos: Qos) -> Message {
        Message::new(TopicName::parse("t").unwrap(), payload.as_bytes(), qos, false, Origin::Client)
    }

    fn acknowledged(inbound: &mut Inbound) -> Vec<u8> {
        let mut out = BytesMut::new();
        inbound.acknowledge(&mut out);
        out.to_vec()
    }

    fn refusal() -> NotAccepted {
        NotAccepted::Store { bridge: "b".into(), reason: "disk full".into() }
    }

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    const ONE: Qos = Qos::AtLeastOnce;
    const TWO: Qos = Qos::ExactlyOnce;

    #[test]
    fn nothing_is_acknowledged_before_it_is_taken_nor_before_what_came_before_it() {
        let mut inbound = Inbound::default();
        let first = inbound.came(message("1", ONE), 7, 1).unwrap().serial.unwrap();
        let second = inbound.came(message("2", TWO), 8, 2).unwrap().serial.unwrap();
        inbound.settled(second, Ok(()), at(0));
        assert_eq!(acknowledged(&mut inbound), [0_u8; 0]);
        inbound.settled(first, Ok(()), at(0));
        assert_eq!(acknowledged(&mut inbound), [0x40, 2, 0, 7, 0x50, 2, 0, 8]);
    }

    #[test]
    fn what_is_said_again_after_a_reconnection_is_not_offered_again() {
        let mut inbound = Inbound::default();
        let first = inbound.came(message("1", ONE), 1, 1).unwrap().serial.unwrap();
        let second = inbound.came(message("2", TWO), 2, 2).unwrap().serial.unwrap();
        inbound.settled(second, Ok(()), at(0));
        inbound.connected(true);
        assert!(inbound.came(message("1", ONE), 1, 1).is_none());
        assert!(inbound.came(message("2", TWO), 2, 2).is_none());
        inbound.settled(first, Ok(()), at(0));
        assert_eq!(acknowledged(&mut inbound), [0x40, 2, 0, 1, 0x50, 2, 0, 2]);
        inbound.connected(true);
        assert!(inbound.came(message("2", TWO), 2, 2).is_none(), "not released yet");
        assert_eq!(acknowledged(&mut inbound), [0x50, 2, 0, 2]);
        let mut out = BytesMut::new();
        inbound.released(2, &mut out);
        assert_eq!(&out[..], [0x70, 2, 0, 2]);
        assert!(inbound.came(message("2", TWO), 2, 2).is_some(), "another message with the same words");
        assert!(inbound.came(message("1", ONE), 1, 1).is_some());
    }

    #[test]
    fn a_session_that_is_gone_leaves_no_packet_id_behind_and_what_was_not_taken_is_offered_all_the_same() {
        let mut inbound = Inbound::default();
        let serial = inbound.came(message("1", TWO), 1, 1).unwrap().serial.unwrap();
        inbound.settled(serial, Err(refusal()), at(0));
        inbound.connected(false);
        let offers = inbound.due(at(1));
        assert_eq!(offers.iter().map(|offer| offer.serial).collect::<Vec<_>>(), [Some(serial)]);
        inbound.settled(serial, Ok(()), at(1));
        assert_eq!(acknowledged(&mut inbound), [0_u8; 0], "nobody waits for it");
        inbound.connected(false);
        assert!(inbound.came(message("1", TWO), 1, 1).is_some());
    }

    #[test]
    fn what_comes_behind_a_message_that_was_refused_waits_behind_it() {
        let mut inbound = Inbound::default();
        let first = inbound.came(message("1", ONE), 1, 1).unwrap().serial.unwrap();
        assert_eq!(inbound.settled(first, Err(refusal()), at(0)), Some(refusal()));
        assert!(inbound.came(message("2", ONE), 2, 2).is_none());
        assert!(inbound.due(at(0)).is_empty());
        let offers = inbound.due(at(1));
        let told: Vec<_> = offers.iter().map(|offer| (offer.message.payload[0], offer.before.is_some())).collect();
        assert_eq!(told, [(b'1', true), (b'2', false)]);
        assert_eq!(inbound.settled(first, Err(refusal()), at(1)), None, "told once");
        inbound.settled(1, Ok(()), at(1));
        assert_eq!(acknowledged(&mut inbound), [0_u8; 0]);
        assert_eq!(inbound.due(at(2)).len(), 1);
        inbound.settled(first, Ok(()), at(2));
        assert_eq!(acknowledged(&mut inbound), [0x40, 2, 0, 1, 0x40, 2, 0, 2]);
        assert!(inbound.came(message("3", ONE), 3, 3).is_some(), "all is well again");
    }

    #[test]
    fn what_comes_while_a_refused_message_is_offered_again_waits_behind_it() {
        let mut inbound = Inbound::default();
        inbound.came(message("1", ONE), 1, 1).unwrap();
        inbound.came(message("2", ONE), 2, 2).unwrap();
        inbound.settled(0, Err(refusal()), at(0));
        assert_eq!(inbound.due(at(1)).len(), 1);
        inbound.settled(1, Ok(()), at(1));
        assert!(inbound.came(message("3", ONE), 3, 3).is_none(), "the first may be refused again");
        inbound.settled(0, Ok(()), at(1));
        assert_eq!(inbound.due(at(2)).len(), 1);
        let mut inbound = Inbound::default();
        inbound.came(message("1", ONE), 1, 1).unwrap();
        inbound.settled(0, Err(refusal()), at(0));
        assert_eq!((inbound.due(at(1)).len(), inbound.due(at(2)).len()), (1, 0));
        assert!(inbound.came(message("2", ONE), 2, 2).is_none(), "however long its outcome takes");
    }

    #[test]
    fn a_message_for_nobody_is_acknowledged_in_its_turn() {
        let mut inbound = Inbound::default();
        let first = inbound.came(message("1", ONE), 1, 1).unwrap().serial.unwrap();
        inbound.came_for_nobody(TWO, 2, 2);
        assert_eq!(acknowledged(&mut inbound), [0_u8; 0]);
        inbound.settled(first, Ok(()), at(0));
        assert_eq!(acknowledged(&mut inbound), [0x40, 2, 0, 1, 0x50, 2, 0, 2]);
        inbound.came_for_nobody(TWO, 2, 2);
        assert_eq!(acknowledged(&mut inbound), [0x50, 2, 0, 2]);
    }

    #[test]
    fn a_message_that_comes_again_after_its_handshake_was_over_is_known_on_a_later_connection_alone() {
        let mut inbound = Inbound::default();
        let serial = inbound.came(message("1", TWO), 1, 1).unwrap().serial.unwrap();
        inbound.settled(serial, Ok(()), at(0));
        acknowledged(&mut inbound);
        inbound.released(1, &mut BytesMut::new());
        assert!(!inbound.is_over(1, 1), "the packet id is free, and may be a new message's");
        inbound.connected(true);
        assert!(inbound.is_over(1, 1) && !inbound.is_over(1, 2) && !inbound.is_over(2, 1));
        inbound.connected(true);
        assert!(inbound.is_over(1, 1), "and on any later one");
        inbound.connected(false);
        assert!(!inbound.is_over(1, 1));
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let mut inbound = Inbound::default();
        for number in 0..=EXTERNAL_RECEIVE {
            assert!(inbound.has_room());
            inbound.came(message("x", ONE), number + 1, number.into());
        }
        assert!(!inbound.has_room());
        inbound.settled(0, Ok(()), at(0));
        assert!(inbound.has_room());
    }

    #[test]
    fn properties_take_room_as_payloads_do() {
        let mut inbound = Inbound::default();
        let properties = Properties { correlation_data: Some(vec![0; 60_000].into()), ..Properties::default() };
        let properties = Some(Arc::new(properties));
        let mut taken = 0;
        while inbound.has_room() {
            taken += 1;
            assert!(taken * 60_000 <= EXTERNAL_RECEIVE_BYTES + 60_000, "{taken}");
            let pkid = u16::try_from(taken).unwrap();
            // Past its number, as a broker that does not keep to it sends them.
            inbound.open.clear();
            inbound.came(Message { properties: properties.clone(), ..message("", ONE) }, pkid, pkid.into());
        }
    }
}

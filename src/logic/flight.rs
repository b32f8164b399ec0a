//! Which records are on the wire, under which packet ids, and what an acknowledgement means for them.
//!
//! A mirror of the store's `inflight` table: what it says is made durable by its caller, before the bytes that follow from it leave.

use std::collections::{BTreeMap, BTreeSet};

use super::refusal::{Lasts, lasts};
use crate::model::{Priority, Qos, Seq};

/// How far a handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// PUBLISH sent.
    Publish,
    /// PUBREL sent: the cloud has the message.
    Release,
}

/// A record on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its packet id.
    pub pkid: u16,
    /// The record's class.
    pub priority: Priority,
    /// The record.
    pub seq: Seq,
    /// QoS it goes with.
    pub qos: Qos,
    /// How far it is.
    pub stage: Stage,
    /// Bytes of topic and payload.
    pub bytes: usize,
    /// Its place in the order of sending.
    pub nth: u64,
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The cloud has it: record and packet id go.
    Finished(Claim),
    /// The cloud will never take it (MQTT 5 reason of 0x80 or above): record and packet id go, and someone is told.
    Refused(Claim, u8),
    /// The cloud does not take it now, for a reason that may pass: it is to be said anew. The packet id is free at the cloud
    /// [MQTT-4.3.3-5], and stays the record's.
    Later(Claim, u8),
    /// The cloud says that the packet id is another message's (0x91): its session is not the one we know.
    Mismatch,
    /// PUBREC: the release must be durable before its PUBREL leaves.
    Release(Claim),
    /// A PUBREC for what was released before, or for a packet id that nobody knows: answered with a PUBREL, which ends it.
    ReleaseAgain(u16),
    /// Fits nothing: dropped. Closing for it would be a livelock, since the cloud would say it again.
    Stray,
}

/// Records on the wire.
#[derive(Debug, Default)]
pub struct Flight {
    claims: BTreeMap<u16, Claim>,
    seqs: BTreeSet<Seq>,
    qos2: usize,
    bytes: usize,
    last_pkid: u16,
    last_nth: u64,
}

impl Flight {
    /// Takes over what the store remembers.
    pub fn restore(claims: impl IntoIterator<Item = Claim>) -> Self {
        let mut flight = Self::default();
        for claim in claims {
            flight.insert(claim);
        }
        flight
    }

    /// A packet id that nothing uses, `taken` excepted as well; `None` when there is none left.
    ///
    /// Ids are handed out in turn, not lowest first: a late acknowledgement then meets an id that has been free for long.
    pub fn free_pkid(&mut self, taken: impl Fn(u16) -> bool) -> Option<u16> {
        for _ in 0..u16::MAX {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !self.claims.contains_key(&self.last_pkid) && !taken(self.last_pkid) {
                return Some(self.last_pkid);
            }
        }
        None
    }

    /// Puts a record on the wire.
    pub fn insert(&mut self, claim: Claim) {
        self.qos2 += usize::from(claim.qos == Qos::ExactlyOnce);
        self.bytes += claim.bytes;
        self.last_nth = self.last_nth.max(claim.nth);
        if let Some(before) = self.claims.insert(claim.pkid, claim) {
            self.forget(before);
        }
        self.seqs.insert(claim.seq);
    }

    /// The place of the next in the order of sending.
    pub fn next_nth(&self) -> u64 {
        self.last_nth + 1
    }

    /// Takes a record off the wire as if it had never been on it.
    pub fn remove(&mut self, pkid: u16) {
        if let Some(claim) = self.claims.remove(&pkid) {
            self.forget(claim);
        }
    }

    fn forget(&mut self, claim: Claim) {
        self.qos2 -= usize::from(claim.qos == Qos::ExactlyOnce);
        self.bytes -= claim.bytes;
        self.seqs.remove(&claim.seq);
    }

    fn finish(&mut self, claim: Claim, reason: u8) -> Verdict {
        if reason == PACKET_ID_IN_USE {
            return Verdict::Mismatch;
        }
        if reason >= FAILURE && lasts(reason) != Lasts::Forever {
            return Verdict::Later(claim, reason);
        }
        self.remove(claim.pkid);
        if reason >= FAILURE { Verdict::Refused(claim, reason) } else { Verdict::Finished(claim) }
    }

    /// PUBACK came.
    ///
    /// For a QoS 2 message that MQTT does not allow, but RabbitMQ 3 lowers QoS 2 to QoS 1 so: it has taken the message and will say nothing
    /// more about it. Waiting on would keep the packet id for ever, and with a window of them everything.
    pub fn puback(&mut self, pkid: u16, reason: u8) -> Verdict {
        match self.claims.get(&pkid) {
            Some(claim) if claim.stage == Stage::Publish => self.finish(*claim, reason),
            _ => Verdict::Stray,
        }
    }

    /// PUBREC came.
    pub fn pubrec(&mut self, pkid: u16, reason: u8) -> Verdict {
        match self.claims.get_mut(&pkid) {
            Some(claim) if claim.qos != Qos::ExactlyOnce => Verdict::Stray,
            Some(claim) if claim.stage == Stage::Release => Verdict::ReleaseAgain(pkid),
            Some(claim) if reason >= FAILURE => {
                let claim = *claim;
                self.finish(claim, reason)
            }
            Some(claim) => {
                claim.stage = Stage::Release;
                Verdict::Release(*claim)
            }
            None if reason >= FAILURE => Verdict::Stray,
            None => Verdict::ReleaseAgain(pkid),
        }
    }

    /// PUBCOMP came. Its reason can only be 0x92, packet identifier not found: the cloud has released it before.
    pub fn pubcomp(&mut self, pkid: u16) -> Verdict {
        match self.claims.get(&pkid) {
            Some(claim) if claim.stage == Stage::Release => self.finish(*claim, 0),
            _ => Verdict::Stray,
        }
    }

    /// All that is on the wire, in the order of sending: what has to be said again after a reconnect [MQTT-4.6.0-1].
    pub fn in_order(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = self.claims.values().copied().collect();
        claims.sort_unstable_by_key(|claim| claim.nth);
        claims
    }

    /// The record under this packet id.
    pub fn get(&self, pkid: u16) -> Option<Claim> {
        self.claims.get(&pkid).copied()
    }

    /// Records on the wire.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether nothing is on the wire.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Of those, with QoS 2.
    pub fn qos2(&self) -> usize {
        self.qos2
    }

    /// Bytes of topics and payloads on the wire.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this record is on the wire.
    pub fn holds(&self, seq: Seq) -> bool {
        self.seqs.contains(&seq)
    }
}

/// MQTT 5 reason codes from here on mean failure [MQTT-2.4].
pub const FAILURE: u8 = 0x80;
const PACKET_ID_IN_USE: u8 = 0x91;

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(pkid: u16, qos: Qos, stage: Stage) -> Claim {
        Claim { pkid, seq: Seq(u64::from(pkid) + 100), qos, stage, nth: u64::from(pkid), ..ONE }
    }

    fn flight(claims: &[Claim]) -> Flight {
        Flight::restore(claims.iter().copied())
    }

    const ONE: Claim = Claim {
        pkid: 1,
        priority: Priority::Normal,
        seq: Seq(101),
        qos: Qos::AtLeastOnce,
        stage: Stage::Publish,
        bytes: 10,
        nth: 1,
    };
    const TWO: Claim = Claim { pkid: 2, seq: Seq(102), qos: Qos::ExactlyOnce, nth: 2, ..ONE };

    #[test]
    fn qos_1_ends_with_its_puback() {
        let mut flight = flight(&[ONE]);
        assert_eq!(flight.puback(1, 0x10), Verdict::Finished(ONE), "0x10 is success: no subscriber");
        assert_eq!((flight.len(), flight.bytes()), (0, 0));
    }

    #[test]
    fn qos_2_goes_through_release() {
        let mut flight = flight(&[TWO]);
        let released = Claim { stage: Stage::Release, ..TWO };
        assert_eq!(flight.pubcomp(2), Verdict::Stray, "no PUBCOMP before the PUBREL");
        assert_eq!(flight.pubrec(2, 0), Verdict::Release(released));
        assert_eq!(flight.pubrec(2, 0), Verdict::ReleaseAgain(2));
        assert_eq!(flight.pubcomp(2), Verdict::Finished(released));
        assert_eq!(flight.qos2(), 0);
    }

    #[test]
    fn a_refusal_ends_either_handshake() {
        let mut flight = flight(&[ONE, TWO]);
        assert_eq!(flight.puback(1, 0x87), Verdict::Refused(ONE, 0x87));
        assert_eq!(flight.pubrec(2, 0x90), Verdict::Refused(TWO, 0x90));
        assert!(flight.is_empty());
    }

    #[test]
    fn a_refusal_that_may_pass_leaves_the_record_where_it_is() {
        let mut flight = flight(&[ONE, TWO]);
        assert_eq!(flight.puback(1, 0x97), Verdict::Later(ONE, 0x97));
        assert_eq!(flight.pubrec(2, 0x80), Verdict::Later(TWO, 0x80));
        assert_eq!(flight.in_order(), [ONE, TWO]);
        assert_eq!(flight.puback(1, 0x91), Verdict::Mismatch);
        assert_eq!(flight.pubrec(2, 0), Verdict::Release(Claim { stage: Stage::Release, ..TWO }), "the next try");
    }

    #[test]
    fn a_cloud_that_lowers_qos_2_ends_it_with_a_puback() {
        let mut flight = flight(&[ONE, TWO]);
        assert_eq!(flight.puback(2, 0), Verdict::Finished(TWO));
        assert_eq!((flight.len(), flight.qos2()), (1, 0));
    }

    #[test]
    fn what_fits_nothing_changes_nothing() {
        let released = Claim { pkid: 3, stage: Stage::Release, seq: Seq(103), ..TWO };
        let mut flight = flight(&[ONE, TWO, released]);
        assert_eq!(flight.puback(3, 0), Verdict::Stray, "it was taken as QoS 2 before");
        assert_eq!(flight.puback(9, 0), Verdict::Stray);
        assert_eq!(flight.pubrec(1, 0), Verdict::Stray);
        assert_eq!(flight.pubrec(9, 0), Verdict::ReleaseAgain(9), "the cloud waits for a PUBREL");
        assert_eq!(flight.pubrec(9, 0x92), Verdict::Stray);
        assert_eq!(flight.pubcomp(9), Verdict::Stray);
        assert_eq!(flight.in_order(), [ONE, TWO, released]);
    }

    #[test]
    fn a_packet_id_in_use_is_never_given_out() {
        let mut flight = flight(&[ONE, claim(3, Qos::ExactlyOnce, Stage::Release)]);
        let given: Vec<_> = (0..3).map(|_| flight.free_pkid(|pkid| pkid == 4)).collect();
        assert_eq!(given, [Some(2), Some(5), Some(6)]);
        flight.last_pkid = u16::MAX - 1;
        assert_eq!([flight.free_pkid(|_| false), flight.free_pkid(|_| false)], [Some(u16::MAX), Some(2)]);
        assert_eq!(flight.free_pkid(|_| true), None);
    }

    #[test]
    fn what_is_said_again_follows_the_order_of_sending_not_that_of_packet_ids_or_records() {
        let late = Claim { pkid: 1, seq: Seq(4), nth: 9, ..ONE };
        let early = Claim { pkid: 7, seq: Seq(9), nth: 4, ..TWO };
        let mut flight = flight(&[late, early]);
        assert_eq!((flight.in_order(), flight.next_nth()), (vec![early, late], 10));
        flight.remove(1);
        assert_eq!((flight.holds(Seq(4)), flight.holds(Seq(9)), flight.next_nth()), (false, true, 10));
    }
}

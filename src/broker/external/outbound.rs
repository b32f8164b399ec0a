//! What goes to the broker: from the spool, within the window, acknowledged or said again.
//!
//! All of it is in memory: what was on its way when the gateway was killed may be lost, or arrive twice at QoS 1, as with any publisher that keeps no
//! store. What the broker may hold of such a life under packet ids of QoS 2 is released before those are used: a new message would pass for the old.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use crate::limits::{EXTERNAL_WINDOW, OUT_BYTES};
use crate::logic::spool::Spool;
use crate::model::{Message, Qos};
use crate::mqtt::client::{self, Outgoing, Version};

/// What the broker takes, by its own word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) version: Version,
    pub(super) max_packet: usize,
    pub(super) max_qos: Qos,
    pub(super) retain: bool,
    pub(super) window: usize,
}

/// What was said and is not acknowledged.
#[derive(Debug)]
struct Flying {
    pkid: u16,
    message: Arc<Message>,
    qos: Qos,
    /// The broker has it, and is to release it: PUBREL.
    released: bool,
    /// Said on this connection.
    said: bool,
    /// Said on an earlier one.
    before: bool,
}

/// What became of an acknowledgement.
#[derive(Debug, PartialEq)]
pub(super) enum Acknowledged {
    /// The broker has the message, or it fits nothing.
    Well,
    /// The broker refuses it, with this reason.
    Refused(Arc<Message>, u8),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    flying: VecDeque<Flying>,
    /// Packet ids of QoS 2 that an earlier life of the gateway may have left half done, and whether they were asked to be released here.
    unswept: BTreeSet<u16>,
    swept: bool,
    sweeping: bool,
    last: u16,
    sent: u64,
    too_large: u64,
}

impl Outbound {
    /// A connection stands. Where the session is gone, what flew goes back to wait, and what the gateway keeps said goes before it.
    pub(super) fn connected(&mut self, session_present: bool, is_first: bool, spool: &mut Spool) {
        self.sweeping = false;
        if session_present && !std::mem::replace(&mut self.swept, true) {
            self.unswept = (1..=EXTERNAL_WINDOW).collect();
        }
        self.swept = true;
        if !session_present {
            self.unswept.clear();
            spool.put_back(std::mem::take(&mut self.flying).into_iter().map(|flying| flying.message));
        }
        for flying in &mut self.flying {
            flying.before |= std::mem::take(&mut flying.said);
        }
        if !is_first {
            let flying = &self.flying;
            let kept = spool.kept(|message| flying.iter().any(|flying| Arc::ptr_eq(&flying.message, message)));
            spool.put_back(kept.into_iter());
        }
    }

    /// What flew goes back to wait, but for what the broker has: PUBREC came.
    pub(super) fn give_back(&mut self, spool: &mut Spool) {
        let flown = std::mem::take(&mut self.flying).into_iter().filter(|flying| !flying.released);
        spool.put_back(flown.map(|flying| flying.message));
    }

    /// The next broker is another one: it has nothing of what flew, and may hold packet ids of an earlier life with it.
    pub(super) fn moved(&mut self, spool: &mut Spool) {
        spool.put_back(std::mem::take(&mut self.flying).into_iter().map(|flying| flying.message));
        self.swept = false;
    }

    /// Writes what may be written. `said` is told of each message that is said for the first time.
    pub(super) fn fill(
        &mut self,
        out: &mut BytesMut,
        unsent: usize,
        terms: &Terms,
        spool: &mut Spool,
        mut said: impl FnMut(&Message),
    ) {
        if !std::mem::replace(&mut self.sweeping, true) {
            self.unswept.iter().for_each(|pkid| client::put_pubrel(out, *pkid));
        }
        let room = |out: &BytesMut| unsent + out.len() < OUT_BYTES;
        let window = terms.window.min(EXTERNAL_WINDOW.into());
        // Said again in the order it was said first, before anything new [MQTT-4.6.0-1].
        let mut unanswered = self.flying.iter().filter(|flying| flying.said).count();
        let mut at = 0;
        while unanswered < window
            && let Some(flying) = self.flying.get_mut(at)
        {
            if flying.said {
                at += 1;
                continue;
            }
            if !room(out) {
                return;
            }
            if flying.released {
                client::put_pubrel(out, flying.pkid);
            } else if !put(out, terms, &flying.message, flying.qos, flying.pkid, flying.before) {
                // It takes less than it did.
                self.too_large += 1;
                if flying.qos == Qos::ExactlyOnce {
                    // It may have it from then, and would take the next one under this packet id for it.
                    client::put_pubrel(out, flying.pkid);
                    self.unswept.insert(flying.pkid);
                }
                self.flying.remove(at);
                continue;
            }
            flying.said = true;
            unanswered += 1;
            at += 1;
        }
        while room(out) {
            let Some(first) = spool.first() else { return };
            let qos = first.qos.min(terms.max_qos);
            let must_wait = qos != Qos::AtMostOnce && self.flying.len() >= window;
            if must_wait || (qos == Qos::ExactlyOnce && !self.unswept.is_empty()) {
                return;
            }
            let Some(message) = spool.pop() else { return };
            let pkid = if qos == Qos::AtMostOnce { 0 } else { self.free(qos) };
            if !put(out, terms, &message, qos, pkid, false) {
                self.too_large += 1;
                continue;
            }
            self.sent += 1;
            said(&message);
            if qos != Qos::AtMostOnce {
                self.flying.push_back(Flying { pkid, message, qos, released: false, said: true, before: false });
            }
        }
    }

    /// A packet id that is not in use; those of QoS 2 are the first ones.
    pub(super) fn free(&mut self, qos: Qos) -> u16 {
        let is_used = |pkid: u16| self.flying.iter().any(|flying| flying.pkid == pkid);
        if qos == Qos::ExactlyOnce {
            // There are as many as the window is wide.
            return (1..=EXTERNAL_WINDOW).find(|pkid| !is_used(*pkid)).unwrap_or(EXTERNAL_WINDOW);
        }
        let mut pkid = self.last;
        loop {
            pkid = if pkid <= EXTERNAL_WINDOW || pkid == u16::MAX { EXTERNAL_WINDOW + 1 } else { pkid + 1 };
            if !is_used(pkid) {
                self.last = pkid;
                return pkid;
            }
        }
    }

    /// PUBACK.
    pub(super) fn puback(&mut self, pkid: u16, reason: u8) -> Acknowledged {
        self.end(pkid, reason, |flying| flying.qos == Qos::AtLeastOnce)
    }

    /// PUBREC: the answer is PUBREL, whatever is known of it.
    pub(super) fn pubrec(&mut self, pkid: u16, reason: u8, out: &mut BytesMut) -> Acknowledged {
        if reason >= FAILURE {
            return self.end(pkid, reason, |flying| flying.qos == Qos::ExactlyOnce);
        }
        if let Some(flying) = self.flying.iter_mut().find(|flying| flying.pkid == pkid) {
            flying.released = true;
        }
        client::put_pubrel(out, pkid);
        Acknowledged::Well
    }

    /// PUBCOMP. Of what was not known there (0x92) it says the same: nothing of it is left.
    pub(super) fn pubcomp(&mut self, pkid: u16) {
        if !self.unswept.remove(&pkid) {
            self.end(pkid, 0, |flying| flying.released);
        }
    }

    fn end(&mut self, pkid: u16, reason: u8, fits: impl Fn(&Flying) -> bool) -> Acknowledged {
        let found = self.flying.iter().position(|flying| flying.pkid == pkid && fits(flying));
        match found.and_then(|at| self.flying.remove(at)) {
            Some(flying) if reason >= FAILURE => Acknowledged::Refused(flying.message, reason),
            _ => Acknowledged::Well,
        }
    }

    /// Whether the broker owes an answer.
    pub(super) fn is_owed(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Messages that were said since the start.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages that were larger than the broker takes.
    pub(super) fn too_large(&self) -> u64 {
        self.too_large
    }
}

fn put(out: &mut BytesMut, terms: &Terms, message: &Message, qos: Qos, pkid: u16, dup: bool) -> bool {
    let publish = Outgoing {
        topic: message.topic.as_str(),
        alias: None,
        payload: &message.payload,
        qos,
        retain: message.retain && terms.retain,
        dup,
        pkid,
        properties: message.properties.as_deref(),
    };
    client::put_publish(out, terms.version, &publish, terms.max_packet)
}

/// From here on a reason code is a failure [MQTT-5 §2.4].
const FAILURE: u8 = 0x80;

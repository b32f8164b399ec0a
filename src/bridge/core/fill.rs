//! What goes on the wire next: first what an earlier connection left unfinished, then the next records, as far as the window goes.

use super::turn::Attempt;
use super::{Cause, Core};
use crate::limits::{FLIGHT_BYTES, OUT_BYTES};
use crate::logic::flight::{Claim, Stage};
use crate::model::{Properties, Qos, Timestamp};
use crate::mqtt::client::{self, Outgoing};
use crate::mqtt::properties;
use crate::store::{Dropped, Outbox, Record, StoreError};

impl Core {
    /// Whether the link has something to say that the window has room for.
    pub(super) fn fill_possible(&self, unsent: usize) -> bool {
        let Some(link) = self.link.as_ref().filter(|link| link.is_online() && unsent < OUT_BYTES) else { return false };
        if let Some(claim) = link.resend.front() {
            return self.window.admits(claim.qos, link.said(), link.said_qos2());
        }
        let next = if self.head_is_qos2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
        !self.at_end
            && self.backlog() > 0
            && self.window.admits(next, link.said(), link.said_qos2())
            && self.flight.bytes() < FLIGHT_BYTES
    }

    /// What an earlier connection left unfinished, under its old packet ids, within the cloud's window.
    pub(super) fn say_again(&mut self, outbox: &Outbox, attempt: &mut Attempt) -> Result<(), StoreError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        while let Some(claim) = link.resend.get(attempt.resent).copied() {
            if !self.window.admits(claim.qos, link.said(), link.said_qos2()) || attempt.bytes.len() > FLIGHT_BYTES {
                break;
            }
            attempt.resent += 1;
            // An acknowledgement may have come in before it was said again.
            let Some(claim) = self.flight.get(claim.pkid).filter(|current| current.seq == claim.seq) else { continue };
            match (claim.stage, outbox.record(claim.seq)?) {
                (Stage::Release, _) => client::put_pubrel(&mut attempt.bytes, claim.pkid),
                (Stage::Publish, Some(record)) => {
                    let publish = outgoing(&record, claim.qos, link.retain, true, claim.pkid);
                    let travelling = travelling(&record, None);
                    let publish = Outgoing { properties: travelling.as_ref(), ..publish };
                    if !client::put_publish(&mut attempt.bytes, link.version, &publish, link.max_packet) {
                        attempt.unfit.push(claim);
                        continue;
                    }
                }
                (Stage::Publish, None) => {
                    attempt.unfit.push(claim);
                    continue;
                }
            }
            link.say(claim.pkid, claim.qos);
            attempt.said.push(claim.pkid);
        }
        Ok(())
    }

    /// The next records, as far as the window goes.
    pub(super) fn fill(
        &mut self,
        outbox: &mut Outbox,
        attempt: &mut Attempt,
        wall: Timestamp,
    ) -> Result<(), StoreError> {
        let oldest_ms = self.oldest_ms(wall);
        let Some(link) = &mut self.link else { return Ok(()) };
        if link.resend.len() > attempt.resent {
            return Ok(());
        }
        self.head_is_qos2 = false;
        let room = self.window.total().saturating_sub(link.said());
        let space = FLIGHT_BYTES.saturating_sub(self.flight.bytes());
        if room == 0 || space == 0 {
            return Ok(());
        }
        let records = outbox.after(self.cursor, room, space)?;
        self.at_end = records.is_empty();
        for record in records {
            let stale = stale(&record, wall, oldest_ms);
            if let Some(cause) = stale {
                outbox.remove(record.seq)?;
                attempt.drops.push((cause, one(&record)));
                self.cursor = record.seq;
                continue;
            }
            let qos = record.qos.min(link.max_qos).max(Qos::AtLeastOnce);
            if !self.window.admits(qos, link.said(), link.said_qos2()) {
                self.head_is_qos2 = true;
                break;
            }
            let own = &link.own;
            let Some(pkid) = self.flight.free_pkid(|pkid| own.contains_key(&pkid)) else { break };
            let travelling = travelling(&record, Some(wall));
            let publish = outgoing(&record, qos, link.retain, false, pkid);
            let publish = Outgoing { properties: travelling.as_ref(), ..publish };
            if !client::put_publish(&mut attempt.bytes, link.version, &publish, link.max_packet) {
                outbox.remove(record.seq)?;
                attempt.drops.push((Cause::TooLarge, one(&record)));
                self.cursor = record.seq;
                continue;
            }
            outbox.claim(pkid, record.seq)?;
            self.flight.insert(Claim { pkid, seq: record.seq, qos, stage: Stage::Publish, bytes: record.bytes() });
            link.say(pkid, qos);
            attempt.claimed.push(pkid);
            self.cursor = record.seq;
        }
        Ok(())
    }
}

fn one(record: &Record) -> Dropped {
    let ms = record.accepted.unix_ms;
    Dropped { count: 1, seqs: (record.seq, record.seq), times_ms: (ms, ms) }
}

/// Why a record is not worth sending any more. An age by a clock that was not set is no age.
fn stale(record: &Record, wall: Timestamp, oldest_ms: Option<i64>) -> Option<Cause> {
    if !(wall.synced && record.accepted.synced) {
        return None;
    }
    if oldest_ms.is_some_and(|oldest_ms| record.accepted.unix_ms < oldest_ms) {
        return Some(Cause::Age);
    }
    record.expires_ms.filter(|expires_ms| *expires_ms <= wall.unix_ms).map(|_| Cause::Expired)
}

/// The properties to send, with what is left of the message's life [MQTT-3.3.2-6]. A message said again keeps the life it was first sent with.
fn travelling(record: &Record, wall: Option<Timestamp>) -> Option<Properties> {
    let (found, _) = properties::decode(record.properties.as_deref()?).ok()?;
    let mut travelling = found.message;
    if let (Some(expires_ms), Some(wall)) = (record.expires_ms, wall)
        && wall.synced
        && record.accepted.synced
    {
        let left_s = expires_ms.saturating_sub(wall.unix_ms) / 1_000;
        travelling.expiry_s = Some(u32::try_from(left_s).unwrap_or(1).max(1));
    }
    Some(travelling)
}

fn outgoing(record: &Record, qos: Qos, retain: bool, dup: bool, pkid: u16) -> Outgoing<'_> {
    Outgoing {
        topic: &record.topic,
        payload: &record.payload,
        qos,
        retain: record.retain && retain,
        dup,
        pkid,
        properties: None,
    }
}

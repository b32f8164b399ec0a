//! What goes on the wire next: first what an earlier connection left unfinished, then the next records, as far as the window goes.

use std::time::Duration;

use super::turn::Attempt;
use super::{Cause, Core};
use crate::limits::{FLIGHT_BYTES, OUT_BYTES};
use crate::logic::flight::{Claim, Stage};
use crate::logic::restamp;
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
    pub(super) fn say_again(
        &mut self,
        outbox: &Outbox,
        attempt: &mut Attempt,
        wall: Timestamp,
    ) -> Result<(), StoreError> {
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
                // As it was: what may have been sent is not mended, though the clock may have been set since.
                (Stage::Publish, Some(record)) => {
                    let publish = outgoing(&record, claim.qos, link.retain, true, claim.pkid);
                    let travelling = travelling(&record, None);
                    let publish = Outgoing { properties: travelling.as_ref(), ..publish };
                    if !client::put_publish(&mut attempt.bytes, link.version, &publish, link.max_packet) {
                        attempt.unfit.push((claim, outbox.boots().mended(record.seq, record.accepted)));
                        continue;
                    }
                }
                (Stage::Publish, None) => {
                    attempt.unfit.push((claim, wall));
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
        let age_max = self.settings.outbox.max_age;
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
        for mut record in records {
            let age = outbox.boots().age(record.seq, record.accepted, wall);
            if let Some(cause) = stale(&record, age, age_max) {
                drop_one(outbox, attempt, cause, &record)?;
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
            let mended = true_payload(outbox, &record);
            let is_mended = mended.is_some();
            record.payload = mended.unwrap_or(record.payload);
            let travelling = travelling(&record, age);
            let publish = outgoing(&record, qos, link.retain, false, pkid);
            let publish = Outgoing { properties: travelling.as_ref(), ..publish };
            if !client::put_publish(&mut attempt.bytes, link.version, &publish, link.max_packet) {
                drop_one(outbox, attempt, Cause::TooLarge, &record)?;
                self.cursor = record.seq;
                continue;
            }
            if is_mended {
                outbox.restamp(record.seq, &record.payload)?;
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

fn drop_one(outbox: &mut Outbox, attempt: &mut Attempt, cause: Cause, record: &Record) -> Result<(), StoreError> {
    outbox.remove(record.seq)?;
    let accepted = outbox.boots().mended(record.seq, record.accepted);
    attempt.drops.push((cause, Dropped::one(record.seq, accepted)));
    Ok(())
}

/// The payload of a record that says when it was measured by a clock that was not set, with the time that is known by now.
fn true_payload(outbox: &Outbox, record: &Record) -> Option<Vec<u8>> {
    let time = outbox.boots().mended(record.seq, Timestamp { at: Some(record.stamp?), ..record.accepted });
    if time.synced { restamp::payload(&record.payload, time.unix_ms) } else { None }
}

/// Why a record is not worth sending any more. Where its age is not known it is.
fn stale(record: &Record, age: Option<Duration>, age_max: Option<Duration>) -> Option<Cause> {
    let age = age?;
    if age_max.is_some_and(|age_max| age > age_max) {
        return Some(Cause::Age);
    }
    life(record).filter(|life| *life <= age).map(|_| Cause::Expired)
}

/// How long its publisher wanted it delivered from when it was accepted: two times by one clock, whether that was set or not.
fn life(record: &Record) -> Option<Duration> {
    let life_ms = record.expires_ms?.saturating_sub(record.accepted.unix_ms);
    Some(Duration::from_millis(u64::try_from(life_ms).unwrap_or(0)))
}

/// The properties to send, with what is left of the message's life [MQTT-3.3.2-6]. A message said again keeps the life it was first sent with.
fn travelling(record: &Record, age: Option<Duration>) -> Option<Properties> {
    let (found, _) = properties::decode(record.properties.as_deref()?).ok()?;
    let mut travelling = found.message;
    if let (Some(life), Some(age)) = (life(record), age) {
        travelling.expiry_s = Some(u32::try_from(life.saturating_sub(age).as_secs()).unwrap_or(u32::MAX).max(1));
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

//! What goes on the wire next: first what an earlier connection left unfinished, then the next records, as far as the window goes.

use std::time::Duration;

use super::link::Link;
use super::turn::Attempt;
use super::{Cause, Core};
use crate::bridge::settings::InRule;
use crate::limits::{COMMIT_ROWS_MAX, FLIGHT_BYTES, OUT_BYTES};
use crate::logic::echo::Echoes;
use crate::logic::flight::{Claim, Stage};
use crate::logic::{marks, restamp};
use crate::model::{GatewayId, Moment, Properties, Qos, Timestamp, TopicName};
use crate::mqtt::client::{self, Outgoing};
use crate::mqtt::properties;
use crate::store::{Dropped, Outbox, Record, StoreError};

impl Core {
    /// Whether the link has something to say that the window has room for.
    pub(super) fn fill_possible(&self, unsent: usize) -> bool {
        let online = self.link.as_ref().filter(|link| link.is_online() && unsent < OUT_BYTES && !self.pacing.waits());
        let Some(link) = online else { return false };
        if let Some(claim) = link.resend.front() {
            return !self.held && self.window.admits(claim.qos, link.said(), link.said_qos2());
        }
        let admits = |qos| self.window.admits(qos, link.said(), link.said_qos2());
        !self.held
            && self.lanes.next(admits(Qos::ExactlyOnce)).is_some()
            && (self.backlog() > 0 || !self.is_counted())
            && admits(Qos::AtLeastOnce)
            && self.flight.bytes() < FLIGHT_BYTES
    }

    /// What an earlier connection left unfinished, under its old packet ids, within the cloud's window.
    pub(super) fn say_again(
        &mut self,
        outbox: &Outbox,
        attempt: &mut Attempt,
        now: Moment,
        wall: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(link) = self.link.as_mut().filter(|_| !self.pacing.waits()) else { return Ok(()) };
        while let Some(claim) = link.resend.get(attempt.resent).copied() {
            if !self.window.admits(claim.qos, link.said(), link.said_qos2()) || attempt.bytes.len() > FLIGHT_BYTES {
                break;
            }
            if claim.stage == Stage::Publish && !self.pacing.records.admits(claim.bytes, now) {
                let more = (link.resend.len() - attempt.resent) as u64;
                self.pacing.wait(more, claim.bytes);
                break;
            }
            attempt.resent += 1;
            // An acknowledgement may have come in before it was said again.
            let Some(claim) = self.flight.get(claim.pkid).filter(|current| current.seq == claim.seq) else { continue };
            match (claim.stage, outbox.record(claim.priority, claim.seq)?) {
                (Stage::Release, _) => client::put_pubrel(&mut attempt.bytes, claim.pkid),
                // As it was: what may have been sent is not mended, though the clock may have been set since.
                (Stage::Publish, Some(record)) => {
                    let dup = link.may_hold(claim.pkid);
                    let publish = outgoing(&record, claim.qos, link.retain, dup, claim.pkid);
                    // One whose life is over is said all the same: the cloud may be half through with it.
                    let travelling = travelling(&record, outbox.boots().age(record.seq, record.accepted, wall));
                    let travelling = marked(&record, travelling, self.settings.gateway.as_str(), &self.store_id);
                    let publish = Outgoing { properties: Some(&travelling), ..publish };
                    let fits = record.payload.len() <= self.settings.limits.max_payload;
                    // With its topic: ejabberd 23.01 learns no alias from a message that it holds already, and then ends the connection over it.
                    if !fits || !client::put_publish(&mut attempt.bytes, link.version, &publish, link.max_packet) {
                        attempt.unfit.push(claim);
                        continue;
                    }
                    // One that the cloud may have had before comes back for the first time it was said.
                    if !dup {
                        note_echo(attempt, link, self.peer.as_ref(), &self.settings.inward, &record);
                    }
                }
                (Stage::Publish, None) => {
                    attempt.unfit.push(claim);
                    continue;
                }
            }
            if claim.stage == Stage::Publish {
                self.pacing.records.take(claim.bytes, now);
            }
            if link.say(claim.pkid, claim.qos) {
                attempt.anew.push(claim.pkid);
            }
            attempt.said.push(claim.pkid);
        }
        Ok(())
    }

    /// The next records, as far as the window goes, lane by lane.
    pub(super) fn fill(
        &mut self,
        outbox: &mut Outbox,
        attempt: &mut Attempt,
        now: Moment,
        wall: Timestamp,
    ) -> Result<(), StoreError> {
        if self.pacing.waits() || self.link.as_ref().is_none_or(|link| link.resend.len() > attempt.resent) {
            return Ok(());
        }
        let mut read = 0;
        while read < COMMIT_ROWS_MAX {
            let Some(link) = &self.link else { break };
            let room = self.window.total().saturating_sub(link.said()).min(COMMIT_ROWS_MAX - read);
            let space = FLIGHT_BYTES.saturating_sub(self.flight.bytes());
            let qos2 = self.window.admits(Qos::ExactlyOnce, link.said(), link.said_qos2());
            let Some(look) = self.lanes.next(qos2).filter(|_| room > 0 && space > 0) else { break };
            let records = outbox.between(look.priority, (look.after, look.before), room, space)?;
            if records.is_empty() {
                self.lanes.ended(look);
            }
            for record in records {
                read += 1;
                let seq = record.seq;
                // A lane that was begun anew meets what an earlier connection left unfinished: that was said again.
                let goes = self.flight.holds(seq) || self.put(outbox, attempt, now, wall, record)?;
                if self.pacing.waits() || (!goes && outbox.log_left() == 0) {
                    return Ok(());
                }
                if !goes {
                    self.lanes.held(look);
                    break;
                }
                self.lanes.passed(look, seq);
            }
        }
        Ok(())
    }

    /// Puts a record on the wire, or removes it if it is not to go there. False: the window has no room for it, the pace has none yet, or the
    /// transaction.
    fn put(
        &mut self,
        outbox: &mut Outbox,
        attempt: &mut Attempt,
        now: Moment,
        wall: Timestamp,
        mut record: Record,
    ) -> Result<bool, StoreError> {
        let backlog = outbox.count().saturating_sub(self.flight.len() as u64);
        let Some(link) = &mut self.link else { return Ok(false) };
        let age = outbox.boots().age(record.seq, record.accepted, wall);
        // Taken in before it was known that it would go back to where it came from.
        let travelling = travelling(&record, age);
        if let Some(peer) = &self.peer
            && marks::went_through(travelling.as_ref(), peer.as_str())
        {
            return drop_one(outbox, attempt, Cause::Circle, &record);
        }
        if let Some(cause) = stale(&record, age, self.caps.age_max(record.rule, self.settings.outbox.max_age)) {
            return drop_one(outbox, attempt, cause, &record);
        }
        let qos = record.qos.min(link.max_qos).max(Qos::AtLeastOnce);
        if !self.window.admits(qos, link.said(), link.said_qos2()) {
            return Ok(false);
        }
        if !self.pacing.records.admits(record.bytes(), now) {
            self.pacing.wait(backlog, record.bytes());
            return Ok(false);
        }
        let own = &link.own;
        let Some(pkid) = self.flight.free_pkid(|pkid| own.contains_key(&pkid)) else { return Ok(false) };
        let mended = true_payload(outbox, &record);
        let is_mended = mended.is_some();
        if is_mended && outbox.log_left() == 0 {
            return Ok(false);
        }
        record.payload = mended.unwrap_or(record.payload);
        let travelling = marked(&record, travelling, self.settings.gateway.as_str(), &self.store_id);
        let publish = outgoing(&record, qos, link.retain, false, pkid);
        let publish = Outgoing { properties: Some(&travelling), ..publish };
        let fits = record.payload.len() <= self.settings.limits.max_payload;
        if !fits || !link.aliases.put(&mut attempt.bytes, link.version, &publish, link.max_packet) {
            if outbox.log_left() == 0 {
                return Ok(false);
            }
            self.bury(outbox, attempt, (record.priority, record.seq), Cause::TooLarge, wall)?;
            return Ok(true);
        }
        note_echo(attempt, link, self.peer.as_ref(), &self.settings.inward, &record);
        let Record { priority, seq, .. } = record;
        let nth = self.flight.next_nth();
        let claim = Claim { pkid, priority, seq, qos, stage: Stage::Publish, bytes: record.bytes(), nth };
        outbox.claim(&claim)?;
        if is_mended {
            outbox.restamp(priority, seq, &record.payload)?;
        }
        self.flight.insert(claim);
        link.say(pkid, qos);
        self.pacing.records.take(claim.bytes, now);
        attempt.claimed.push(pkid);
        Ok(true)
    }
}

fn note_echo(attempt: &mut Attempt, link: &Link, peer: Option<&GatewayId>, inward: &[InRule], record: &Record) {
    if peer.is_none() && TopicName::parse(&record.topic).is_ok_and(|topic| link.comes_back(inward, &topic)) {
        attempt.echoes.push(Echoes::mark(&record.topic, &record.payload));
    }
}

/// False: the transaction has no room for it.
fn drop_one(outbox: &mut Outbox, attempt: &mut Attempt, cause: Cause, record: &Record) -> Result<bool, StoreError> {
    if outbox.log_left() == 0 {
        return Ok(false);
    }
    outbox.remove(record.priority, record.seq)?;
    let accepted = outbox.boots().mended(record.seq, record.accepted);
    attempt.drops.push((cause, Dropped::one(record.seq, accepted)));
    Ok(true)
}

/// The payload of a record that says when it was measured by a clock that was not set, with the time that is known by now.
fn true_payload(outbox: &Outbox, record: &Record) -> Option<Vec<u8>> {
    let time = outbox.boots().mended(record.seq, Timestamp { at: Some(record.stamp?), ..record.accepted });
    if time.synced { restamp::payload(&record.payload, time.unix_ms) } else { None }
}

/// Why a record is not worth sending any more. Where its age is not known it is.
fn stale(record: &Record, age: Option<Duration>, (age_max, cause): (Option<Duration>, Cause)) -> Option<Cause> {
    let age = age?;
    if age_max.is_some_and(|age_max| age > age_max) {
        return Some(cause);
    }
    life(record).filter(|life| *life <= age).map(|_| Cause::Expired)
}

/// How long its publisher wanted it delivered from when it was accepted: two times by one clock, whether that was set or not.
fn life(record: &Record) -> Option<Duration> {
    let life_ms = record.expires_ms?.saturating_sub(record.accepted.unix_ms);
    Some(Duration::from_millis(u64::try_from(life_ms).unwrap_or(0)))
}

/// The properties to send, with the marks of this gateway.
fn marked(record: &Record, travelling: Option<Properties>, gateway: &str, store_id: &str) -> Properties {
    let id = format!("{store_id}-{}", record.seq.0);
    marks::put(travelling.unwrap_or_default(), gateway, Some(&id))
}

/// The properties to send, with what is left of the message's life [MQTT-3.3.2-6].
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
        alias: None,
        payload: &record.payload,
        qos,
        retain: record.retain && retain,
        dup,
        pkid,
        properties: None,
    }
}

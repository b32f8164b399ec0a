//! The transaction of a turn, and what may be said after it.

use bytes::BytesMut;

use super::incoming::Close;
use super::link::Phase;
use super::{Cause, Core, Turn};
use crate::limits::{
    ACKNOWLEDGED_LINGER, AGE_SWEEP, COMMIT_ROWS_MAX, DROP_ROUNDS, DROP_ROWS, GATHER, OUT_BYTES, SHRINK_PAGES,
    SHRINK_PAUSE, SIZE_CHECK_ROWS,
};
use crate::logic::flight::Claim;
use crate::logic::keepalive::Due;
use crate::model::{Moment, Seq, Timestamp};
use crate::mqtt::client::{self};
use crate::mqtt::properties;
use crate::store::{Dropped, NewRecord, Outbox, StoreError, Waiting};

/// What a transaction did in memory beside the file, to be kept when it commits and undone when it does not.
pub(super) struct Attempt {
    pub(super) cursor: Seq,
    pub(super) claimed: Vec<u16>,
    pub(super) resent: usize,
    pub(super) said: Vec<u16>,
    /// Refused by our own checks while the window was filled.
    pub(super) unfit: Vec<(Claim, Timestamp)>,
    pub(super) bytes: BytesMut,
    pushed: usize,
    pub(super) drops: Vec<(Cause, Dropped)>,
    swept: bool,
}

impl Core {
    /// Commits what has to be, and returns what may leave. `unsent` are the bytes of earlier turns that the socket has not taken yet.
    pub(in crate::bridge) fn turn(&mut self, now: Moment, wall: Timestamp, unsent: usize) -> Turn {
        let mut turn = Turn::default();
        if !self.finished.is_empty() {
            self.finished_since.get_or_insert(now);
        }
        self.clock_news = self.outbox.as_ref().is_some_and(|outbox| outbox.boots().has_news(wall));
        self.gather_since = self.link_work(unsent).then(|| self.gather_since.unwrap_or(now));
        if self.commit_wanted(now, unsent) && self.may_try(now) {
            self.commit(now, wall, unsent);
        }
        if !self.must_commit && self.releases.is_empty() {
            if self.link.as_ref().is_some_and(|link| matches!(link.phase, Phase::Welcomed(_))) {
                turn.close = self.go_online();
            }
            if let Some(link) = &mut self.link {
                turn.bytes = link.replies.split();
                turn.publish.append(&mut link.deliver);
            }
            if self.left {
                turn.close = Some(Close::Left);
            }
        }
        self.ask_for_life(now, unsent, &mut turn);
        self.give_space_back(now);
        if self.new_store {
            self.new_store = false;
            turn.close = Some(Close::NewStore);
        }
        let online = self.is_online();
        let (bridge, topic) = (self.settings.id.as_str(), &self.settings.event_topic);
        self.publish.extend(self.drops.tell(bridge, topic, online, now, wall));
        turn.publish.append(&mut self.publish);
        turn
    }

    /// Whether another turn would find something to do at once.
    pub(in crate::bridge) fn has_more(&self, now: Moment, unsent: usize) -> bool {
        self.commit_wanted(now, unsent) && self.may_try(now)
    }

    /// A store that was large and is so no more gives its space back, a piece at a time, when nobody waits.
    fn give_space_back(&mut self, now: Moment) {
        if self.shrink_at.is_none_or(|at| now < at) {
            return;
        }
        let idle = self.waiting.is_empty() && self.fault.is_none() && !self.must_commit;
        let shrunk = idle && self.outbox.as_ref().is_some_and(|outbox| outbox.shrink(SHRINK_PAGES).unwrap_or(false));
        self.shrink_at = (shrunk || !idle).then(|| now + SHRINK_PAUSE);
    }

    /// A PINGREQ may wait behind a large message for longer than its answer may take. A socket that takes nothing at all is found by
    /// [`crate::limits::WRITE_STALL`].
    fn ask_for_life(&mut self, now: Moment, unsent: usize, turn: &mut Turn) {
        let Some(link) = &mut self.link else { return };
        if unsent > link.after_ping {
            link.keep_alive.not_asked_yet(now);
        }
        link.after_ping = link.after_ping.saturating_add(turn.bytes.len());
        match link.keep_alive.due(now) {
            Due::Nothing => {}
            Due::Ping if link.phase == Phase::Greeting => {}
            Due::Ping => {
                client::put_pingreq(&mut turn.bytes);
                link.keep_alive.asked(now);
                link.after_ping = 0;
            }
            Due::Dead => turn.close = Some(Close::Silent),
        }
    }

    fn may_try(&self, now: Moment) -> bool {
        self.fault.as_ref().is_none_or(|fault| !fault.stuck || now >= fault.retry_at)
    }

    fn commit_wanted(&self, now: Moment, unsent: usize) -> bool {
        let retry = self.fault.as_ref().is_some_and(|fault| now >= fault.retry_at);
        self.must_commit
            || retry
            || (self.fault.is_none() && (self.intake_due(now) || self.clock_news))
            || self.finished_since.is_some_and(|since| now >= since + ACKNOWLEDGED_LINGER)
            || self.sweep_due(now)
            || (self.link_work(unsent) && self.gathered(now))
    }

    fn link_work(&self, unsent: usize) -> bool {
        !self.releases.is_empty() || self.fill_possible(unsent)
    }

    /// Whether the link's work is worth a commit: the acknowledgements of one window come in a burst, and a commit for the first of them
    /// would make the others wait for its fsync, and then for their own.
    fn gathered(&self, now: Moment) -> bool {
        let Some(link) = &self.link else { return true };
        let room = self.window.total().saturating_sub(link.said());
        let awaited = link.said().saturating_sub(self.releases.len());
        awaited == 0
            || room + self.releases.len() >= self.window.total() / 4
            || self.gather_since.is_none_or(|since| now >= since + GATHER)
    }

    fn sweep_due(&self, now: Moment) -> bool {
        self.settings.outbox.max_age.is_some() && now >= self.sweep_at
    }

    fn commit(&mut self, now: Moment, wall: Timestamp, unsent: usize) {
        let with_intake = self.fault.as_ref().is_none_or(|fault| now >= fault.retry_at);
        if !self.reopen(now, wall) {
            return;
        }
        let mut attempt = Attempt {
            cursor: self.cursor,
            claimed: Vec::new(),
            resent: 0,
            said: Vec::new(),
            unfit: Vec::new(),
            bytes: BytesMut::new(),
            pushed: 0,
            drops: Vec::new(),
            swept: false,
        };
        let Some(mut outbox) = self.outbox.take() else { return };
        let outcome = self.transaction(&mut outbox, &mut attempt, now, wall, unsent, with_intake);
        if outcome.is_err() {
            outbox.rollback();
        }
        self.outbox = Some(outbox);
        match outcome {
            Ok(()) => self.committed(attempt, now, with_intake),
            Err(error) => {
                self.undo(&attempt);
                self.failed(&error, now, wall, with_intake);
            }
        }
    }

    fn transaction(
        &mut self,
        outbox: &mut Outbox,
        attempt: &mut Attempt,
        now: Moment,
        wall: Timestamp,
        unsent: usize,
        with_intake: bool,
    ) -> Result<(), StoreError> {
        outbox.begin()?;
        outbox.learn(wall)?;
        // Deletions first: what follows may use their packet ids.
        for claim in &self.finished {
            outbox.finish(claim.pkid, claim.seq)?;
        }
        if self.forget {
            outbox.forget_session()?;
        }
        for pkid in &self.releases {
            outbox.release(*pkid)?;
        }
        for (pkid, noted) in &self.down_notes {
            if *noted { outbox.note_received(*pkid)? } else { outbox.note_released(*pkid)? }
        }
        for (key, text) in &self.notes {
            outbox.set_meta(key, text)?;
        }
        if with_intake {
            self.push_waiting(outbox, attempt)?;
            self.keep_within_caps(outbox, attempt)?;
        }
        if self.sweep_due(now) {
            attempt.swept = true;
            attempt.drops.push((Cause::Age, self.drop_aged(outbox, wall)?));
        }
        if unsent < OUT_BYTES && self.link.as_ref().is_some_and(super::link::Link::is_online) {
            self.say_again(outbox, attempt, wall)?;
            self.fill(outbox, attempt, wall)?;
        }
        outbox.commit()
    }

    fn push_waiting(&self, outbox: &mut Outbox, attempt: &mut Attempt) -> Result<(), StoreError> {
        for offered in self.waiting.iter().take(COMMIT_ROWS_MAX) {
            let travelling = offered.message.properties.as_deref();
            let block = travelling.map(properties::to_block);
            let life_ms = travelling.and_then(|travelling| travelling.expiry_s).map(|life_s| i64::from(life_s) * 1_000);
            outbox.push(NewRecord {
                topic: offered.topic.as_str(),
                payload: &offered.message.payload,
                qos: offered.qos,
                retain: offered.retain,
                accepted: offered.at,
                expires_ms: life_ms.map(|life_ms| offered.at.unix_ms.saturating_add(life_ms)),
                properties: block.as_deref(),
                stamp: offered.message.stamp,
            })?;
            attempt.pushed += 1;
        }
        Ok(())
    }

    /// Drops the oldest until the caps are kept, a bounded part of it in one turn.
    fn keep_within_caps(&mut self, outbox: &mut Outbox, attempt: &mut Attempt) -> Result<(), StoreError> {
        let limits = &self.settings.outbox;
        let share = usize::try_from(limits.max_messages / 16).unwrap_or(usize::MAX).clamp(1, DROP_ROWS);
        let excess = usize::try_from(outbox.count().saturating_sub(limits.max_messages)).unwrap_or(usize::MAX);
        if excess > 0 {
            attempt.drops.push((Cause::StoreFull, drop_oldest(outbox, excess.max(share))?));
        }
        if self.rows_since_check + attempt.pushed < SIZE_CHECK_ROWS {
            return Ok(());
        }
        for _ in 0..DROP_ROUNDS {
            let (bytes, count) = (outbox.bytes()?, outbox.count());
            if bytes <= limits.max_bytes || count == 0 {
                break;
            }
            // Large records: no more of them than brings the file below its cap; small ones: enough to be worth the transaction.
            let row = (bytes / count).max(1);
            let excess = usize::try_from((bytes - limits.max_bytes) / row + 1).unwrap_or(DROP_ROWS);
            let share = usize::try_from(count / 16).unwrap_or(DROP_ROWS).clamp(1, DROP_ROWS);
            let dropped = drop_oldest(outbox, excess.min(DROP_ROWS).max(share))?;
            if dropped.count == 0 {
                break;
            }
            attempt.drops.push((Cause::StoreFull, dropped));
        }
        Ok(())
    }

    /// Of the oldest records, those that are older than they may be.
    fn drop_aged(&self, outbox: &mut Outbox, wall: Timestamp) -> Result<Dropped, StoreError> {
        let Some(age_max) = self.settings.outbox.max_age else { return Ok(Dropped::default()) };
        let mut rows = outbox.waiting(DROP_ROWS)?;
        rows.retain(|row| outbox.boots().age(row.seq, row.accepted, wall).is_some_and(|age| age > age_max));
        drop_all(outbox, &rows)
    }

    fn committed(&mut self, attempt: Attempt, now: Moment, with_intake: bool) {
        if !(self.finished.is_empty() && attempt.drops.is_empty()) {
            self.shrink_at.get_or_insert(now + SHRINK_PAUSE);
        }
        self.finished.clear();
        self.finished_since = None;
        self.forget = false;
        self.releases.clear();
        self.down_notes.clear();
        self.notes.clear();
        self.must_commit = false;
        self.clock_news = false;
        self.gather_since = None;
        self.at_end &= attempt.pushed == 0;
        for offered in self.waiting.drain(..attempt.pushed) {
            if let Some(answer) = offered.answer {
                self.waiting_answers -= 1;
                // Whoever asked may have gone; the record stays.
                let _ = answer.send(Ok(()));
            }
        }
        self.waiting_since = (!self.waiting.is_empty()).then_some(now);
        self.rows_since_check = if self.rows_since_check + attempt.pushed >= SIZE_CHECK_ROWS {
            0
        } else {
            self.rows_since_check + attempt.pushed
        };
        let mut swept = 0;
        for (cause, dropped) in attempt.drops {
            swept += if cause == Cause::Age { dropped.count } else { 0 };
            self.drops.add(cause, dropped);
        }
        if attempt.swept && swept < DROP_ROWS as u64 {
            self.sweep_at = now + AGE_SWEEP;
        }
        if let Some(link) = &mut self.link {
            link.resend.drain(..attempt.resent);
            link.replies.extend_from_slice(&attempt.bytes);
        }
        for (claim, accepted) in attempt.unfit {
            self.flight.remove(claim.pkid);
            self.drops.add_record(Cause::TooLarge, claim.seq, accepted);
            self.end(claim);
        }
        if with_intake && let Some(fault) = self.fault.take() {
            tracing::info!(bridge = self.settings.id.as_str(), reason = fault.reason, "the store can be written again");
        }
    }

    fn undo(&mut self, attempt: &Attempt) {
        self.cursor = attempt.cursor;
        self.at_end = false;
        for pkid in &attempt.claimed {
            self.flight.remove(*pkid);
        }
        if let Some(link) = &mut self.link {
            for pkid in attempt.claimed.iter().chain(&attempt.said) {
                link.unsay(*pkid);
            }
        }
    }
}

/// Drops the oldest that are not in flight, at most `limit`, in pieces that fit into memory.
fn drop_oldest(outbox: &mut Outbox, limit: usize) -> Result<Dropped, StoreError> {
    let mut dropped = Dropped::default();
    let mut left = limit;
    while left > 0 {
        let rows = outbox.waiting(left.min(DROP_ROWS))?;
        if rows.is_empty() {
            break;
        }
        left -= rows.len();
        dropped = dropped.and(drop_all(outbox, &rows)?);
    }
    Ok(dropped)
}

fn drop_all(outbox: &mut Outbox, rows: &[Waiting]) -> Result<Dropped, StoreError> {
    let mut dropped = Dropped::default();
    for row in rows {
        outbox.remove(row.seq)?;
        dropped = dropped.and(Dropped::one(row.seq, outbox.boots().mended(row.seq, row.accepted)));
    }
    Ok(dropped)
}

//! The transaction of a turn, and what may be said after it.

use bytes::BytesMut;

use super::exchanges::Noted;
use super::incoming::Close;
use super::link::Phase;
use super::{Cause, Core, Turn};
use crate::limits::{
    ACKNOWLEDGED_LINGER, AGE_SWEEP, DROP_ROWS, GATHER, LOOK_ROWS, OUT_BYTES, SHRINK_PAGES, SHRINK_PAUSE,
};
use crate::logic::flight::Claim;
use crate::logic::keepalive::Due;
use crate::logic::lanes::Lanes;
use crate::logic::pace::Pace;
use crate::model::{Moment, Timestamp};
use crate::mqtt::client::{self};
use crate::store::{Condition, Dropped, Outbox, StoreError};

/// What a transaction did in memory beside the file, to be kept when it commits and undone when it does not.
pub(super) struct Attempt {
    pub(super) lanes: Lanes,
    pub(super) claimed: Vec<u16>,
    pub(super) resent: usize,
    pub(super) said: Vec<u16>,
    /// Topic aliases that were given out before.
    aliases: usize,
    /// Of those, what was to be said as new.
    pub(super) anew: Vec<u16>,
    /// What a 3.1.1 cloud will send back of what is said.
    pub(super) echoes: Vec<u64>,
    /// Refused by our own checks while the window was filled.
    pub(super) unfit: Vec<Claim>,
    pub(super) bytes: BytesMut,
    /// Of those that waited: taken, and stored.
    pub(super) taken: usize,
    pub(super) pushed: usize,
    /// The store had no room for a message of so many bytes, and what waits is to wait.
    pub(super) blocked: Option<u64>,
    /// What waits is to come in with the next turn.
    pub(super) is_behind: bool,
    /// The file became shorter, for what waits.
    pub(super) shortened: bool,
    /// Ended handshakes whose records went, and those whose records became dead letters.
    finished: usize,
    pub(super) buried: usize,
    /// Records that may yet be looked at for what may go.
    pub(super) looks: usize,
    pub(super) drops: Vec<(Cause, Dropped)>,
    /// Of messages that are half handed over to us.
    pub(super) noted: Noted,
    swept: bool,
    pace: Pace,
}

impl Core {
    /// Commits what has to be, and returns what may leave. `unsent` are the bytes of earlier turns that the socket has not taken yet.
    pub(in crate::bridge) fn turn(&mut self, now: Moment, wall: Timestamp, unsent: usize) -> Turn {
        let mut turn = Turn::default();
        if self.ended() > 0 {
            self.finished_since.get_or_insert(now);
        }
        self.pacing.look(now);
        self.flush_when_due(now, wall);
        self.tally_on(now, wall);
        self.unblock_when_there_is_room(wall);
        self.clock_news = self.outbox.as_ref().is_some_and(|outbox| outbox.boots().has_news(wall));
        self.hold(now, wall);
        self.gather_since = self.link_work(unsent).then(|| self.gather_since.unwrap_or(now));
        if self.commit_wanted(now, unsent) && self.may_try(now) {
            self.commit(now, wall, unsent);
        }
        self.exchanges.begun();
        self.salvage(now, wall);
        if let Some(link) = &mut self.link {
            turn.bytes = link.unstored.split();
        }
        if !self.must_commit && self.releases.is_empty() {
            if self.link.as_ref().is_some_and(|link| link.phase == Phase::Welcomed) {
                turn.close = self.go_online(now);
            }
            if let Some(link) = &mut self.link {
                turn.bytes.unsplit(link.replies.split());
                turn.publish.append(&mut link.deliver);
            }
            if self.left {
                turn.close = Some(Close::Left);
            }
        }
        self.ask_for_life(now, unsent, &mut turn);
        self.count_on(now);
        self.renew(now, &mut turn);
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
        (self.commit_wanted(now, unsent) && self.may_try(now)) || self.salvages() || self.is_tallying()
    }

    /// A store that was large and is so no more gives its space back, a piece at a time, when nobody waits, or when what waits does so because
    /// the disk is full: it may be this store that fills it.
    fn give_space_back(&mut self, now: Moment) {
        if self.shrink_at.is_none_or(|at| now < at) {
            return;
        }
        let is_full = self.fault.as_ref().is_some_and(|fault| fault.condition == Condition::Full);
        let idle = !self.must_commit && (is_full || (self.waiting.is_empty() && self.fault.is_none()));
        let shrunk =
            idle && self.outbox.as_ref().is_some_and(|outbox| outbox.shrink(SHRINK_PAGES, is_full).unwrap_or(false));
        self.shrink_at = (shrunk || !idle || is_full).then(|| now + SHRINK_PAUSE);
    }

    /// A PINGREQ may wait behind a large message for longer than its answer may take. A socket that takes nothing at all is found by
    /// [`crate::limits::WRITE_STALL`].
    fn ask_for_life(&mut self, now: Moment, unsent: usize, turn: &mut Turn) {
        let listens = self.listens();
        let Some(link) = &mut self.link else { return };
        if !listens {
            // It may well have answered. A dead one is found by TCP, which has our pings to say.
            link.keep_alive.received(now);
        }
        if unsent > link.after_ping {
            link.keep_alive.not_asked_yet(now);
        }
        link.after_ping = link.after_ping.saturating_add(turn.bytes.len());
        let owed = link.awaits();
        link.keep_alive.awaits(owed, now);
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
            || self.exchanges.is_due(now)
            || (self.fault.is_none() && (self.caps.behind || self.makes_room()))
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
        self.sweeps() && now >= self.sweep_at
    }

    fn commit(&mut self, now: Moment, wall: Timestamp, unsent: usize) {
        let mut with_intake = self.fault.as_ref().is_none_or(|fault| now >= fault.retry_at);
        if with_intake && let Err(error) = self.fit_for_intake(now) {
            self.failed(&error, now, wall, true);
            with_intake = false;
        }
        // Nothing goes out on a connection that an earlier store has spoken on: it ends with this turn.
        if !self.reopen(now, wall) || self.new_store {
            return;
        }
        let mut attempt = Attempt {
            lanes: self.lanes,
            claimed: Vec::new(),
            resent: 0,
            said: Vec::new(),
            aliases: self.link.as_ref().map_or(0, |link| link.aliases.given()),
            anew: Vec::new(),
            echoes: Vec::new(),
            unfit: Vec::new(),
            bytes: BytesMut::new(),
            taken: 0,
            pushed: 0,
            blocked: None,
            is_behind: false,
            shortened: false,
            finished: 0,
            buried: 0,
            looks: LOOK_ROWS,
            drops: Vec::new(),
            noted: Noted::default(),
            swept: false,
            pace: self.pacing.records,
        };
        let Some(mut outbox) = self.outbox.take() else { return };
        let outcome = self.transaction(&mut outbox, &mut attempt, now, wall, unsent, with_intake);
        if outcome.is_err() {
            outbox.rollback();
        }
        self.outbox = Some(outbox);
        match outcome {
            Ok(()) => self.committed(attempt, now, wall, with_intake),
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
        self.exchanges.write_first(outbox, &mut attempt.noted)?;
        // Deletions first: what follows may use their packet ids.
        for claim in &self.finished {
            // What comes in has its share, however much goes.
            if outbox.log_left() <= outbox.intake_max() {
                break;
            }
            attempt.finished += 1;
            outbox.finish(claim.pkid, claim.priority, claim.seq)?;
        }
        self.bury_refused(outbox, attempt, wall)?;
        if self.forget {
            outbox.forget_session()?;
        }
        for pkid in &self.releases {
            outbox.release(*pkid)?;
        }
        for pkid in &self.unreleases {
            outbox.unrelease(*pkid)?;
        }
        for (pkid, noted) in &self.down_notes {
            if *noted { outbox.note_received(*pkid)? } else { outbox.note_released(*pkid)? }
        }
        for (key, text) in &self.notes {
            outbox.set_meta(key, text)?;
        }
        if with_intake {
            self.take_in(outbox, attempt)?;
            if attempt.taken == self.waiting.len() {
                self.exchanges.write_last(outbox, &mut attempt.noted)?;
            }
            self.keep_within_caps(outbox, attempt)?;
        }
        if self.sweep_due(now) {
            attempt.drops.push((Cause::Age, self.drop_aged(outbox, wall)?));
            attempt.swept = self.drop_aged_of_rules(outbox, attempt, wall)?;
        }
        let all_ended = attempt.finished + attempt.buried == self.ended();
        if all_ended && unsent < OUT_BYTES && !self.held && self.link.as_ref().is_some_and(super::link::Link::is_online)
        {
            self.say_again(outbox, attempt, now, wall)?;
            self.fill(outbox, attempt, now, wall)?;
        }
        outbox.commit()
    }

    fn committed(&mut self, attempt: Attempt, now: Moment, wall: Timestamp, with_intake: bool) {
        self.store.commits += 1;
        if !self.finished.is_empty() || attempt.drops.iter().any(|(_, dropped)| dropped.count > 0) {
            self.shrink_at.get_or_insert(now + SHRINK_PAUSE);
        }
        self.finished.drain(..attempt.finished);
        self.refused.drain(..attempt.buried);
        self.finished_since = None;
        self.forget = false;
        self.releases.clear();
        self.unreleases.clear();
        self.down_notes.clear();
        self.notes.clear();
        // What one commit had no room for goes with the next one.
        self.must_commit = self.ended() > 0;
        self.clock_news = false;
        self.gather_since = None;
        for offered in self.waiting.drain(..attempt.taken) {
            if let Some(answer) = offered.answer {
                self.waiting_answers -= 1;
                // Whoever asked may have gone; the record stays.
                let _ = answer.send(Ok(()));
            }
        }
        self.waiting_since = (!self.waiting.is_empty()).then_some(if attempt.is_behind { Moment::ZERO } else { now });
        let mut swept = 0;
        for (cause, dropped) in attempt.drops {
            swept += if cause == Cause::Age { dropped.count } else { 0 };
            self.drops.add(cause, dropped);
        }
        if attempt.swept && swept < DROP_ROWS as u64 {
            self.sweep_at = now + AGE_SWEEP;
        }
        for mark in attempt.echoes {
            self.echoes.sent(mark, now);
        }
        if let Some(link) = &mut self.link {
            link.resend.drain(..attempt.resent);
            link.replies.extend_from_slice(&attempt.bytes);
        }
        for claim in attempt.unfit {
            self.flight.remove(claim.pkid);
            self.end_as_dead(claim, Cause::TooLarge);
        }
        self.committed_exchanges(attempt.noted);
        self.committed_caps();
        if let Some(outbox) = self.outbox.as_ref().filter(|_| attempt.shortened) {
            outbox.fold_back();
        }
        if let Some(size) = attempt.blocked {
            self.block(size, wall);
        }
        self.unblock_when_there_is_room(wall);
        self.committed_weakly(now);
        if with_intake {
            self.recovered(now, wall);
        }
    }

    fn undo(&mut self, attempt: &Attempt) {
        self.lanes = attempt.lanes;
        self.pacing.records = attempt.pace;
        self.undo_caps();
        for pkid in &attempt.claimed {
            self.flight.remove(*pkid);
        }
        if let Some(link) = &mut self.link {
            link.aliases.take_back(attempt.aliases);
            for pkid in attempt.claimed.iter().chain(&attempt.said) {
                link.unsay(*pkid);
            }
            link.anew.extend(&attempt.anew);
        }
    }
}

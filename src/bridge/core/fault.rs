//! A store that cannot write, or cannot be read: what is told, what goes on, when it is tried again. The engine never ends for it.

use serde_json::Map;

use super::{Core, Fault, Missed, event};
use crate::limits::{DISK_LOOK, STORE_RETRY};
use crate::logic::flight::Flight;
use crate::logic::lanes::Lanes;
use crate::model::{Moment, Timestamp};
use crate::ports::NotAccepted;
use crate::store::{Condition, Opened, Outbox, StoreError};

impl Core {
    /// There is no store that could be used.
    pub(super) fn stuck(&mut self, error: &StoreError, now: Moment, wall: Timestamp) {
        self.set_fault(error, now, wall, true);
    }

    /// Told when it begins and when it becomes another, not at every try.
    fn set_fault(&mut self, error: &StoreError, now: Moment, wall: Timestamp, stuck: bool) {
        let (reason, condition) = (error.to_string(), self.condition_of(error));
        let begun = self.fault.as_ref();
        let is_news = begun.is_none_or(|fault| fault.condition != condition);
        let since = begun.map_or(now, |fault| fault.since);
        if begun.is_none() {
            self.store.faults += 1;
            self.missed = Missed::default();
        }
        if is_news {
            let (bridge, state) = (self.settings.id.as_str(), condition.word());
            tracing::error!(bridge, state, error = reason, "the store cannot be written: nothing is taken in");
            let mut more = Map::new();
            more.insert("state".into(), state.into());
            more.insert("reason".into(), reason.clone().into());
            self.publish.push(event(bridge, &self.settings.event_topic, "store-fault", wall, more));
        }
        self.fault = Some(Fault { reason, condition, since, retry_at: now + STORE_RETRY, stuck });
    }

    /// SQLite tells a file system that was made read-only under an open file as an I/O error.
    fn condition_of(&self, error: &StoreError) -> Condition {
        let condition = error.condition();
        let disk = self.outbox.as_ref().filter(|_| condition == Condition::Failing);
        match disk.map(|outbox| outbox.fit_for_writing(false)) {
            Some(Err(StoreError::ReadOnly(_))) => Condition::ReadOnly,
            _ => condition,
        }
    }

    /// It can be written again: what was missed meanwhile is told.
    pub(super) fn recovered(&mut self, now: Moment, wall: Timestamp) {
        let Some(fault) = self.fault.take() else { return };
        let (bridge, state) = (self.settings.id.as_str(), fault.condition.word());
        let Missed { dropped, refused } = std::mem::take(&mut self.missed);
        let duration_ms = u64::try_from(now.since(fault.since).as_millis()).unwrap_or(u64::MAX);
        let reason = fault.reason;
        tracing::info!(bridge, state, reason, duration_ms, dropped, refused, "the store can be written again");
        let mut more = Map::new();
        more.insert("state".into(), state.into());
        more.insert("duration_ms".into(), duration_ms.into());
        more.insert("dropped".into(), dropped.into());
        more.insert("refused".into(), refused.into());
        self.publish.push(event(bridge, &self.settings.event_topic, "store-recovered", wall, more));
    }

    /// While the store could not be written, so many messages that nobody waits for were dropped, and so many of clients were refused.
    pub(in crate::bridge) fn missed(&mut self, dropped: u64, refused: u64) {
        if self.fault.is_some() {
            self.missed.dropped += dropped;
            self.missed.refused += refused;
        }
    }

    /// What the store is fit for.
    pub(in crate::bridge) fn condition(&self) -> Condition {
        let salvages = self.rescue.is_some() || self.rescue_again.is_some();
        let sound = if salvages { Condition::Salvaging } else { Condition::Ok };
        self.fault.as_ref().map_or(sound, |fault| fault.condition)
    }

    /// Whether new records may be written: looked at now and then, since the kernel is asked.
    pub(super) fn fit_for_intake(&mut self, now: Moment) -> Result<(), StoreError> {
        let was_low = self.fault.as_ref().is_some_and(|fault| fault.condition == Condition::Full);
        if self.fault.is_none() && self.disk_look.is_some_and(|at| now < at) {
            return Ok(());
        }
        self.disk_look = Some(now + DISK_LOOK);
        let Some(outbox) = &self.outbox else { return Ok(()) };
        match outbox.fit_for_writing(was_low) {
            Err(StoreError::Removed(_)) if outbox.is_counted() && outbox.count() == 0 => {
                // All that was in it has reached the cloud: nothing keeps us from a new file. One with records is drained first.
                self.outbox = None;
                self.forget_handshakes();
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// The transaction failed and was undone.
    pub(super) fn failed(&mut self, error: &StoreError, now: Moment, wall: Timestamp, with_intake: bool) {
        let reason = error.to_string();
        if error.is_damage() {
            self.refuse_waiting(&reason);
            return self.set_aside(reason, now, wall);
        }
        // What takes no new space is tried once more without the intake; when that fails too, only after the pause.
        self.set_fault(error, now, wall, !with_intake);
        self.refuse_waiting(&reason);
    }

    /// Those who wait for the commit are told that there is none; their messages are theirs again. The others wait on.
    pub(super) fn refuse_waiting(&mut self, reason: &str) {
        let bridge = self.settings.id.to_string();
        let answers = self.waiting_answers as u64;
        for mut offered in std::mem::take(&mut self.waiting) {
            match offered.answer.take() {
                Some(answer) => {
                    let _ = answer.send(Err(NotAccepted::Store { bridge: bridge.clone(), reason: reason.to_owned() }));
                }
                None => self.waiting.push_back(offered),
            }
        }
        self.waiting_answers = 0;
        self.missed.refused += answers;
    }

    /// The file is damaged: it goes into quarantine, a new one takes its place, and the cloud has to forget the session, since nobody
    /// knows any longer which packet ids it holds.
    fn set_aside(&mut self, reason: String, now: Moment, wall: Timestamp) {
        let Some(outbox) = self.outbox.take() else { return };
        self.rescue = None;
        self.forget_handshakes();
        match outbox.quarantine(reason) {
            Ok((outbox, opened)) => {
                self.outbox = Some(outbox);
                let read = self.load().and_then(|()| self.begin_salvage(now, wall));
                self.tell_opened(&opened, wall);
                // A new file that is damaged as well is tried again after the pause, not at once and for ever.
                if let Err(error) = read {
                    self.without_store(&error, now, wall);
                }
            }
            Err(error) => self.stuck(&error, now, wall),
        }
    }

    /// The file that comes next knows nothing of what the cloud was told.
    fn forget_handshakes(&mut self) {
        self.flight = Flight::default();
        self.refusals.forget_all();
        self.lanes = Lanes::new(self.settings.outbox.order);
        self.received.clear();
        self.finished.clear();
        self.refused.clear();
        self.finished_since = None;
        self.releases.clear();
        self.unreleases.clear();
        self.down_notes.clear();
        self.notes.clear();
        self.forget = false;
        self.must_commit = false;
        self.new_store = self.link.is_some();
    }

    /// Opens the store again where it is missing. Returns whether there is one.
    pub(super) fn reopen(&mut self, now: Moment, wall: Timestamp) -> bool {
        if self.outbox.is_some() {
            return true;
        }
        match Outbox::open(&self.settings.store_path(), self.boot) {
            Ok((outbox, opened)) => {
                self.outbox = Some(outbox);
                self.loaded(&opened, now, wall);
            }
            Err(error) => self.stuck(&error, now, wall),
        }
        self.outbox.is_some()
    }

    /// Reads the store that was just opened, and tells how it was found.
    pub(super) fn loaded(&mut self, opened: &Opened, now: Moment, wall: Timestamp) {
        let read = self.load().and_then(|()| self.begin_salvage(now, wall));
        self.tell_opened(opened, wall);
        match read {
            Ok(()) => {}
            Err(error) if error.is_damage() => self.set_aside(error.to_string(), now, wall),
            Err(error) => self.without_store(&error, now, wall),
        }
    }

    fn tell_opened(&mut self, opened: &Opened, wall: Timestamp) {
        let bridge = self.settings.id.as_str();
        match opened {
            Opened::New => tracing::info!(bridge, "a new store was made"),
            Opened::Existing => {
                let outbox_len = self.queued();
                tracing::info!(bridge, outbox_len, in_flight = self.flight.len(), "the store is open");
            }
            Opened::Quarantined { moved_to, reason } => {
                let moved_to = moved_to.display().to_string();
                tracing::error!(
                    bridge,
                    reason,
                    moved_to,
                    "the store was damaged: it was set aside and a new one begun"
                );
                self.store.quarantined += 1;
                let mut more = Map::new();
                more.insert("reason".into(), reason.clone().into());
                more.insert("moved_to".into(), moved_to.into());
                self.publish.push(event(bridge, &self.settings.event_topic, "store-quarantined", wall, more));
            }
        }
    }

    /// What is in the file is not known: nothing may be said or written until it has been opened again.
    fn without_store(&mut self, error: &StoreError, now: Moment, wall: Timestamp) {
        (self.outbox, self.rescue) = (None, None);
        self.stuck(error, now, wall);
    }
}

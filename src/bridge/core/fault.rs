//! A store that cannot write, or cannot be read: what is told, what goes on, when it is tried again. The engine never ends for it.

use serde_json::Map;

use super::{Core, Fault, event, path};
use crate::limits::STORE_RETRY;
use crate::logic::flight::Flight;
use crate::model::{Moment, Seq, Timestamp};
use crate::ports::NotAccepted;
use crate::store::{Opened, Outbox, StoreError};

impl Core {
    /// There is no store that could be used.
    pub(super) fn stuck(&mut self, error: &StoreError, now: Moment, wall: Timestamp) {
        let reason = error.to_string();
        self.tell_fault(&reason, wall);
        self.fault = Some(Fault { reason, retry_at: now + STORE_RETRY, stuck: true });
    }

    /// Told when it begins, not at every try.
    fn tell_fault(&mut self, reason: &str, wall: Timestamp) {
        if self.fault.is_some() {
            return;
        }
        let bridge = self.settings.id.as_str();
        tracing::error!(bridge, error = reason, "the store cannot be written: nothing is taken in");
        let mut more = Map::new();
        more.insert("reason".into(), reason.into());
        self.publish.push(event(bridge, &self.settings.event_topic, "store-fault", wall, more));
    }

    /// The transaction failed and was undone.
    pub(super) fn failed(&mut self, error: &StoreError, now: Moment, wall: Timestamp, with_intake: bool) {
        let reason = error.to_string();
        self.refuse_waiting(&reason);
        if error.is_damage() {
            return self.set_aside(reason, now, wall);
        }
        self.tell_fault(&reason, wall);
        // What takes no new space is tried once more without the intake; when that fails too, only after the pause.
        self.fault = Some(Fault { reason, retry_at: now + STORE_RETRY, stuck: !with_intake });
    }

    /// Those who wait for the commit are told that there is none; their messages are theirs again. The others wait on.
    fn refuse_waiting(&mut self, reason: &str) {
        let bridge = self.settings.id.to_string();
        for mut offered in std::mem::take(&mut self.waiting) {
            match offered.answer.take() {
                Some(answer) => {
                    let _ = answer.send(Err(NotAccepted::Store { bridge: bridge.clone(), reason: reason.to_owned() }));
                }
                None => self.waiting.push_back(offered),
            }
        }
        self.waiting_answers = 0;
    }

    /// The file is damaged: it goes into quarantine, a new one takes its place, and the cloud has to forget the session, since nobody
    /// knows any longer which packet ids it holds.
    fn set_aside(&mut self, reason: String, now: Moment, wall: Timestamp) {
        let Some(outbox) = self.outbox.take() else { return };
        self.flight = Flight::default();
        self.cursor = Seq(0);
        self.received.clear();
        self.finished.clear();
        self.finished_since = None;
        self.releases.clear();
        self.down_notes.clear();
        self.notes.clear();
        self.forget = false;
        self.must_commit = false;
        self.new_store = self.link.is_some();
        match outbox.quarantine(reason) {
            Ok((outbox, opened)) => {
                self.outbox = Some(outbox);
                let read = self.load();
                self.tell_opened(&opened, wall);
                // A new file that is damaged as well is tried again after the pause, not at once and for ever.
                if let Err(error) = read {
                    self.without_store(&error, now, wall);
                }
            }
            Err(error) => self.stuck(&error, now, wall),
        }
    }

    /// Opens the store again where it is missing. Returns whether there is one.
    pub(super) fn reopen(&mut self, now: Moment, wall: Timestamp) -> bool {
        if self.outbox.is_some() {
            return true;
        }
        match Outbox::open(&path(&self.settings), self.boot) {
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
        let read = self.load();
        self.tell_opened(opened, wall);
        match read {
            Ok(()) => {}
            Err(error) if error.is_damage() => self.set_aside(error.to_string(), now, wall),
            Err(error) => self.without_store(&error, now, wall),
        }
    }

    /// What is in the file is not known: nothing may be said or written until it has been opened again.
    fn without_store(&mut self, error: &StoreError, now: Moment, wall: Timestamp) {
        self.outbox = None;
        self.stuck(error, now, wall);
    }
}

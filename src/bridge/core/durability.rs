//! What a commit survives, and what the first connection has to be like after one that was not survived.
//!
//! Commits that a power cut has taken may be those that gave out packet ids. The cloud may then hold an id that this store knows nothing of, and
//! a QoS 2 message that came under it would be taken for the one before and be lost. So the cloud has to forget the session once, by the same word that makes
//! it forget the session of a new store; the word is durable before any weak commit is made.

use super::{Core, SESSION_OF};
use crate::bridge::settings::Durability;
use crate::limits::FLUSH_EVERY;
use crate::model::{Moment, Timestamp};

impl Core {
    /// Has the store wait for the disk, or not. Where that cannot be written down it goes on as before, which is no less safe.
    pub(super) fn choose_durability(&mut self) {
        let Some(outbox) = &mut self.outbox else { return };
        let weak = self.settings.outbox.durability == Durability::Process;
        let chosen = outbox.may_lack_commits().and_then(|lacks| {
            outbox.wait_for_disk(!weak, lacks.then_some((SESSION_OF, "")))?;
            Ok(lacks)
        });
        match chosen {
            Ok(lacks) => {
                self.clean_needed |= lacks;
                self.relaxed = weak;
                self.flush_at = None;
            }
            Err(error) => {
                let bridge = self.settings.id.as_str();
                tracing::warn!(bridge, %error, "the store goes on with the durability it had");
            }
        }
    }

    /// What was just committed is to be on disk before long.
    pub(super) fn committed_weakly(&mut self, now: Moment) {
        if self.relaxed {
            self.flush_at.get_or_insert(now + FLUSH_EVERY);
        }
    }

    pub(super) fn flush_when_due(&mut self, now: Moment, wall: Timestamp) {
        if self.flush_at.is_none_or(|at| now < at) {
            return;
        }
        self.flush_at = None;
        if let Some(Err(error)) = self.outbox.as_ref().map(crate::store::Outbox::flush) {
            self.failed(&error, now, wall, true);
        }
    }
}

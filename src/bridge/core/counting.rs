//! How many records wait: a store that was not closed in order is counted a piece at a time.

use super::Core;
use crate::limits::{COUNT_PAUSE, COUNT_PAUSE_BUSY, COUNT_ROWS};
use crate::model::Moment;
use crate::store::Outbox;

impl Core {
    /// Whether [`Core::queued`] is exact.
    pub(in crate::bridge) fn is_counted(&self) -> bool {
        self.outbox.as_ref().is_none_or(Outbox::is_counted)
    }

    pub(super) fn count_due(&self) -> Option<Moment> {
        (!self.is_counted()).then_some(self.count_at)
    }

    /// Counts on where it was not counted yet. A store that cannot be read is found by whoever needs what is in it.
    pub(super) fn count_on(&mut self, now: Moment) {
        if self.count_due().is_none_or(|due| now < due) {
            return;
        }
        let busy = self.must_commit || !self.waiting.is_empty();
        self.count_at = now + if busy { COUNT_PAUSE_BUSY } else { COUNT_PAUSE };
        if let Some(Err(error)) = self.outbox.as_mut().map(|outbox| outbox.count_on(COUNT_ROWS)) {
            tracing::debug!(bridge = self.settings.id.as_str(), %error, "the records cannot be counted");
        }
    }
}

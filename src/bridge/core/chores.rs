//! What a person has done with the store while the bridge runs: a piece of it between two turns, in a transaction of its own.

use super::{Cause, Core};
use crate::limits::CHORE_ROWS;
use crate::model::chore::{Chore, ChoreReport, Errand};
use crate::model::{Priority, Timestamp};

impl Core {
    /// Does one piece of a chore.
    ///
    /// # Errors
    /// In words, when the store cannot be written, or the choice makes no sense.
    pub(in crate::bridge) fn chore(&mut self, chore: &Chore, wall: Timestamp) -> Result<ChoreReport, String> {
        if let Some(fault) = &self.fault {
            return Err(fault.reason.clone());
        }
        let Some(outbox) = &mut self.outbox else { return Err("the store is not open".into()) };
        let (report, purged) = outbox.chore(chore, CHORE_ROWS, wall)?;
        self.drops.add(Cause::Purged, purged);
        if chore.errand == Errand::Retry && report.done > 0 {
            for priority in Priority::ALL {
                self.lanes.added(priority);
            }
        }
        Ok(report)
    }
}

//! Letters that the cloud will never take.

use super::turn::Attempt;
use super::{Cause, Core};
use crate::limits::{DEAD_LETTERS_BYTES_MAX, DEAD_LETTERS_MAX};
use crate::logic::flight::Claim;
use crate::model::{Priority, Seq, Timestamp};
use crate::store::{Dropped, Outbox, StoreError};

impl Core {
    /// The handshake is over, and the cloud will never take the record: it becomes a dead letter with the next commit, and is counted then.
    pub(super) fn end_as_dead(&mut self, claim: Claim, cause: Cause) {
        if let Some(link) = &mut self.link {
            link.unsay(claim.pkid);
        }
        self.refusals.forget(claim.seq);
        self.refused.push((claim, cause));
    }

    /// Those whose handshake has ended.
    pub(super) fn bury_refused(
        &self,
        outbox: &mut Outbox,
        attempt: &mut Attempt,
        wall: Timestamp,
    ) -> Result<(), StoreError> {
        for (claim, cause) in &self.refused {
            if outbox.log_left() <= outbox.intake_max() {
                break;
            }
            attempt.buried += 1;
            self.bury(outbox, attempt, (claim.priority, claim.seq), *cause, wall)?;
        }
        Ok(())
    }

    /// Makes a dead letter of a record, within the limits of those.
    pub(super) fn bury(
        &self,
        outbox: &mut Outbox,
        attempt: &mut Attempt,
        (priority, seq): (Priority, Seq),
        cause: Cause,
        wall: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(accepted) = outbox.bury((priority, seq), &cause.word(), wall)? {
            attempt.drops.push((cause, Dropped::one(seq, accepted)));
        }
        let bytes = DEAD_LETTERS_BYTES_MAX.min(self.settings.outbox.max_bytes / 8);
        outbox.trim_dead(DEAD_LETTERS_MAX, bytes).map(drop)
    }

    /// Dead letters that are kept.
    pub(in crate::bridge) fn dead(&self) -> u64 {
        self.outbox.as_ref().map_or(0, Outbox::dead_count)
    }
}

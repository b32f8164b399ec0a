//! How much of what was committed a power cut may take. The process's own death takes nothing in either case: what was written is the kernel's.
//!
//! While commits do not wait for the disk, the file says so, and in which boot: whoever opens it after an end that was not in order learns whether
//! the last commits may be gone, and with them the packet ids that the cloud may hold.

use super::{Outbox, signed};
use crate::limits::{COMMIT_ROWS_MAX, SEQ_LEASE};
use crate::model::BootId;
use crate::store::StoreError;

/// `meta` key: the boot in which commits did not wait for the disk, while the file is not closed in order.
const RELAXED: &str = "relaxed";

impl Outbox {
    /// Whether commits of the process before this one may be missing: it did not wait for the disk, was not closed in order, and the machine
    /// has started anew since.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn may_lack_commits(&self) -> Result<bool, StoreError> {
        Ok(self.meta(RELAXED)?.is_some_and(|boot| boot != word(self.boots.running())))
    }

    /// From here on a commit waits for the disk, or (`false`) does not. `note` is remembered in the same commit, which is durable in both cases: once it
    /// has returned, what [`Outbox::may_lack_commits`] told needs not be told again.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`]; commits then go on as before.
    pub fn wait_for_disk(&mut self, wait: bool, note: Option<(&str, &str)>) -> Result<(), StoreError> {
        if wait && note.is_none() && !self.relaxed && self.meta(RELAXED)?.is_none() {
            return Ok(());
        }
        self.store.wait_for_disk(true)?;
        self.relaxed = false;
        self.begin()?;
        let noted = self.note_relaxed(wait, note);
        if let Err(error) = noted {
            self.rollback();
            return Err(error);
        }
        self.commit()?;
        self.store.wait_for_disk(wait)?;
        self.relaxed = !wait;
        Ok(())
    }

    /// A power cut must not give a number out a second time: the lease is durable before a number of it is used.
    pub(super) fn lease_ahead(&mut self) -> Result<(), StoreError> {
        if !self.relaxed || self.next + COMMIT_ROWS_MAX as u64 <= self.leased {
            return Ok(());
        }
        self.store.wait_for_disk(true)?;
        let leased = self.next + SEQ_LEASE;
        let written = self.set_meta("seq_lease", signed(leased));
        if written.is_ok() {
            self.leased = leased;
        }
        self.store.wait_for_disk(false)?;
        written
    }

    fn note_relaxed(&mut self, wait: bool, note: Option<(&str, &str)>) -> Result<(), StoreError> {
        if self.may_lack_commits()? {
            // Among them those that made packet ids free.
            self.forget_exchanges()?;
        }
        if let Some((key, text)) = note {
            self.set_meta(key, text)?;
        }
        let boot = (!wait).then(|| word(self.boots.running()));
        match boot {
            Some(boot) => self.set_meta(RELAXED, boot),
            None => self.run("DELETE FROM meta WHERE k = ?1", &[&RELAXED]).map(drop),
        }
    }

    /// Whether a commit waits for the disk.
    #[cfg(test)]
    pub(crate) fn waits_for_disk(&self) -> bool {
        let level = self.store.connection().pragma_query_value(None, "synchronous", |row| row.get::<_, u8>(0));
        level.expect("a pragma that answers") == 2
    }

    /// Waits until everything that was committed is on disk.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }
}

fn word(boot: BootId) -> String {
    format!("{:032x}", u128::from_be_bytes(boot.bytes()))
}

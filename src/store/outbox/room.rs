//! How the bytes that a store may take are shared between the file and the write-ahead log beside it.
//!
//! The log grows with each commit and is folded back into the file once it has a quarter of its share; the next commit writes it from its head again. So it
//! stays within its share when one commit adds three quarters at most: half for records and their removal, which is counted here, and a quarter for what
//! is small and is not (heads of trees, handshakes, notes, pointer maps).

use super::Outbox;
use crate::limits::{LOG_BYTES_MAX, LOG_BYTES_MIN, LOG_SHARE, MESSAGE_SHARE};
use crate::model::{Priority, Seq};
use crate::store::StoreError;

/// Bytes of a page, and of a page in the log.
const PAGE: u64 = 4096;
const FRAME: u64 = PAGE + 24;
/// What a row takes beside its topic, properties and payload, at most.
const ROW_HEAD: u64 = 56;

/// The shares, and what the transaction has used up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    max: u64,
    log: u64,
    spent: u64,
    /// What was removed last from each class: the next one lies on the same page, or begins another.
    removed: [Seq; Priority::ALL.len()],
}

impl Default for Room {
    fn default() -> Self {
        Self { max: 0, log: LOG_BYTES_MIN, spent: 0, removed: [Seq(0); 4] }
    }
}

/// Bytes of the pages that a row with so many bytes of topic, properties and payload takes, at most: small rows share a page, a long one has
/// pages of its own.
pub fn footprint(bytes: usize) -> u64 {
    let row = bytes as u64 + ROW_HEAD;
    if row <= PAGE - 35 { PAGE / ((PAGE - 8) / (row + 2)).max(1) } else { PAGE * (1 + row.div_ceil(PAGE - 4)) }
}

impl Outbox {
    /// From here on file and log together stay within so many bytes, if whoever puts records in asks [`Outbox::room_for`] and [`Outbox::log_left`], and nobody
    /// else reads the file: a reader keeps the log from being folded back for as long as it reads.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn keep_within(&mut self, max_bytes: u64) -> Result<(), StoreError> {
        let log = (max_bytes / LOG_SHARE).clamp(LOG_BYTES_MIN, LOG_BYTES_MAX);
        (self.room.max, self.room.log) = (max_bytes, log);
        let fold_at = log / 4 / FRAME;
        // What a killed process left of the log is folded back at once.
        self.fold_back();
        let pragmas = format!("PRAGMA wal_autocheckpoint = {fold_at}; PRAGMA journal_size_limit = {log}");
        Ok(self.store.connection().execute_batch(&pragmas)?)
    }

    /// Most bytes of the file itself.
    pub fn file_max(&self) -> u64 {
        self.room.max.saturating_sub(self.room.log)
    }

    /// Most bytes that a commit should take in. A larger record goes alone.
    pub fn intake_max(&self) -> u64 {
        self.room.log / 4
    }

    /// Most bytes that may be in use once a record with this [`footprint`] is in: one that the log has no room for needs it beside its share.
    pub fn room_for(&self, footprint: u64) -> u64 {
        self.file_max().saturating_sub(if footprint > self.intake_max() { footprint } else { 0 })
    }

    /// Whether a record with this [`footprint`] fits into the store when nothing else is in it.
    pub fn could_hold(&self, footprint: u64) -> bool {
        footprint <= self.room.max / MESSAGE_SHARE
    }

    /// Bytes of records that this transaction may still put in, change or remove; 0: it is to be committed.
    pub fn log_left(&self) -> u64 {
        (self.room.log / 2).saturating_sub(self.room.spent)
    }

    /// As [`crate::store::Store::shrink`], at most `pages`, and no more than the log has room for: giving back a page changes up to three.
    /// `all`: down to what is in use, and the file system has it at once.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn shrink(&self, pages: u32, all: bool) -> Result<bool, StoreError> {
        let fits = u32::try_from(self.room.log / 6 / FRAME).unwrap_or(pages);
        let most = if all { 0 } else { Some(self.file_max()).filter(|most| *most > 0).unwrap_or(u64::MAX) };
        let shrunk = self.store.shrink(pages.min(fits), most)?;
        if all && shrunk {
            // The file is cut when the log is folded back.
            self.fold_back();
        }
        Ok(shrunk)
    }

    /// Where the file has more than so many bytes, the transaction gives a piece of it back, as large as it has room for, and is to do nothing else that is
    /// large. Returns whether it did, or is to be committed before anything can be; the file is cut with the next [`Outbox::fold_back`].
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn shorten(&mut self, most: u64, pages: u32) -> Result<bool, StoreError> {
        let before = self.store.length()?;
        if before <= most {
            return Ok(false);
        }
        // What was put in and removed before has used some of the room, and giving back a page changes up to three.
        let fits = u32::try_from(self.log_left() / 3 / FRAME).unwrap_or(pages);
        if fits == 0 {
            return Ok(true);
        }
        // A file that cannot be shortened stays as it is: whoever waits for it would wait for ever.
        let shortened = self.store.shrink(pages.min(fits), most)? && self.store.length()? < before;
        if shortened {
            self.room.spent = self.room.spent.max(self.room.log / 2);
        }
        Ok(shortened)
    }

    /// Folds the log back into the file. On a full disk that fails, and comes with a later commit.
    pub fn fold_back(&self) {
        let _ = self.store.connection().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }

    /// The transaction has written a row.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.room.spent += footprint(bytes);
    }

    /// The transaction has removed a row: what it had beside its page is given back and not written.
    pub(super) fn spend_removal(&mut self, priority: Priority, seq: Seq, bytes: usize) {
        let before = std::mem::replace(&mut self.room.removed[priority.index()], seq);
        self.room.spent += if seq.0 == before.0 + 1 { footprint(bytes).min(PAGE) } else { PAGE };
    }

    pub(super) fn spend_nothing(&mut self) {
        self.room.spent = 0;
    }
}

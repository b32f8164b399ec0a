//! Whether a commit waits for the disk.

use std::fs::File;

use super::quarantine::{file_error, with_suffix};
use super::{Store, StoreError};

impl Store {
    /// `synchronous = FULL`, which is how a file is opened: a commit that has returned survives a power cut. `NORMAL`: it survives a kill; a power cut may
    /// take the last commits, in order, the newest first, and leaves the file sound (sqlite.org/pragma.html#pragma_synchronous).
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn wait_for_disk(&self, wait: bool) -> Result<(), StoreError> {
        let level = if wait { "FULL" } else { "NORMAL" };
        Ok(self.connection().execute_batch(&format!("PRAGMA synchronous = {level}"))?)
    }

    /// Waits until everything that was committed is on disk.
    ///
    /// What is not there yet is in the log alone: a checkpoint flushes the log before it copies and the file after. No lock of SQLite is on the
    /// log, so closing this handle lets go of none (fcntl(2)).
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn flush(&self) -> Result<(), StoreError> {
        let log = with_suffix(self.path(), "-wal");
        File::open(&log).and_then(|log| log.sync_data()).map_err(|error| file_error("flush", &log, error))
    }
}

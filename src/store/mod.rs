//! SQLite: one file for each thing that must outlive the process, each file with one owner thread.
//!
//! This room is the library its owners use. What every file shares: the write-ahead log with `synchronous = FULL` (a COMMIT that has
//! returned survives a power cut, as far as the device honours a flush), a schema version, a lock against a second process, mode 0600,
//! and quarantine: a file that SQLite cannot read is moved aside whole and a new one takes its place.
//!
//! Not promised: that a device which acknowledges a flush before it is done loses nothing.

pub mod desk;
mod open;
pub mod outbox;
mod peek;
mod quarantine;
mod record;
pub mod sessions;
pub mod state;
mod totals;

pub use desk::{NotWritten, StateDesk, StateFile};
pub use open::{Opened, Schema, Store};
pub use outbox::Outbox;
pub use peek::Peek;
pub use record::{Dropped, NewRecord, Record, Waiting};
pub use sessions::{RetainedChange, RetainedRow, Sessions};
pub use state::{State, Taken};

use std::path::PathBuf;

/// Why a store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the file.
    #[error("`{}` is in use by another process", .0.display())]
    InUse(PathBuf),
    /// Written by a later version of this program.
    #[error("`{}` has schema version {found}; this program knows versions up to {known}", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The file system refused.
    #[error("{what} `{}`: {error}", .path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// The content is not what was written.
    #[error("`{}` is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// SQLite refused: disk full, I/O error, and the like.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether it may pass without anybody changing anything but the room on the disk: then it is worth trying again.
    pub fn may_pass(&self) -> bool {
        match self {
            StoreError::File { error, .. } => {
                matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
            StoreError::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::SystemIoFailure)
            ),
            _ => false,
        }
    }

    /// Whether another process holds the file.
    pub fn is_in_use(&self) -> bool {
        matches!(self, StoreError::InUse(_))
    }

    /// Whether the file's content is beyond use, so that only quarantine helps.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged { .. } => true,
            StoreError::Sqlite(error) => match error {
                // A value that we did not write that way: a flipped bit inside a row, which SQLite does not notice.
                rusqlite::Error::Utf8Error(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::FromSqlConversionFailure(..) => true,
                error => matches!(
                    error.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
                ),
            },
            _ => false,
        }
    }
}

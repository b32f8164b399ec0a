//! SQLite: one file for each thing that must outlive the process, each file with one owner thread.
//!
//! This room is the library its owners use. What every file shares: the write-ahead log with `synchronous = FULL` (a COMMIT that has
//! returned survives a power cut, as far as the device honours a flush; an outbox may choose less), a schema version, a lock against a second process, mode 0600,
//! and quarantine: a file that SQLite cannot read is moved aside whole and a new one takes its place.
//!
//! Not promised: that a device which acknowledges a flush before it is done loses nothing.

pub mod browse;
mod condition;
pub mod desk;
mod flush;
mod notes;
mod open;
pub mod outbox;
mod peek;
mod quarantine;
mod record;
pub mod salvage;
pub mod sessions;
pub mod state;
mod totals;

pub use condition::Condition;
pub use desk::{NotWritten, StateDesk, StateFile};
pub use open::{Opened, Schema, Store};
pub use outbox::{Kept, Outbox, Progress, Seen, footprint};
pub use peek::Peek;
pub use record::{Dropped, NewRecord, Record, Waiting};
pub use sessions::{
    BodyRow, OnWire, QueuedRow, RetainedChange, RetainedRow, SessionChange, SessionRow, Sessions, SubscriptionRow,
};
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
    /// Written by an earlier version, and only looked at.
    #[error("`{}` has schema version {found} of an earlier version of this program; start the gateway once, which brings it to {known}", .path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Some other program's database.
    #[error("`{}` is no store of this kind: its application id is {found:#010x}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `PRAGMA application_id`.
        found: i32,
    },
    /// The name leads to another file than the one that was opened, or to none.
    #[error("`{}` was removed while it was open", .0.display())]
    Removed(PathBuf),
    /// The file system takes no writes.
    #[error("the file system of `{}` is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// What is left on the disk is left to the rest of the system.
    #[error("the disk is nearly full: {free_kib} KiB are free, and {kept_kib} KiB are left to the rest of the system")]
    LittleRoom {
        /// What is free.
        free_kib: u64,
        /// What is not used by a store.
        kept_kib: u64,
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

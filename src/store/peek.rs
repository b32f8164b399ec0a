//! A look into an outbox from outside, for a person: read-only, beside an owner or without one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{Store, StoreError};
use crate::limits::PEEK_WAIT;

/// What is in an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peek {
    /// Records in it.
    pub queued: u64,
    /// Size of what is in use, bytes.
    pub bytes: u64,
    /// When the oldest was accepted, milliseconds since the epoch, and whether that clock had been set.
    pub oldest: Option<(i64, bool)>,
}

impl Peek {
    /// Looks. `None` when there is no such file.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn at(path: &Path) -> Result<Option<Self>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PEEK_WAIT)?;
        let queued: i64 = connection.query_row("SELECT count(*) FROM q", [], |row| row.get(0))?;
        let oldest = connection
            .query_row("SELECT ts_ms, synced FROM q ORDER BY seq LIMIT 1", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let bytes = Store::bytes_of(&connection)?;
        Ok(Some(Self { queued: u64::try_from(queued).unwrap_or(0), bytes, oldest }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NewRecord, Outbox};
    use super::*;
    use crate::model::{BootId, Qos, Timestamp};

    #[test]
    fn what_waits_is_seen_beside_the_owner_and_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox-cloud.db");
        assert_eq!(Peek::at(&path).unwrap(), None);
        let (mut outbox, _) = Outbox::open(&path, BootId::new([1; 16])).unwrap();
        outbox.begin().unwrap();
        for time in [5_000, 6_000] {
            let accepted = Timestamp { unix_ms: time, synced: true, at: None };
            let new = NewRecord {
                topic: "a",
                payload: b"1",
                qos: Qos::AtLeastOnce,
                retain: false,
                accepted,
                expires_ms: None,
                properties: None,
                stamp: None,
            };
            outbox.push(new).unwrap();
        }
        outbox.commit().unwrap();
        let beside = Peek::at(&path).unwrap().unwrap();
        assert_eq!((beside.queued, beside.oldest), (2, Some((5_000, true))));
        outbox.close().unwrap();
        assert_eq!(Peek::at(&path).unwrap().map(|peek| peek.queued), Some(2));
    }

    #[test]
    fn a_file_that_is_no_outbox_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        std::fs::write(&path, "no database at all, only words").unwrap();
        assert!(Peek::at(&path).unwrap_err().is_damage());
    }
}

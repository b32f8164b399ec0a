//! A look into an outbox from outside, for a person: read-only, beside an owner or without one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::quarantine::file_error;
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
        // A file that may not be looked for is not one that is not there.
        if !path.try_exists().map_err(|error| file_error("look for", path, error))? {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PEEK_WAIT)?;
        // One table in a file that an earlier version wrote and this one has not opened yet.
        let single = connection.prepare("SELECT 1 FROM sqlite_master WHERE name = 'q'")?.exists([])?;
        let tables: &[&str] = if single { &["q"] } else { &["q0", "q1", "q2", "q3"] };
        // Counting is a walk over all of them: only where the owner runs, or was killed.
        let kept = super::outbox::kept(&connection)?;
        let (mut queued, mut oldest) = (0_i64, None);
        for table in tables {
            if kept.is_none() {
                queued +=
                    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))?;
            }
            let head = format!("SELECT seq, ts_ms, synced FROM {table} ORDER BY seq LIMIT 1");
            let head = connection.query_row(&head, [], |row| Ok((row.get::<_, i64>(0)?, (row.get(1)?, row.get(2)?))));
            oldest = oldest.into_iter().chain(head.optional()?).min_by_key(|(seq, _)| *seq);
        }
        let oldest = oldest.map(|(_, accepted)| accepted);
        let bytes = Store::bytes_of(&connection)?;
        Ok(Some(Self { queued: kept.unwrap_or(queued.unsigned_abs()), bytes, oldest }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NewRecord, Outbox};
    use super::*;
    use crate::model::{BootId, Priority, Qos, Timestamp};

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
                priority: if time == 6_000 { Priority::Urgent } else { Priority::Low },
                rule: None,
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
        // What the close has noted is believed: ten million are not walked over.
        let file = Connection::open(&path).unwrap();
        file.execute("UPDATE meta SET v = '10000000 0 0 0' WHERE k = 'counts'", []).unwrap();
        assert_eq!(Peek::at(&path).unwrap().map(|peek| peek.queued), Some(10_000_000));
    }

    #[test]
    fn a_file_that_is_no_outbox_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        std::fs::write(&path, "no database at all, only words").unwrap();
        assert!(Peek::at(&path).unwrap_err().is_damage());
    }
}

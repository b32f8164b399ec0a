//! Leafs through an outbox from outside, for a person: read-only, beside an owner or without one.
//!
//! A page is a read of its own: nothing is held open between two, so that the owner's write-ahead log can be folded back however long a
//! reader takes. What is sent or dropped between two pages is missing from the next.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row, params};

use super::StoreError;
use super::quarantine::file_error;
use crate::limits::{BROWSE_ROWS, PEEK_WAIT};
use crate::model::{Priority, Qos, Seq};

/// Which records are leafed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// Those that the cloud has not acknowledged.
    Waiting,
    /// Those that it will never take.
    Dead,
}

/// A record, as a person sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its number.
    pub seq: Seq,
    /// How urgent it is.
    pub priority: Priority,
    /// `waiting`, `sent` (in flight), `received` (QoS 2: the cloud has it), or why it is dead.
    pub state: String,
    /// QoS upstream.
    pub qos: Qos,
    /// Retain flag upstream.
    pub retain: bool,
    /// When it was accepted, milliseconds since the epoch, and whether that clock had been set.
    pub accepted: (i64, bool),
    /// When its publisher no longer wants it delivered, by the same clock.
    pub expires_ms: Option<i64>,
    /// Topic at the cloud.
    pub topic: String,
    /// Bytes of the payload.
    pub bytes: u64,
    /// The payload, where it was asked for.
    pub payload: Option<Vec<u8>>,
}

/// An outbox that is looked at.
#[derive(Debug)]
pub struct Browse {
    connection: Connection,
}

impl Browse {
    /// Opens the file to read in. `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read, or comes from another version of this program.
    pub fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        // A file that may not be looked for is not one that is not there.
        if !path.try_exists().map_err(|error| file_error("look for", path, error))? {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PEEK_WAIT)?;
        let known = u32::try_from(super::outbox::VERSION).unwrap_or(u32::MAX);
        let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found.cmp(&known) {
            std::cmp::Ordering::Greater => Err(StoreError::Newer { path: path.to_owned(), found, known }),
            std::cmp::Ordering::Less => Err(StoreError::Older { path: path.to_owned(), found, known }),
            std::cmp::Ordering::Equal => Ok(Some(Self { connection })),
        }
    }

    /// The next records behind a number, by number; none at the end.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn page(&self, shelf: Shelf, after: Seq, with_payload: bool) -> Result<Vec<Listed>, StoreError> {
        let payload = if with_payload { "payload" } else { "NULL" };
        let columns =
            format!("seq, qos, retain, ts_ms, synced, exp_ms, topic, length(CAST(payload AS BLOB)), {payload}");
        let sql = match shelf {
            Shelf::Waiting => super::outbox::of_all_classes(
                &format!(
                    "{columns}, {{class}}, (SELECT st FROM inflight WHERE class = {{class}} AND inflight.seq = q{{class}}.seq), NULL"
                ),
                "",
            ),
            Shelf::Dead => {
                format!("SELECT {columns}, class, NULL, cause FROM dead WHERE seq > ?1 ORDER BY seq LIMIT ?2")
            }
        };
        let mut statement = self.connection.prepare_cached(&sql)?;
        let after = i64::try_from(after.0).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![after, i64::try_from(BROWSE_ROWS).unwrap_or(i64::MAX)], listed)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let state = match (row.get::<_, Option<u8>>(10)?, row.get::<_, Option<String>>(11)?) {
        (_, Some(cause)) => cause,
        (None, None) => "waiting".into(),
        (Some(0), None) => "sent".into(),
        (Some(_), None) => "received".into(),
    };
    Ok(Listed {
        seq: Seq(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0)),
        priority: super::outbox::priority(row, 9)?,
        state,
        qos: if row.get::<_, u8>(1)? == 2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce },
        retain: row.get(2)?,
        accepted: (row.get(3)?, row.get(4)?),
        expires_ms: row.get(5)?,
        topic: row.get(6)?,
        bytes: u64::try_from(row.get::<_, i64>(7)?).unwrap_or(0),
        payload: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootId;
    use crate::store::Outbox;

    #[test]
    fn where_there_is_no_file_there_is_nothing_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Browse::open(&dir.path().join("outbox-cloud.db")).unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_another_version_is_told_which() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox-cloud.db");
        Outbox::open(&path, BootId::new([1; 16])).unwrap().0.close().unwrap();
        let known = super::super::outbox::VERSION;
        for (version, word) in [(known - 1, "earlier version"), (known + 1, "knows versions up to")] {
            let file = Connection::open(&path).unwrap();
            file.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
            drop(file);
            let error = Browse::open(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}

//! The outbox of one bridge: what is to reach the cloud, and how far each handshake has come, in one file and in the same transactions.
//!
//! Layout: `migrations/outbox_*.sql`. The owner opens a transaction with [`Outbox::begin`], changes what it likes, and says
//! [`Outbox::commit`]; when that returns, the change survives a kill and a power cut.
//!
//! Nothing here decides: which row goes when, what is dropped and what a limit is, is `logic`'s and the engine's.

use std::path::Path;
use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};

use super::{NewRecord, Opened, Record, Schema, Store, StoreError, Waiting};
use crate::limits::SEQ_LEASE;
use crate::logic::flight::{Claim, Stage};
use crate::logic::restamp::Boots;
use crate::model::{BootId, Moment, Qos, Seq, Timestamp};

mod boots;

/// Application id: "TGob" in ASCII.
const SCHEMA: Schema = Schema {
    application_id: 0x5447_6F62,
    migrations: &[include_str!("migrations/outbox_0001.sql"), include_str!("migrations/outbox_0002.sql")],
};

/// The tables. See the module.
#[derive(Debug)]
pub struct Outbox {
    store: Store,
    /// Number of the next record.
    next: u64,
    /// Numbers below this may be used without writing to `meta`.
    leased: u64,
    count: u64,
    /// The boots that waiting records come from.
    boots: Boots,
    /// `next`, `leased`, `count` and `boots` at the start of the transaction, for a rollback.
    before: (u64, u64, u64, Option<Boots>),
    /// Whether every commit ends in an I/O error.
    #[cfg(test)]
    broken: bool,
}

impl Outbox {
    /// Opens the file, makes it if there is none. `boot` is the one that runs.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: &Path, boot: BootId) -> Result<(Self, Opened), StoreError> {
        let (store, opened) = Store::open(path, SCHEMA)?;
        match Self::load(store, boot) {
            Ok(outbox) => Ok((outbox, opened)),
            Err(failed) if failed.1.is_damage() => {
                let (store, error) = *failed;
                let (store, opened) = store.quarantine(error.to_string())?;
                Self::load(store, boot).map(|outbox| (outbox, opened)).map_err(|failed| failed.1)
            }
            Err(failed) => Err(failed.1),
        }
    }

    /// Moves the damaged file away and goes on with a new one.
    ///
    /// # Errors
    /// As [`Store::quarantine`].
    pub fn quarantine(self, reason: String) -> Result<(Self, Opened), StoreError> {
        let boot = self.boots.running();
        let (store, opened) = self.store.quarantine(reason)?;
        Self::load(store, boot).map(|outbox| (outbox, opened)).map_err(|failed| failed.1)
    }

    fn load(store: Store, boot: BootId) -> Result<Self, Box<(Store, StoreError)>> {
        let read = || -> Result<(u64, u64, Boots), rusqlite::Error> {
            let connection = store.connection();
            let number = |sql| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).optional();
            let lease = number("SELECT v FROM meta WHERE k = 'seq_lease'")?.flatten().unwrap_or(1);
            let last = number("SELECT max(seq) FROM q")?.flatten().unwrap_or(0);
            // One walk over the leaves: about 0.1 s for a million records that are cached, and only at start.
            let count = number("SELECT count(*) FROM q")?.flatten().unwrap_or(0);
            Ok((unsigned(lease.max(last + 1)), unsigned(count), boots::load(connection, boot)?))
        };
        match read() {
            Ok((next, count, boots)) => Ok(Self {
                store,
                next,
                leased: next,
                count,
                boots,
                before: (next, next, count, None),
                #[cfg(test)]
                broken: false,
            }),
            Err(error) => Err(Box::new((store, error.into()))),
        }
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`], as all that follow.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        self.before = (self.next, self.leased, self.count, None);
        self.run("BEGIN IMMEDIATE", params![]).map(drop)
    }

    /// Makes everything since [`Outbox::begin`] durable, or, on an error, undone.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn commit(&mut self) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.broken {
            self.rollback();
            return Err(
                rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), None).into()
            );
        }
        let outcome = self.run("COMMIT", params![]);
        if outcome.is_err() {
            self.rollback();
        }
        outcome.map(drop)
    }

    /// Undoes everything since [`Outbox::begin`].
    pub fn rollback(&mut self) {
        (self.next, self.leased, self.count) = (self.before.0, self.before.1, self.before.2);
        if let Some(boots) = self.before.3.take() {
            self.boots = boots;
        }
        // SQLite may have rolled back by itself (disk full); then this is an error that says just that.
        let _ = self.store.connection().execute_batch("ROLLBACK");
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn push(&mut self, new: NewRecord<'_>) -> Result<Seq, StoreError> {
        if self.next >= self.leased {
            self.leased = self.next + SEQ_LEASE;
            let lease = signed(self.leased);
            self.set_meta("seq_lease", lease)?;
        }
        let seq = self.next;
        let up = new.accepted.at.filter(|_| !new.accepted.synced);
        if up.is_some() {
            self.note_boot(Seq(seq))?;
        }
        self.run(
            "INSERT INTO q(seq, qos, retain, ts_ms, synced, exp_ms, topic, props, payload, up_ms, stamp_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                signed(seq),
                new.qos.level(),
                new.retain,
                new.accepted.unix_ms,
                new.accepted.synced,
                new.expires_ms,
                new.topic,
                new.properties,
                new.payload,
                up.map(millis),
                new.stamp.filter(|_| up.is_some()).map(millis)
            ],
        )?;
        self.next += 1;
        self.count += 1;
        Ok(Seq(seq))
    }

    /// The oldest records after `cursor`: at most `limit` of them, and no more once they come to `bytes`, but never none for their size.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn after(&self, cursor: Seq, limit: usize, bytes: usize) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT seq, qos, retain, ts_ms, synced, exp_ms, topic, props, payload, up_ms, stamp_ms FROM q \
                   WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = self.store.connection().prepare_cached(sql)?;
        let mut rows = statement.query(params![signed(cursor.0), i64::try_from(limit).unwrap_or(i64::MAX)])?;
        let mut records = Vec::new();
        let mut total = 0;
        while total < bytes || records.is_empty() {
            let Some(row) = rows.next()? else { break };
            let record = record(row)?;
            total += record.bytes();
            records.push(record);
        }
        Ok(records)
    }

    /// When the oldest record was accepted, as far as that is known by now.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT seq, ts_ms, synced, up_ms FROM q ORDER BY seq LIMIT 1";
        let found = self.store.connection().prepare_cached(sql)?.query_row([], waiting).optional()?;
        Ok(found.map(|oldest| self.boots.mended(oldest.seq, oldest.accepted)))
    }

    /// One record.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn record(&self, seq: Seq) -> Result<Option<Record>, StoreError> {
        let sql = "SELECT seq, qos, retain, ts_ms, synced, exp_ms, topic, props, payload, up_ms, stamp_ms FROM q WHERE seq = ?1";
        Ok(self.store.connection().prepare_cached(sql)?.query_row([signed(seq.0)], record).optional()?)
    }

    /// Packet ids in use, oldest record first.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn claimed(&self) -> Result<Vec<Claim>, StoreError> {
        let sql = "SELECT pkid, inflight.seq, st, qos, length(CAST(topic AS BLOB)) + length(payload) \
                   FROM inflight JOIN q USING (seq) ORDER BY inflight.seq";
        let mut statement = self.store.connection().prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            let stage = if row.get::<_, u8>(2)? == 0 { Stage::Publish } else { Stage::Release };
            let bytes = usize::try_from(row.get::<_, i64>(4)?).unwrap_or(0);
            Ok(Claim { pkid: row.get(0)?, seq: seq(row, 1)?, qos: qos(row, 3)?, stage, bytes })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives the record a packet id: must be committed before the first byte of its PUBLISH.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`]; a packet id that is taken is one.
    pub fn claim(&mut self, pkid: u16, seq: Seq) -> Result<(), StoreError> {
        self.run("INSERT INTO inflight(pkid, seq, st) VALUES (?1, ?2, 0)", params![pkid, signed(seq.0)]).map(drop)
    }

    /// PUBREC came: must be committed before the first byte of the PUBREL.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn release(&mut self, pkid: u16) -> Result<(), StoreError> {
        self.run("UPDATE inflight SET st = 1 WHERE pkid = ?1", params![pkid]).map(drop)
    }

    /// The cloud has it, or will never take it: record and packet id go.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn finish(&mut self, pkid: u16, seq: Seq) -> Result<(), StoreError> {
        self.run("DELETE FROM inflight WHERE pkid = ?1", params![pkid])?;
        self.remove(seq)
    }

    /// A record goes that has no packet id.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn remove(&mut self, seq: Seq) -> Result<(), StoreError> {
        let removed = self.run("DELETE FROM q WHERE seq = ?1", params![signed(seq.0)])?;
        self.count = self.count.saturating_sub(removed as u64);
        Ok(())
    }

    /// The cloud forgot its session: every packet id is free, the records wait again, and their payloads stay what they were when they were sent.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn forget_session(&mut self) -> Result<(), StoreError> {
        self.run(
            "UPDATE q SET stamp_ms = NULL WHERE seq IN (SELECT seq FROM inflight) AND stamp_ms IS NOT NULL",
            params![],
        )?;
        self.run("DELETE FROM inflight", params![])?;
        self.run("DELETE FROM rx_q2", params![]).map(drop)
    }

    /// Packet ids of QoS 2 messages from the cloud that were received and not released.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn received(&self) -> Result<Vec<u16>, StoreError> {
        let mut statement = self.store.connection().prepare_cached("SELECT pkid FROM rx_q2")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes a QoS 2 message from the cloud: must be committed before the PUBREC.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn note_received(&mut self, pkid: u16) -> Result<(), StoreError> {
        self.run("INSERT OR IGNORE INTO rx_q2(pkid) VALUES (?1)", params![pkid]).map(drop)
    }

    /// The cloud released it.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn note_released(&mut self, pkid: u16) -> Result<(), StoreError> {
        self.run("DELETE FROM rx_q2 WHERE pkid = ?1", params![pkid]).map(drop)
    }

    /// The oldest records that are not in flight, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn waiting(&self, limit: usize) -> Result<Vec<Waiting>, StoreError> {
        let sql =
            "SELECT seq, ts_ms, synced, up_ms FROM q WHERE seq NOT IN (SELECT seq FROM inflight) ORDER BY seq LIMIT ?1";
        let mut statement = self.store.connection().prepare_cached(sql)?;
        let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], waiting)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// As [`Store::shrink`].
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn shrink(&self, pages: u32) -> Result<bool, StoreError> {
        self.store.shrink(pages)
    }

    /// Records waiting, in flight included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// As [`Store::bytes`].
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn bytes(&self) -> Result<u64, StoreError> {
        self.store.bytes()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// A word remembered under a name.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.store.connection().prepare_cached("SELECT CAST(v AS TEXT) FROM meta WHERE k = ?1")?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }

    /// Remembers a word under a name.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn set_meta(&mut self, key: &str, value: impl rusqlite::ToSql) -> Result<(), StoreError> {
        self.run("INSERT OR REPLACE INTO meta(k, v) VALUES (?1, ?2)", params![key, value]).map(drop)
    }

    /// Closes in order: the next open trusts the file, and the numbers go on without a gap.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn close(mut self) -> Result<(), StoreError> {
        let next = signed(self.next);
        self.set_meta("seq_lease", next)?;
        self.store.close()
    }

    /// Lets the file grow to no more pages than this, as a full disk would.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: &str) {
        self.store
            .connection()
            .execute_batch(&format!("PRAGMA max_page_count = {pages}"))
            .expect("a pragma that takes any number");
    }

    /// Lets every commit fail, as a dying card would.
    #[cfg(test)]
    pub(crate) fn break_commits(&mut self, broken: bool) {
        self.broken = broken;
    }

    fn run(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<usize, StoreError> {
        Ok(self.store.connection().prepare_cached(sql)?.execute(values)?)
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        seq: seq(row, 0)?,
        qos: qos(row, 1)?,
        retain: row.get(2)?,
        accepted: Timestamp { unix_ms: row.get(3)?, synced: row.get(4)?, at: moment(row, 9)? },
        expires_ms: row.get(5)?,
        topic: row.get(6)?,
        properties: row.get(7)?,
        payload: row.get(8)?,
        stamp: moment(row, 10)?,
    })
}

fn waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    let accepted = Timestamp { unix_ms: row.get(1)?, synced: row.get(2)?, at: moment(row, 3)? };
    Ok(Waiting { seq: seq(row, 0)?, accepted })
}

fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Moment>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|ms| Moment::at(Duration::from_millis(unsigned(ms)))))
}

/// A point on the monotonic clock as it is stored.
fn millis(at: Moment) -> i64 {
    i64::try_from(at.since_start().as_millis()).unwrap_or(i64::MAX)
}

fn seq(row: &Row<'_>, column: usize) -> rusqlite::Result<Seq> {
    row.get(column).map(|value| Seq(unsigned(value)))
}

/// A level that is none of ours is taken for 1: sent at least once is the safe reading of a flipped bit.
fn qos(row: &Row<'_>, column: usize) -> rusqlite::Result<Qos> {
    row.get(column).map(|level: u8| if level == 2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce })
}

/// SQLite's integers are signed. Numbers of records start at 1 and would need 2^63 messages to get out of range.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests;

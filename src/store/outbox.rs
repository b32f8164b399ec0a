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
use crate::limits::{COUNT_ROWS, SEQ_LEASE};
use crate::logic::restamp::Boots;
use crate::model::{BootId, Moment, Priority, Qos, RuleId, Seq, Timestamp};

mod boots;
mod chore;
mod count;
mod dead;
mod durability;
mod exchanges;
mod handshakes;
mod room;
mod salvaging;
mod tally;
mod texts;

use count::Counts;
pub(super) use count::kept;
use room::Room;
pub use room::footprint;
pub use salvaging::Progress;
use tally::Tally;
pub use tally::{Kept, Seen};
pub(super) use texts::of_all_classes;

/// Application id: "TGob" in ASCII.
const SCHEMA: Schema = Schema {
    application_id: 0x5447_6F62,
    migrations: &[
        include_str!("migrations/outbox_0001.sql"),
        include_str!("migrations/outbox_0002.sql"),
        include_str!("migrations/outbox_0003.sql"),
        include_str!("migrations/outbox_0004.sql"),
    ],
    salvaged: true,
};

/// Version of the schema, as the file has it.
pub(super) const VERSION: usize = SCHEMA.version();

/// The tables. See the module.
#[derive(Debug)]
pub struct Outbox {
    store: Store,
    /// Number of the next record.
    next: u64,
    /// Numbers below this may be used without writing to `meta`.
    leased: u64,
    counts: Counts,
    /// The boots that waiting records come from.
    boots: Boots,
    /// What waits of the rules with limits of their own.
    tally: Tally,
    /// Commits do not wait for the disk.
    relaxed: bool,
    room: Room,
    /// `next`, `leased`, `counts`, `boots` and `tally` at the start of the transaction, for a rollback.
    before: (u64, u64, Counts, Option<Boots>, Tally),
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

    /// As [`Store::open_sound`].
    ///
    /// # Errors
    /// As there.
    pub fn open_sound(path: &Path, boot: BootId) -> Result<Self, StoreError> {
        Self::load(Store::open_sound(path, SCHEMA)?, boot).map_err(|failed| failed.1)
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

    /// As [`Store::fit_for_writing`].
    ///
    /// # Errors
    /// As there.
    pub fn fit_for_writing(&self, was_low: bool) -> Result<(), StoreError> {
        self.store.fit_for_writing(was_low)
    }

    fn load(store: Store, boot: BootId) -> Result<Self, Box<(Store, StoreError)>> {
        let read = || -> Result<(u64, Counts, Boots), rusqlite::Error> {
            let connection = store.connection();
            let number = |sql| -> Result<i64, rusqlite::Error> {
                let found = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).optional()?;
                Ok(found.flatten().unwrap_or(0))
            };
            let mut next = number("SELECT v FROM meta WHERE k = 'seq_lease'")?.max(1);
            for priority in Priority::ALL {
                next = next.max(number(texts::of(priority).last)? + 1);
            }
            next = next.max(number("SELECT max(seq) FROM dead")? + 1);
            let counts = Counts::load(connection, Seq(unsigned(next)))?;
            Ok((unsigned(next), counts, boots::load(connection, boot)?))
        };
        let (next, counts, boots) = match read() {
            Ok(found) => found,
            Err(error) => return Err(Box::new((store, error.into()))),
        };
        let mut outbox = Self {
            store,
            next,
            leased: next,
            counts,
            boots,
            tally: Tally::default(),
            relaxed: false,
            room: Room::default(),
            before: (next, next, counts, None, Tally::default()),
            #[cfg(test)]
            broken: false,
        };
        match outbox.count_on(COUNT_ROWS) {
            Ok(()) => Ok(outbox),
            Err(error) => Err(Box::new((outbox.store, error))),
        }
    }

    /// Opens a transaction; on an error, none is open.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`], as all that follow.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        // Before anything that can fail: a rollback after that must not undo the transaction before this one.
        self.before = (self.next, self.leased, self.counts, None, self.tally.clone());
        self.lease_ahead()?;
        self.before.1 = self.leased;
        self.spend_nothing();
        self.run("BEGIN IMMEDIATE", params![])?;
        let outcome = self.forget_counts();
        if outcome.is_err() {
            self.rollback();
        }
        outcome
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
        (self.next, self.leased, self.counts) = (self.before.0, self.before.1, self.before.2);
        self.tally.clone_from(&self.before.4);
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
            texts::of(new.priority).push,
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
                new.stamp.filter(|_| up.is_some()).map(millis),
                new.rule.map(|rule| rule.0)
            ],
        )?;
        self.spend(new.topic.len() + new.payload.len() + new.properties.map_or(0, <[u8]>::len));
        self.next += 1;
        self.counts.pushed(new.priority);
        self.tally_pushed(new.rule, new.topic.len() + new.payload.len());
        Ok(Seq(seq))
    }

    /// The oldest records of a class with numbers between two, themselves excepted: at most `limit`, and no more once they come to `bytes`, but
    /// never none for their size.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn between(
        &self,
        priority: Priority,
        (after, before): (Seq, Seq),
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut statement = self.store.connection().prepare_cached(texts::of(priority).after)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![signed(after.0), signed(before.0), limit])?;
        let mut records = Vec::new();
        let mut total = 0;
        while total < bytes || records.is_empty() {
            let Some(row) = rows.next()? else { break };
            let record = record(row, priority)?;
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
        let mut oldest: Option<Waiting> = None;
        for priority in Priority::ALL {
            let mut statement = self.store.connection().prepare_cached(texts::of(priority).head)?;
            let head = statement.query_row([], |row| waiting(row, priority)).optional()?;
            oldest = oldest.into_iter().chain(head).min_by_key(|head| head.seq);
        }
        Ok(oldest.map(|oldest| self.boots.mended(oldest.seq, oldest.accepted)))
    }

    /// One record.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn record(&self, priority: Priority, seq: Seq) -> Result<Option<Record>, StoreError> {
        let mut statement = self.store.connection().prepare_cached(texts::of(priority).record)?;
        Ok(statement.query_row([signed(seq.0)], |row| record(row, priority)).optional()?)
    }

    /// A record goes that has no packet id.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn remove(&mut self, priority: Priority, seq: Seq) -> Result<(), StoreError> {
        self.tally_moved(priority, seq, false)?;
        self.delete(priority, seq)
    }

    fn delete(&mut self, priority: Priority, seq: Seq) -> Result<(), StoreError> {
        let mut size = self.store.connection().prepare_cached(texts::of(priority).size)?;
        let bytes = size.query_row([signed(seq.0)], |row| row.get::<_, i64>(1)).optional()?;
        drop(size);
        let Some(bytes) = bytes else { return Ok(()) };
        self.run(texts::of(priority).remove, params![signed(seq.0)])?;
        self.counts.removed(priority, seq);
        self.spend_removal(priority, seq, usize::try_from(bytes).unwrap_or(0));
        Ok(())
    }

    /// The oldest records of a class that are not in flight, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn waiting(&self, priority: Priority, limit: usize) -> Result<Vec<Waiting>, StoreError> {
        let mut statement = self.store.connection().prepare_cached(texts::of(priority).waiting)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map([limit], |row| waiting(row, priority))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Number that the next record will get.
    pub fn next(&self) -> Seq {
        Seq(self.next)
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
        self.store_counts()?;
        // A note of an earlier boot stays for the engine: the cloud has not been made to forget the session yet.
        if !self.may_lack_commits()? {
            self.wait_for_disk(true, None)?;
        }
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

fn record(row: &Row<'_>, priority: Priority) -> rusqlite::Result<Record> {
    Ok(Record {
        seq: seq(row, 0)?,
        priority,
        rule: row.get::<_, Option<u32>>(11)?.map(RuleId),
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

fn waiting(row: &Row<'_>, priority: Priority) -> rusqlite::Result<Waiting> {
    let accepted = Timestamp { unix_ms: row.get(1)?, synced: row.get(2)?, at: moment(row, 3)? };
    Ok(Waiting { seq: seq(row, 0)?, priority, accepted })
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

/// A class as it is stored.
fn class(priority: Priority) -> u8 {
    match priority {
        Priority::Urgent => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}

/// A class that is none of ours is damage: nobody knows which table its record is in.
pub(super) fn priority(row: &Row<'_>, column: usize) -> rusqlite::Result<Priority> {
    let class: i64 = row.get(column)?;
    let known = usize::try_from(class).ok().and_then(Priority::at);
    known.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, class))
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

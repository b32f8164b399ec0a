//! The table `boots`: which boot a record's monotonic times belong to, and the times that are mended by it.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Outbox, seq as seq_of, signed, texts, unsigned};
use crate::limits::BOOTS_MAX;
use crate::logic::restamp::{Anchor, Boot, Boots};
use crate::model::{BootId, Priority, Seq, Timestamp};
use crate::store::StoreError;

/// Reads the table; `boot` is the one that runs.
pub(super) fn load(connection: &Connection, boot: BootId) -> rusqlite::Result<Boots> {
    let sql = "SELECT first_seq, id, anchor_ms FROM boots ORDER BY first_seq DESC LIMIT ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([BOOTS_MAX], |row| {
        let anchor = row.get::<_, Option<i64>>(2)?.map(|unix_ms| Anchor { unix_ms });
        Ok(Boot { first: seq_of(row, 0)?, id: BootId::new(row.get(1)?), anchor })
    })?;
    let mut boots = rows.collect::<Result<Vec<_>, _>>()?;
    boots.reverse();
    Ok(Boots::restore(boot, boots))
}

impl Outbox {
    /// The boots that waiting records come from.
    pub fn boots(&self) -> &Boots {
        &self.boots
    }

    /// Takes in what the clock says, within a transaction: a later boot may need it for the records of this one.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn learn(&mut self, wall: Timestamp) -> Result<(), StoreError> {
        if self.boots.has_news(wall) {
            self.keep_boots();
        }
        if let Some(boot) = self.boots.learn(wall) {
            let anchor_ms = boot.anchor.map(|anchor| anchor.unix_ms);
            self.run("UPDATE boots SET anchor_ms = ?2 WHERE first_seq = ?1", params![signed(boot.first.0), anchor_ms])?;
        }
        Ok(())
    }

    /// Gives a record the payload with its true time, once and for all: it must be committed before the first byte of it leaves.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn restamp(&mut self, priority: Priority, seq: Seq, payload: &[u8]) -> Result<(), StoreError> {
        self.spend(payload.len());
        self.run(texts::of(priority).restamp, params![signed(seq.0), payload]).map(drop)
    }

    /// The record with this number is accepted by a clock that is not set.
    pub(super) fn note_boot(&mut self, seq: Seq) -> Result<(), StoreError> {
        if self.boots.current().is_some() {
            return Ok(());
        }
        self.keep_boots();
        let Some(boot) = self.boots.accepting(seq) else { return Ok(()) };
        let id = boot.id.bytes();
        self.run("INSERT INTO boots(first_seq, id) VALUES (?1, ?2)", params![signed(boot.first.0), id.as_slice()])?;
        // A dead letter may come back, and then its age counts.
        let dead = self.store.connection().query_row("SELECT min(seq) FROM dead", [], |row| row.get(0));
        let mut oldest = dead.optional()?.flatten().map(|oldest| Seq(unsigned(oldest)));
        for priority in Priority::ALL {
            let mut head = self.store.connection().prepare_cached(texts::of(priority).head)?;
            let head = head.query_row([], |row| seq_of(row, 0)).optional()?;
            oldest = oldest.into_iter().chain(head).min();
        }
        if let Some(first) = self.boots.forget_before(oldest) {
            self.run("DELETE FROM boots WHERE first_seq < ?1", params![signed(first.0)])?;
        }
        Ok(())
    }

    /// For a rollback. They change once or twice a boot, so that a copy costs nothing.
    fn keep_boots(&mut self) {
        if self.before.3.is_none() {
            self.before.3 = Some(self.boots.clone());
        }
    }
}

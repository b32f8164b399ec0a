//! The table `dead`: letters that the cloud will never take, kept for a person.

use rusqlite::{OptionalExtension, params};

use super::{Outbox, class, moment, signed, texts, unsigned};
use crate::model::{Priority, Seq, Timestamp};
use crate::store::StoreError;

/// Of a row that is removed, no more than this lies where it costs something.
const LEAF: usize = 4_000;

impl Outbox {
    /// Moves a record there, and frees its packet id if it has one. Returns when it was accepted, as far as that is known; `None` when there is no
    /// such record.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn bury(
        &mut self,
        (priority, seq): (Priority, Seq),
        cause: &str,
        wall: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let claimed =
            self.run("DELETE FROM inflight WHERE seq = ?1 AND class = ?2", params![signed(seq.0), class(priority)])?;
        let texts = texts::of(priority);
        let mut letter = self.store.connection().prepare_cached(texts.letter)?;
        let found = letter.query_row([signed(seq.0)], |row| {
            let accepted = Timestamp { unix_ms: row.get(0)?, synced: row.get(1)?, at: moment(row, 2)? };
            Ok((accepted, unsigned(row.get(3)?)))
        });
        let found = found.optional()?;
        drop(letter);
        let Some((accepted, bytes)) = found else { return Ok(None) };
        self.run(texts.bury, params![signed(seq.0), cause, wall.unix_ms])?;
        self.spend(usize::try_from(bytes).unwrap_or(0));
        self.counts.dead = (self.counts.dead.0 + 1, self.counts.dead.1 + bytes);
        if claimed > 0 {
            self.delete(priority, seq)?;
        } else {
            self.remove(priority, seq)?;
        }
        Ok(Some(self.boots.mended(seq, accepted)))
    }

    /// How many dead letters there are.
    pub fn dead_count(&self) -> u64 {
        self.counts.dead.0
    }

    /// Throws the oldest dead letters away, until there are at most `letters` and they come to at most `bytes`; a thousand in one call. Returns how many went.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn trim_dead(&mut self, letters: u64, bytes: u64) -> Result<u64, StoreError> {
        let mut gone = 0;
        while (self.counts.dead.0 > letters || self.counts.dead.1 > bytes) && gone < 1_000 {
            let mut oldest = self.store.connection().prepare_cached("SELECT seq FROM dead ORDER BY seq LIMIT 1")?;
            let seq = oldest.query_row([], |row| row.get::<_, i64>(0)).optional()?;
            drop(oldest);
            let Some(seq) = seq.map(|seq| Seq(unsigned(seq))) else { break };
            self.forget_letter(seq)?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Throws one dead letter away.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn forget_letter(&mut self, seq: Seq) -> Result<(), StoreError> {
        let sql = "SELECT length(CAST(topic AS BLOB)) + length(payload) FROM dead WHERE seq = ?1";
        let mut size = self.store.connection().prepare_cached(sql)?;
        let bytes = size.query_row([signed(seq.0)], |row| row.get::<_, i64>(0)).optional()?;
        drop(size);
        if let Some(bytes) = bytes.map(unsigned) {
            self.run("DELETE FROM dead WHERE seq = ?1", params![signed(seq.0)])?;
            self.spend(usize::try_from(bytes).unwrap_or(0).min(LEAF));
            let (count, all) = self.counts.dead;
            self.counts.dead = (count.saturating_sub(1), all.saturating_sub(bytes));
        }
        Ok(())
    }
}

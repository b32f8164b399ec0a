//! The table `exchange`: which QoS 2 messages of local clients are here, for as long as their publishers may say them again.

use std::collections::HashMap;

use rusqlite::params;

use super::Outbox;
use crate::model::ExchangeId;
use crate::store::StoreError;

/// `meta` key: the era in which the table was last kept, and the one before.
const ERA: &str = "era";

impl Outbox {
    /// All of them, with their marks.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`], as all that follow.
    pub fn exchanges(&self) -> Result<HashMap<ExchangeId, u64>, StoreError> {
        let mut statement = self.store.connection().prepare_cached("SELECT session, pkid, mark FROM exchange")?;
        let rows = statement.query_map([], |row| {
            Ok((ExchangeId { session: row.get(0)?, packet_id: row.get(1)? }, row.get::<_, i64>(2)?.cast_unsigned()))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A message is here: in the transaction that has its record.
    ///
    /// # Errors
    /// As above.
    pub fn hold_exchange(&mut self, exchange: ExchangeId, mark: u64) -> Result<(), StoreError> {
        self.spend(0);
        self.run(
            "INSERT OR REPLACE INTO exchange(session, pkid, mark) VALUES (?1, ?2, ?3)",
            params![exchange.session, exchange.packet_id, mark.cast_signed()],
        )
        .map(drop)
    }

    /// Its packet id becomes free: must be committed before its publisher hears of it.
    ///
    /// # Errors
    /// As above.
    pub fn release_exchange(&mut self, exchange: ExchangeId) -> Result<(), StoreError> {
        let ExchangeId { session, packet_id } = exchange;
        self.run("DELETE FROM exchange WHERE session = ?1 AND pkid = ?2", params![session, packet_id]).map(drop)
    }

    /// None of a session comes again.
    ///
    /// # Errors
    /// As above.
    pub fn end_exchanges(&mut self, session: i64) -> Result<(), StoreError> {
        self.run("DELETE FROM exchange WHERE session = ?1", params![session]).map(drop)
    }

    /// None of them counts any more.
    ///
    /// # Errors
    /// As above.
    pub fn forget_exchanges(&mut self) -> Result<(), StoreError> {
        self.run("DELETE FROM exchange", params![]).map(drop)
    }

    /// The era in which they were last kept, and the one before.
    ///
    /// # Errors
    /// As above.
    pub fn eras(&self) -> Result<[Option<i64>; 2], StoreError> {
        let noted = self.meta(ERA)?.unwrap_or_default();
        let mut words = noted.split(' ').map(|word| word.parse().ok());
        Ok([words.next().flatten(), words.next().flatten()])
    }

    /// They are kept in this era, as they were in the one before.
    ///
    /// # Errors
    /// As above.
    pub fn note_era(&mut self, now: i64, before: Option<i64>) -> Result<(), StoreError> {
        let before = before.map(|before| format!(" {before}")).unwrap_or_default();
        self.set_meta(ERA, format!("{now}{before}"))
    }
}

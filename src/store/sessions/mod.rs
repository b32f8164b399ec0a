//! What the local broker keeps on disk: `sessions.db`. The retained messages, and the sessions that outlive their connection; layout in
//! `migrations/sessions_0001.sql` and `sessions_0002.sql`.

mod queues;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{allow, damage, forbid, rows};

use std::path::Path;

use rusqlite::params;

use super::{Opened, Schema, Store, StoreError};
use crate::model::Qos;
pub use queues::{BodyRow, OnWire, QueuedRow, SessionChange, SessionRow, SubscriptionRow};

/// Application id: "TGse" in ASCII.
const SCHEMA: Schema = Schema {
    application_id: 0x5447_7365,
    migrations: &[include_str!("../migrations/sessions_0001.sql"), include_str!("../migrations/sessions_0002.sql")],
    salvaged: false,
};

/// A retained message on its way in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetainedRow<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// QoS it was published with.
    pub qos: Qos,
    /// Wall clock in milliseconds when it stops being retained.
    pub expires_ms: Option<i64>,
    /// MQTT 5 properties as on the wire, length in front.
    pub properties: Option<&'a [u8]>,
    /// Payload.
    pub payload: &'a [u8],
}

/// A change of the retained set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainedChange<'a> {
    /// The topic has this message.
    Keep(RetainedRow<'a>),
    /// The topic has none.
    Clear(&'a str),
}

/// The tables. See the module.
#[derive(Debug)]
pub struct Sessions {
    store: Store,
}

impl Sessions {
    /// Opens the file, makes it if there is none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: &Path) -> Result<(Self, Opened), StoreError> {
        let (store, opened) = Store::open(path, SCHEMA)?;
        Ok((Self { store }, opened))
    }

    /// Moves the damaged file away and goes on with a new one.
    ///
    /// # Errors
    /// As [`Store::quarantine`].
    pub fn quarantine(self, reason: String) -> Result<(Self, Opened), StoreError> {
        let (store, opened) = self.store.quarantine(reason)?;
        Ok((Self { store }, opened))
    }

    /// Whether the file is still where it was opened.
    pub fn is_there(&self) -> bool {
        self.store.is_there()
    }

    fn damaged(&self, reason: &str) -> StoreError {
        StoreError::Damaged { path: self.store.path().to_path_buf(), reason: reason.into() }
    }

    /// See [`Store::shrink`].
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn shrink(&self, pages: u32) -> Result<bool, StoreError> {
        self.store.shrink(pages, u64::MAX)
    }

    /// Shows every retained message.
    ///
    /// # Errors
    /// [`StoreError`]; damage among them.
    pub fn each_retained(&self, mut show: impl FnMut(RetainedRow<'_>)) -> Result<(), StoreError> {
        let damaged = |reason| self.damaged(reason);
        let mut statement =
            self.store.connection().prepare("SELECT topic, qos, exp_ms, props, payload FROM retained")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let topic = row.get_ref(0)?.as_str().map_err(|_| damaged("a topic is no text"))?;
            let qos = u8::try_from(row.get::<_, i64>(1)?).ok().and_then(Qos::from_level);
            let properties = row.get_ref(3)?.as_bytes_or_null().map_err(|_| damaged("properties are no bytes"))?;
            let payload = row.get_ref(4)?.as_bytes().map_err(|_| damaged("a payload is no bytes"))?;
            show(RetainedRow {
                topic,
                qos: qos.ok_or_else(|| damaged("a QoS above 2"))?,
                expires_ms: row.get(2)?,
                properties,
                payload,
            });
        }
        Ok(())
    }

    /// Writes the changes in one commit; when it returns, they survive a kill and a power cut.
    ///
    /// # Errors
    /// [`StoreError`]; then none of them is written.
    pub fn write<'a>(
        &mut self,
        retained: impl IntoIterator<Item = RetainedChange<'a>>,
        sessions: impl IntoIterator<Item = SessionChange<'a>>,
    ) -> Result<(), StoreError> {
        let transaction = self.store.connection().unchecked_transaction()?;
        {
            let mut keep = transaction.prepare_cached(
                "INSERT INTO retained(topic, qos, exp_ms, props, payload) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT(topic) DO UPDATE SET qos = ?2, exp_ms = ?3, props = ?4, payload = ?5",
            )?;
            let mut clear = transaction.prepare_cached("DELETE FROM retained WHERE topic = ?1")?;
            for change in retained {
                match change {
                    RetainedChange::Keep(row) => {
                        keep.execute(params![row.topic, row.qos.level(), row.expires_ms, row.properties, row.payload])?
                    }
                    RetainedChange::Clear(topic) => clear.execute(params![topic])?,
                };
            }
        }
        queues::write(&transaction, sessions)?;
        Ok(transaction.commit()?)
    }

    /// Closes the file in order.
    ///
    /// # Errors
    /// As [`Store::close`].
    pub fn close(self) -> Result<(), StoreError> {
        self.store.close()
    }
}

//! The tables `inflight` and `rx_q2`: how far each handshake with the cloud has come.

use rusqlite::{OptionalExtension, params};

use super::{Outbox, class, priority, qos, seq, signed, texts, unsigned};
use crate::logic::flight::{Claim, Stage};
use crate::model::{Priority, Seq};
use crate::store::StoreError;

impl Outbox {
    /// Packet ids in use, in the order of sending.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn claimed(&self) -> Result<Vec<Claim>, StoreError> {
        let connection = self.store.connection();
        let mut statement = connection.prepare_cached("SELECT pkid, class, seq, st, n FROM inflight ORDER BY n")?;
        let mut rows = statement.query([])?;
        let mut claims = Vec::new();
        while let Some(row) = rows.next()? {
            let (priority, seq) = (priority(row, 1)?, seq(row, 2)?);
            let stage = if row.get::<_, u8>(3)? == 0 { Stage::Publish } else { Stage::Release };
            let (pkid, nth) = (row.get(0)?, unsigned(row.get(4)?));
            let mut size = connection.prepare_cached(texts::of(priority).size)?;
            let found = size.query_row([signed(seq.0)], |row| Ok((qos(row, 0)?, row.get::<_, i64>(1)?))).optional()?;
            if let Some((qos, bytes)) = found {
                let bytes = usize::try_from(bytes).unwrap_or(0);
                claims.push(Claim { pkid, priority, seq, qos, stage, bytes, nth });
            }
        }
        Ok(claims)
    }

    /// Gives a record its packet id: must be committed before the first byte of its PUBLISH.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`]; a packet id that is taken is one.
    pub fn claim(&mut self, claim: &Claim) -> Result<(), StoreError> {
        let Claim { pkid, priority, seq, nth, .. } = claim;
        self.tally_moved(*priority, *seq, false)?;
        self.run(
            "INSERT INTO inflight(pkid, class, seq, st, n) VALUES (?1, ?2, ?3, 0, ?4)",
            params![pkid, class(*priority), signed(seq.0), signed(*nth)],
        )
        .map(drop)
    }

    /// PUBREC came: must be committed before the first byte of the PUBREL.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn release(&mut self, pkid: u16) -> Result<(), StoreError> {
        self.run("UPDATE inflight SET st = 1 WHERE pkid = ?1", params![pkid]).map(drop)
    }

    /// The cloud did not know what it was to release: must be committed before the first byte of the PUBLISH that says it anew.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn unrelease(&mut self, pkid: u16) -> Result<(), StoreError> {
        self.run("UPDATE inflight SET st = 0 WHERE pkid = ?1", params![pkid]).map(drop)
    }

    /// The cloud has it, or will never take it: record and packet id go.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn finish(&mut self, pkid: u16, priority: Priority, seq: Seq) -> Result<(), StoreError> {
        let claimed = self.run("DELETE FROM inflight WHERE pkid = ?1", params![pkid])?;
        if claimed > 0 { self.delete(priority, seq) } else { self.remove(priority, seq) }
    }

    /// The cloud forgot its session: every packet id is free, the records wait again, and their payloads stay what they were when they were sent.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn forget_session(&mut self) -> Result<(), StoreError> {
        self.tally_landed()?;
        for priority in Priority::ALL {
            self.run(texts::of(priority).keep_payloads, params![])?;
        }
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
}

//! What counters have counted, in `state.db`. Layout in `migrations/state_0002.sql`.

use rusqlite::{OptionalExtension, params};

use super::{State, StoreError};
use crate::model::{LineTotals, SensorId};

impl State {
    /// What a sensor had counted when it was last written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn totals(&self, sensor: &SensorId) -> Result<Option<LineTotals>, StoreError> {
        let row = self
            .connection()
            .prepare_cached("SELECT count, missed FROM counter WHERE sensor = ?1")?
            .query_row(params![sensor.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        Ok(row.map(|(count, missed)| LineTotals { count: count.cast_unsigned(), missed: missed.cast_unsigned() }))
    }

    /// Writes what a sensor has counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_totals(&mut self, sensor: &SensorId, totals: LineTotals) -> Result<(), StoreError> {
        let LineTotals { count, missed } = totals;
        self.connection()
            .prepare_cached("INSERT OR REPLACE INTO counter(sensor, count, missed) VALUES (?1, ?2, ?3)")?
            .execute(params![sensor.as_str(), count.cast_signed(), missed.cast_signed()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensor(id: &str) -> SensorId {
        SensorId::parse(id).unwrap()
    }

    #[test]
    fn totals_outlive_a_kill_and_belong_to_their_sensor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        let (mut state, _) = State::open(&path).unwrap();
        let totals = LineTotals { count: u64::MAX, missed: 3 };
        state.begin().unwrap();
        state.keep_totals(&sensor("rain"), LineTotals { count: 1, missed: 0 }).unwrap();
        state.keep_totals(&sensor("rain"), totals).unwrap();
        state.commit().unwrap();
        // Not closed: as after a kill.
        drop(state);
        let (state, _) = State::open(&path).unwrap();
        assert_eq!(state.totals(&sensor("rain")).unwrap(), Some(totals));
        assert_eq!(state.totals(&sensor("wind")).unwrap(), None);
    }
}

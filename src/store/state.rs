//! What the gateway itself must remember: `state.db`. Layout in `migrations/state_0001.sql`.
//!
//! Of the commands of an actuator the last [`COMMANDS_KEPT`] are remembered, and none for longer than [`COMMANDS_AGE`]: an id that comes
//! again after that is a new command.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::{Opened, Schema, Store, StoreError};
use crate::limits::{COMMANDS_AGE, COMMANDS_KEPT};
use crate::model::{Ack, ActuatorId, CommandId, Outcome, Timestamp};

/// Application id: "TGst" in ASCII.
const SCHEMA: Schema = Schema {
    application_id: 0x5447_7374,
    migrations: &[include_str!("migrations/state_0001.sql"), include_str!("migrations/state_0002.sql")],
    salvaged: false,
};

/// The number of a command that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(i64);

/// What the file says to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It was not known; it is noted, and may be done when the commit has returned.
    New(Number),
    /// Its id is known. The answer it had, unless it is still under way.
    Known(Option<(Outcome, Option<Arc<str>>)>),
}

/// A command that was taken by an earlier process and never answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Its number.
    pub number: Number,
    /// Whom it was for.
    pub actuator: String,
    /// Its id, where it had one.
    pub id: Option<CommandId>,
}

/// The tables. Its methods make one transaction when called between [`State::begin`] and [`State::commit`].
#[derive(Debug)]
pub struct State {
    store: Store,
    /// Rows up to this one are an earlier process's.
    before: i64,
    /// The last number given. Ours, not SQLite's, which gives that of the last row again when the row is gone.
    last: i64,
}

impl State {
    /// Opens the file, makes it if there is none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: &Path) -> Result<(Self, Opened), StoreError> {
        let (store, opened) = Store::open(path, SCHEMA)?;
        match last_number(&store) {
            Ok(last) => Ok((Self { store, before: last, last }, opened)),
            Err(error) if error.is_damage() => {
                let (store, opened) = store.quarantine(error.to_string())?;
                Ok((Self { store, before: 0, last: 0 }, opened))
            }
            Err(error) => Err(error),
        }
    }

    /// Moves the damaged file away and goes on with a new one.
    ///
    /// # Errors
    /// As [`Store::quarantine`].
    pub fn quarantine(self, reason: String) -> Result<(Self, Opened), StoreError> {
        let (store, opened) = self.store.quarantine(reason)?;
        Ok((Self { store, before: 0, last: 0 }, opened))
    }

    /// Whether the file is still where it was opened.
    pub fn is_there(&self) -> bool {
        self.store.is_there()
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(&mut self) -> Result<(), StoreError> {
        // One that a failed commit left open would make this one fail for ever.
        self.roll_back();
        Ok(self.store.connection().execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Ends it; when this returns, what it wrote survives a kill and a power cut.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of it is written.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        let outcome = self.store.connection().execute_batch("COMMIT");
        if outcome.is_err() {
            self.roll_back();
        }
        Ok(outcome?)
    }

    /// Forgets what was done since [`Self::begin`].
    pub fn roll_back(&mut self) {
        if !self.store.connection().is_autocommit() {
            // SQLite has rolled back by itself after the errors that matter; the only failure left is that there is nothing to roll back.
            let _ = self.store.connection().execute_batch("ROLLBACK");
        }
    }

    /// Notes a command, with its answer if it has one already. One whose id is known changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn take(
        &mut self,
        actuator: &ActuatorId,
        id: Option<&CommandId>,
        answer: Option<&Ack>,
        at: Timestamp,
    ) -> Result<Taken, StoreError> {
        let connection = self.store.connection();
        if let Some(id) = id {
            let known = connection
                .prepare_cached("SELECT outcome, reason FROM command WHERE actuator = ?1 AND id = ?2")?
                .query_row(params![actuator.as_str(), id.as_str()], |row| {
                    Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<Arc<str>>>(1)?))
                })
                .optional()?;
            if let Some((word, reason)) = known {
                let outcome = word.map(|word| self.outcome(&word)).transpose()?;
                return Ok(Taken::Known(outcome.map(|outcome| (outcome, reason))));
            }
        }
        self.last += 1;
        let number = Number(self.last);
        connection
            .prepare_cached(
                "INSERT INTO command(n, actuator, id, ts_ms, synced, outcome, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                number.0,
                actuator.as_str(),
                id.map(CommandId::as_str),
                at.unix_ms,
                at.synced,
                answer.map(|answer| answer.outcome.word()),
                answer.and_then(|answer| answer.reason.as_deref()),
            ])?;
        self.forget(actuator, at)?;
        Ok(Taken::New(number))
    }

    /// Notes the answer to a command that was taken.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn answer(&mut self, number: Number, outcome: Outcome, reason: Option<&str>) -> Result<(), StoreError> {
        let connection = self.store.connection();
        connection.prepare_cached("DELETE FROM command WHERE n = ?1 AND id IS NULL")?.execute(params![number.0])?;
        connection.prepare_cached("UPDATE command SET outcome = ?2, reason = ?3 WHERE n = ?1")?.execute(params![
            number.0,
            outcome.word(),
            reason
        ])?;
        Ok(())
    }

    /// The commands that an earlier process took and never answered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unanswered(&mut self) -> Result<Vec<Unanswered>, StoreError> {
        let connection = self.store.connection();
        let mut statement =
            connection.prepare("SELECT n, actuator, id FROM command WHERE outcome IS NULL AND n <= ?1 ORDER BY n")?;
        let rows = statement.query_map(params![self.before], |row| {
            let id: Option<String> = row.get(2)?;
            let id = id.as_deref().and_then(CommandId::parse);
            Ok(Unanswered { number: Number(row.get(0)?), actuator: row.get(1)?, id })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// For the tables of another file of this room.
    pub(super) fn connection(&self) -> &rusqlite::Connection {
        self.store.connection()
    }

    /// Closes the file in order.
    ///
    /// # Errors
    /// As [`Store::close`].
    pub fn close(self) -> Result<(), StoreError> {
        self.store.close()
    }

    /// What is beyond the bounds goes. A command that has no answer yet stays: it is under way.
    fn forget(&self, actuator: &ActuatorId, at: Timestamp) -> Result<(), StoreError> {
        let connection = self.store.connection();
        connection
            .prepare_cached(
                "DELETE FROM command WHERE actuator = ?1 AND outcome IS NOT NULL AND n <=
                     (SELECT n FROM command WHERE actuator = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute(params![actuator.as_str(), COMMANDS_KEPT])?;
        // An age by a clock that had not been set is no age.
        if at.synced {
            let age_ms = i64::try_from(COMMANDS_AGE.as_millis()).unwrap_or(i64::MAX);
            connection
                .prepare_cached("DELETE FROM command WHERE synced AND outcome IS NOT NULL AND ts_ms < ?1")?
                .execute(params![at.unix_ms.saturating_sub(age_ms)])?;
        }
        Ok(())
    }

    fn outcome(&self, word: &str) -> Result<Outcome, StoreError> {
        Outcome::of(word).ok_or_else(|| StoreError::Damaged {
            path: self.store.path().to_path_buf(),
            reason: "an answer that nobody gives".into(),
        })
    }
}

fn last_number(store: &Store) -> Result<i64, StoreError> {
    Ok(store.connection().query_row("SELECT coalesce(max(n), 0) FROM command", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { unix_ms: 1_795_396_500_000, synced: true, at: None };

    fn pump() -> ActuatorId {
        ActuatorId::parse("pump").unwrap()
    }

    fn id(text: &str) -> Option<CommandId> {
        CommandId::parse(text)
    }

    fn new_state() -> (tempfile::TempDir, State) {
        let directory = tempfile::tempdir().unwrap();
        let (state, opened) = State::open(&directory.path().join("state.db")).unwrap();
        assert_eq!(opened, Opened::New);
        (directory, state)
    }

    fn again(directory: &tempfile::TempDir, state: State) -> State {
        // Not closed: as after a kill.
        drop(state);
        State::open(&directory.path().join("state.db")).unwrap().0
    }

    fn take(state: &mut State, text: &str, at: Timestamp) -> Taken {
        state.begin().unwrap();
        let taken = state.take(&pump(), id(text).as_ref(), None, at).unwrap();
        state.commit().unwrap();
        taken
    }

    #[test]
    fn an_id_that_was_taken_is_known_with_its_answer_also_to_the_next_process() {
        let (directory, mut state) = new_state();
        let Taken::New(number) = take(&mut state, "7", NOW) else { panic!("not new") };
        assert_eq!(take(&mut state, "7", NOW), Taken::Known(None), "under way");
        state.answer(number, Outcome::Failed, Some("no answer")).unwrap();
        let mut state = again(&directory, state);
        assert_eq!(take(&mut state, "7", NOW), Taken::Known(Some((Outcome::Failed, Some("no answer".into())))));
        assert_eq!(state.unanswered().unwrap(), []);
    }

    #[test]
    fn ids_of_one_actuator_are_nothing_to_another() {
        let (_directory, mut state) = new_state();
        take(&mut state, "7", NOW);
        let other = ActuatorId::parse("valve").unwrap();
        assert!(matches!(state.take(&other, id("7").as_ref(), None, NOW).unwrap(), Taken::New(_)));
    }

    #[test]
    fn what_is_not_committed_was_not_taken() {
        let (directory, mut state) = new_state();
        state.begin().unwrap();
        state.take(&pump(), id("7").as_ref(), None, NOW).unwrap();
        let mut state = again(&directory, state);
        assert!(matches!(take(&mut state, "7", NOW), Taken::New(_)));
    }

    #[test]
    fn what_an_earlier_process_left_without_an_answer_is_told_to_the_next_alone() {
        let (directory, mut state) = new_state();
        take(&mut state, "7", NOW);
        state.take(&pump(), None, None, NOW).unwrap();
        assert_eq!(state.unanswered().unwrap(), [], "its own are under way");
        let mut state = again(&directory, state);
        take(&mut state, "8", NOW);
        let left = state.unanswered().unwrap();
        let told: Vec<_> = left.iter().map(|left| (left.actuator.as_str(), left.id.clone())).collect();
        assert_eq!(told, [("pump", id("7")), ("pump", None)]);
        for left in &left {
            state.answer(left.number, Outcome::Interrupted, Some("the gateway was stopped")).unwrap();
        }
        assert_eq!(state.unanswered().unwrap(), []);
    }

    #[test]
    fn only_so_many_are_remembered_and_none_that_is_under_way_is_forgotten() {
        let (_directory, mut state) = new_state();
        let refused = Ack::because(None, Outcome::Refused, "not yet");
        let Taken::New(first) = state.take(&pump(), id("first").as_ref(), None, NOW).unwrap() else { panic!("known") };
        for n in 0..COMMANDS_KEPT + 10 {
            state.take(&pump(), id(&n.to_string()).as_ref(), Some(&refused), NOW).unwrap();
        }
        let count = |state: &State| -> u32 {
            state.store.connection().query_row("SELECT count(*) FROM command", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count(&state), COMMANDS_KEPT + 1);
        assert_eq!(take(&mut state, "first", NOW), Taken::Known(None));
        assert!(matches!(take(&mut state, "0", NOW), Taken::New(_)), "forgotten");
        state.answer(first, Outcome::Done, None).unwrap();
        let late = Timestamp { unix_ms: NOW.unix_ms + 8 * 86_400_000, synced: true, at: None };
        take(&mut state, "late", Timestamp { synced: false, ..late });
        assert!(count(&state) > 2, "by a clock that is not set nothing is old");
        take(&mut state, "later", late);
        assert_eq!(count(&state), 3, "the last two, and the one without an answer");
    }

    #[test]
    fn a_command_without_an_id_is_forgotten_with_its_answer() {
        let (_directory, mut state) = new_state();
        let Taken::New(number) = state.take(&pump(), None, None, NOW).unwrap() else { panic!("known") };
        state.answer(number, Outcome::Done, None).unwrap();
        let left: u32 =
            state.store.connection().query_row("SELECT count(*) FROM command", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }
}

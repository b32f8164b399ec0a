//! Texts by name in `state.db`: what is too small for a table of its own. They stand in `meta`, apart from what the store says of itself.

use rusqlite::{OptionalExtension, params};

use super::{State, StoreError};

impl State {
    /// What was noted under a name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn noted(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.connection().prepare_cached("SELECT v FROM meta WHERE k = ?1")?;
        Ok(statement.query_row(params![key(name)], |row| row.get(0)).optional()?)
    }

    /// Notes a text under a name, in place of the one before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note(&mut self, name: &str, text: &str) -> Result<(), StoreError> {
        let mut statement = self.connection().prepare_cached("INSERT OR REPLACE INTO meta(k, v) VALUES (?1, ?2)")?;
        statement.execute(params![key(name), text])?;
        Ok(())
    }
}

fn key(name: &str) -> String {
    format!("note:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_text_under_a_name_is_kept_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || State::open(&dir.path().join("state.db")).unwrap().0;
        let write = |state: &mut State, text: &str| {
            state.begin().unwrap();
            state.note("a", text).unwrap();
            state.commit().unwrap();
        };
        let mut state = open();
        assert_eq!(state.noted("a").unwrap(), None);
        write(&mut state, "one");
        write(&mut state, "two");
        state.close().unwrap();
        let mut state = open();
        assert_eq!((state.noted("a").unwrap().as_deref(), state.noted("b").unwrap()), (Some("two"), None));
    }
}

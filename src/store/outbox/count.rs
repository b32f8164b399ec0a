//! How many records there are, known without ever walking over all of them at once.
//!
//! A close in order leaves the numbers in the file, and the first change takes them out again in its own transaction: so they are there only
//! while they are true. Without them the records are counted in steps, and until that has come to its end the count is a lower bound.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Outbox, signed, texts, unsigned};
use crate::model::{Priority, Seq};
use crate::store::StoreError;

/// `meta` key: the records of each class, while the file is closed.
const COUNTS: &str = "counts";

/// The numbers, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    classes: [Class; Priority::ALL.len()],
    /// Records from here on were added by us, and were counted then.
    ours: Seq,
    /// Whether the file has them too.
    stored: bool,
    /// Dead letters, and the bytes of their topics and payloads.
    pub(super) dead: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Class {
    count: u64,
    /// Up to where it was counted; `None`: to its end.
    counted_to: Option<Seq>,
}

impl Counts {
    /// Reads what an orderly close left. `next` is the number of the next record.
    pub(super) fn load(connection: &Connection, next: Seq) -> rusqlite::Result<Self> {
        let stored = stored(connection)?;
        let unknown = Class { count: 0, counted_to: Some(Seq(0)) };
        let counts = stored.as_deref().and_then(of_classes);
        let classes = counts.map_or([unknown; 4], |counts| counts.map(|count| Class { count, counted_to: None }));
        // There are only so many dead letters (`limits::DEAD_LETTERS_MAX`).
        let sql = "SELECT count(*), coalesce(sum(length(CAST(topic AS BLOB)) + length(payload)), 0) FROM dead";
        let dead = connection.query_row(sql, [], |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))))?;
        Ok(Self { classes, ours: next, stored: stored.is_some(), dead })
    }

    pub(super) fn of(&self, priority: Priority) -> u64 {
        self.classes[priority.index()].count
    }

    pub(super) fn all(&self) -> u64 {
        self.classes.iter().map(|class| class.count).sum()
    }

    pub(super) fn are_known(&self) -> bool {
        self.classes.iter().all(|class| class.counted_to.is_none())
    }

    pub(super) fn pushed(&mut self, priority: Priority) {
        self.classes[priority.index()].count += 1;
    }

    /// An old one came in under its own number: behind the counting it is met there.
    pub(super) fn brought(&mut self, priority: Priority, seq: Seq) {
        let class = &mut self.classes[priority.index()];
        if seq >= self.ours || class.counted_to.is_none_or(|to| seq <= to) {
            class.count += 1;
        }
    }

    pub(super) fn removed(&mut self, priority: Priority, seq: Seq) {
        let class = &mut self.classes[priority.index()];
        if seq >= self.ours || class.counted_to.is_none_or(|to| seq <= to) {
            class.count = class.count.saturating_sub(1);
        }
    }
}

/// What the file says of the numbers.
fn stored(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut stored = connection.prepare_cached("SELECT CAST(v AS TEXT) FROM meta WHERE k = ?1")?;
    stored.query_row([COUNTS], |row| row.get(0)).optional()
}

fn of_classes(text: &str) -> Option<[u64; Priority::ALL.len()]> {
    text.split(' ').flat_map(str::parse).collect::<Vec<u64>>().try_into().ok()
}

/// Records in a file that was closed in order and not changed since.
pub(in crate::store) fn kept(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    Ok(stored(connection)?.as_deref().and_then(of_classes).map(|counts| counts.iter().sum()))
}

impl Outbox {
    /// Records waiting, in flight included: at least so many until [`Outbox::is_counted`].
    pub fn count(&self) -> u64 {
        self.counts.all()
    }

    /// Of those, the ones of a class.
    pub fn count_of(&self, priority: Priority) -> u64 {
        self.counts.of(priority)
    }

    /// Whether the count is exact.
    pub fn is_counted(&self) -> bool {
        self.counts.are_known()
    }

    /// Counts on, over at most `rows` records. Not within a transaction.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn count_on(&mut self, rows: usize) -> Result<(), StoreError> {
        let mut left = rows;
        for priority in Priority::ALL {
            let class = self.counts.classes[priority.index()];
            let Some(after) = class.counted_to.filter(|_| left > 0) else { continue };
            let mut statement = self.store.connection().prepare_cached(texts::of(priority).count)?;
            let limit = i64::try_from(left).unwrap_or(i64::MAX);
            let (count, last) = statement
                .query_row(params![signed(after.0), signed(self.counts.ours.0), limit], |row| {
                    Ok((unsigned(row.get(0)?), row.get::<_, Option<i64>>(1)?.map(unsigned)))
                })?;
            let counted = usize::try_from(count).unwrap_or(usize::MAX);
            let counted_to = last.map(Seq).filter(|_| counted >= left);
            self.counts.classes[priority.index()] = Class { count: class.count + count, counted_to };
            left = left.saturating_sub(counted);
        }
        Ok(())
    }

    /// With the first change of a transaction: what the file says of the numbers is true no longer.
    pub(super) fn forget_counts(&mut self) -> Result<(), StoreError> {
        if self.counts.stored {
            self.run("DELETE FROM meta WHERE k = ?1", params![COUNTS])?;
            self.counts.stored = false;
        }
        Ok(())
    }

    /// Leaves the numbers in the file, as the last change before it is closed.
    pub(super) fn store_counts(&mut self) -> Result<(), StoreError> {
        if self.is_counted() && !self.counts.stored {
            let text = self.counts.classes.map(|class| class.count.to_string()).join(" ");
            self.set_meta(COUNTS, text)?;
        }
        Ok(())
    }
}

//! How much of each rule waits: only of rules with limits of their own, in memory, made by one walk in bounded steps after a start and kept up from
//! there. What is in flight does not count: it can not be given up.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::{Outbox, seq, signed, texts, unsigned, waiting};
use crate::model::{Priority, RuleId, Seq};
use crate::store::{StoreError, Waiting};

/// Records and bytes of topics and payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Records.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What waits, by rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tally {
    rules: BTreeMap<RuleId, Kept>,
    /// Where the walk is: class and number that were counted last, and the first number that was counted as it came in.
    walk: Option<(usize, Seq, Seq)>,
}

impl Tally {
    fn knows(&self, priority: Priority, seq: Seq) -> bool {
        self.walk.is_none_or(|(class, at, from)| {
            seq >= from || priority.index() < class || (priority.index() == class && seq <= at)
        })
    }

    fn add(&mut self, rule: Option<RuleId>, bytes: u64) {
        if let Some(kept) = rule.and_then(|rule| self.rules.get_mut(&rule)) {
            *kept = Kept { count: kept.count + 1, bytes: kept.bytes + bytes };
        }
    }

    fn take(&mut self, rule: Option<RuleId>, bytes: u64) {
        if let Some(kept) = rule.and_then(|rule| self.rules.get_mut(&rule)) {
            *kept = Kept { count: kept.count.saturating_sub(1), bytes: kept.bytes.saturating_sub(bytes) };
        }
    }
}

/// A record of a walk: what it is, whose, and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The record.
    pub record: Waiting,
    /// The rule that took it up.
    pub rule: Option<RuleId>,
    /// Its topic.
    pub topic: String,
    /// Bytes of topic and payload.
    pub bytes: u64,
}

impl Outbox {
    /// From here on these rules are counted, and what the file holds of them is counted by [`Outbox::tally_on`].
    pub fn count_rules(&mut self, rules: impl Iterator<Item = RuleId>) {
        let rules: BTreeMap<RuleId, Kept> = rules.map(|rule| (rule, Kept::default())).collect();
        if rules.keys().eq(self.tally.rules.keys()) {
            return;
        }
        let walk = (!rules.is_empty() && self.count() > 0).then_some((0, Seq(0), Seq(self.next)));
        self.tally = Tally { rules, walk };
    }

    /// Whether the file holds what has not been counted yet.
    pub fn is_tallying(&self) -> bool {
        self.tally.walk.is_some()
    }

    /// Counts on, at most so many records; outside of a transaction.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn tally_on(&mut self, limit: usize) -> Result<(), StoreError> {
        let Some((class, at, from)) = self.tally.walk else { return Ok(()) };
        let Some(priority) = Priority::at(class) else {
            self.tally.walk = None;
            return Ok(());
        };
        let rows = self.waiting_after(priority, at, limit)?;
        let mut last = None;
        for row in rows.iter().take_while(|row| row.record.seq < from) {
            self.tally.add(row.rule, row.bytes);
            last = Some(row.record.seq);
        }
        self.tally.walk = Some(match last {
            Some(last) => (class, last, from),
            None => (class + 1, Seq(0), from),
        });
        Ok(())
    }

    /// What waits of a counted rule.
    pub fn kept(&self, rule: RuleId) -> Kept {
        self.tally.rules.get(&rule).copied().unwrap_or_default()
    }

    /// Records of a class that are not in flight, from behind `after` on, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn waiting_after(&self, priority: Priority, after: Seq, limit: usize) -> Result<Vec<Seen>, StoreError> {
        let mut statement = self.store.connection().prepare_cached(texts::of(priority).waiting_after)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![signed(after.0), limit], |row| {
            let rule = row.get::<_, Option<u32>>(4)?.map(RuleId);
            Ok(Seen { record: waiting(row, priority)?, rule, topic: row.get(5)?, bytes: unsigned(row.get(6)?) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// An old one came in under its own number: behind the walk it is met there.
    pub(super) fn tally_brought(&mut self, priority: Priority, seq: Seq, rule: Option<RuleId>, bytes: usize) {
        if self.tally.knows(priority, seq) {
            self.tally.add(rule, bytes as u64);
        }
    }

    pub(super) fn tally_pushed(&mut self, rule: Option<RuleId>, bytes: usize) {
        self.tally.add(rule, bytes as u64);
    }

    /// The record is about to go, or to be put in flight (`false`), or waits again (`true`).
    pub(super) fn tally_moved(&mut self, priority: Priority, seq: Seq, waits: bool) -> Result<(), StoreError> {
        if self.tally.rules.is_empty() || !self.tally.knows(priority, seq) {
            return Ok(());
        }
        let found = {
            let mut statement = self.store.connection().prepare_cached(texts::of(priority).whose)?;
            let whose = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<u32>>(0)?, unsigned(row.get(1)?)));
            statement.query_row([signed(seq.0)], whose).optional()?
        };
        if let Some((rule, bytes)) = found {
            let rule = rule.map(RuleId);
            if waits { self.tally.add(rule, bytes) } else { self.tally.take(rule, bytes) }
        }
        Ok(())
    }

    /// Everything that is in flight waits again.
    pub(super) fn tally_landed(&mut self) -> Result<(), StoreError> {
        if self.tally.rules.is_empty() {
            return Ok(());
        }
        let flying: Vec<(Priority, Seq)> = {
            let mut statement = self.store.connection().prepare_cached("SELECT class, seq FROM inflight")?;
            let rows = statement.query_map([], |row| Ok((super::priority(row, 0)?, seq(row, 1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        flying.into_iter().try_for_each(|(priority, seq)| self.tally_moved(priority, seq, true))
    }
}

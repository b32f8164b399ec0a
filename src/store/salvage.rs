//! What can be read of a damaged outbox: its records, page by page, in any state the file may be in.
//!
//! A record that is given out was found whole, on a page that was in use, and has the form of a record. That its payload is as it was written
//! nobody can tell: SQLite keeps no checksum of it. What lies beside something broken on the same page is not trusted.
//!
//! Knows every layout that outboxes have had: `q` (schema 1 and 2), `q0` to `q3` (3).

mod cells;
mod pages;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use self::cells::{Row, Value};
use self::pages::{Pages, Use};
use super::{Record, footprint};
use crate::limits::SALVAGE_SAMPLE_PAGES;
use crate::model::{Priority, Qos, RuleId, Seq, Timestamp, TopicName};

/// Numbers that a record can have: no store comes near the end of them. One beyond is damage, and must not decide where the next store begins.
const NUMBERS: std::ops::Range<u64> = 1..1 << 60;

/// A damaged file that is being read.
pub struct Salvage {
    pages: Pages,
    /// Tables by their first page; without it where the list of tables cannot be read.
    tables: HashMap<u32, Table>,
    /// The next page.
    at: u32,
    lost_ranges: u64,
    dead: u64,
    /// Whether the page before this one was damaged too.
    in_damage: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Records(Priority),
    Handshakes,
    Dead,
    Notes,
    Other,
}

impl Salvage {
    /// Opens the database of this name in a quarantine, from a page on; 1 is the first.
    ///
    /// # Errors
    /// `NotFound` when it is not there; any other when it cannot be read now.
    pub fn open(path: &Path, at: u32) -> io::Result<Self> {
        Ok(Self::of(Pages::open(path)?, at))
    }

    /// The same where the log beside it does not open. What was in that alone is not found, and what it changed is as it was before.
    ///
    /// # Errors
    /// As [`Salvage::open`], of the database alone.
    pub fn open_without_log(path: &Path, at: u32) -> io::Result<Self> {
        Ok(Self::of(Pages::open_without_log(path)?, at))
    }

    fn of(pages: Pages, at: u32) -> Self {
        let lost_ranges = if at <= 1 { pages.holes() } else { 0 };
        let mut salvage = Self { pages, tables: HashMap::new(), at: at.max(1), lost_ranges, dead: 0, in_damage: false };
        salvage.tables = salvage.list();
        salvage
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        self.at > self.pages.count()
    }

    /// The page to go on with.
    pub fn position(&self) -> u32 {
        self.at
    }

    /// Places that could not be read since the last call; neighbouring pages are one.
    pub fn take_lost_ranges(&mut self) -> u64 {
        std::mem::take(&mut self.lost_ranges)
    }

    /// Dead letters that were met since the last call: they stay where they are.
    pub fn take_dead(&mut self) -> u64 {
        std::mem::take(&mut self.dead)
    }

    /// Number above all that the file can have given out, as far as that can be read.
    pub fn first_unused(&mut self) -> Option<Seq> {
        let root_of = |wanted: fn(&Table) -> bool| move |(root, table): (&u32, &Table)| wanted(table).then_some(*root);
        let notes = self.tables.iter().find_map(root_of(|table| *table == Table::Notes));
        let leased = notes.and_then(|root| self.pages.read(root)).and_then(|page| {
            cells::entries(&page).into_iter().find_map(|entry| match &entry[..] {
                [Value::Text(key), Value::Number(lease)] if key == b"seq_lease" => {
                    u64::try_from(*lease).ok().filter(|lease| NUMBERS.contains(lease))
                }
                _ => None,
            })
        });
        let roots: Vec<u32> =
            self.tables.iter().filter_map(root_of(|table| matches!(table, Table::Records(_) | Table::Dead))).collect();
        let last = roots.into_iter().filter_map(|root| self.last_below(root)).max();
        let last = if self.tables.is_empty() { self.last_of_some() } else { last };
        leased.max(last.map(|last| last + 1)).map(Seq)
    }

    /// The highest number on the first pages, where the list of tables cannot be read: most of what is in a file is of its own numbers.
    fn last_of_some(&mut self) -> Option<u64> {
        let count = self.pages.count().min(SALVAGE_SAMPLE_PAGES);
        let last = |number| {
            let page = self.pages.read(number)?;
            let rows = cells::rows(&mut self.pages, number, &page)?.into_iter().flatten();
            rows.filter_map(|row| record(row, Priority::default())).map(|record| record.seq.0).max()
        };
        (2..=count).filter_map(last).max()
    }

    /// The highest number in a table: on the leaf at its end.
    fn last_below(&mut self, root: u32) -> Option<u64> {
        let mut number = root;
        for _ in 0..pages::DEPTH {
            let page = self.pages.read(number)?;
            if page[0] != 5 {
                let rows = cells::rows(&mut self.pages, number, &page)?.into_iter().flatten();
                return rows.map(|row| row.id).filter(|id| NUMBERS.contains(id)).max();
            }
            number = cells::number(&page[8..12]);
        }
        None
    }

    /// The records of the next pages, at most `pages` of them, and no more once their footprints come to `bytes`.
    pub fn step(&mut self, pages: u32, bytes: u64) -> Vec<Record> {
        let (mut found, mut size) = (Vec::new(), 0);
        let end = self.at.saturating_add(pages);
        while !self.is_done() && self.at < end && size < bytes {
            let before = found.len();
            self.page(self.at, &mut found);
            let size_of = |record: &Record| footprint(record.bytes() + record.properties.as_ref().map_or(0, Vec::len));
            size += found[before..].iter().map(size_of).sum::<u64>();
            self.at += 1;
        }
        found
    }

    fn page(&mut self, number: u32, found: &mut Vec<Record>) {
        let used = self.pages.used_for(number);
        let table = match used {
            // Page 1 holds the list of tables.
            Use::Tree(1) | Use::Other => return self.in_damage = number == 1 && self.tables.is_empty(),
            Use::Tree(root) if !self.tables.is_empty() => Some(self.tables.get(&root).copied().unwrap_or(Table::Other)),
            _ => None,
        };
        if table.is_some_and(|table| !matches!(table, Table::Records(_))) {
            if table == Some(Table::Dead)
                && let Some(page) = self.pages.read(number)
                && let Some(rows) = cells::rows(&mut self.pages, number, &page)
            {
                self.dead += rows.len() as u64;
            }
            self.in_damage = false;
            return;
        }
        let Some(page) = self.pages.read(number) else { return self.damaged() };
        // An inner page: 5. What the list of tables says nothing of may be an index: 2 and 10.
        let is_inner = page[0] == 5 || (table.is_none() && matches!(page[0], 2 | 10));
        let Some(rows) = cells::rows(&mut self.pages, number, &page) else {
            if is_inner || (used == Use::Unknown && page[0] != 13) {
                self.in_damage = false;
            } else {
                self.damaged();
            }
            return;
        };
        let priority = match table {
            Some(Table::Records(priority)) => priority,
            _ => Priority::default(),
        };
        let records: Vec<Option<Record>> = rows.into_iter().map(|row| record(row.ok()?, priority)).collect();
        let is_ours = table.is_some() || records.iter().any(Option::is_some);
        let is_whole = records.iter().all(Option::is_some);
        for nth in 0..records.len() {
            let good = |at: Option<usize>| at.and_then(|at| records.get(at)).is_none_or(Option::is_some);
            if let Some(record) = &records[nth]
                && good(nth.checked_sub(1))
                && good(Some(nth + 1))
            {
                found.push(record.clone());
            }
        }
        if is_whole || !is_ours {
            self.in_damage = false;
        } else {
            self.damaged();
        }
    }

    fn damaged(&mut self) {
        self.lost_ranges += u64::from(!self.in_damage);
        self.in_damage = true;
    }

    /// The leaves below an inner page, itself if it is one; as many as there are pages at most.
    fn rows_below(&mut self, root: u32) -> Option<Vec<Row>> {
        let (mut open, mut rows, mut seen) = (vec![root], Vec::new(), HashSet::new());
        while let Some(number) = open.pop() {
            let page = self.pages.read(number).filter(|_| seen.insert(number))?;
            let head = if number == 1 { 100 } else { 0 };
            if page[head] == 5 {
                let count = usize::from(page[head + 3]) << 8 | usize::from(page[head + 4]);
                open.push(cells::number(&page[head + 8..]));
                for nth in 0..count {
                    let at = head + 12 + nth * 2;
                    let cell = usize::from(*page.get(at)?) << 8 | usize::from(*page.get(at + 1)?);
                    open.push(cells::number(page.get(cell..)?));
                }
            } else {
                let found = cells::rows(&mut self.pages, number, &page)?;
                rows.extend(found.into_iter().collect::<Result<Vec<_>, _>>().ok()?);
            }
        }
        Some(rows)
    }

    /// The tables by their first page, from the list that begins on page 1. Empty when that cannot be read.
    fn list(&mut self) -> HashMap<u32, Table> {
        let rows = self.rows_below(1).unwrap_or_default();
        let entries = rows.iter().filter_map(|row| match &row.values[..] {
            [Value::Text(kind), Value::Text(name), _, Value::Number(root), ..] if kind == b"table" => {
                let table = match &name[..] {
                    b"q0" => Table::Records(Priority::Urgent),
                    b"q1" => Table::Records(Priority::High),
                    b"q" | b"q2" => Table::Records(Priority::Normal),
                    b"q3" => Table::Records(Priority::Low),
                    b"inflight" => Table::Handshakes,
                    b"dead" => Table::Dead,
                    b"meta" => Table::Notes,
                    _ => Table::Other,
                };
                Some((u32::try_from(*root).ok()?, table))
            }
            _ => None,
        });
        let tables: HashMap<_, _> = entries.collect();
        // A list without records is none of ours, or not all there.
        let has_records = tables.values().any(|table| matches!(table, Table::Records(_)));
        if has_records { tables } else { HashMap::new() }
    }

    /// Numbers of the records that were half handed over: PUBREC had come. `None` when that cannot be read.
    pub fn released(&mut self) -> Option<HashSet<Seq>> {
        let root = self.tables.iter().find(|(_, table)| **table == Table::Handshakes).map(|(root, _)| *root)?;
        let rows = self.rows_below(root)?;
        let released = rows.iter().map(|row| match &row.values[..] {
            [Value::Null, Value::Number(seq), Value::Number(stage)]
            | [Value::Null, Value::Number(_), Value::Number(seq), Value::Number(stage), Value::Number(_)] => {
                Some((Seq(u64::try_from(*seq).ok()?), *stage == 1))
            }
            _ => None,
        });
        let released = released.collect::<Option<Vec<_>>>()?;
        Some(released.into_iter().filter(|(_, is)| *is).map(|(seq, _)| seq).collect())
    }
}

/// Whether the log beside a database begins with what no log begins with: SQLite would take it for empty, and what was committed into it would be
/// gone without a word. One of nothing but zeros is what a power cut leaves of the first write to it.
pub(super) fn log_is_garbage(path: &Path) -> bool {
    let mut head = [0; 32];
    let read = std::fs::File::open(super::quarantine::with_suffix(path, "-wal"))
        .and_then(|mut log| io::Read::read_exact(&mut log, &mut head));
    read.is_ok() && head != [0; 32] && !pages::begins_a_log(&head)
}

/// Whether the log beside a database goes on behind a place where it is damaged.
pub(super) fn log_has_a_hole(path: &Path) -> bool {
    let log = std::fs::File::open(super::quarantine::with_suffix(path, "-wal"));
    log.is_ok_and(|log| pages::goes_on_behind_damage(&log))
}

/// The record that a row holds, if it has the form of one. Points on a monotonic clock are left out: whose boot they are of is not known any
/// more.
fn record(row: Row, priority: Priority) -> Option<Record> {
    fn flag(value: &Value) -> Option<bool> {
        match value {
            Value::Number(number @ 0..=1) => Some(*number == 1),
            _ => None,
        }
    }

    let mut values = row.values.into_iter();
    let mut next = || values.next();
    let seq = Some(row.id).filter(|id| NUMBERS.contains(id))?;
    let (Value::Null, Value::Number(qos @ 1..=2)) = (next()?, next()?) else { return None };
    let retain = flag(&next()?)?;
    let Value::Number(unix_ms) = next()? else { return None };
    let synced = flag(&next()?)?;
    let expires_ms = match next()? {
        Value::Null => None,
        Value::Number(ms) => Some(ms),
        _ => return None,
    };
    let Value::Text(topic) = next()? else { return None };
    let topic = String::from_utf8(topic).ok().filter(|topic| TopicName::parse(topic).is_ok())?;
    let properties = match next()? {
        Value::Null => None,
        Value::Blob(bytes) => Some(bytes),
        _ => return None,
    };
    let Value::Blob(payload) = next()? else { return None };
    let rule = match (next(), next(), next()) {
        (None | Some(Value::Null | Value::Number(_)), None | Some(Value::Null | Value::Number(_)), rule) => {
            match rule {
                None | Some(Value::Null) => None,
                Some(Value::Number(rule)) => Some(RuleId(u32::try_from(rule).ok()?)),
                Some(_) => return None,
            }
        }
        _ => return None,
    };
    if values.next().is_some() {
        return None;
    }
    let qos = if qos == 2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
    let accepted = Timestamp { unix_ms, synced, at: None };
    Some(Record {
        seq: Seq(seq),
        priority,
        rule,
        topic,
        payload,
        qos,
        retain,
        accepted,
        expires_ms,
        properties,
        stamp: None,
    })
}

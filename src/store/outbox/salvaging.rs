//! What is brought over from a damaged outbox, and how far that is.

use std::path::{Path, PathBuf};

use rusqlite::params;

use super::{Outbox, Record, signed, texts};
use crate::limits::SEQ_LEASE;
use crate::model::Seq;
use crate::store::StoreError;
use crate::store::quarantine::{keep_for_a_person, mark_salvaged, unsalvaged};

/// How far the records of a damaged file are brought over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Where the damaged file is.
    pub directory: PathBuf,
    /// The page to go on with.
    pub page: u32,
    /// Records brought over so far.
    pub recovered: u64,
    /// Places so far that could not be read.
    pub lost_ranges: u64,
    /// Dead letters so far, which are not brought over.
    pub dead: u64,
}

/// Bits of the numbers that one file gives out before it is the next one's turn.
const EPOCH: u32 = 40;

/// `meta` key: [`Progress`] as text.
const SALVAGE: &str = "salvage";

impl Outbox {
    /// The damaged file that is to be salvaged next, with how far that is. Numbers of new records are from here on above all that can be in it.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn to_salvage(&mut self) -> Result<Option<Progress>, StoreError> {
        let Some((directory, number)) = unsalvaged(self.store.path()) else { return Ok(None) };
        // No file takes so many records before it is the next one's turn.
        let first = number << EPOCH;
        self.number_from(first)?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let noted = self.meta(SALVAGE)?.unwrap_or_default();
        let words: Vec<&str> = noted.split(' ').collect();
        let number = |nth: usize| words.get(nth).and_then(|word| word.parse().ok()).unwrap_or(0);
        let progress = match words.last() {
            Some(of) if *of == name => Progress {
                page: u32::try_from(number(0)).unwrap_or(1),
                recovered: number(1),
                lost_ranges: number(2),
                dead: number(3),
                directory,
            },
            _ => Progress { directory, page: 1, ..Progress::default() },
        };
        Ok(Some(progress))
    }

    /// New records get numbers from here on, if they would not anyway.
    fn number_from(&mut self, first: u64) -> Result<(), StoreError> {
        if self.next < first {
            self.set_meta("seq_lease", signed(first + SEQ_LEASE))?;
            (self.next, self.leased) = (first, first + SEQ_LEASE);
        }
        Ok(())
    }

    /// New records get numbers above those that this one is among: the quarantine that their number comes from may have been emptied by hand,
    /// and a damaged file may itself have followed another.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn number_above(&mut self, seq: Seq) -> Result<(), StoreError> {
        if seq.0 < self.next { Ok(()) } else { self.number_from(((seq.0 >> EPOCH) + 1) << EPOCH) }
    }

    /// Notes how far it is, within the transaction that brings the records over: a kill neither loses nor doubles any.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn note_salvage(&mut self, progress: &Progress) -> Result<(), StoreError> {
        let Progress { directory, page, recovered, lost_ranges, dead } = progress;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        self.set_meta(SALVAGE, format!("{page} {recovered} {lost_ranges} {dead} {name}"))
    }

    /// Something in it could not be read, and is kept for a person who can.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn give_up_salvage(&self, directory: &Path) -> Result<(), StoreError> {
        keep_for_a_person(directory)
    }

    /// Nothing more is to be had from it.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn end_salvage(&self, directory: &Path) -> Result<(), StoreError> {
        mark_salvaged(directory)
    }

    /// A record of the damaged file, under its old number. False: one with that number is there.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn bring(&mut self, record: &Record) -> Result<bool, StoreError> {
        self.number_above(record.seq)?;
        let added = self.run(
            texts::of(record.priority).bring,
            params![
                signed(record.seq.0),
                record.qos.level(),
                record.retain,
                record.accepted.unix_ms,
                record.accepted.synced,
                record.expires_ms,
                record.topic,
                record.properties,
                record.payload,
                record.rule.map(|rule| rule.0)
            ],
        )?;
        if added > 0 {
            self.spend(record.bytes() + record.properties.as_ref().map_or(0, Vec::len));
            self.counts.brought(record.priority, record.seq);
            self.tally_brought(record.priority, record.seq, record.rule, record.bytes());
        }
        Ok(added > 0)
    }
}

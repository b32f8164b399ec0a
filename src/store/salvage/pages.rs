//! A damaged database read page by page, past SQLite, which would stop at the first page it cannot use.
//!
//! What is relied on is the file format that SQLite documents and promises to keep (https://sqlite.org/fileformat2.html), and that our files are
//! made with pages of 4,096 bytes and with pointer maps (`auto_vacuum`): these say of each page what it is and whose, so that a page that
//! was freed, and still holds what has long been sent, is not taken for one in use. No input makes this panic or go round for ever.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::cells;
use crate::limits::SALVAGE_LOG_BYTES_MAX;
use crate::store::quarantine::with_suffix;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// Entries of a page of the pointer map, five bytes each.
const MAPPED: u32 = 819;
/// Deeper than any tree of pages can be whose numbers have 32 bits.
pub(super) const DEPTH: usize = 32;
/// The page that SQLite never uses: the bytes that it locks are on it, 1 GiB into the file.
const LOCKED: u32 = 262_145;

/// What the pointer map says of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Part of the tree with this root.
    Tree(u32),
    /// Free, part of a long row, or the map itself.
    Other,
    /// The map cannot be read.
    Unknown,
}

/// The file with its log laid over it.
pub(super) struct Pages {
    file: File,
    log: Option<File>,
    /// Where in the log the newest committed version of a page is.
    newer: HashMap<u32, u64>,
    count: u32,
    /// Places in the log that were damaged before its last commit.
    holes: u64,
    /// The page of the map that was read last, and whether all of it can be right.
    map: Option<(u32, Option<Box<[u8]>>)>,
}

impl Pages {
    /// Opens a database and the log beside it, for reading.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; any other when it, or the log that is there, cannot be read now.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let log = match File::open(with_suffix(path, "-wal")) {
            Ok(log) => Some(log),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Self::of(file, log)
    }

    /// Opens a database as it is without its log.
    ///
    /// # Errors
    /// As [`Pages::open`], of the database alone.
    pub(super) fn open_without_log(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?, None)
    }

    fn of(file: File, log: Option<File>) -> io::Result<Self> {
        let whole = file.metadata()?.len().div_ceil(PAGE as u64);
        let Committed { newer, count, holes } = log.as_ref().map(committed).unwrap_or_default();
        // What the last commit says of the size is so; pages behind it were given back.
        let count = count.unwrap_or(u32::try_from(whole).unwrap_or(u32::MAX));
        Ok(Self { file, log, newer, count, holes, map: None })
    }

    /// Places in the log that could not be read, and were followed by others that could.
    pub(super) fn holes(&self) -> u64 {
        self.holes
    }

    /// Number of the last page.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A page; `None` when it is not whole. The first has number 1.
    pub(super) fn read(&self, number: u32) -> Option<Box<[u8]>> {
        let mut page = vec![0; PAGE].into_boxed_slice();
        let found = match (self.newer.get(&number), &self.log) {
            (Some(at), Some(log)) => log.read_exact_at(&mut page, *at),
            _ => self.file.read_exact_at(&mut page, u64::from(number.checked_sub(1)?) * PAGE as u64),
        };
        found.ok().map(|()| page)
    }

    /// What a page is used for.
    pub(super) fn used_for(&mut self, number: u32) -> Use {
        if number == 1 {
            return Use::Tree(1);
        }
        if number == LOCKED {
            return Use::Other;
        }
        let mut at = number;
        for _ in 0..DEPTH {
            if at == 1 {
                return Use::Tree(1);
            }
            let Some((kind, parent)) = self.entry(at) else { return Use::Unknown };
            match kind {
                1 => return Use::Tree(at),
                5 => at = parent,
                _ if at == number => return Use::Other,
                _ => return Use::Unknown,
            }
        }
        Use::Unknown
    }

    /// Whether a page continues a long row: the first of it belongs to a page of a tree, each other to the one before.
    pub(super) fn continues(&mut self, number: u32, from: u32, is_first: bool) -> bool {
        match self.entry(number) {
            Some((kind, parent)) => kind == if is_first { 3 } else { 4 } && parent == from,
            None => number > 1 && number <= self.count,
        }
    }

    /// Kind and parent of a page. `None`: the map cannot be trusted.
    fn entry(&mut self, number: u32) -> Option<(u8, u32)> {
        let map_page = 2 + number.checked_sub(2)? / (MAPPED + 1) * (MAPPED + 1);
        if number == map_page {
            return Some((0, 0));
        }
        if self.map.as_ref().is_none_or(|(of, _)| *of != map_page) {
            let count = self.count;
            let sound = |page: &[u8]| {
                (0..MAPPED.min(count.saturating_sub(map_page))).all(|nth| {
                    let at = nth as usize * 5;
                    let parent = cells::number(&page[at + 1..at + 5]);
                    map_page + 1 + nth == LOCKED || ((1..=5).contains(&page[at]) && parent <= count)
                })
            };
            self.map = Some((map_page, self.read(map_page).filter(|page| sound(page))));
        }
        let (_, page) = self.map.as_ref()?;
        let page = page.as_ref()?;
        let at = (number - map_page - 1) as usize * 5;
        Some((*page.get(at)?, cells::number(page.get(at + 1..at + 5)?)))
    }
}

/// What a log has committed.
#[derive(Debug, Default)]
struct Committed {
    /// Where the newest version of a page is.
    newer: HashMap<u32, u64>,
    /// Pages of the database, as the last commit says.
    count: Option<u32>,
    holes: u64,
}

/// The frames of a log that count: the newest of each page, up to the last one that ends a transaction.
fn committed(log: &File) -> Committed {
    let (mut found, mut pending) = (Committed::default(), Vec::new());
    let (mut holes, mut in_hole) = (0, false);
    walk(log, |frame| {
        let Some(frame) = frame else {
            holes += u64::from(!in_hole);
            in_hole = true;
            return;
        };
        in_hole = false;
        pending.push((frame.page, frame.at));
        if frame.count != 0 {
            found.newer.extend(pending.drain(..));
            (found.count, found.holes) = (Some(frame.count), holes);
        }
    });
    found
}

/// Whether a log goes on behind a place where it is damaged: SQLite stops there without a word, and what was committed later is lost.
///
/// A power cut may leave the frames of the last transaction in any order, and its last one among them. It leaves none of a transaction behind that, since the
/// one before was flushed by then. What an undone transaction has left behind the end has no such pair either.
pub(super) fn goes_on_behind_damage(log: &File) -> bool {
    let (mut damaged, mut ended, mut found) = (false, false, false);
    walk(log, |frame| {
        found |= ended && frame.is_some();
        ended = damaged && frame.as_ref().is_some_and(|frame| frame.count != 0);
        damaged |= frame.is_none();
    });
    found
}

/// A page in a log.
struct Frame {
    page: u32,
    /// Where it is.
    at: u64,
    /// Pages of the database, if it ends a transaction; else 0.
    count: u32,
}

/// Shows the frames of a log one after the other; `None` for one that is damaged.
///
/// Each frame carries a checksum that goes on from the one before it, so a frame behind a damaged one can still be told good from bad. SQLite
/// stops at the first bad one.
fn walk(log: &File, mut show: impl FnMut(Option<Frame>)) {
    let length = log.metadata().map_or(0, |log| log.len()).min(SALVAGE_LOG_BYTES_MAX);
    let mut head = [0; 32];
    if log.read_exact_at(&mut head, 0).is_err() {
        return;
    }
    let swapped = head[3] & 1 == 0;
    let mut sum = pair(&head[24..]);
    let sound = begins_a_log(&head);
    // Frames of an earlier use of the log lie behind those of this one, with other salts.
    let mut salts = sound.then(|| [&head[16..20], &head[20..24]].concat());
    let mut frame = vec![0; 24 + PAGE];
    let mut at = 32;
    while at + frame.len() as u64 <= length {
        if log.read_exact_at(&mut frame, at).is_err() {
            // The disk does not give it; what lies behind it may be readable all the same.
            frame.fill(0);
        }
        let (kept, page) = (pair(&frame[16..24]), &frame[24..]);
        let good = [swapped, !swapped]
            .into_iter()
            .take(if sound { 1 } else { 2 })
            .any(|swapped| checksum(checksum(sum, &frame[..8], swapped), page, swapped) == kept);
        // Zeros behind zeros have the right checksum; frames of an earlier use may stand where a write was lost, with frames of this one behind them.
        let ours = salts.as_ref().is_none_or(|salts| frame[8..16] == salts[..]);
        let good = good && ours && frame[..4] != [0; 4];
        if good {
            salts.get_or_insert_with(|| frame[8..16].to_vec());
        }
        show(good.then(|| Frame { page: cells::number(&frame[..4]), at: at + 24, count: cells::number(&frame[4..8]) }));
        sum = kept;
        at += frame.len() as u64;
    }
}

/// Whether these are the first 32 bytes of a log.
pub(super) fn begins_a_log(head: &[u8; 32]) -> bool {
    head[..3] == [0x37, 0x7f, 0x06] && checksum((0, 0), &head[..24], head[3] & 1 == 0) == pair(&head[24..])
}

fn pair(bytes: &[u8]) -> (u32, u32) {
    (cells::number(&bytes[..4]), cells::number(&bytes[4..8]))
}

/// The log's checksum, over a multiple of eight bytes. `swapped`: its words are little-endian.
fn checksum(start: (u32, u32), bytes: &[u8], swapped: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let word = cells::number(bytes);
        if swapped { word.swap_bytes() } else { word }
    };
    bytes.chunks_exact(8).fold(start, |(first, second), pair| {
        let first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
        let second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
        (first, second)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_that_sqlite_locks_hides_none_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let file = File::create(&path).unwrap();
        let map_page = 2 + (LOCKED - 2) / (MAPPED + 1) * (MAPPED + 1);
        // A file of so many pages with holes in it: each is the root of a tree, the locked one is nothing.
        file.set_len(u64::from(map_page + MAPPED) * PAGE as u64).unwrap();
        let entries: Vec<u8> = (1..=MAPPED).flat_map(|nth| [u8::from(map_page + nth != LOCKED), 0, 0, 0, 0]).collect();
        file.write_all_at(&entries, u64::from(map_page - 1) * PAGE as u64).unwrap();
        let mut pages = Pages::open(&path).unwrap();
        assert_eq!(
            [LOCKED - 1, LOCKED, LOCKED + 1].map(|page| pages.used_for(page)),
            [Use::Tree(LOCKED - 1), Use::Other, Use::Tree(LOCKED + 1)]
        );
    }
}

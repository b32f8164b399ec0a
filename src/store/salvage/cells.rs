//! The rows on one leaf of a table, as far as they can be made out.

use super::pages::{PAGE, Pages};
use crate::limits::SALVAGE_ROW_BYTES_MAX;

/// First byte of a leaf of a table.
const LEAF: u8 = 0x0d;
/// The same of a table without row numbers, and the longest entry that lies on it whole.
const INDEX_LEAF: u8 = 0x0a;
const INDEX_LOCAL_MAX: usize = (PAGE - 12) * 64 / 255 - 23;
/// Largest part of a row that lies on the leaf itself, and the smallest when it does not fit.
const LOCAL_MAX: usize = PAGE - 35;
const LOCAL_MIN: usize = (PAGE - 12) * 32 / 255 - 23;
/// More columns than any table of ours has.
const COLUMNS_MAX: usize = 32;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// A row: its number and its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) id: u64,
    pub(super) values: Vec<Value>,
    /// Where on the page it begins.
    pub(super) at: usize,
}

/// Four bytes, the highest first; fewer are taken for none.
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(*bytes.get(at)?) << 8 | usize::from(*bytes.get(at + 1)?))
}

/// A number of one to nine bytes, and how many.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (nth, byte) in bytes.iter().enumerate().take(9) {
        if nth == 8 {
            return Some((value << 8 | u64::from(*byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, nth + 1));
        }
    }
    None
}

/// Whether a page is a leaf of a table, and the rows on it; `Err` where one begins that cannot be made out. Rows with nothing before them are
/// sorted by where they lie. `None`: it is no such page.
pub(super) fn rows(pages: &mut Pages, of: u32, page: &[u8]) -> Option<Vec<Result<Row, usize>>> {
    let head = if of == 1 { 100 } else { 0 };
    let count = short(page, head + 3)?;
    if *page.get(head)? != LEAF || head + 8 + count * 2 > PAGE {
        return None;
    }
    let mut found: Vec<_> = (0..count)
        .map(|nth| {
            let at = short(page, head + 8 + nth * 2).unwrap_or(0);
            if at < head + 8 + count * 2 { Err(at) } else { row(pages, of, page, at).ok_or(at) }
        })
        .collect();
    found.sort_by_key(|row| match row {
        Ok(row) => row.at,
        Err(at) => *at,
    });
    Some(found)
}

/// The entries on a leaf of a table without row numbers, as far as they lie on it whole.
pub(super) fn entries(page: &[u8]) -> Vec<Vec<Value>> {
    let count = if page.first() == Some(&INDEX_LEAF) { short(page, 3).unwrap_or(0) } else { 0 };
    let entry = |nth| {
        let at = short(page, 8 + nth * 2)?;
        let (length, head) = varint(page.get(at..)?)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= INDEX_LOCAL_MAX)?;
        values(page.get(at + head..at + head + length)?)
    };
    (0..count).filter_map(entry).collect()
}

fn row(pages: &mut Pages, of: u32, page: &[u8], at: usize) -> Option<Row> {
    let (length, first) = varint(page.get(at..)?)?;
    let (id, second) = varint(page.get(at + first..)?)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= SALVAGE_ROW_BYTES_MAX)?;
    let begin = at + first + second;
    if length <= LOCAL_MAX {
        return Some(Row { id, values: values(page.get(begin..begin + length)?)?, at });
    }
    let local = LOCAL_MIN + (length - LOCAL_MIN) % (PAGE - 4);
    let local = if local <= LOCAL_MAX { local } else { LOCAL_MIN };
    let mut bytes = page.get(begin..begin + local)?.to_vec();
    let mut next = number(page.get(begin + local..begin + local + 4)?);
    let mut before = of;
    while bytes.len() < length {
        if !pages.continues(next, before, before == of) {
            return None;
        }
        let more = pages.read(next)?;
        bytes.extend_from_slice(&more[4..4 + (PAGE - 4).min(length - bytes.len())]);
        (before, next) = (next, number(&more));
    }
    Some(Row { id, values: values(&bytes)?, at })
}

/// The values of a record: a head with their types, then they themselves.
fn values(record: &[u8]) -> Option<Vec<Value>> {
    let (head, mut at) = varint(record)?;
    let head = usize::try_from(head).ok().filter(|head| *head <= record.len())?;
    let mut body = head;
    let mut values = Vec::new();
    while at < head {
        let (kind, length) = varint(record.get(at..head)?)?;
        at += length;
        let long = |from| usize::try_from((kind - from) / 2).ok();
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 => 8,
            12.. if kind % 2 == 0 => long(12)?,
            13.. => long(13)?,
            _ => return None,
        };
        let bytes = record.get(body..body.checked_add(size)?)?;
        body += size;
        values.push(match kind {
            0 => Value::Null,
            8 | 9 => Value::Number(i64::from(kind == 9)),
            1..=6 => Value::Number(whole(bytes)),
            _ if kind % 2 == 0 => Value::Blob(bytes.to_vec()),
            _ => Value::Text(bytes.to_vec()),
        });
        if values.len() > COLUMNS_MAX {
            return None;
        }
    }
    (body == record.len()).then_some(values)
}

/// A number of up to eight bytes with its sign.
fn whole(bytes: &[u8]) -> i64 {
    let start = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(start, |value, byte| value << 8 | i64::from(*byte))
}

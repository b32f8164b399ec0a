//! The true time of what was measured before the clock was set.
//!
//! A board without a clock battery does not know the date when it starts. What it measures then carries the time of a clock that was not set, says
//! so (`"tq":"unsynced"`), and keeps the point on the monotonic clock, which counts from the start of the kernel and never jumps. Once the wall clock
//! is set, the difference between the two, the [`Anchor`] of the boot, makes a time of each such point, also of one that is long past.
//!
//! Contract: a time by a clock that was set is never touched, whatever that clock does later; a payload is touched only where the gateway
//! itself wrote a time by an unset clock (its message has a `stamp`), and only that time. What nothing better is known of stays as it is.
//! What may have been sent must not be given to [`payload`] again: that is its owner's to remember.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::time::rfc3339;
use crate::model::{BootId, Message, Moment, Seq, Timestamp};

/// The wall clock when a boot's monotonic clock began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Milliseconds since the epoch, UTC.
    pub unix_ms: i64,
}

impl Anchor {
    /// What the clock says of the boot it was read in; `None` while it is not set.
    pub fn of(wall: Timestamp) -> Option<Self> {
        let at = wall.at.filter(|_| wall.synced)?;
        Some(Self { unix_ms: wall.unix_ms.saturating_sub(millis(at.since_start())) })
    }

    /// The time at a moment of its boot, in milliseconds since the epoch. Two truncated milliseconds go in: it may be 2 ms early or 1 ms late.
    pub fn time(self, at: Moment) -> i64 {
        self.unix_ms.saturating_add(millis(at.since_start()))
    }

    fn mend(self, time: Timestamp) -> Timestamp {
        match time.at {
            Some(at) if !time.synced => Timestamp { unix_ms: self.time(at), synced: true, at: Some(at) },
            _ => time,
        }
    }

    fn differs(self, other: Self) -> bool {
        self.unix_ms.abs_diff(other.unix_ms) > STEP_MS
    }
}

/// Steps up to here are not worth a write: a later boot that mends by the anchor of an earlier one is off by no more.
const STEP_MS: u64 = 1_000;

/// A time of this boot, as far as it is known by now.
pub fn mended(time: Timestamp, wall: Timestamp) -> Timestamp {
    Anchor::of(wall).map_or(time, |anchor| anchor.mend(time))
}

/// Gives a message that is told after the clock was set, but was timed before, its true time. `wall` is of the same boot.
pub fn message(message: &mut Message, wall: Timestamp) {
    if let (Some(at), Some(anchor)) = (message.stamp, Anchor::of(wall)) {
        message.stamp = None;
        if let Some(text) = payload(&message.payload, anchor.time(at)) {
            message.payload = text.into();
        }
    }
}

/// How every JSON object of ours that has a time begins: `{"ts":"2026-11-23T01:15:00.123Z"`, and `,"tq":"unsynced"` where the clock was not set.
/// The object goes on with a comma or ends.
pub fn head(time: Timestamp) -> String {
    let mut text = String::with_capacity(HEAD_BYTES + 80);
    text.push_str(BEFORE);
    text.push_str(&rfc3339(time.unix_ms));
    text.push_str(if time.synced { "\"" } else { AFTER });
    text
}

/// An object that begins with its time.
pub fn object(time: Timestamp, more: Map<String, Value>) -> String {
    let mut text = head(time);
    let rest = Value::Object(more).to_string();
    if rest.len() > "{}".len() {
        text.push(',');
    }
    text.push_str(&rest[1..]);
    text
}

/// The same payload with this time and without `tq`; `None` when it does not begin with the [`head`] of a clock that was not set.
pub fn payload(text: &[u8], unix_ms: i64) -> Option<Vec<u8>> {
    let (head, rest) = text.split_at_checked(HEAD_BYTES)?;
    let time = head.strip_prefix(BEFORE.as_bytes())?.strip_suffix(AFTER.as_bytes())?;
    let is_time =
        time.iter().zip(TIME).all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form });
    if !is_time || !matches!(rest.first(), Some(b',' | b'}')) {
        return None;
    }
    let mut text = self::head(Timestamp { unix_ms, synced: true, at: None }).into_bytes();
    text.extend_from_slice(rest);
    Some(text)
}

const BEFORE: &str = "{\"ts\":\"";
const AFTER: &str = "\",\"tq\":\"unsynced\"";
/// RFC 3339 as it is written here, digits as zeros.
const TIME: &[u8] = b"0000-00-00T00:00:00.000Z";
const HEAD_BYTES: usize = BEFORE.len() + TIME.len() + AFTER.len();

/// A boot in which records were accepted by a clock that was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Its first such record. All from there to the first of the next boot are its own.
    pub first: Seq,
    /// Which boot it was.
    pub id: BootId,
    /// What is known of its clock: nothing while it has not been set.
    pub anchor: Option<Anchor>,
}

/// The boots whose records wait in one store, and with them what is known of each record's time.
///
/// For the boot that runs, the newest word of a clock that is set counts; for an earlier one, what was known when it ended. A boot whose clock was
/// never set is not known, and the times of its records stay what they are.
#[derive(Debug, Clone)]
pub struct Boots {
    id: BootId,
    earlier: Vec<Boot>,
    current: Option<Boot>,
    /// The anchor of the running boot as the store has it.
    stored: Option<Anchor>,
}

impl Boots {
    /// The boots that a store remembers, oldest first. `id` is the one that runs.
    pub fn restore(id: BootId, mut boots: Vec<Boot>) -> Self {
        // Only the last can be the one that runs: what was numbered after it belongs to a later one.
        let current = boots.pop_if(|last| last.id == id);
        Self { id, earlier: boots, current, stored: current.and_then(|boot| boot.anchor) }
    }

    /// The boot that runs.
    pub fn running(&self) -> BootId {
        self.id
    }

    /// The same, once a record was accepted in it by a clock that was not set.
    pub fn current(&self) -> Option<Boot> {
        self.current
    }

    /// A record with this number is the next to be accepted by a clock that is not set. Returns the boot where it is the first of one: to be
    /// stored with it.
    pub fn accepting(&mut self, seq: Seq) -> Option<Boot> {
        if self.current.is_some() {
            return None;
        }
        self.current = Some(Boot { first: seq, id: self.id, anchor: None });
        self.current
    }

    /// Takes in what the clock says. Returns the running boot where its anchor is to be stored.
    pub fn learn(&mut self, wall: Timestamp) -> Option<Boot> {
        let due = self.has_news(wall);
        let boot = self.current.as_mut()?;
        boot.anchor = Anchor::of(wall).or(boot.anchor);
        if due {
            self.stored = boot.anchor;
        }
        self.current.filter(|_| due)
    }

    /// Whether the store has yet to learn what the clock says: without it, a later boot could not tell the times of this one's records.
    pub fn has_news(&self, wall: Timestamp) -> bool {
        self.current.is_some()
            && Anchor::of(wall).is_some_and(|anchor| self.stored.is_none_or(|stored| stored.differs(anchor)))
    }

    /// Forgets the boots before the running one of which no record waits; `oldest` is the first that does. Returns where those begin that stay,
    /// where any went.
    pub fn forget_before(&mut self, oldest: Option<Seq>) -> Option<Seq> {
        let gone = match oldest {
            None => self.earlier.len(),
            Some(oldest) => {
                let begun = self.earlier.iter().chain(&self.current).take_while(|boot| boot.first <= oldest).count();
                begun.saturating_sub(1)
            }
        };
        self.earlier.drain(..gone);
        let stays = self.earlier.first().or(self.current.as_ref())?.first;
        (gone > 0).then_some(stays)
    }

    /// The time of a record, as far as it is known by now. `time` is what was known when it was accepted.
    pub fn mended(&self, seq: Seq, time: Timestamp) -> Timestamp {
        if time.synced {
            return time;
        }
        self.boot_of(seq).and_then(|boot| boot.anchor).map_or(time, |anchor| anchor.mend(time))
    }

    /// The time since a record was accepted; `None` where that is not known. In one boot it is known without any wall clock.
    pub fn age(&self, seq: Seq, accepted: Timestamp, wall: Timestamp) -> Option<Duration> {
        let running = self.current.filter(|boot| !accepted.synced && boot.first <= seq);
        if let (Some(_), Some(at), Some(now)) = (running, accepted.at, wall.at) {
            return Some(now.since(at));
        }
        let accepted = self.mended(seq, accepted);
        let age_ms = wall.unix_ms.saturating_sub(accepted.unix_ms);
        // A clock that was stepped back makes nothing younger than new.
        (accepted.synced && wall.synced).then(|| Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)))
    }

    fn boot_of(&self, seq: Seq) -> Option<&Boot> {
        self.current.iter().chain(self.earlier.iter().rev()).find(|boot| boot.first <= seq)
    }
}

/// Whole milliseconds.
fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

//! Two kinds of time: [`Moment`] to measure with, [`Timestamp`] to tell people.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the monotonic clock (CLOCK_BOOTTIME: it goes on while the board sleeps), as the time since some fixed start.
///
/// It never jumps, says nothing about the date, and can be made by hand in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The start of the clock.
    pub const ZERO: Moment = Moment(Duration::ZERO);

    /// The point `since_start` after the start of the clock.
    pub const fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The time since the start of the clock.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(span))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;
    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

/// A point on the wall clock, in milliseconds since 1970-01-01T00:00:00Z, and whether that clock had been set.
///
/// A board without a clock battery starts in 1970 or at its last shutdown: `synced` is what keeps such a time from passing for a true one, and
/// `at` what it can be mended by once the clock has been set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Milliseconds since the epoch, UTC.
    pub unix_ms: i64,
    /// Whether the kernel holds the wall clock for synchronised.
    pub synced: bool,
    /// The same point on the monotonic clock, where it is known.
    pub at: Option<Moment>,
}

/// One run of the kernel: moments of two boots cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId([u8; 16]);

impl BootId {
    /// The id with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads a UUID as the kernel writes it (random(4), `/proc/sys/kernel/random/boot_id`); `None` when it is none.
    pub fn parse(uuid: &str) -> Option<Self> {
        let digits: Vec<u8> = uuid.trim().bytes().filter(|byte| *byte != b'-').collect();
        let text = std::str::from_utf8(&digits).ok().filter(|text| text.len() == 32 && !text.starts_with('+'))?;
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Debug for BootId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BootId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// The time in UTC with milliseconds, as RFC 3339 writes it. A time beyond the year 9999 is told as its end.
pub fn rfc3339(unix_ms: i64) -> String {
    let limit = if unix_ms < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let time = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(limit);
    format!("{time:.3}")
}

/// Reads a time as RFC 3339 writes it, with any offset, in milliseconds since the epoch.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    text.trim().parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_read_as_the_kernel_writes_it_and_nothing_else_is_one() {
        let bytes = [0x3f, 0x1c, 0x2a, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(BootId::parse("3f1c2a00-0000-4000-8000-000000000001\n"), Some(BootId::new(bytes)));
        for text in ["", "3f1c2a00", "3f1c2a00-0000-4000-8000-00000000000g", "+f1c2a00-0000-4000-8000-000000000001"] {
            assert_eq!(BootId::parse(text), None, "`{text}`");
        }
    }

    #[test]
    fn a_time_is_read_with_any_offset_and_nothing_else_is_one() {
        assert_eq!(parse_rfc3339("2026-11-23T02:15:00.5+01:00"), Some(1_795_396_500_500));
        for text in ["", "2026-11-23", "2026-11-23T02:15:00", "1795396500"] {
            assert_eq!(parse_rfc3339(text), None, "`{text}`");
        }
    }

    #[test]
    fn a_time_before_the_clock_was_set_and_one_beyond_the_calendar_are_written() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-30T22:00:00.999Z");
    }
}

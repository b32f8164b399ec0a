//! The only file that reads a clock.
//!
//! Rooms at the doors get an `Arc<dyn Clock>`; `logic/` is given the time as an argument and never sees one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::model::{Moment, Timestamp};

/// Tells the time, both kinds.
pub trait Clock: Send + Sync + 'static {
    /// The monotonic time since boot, sleep included (CLOCK_BOOTTIME, clock_gettime(2)).
    fn now(&self) -> Moment;
    /// The wall clock, with the kernel's word on whether it has been set (adjtimex(2), STA_UNSYNC).
    fn wall(&self) -> Timestamp;
}

/// The kernel's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The system clock, ready to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` is a valid, writable timespec for the length of the call.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut spec) };
    assert_eq!(
        outcome, 0,
        "clock_gettime fails only for an unknown clock id (clock_gettime(2)); both in use exist since Linux 2.6.39"
    );
    let seconds = u64::try_from(spec.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(spec.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::at(read(libc::CLOCK_BOOTTIME))
    }

    fn wall(&self) -> Timestamp {
        // SAFETY: timex is plain data; modes = 0 makes adjtimex read only.
        let status = unsafe {
            let mut timex: libc::timex = std::mem::zeroed();
            libc::adjtimex(&raw mut timex)
        };
        let unix_ms = i64::try_from(read(libc::CLOCK_REALTIME).as_millis()).unwrap_or(i64::MAX);
        // A container may be denied adjtimex (-1): then a date after this program was written is the best sign there is.
        let synced = match status {
            -1 => unix_ms > WRITTEN_UNIX_MS,
            state => state != libc::TIME_ERROR,
        };
        Timestamp { unix_ms, synced }
    }
}

/// 2026-11-01T00:00:00Z: no true clock shows an earlier time.
const WRITTEN_UNIX_MS: i64 = 1_793_491_200_000;

/// A clock that a test moves by hand.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Mutex<(Moment, Timestamp)>>);

impl FakeClock {
    /// Starts at a monotonic hour and the given wall time, synced.
    pub fn new(unix_ms: i64) -> Self {
        Self(Arc::new(Mutex::new((Moment::at(Duration::from_secs(3_600)), Timestamp { unix_ms, synced: true }))))
    }

    /// Moves both clocks on.
    pub fn advance(&self, span: Duration) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 = state.0 + span;
        state.1.unix_ms += i64::try_from(span.as_millis()).unwrap_or(0);
    }

    /// Sets the wall clock alone, as NTP does.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1 = wall;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Moment {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn wall(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let first = SystemClock.now();
        assert!(SystemClock.now() >= first);
        assert!(first > Moment::ZERO);
    }
}

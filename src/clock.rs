//! The only file that reads a clock.
//!
//! Rooms at the doors get an `Arc<dyn Clock>`; `logic/` is given the time as an argument and never sees one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use crate::limits::{CLOCK_LOOK, STAMP_AGE_MAX};
use crate::model::{BootId, Moment, Timestamp};

/// Tells the time, both kinds.
pub trait Clock: Send + Sync + 'static {
    /// The monotonic time since boot, sleep included (CLOCK_BOOTTIME, clock_gettime(2)).
    fn now(&self) -> Moment;
    /// The wall clock, with the kernel's word on whether it has been set (adjtimex(2), STA_UNSYNC).
    fn wall(&self) -> Timestamp;
    /// The boot whose start [`Clock::now`] counts from.
    fn boot(&self) -> BootId;
    /// The moment of a stamp that the kernel took on CLOCK_MONOTONIC, in nanoseconds, such as a GPIO edge carries. That clock stands still
    /// while the board sleeps. A stamp that is not of the last [`STAMP_AGE_MAX`](crate::limits::STAMP_AGE_MAX) is of another clock, and is taken for now.
    fn moment_of_stamp(&self, monotonic_ns: u64) -> Moment;
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

/// One of the clocks that count from boot.
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

/// The monotonic time that stands still while the machine sleeps (CLOCK_MONOTONIC), which is what others are told in its terms: systemd, at a reload.
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::at(read(libc::CLOCK_BOOTTIME))
    }

    #[allow(clippy::disallowed_methods)] // the one place that they are to be taken from
    fn wall(&self) -> Timestamp {
        // Not by `read`: where `time_t` has 32 bits, the C library's call fails from 2038-01-19 on, and a board whose clock chip has lost its date can be there today.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let synced = Told(TOLD.load(Ordering::Relaxed)).still_holds(unix_ms).unwrap_or_else(|| {
            let synced = ask_kernel(unix_ms);
            TOLD.store(Told::at(unix_ms, synced).0, Ordering::Relaxed);
            synced
        });
        Timestamp { unix_ms, synced, at: Some(self.now()) }
    }

    fn boot(&self) -> BootId {
        static BOOT: OnceLock<BootId> = OnceLock::new();
        *BOOT.get_or_init(|| {
            let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
            // Without /proc nothing tells two boots apart: each process then counts as one of its own, which mends less and nothing wrongly.
            told.and_then(|uuid| BootId::parse(&uuid)).unwrap_or_else(|| {
                let started = u64::try_from(self.now().since_start().as_nanos()).unwrap_or(u64::MAX);
                let number = u128::from(started) << 64 | u128::from(std::process::id());
                BootId::new(number.to_be_bytes())
            })
        })
    }

    fn moment_of_stamp(&self, monotonic_ns: u64) -> Moment {
        placed(monotonic_ns, monotonic(), self.now())
    }
}

/// The moment of a stamp, given both clocks' time now.
fn placed(monotonic_ns: u64, monotonic: Duration, now: Moment) -> Moment {
    let age = monotonic.checked_sub(Duration::from_nanos(monotonic_ns)).filter(|age| *age <= STAMP_AGE_MAX);
    Moment::at(now.since_start().saturating_sub(age.unwrap_or_default()))
}

fn ask_kernel(unix_ms: i64) -> bool {
    // SAFETY: timex is plain data; modes = 0 makes adjtimex read only.
    let status = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    // A container may be denied adjtimex (-1): then a date after this program was written is the best sign there is.
    match status {
        -1 => unix_ms > WRITTEN_UNIX_MS,
        state => state != libc::TIME_ERROR,
    }
}

/// What the kernel said last. One for the process: there is one clock.
static TOLD: AtomicI64 = AtomicI64::new(Told::NOTHING.0);

/// Milliseconds since the epoch when the kernel was asked, and in the lowest bit its answer.
#[derive(Debug, Clone, Copy)]
struct Told(i64);

impl Told {
    const NOTHING: Told = Told(i64::MIN);

    fn at(unix_ms: i64, synced: bool) -> Self {
        Self(unix_ms << 1 | i64::from(synced))
    }

    /// The answer, if it is younger than [`CLOCK_LOOK`]. A clock that was set since, forwards or back, is asked about anew.
    fn still_holds(self, unix_ms: i64) -> Option<bool> {
        let age_ms = u128::from(unix_ms.abs_diff(self.0 >> 1));
        (age_ms < CLOCK_LOOK.as_millis()).then_some(self.0 & 1 == 1)
    }
}

/// 2026-11-01T00:00:00Z: no true clock shows an earlier time.
const WRITTEN_UNIX_MS: i64 = 1_793_491_200_000;

/// A clock that a test moves by hand.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Mutex<Fake>>);

#[derive(Debug)]
struct Fake {
    now: Moment,
    unix_ms: i64,
    synced: bool,
    boot: u8,
}

impl FakeClock {
    /// Starts at a monotonic hour and the given wall time, synced.
    pub fn new(unix_ms: i64) -> Self {
        let now = Moment::at(Duration::from_secs(3_600));
        Self(Arc::new(Mutex::new(Fake { now, unix_ms, synced: true, boot: 1 })))
    }

    /// Moves both clocks on.
    pub fn advance(&self, span: Duration) {
        let mut fake = self.fake();
        fake.now = fake.now + span;
        fake.unix_ms += i64::try_from(span.as_millis()).unwrap_or(0);
    }

    /// Sets the wall clock alone, as NTP does.
    pub fn set_wall(&self, wall: Timestamp) {
        let mut fake = self.fake();
        (fake.unix_ms, fake.synced) = (wall.unix_ms, wall.synced);
    }

    /// Starts the machine anew: another boot, whose monotonic clock begins at ten seconds. The wall clock stands as it is.
    pub fn reboot(&self) {
        let mut fake = self.fake();
        fake.now = Moment::at(Duration::from_secs(10));
        fake.boot = fake.boot.wrapping_add(1);
    }

    fn fake(&self) -> MutexGuard<'_, Fake> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Moment {
        self.fake().now
    }

    fn wall(&self) -> Timestamp {
        let fake = self.fake();
        Timestamp { unix_ms: fake.unix_ms, synced: fake.synced, at: Some(fake.now) }
    }

    fn boot(&self) -> BootId {
        BootId::new([self.fake().boot; 16])
    }

    /// Its board never sleeps.
    fn moment_of_stamp(&self, monotonic_ns: u64) -> Moment {
        let now = self.now();
        placed(monotonic_ns, now.since_start(), now)
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

    #[test]
    fn the_wall_clock_tells_the_same_point_on_the_monotonic_one() {
        let before = SystemClock.now();
        let at = SystemClock.wall().at.unwrap();
        assert!(before <= at && at <= SystemClock.now());
    }

    #[test]
    fn the_boot_is_the_one_the_kernel_names() {
        let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(Some(SystemClock.boot()), BootId::parse(&told));
    }

    #[test]
    fn a_stamp_is_placed_by_its_age_and_one_of_another_clock_is_taken_for_now() {
        let (monotonic, now) = (Duration::from_secs(100), Moment::at(Duration::from_secs(5_000)));
        let stamp = |ms: u64| placed(ms * 1_000_000, monotonic, now);
        assert_eq!(stamp(99_980), Moment::at(Duration::from_millis(4_999_980)), "the board slept for 4,900 s");
        assert_eq!(stamp(100_001), now, "later than now");
        assert_eq!(stamp(1_793_491_200_000), now, "before Linux 5.7 the wall clock's");
        assert_eq!(stamp(1_000), now, "too old for an edge that is just being read");
    }

    #[test]
    fn the_kernels_word_on_the_clock_holds_for_a_second_and_not_over_a_step() {
        assert_eq!(Told::NOTHING.still_holds(0), None);
        for synced in [true, false] {
            let told = Told::at(1_793_491_200_000, synced);
            assert_eq!(told.still_holds(1_793_491_200_999), Some(synced));
            assert_eq!(told.still_holds(1_793_491_201_000), None);
            assert_eq!(told.still_holds(1_793_491_199_000), None, "the clock was set back");
        }
    }
}

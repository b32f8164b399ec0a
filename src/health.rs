//! The book of the parts that must make progress: each room enters its own, and the watchdog asks for all.
//!
//! The one who starts a part keeps its [`Supervised`] and gives a [`Pulse`] to what runs. So a part that has ended by a mistake of its own is
//! missed, and one that was removed is not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::limits::PULSE_GAP;
use crate::logic::health::{Edge, Judge, Part, Verdict};
use crate::model::Moment;

/// The book.
pub struct Health {
    book: Mutex<Book>,
    ready: AtomicBool,
}

struct Book {
    parts: Vec<Entry>,
    next: u64,
    judge: Judge,
}

struct Entry {
    number: u64,
    name: String,
    limit: Duration,
    /// Milliseconds on the monotonic clock.
    beat: Arc<AtomicU64>,
}

/// A part's place in the book. Dropped, it is free, and nobody waits for a beat any more.
#[derive(Debug)]
pub struct Supervised {
    health: Weak<Health>,
    number: u64,
    pulse: Pulse,
}

/// What runs says with it that it still does. Cheap to clone, and a beat is one store to memory.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Health {
    /// An empty book.
    pub fn new() -> Arc<Self> {
        let book = Book { parts: Vec::new(), next: 0, judge: Judge::new(PULSE_GAP) };
        Arc::new(Self { book: Mutex::new(book), ready: AtomicBool::new(false) })
    }

    /// Enters a part that may be silent for `limit` at most, from now on.
    pub fn enter(self: &Arc<Self>, name: impl Into<String>, limit: Duration, now: Moment) -> Supervised {
        let pulse = Pulse::default();
        pulse.beat(now);
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.parts.push(Entry { number, name: name.into(), limit, beat: pulse.0.clone() });
        drop(book);
        Supervised { health: Arc::downgrade(self), number, pulse }
    }

    /// Whether every part makes progress, and who does not.
    pub fn verdict(&self, now: Moment) -> Verdict {
        let Book { parts, judge, .. } = &*self.book();
        judge.verdict(parts.iter().map(Entry::part), now)
    }

    /// The watchdog's look, with what has changed since the last one. One caller only, more often than every [`PULSE_GAP`].
    pub fn look(&self, now: Moment) -> (Verdict, Vec<Edge>) {
        let Book { parts, judge, .. } = &mut *self.book();
        judge.look(parts.iter().map(Entry::part), now)
    }

    /// Whether it has started whole and has not been asked to stop.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Names of all parts, in the order they were entered.
    pub fn names(&self) -> Vec<String> {
        self.book().parts.iter().map(|entry| entry.name.clone()).collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn part(&self) -> Part<'_> {
        let beat = Moment::at(Duration::from_millis(self.beat.load(Ordering::Relaxed)));
        Part { number: self.number, name: &self.name, limit: self.limit, beat }
    }
}

impl Supervised {
    /// For what runs.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Some(health) = self.health.upgrade() {
            health.book().parts.retain(|entry| entry.number != self.number);
        }
    }
}

impl Pulse {
    /// Still there.
    pub fn beat(&self, now: Moment) {
        // A Moment is the time since boot: in milliseconds it fits for half a billion years.
        let now_ms = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, FakeClock};

    const LIMIT: Duration = Duration::from_secs(20);

    fn names_of_late(health: &Health, now: Moment) -> Vec<String> {
        health.verdict(now).late.into_iter().map(|late| late.name).collect()
    }

    #[test]
    fn a_part_that_ended_without_being_removed_is_missed() {
        let (health, clock) = (Health::new(), FakeClock::new(0));
        let bus = health.enter("bus usb", LIMIT, clock.now());
        let bridge = health.enter("bridge cloud", LIMIT, clock.now());
        let (runs, ended) = (bus.pulse(), bridge.pulse());
        drop(ended);
        clock.advance(LIMIT + Duration::from_secs(1));
        runs.beat(clock.now());
        assert_eq!(names_of_late(&health, clock.now()), ["bridge cloud"]);
    }

    #[test]
    fn a_part_that_was_removed_is_not_missed_and_its_pulse_does_no_harm() {
        let (health, clock) = (Health::new(), FakeClock::new(0));
        let bus = health.enter("bus usb", LIMIT, clock.now());
        let pulse = bus.pulse();
        drop(bus);
        clock.advance(LIMIT * 2);
        pulse.beat(clock.now());
        assert_eq!(health.names(), Vec::<String>::new());
        assert!(health.verdict(clock.now()).is_healthy());
    }

    #[test]
    fn a_new_part_has_its_whole_limit() {
        let (health, clock) = (Health::new(), FakeClock::new(0));
        let _bus = health.enter("bus usb", LIMIT, clock.now());
        clock.advance(LIMIT);
        assert!(health.verdict(clock.now()).is_healthy());
    }
}

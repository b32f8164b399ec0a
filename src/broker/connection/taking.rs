//! Whether a client takes what is written to it.
//!
//! A socket takes bytes long before the client does, and once it is full it asks for more only when a third of what it holds is gone: with megabytes
//! in it, a client that takes a kilobyte a second would seem to take nothing for half an hour. So the kernel is asked how much it still holds.

use std::time::Duration;

use crate::model::Moment;

/// See the module.
#[derive(Debug)]
pub(super) struct Taking {
    longest: Duration,
    /// When it was seen to take something.
    since: Moment,
    looked: Moment,
    /// What the kernel held then.
    held: Option<u64>,
}

impl Taking {
    /// One that may take nothing for so long.
    pub(super) fn new(longest: Duration, now: Moment) -> Self {
        Self { longest, since: now, looked: now, held: None }
    }

    /// The socket took something, or there was nothing to take so far.
    pub(super) fn moved(&mut self, now: Moment) {
        *self = Self::new(self.longest, now);
    }

    /// When to look next, while there is something to take.
    pub(super) fn next_look(&self) -> Moment {
        self.looked + self.longest / LOOKS
    }

    /// Whether it has taken nothing for too long. `held` asks the kernel, and is asked when it is time for a look.
    pub(super) fn is_over(&mut self, held: impl FnOnce() -> Option<u64>, now: Moment) -> bool {
        if now < self.next_look() {
            return false;
        }
        let held = held();
        if self.held.zip(held).is_some_and(|(before, now)| now < before) {
            self.since = now;
        }
        (self.looked, self.held) = (now, held);
        now.since(self.since) >= self.longest
    }
}

/// Looks in the time in which a client may take nothing.
const LOOKS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// When it is over of what the kernel holds at each look, in tenths of the longest time.
    fn over(held: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let at = |tenths: u64| Moment::at(Duration::from_secs(100 + tenths));
        let mut taking = Taking::new(Duration::from_secs(10), at(0));
        (0..200).find(|tenths| taking.is_over(|| held(*tenths), at(*tenths)))
    }

    #[test]
    fn it_is_over_when_nothing_was_taken_for_so_long_and_not_while_the_kernel_holds_less_each_time() {
        assert_eq!(over(|_| Some(1_000_000)), Some(12), "the first look after ten");
        assert_eq!(over(|_| None), Some(12), "a kernel that says nothing");
        assert_eq!(over(|tenths| Some(1_000_000 - tenths)), None);
        assert_eq!(over(|tenths| Some(1_000_000 - tenths / 9)), None, "a little now and then");
        let last = over(|tenths| Some(1_000_000 - tenths.min(50))).unwrap();
        assert!((60..=66).contains(&last), "{last}");
    }

    #[test]
    fn what_the_socket_takes_begins_the_time_anew() {
        let at = |seconds| Moment::at(Duration::from_secs(seconds));
        let mut taking = Taking::new(Duration::from_secs(10), at(0));
        taking.moved(at(9));
        assert!(!taking.is_over(|| Some(1), at(18)));
        assert!(taking.is_over(|| Some(1), at(21)));
    }
}

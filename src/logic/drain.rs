//! When a queue will be empty, at the pace of the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{DRAIN_LOOK, DRAIN_QUEUE_MIN, DRAIN_WINDOW};
use crate::model::Moment;

/// Watches the length of a queue. What comes in meanwhile counts against what goes out: the pace is that of the queue, not of the link.
#[derive(Debug, Default)]
pub struct Drain {
    /// When it was how long, at most one entry each [`DRAIN_LOOK`], none older than [`DRAIN_WINDOW`].
    seen: VecDeque<(Moment, u64)>,
}

impl Drain {
    /// The queue is so long.
    pub fn saw(&mut self, queued: u64, now: Moment) {
        while self.seen.front().is_some_and(|(at, _)| now.since(*at) > DRAIN_WINDOW) {
            self.seen.pop_front();
        }
        if self.seen.back().is_none_or(|(at, _)| now.since(*at) >= DRAIN_LOOK) {
            self.seen.push_back((now, queued));
        }
    }

    /// The link changed: the pace of before says nothing of the one to come.
    pub fn start_anew(&mut self) {
        self.seen.clear();
    }

    /// Time until a queue of this length is empty; `None` while it does not shrink, while that cannot be told yet, and for the few records that
    /// are always on their way.
    pub fn estimate(&self, queued: u64, now: Moment) -> Option<Duration> {
        let (at, before) = *self.seen.front()?;
        let span = now.since(at);
        let gone = before.checked_sub(queued).filter(|gone| *gone > 0)?;
        if queued < DRAIN_QUEUE_MIN || span < DRAIN_LOOK {
            return None;
        }
        // An estimate needs no last digits.
        #[allow(clippy::cast_precision_loss)]
        let seconds = span.as_secs_f64() * queued as f64 / gone as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    #[test]
    fn a_queue_that_shrinks_steadily_is_empty_when_its_pace_says() {
        let mut drain = Drain::default();
        for second in 0..=5 {
            drain.saw(10_000 - second * 1_000, at(second * 1_000));
        }
        assert_eq!(drain.estimate(5_000, at(5_000)), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_queue_that_grows_or_stands_has_no_end_in_sight() {
        let mut drain = Drain::default();
        drain.saw(1_000, at(0));
        assert_eq!(drain.estimate(1_000, at(2_000)), None);
        assert_eq!(drain.estimate(1_500, at(2_000)), None);
    }

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let mut drain = Drain::default();
        drain.saw(100_000, at(0));
        let later = u64::try_from(DRAIN_WINDOW.as_millis()).unwrap() + 1_000;
        drain.saw(10_000, at(later));
        drain.saw(9_000, at(later + 1_000));
        assert_eq!(drain.estimate(9_000, at(later + 1_000)), Some(Duration::from_secs(9)));
    }

    #[test]
    fn the_few_that_are_always_on_their_way_are_no_queue_and_a_new_link_starts_anew() {
        let mut drain = Drain::default();
        drain.saw(20, at(0));
        assert_eq!(drain.estimate(DRAIN_QUEUE_MIN - 1, at(1_000)), None);
        drain.saw(5_000, at(1_000));
        drain.start_anew();
        assert_eq!(drain.estimate(4_000, at(2_000)), None);
    }
}

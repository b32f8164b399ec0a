//! Counts the pulses of a line.

use std::time::Duration;

use super::debounce::{Action, Debounce, Input};
use crate::model::{LineTotals, Moment};

/// Which changes of the line count, in the words of its own logic: with `active_low`, rising is the voltage falling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedEdge {
    /// Becoming active.
    Rising,
    /// Becoming inactive.
    Falling,
    /// Both.
    Both,
}

impl CountedEdge {
    fn counts(self, active: bool) -> bool {
        match self {
            CountedEdge::Rising => active,
            CountedEdge::Falling => !active,
            CountedEdge::Both => true,
        }
    }
}

/// The pulses of one line.
///
/// Contract: as [`Debounce`]'s; the counts are read whenever they are wanted.
/// Guarantees: with a debounce a pulse counts when the level behind it has held, once; without, each edge that the kernel told counts, and each
/// that it lost is missed. Totals only rise.
#[derive(Debug, Clone)]
pub struct Counter {
    edge: CountedEdge,
    /// `None` while the line is away, and where each edge counts as it comes.
    debounce: Option<Debounce>,
    quiet: Duration,
    totals: LineTotals,
    /// Where the rate is measured from.
    since: Option<(Moment, u64)>,
    restless: Option<u64>,
}

impl Counter {
    /// Counts from zero.
    pub fn new(edge: CountedEdge, quiet: Duration) -> Self {
        Self { edge, debounce: None, quiet, totals: LineTotals::default(), since: None, restless: None }
    }

    /// Adds what earlier processes had counted. It may be known only when this one has counted for a while.
    pub fn restore(&mut self, totals: LineTotals) {
        self.totals.count = self.totals.count.saturating_add(totals.count);
        self.totals.missed = self.totals.missed.saturating_add(totals.missed);
        if let Some((_, before)) = &mut self.since {
            *before = before.saturating_add(totals.count);
        }
    }

    /// What was counted.
    pub fn totals(&self) -> LineTotals {
        self.totals
    }

    /// The line was taken; what happens to it from here on is counted. The rate is measured anew: nobody knows what happened while it was away.
    pub fn opened(&mut self, active: bool, now: Moment) {
        self.debounce = (!self.quiet.is_zero()).then(|| Debounce::new(self.quiet, active));
        self.since = Some((now, self.totals.count));
    }

    /// Takes what is known of the line.
    pub fn handle(&mut self, input: Input, now: Moment) {
        let Some(debounce) = &mut self.debounce else {
            if let Input::Edge { active, lost, .. } = input {
                self.missed(lost);
                self.count(active);
            }
            return;
        };
        debounce.handle(input, now);
        while let Some(action) = self.debounce.as_mut().and_then(Debounce::poll_action) {
            match action {
                Action::Changed { active, .. } => {
                    self.restless = None;
                    self.count(active);
                }
                Action::Missed(edges) => self.missed(edges),
                Action::Restless(edges) => self.restless = Some(edges),
                Action::Calm => self.restless = None,
            }
        }
    }

    /// When the line is to be looked at.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.debounce.as_ref().and_then(Debounce::poll_timeout)
    }

    /// So many edges were told, and none of them held its level: the line is restless now.
    pub fn restless(&self) -> Option<u64> {
        self.restless
    }

    /// Pulses a minute since the last call, or since the line was taken; `None` where that was less than a moment ago.
    pub fn take_rate(&mut self, now: Moment) -> Option<f64> {
        let (since, before) = self.since?;
        let span = now.since(since);
        if span < Duration::from_millis(1) {
            return None;
        }
        self.since = Some((now, self.totals.count));
        #[allow(clippy::cast_precision_loss)] // 2^53 pulses in one span are 28 million years at ten a second.
        let pulses = self.totals.count.saturating_sub(before) as f64;
        Some(pulses * 60.0 / span.as_secs_f64())
    }

    fn count(&mut self, active: bool) {
        if self.edge.counts(active) {
            self.totals.count = self.totals.count.saturating_add(1);
        }
    }

    fn missed(&mut self, edges: u32) {
        self.totals.missed = self.totals.missed.saturating_add(u64::from(edges));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(1_000 + ms))
    }

    fn edge(counter: &mut Counter, ms: u64, active: bool, lost: u32) {
        counter.handle(Input::Edge { active, at: at(ms), lost }, at(ms));
    }

    fn counter(edge: CountedEdge, quiet_ms: u64) -> Counter {
        let mut counter = Counter::new(edge, Duration::from_millis(quiet_ms));
        counter.opened(true, at(0));
        counter
    }

    #[test]
    fn a_bouncing_pulse_counts_once() {
        for (which, expected) in [(CountedEdge::Falling, 1), (CountedEdge::Rising, 1), (CountedEdge::Both, 2)] {
            let mut counter = counter(which, 5);
            for (ms, active) in [(10, false), (11, true), (12, false), (60, true), (61, false), (62, true)] {
                edge(&mut counter, ms, active, 0);
            }
            assert_eq!(counter.poll_timeout(), Some(at(67)));
            counter.handle(Input::Level { active: true }, at(67));
            assert_eq!(counter.totals(), LineTotals { count: expected, missed: 0 }, "{which:?}");
        }
    }

    #[test]
    fn without_a_debounce_each_edge_told_counts_and_each_lost_is_missed() {
        let mut counter = counter(CountedEdge::Falling, 0);
        edge(&mut counter, 1, false, 0);
        edge(&mut counter, 1, false, 0);
        edge(&mut counter, 2, false, 7);
        assert_eq!(counter.totals(), LineTotals { count: 3, missed: 7 });
        assert_eq!(counter.poll_timeout(), None);
    }

    #[test]
    fn totals_go_on_where_they_were_and_the_rate_does_not_see_the_gap() {
        let mut counter = Counter::new(CountedEdge::Rising, Duration::ZERO);
        counter.opened(false, at(0));
        for ms in 0..30 {
            if ms == 10 {
                counter.restore(LineTotals { count: 1_000, missed: 3 });
            }
            edge(&mut counter, ms, true, 0);
        }
        assert_eq!(counter.totals(), LineTotals { count: 1_030, missed: 3 });
        assert_eq!(counter.take_rate(at(60_000)), Some(30.0));
        assert_eq!(counter.take_rate(at(60_000)), None);
        assert_eq!(counter.take_rate(at(90_000)), Some(0.0));
    }

    #[test]
    fn a_line_that_is_away_has_no_rate_until_it_is_back() {
        let mut counter = Counter::new(CountedEdge::Rising, Duration::ZERO);
        assert_eq!(counter.take_rate(at(0)), None);
    }

    proptest! {
        #[test]
        fn whole_pulses_are_all_counted_however_late_they_are_read(
            pulses in prop::collection::vec((6..50u64, 6..50u64), 0..50),
            late in prop::collection::vec(0..200u64, 50),
        ) {
            let mut counter = counter(CountedEdge::Falling, 5);
            let (mut now, mut read) = (0, 0);
            for ((low, high), late) in pulses.iter().zip(&late) {
                for (span, active) in [(high, false), (low, true)] {
                    now += span;
                    read = read.max(now + late);
                    counter.handle(Input::Edge { active, at: at(now), lost: 0 }, at(read));
                }
            }
            counter.handle(Input::Level { active: true }, at(read.max(now) + 5));
            prop_assert_eq!(counter.totals(), LineTotals { count: pulses.len() as u64, missed: 0 });
        }
    }
}

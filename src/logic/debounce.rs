//! From the edges of a line to its state: a contact bounces, and a wire picks up noise; a level counts once it has held for a while.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{LINE_CONFIRM, LINE_RESTLESS, LINE_RESTLESS_SPANS};
use crate::model::Moment;

/// What is known of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// An edge.
    Edge {
        /// Whether the line was active after it.
        active: bool,
        /// When it happened. May lie before what was told last; never later than now.
        at: Moment,
        /// Edges before it that happened and are not told.
        lost: u32,
    },
    /// The line was looked at.
    Level {
        /// Whether it is active.
        active: bool,
    },
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The state changed.
    Changed {
        /// Whether the line is active.
        active: bool,
        /// When it began to change: the first edge of the bounce.
        at: Moment,
    },
    /// So many edges happened that nobody told. They are not told again.
    Missed(u32),
    /// The line does not come to rest: so many edges were told since it began. Told once, until it has come to rest.
    Restless(u64),
    /// It has come to rest, and is what it was before.
    Calm,
}

/// The state of one line.
///
/// Contract: after every `handle`, call `poll_action` until `None`. At `poll_timeout` look at the line and hand in its level. A look at any other
/// time is welcome.
/// Guarantees: a change is told when the line has held its level for the quiet span, and not before. However edges were lost, doubled or late:
/// once the line is at rest and has been looked at as asked, the state is its level. At most one action a call and kind, so a storm costs no
/// memory.
#[derive(Debug, Clone)]
pub struct Debounce {
    quiet: Duration,
    state: bool,
    unrest: Option<Unrest>,
    actions: VecDeque<Action>,
}

/// The line moved, and has not held a level for long enough since.
#[derive(Debug, Clone, Copy)]
struct Unrest {
    /// Its level, as far as is known.
    level: bool,
    /// The first edge.
    began: Moment,
    /// The last, or the look that found another level than the edges had told.
    last: Moment,
    edges: u64,
    /// A look found another level, and the edge to it has not come: it is on its way, or lost.
    unexplained: bool,
    told: bool,
}

impl Debounce {
    /// The line was just taken, and is active or not. `quiet` is how long a level must hold; zero takes each edge as it comes.
    pub fn new(quiet: Duration, active: bool) -> Self {
        Self { quiet, state: active, unrest: None, actions: VecDeque::new() }
    }

    /// The state.
    pub fn active(&self) -> bool {
        self.state
    }

    /// Takes what is known.
    pub fn handle(&mut self, input: Input, now: Moment) {
        match input {
            Input::Edge { active, at, lost } => self.edge(active, at.min(now), lost, now),
            Input::Level { active } => self.level(active, now),
        }
    }

    /// What is to be told next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When the line is to be looked at.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.unrest.map(|unrest| unrest.last + self.span(&unrest))
    }

    /// How long the level must hold. What only a look has seen is looked at a second time, when its edge has had the time to come.
    fn span(&self, unrest: &Unrest) -> Duration {
        if unrest.unexplained { self.quiet.max(LINE_CONFIRM) } else { self.quiet }
    }

    fn edge(&mut self, active: bool, at: Moment, lost: u32, now: Moment) {
        if lost > 0 {
            self.actions.push_back(Action::Missed(lost));
        }
        // Edges may be read late. What lies between two of them held, unless some between them are lost.
        if let Some(unrest) = self.unrest
            && lost == 0
            && !unrest.unexplained
            && at.since(unrest.last) >= self.quiet
        {
            self.rest(&unrest);
        }
        let unrest = self.unrest.get_or_insert(Unrest {
            level: active,
            began: at,
            last: at,
            edges: 0,
            unexplained: false,
            told: false,
        });
        unrest.level = active;
        unrest.last = unrest.last.max(at);
        unrest.edges = unrest.edges.saturating_add(1);
        unrest.unexplained = false;
        let unrest = *unrest;
        if self.quiet.is_zero() {
            self.rest(&unrest);
        } else {
            self.look_for_restlessness(now);
        }
    }

    fn level(&mut self, active: bool, now: Moment) {
        let Some(unrest) = &mut self.unrest else {
            if active != self.state {
                self.unrest =
                    Some(Unrest { level: active, began: now, last: now, edges: 0, unexplained: true, told: false });
            }
            return;
        };
        if active != unrest.level {
            unrest.level = active;
            unrest.last = now;
            unrest.unexplained = true;
            self.look_for_restlessness(now);
            return;
        }
        let unrest = *unrest;
        if now.since(unrest.last) >= self.span(&unrest) {
            if unrest.unexplained {
                self.actions.push_back(Action::Missed(1));
            }
            self.rest(&unrest);
        }
    }

    /// The level has held.
    fn rest(&mut self, unrest: &Unrest) {
        self.unrest = None;
        if unrest.level != self.state {
            self.state = unrest.level;
            self.actions.push_back(Action::Changed { active: unrest.level, at: unrest.began });
        } else if unrest.told {
            self.actions.push_back(Action::Calm);
        }
    }

    fn look_for_restlessness(&mut self, now: Moment) {
        let patience = LINE_RESTLESS.max(self.quiet.saturating_mul(LINE_RESTLESS_SPANS));
        if let Some(unrest) = &mut self.unrest
            && !unrest.told
            && now.since(unrest.began) >= patience
        {
            unrest.told = true;
            self.actions.push_back(Action::Restless(unrest.edges));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUIET: Duration = Duration::from_millis(10);

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(1_000 + ms))
    }

    /// A line on a fake clock: what the test does to it and what it hears.
    struct Bench {
        debounce: Debounce,
        heard: Vec<Action>,
    }

    impl Bench {
        fn new(quiet: Duration, active: bool) -> Self {
            Self { debounce: Debounce::new(quiet, active), heard: Vec::new() }
        }

        fn edge(&mut self, ms: u64, active: bool) -> &mut Self {
            self.lossy_edge(ms, active, 0)
        }

        fn lossy_edge(&mut self, ms: u64, active: bool, lost: u32) -> &mut Self {
            self.hear(Input::Edge { active, at: at(ms), lost }, at(ms))
        }

        fn look(&mut self, ms: u64, active: bool) -> &mut Self {
            self.hear(Input::Level { active }, at(ms))
        }

        fn hear(&mut self, input: Input, now: Moment) -> &mut Self {
            self.debounce.handle(input, now);
            self.heard.extend(std::iter::from_fn(|| self.debounce.poll_action()));
            self
        }

        fn heard(&mut self) -> Vec<Action> {
            std::mem::take(&mut self.heard)
        }
    }

    fn changed(ms: u64, active: bool) -> Action {
        Action::Changed { active, at: at(ms) }
    }

    #[test]
    fn a_bounce_is_one_change_told_when_the_level_has_held_and_dated_by_its_first_edge() {
        let mut line = Bench::new(QUIET, false);
        line.edge(0, true).edge(1, false).edge(2, true).edge(5, false).edge(6, true);
        assert_eq!(line.heard(), []);
        assert_eq!(line.debounce.poll_timeout(), Some(at(16)));
        assert_eq!(line.look(15, true).heard(), [], "too early");
        assert_eq!(line.look(16, true).heard(), [changed(0, true)]);
        assert_eq!(line.debounce.poll_timeout(), None);
    }

    #[test]
    fn a_spike_shorter_than_the_quiet_span_is_no_change() {
        let mut line = Bench::new(QUIET, false);
        line.edge(0, true).edge(3, false).look(13, false);
        assert_eq!(line.heard(), []);
        assert!(!line.debounce.active());
    }

    #[test]
    fn edges_that_are_read_late_count_by_when_they_happened() {
        let mut line = Bench::new(QUIET, false);
        let late = at(500);
        for (ms, active) in [(0, true), (50, false), (100, true), (150, false)] {
            line.hear(Input::Edge { active, at: at(ms), lost: 0 }, late);
        }
        line.hear(Input::Level { active: false }, late);
        assert_eq!(line.heard(), [changed(0, true), changed(50, false), changed(100, true), changed(150, false)]);
    }

    #[test]
    fn the_level_counts_when_the_last_edge_was_lost() {
        let mut line = Bench::new(QUIET, false);
        line.edge(0, true).edge(1, false);
        assert_eq!(line.look(11, true).heard(), [], "an edge may be on its way");
        assert_eq!(line.debounce.poll_timeout(), Some(at(11) + QUIET.max(LINE_CONFIRM)));
        assert_eq!(line.look(31, true).heard(), [Action::Missed(1), changed(0, true)]);
    }

    #[test]
    fn an_edge_that_comes_after_the_level_was_seen_was_not_missed() {
        let mut line = Bench::new(QUIET, false);
        line.look(0, true);
        line.hear(Input::Edge { active: true, at: at(0), lost: 0 }, at(1));
        assert_eq!(line.look(10, true).heard(), [changed(0, true)]);
    }

    #[test]
    fn a_look_at_a_line_at_rest_finds_what_no_edge_told() {
        let mut line = Bench::new(Duration::ZERO, false);
        assert_eq!(line.look(0, true).heard(), []);
        let confirm = line.debounce.poll_timeout().unwrap();
        line.hear(Input::Level { active: true }, confirm);
        assert_eq!(line.heard(), [Action::Missed(1), changed(0, true)]);
    }

    #[test]
    fn between_lost_edges_nothing_is_taken_to_have_held() {
        let mut line = Bench::new(QUIET, false);
        line.edge(0, true).lossy_edge(100, false, 5);
        assert_eq!(line.heard(), [Action::Missed(5)]);
        assert_eq!(line.look(110, false).heard(), []);
    }

    #[test]
    fn without_a_quiet_span_each_edge_is_a_change() {
        let mut line = Bench::new(Duration::ZERO, false);
        line.edge(0, true).edge(1, false).edge(2, false).edge(3, true);
        assert_eq!(line.heard(), [changed(0, true), changed(1, false), changed(3, true)]);
    }

    #[test]
    fn a_line_that_does_not_come_to_rest_is_told_once_and_when_it_has() {
        let mut line = Bench::new(QUIET, false);
        for ms in (0..5_000).step_by(5) {
            line.edge(ms, ms % 2 == 0);
        }
        let restless = line.heard();
        assert!(matches!(restless[..], [Action::Restless(edges)] if edges == 201), "{restless:?}");
        assert_eq!(line.look(5_005, false).heard(), [Action::Calm]);
    }

    #[test]
    fn a_line_that_is_restless_and_stays_changed_tells_the_change() {
        let mut line = Bench::new(QUIET, false);
        for ms in (0..2_000).step_by(5) {
            line.edge(ms, ms % 2 == 0);
        }
        line.edge(2_000, true);
        line.heard();
        assert_eq!(line.look(2_010, true).heard(), [changed(0, true)]);
    }

    /// What happens to a line: pauses in ms, and whether the edge at their end gets lost.
    fn history() -> impl Strategy<Value = Vec<(u64, bool)>> {
        prop::collection::vec((0..40u64, prop::bool::weighted(0.2)), 0..60)
    }

    proptest! {
        /// The model knows the true level at each time; the debounce knows edges, of which some are lost, and looks when it asks to.
        #[test]
        fn once_at_rest_the_state_is_the_level_whatever_edges_were_lost(
            history in history(),
            quiet_ms in 0..20u64,
            numbered: bool,
        ) {
            let mut line = Bench::new(Duration::from_millis(quiet_ms), false);
            let (mut level, mut now, mut lost) = (false, 0, 0);
            for (pause, loses) in history {
                let until = now + pause;
                while let Some(due) = line.debounce.poll_timeout().filter(|due| *due < at(until)) {
                    line.hear(Input::Level { active: level }, due);
                }
                now = until;
                level = !level;
                if loses {
                    lost += 1;
                } else {
                    // Version 1 of the kernel's interface does not number its edges.
                    line.lossy_edge(now, level, if numbered { lost } else { 0 });
                    lost = 0;
                }
            }
            let mut looks = 0;
            line.look(now + 10_000, level);
            while let Some(due) = line.debounce.poll_timeout() {
                looks += 1;
                prop_assert!(looks < 4, "it does not come to rest");
                line.hear(Input::Level { active: level }, due.max(at(now + 10_000)));
            }
            prop_assert_eq!(line.debounce.active(), level);
            // The changes that were told lead from one state to the other and back.
            let mut state = false;
            for action in line.heard() {
                if let Action::Changed { active, .. } = action {
                    prop_assert_ne!(active, state);
                    state = active;
                }
            }
            prop_assert_eq!(state, level);
        }

        /// Against the plain definition: with every edge told, the states are the levels that held for the quiet span.
        #[test]
        fn with_every_edge_told_the_changes_are_the_levels_that_held(
            pauses in prop::collection::vec(1..40u64, 0..60),
            quiet_ms in 1..20u64,
            late: bool,
        ) {
            let mut line = Bench::new(Duration::from_millis(quiet_ms), false);
            let times: Vec<u64> = pauses.iter().scan(0, |now, pause| { *now += pause; Some(*now) }).collect();
            let end = times.last().copied().unwrap_or(0) + 1_000;
            let (mut expected, mut state) = (Vec::new(), false);
            for (index, time) in times.iter().enumerate() {
                let level = index % 2 == 0;
                let until = times.get(index + 1).copied().unwrap_or(end);
                if until - time >= quiet_ms && level != state {
                    expected.push(level);
                    state = level;
                }
            }
            let mut level = false;
            for time in &times {
                if !late {
                    while let Some(due) = line.debounce.poll_timeout().filter(|due| *due < at(*time)) {
                        line.hear(Input::Level { active: level }, due);
                    }
                }
                level = !level;
                line.hear(Input::Edge { active: level, at: at(*time), lost: 0 }, at(if late { end } else { *time }));
            }
            line.look(end, level);
            let told: Vec<bool> = line.heard().into_iter().filter_map(|action| match action {
                Action::Changed { active, .. } => Some(active),
                _ => None,
            }).collect();
            prop_assert_eq!(told, expected);
        }
    }
}

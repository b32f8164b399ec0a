//! Whether every part of the gateway makes progress. The watchdog is fed only while all do (`WatchdogSec=` in systemd.service(5)).
//!
//! A part beats whenever it has gone once round its loop, and is late when it has not for longer than its limit. Beats are read, not handed
//! in: a part is as quick as ever, and the judge looks now and then.
//!
//! Guarantee: silence of everyone, the judge included, is nobody's fault. After a board has slept, or the process was held, each part has
//! its whole limit again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::Moment;

/// A part as the judge sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Never given twice, also when a name is.
    pub number: u64,
    /// What a person calls it: `bridge cloud`.
    pub name: &'a str,
    /// How long it may be silent.
    pub limit: Duration,
    /// When it beat last.
    pub beat: Moment,
}

/// A part that has been silent for longer than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// What a person calls it.
    pub name: String,
    /// For how long it has been silent.
    pub silent: Duration,
    /// How long it may be.
    pub limit: Duration,
}

/// What the judge found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Who is to blame, in the order they were entered. Empty when every part makes progress.
    pub late: Vec<Late>,
}

impl Verdict {
    /// Whether every part makes progress: only then may the watchdog be fed.
    pub fn is_healthy(&self) -> bool {
        self.late.is_empty()
    }
}

/// A change that is worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    /// A part has become late.
    Stuck(Late),
    /// One that was late makes progress again; it was silent for so long as far as was seen.
    Moves {
        /// What a person calls it.
        name: String,
        /// The longest silence seen.
        silent: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Judge {
    /// Looks further apart than this mean that the judge itself was held.
    gap: Duration,
    looked: Option<Moment>,
    /// Silence before this counts for nobody.
    excused: Moment,
    /// Those who were late at the last look: by number, the name and the longest silence seen.
    late: BTreeMap<u64, (String, Duration)>,
}

impl Judge {
    /// A judge that is to look more often than every `gap`.
    pub fn new(gap: Duration) -> Self {
        Self { gap, looked: None, excused: Moment::ZERO, late: BTreeMap::new() }
    }

    /// The regular look. Tells what has changed since the last one.
    pub fn look<'a>(&mut self, parts: impl Iterator<Item = Part<'a>>, now: Moment) -> (Verdict, Vec<Edge>) {
        if self.looked.is_some_and(|looked| now.since(looked) > self.gap) {
            self.excused = now;
        }
        self.looked = Some(now);
        let mut verdict = Verdict::default();
        let mut edges = Vec::new();
        let mut before = std::mem::take(&mut self.late);
        for part in parts {
            let was_late = before.remove(&part.number);
            match (self.judge(part, now), was_late) {
                (Some(late), was_late) => {
                    if was_late.is_none() {
                        edges.push(Edge::Stuck(late.clone()));
                    }
                    self.late.insert(part.number, (late.name.clone(), late.silent));
                    verdict.late.push(late);
                }
                (None, Some((name, silent))) => edges.push(Edge::Moves { name, silent }),
                (None, None) => {}
            }
        }
        // Those who are left in `before` are gone: nobody misses their beat.
        (verdict, edges)
    }

    /// A look in between, which changes nothing.
    pub fn verdict<'a>(&self, parts: impl Iterator<Item = Part<'a>>, now: Moment) -> Verdict {
        Verdict { late: parts.filter_map(|part| self.judge(part, now)).collect() }
    }

    fn judge(&self, part: Part<'_>, now: Moment) -> Option<Late> {
        let silent = now.since(part.beat.max(self.excused));
        let Part { name, limit, .. } = part;
        (silent > limit).then(|| Late { name: name.to_owned(), silent, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn part(number: u64, name: &str, beat: u64) -> Part<'_> {
        Part { number, name, limit: LIMIT, beat: at(beat) }
    }

    fn judge() -> Judge {
        Judge::new(Duration::from_secs(10))
    }

    /// Looks every 5 s from `from` to `to`, at parts that beat last at the moments `beats` says. Returns the last verdict and all edges.
    fn look(judge: &mut Judge, from: u64, to: u64, parts: &[(u64, &str, u64)]) -> (Verdict, Vec<Edge>) {
        let (mut verdict, mut edges) = (Verdict::default(), Vec::new());
        for now in (from..=to).step_by(5) {
            let seen = parts.iter().map(|(number, name, beat)| part(*number, name, (*beat).min(now)));
            let (found, news) = judge.look(seen, at(now));
            verdict = found;
            edges.extend(news);
        }
        (verdict, edges)
    }

    #[test]
    fn a_part_that_beats_is_never_late() {
        let (verdict, edges) = look(&mut judge(), 100, 1_000, &[(1, "bus usb", 1_000)]);
        assert!(verdict.is_healthy());
        assert_eq!(edges, []);
    }

    #[test]
    fn the_one_that_is_stuck_is_named_once_and_the_others_are_not() {
        let (verdict, edges) = look(&mut judge(), 100, 200, &[(1, "bus usb", 1_000), (2, "bridge cloud", 130)]);
        assert_eq!(verdict.late, [Late { name: "bridge cloud".into(), silent: Duration::from_secs(70), limit: LIMIT }]);
        let first = Late { name: "bridge cloud".into(), silent: Duration::from_secs(25), limit: LIMIT };
        assert_eq!(edges, [Edge::Stuck(first)]);
    }

    #[test]
    fn silence_up_to_the_limit_is_fine() {
        assert!(look(&mut judge(), 100, 120, &[(1, "bus usb", 100)]).0.is_healthy());
        assert!(!look(&mut judge(), 100, 125, &[(1, "bus usb", 100)]).0.is_healthy());
    }

    #[test]
    fn a_part_that_moves_again_is_told_with_the_longest_silence_that_was_seen() {
        let mut judge = judge();
        look(&mut judge, 100, 130, &[(1, "bus usb", 100)]);
        let (verdict, edges) = look(&mut judge, 135, 140, &[(1, "bus usb", 1_000)]);
        assert!(verdict.is_healthy());
        assert_eq!(edges, [Edge::Moves { name: "bus usb".into(), silent: Duration::from_secs(30) }]);
    }

    #[test]
    fn a_part_that_has_left_is_neither_late_nor_told() {
        let mut judge = judge();
        look(&mut judge, 100, 130, &[(1, "bus usb", 100)]);
        // Another of the same name has its own life.
        assert_eq!(look(&mut judge, 135, 140, &[(2, "bus usb", 1_000)]), (Verdict::default(), Vec::new()));
    }

    #[test]
    fn after_a_sleep_of_the_whole_board_everyone_has_the_whole_limit_again() {
        let mut judge = judge();
        look(&mut judge, 100, 110, &[(1, "bus usb", 1_000)]);
        let asleep_at_110 = [(1, "bus usb", 110)];
        assert!(look(&mut judge, 4_000, 4_020, &asleep_at_110).0.is_healthy());
        assert!(!look(&mut judge, 4_025, 4_025, &asleep_at_110).0.is_healthy());
    }

    #[test]
    fn a_look_in_between_finds_the_same_and_takes_no_edge_away() {
        let mut judge = judge();
        look(&mut judge, 100, 120, &[(1, "bus usb", 100)]);
        assert!(!judge.verdict([part(1, "bus usb", 100)].into_iter(), at(121)).is_healthy());
        assert_eq!(look(&mut judge, 125, 125, &[(1, "bus usb", 100)]).1.len(), 1);
    }
}

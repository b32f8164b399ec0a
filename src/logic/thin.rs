//! What goes when a full store is to keep the shape of a long outage: of each topic's older records every second, where they are densest.
//!
//! A pass looks through the older half of the records, from the head, a step at a time. A record may go when those of its topic before and behind
//! it stay, and these two are no further apart than a part of its age, both counted in records. So what is old is thinned to about one part in so many of
//! its age and then left alone: an outage of any length keeps a beginning, a middle and an end, where halving the older half again and again would
//! keep a few times what the store holds (measured: decision 0015). When a pass frees too little, the next one allows larger gaps; when any gap is allowed and
//! that is not enough, thinning has done what it can.
//!
//! Nothing goes without a newer record of its topic being there: a topic never loses its newest.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::limits::{THIN_TOPICS, THIN_YIELD};
use crate::model::Seq;

/// Gaps are allowed up to this part of the age at first; the part doubles up to a whole, and after that any gap is allowed.
const PARTS_FIRST: u64 = 64;

/// A pass, between its steps. Lost with the process: the next one then begins at the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thin {
    /// Gaps may be one in so many of the age; 0: any gap.
    parts: u64,
    /// Records that the pass has yet to look at.
    left: u64,
    looked: u64,
    gone: u64,
    /// The last one that was looked at.
    after: Seq,
    topics: HashMap<u64, Seen>,
}

/// The last two records of a topic that the pass has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// It stays.
    stays: Seq,
    /// The one behind it, which may go.
    may_go: Option<Seq>,
}

impl Default for Thin {
    fn default() -> Self {
        Self { parts: PARTS_FIRST, left: 0, looked: 0, gone: 0, after: Seq(0), topics: HashMap::new() }
    }
}

impl Thin {
    /// Where the pass goes on: after this record, with at most so many. A new pass, over half of the `waiting`, begins where none runs.
    pub fn next_step(&mut self, waiting: u64, most: usize) -> (Seq, usize) {
        if self.left == 0 {
            let parts = self.parts;
            *self = Self { parts, left: waiting.div_ceil(2), ..Self::default() };
        }
        (self.after, most.min(usize::try_from(self.left).unwrap_or(usize::MAX)))
    }

    /// Looks at the next record; `newest` is the last that was accepted. Returns the earlier one that goes, if one does.
    pub fn look(&mut self, seq: Seq, topic: &str, newest: Seq) -> Option<Seq> {
        self.after = seq;
        self.left = self.left.saturating_sub(1);
        self.looked += 1;
        let topic = BuildHasherDefault::<DefaultHasher>::default().hash_one(topic);
        let is_room = self.topics.len() < THIN_TOPICS;
        let Some(seen) = self.topics.get_mut(&topic) else {
            if is_room {
                self.topics.insert(topic, Seen { stays: seq, may_go: None });
            }
            return None;
        };
        let Some(between) = seen.may_go else {
            seen.may_go = Some(seq);
            return None;
        };
        let gap = seq.0.saturating_sub(seen.stays.0);
        let age = newest.0.saturating_sub(between.0);
        if gap.saturating_mul(self.parts) <= age {
            *seen = Seen { stays: seq, may_go: None };
            self.gone += 1;
            return Some(between);
        }
        *seen = Seen { stays: between, may_go: Some(seq) };
        None
    }

    /// Ends the pass when it has looked at its half, or there is `nothing_more`. False when it could free too little, and so can any that follows.
    pub fn goes_on(&mut self, nothing_more: bool) -> bool {
        if nothing_more {
            self.left = 0;
        }
        if self.left > 0 || (self.gone > 0 && self.gone * THIN_YIELD >= self.looked) {
            return true;
        }
        if self.parts == 0 {
            return false;
        }
        self.parts /= 2;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Store = BTreeMap<u64, String>;

    /// Thins the store by steps of `most` until `enough` have gone or no more can.
    fn thin(store: &mut Store, thin: &mut Thin, enough: usize, most: usize) -> usize {
        let newest = Seq(*store.keys().last().unwrap());
        let mut gone = 0;
        while gone < enough {
            let (after, most) = thin.next_step(store.len() as u64, most);
            let rows: Vec<_> =
                store.range(after.0 + 1..).take(most).map(|(seq, topic)| (*seq, topic.clone())).collect();
            for (seq, topic) in &rows {
                if let Some(first) = thin.look(Seq(*seq), topic, newest) {
                    assert_eq!(store.remove(&first.0).as_ref(), Some(topic), "another topic's record, or one twice");
                    gone += 1;
                }
            }
            if !thin.goes_on(rows.is_empty()) {
                break;
            }
        }
        gone
    }

    fn store(count: u64, topics: u64) -> Store {
        (1..=count).map(|seq| (seq, format!("t{}", seq % topics))).collect()
    }

    #[test]
    fn the_older_half_of_a_topic_loses_every_second_record() {
        let mut store = store(400, 1);
        assert_eq!(thin(&mut store, &mut Thin::default(), 99, 7), 99);
        let kept: Vec<_> = store.keys().copied().collect();
        assert_eq!(kept[..4], [1, 3, 5, 7]);
        assert!((200..=400).all(|seq| store.contains_key(&seq)), "the younger half is whole");
    }

    #[test]
    fn topics_are_thinned_each_by_itself() {
        let mut store = store(24_000, 3);
        thin(&mut store, &mut Thin::default(), 6, 100);
        assert_eq!(store.keys().copied().take(9).collect::<Vec<_>>(), [1, 2, 3, 7, 8, 9, 13, 14, 15]);
    }

    #[test]
    fn a_long_outage_keeps_its_shape_and_every_topic_its_newest_record() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut store, mut state) = (Store::new(), Thin::default());
        let mut newest = BTreeMap::new();
        for seq in 1..=100_000_u64 {
            // Some topics fall silent early.
            let topic = format!("t{}", if seq < 500 { rng.u8(0..40) } else { rng.u8(0..10) });
            newest.insert(topic.clone(), seq);
            store.insert(seq, topic);
            if store.len() > 1_000 {
                assert!(thin(&mut store, &mut state, 64, 256) >= 64, "thinning gave up at {seq}");
            }
        }
        for (topic, seq) in &newest {
            assert_eq!(store.get(seq), Some(topic), "the newest of {topic} is gone");
        }
        let tenths: Vec<_> = (0..10).map(|n: u64| store.range(n * 10_000 + 1..=(n + 1) * 10_000).count()).collect();
        assert!(
            tenths.iter().all(|count| *count >= 5),
            "of each tenth of a hundredfold outage there is something: {tenths:?}"
        );
        assert!(tenths[9] > 2 * tenths[4], "and the more the younger: {tenths:?}");
    }

    #[test]
    fn where_each_topic_has_one_record_nothing_goes() {
        let mut store = store(5_000, 5_000);
        assert_eq!(thin(&mut store, &mut Thin::default(), 1, 256), 0);
        assert_eq!(store.len(), 5_000);
    }

    #[test]
    fn more_topics_than_are_remembered_take_no_more_memory() {
        let mut state = Thin::default();
        let (count, newest) = (2 * THIN_TOPICS as u64, Seq(u64::MAX));
        state.next_step(u64::MAX, 1);
        for seq in 1..=count {
            state.look(Seq(seq), &format!("t{seq}"), newest);
        }
        assert_eq!(state.topics.len(), THIN_TOPICS);
        assert_eq!(
            [state.look(Seq(count + 1), "t1", newest), state.look(Seq(count + 2), "t1", newest)],
            [None, Some(Seq(count + 1))]
        );
    }
}

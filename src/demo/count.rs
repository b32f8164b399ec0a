//! Counts what arrived at the cloud: lost, doubled, repeated. Knows nothing of what the gateway claims.
//!
//! Every demo sensor numbers its messages (`"seq"`, rising by one from 1), so a subscriber can tell by itself what is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Qos;

/// Totals over all topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    /// Messages that arrived, each number once.
    pub arrived: u64,
    /// Numbers missing below the highest that arrived on their topic: order is kept, so what was overtaken is lost (or late, and then comes off again).
    pub lost: u64,
    /// QoS 2 messages that arrived again. None may.
    pub doubled: u64,
    /// QoS 1 messages that arrived again. MQTT allows it after a cut: at least once.
    pub repeated: u64,
}

/// What arrived so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    topics: BTreeMap<String, Topic>,
    doubled: u64,
    repeated: u64,
}

#[derive(Debug, Default)]
struct Topic {
    /// All numbers from 1 to here have arrived.
    complete: u64,
    /// Numbers beyond `complete` that have arrived.
    ahead: BTreeSet<u64>,
}

impl Topic {
    /// Whether the number is new.
    fn take(&mut self, seq: u64) -> bool {
        if seq <= self.complete || !self.ahead.insert(seq) {
            return false;
        }
        while self.ahead.remove(&(self.complete + 1)) {
            self.complete += 1;
        }
        true
    }

    fn highest(&self) -> u64 {
        self.ahead.last().copied().unwrap_or(self.complete)
    }

    fn arrived(&self) -> u64 {
        self.complete + self.ahead.len() as u64
    }
}

impl Tally {
    /// Takes one arrived message.
    pub(super) fn take(&mut self, topic: &str, seq: u64, qos: Qos) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), Topic::default());
        }
        let new = self.topics.get_mut(topic).is_none_or(|known| known.take(seq));
        match (new, qos) {
            (true, _) => {}
            (false, Qos::ExactlyOnce) => self.doubled += 1,
            (false, Qos::AtLeastOnce | Qos::AtMostOnce) => self.repeated += 1,
        }
    }

    /// The totals.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            arrived: self.topics.values().map(Topic::arrived).sum(),
            lost: self.topics.values().map(|topic| topic.highest() - topic.arrived()).sum(),
            doubled: self.doubled,
            repeated: self.repeated,
        }
    }

    /// Of what `told` counted at the local broker, how many have not arrived here. Topics are paired by their last level (the sensor).
    pub(super) fn missing_of(&self, told: &Tally) -> u64 {
        fn sensor(topic: &str) -> &str {
            topic.rsplit('/').next().unwrap_or(topic)
        }
        told.topics
            .iter()
            .map(|(topic, there)| {
                let here =
                    self.topics.iter().find(|(name, _)| sensor(name) == sensor(topic)).map_or(0, |(_, t)| t.arrived());
                there.arrived().saturating_sub(here)
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_overtaken_is_lost_until_it_comes() {
        let mut tally = Tally::default();
        for seq in [1, 2, 5] {
            tally.take("a", seq, Qos::AtLeastOnce);
        }
        assert_eq!(tally.totals(), Totals { arrived: 3, lost: 2, doubled: 0, repeated: 0 });
        tally.take("a", 3, Qos::AtLeastOnce);
        tally.take("a", 4, Qos::AtLeastOnce);
        assert_eq!(tally.totals(), Totals { arrived: 5, lost: 0, doubled: 0, repeated: 0 });
    }

    #[test]
    fn a_message_that_comes_again_counts_by_its_qos() {
        let mut tally = Tally::default();
        for (topic, qos) in [("a", Qos::AtLeastOnce), ("b", Qos::ExactlyOnce)] {
            for seq in [1, 2, 2, 1] {
                tally.take(topic, seq, qos);
            }
        }
        assert_eq!(tally.totals(), Totals { arrived: 4, lost: 0, doubled: 2, repeated: 2 });
    }

    #[test]
    fn what_was_told_below_and_is_not_above_is_missing() {
        let (mut below, mut above) = (Tally::default(), Tally::default());
        for seq in 1..=10 {
            below.take("tidegate/demo/a", seq, Qos::AtLeastOnce);
        }
        assert_eq!(above.missing_of(&below), 10);
        for seq in 1..=7 {
            above.take("plants/demo/a", seq, Qos::AtLeastOnce);
        }
        assert_eq!(above.missing_of(&below), 3);
    }
}

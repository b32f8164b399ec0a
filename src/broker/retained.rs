//! The retained messages: the last of each topic, exact, capped by bytes. Which of them are written to disk, and when, is `keeper`'s.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::access::Withheld;
use super::session::{Delivery, RetainedCursor};
use crate::limits;
use crate::logic::echo::Echoes;
use crate::model::{Message, Moment, TopicName};

/// A retained message.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) message: Arc<Message>,
    pub(super) expires: Option<Moment>,
    /// The number it was published under: a subscription made before it has had it as a live message.
    number: u64,
    /// When its subscribers were told it.
    told: Moment,
}

/// What became of a message that was to be retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is the topic's last message.
    Kept,
    /// The topic has none any more.
    Cleared,
    /// There was nothing to clear, or the topic's last message is a later one.
    Nothing,
    /// The cap is reached; what the topic had before is gone, since it is not the last message any more.
    Full,
}

/// All retained messages, by topic.
#[derive(Debug, Default)]
pub(super) struct Retained {
    topics: BTreeMap<TopicName, Kept>,
    bytes: u64,
    /// Payloads alone.
    payload_bytes: u64,
    bytes_max: u64,
    /// Nothing expires before.
    first_expiry: Option<Moment>,
    /// Topics by their mark whose message went, and when, the oldest first: what was told before that does not come back.
    gone: VecDeque<(u64, Moment)>,
}

impl Retained {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(super) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Every message that has not expired.
    pub(super) fn each(&self, now: Moment, mut see: impl FnMut(&Arc<Message>, Option<Moment>)) {
        for kept in self.topics.values().filter(|kept| kept.expires.is_none_or(|expires| expires > now)) {
            see(&kept.message, kept.expires);
        }
    }

    /// Payloads alone, bytes.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    #[cfg(test)]
    fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the message the last of its topic; an empty payload clears the topic [MQTT-3.3.1-6].
    pub(super) fn set(&mut self, message: &Arc<Message>, number: u64, expires: Option<Moment>, now: Moment) -> Outcome {
        self.put(message, number, expires, now, now)
    }

    /// The same for a message that its subscribers were `told` before, [`limits::ECHO_WAIT`] ago at most: what the topic was given since stays.
    pub(super) fn set_late(
        &mut self,
        message: &Arc<Message>,
        number: u64,
        expires: Option<Moment>,
        told: Moment,
        now: Moment,
    ) -> Outcome {
        let mark = mark(&message.topic);
        let is_past = self.topics.get(&message.topic).is_some_and(|kept| kept.told > told)
            || self.gone.iter().any(|(gone, at)| *gone == mark && *at > told);
        if is_past { Outcome::Nothing } else { self.put(message, number, expires, told, now) }
    }

    fn put(
        &mut self,
        message: &Arc<Message>,
        number: u64,
        expires: Option<Moment>,
        told: Moment,
        now: Moment,
    ) -> Outcome {
        let had = self.topics.remove(&message.topic);
        if let Some(old) = &had {
            self.bytes -= cost(&old.message);
            self.payload_bytes -= old.message.payload.len() as u64;
        }
        if message.payload.is_empty() {
            self.note_gone(&message.topic, told, now);
            return if had.is_some() { Outcome::Cleared } else { Outcome::Nothing };
        }
        // The broker's own counters are few, and not a client's to crowd out.
        if self.bytes + cost(message) > self.bytes_max && !message.topic.is_sys() {
            if self.first_expiry.is_some_and(|first| first <= now) {
                self.sweep(now);
            }
            if self.bytes + cost(message) > self.bytes_max {
                self.note_gone(&message.topic, told, now);
                return Outcome::Full;
            }
        }
        self.bytes += cost(message);
        self.payload_bytes += message.payload.len() as u64;
        self.first_expiry = earliest(self.first_expiry, expires);
        self.topics.insert(message.topic.clone(), Kept { message: message.clone(), expires, number, told });
        Outcome::Kept
    }

    /// Beyond [`limits::RETAINED_GONE_MAX`] in [`limits::ECHO_WAIT`] the oldest is forgotten.
    fn note_gone(&mut self, topic: &TopicName, told: Moment, now: Moment) {
        while self.gone.len() >= limits::RETAINED_GONE_MAX
            || self.gone.front().is_some_and(|(_, at)| now.since(*at) > limits::ECHO_WAIT)
        {
            self.gone.pop_front();
        }
        self.gone.push_back((mark(topic), told));
    }

    /// Makes room: forgets what has expired.
    fn sweep(&mut self, now: Moment) {
        let mut first = None;
        self.topics.retain(|_, kept| {
            let is_alive = kept.expires.is_none_or(|expires| expires > now);
            if is_alive {
                first = earliest(first, kept.expires);
            } else {
                self.bytes -= cost(&kept.message);
                self.payload_bytes -= kept.message.payload.len() as u64;
            }
            is_alive
        });
        self.first_expiry = first;
    }

    /// Puts a message back that was retained before this process: whatever the cap says by now, it was taken.
    pub(super) fn restore(&mut self, message: Arc<Message>, expires: Option<Moment>) {
        self.bytes += cost(&message);
        self.payload_bytes += message.payload.len() as u64;
        self.first_expiry = earliest(self.first_expiry, expires);
        self.topics.insert(message.topic.clone(), Kept { message, expires, number: 0, told: Moment::ZERO });
    }

    /// Whether the topic has a message.
    pub(super) fn has(&self, topic: &TopicName) -> bool {
        self.topics.contains_key(topic)
    }

    /// What there is of a message that was set before: whether it is still its topic's last one.
    pub(super) fn outcome(&self, message: &Message) -> Outcome {
        match self.topics.get(&message.topic) {
            Some(kept) if kept.message.payload == message.payload => Outcome::Kept,
            Some(_) => Outcome::Nothing,
            None => Outcome::Cleared,
        }
    }

    /// Reads on from the cursor, which is moved, but for what is withheld from its client. Looks at a bounded number of topics, so that one reader of a large set does not hold up the
    /// broker. Returns what was found and whether that was the end.
    pub(super) fn read(&self, cursor: &mut RetainedCursor, withheld: &Withheld, now: Moment) -> (Vec<Delivery>, bool) {
        let subscription = &cursor.subscription;
        let filter = subscription.filter.as_str();
        let fixed = &filter[..filter.find(['+', '#']).unwrap_or(filter.len())];
        // `a/#` means `a` too: the range begins before the slash.
        let prefix = fixed.strip_suffix('/').unwrap_or(fixed);
        let start = match &cursor.after {
            Some(topic) => Bound::Excluded(topic.clone()),
            None => TopicName::parse(prefix).map_or(Bound::Unbounded, Bound::Included),
        };
        let identifiers: Option<Arc<[u32]>> = subscription.identifier.map(|id| Arc::from([id]));
        let mut found = Vec::new();
        let mut looked_at = 0;
        for (topic, kept) in self.topics.range((start, Bound::Unbounded)) {
            if !topic.as_str().starts_with(prefix) {
                return (found, true);
            }
            cursor.after = Some(topic.clone());
            looked_at += 1;
            let is_older = kept.number <= subscription.since;
            let is_alive = kept.expires.is_none_or(|expires| expires > now);
            if is_older && is_alive && subscription.filter.matches(topic) && !withheld.holds(topic) {
                found.push(Delivery {
                    message: kept.message.clone(),
                    qos: kept.message.qos.min(subscription.qos),
                    retain: true,
                    expires: kept.expires,
                    subscription_ids: identifiers.clone(),
                    by_group: None,
                    row: 0,
                    weight: None,
                });
            }
            if looked_at == limits::RETAINED_SCAN_MAX || found.len() == limits::RETAINED_READ_MAX {
                return (found, false);
            }
        }
        (found, true)
    }
}

/// What a topic that has no message is known by.
fn mark(topic: &TopicName) -> u64 {
    Echoes::mark(topic.as_str(), b"")
}

fn earliest(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    [one, other].into_iter().flatten().min()
}

/// What a message is charged for, bytes.
fn cost(message: &Message) -> u64 {
    message.weight() as u64
}

#[cfg(test)]
mod tests {
    use super::super::session::Subscription;
    use super::*;
    use crate::model::{Origin, Qos, TopicFilter};
    use std::time::Duration;

    fn message(topic: &str, payload: &str) -> Arc<Message> {
        Arc::new(Message::new(
            TopicName::parse(topic).unwrap(),
            payload.as_bytes(),
            Qos::AtLeastOnce,
            true,
            Origin::Client,
        ))
    }

    fn cursor(filter: &str, since: u64) -> RetainedCursor {
        let subscription = Subscription {
            filter: TopicFilter::parse(filter).unwrap(),
            group: None,
            qos: Qos::ExactlyOnce,
            no_local: false,
            retain_as_published: false,
            identifier: None,
            since,
        };
        RetainedCursor { subscription, after: None }
    }

    fn read_all(retained: &Retained, mut cursor: RetainedCursor) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let (found, done) = retained.read(&mut cursor, &Withheld::default(), Moment::ZERO);
            all.extend(found.iter().map(|delivery| delivery.message.topic.to_string()));
            if done {
                return all;
            }
        }
    }

    #[test]
    fn a_filter_reads_exactly_what_it_means() {
        let mut retained = Retained::new(1 << 20);
        for topic in ["a", "a/b", "a/b/c", "a-b", "ab", "$SYS/x", "b/b"] {
            retained.set(&message(topic, "x"), 1, None, Moment::ZERO);
        }
        assert_eq!(read_all(&retained, cursor("a/#", 9)), ["a", "a/b", "a/b/c"]);
        assert_eq!(read_all(&retained, cursor("+/b", 9)), ["a/b", "b/b"]);
        assert_eq!(read_all(&retained, cursor("#", 9)), ["a", "a-b", "a/b", "a/b/c", "ab", "b/b"]);
        assert_eq!(read_all(&retained, cursor("$SYS/#", 9)), ["$SYS/x"]);
        assert_eq!(read_all(&retained, cursor("a/b", 9)), ["a/b"]);
    }

    #[test]
    fn a_large_set_is_read_whole_in_bounded_steps() {
        let mut retained = Retained::new(1 << 24);
        let topics: Vec<_> = (0..5_000).map(|n| format!("t/{n:04}")).collect();
        for topic in &topics {
            retained.set(&message(topic, "x"), 1, None, Moment::ZERO);
        }
        assert_eq!(read_all(&retained, cursor("t/+", 1)), topics);
        let mut first = cursor("t/+", 1);
        let (found, done) = retained.read(&mut first, &Withheld::default(), Moment::ZERO);
        assert_eq!((found.len(), done), (limits::RETAINED_READ_MAX, false));
    }

    #[test]
    fn what_was_published_after_the_subscription_is_left_to_the_live_message() {
        let mut retained = Retained::new(1 << 20);
        retained.set(&message("a", "old"), 5, None, Moment::ZERO);
        retained.set(&message("b", "new"), 6, None, Moment::ZERO);
        assert_eq!(read_all(&retained, cursor("#", 5)), ["a"]);
    }

    #[test]
    fn an_empty_payload_clears_and_the_cap_is_exact() {
        let mut retained = Retained::new(2 * cost(&message("a", "1")));
        assert_eq!(retained.set(&message("a", "1"), 1, None, Moment::ZERO), Outcome::Kept);
        assert_eq!(retained.set(&message("b", "1"), 2, None, Moment::ZERO), Outcome::Kept);
        assert_eq!(retained.set(&message("c", "1"), 3, None, Moment::ZERO), Outcome::Full);
        assert_eq!(retained.set(&message("a", ""), 4, None, Moment::ZERO), Outcome::Cleared);
        assert_eq!(retained.set(&message("a", ""), 5, None, Moment::ZERO), Outcome::Nothing);
        assert_eq!(retained.set(&message("c", "1"), 6, None, Moment::ZERO), Outcome::Kept);
        assert_eq!((retained.len(), retained.bytes()), (2, 2 * cost(&message("a", "1"))));
    }

    #[test]
    fn what_was_told_before_the_topic_s_last_word_does_not_take_its_place() {
        let at = |seconds| Moment::at(Duration::from_secs(seconds));
        let mut retained = Retained::new(2 * cost(&message("a", "1")));
        let late = |retained: &mut Retained, payload, told| {
            retained.set_late(&message("a", payload), 1, None, at(told), at(50))
        };
        assert_eq!(retained.set(&message("a", "3"), 1, None, at(3)), Outcome::Kept);
        assert_eq!(late(&mut retained, "2", 2), Outcome::Nothing);
        assert_eq!(late(&mut retained, "", 2), Outcome::Nothing);
        // In any order the one that was told last stays, not the one that came last.
        assert_eq!(
            [5, 4, 6].map(|told| late(&mut retained, "x", told)),
            [Outcome::Kept, Outcome::Nothing, Outcome::Kept]
        );
        assert_eq!(late(&mut retained, "", 8), Outcome::Cleared);
        assert_eq!([7, 9].map(|told| late(&mut retained, "x", told)), [Outcome::Nothing, Outcome::Kept]);
        // Where the cap keeps a message out, the one before it is over all the same.
        assert_eq!(retained.set(&message("b", "1"), 1, None, at(50)), Outcome::Kept);
        assert_eq!(late(&mut retained, "xx", 20), Outcome::Full);
        assert_eq!([19, 21].map(|told| late(&mut retained, "x", told)), [Outcome::Nothing, Outcome::Kept]);
    }

    #[test]
    fn what_is_remembered_of_topics_without_a_message_is_bounded_by_number_and_age() {
        let mut retained = Retained::new(1 << 20);
        for n in 0..=limits::RETAINED_GONE_MAX {
            retained.set(&message(&format!("t/{n}"), ""), 1, None, Moment::ZERO);
        }
        assert_eq!(retained.gone.len(), limits::RETAINED_GONE_MAX);
        retained.set(&message("a", ""), 1, None, Moment::ZERO + limits::ECHO_WAIT + Duration::from_secs(1));
        assert_eq!(retained.gone.len(), 1);
    }

    #[test]
    fn the_cap_holds_for_every_topic_but_the_brokers_own() {
        let mut retained = Retained::new(0);
        assert_eq!(retained.set(&message("$x/y", "1"), 1, None, Moment::ZERO), Outcome::Full);
        assert_eq!(retained.set(&message("$SYS/y", "1"), 2, None, Moment::ZERO), Outcome::Kept);
    }

    #[test]
    fn what_has_expired_makes_room_for_others() {
        let mut retained = Retained::new(cost(&message("a", "1")));
        let later = Moment::at(Duration::from_secs(1));
        assert_eq!(retained.set(&message("a", "1"), 1, Some(later), Moment::ZERO), Outcome::Kept);
        assert_eq!(retained.set(&message("b", "1"), 2, None, Moment::ZERO), Outcome::Full);
        assert_eq!(retained.set(&message("b", "1"), 3, None, later), Outcome::Kept);
        assert_eq!(read_all(&retained, cursor("#", 9)), ["b"]);
    }

    #[test]
    fn an_expired_message_is_not_read() {
        let mut retained = Retained::new(1 << 20);
        retained.set(&message("a", "1"), 1, Some(Moment::at(Duration::from_secs(1))), Moment::ZERO);
        let (found, _) = retained.read(&mut cursor("a", 1), &Withheld::default(), Moment::at(Duration::from_secs(1)));
        assert!(found.is_empty());
    }
}

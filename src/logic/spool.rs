//! What waits for a broker that may be away, and what it must be told anew when it is back.
//!
//! Order is kept, but for two things. While nobody takes anything, of a retained topic only the newest message waits: it is a state, and what it
//! was in between is over. And at a limit the oldest message goes that is not retained; where all are, the oldest. What goes is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::limits::{EXTERNAL_KEPT_BYTES, EXTERNAL_QUEUE, EXTERNAL_QUEUE_BYTES};
use crate::model::{Message, Origin, TopicName};

/// See the module.
#[derive(Debug)]
pub struct Spool {
    /// By place; what is put back in front has places below what was first.
    waiting: BTreeMap<i64, Arc<Message>>,
    /// Places of those that are not retained.
    plain: BTreeSet<i64>,
    /// Place of the newest retained message of a topic.
    newest: HashMap<TopicName, i64>,
    bytes: usize,
    bytes_max: usize,
    away: bool,
    dropped: u64,
    kept: Kept,
}

/// The gateway's own retained messages as they were told last, in the order of their topics' first.
#[derive(Debug, Default)]
struct Kept {
    places: HashMap<TopicName, u64>,
    messages: BTreeMap<u64, Arc<Message>>,
    next: u64,
    bytes: usize,
    full: bool,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            plain: BTreeSet::new(),
            newest: HashMap::new(),
            bytes: 0,
            bytes_max: EXTERNAL_QUEUE_BYTES,
            // Nobody is there yet.
            away: true,
            dropped: 0,
            kept: Kept::default(),
        }
    }
}

impl Spool {
    /// Takes a message in, behind all that wait. Returns how many went for it.
    pub fn push(&mut self, message: Arc<Message>) -> u64 {
        if message.retain && matches!(message.origin, Origin::Sensor | Origin::Gateway) {
            self.kept.take(&message);
        }
        if self.away
            && message.retain
            && let Some(place) = self.newest.get(&message.topic).copied()
        {
            self.remove(place);
        }
        let place = self.waiting.last_key_value().map_or(0, |(place, _)| place + 1);
        self.put(place, message);
        let mut gone = 0;
        while self.waiting.len() > EXTERNAL_QUEUE || (self.bytes > self.bytes_max && self.waiting.len() > 1) {
            let oldest = self.plain.first().or_else(|| self.waiting.keys().next()).copied();
            oldest.map(|place| self.remove(place));
            gone += 1;
        }
        self.dropped += gone;
        gone
    }

    /// The next message, which is then the caller's.
    pub fn pop(&mut self) -> Option<Arc<Message>> {
        let place = *self.waiting.first_key_value()?.0;
        self.remove(place)
    }

    /// The next message.
    pub fn first(&self) -> Option<&Arc<Message>> {
        self.waiting.first_key_value().map(|(_, message)| message)
    }

    /// Puts messages back before all that wait, the first of them first. No limit: they were in here before, or are bounded by another.
    pub fn put_back(&mut self, messages: impl DoubleEndedIterator<Item = Arc<Message>>) {
        for message in messages.rev() {
            let place = self.waiting.first_key_value().map_or(0, |(place, _)| place - 1);
            self.put(place, message);
        }
    }

    /// Whether somebody takes messages. Told that they went, it lets only the newest of each retained topic wait from here on.
    pub fn set_away(&mut self, away: bool) {
        self.away = away;
    }

    /// The gateway's own retained messages, but for the topics of which a newer one waits, or of which this very one is under way.
    pub fn kept(&self, under_way: impl Fn(&Arc<Message>) -> bool) -> Vec<Arc<Message>> {
        let is_due = |message: &&Arc<Message>| !self.newest.contains_key(&message.topic) && !under_way(message);
        self.kept.messages.values().filter(is_due).cloned().collect()
    }

    /// Whether a retained topic could not be remembered; true once.
    pub fn is_over_kept(&mut self) -> bool {
        std::mem::take(&mut self.kept.full)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many went for want of room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn put(&mut self, place: i64, message: Arc<Message>) {
        self.bytes += message.weight();
        if message.retain {
            let newest = self.newest.entry(message.topic.clone()).or_insert(place);
            *newest = place.max(*newest);
        } else {
            self.plain.insert(place);
        }
        self.waiting.insert(place, message);
    }

    fn remove(&mut self, place: i64) -> Option<Arc<Message>> {
        let message = self.waiting.remove(&place)?;
        self.bytes -= message.weight();
        self.plain.remove(&place);
        if self.newest.get(&message.topic) == Some(&place) {
            self.newest.remove(&message.topic);
        }
        Some(message)
    }
}

impl Kept {
    fn take(&mut self, message: &Arc<Message>) {
        let place = self.places.get(&message.topic).copied();
        let before = place.and_then(|place| self.messages.get(&place)).map_or(0, |message| message.weight());
        let bytes = self.bytes - before + message.weight();
        if bytes > EXTERNAL_KEPT_BYTES {
            // An old state of the topic must not be told anew either.
            place.map(|place| self.messages.remove(&place));
            self.places.remove(&message.topic);
            self.bytes -= before;
            self.full = true;
            return;
        }
        let place = place.unwrap_or_else(|| {
            self.next += 1;
            self.places.insert(message.topic.clone(), self.next);
            self.next
        });
        self.bytes = bytes;
        self.messages.insert(place, Arc::clone(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Properties, Qos};

    fn message(topic: &str, payload: &str, retain: bool, origin: Origin) -> Arc<Message> {
        let topic = TopicName::parse(topic).unwrap();
        Arc::new(Message::new(topic, payload.as_bytes(), Qos::AtLeastOnce, retain, origin))
    }

    fn event(payload: &str) -> Arc<Message> {
        message("event", payload, false, Origin::Gateway)
    }

    fn state(topic: &str, payload: &str) -> Arc<Message> {
        message(topic, payload, true, Origin::Gateway)
    }

    fn payloads<'m>(messages: impl IntoIterator<Item = &'m Arc<Message>>) -> Vec<String> {
        messages.into_iter().map(|message| String::from_utf8(message.payload.to_vec()).unwrap()).collect()
    }

    fn drained(spool: &mut Spool) -> Vec<String> {
        payloads(&std::iter::from_fn(|| spool.pop()).collect::<Vec<_>>())
    }

    #[test]
    fn while_nobody_takes_them_only_the_newest_of_a_retained_topic_waits() {
        let mut spool = Spool::default();
        for message in [state("a", "a1"), event("e1"), state("b", "b1"), state("a", "a2"), event("e2")] {
            assert_eq!(spool.push(message), 0, "what is over is no loss");
        }
        assert_eq!(drained(&mut spool), ["e1", "b1", "a2", "e2"]);
        spool.set_away(false);
        for message in [state("a", "a3"), state("a", "a4")] {
            spool.push(message);
        }
        assert_eq!(drained(&mut spool), ["a3", "a4"], "whoever listens hears each");
    }

    #[test]
    fn at_the_limit_the_oldest_goes_that_is_not_retained() {
        let mut spool = Spool::default();
        spool.push(state("a", "a"));
        for number in 0..EXTERNAL_QUEUE {
            spool.push(event(&number.to_string()));
        }
        assert_eq!((spool.len(), spool.dropped()), (EXTERNAL_QUEUE, 1));
        assert_eq!(drained(&mut spool)[..3], ["a", "1", "2"]);
        for number in 0..=EXTERNAL_QUEUE {
            spool.push(state(&format!("s/{number}"), &number.to_string()));
        }
        assert_eq!(drained(&mut spool)[0], "1", "where all are retained, the oldest");

        let mut small = Spool { bytes_max: 2 * event(&"x".repeat(50)).weight(), ..Spool::default() };
        for number in 0..4 {
            small.push(event(&format!("{number}{}", "x".repeat(40))));
        }
        assert_eq!((small.len(), small.dropped()), (2, 2));
        small.push(event(&"y".repeat(200)));
        assert_eq!(small.len(), 1, "one always has its place");
    }

    #[test]
    fn properties_fill_it_as_payloads_do() {
        let properties = Properties { correlation_data: Some(vec![0; 60_000].into()), ..Properties::default() };
        let properties = Some(Arc::new(properties));
        let large = |mut message: Arc<Message>| {
            Arc::make_mut(&mut message).properties.clone_from(&properties);
            message
        };
        let mut spool = Spool::default();
        for _ in 0..400 {
            spool.push(large(event("")));
        }
        assert!((1..=EXTERNAL_QUEUE_BYTES / 60_000).contains(&spool.len()), "{}", spool.len());
        for number in 0..400 {
            spool.push(large(state(&number.to_string(), "x")));
            drained(&mut spool);
        }
        let kept = spool.kept(|_| false).len();
        assert!((1..=EXTERNAL_KEPT_BYTES / 60_000).contains(&kept), "{kept}");
    }

    #[test]
    fn what_is_put_back_is_first_and_in_its_order() {
        let mut spool = Spool::default();
        spool.push(event("3"));
        spool.put_back([event("1"), event("2")].into_iter());
        assert_eq!(drained(&mut spool), ["1", "2", "3"]);
    }

    #[test]
    fn the_gateway_s_own_states_are_remembered_as_they_were_told_last() {
        let mut spool = Spool::default();
        for message in [state("a", "a1"), state("b", "b1"), event("e"), state("a", "a2")] {
            spool.push(message);
        }
        spool.push(message("c", "a client's", true, Origin::Client));
        assert_eq!(payloads(&spool.kept(|_| false)), Vec::<String>::new(), "they wait anyway");
        drained(&mut spool);
        assert_eq!(payloads(&spool.kept(|_| false)), ["a2", "b1"]);
        assert_eq!(payloads(&spool.kept(|message| *message.payload == *b"b1")), ["a2"]);
        spool.push(state("a", "a3"));
        assert_eq!(payloads(&spool.kept(|_| false)), ["b1"], "the newer one waits");
        let put_back = spool.kept(|_| false);
        spool.put_back(put_back.into_iter());
        assert_eq!(drained(&mut spool), ["b1", "a3"]);
    }

    #[test]
    fn what_is_too_much_to_remember_is_told_once_and_not_told_anew_by_an_old_state() {
        let mut spool = Spool::default();
        spool.push(state("a", "old"));
        let most = EXTERNAL_KEPT_BYTES - state("a", "old").weight() - state("b", "").weight();
        spool.push(state("b", &"x".repeat(most)));
        assert!(!spool.is_over_kept());
        spool.push(state("a", "far too long a state"));
        assert!(spool.is_over_kept() && !spool.is_over_kept());
        drained(&mut spool);
        assert_eq!(spool.kept(|_| false).len(), 1);
    }
}

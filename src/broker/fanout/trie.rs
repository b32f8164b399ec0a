//! Routing by a trie of filters: one node a level, so that a message costs its number of levels, not the number of filters.

use std::collections::HashMap;

use super::{Envelope, Fanout, FilterId, Full};
use crate::model::TopicFilter;

/// The filters in use. Its depth is bounded by `limits::TOPIC_LEVELS_MAX`, which the broker checks at SUBSCRIBE.
#[derive(Debug, Default)]
pub(in crate::broker) struct Trie {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, Node>,
    plus: Option<Box<Node>>,
    /// The filter that ends here.
    here: Option<FilterId>,
    /// The filter that ends here with `#`.
    hash: Option<FilterId>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.plus.is_none() && self.here.is_none() && self.hash.is_none()
    }

    fn place(&mut self, filter: &str) -> &mut Option<FilterId> {
        let mut node = self;
        let mut levels = filter.split('/');
        loop {
            match levels.next() {
                None => return &mut node.here,
                Some("#") => return &mut node.hash,
                Some("+") => node = node.plus.get_or_insert_default(),
                Some(level) => node = node.literal.entry(level.into()).or_default(),
            }
        }
    }

    /// Takes the filter out and prunes what is empty on the way back.
    fn remove(&mut self, rest: Option<&str>) {
        let Some(rest) = rest else {
            self.here = None;
            return;
        };
        let (level, rest) = split(rest);
        match level {
            "#" => self.hash = None,
            "+" => {
                if let Some(next) = &mut self.plus {
                    next.remove(rest);
                    if next.is_empty() {
                        self.plus = None;
                    }
                }
            }
            level => {
                if let Some(next) = self.literal.get_mut(level) {
                    next.remove(rest);
                    if next.is_empty() {
                        self.literal.remove(level);
                    }
                }
            }
        }
    }

    /// `wild`: whether wildcards of this level see the topic [MQTT-4.7.2-1].
    fn find(&self, rest: Option<&str>, wild: bool, found: &mut Vec<FilterId>) {
        if wild {
            found.extend(self.hash);
        }
        let Some(rest) = rest else {
            found.extend(self.here);
            return;
        };
        let (level, rest) = split(rest);
        if let Some(next) = self.literal.get(level) {
            next.find(rest, true, found);
        }
        if let Some(next) = self.plus.as_deref().filter(|_| wild) {
            next.find(rest, true, found);
        }
    }
}

fn split(levels: &str) -> (&str, Option<&str>) {
    match levels.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (levels, None),
    }
}

impl Fanout for Trie {
    fn subscribe(&mut self, filter: &TopicFilter, id: FilterId) {
        *self.root.place(filter.as_str()) = Some(id);
    }

    fn unsubscribe(&mut self, filter: &TopicFilter, _id: FilterId) {
        self.root.remove(Some(filter.as_str()));
    }

    fn publish(&mut self, envelope: &Envelope, found: &mut Vec<FilterId>) -> Result<(), Full> {
        let topic = &envelope.message.topic;
        self.root.find(Some(topic.as_str()), !topic.is_dollar(), found);
        Ok(())
    }

    fn stop(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Message, Moment, Origin, Qos, TopicName};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn found(trie: &mut Trie, topic: &str) -> Vec<FilterId> {
        let topic = TopicName::parse(topic).unwrap();
        let message = Arc::new(Message::new(topic, *b"", Qos::AtMostOnce, false, Origin::Client));
        let mut found = Vec::new();
        trie.publish(&Envelope { number: 1, sender: 0, received: Moment::ZERO, message }, &mut found).unwrap();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_filter_taken_out_leaves_nothing_behind() {
        let mut trie = Trie::default();
        for (id, text) in (0..).zip(["a/b", "a/+/c", "a/#", "+/b", "#", "$SYS/#"]) {
            trie.subscribe(&filter(text), id);
        }
        assert_eq!(found(&mut trie, "a/b"), [0, 2, 3, 4]);
        assert_eq!(found(&mut trie, "a"), [2, 4]);
        assert_eq!(found(&mut trie, "$SYS/x"), [5]);
        for (id, text) in (0..).zip(["a/b", "a/+/c", "a/#", "+/b", "#", "$SYS/#"]) {
            trie.unsubscribe(&filter(text), id);
        }
        assert!(trie.root.is_empty());
    }

    proptest! {
        #[test]
        fn finds_what_the_filters_themselves_say(
            filters in proptest::collection::hash_set("(\\$)?[ab+]{0,1}(/[ab+]{0,1}){0,3}(/#)?", 1..12),
            topics in proptest::collection::vec("(\\$)?[ab]{0,1}(/[ab]{0,1}){0,4}", 1..12),
        ) {
            let filters: Vec<_> = filters.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect();
            let mut trie = Trie::default();
            for (id, filter) in (0..).zip(&filters) {
                trie.subscribe(filter, id);
            }
            for topic in topics.iter().filter_map(|text| TopicName::parse(text).ok()) {
                let expected: Vec<FilterId> =
                    (0..).zip(&filters).filter(|(_, filter)| filter.matches(&topic)).map(|(id, _)| id).collect();
                prop_assert_eq!(found(&mut trie, topic.as_str()), expected, "{}", topic);
            }
        }
    }
}

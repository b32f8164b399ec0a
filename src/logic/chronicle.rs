//! What happened of late, for a person: made of what the gateway publishes anyway, so that page and subscribers are told the same.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value};

use crate::limits::{EVENT_TEXT_BYTES_MAX, EVENTS_KEPT};
use crate::model::overview::Event;
use crate::model::{Message, Outcome, Timestamp, TopicName};

/// Which of the gateway's own topics are watched.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    /// Events, as they are.
    Events,
    /// The state of a bridge, by its id: told are the edges between online and not.
    Bridge(String),
    /// The availability of a sensor or an actuator (`sensor air`): told are the edges.
    Availability(String),
    /// The answers of an actuator (`actuator pump`): told are those that say no. What was done shows in its state.
    Answers(String),
    /// The state of an actuator: told is each change.
    State(String),
}

/// The last events. Contract: [`Chronicle::take`] sees every message that the gateway publishes, in their order.
#[derive(Debug, Default)]
pub struct Chronicle {
    topics: HashMap<TopicName, Watched>,
    /// What was last known of each bridge, sensor and actuator.
    well: HashMap<String, bool>,
    /// The state of each actuator.
    values: HashMap<String, String>,
    events: VecDeque<Event>,
    next: u64,
}

impl Chronicle {
    /// Watches these topics, in place of those before. What is known of whom is kept.
    pub fn watch(&mut self, topics: impl IntoIterator<Item = (TopicName, Watched)>) {
        self.topics = topics.into_iter().collect();
        self.topics.shrink_to_fit();
    }

    /// Notes what the message tells, if it tells something. `wall` is asked only then.
    pub fn take(&mut self, message: &Message, wall: impl FnOnce() -> Timestamp) {
        let Some(watched) = self.topics.get(&message.topic) else { return };
        let news = match watched {
            Watched::Events => event(&message.payload),
            Watched::Answers(subject) => answer(subject, &message.payload),
            Watched::State(subject) => {
                let subject = subject.clone();
                state(&message.payload).and_then(|value| self.turned(subject, value))
            }
            Watched::Bridge(id) => {
                let subject = format!("bridge {id}");
                bridge(&message.payload).and_then(|(online, text)| self.edge(subject, online, text))
            }
            Watched::Availability(subject) => {
                let (subject, online) = (subject.clone(), message.payload.as_ref() == b"online");
                self.edge(subject, online, if online { "online".into() } else { "offline".into() })
            }
        };
        if let Some((trouble, subject, text)) = news {
            self.add(Event::new(wall(), trouble, subject, clipped(text)));
        }
    }

    /// Those after a number, oldest first.
    pub fn after(&self, number: u64) -> Vec<Event> {
        self.events.iter().filter(|event| event.number > number).cloned().collect()
    }

    /// News only when it is another state than before. A first state that is well is what everybody expects, and no news.
    fn edge(&mut self, subject: String, well: bool, text: String) -> Option<(bool, String, String)> {
        let before = self.well.insert(subject.clone(), well);
        (before != Some(well) && !(before.is_none() && well)).then_some((!well, subject, text))
    }

    /// News when it is another value than before; the first is that of the start.
    fn turned(&mut self, subject: String, value: String) -> Option<(bool, String, String)> {
        let before = self.values.insert(subject.clone(), value.clone());
        before.is_some_and(|before| before != value).then_some((false, subject, value))
    }

    fn add(&mut self, mut event: Event) {
        self.next += 1;
        event.number = self.next;
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// An event of `tidegate/<gateway>/event`: its kind and, in words, what came with it.
fn event(payload: &[u8]) -> Option<(bool, String, String)> {
    let object: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let kind = object.get("kind")?.as_str()?.to_owned();
    let whom = ["bridge", "sensor", "actuator", "bus"];
    let subject = whom.iter().find_map(|room| Some(format!("{room} {}", object.get(*room)?.as_str()?)));
    let rest = object
        .iter()
        .filter(|(key, _)| !["ts", "tq", "kind"].contains(&key.as_str()) && !whom.contains(&key.as_str()))
        .map(|(key, value)| format!("{key} {}", plain(value)));
    let rest: Vec<String> = rest.collect();
    let text = if rest.is_empty() { kind } else { format!("{kind}: {}", rest.join(", ")) };
    Some((true, subject.unwrap_or_else(|| "gateway".into()), text))
}

/// An answer of an actuator that is no `done`: `{"id":…,"result":…,"reason":…}`.
fn answer(subject: &str, payload: &[u8]) -> Option<(bool, String, String)> {
    let object: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let result = object.get("result")?.as_str().filter(|result| *result != Outcome::Done.word())?;
    let reason = object.get("reason").and_then(Value::as_str);
    let text = reason.map_or_else(|| result.to_owned(), |reason| format!("{result}: {reason}"));
    Some((true, subject.to_owned(), text))
}

/// The value in a state of an actuator.
fn state(payload: &[u8]) -> Option<String> {
    let object: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    Some(object.get("value")?.as_str()?.to_owned())
}

fn bridge(payload: &[u8]) -> Option<(bool, String)> {
    let object: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let reason = object.get("reason").and_then(Value::as_str);
    match (object.get("state")?.as_str()?, reason) {
        ("online", _) => Some((true, "online".into())),
        ("offline", reason) => {
            Some((false, reason.map_or_else(|| "offline".into(), |reason| format!("offline: {reason}"))))
        }
        // An attempt is no news: it is followed by one of the others.
        _ => None,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" to "),
        other => other.to_string(),
    }
}

/// No longer than what is kept of a text, and whole characters.
fn clipped(mut text: String) -> String {
    if text.len() > EVENT_TEXT_BYTES_MAX {
        let end = (0..=EVENT_TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Origin, Qos};

    fn topic(name: &str) -> TopicName {
        TopicName::parse(name).unwrap()
    }

    fn chronicle() -> Chronicle {
        let mut chronicle = Chronicle::default();
        chronicle.watch([
            (topic("g/event"), Watched::Events),
            (topic("g/bridge/cloud"), Watched::Bridge("cloud".into())),
            (topic("g/air/availability"), Watched::Availability("sensor air".into())),
            (topic("g/pump/ack"), Watched::Answers("actuator pump".into())),
            (topic("g/pump"), Watched::State("actuator pump".into())),
        ]);
        chronicle
    }

    fn take(chronicle: &mut Chronicle, name: &str, payload: &str) {
        let message = Message::new(topic(name), payload.as_bytes(), Qos::AtLeastOnce, false, Origin::Gateway);
        chronicle.take(&message, || Timestamp { unix_ms: 7, synced: true, at: None });
    }

    fn told(chronicle: &Chronicle) -> Vec<(bool, String, String)> {
        chronicle.after(0).into_iter().map(|event| (event.trouble, event.subject, event.text)).collect()
    }

    #[test]
    fn a_bridge_is_told_at_its_edges_and_not_at_each_attempt() {
        let mut chronicle = chronicle();
        for payload in [
            r#"{"state":"connecting","queued":0}"#,
            r#"{"state":"online","queued":0}"#,
            r#"{"state":"offline","reason":"connection reset","queued":3}"#,
            r#"{"state":"connecting","queued":3}"#,
            r#"{"state":"offline","reason":"connection refused","queued":9}"#,
            r#"{"state":"online","queued":9}"#,
        ] {
            take(&mut chronicle, "g/bridge/cloud", payload);
        }
        let bridge = |trouble, text: &str| (trouble, "bridge cloud".to_owned(), text.to_owned());
        assert_eq!(told(&chronicle), [bridge(true, "offline: connection reset"), bridge(false, "online")]);
    }

    #[test]
    fn an_event_is_told_in_words_and_about_whom_it_is() {
        let mut chronicle = chronicle();
        let dropped = r#"{"ts":"x","kind":"dropped","bridge":"cloud","cause":"store-full","count":512,"seq":[1,512]}"#;
        take(&mut chronicle, "g/event", dropped);
        take(&mut chronicle, "g/event", r#"{"ts":"x","kind":"reload-failed","reason":"2 errors"}"#);
        take(&mut chronicle, "g/event", "no json");
        take(&mut chronicle, "g/other", dropped);
        assert_eq!(
            told(&chronicle),
            [
                (true, "bridge cloud".into(), "dropped: cause store-full, count 512, seq 1 to 512".into()),
                (true, "gateway".into(), "reload-failed: reason 2 errors".into()),
            ]
        );
    }

    #[test]
    fn a_sensor_that_is_heard_for_the_first_time_is_no_news() {
        let mut chronicle = chronicle();
        for word in ["online", "online", "offline", "offline", "online"] {
            take(&mut chronicle, "g/air/availability", word);
        }
        let sensor = |trouble, text: &str| (trouble, "sensor air".to_owned(), text.to_owned());
        assert_eq!(told(&chronicle), [sensor(true, "offline"), sensor(false, "online")]);
    }

    #[test]
    fn an_actuator_is_told_when_it_turns_and_when_it_says_no() {
        let mut chronicle = chronicle();
        take(&mut chronicle, "g/pump", r#"{"ts":"x","value":"off"}"#);
        take(&mut chronicle, "g/pump", r#"{"ts":"y","value":"on"}"#);
        take(&mut chronicle, "g/pump/ack", r#"{"id":"1","result":"done"}"#);
        take(&mut chronicle, "g/pump", r#"{"ts":"z","value":"on","q":"fault"}"#);
        take(&mut chronicle, "g/pump/ack", r#"{"id":"2","result":"refused","reason":"off for 30 s yet"}"#);
        let pump = |trouble, text: &str| (trouble, "actuator pump".to_owned(), text.to_owned());
        assert_eq!(told(&chronicle), [pump(false, "on"), pump(true, "refused: off for 30 s yet")]);
    }

    #[test]
    fn the_oldest_go_and_numbers_go_on() {
        let mut chronicle = chronicle();
        for count in 0..EVENTS_KEPT + 5 {
            take(&mut chronicle, "g/event", &format!(r#"{{"kind":"k","n":{count}}}"#));
        }
        let all = chronicle.after(0);
        assert_eq!((all.len(), all[0].number), (EVENTS_KEPT, 6));
        assert_eq!(chronicle.after(all[EVENTS_KEPT - 2].number).len(), 1);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut chronicle = chronicle();
        take(&mut chronicle, "g/event", &format!(r#"{{"kind":"{}"}}"#, "é".repeat(EVENT_TEXT_BYTES_MAX)));
        let text = &chronicle.after(0)[0].text;
        assert!(text.len() <= EVENT_TEXT_BYTES_MAX + '…'.len_utf8() && text.ends_with("é…"), "{text}");
    }
}

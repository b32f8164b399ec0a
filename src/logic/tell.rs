//! What an actuator says: its state, its answers, whether it is there (docs/topics.md).

use serde_json::{Map, Value};

use super::restamp;
use crate::model::{Ack, Message, Origin, Qos, Setting, Timestamp, TopicName};

/// Where an actuator hears and speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActuatorTopics {
    /// Its state, retained.
    pub state: TopicName,
    /// Its commands.
    pub set: TopicName,
    /// Their answers.
    pub ack: TopicName,
    /// Whether it is there, retained.
    pub availability: TopicName,
    /// Quality of service of what it says.
    pub qos: Qos,
}

/// How an actuator knows its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// Its device says so.
    Read,
    /// It was told so, and cannot be asked.
    Assumed,
    /// It was so when its device was last heard of.
    Lost,
}

impl ActuatorTopics {
    /// All of them.
    pub fn all(&self) -> [&TopicName; 4] {
        [&self.state, &self.set, &self.ack, &self.availability]
    }

    /// What it is set to.
    pub fn state(&self, value: &Setting, certainty: Certainty, at: Timestamp) -> Message {
        let mut object = Map::new();
        object.insert("value".into(), value.word().into());
        match certainty {
            Certainty::Read => {}
            Certainty::Assumed => {
                object.insert("assumed".into(), true.into());
            }
            Certainty::Lost => {
                object.insert("q".into(), "fault".into());
            }
        }
        self.timed(&self.state, object, at, true)
    }

    /// The answer to a command.
    pub fn ack(&self, ack: &Ack, at: Timestamp) -> Message {
        let mut object = Map::new();
        object.insert("id".into(), ack.id.as_ref().map_or(Value::Null, |id| id.as_str().into()));
        object.insert("result".into(), ack.outcome.word().into());
        if let Some(reason) = &ack.reason {
            object.insert("reason".into(), Value::from(&**reason));
        }
        self.timed(&self.ack, object, at, false)
    }

    /// Whether it is there.
    pub fn availability(&self, online: bool) -> Message {
        let word: &[u8] = if online { b"online" } else { b"offline" };
        self.message(&self.availability, word.to_vec(), true)
    }

    /// What says when it was so. Told by a clock that was not set, it gets its true time once that is.
    fn timed(&self, topic: &TopicName, object: Map<String, Value>, at: Timestamp, retain: bool) -> Message {
        self.message(topic, restamp::object(at, object).into_bytes(), retain).stamped(at)
    }

    fn message(&self, topic: &TopicName, payload: Vec<u8>, retain: bool) -> Message {
        Message::new(topic.clone(), payload, self.qos, retain, Origin::Gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CommandId, Moment, Outcome};

    const AT: Timestamp = Timestamp { unix_ms: 1_795_396_500_123, synced: true, at: None };

    fn topics() -> ActuatorTopics {
        let topic = |rest: &str| TopicName::parse(&format!("tidegate/g/pump{rest}")).unwrap();
        ActuatorTopics {
            state: topic(""),
            set: topic("/set"),
            ack: topic("/ack"),
            availability: topic("/availability"),
            qos: Qos::AtLeastOnce,
        }
    }

    fn payload(message: &Message) -> &str {
        std::str::from_utf8(&message.payload).unwrap()
    }

    #[test]
    fn a_state_is_retained_and_says_how_sure_it_is() {
        let message = topics().state(&Setting::On, Certainty::Read, AT);
        assert_eq!(payload(&message), r#"{"ts":"2026-11-23T01:15:00.123Z","value":"on"}"#);
        assert_eq!(
            (message.topic.as_str(), message.retain, message.origin),
            ("tidegate/g/pump", true, Origin::Gateway)
        );
        let unsynced = Timestamp { synced: false, at: Some(Moment::ZERO), ..AT };
        let assumed = topics().state(&Setting::Word("55".into()), Certainty::Assumed, unsynced);
        assert_eq!(
            payload(&assumed),
            r#"{"ts":"2026-11-23T01:15:00.123Z","tq":"unsynced","value":"55","assumed":true}"#
        );
        assert_eq!((assumed.stamp, message.stamp), (unsynced.at, None), "it can be mended");
        let lost = topics().state(&Setting::Off, Certainty::Lost, AT);
        assert_eq!(payload(&lost), r#"{"ts":"2026-11-23T01:15:00.123Z","value":"off","q":"fault"}"#);
    }

    #[test]
    fn an_answer_is_not_retained_and_names_the_command() {
        let message = topics().ack(&Ack::because(CommandId::parse("7"), Outcome::Refused, "not yet"), AT);
        assert_eq!(
            payload(&message),
            r#"{"ts":"2026-11-23T01:15:00.123Z","id":"7","result":"refused","reason":"not yet"}"#
        );
        assert_eq!((message.topic.as_str(), message.retain), ("tidegate/g/pump/ack", false));
        let plain = topics().ack(&Ack::done(None), AT);
        assert_eq!(payload(&plain), r#"{"ts":"2026-11-23T01:15:00.123Z","id":null,"result":"done"}"#);
    }

    #[test]
    fn availability_is_a_retained_word() {
        let message = topics().availability(false);
        assert_eq!((payload(&message), message.retain), ("offline", true));
    }
}

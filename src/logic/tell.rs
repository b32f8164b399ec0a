//! What an actuator says: its state, its answers, whether it is there (docs/topics.md).

use serde_json::{Map, Value};

use crate::model::time::rfc3339;
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
        let mut object = stamped(at);
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
        self.message(&self.state, text(object, at), true)
    }

    /// The answer to a command.
    pub fn ack(&self, ack: &Ack, at: Timestamp) -> Message {
        let mut object = stamped(at);
        object.insert("id".into(), ack.id.as_ref().map_or(Value::Null, |id| id.as_str().into()));
        object.insert("result".into(), ack.outcome.word().into());
        if let Some(reason) = &ack.reason {
            object.insert("reason".into(), Value::from(&**reason));
        }
        self.message(&self.ack, text(object, at), false)
    }

    /// Whether it is there.
    pub fn availability(&self, online: bool) -> Message {
        let word: &[u8] = if online { b"online" } else { b"offline" };
        self.message(&self.availability, word.to_vec(), true)
    }

    fn message(&self, topic: &TopicName, payload: Vec<u8>, retain: bool) -> Message {
        Message::new(topic.clone(), payload, self.qos, retain, Origin::Gateway)
    }
}

fn stamped(at: Timestamp) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("ts".into(), rfc3339(at.unix_ms).into());
    object
}

fn text(mut object: Map<String, Value>, at: Timestamp) -> Vec<u8> {
    if !at.synced {
        object.insert("tq".into(), "unsynced".into());
    }
    Value::Object(object).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CommandId, Outcome};

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
        let unsynced = Timestamp { synced: false, ..AT };
        let assumed = topics().state(&Setting::Word("55".into()), Certainty::Assumed, unsynced);
        assert_eq!(
            payload(&assumed),
            r#"{"ts":"2026-11-23T01:15:00.123Z","value":"55","assumed":true,"tq":"unsynced"}"#
        );
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

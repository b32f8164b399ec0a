//! The gateway's own topics (docs/topics.md): `status`, and `event` for what a person should know.

use serde_json::{Map, Value};

use super::restamp;
use crate::model::{Message, Origin, Qos, Timestamp, TopicName};

/// `online` or `offline` on the gateway's status topic, retained.
pub fn status(topic: &TopicName, online: bool) -> Message {
    let word: &[u8] = if online { b"online" } else { b"offline" };
    Message::new(topic.clone(), word, Qos::AtLeastOnce, true, Origin::Gateway)
}

/// An event: what happened (`kind`, kebab-case), when, and the particulars.
pub fn event(topic: &TopicName, kind: &str, at: Timestamp, particulars: Map<String, Value>) -> Message {
    let mut object = Map::new();
    object.insert("kind".into(), kind.into());
    object.extend(particulars);
    let payload = restamp::object(at, object).into_bytes();
    Message::new(topic.clone(), payload, Qos::AtLeastOnce, false, Origin::Gateway).stamped(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_when_what_and_the_particulars() {
        let topic = TopicName::parse("tidegate/g/event").unwrap();
        let mut particulars = Map::new();
        particulars.insert("file".into(), "x.toml".into());
        let message = event(
            &topic,
            "reload-failed",
            Timestamp { unix_ms: 1_795_396_500_120, synced: false, at: None },
            particulars,
        );
        assert_eq!(
            std::str::from_utf8(&message.payload).unwrap(),
            r#"{"ts":"2026-11-23T01:15:00.120Z","tq":"unsynced","kind":"reload-failed","file":"x.toml"}"#
        );
    }
}

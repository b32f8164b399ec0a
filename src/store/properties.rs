//! MQTT 5 properties as bytes in the store.
//!
//! Layout: a run of `id: u8, length: u32 big endian, bytes`, with the identifiers of the specification [MQTT-2.2.2.2]; a user property is
//! two runs, name then value, both under 38. Unknown identifiers are skipped, so that a later version may add some.

use std::sync::Arc;

use crate::model::{Properties, TopicName};

const UTF8: u8 = 1;
const EXPIRY_S: u8 = 2;
const CONTENT_TYPE: u8 = 3;
const RESPONSE_TOPIC: u8 = 8;
const CORRELATION_DATA: u8 = 9;
const USER: u8 = 38;

/// Writes the properties down.
pub fn encode(properties: &Properties) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |id: u8, content: &[u8]| {
        // A property is at most 65,535 bytes on the wire, so that its length always fits.
        let Ok(length) = u32::try_from(content.len()) else { return };
        bytes.push(id);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(content);
    };
    if let Some(utf8) = properties.utf8 {
        put(UTF8, &[u8::from(utf8)]);
    }
    if let Some(expiry_s) = properties.expiry_s {
        put(EXPIRY_S, &expiry_s.to_be_bytes());
    }
    if let Some(content_type) = &properties.content_type {
        put(CONTENT_TYPE, content_type.as_bytes());
    }
    if let Some(topic) = &properties.response_topic {
        put(RESPONSE_TOPIC, topic.as_str().as_bytes());
    }
    if let Some(data) = &properties.correlation_data {
        put(CORRELATION_DATA, data);
    }
    for (name, value) in &properties.user {
        put(USER, name.as_bytes());
        put(USER, value.as_bytes());
    }
    bytes
}

/// Reads them back. What does not parse is left out: a message without a property is better than no message.
pub fn decode(mut bytes: &[u8]) -> Properties {
    let mut properties = Properties::default();
    let mut name: Option<Arc<str>> = None;
    while let Some((id, content, rest)) = next(bytes) {
        bytes = rest;
        let text = || std::str::from_utf8(content).ok();
        match id {
            UTF8 => properties.utf8 = content.first().map(|byte| *byte == 1),
            EXPIRY_S => properties.expiry_s = content.try_into().ok().map(u32::from_be_bytes),
            CONTENT_TYPE => properties.content_type = text().map(Arc::from),
            RESPONSE_TOPIC => properties.response_topic = text().and_then(|topic| TopicName::parse(topic).ok()),
            CORRELATION_DATA => properties.correlation_data = Some(content.into()),
            USER => match (name.take(), text()) {
                (Some(name), Some(value)) => properties.user.push((name, value.into())),
                (None, Some(text)) => name = Some(text.into()),
                (_, None) => {}
            },
            _ => {}
        }
    }
    properties
}

fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (id, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (content, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((*id, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Properties {
        Properties {
            utf8: Some(true),
            expiry_s: Some(86_400),
            content_type: Some("application/json".into()),
            response_topic: Some(TopicName::parse("reply/here").unwrap()),
            correlation_data: Some([0, 255, 7].as_slice().into()),
            user: vec![("a".into(), "1".into()), ("a".into(), String::new().into())],
        }
    }

    #[test]
    fn properties_come_back_as_they_were() {
        assert_eq!(decode(&encode(&all())), all());
        assert_eq!(decode(&encode(&Properties::default())), Properties::default());
    }

    #[test]
    fn cut_or_unknown_bytes_never_panic() {
        let bytes = encode(&all());
        for end in 0..bytes.len() {
            let _ = decode(&bytes[..end]);
        }
        assert_eq!(decode(&[99, 0, 0, 0, 1, 5]), Properties::default());
    }
}

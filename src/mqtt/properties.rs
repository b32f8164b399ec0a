//! The MQTT 5 properties that travel with a message, between [`Properties`] and their bytes on the wire [MQTT-2.2.2].
//!
//! The same bytes keep them in the store and beside a message that goes through another router: one encoding, one place.

use bytes::{BufMut, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::packet::{PayloadFormat, PropertiesParse, Property};

use super::framing::put_length;
use crate::model::{Properties, TopicName};

/// Why properties cannot be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// The bytes are no properties.
    #[error("malformed properties")]
    Malformed,
    /// A property that has no place here, or is there twice [MQTT-2.2.2-3].
    #[error("a property that does not belong to a PUBLISH, or that is there twice")]
    Misplaced,
    /// The response topic is no topic name [MQTT-3.3.2-14].
    #[error("response topic is no topic name")]
    ResponseTopic,
}

/// What stands in the property block of a PUBLISH.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PublishProperties {
    /// What travels with the message.
    pub message: Properties,
    /// Topic alias, of this connection only.
    pub alias: Option<u16>,
    /// Subscription identifiers: a client may not send any [MQTT-3.3.4-6].
    pub subscription_ids: Vec<u32>,
}

/// Reads a property block with its length in front; tells how many bytes it took.
///
/// # Errors
/// [`PropertyError`] when the bytes are malformed or hold what no PUBLISH may.
pub fn decode(bytes: &[u8]) -> Result<(PublishProperties, usize), PropertyError> {
    if let Some(&0) = bytes.first() {
        return Ok((PublishProperties::default(), 1));
    }
    let (list, consumed) =
        mqtt_protocol_core::mqtt::packet::Properties::parse(bytes).map_err(|_| PropertyError::Malformed)?;
    let mut found = PublishProperties::default();
    for property in list {
        take(&mut found, property)?;
    }
    found.message.user.shrink_to_fit();
    Ok((found, consumed))
}

fn take(found: &mut PublishProperties, property: Property) -> Result<(), PropertyError> {
    let message = &mut found.message;
    let fresh = match property {
        Property::PayloadFormatIndicator(p) => message.utf8.replace(p.val() == PayloadFormat::String as u8).is_none(),
        Property::MessageExpiryInterval(p) => message.expiry_s.replace(p.val()).is_none(),
        Property::ContentType(p) => message.content_type.replace(p.val().into()).is_none(),
        Property::ResponseTopic(p) => {
            let topic = TopicName::parse(p.val()).map_err(|_| PropertyError::ResponseTopic)?;
            message.response_topic.replace(topic).is_none()
        }
        Property::CorrelationData(p) => message.correlation_data.replace(p.val().into()).is_none(),
        Property::UserProperty(p) => {
            message.user.push((p.key().into(), p.val().into()));
            true
        }
        Property::TopicAlias(p) => found.alias.replace(p.val()).is_none(),
        Property::SubscriptionIdentifier(p) => {
            found.subscription_ids.push(p.val());
            true
        }
        _ => false,
    };
    if fresh { Ok(()) } else { Err(PropertyError::Misplaced) }
}

/// Writes what travels with a message, without the length in front. `expiry_s` is what is left of the message's life.
pub fn encode(out: &mut BytesMut, properties: &Properties, expiry_s: Option<u32>) {
    if let Some(utf8) = properties.utf8 {
        out.put_u8(PAYLOAD_FORMAT);
        out.put_u8(u8::from(utf8));
    }
    if let Some(seconds) = expiry_s {
        out.put_u8(MESSAGE_EXPIRY);
        out.put_u32(seconds);
    }
    if let Some(kind) = &properties.content_type {
        out.put_u8(CONTENT_TYPE);
        put_bytes(out, kind.as_bytes());
    }
    if let Some(topic) = &properties.response_topic {
        out.put_u8(RESPONSE_TOPIC);
        put_bytes(out, topic.as_str().as_bytes());
    }
    if let Some(data) = &properties.correlation_data {
        out.put_u8(CORRELATION_DATA);
        put_bytes(out, data);
    }
    for (name, value) in &properties.user {
        out.put_u8(USER_PROPERTY);
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// The property block of a message with its length in front, to keep beside it.
pub fn to_block(properties: &Properties) -> Bytes {
    let mut inner = BytesMut::new();
    encode(&mut inner, properties, properties.expiry_s);
    let mut block = BytesMut::with_capacity(inner.len() + 4);
    put_length(&mut block, inner.len());
    block.extend_from_slice(&inner);
    block.freeze()
}

/// Writes a text or binary value with its 16 bit length. What is longer than that cannot have come in by the wire, and is cut.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

// Property identifiers, MQTT 5.0 table 2-4.
const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const USER_PROPERTY: u8 = 0x26;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_travels_with_a_message_survives_the_wire() {
        let properties = Properties {
            utf8: Some(true),
            expiry_s: Some(77),
            content_type: Some("text/plain".into()),
            response_topic: Some(TopicName::parse("answers/ü").unwrap()),
            correlation_data: Some([0_u8, 255, 3].as_slice().into()),
            user: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        };
        let block = to_block(&properties);
        let (found, consumed) = decode(&block).unwrap();
        assert_eq!((found.message, consumed), (properties, block.len()));
    }

    #[test]
    fn a_property_that_is_there_twice_or_belongs_elsewhere_is_refused() {
        assert_eq!(decode(&[4, 0x01, 0, 0x01, 1]), Err(PropertyError::Misplaced));
        assert_eq!(decode(&[5, 0x11, 0, 0, 0, 1]), Err(PropertyError::Misplaced), "session expiry belongs to CONNECT");
    }

    #[test]
    fn a_response_topic_with_a_wildcard_is_refused() {
        assert_eq!(decode(&[4, 0x08, 0, 1, b'#']), Err(PropertyError::ResponseTopic));
    }

    #[test]
    fn a_cut_block_is_malformed() {
        assert_eq!(decode(&[9, 0x02, 0, 0]), Err(PropertyError::Malformed));
    }
}

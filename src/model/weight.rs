//! What a message weighs: the memory that whoever holds it takes. One measure for every queue that is capped in bytes, so that properties, long
//! topics and a great number of tiny messages count as payloads do.

use super::{Message, Properties};

/// What a message takes beyond its texts, bytes: itself, the blocks its topic and payload are in, and its entry in one queue or set. On 64 bits 104 and
/// the counts of its `Arc`; 24 and 56 for the two blocks; 96 for what it is weighed by; 112 for the entry, of which a queue that grows keeps up to as
/// many again free.
pub const MESSAGE_BYTES: usize = 448;
/// What one more queue takes for a message that all who get it share, bytes: its entry, with the same room.
pub const QUEUE_ENTRY_BYTES: usize = 192;
/// What properties take beyond their texts, bytes.
const PROPERTIES_BYTES: usize = 128;
/// What one text of the properties takes beyond itself: the counts of its `Arc`, and what `malloc` rounds up.
const TEXT_BYTES: usize = 40;
/// What a user property takes beyond its texts: 5 bytes of a packet become so many of memory.
const USER_PROPERTY_BYTES: usize = 2 * TEXT_BYTES + 32;

impl Message {
    /// Bytes of memory that it takes wherever it is held.
    pub fn weight(&self) -> usize {
        MESSAGE_BYTES + self.contents()
    }

    /// The part of it that a publisher chooses: topic, payload and properties. For what is bounded by its number too.
    pub fn contents(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, Properties::weight);
        self.topic.as_str().len() + self.payload.len() + properties
    }
}

impl Properties {
    fn weight(&self) -> usize {
        let content_type = self.content_type.as_ref().map(|text| text.len());
        let response_topic = self.response_topic.as_ref().map(|topic| topic.as_str().len());
        let correlation_data = self.correlation_data.as_ref().map(|data| data.len());
        let texts = [content_type, response_topic, correlation_data].into_iter().flatten();
        let user = self.user.iter().map(|(name, value)| USER_PROPERTY_BYTES + name.len() + value.len());
        PROPERTIES_BYTES + texts.map(|len| TEXT_BYTES + len).sum::<usize>() + user.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Origin, Qos, TopicName};

    fn message(properties: Properties) -> Message {
        let topic = TopicName::parse("abc").unwrap();
        let properties = Some(Arc::new(properties));
        Message { properties, ..Message::new(topic, *b"12345", Qos::AtLeastOnce, false, Origin::Client) }
    }

    #[test]
    fn every_text_of_a_message_counts() {
        let text = |len: usize| Arc::<str>::from("x".repeat(len));
        let plain = Message { properties: None, ..message(Properties::default()) };
        assert_eq!((plain.contents(), plain.weight()), (8, 8 + MESSAGE_BYTES));
        let empty = message(Properties::default()).contents();
        let more = |properties| message(properties).contents() - empty;
        assert!(more(Properties { content_type: Some(text(1_000)), ..Properties::default() }) >= 1_000);
        assert!(more(Properties { correlation_data: Some(vec![0; 1_000].into()), ..Properties::default() }) >= 1_000);
        let response_topic = TopicName::parse(&"x".repeat(1_000)).ok();
        assert!(more(Properties { response_topic, ..Properties::default() }) >= 1_000);
        assert!(more(Properties { user: vec![(text(400), text(600)); 3], ..Properties::default() }) >= 3_000);
    }

    #[test]
    fn what_is_counted_for_the_parts_is_what_they_take() {
        // Two counts before what an `Arc` holds, and a word of `malloc` before that.
        let block = |len: usize| (16 + len + 8).next_multiple_of(16).max(32);
        assert!(block(size_of::<Message>()) + block(0) + 24 <= MESSAGE_BYTES - QUEUE_ENTRY_BYTES);
        assert!(block(size_of::<Properties>()) <= PROPERTIES_BYTES);
        for len in 0..100 {
            assert!(block(len) <= TEXT_BYTES + len, "{len}");
        }
        assert!(size_of::<(Arc<str>, Arc<str>)>() + 2 * TEXT_BYTES <= USER_PROPERTY_BYTES);
    }
}

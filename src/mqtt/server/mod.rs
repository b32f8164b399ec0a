//! The server's end of the wire: bytes of one framed packet to [`Incoming`], and what a server says to bytes.
//!
//! CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT and every property block are read by mqtt-protocol-core's packet parsers. Its `Connection` is not
//! used on this side: as a server it panics on a legal CONNECT (Topic Alias Maximum 0), loses count of its send quota after a resumed session,
//! and hangs up on a repeated acknowledgement, so the session keeps that state itself (docs/decisions/0002). What the parsers do not check is
//! checked here first: fixed header flags, packet id 0, DUP with QoS 0, the reserved bit of CONNECT, will flags, trailing bytes, U+0000,
//! wildcards. A panic inside a parser is caught and ends that connection only. PUBLISH and the acknowledgements, the hot path, are read and
//! written here.

mod connect;
mod decode;
mod encode;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::reason::Reason;
pub use connect::{Connect, Will, decode_connect};
pub use decode::{Ask, Incoming, Publish, decode, decode_whole};
pub use encode::{
    OutPublish, Welcome, put_acknowledgement, put_connect_refusal, put_disconnect, put_pingresp, put_publish,
    put_publish_head, put_suback, put_unsuback, put_welcome,
};

/// Protocol version of a connection, chosen by the level byte of its CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5.0, level 5.
    V5,
}

/// Why a packet is not taken: what the peer is told, and what the log is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Reason code for MQTT 5.
    pub reason: Reason,
    /// What was wrong.
    pub text: &'static str,
}

const fn malformed(text: &'static str) -> Refusal {
    Refusal { reason: Reason::MalformedPacket, text }
}

const fn protocol(text: &'static str) -> Refusal {
    Refusal { reason: Reason::ProtocolError, text }
}

/// Runs a parser of mqtt-protocol-core; a panic inside becomes a refusal.
fn guarded<T>(parse: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(parse))
        .unwrap_or(Err(Refusal { reason: Reason::ImplementationError, text: "the packet parser gave up" }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;

    use super::*;
    use crate::model::{Message, Origin, Properties, Qos, TopicName};
    use crate::mqtt::framing::{self, Header};

    fn packet(bytes: &[u8]) -> (Header, &[u8]) {
        let header = framing::header(bytes, usize::MAX).unwrap().unwrap();
        (header, &bytes[header.header_len..])
    }

    fn connect(bytes: &[u8]) -> Result<Connect, Refusal> {
        let (header, body) = packet(bytes);
        decode_connect(header, body)
    }

    fn decoded(version: Version, bytes: &[u8]) -> Result<Incoming, Refusal> {
        let (header, body) = packet(bytes);
        decode(version, header, body)
    }

    const V5_CONNECT: &[u8] = b"\x10\x11\0\x04MQTT\x05\x02\0\x3c\x03\x22\0\0\0\x01a";

    #[test]
    fn a_topic_alias_maximum_of_zero_is_legal() {
        let found = connect(V5_CONNECT).unwrap();
        assert_eq!((found.client_id.as_str(), found.topic_alias_maximum, found.keep_alive_s), ("a", 0, 60));
    }

    #[test]
    fn mqtt_3_1_and_unknown_levels_are_told_apart_from_garbage() {
        let old = b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01a";
        assert_eq!(connect(old).unwrap_err().reason, Reason::UnsupportedVersion);
        assert_eq!(connect(b"\x10\x0d\0\x04MQTT\x06\x02\0\x3c\0\x01a").unwrap_err().reason, Reason::UnsupportedVersion);
        assert_eq!(connect(b"\x10\x0d\0\x04MQTX\x04\x02\0\x3c\0\x01a").unwrap_err().reason, Reason::ProtocolError);
        assert_eq!(connect(b"\x20\x02\0\0").unwrap_err().reason, Reason::ProtocolError);
    }

    #[test]
    fn connect_flags_that_contradict_each_other_are_refused() {
        for flags in [0x03, 0x1e, 0x0a, 0x22, 0x42] {
            let mut bytes = *b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a";
            bytes[9] = flags;
            assert!(connect(&bytes).is_err(), "flags {flags:#04x}");
        }
    }

    #[test]
    fn what_a_publish_may_not_be_is_refused() {
        for (bytes, why) in [
            (&b"\x36\x05\0\x01a\0\x01"[..], "QoS 3"),
            (b"\x38\x03\0\x01a", "DUP with QoS 0"),
            (b"\x32\x05\0\x01a\0\0", "packet id 0"),
            (b"\x30\x03\0\x01#", "no topic name to publish to"),
            (b"\x30\x03\0\x01\0", "no topic name to publish to"),
            (b"\x30\x02\0\0", "no topic name to publish to"),
            (b"\x30\x04\0\x02\xc3\x28", "topic name is not UTF-8"),
        ] {
            assert_eq!(decoded(Version::V311, bytes).unwrap_err().text, why);
        }
    }

    #[test]
    fn flags_that_a_packet_may_not_have_are_refused() {
        for bytes in [&b"\x41\x02\0\x01"[..], b"\x60\x02\0\x01", b"\x80\x06\0\x01\0\x01a\0", b"\xc1\0", b"\xe1\0"] {
            assert!(decoded(Version::V311, bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_publish_reads_back_as_it_was_written() {
        let properties = Properties { content_type: Some("x".into()), ..Properties::default() };
        let message = Message {
            properties: Some(Arc::new(properties)),
            ..Message::new(TopicName::parse("a/b").unwrap(), *b"hello", Qos::ExactlyOnce, true, Origin::Client)
        };
        for version in [Version::V311, Version::V5] {
            let mut out = BytesMut::new();
            let publish = OutPublish {
                message: &message,
                qos: Qos::AtLeastOnce,
                retain: true,
                dup: true,
                packet_id: 7,
                expiry_s: None,
                subscription_ids: &[],
                alias: None,
            };
            assert!(!put_publish(&mut out, version, &publish, 8));
            assert!(put_publish(&mut out, version, &publish, 100));
            let Ok(Incoming::Publish(found)) = decoded(version, &out) else { panic!("a PUBLISH was written") };
            assert_eq!(
                found,
                Publish {
                    dup: true,
                    qos: Qos::AtLeastOnce,
                    retain: true,
                    packet_id: 7,
                    topic: Some(message.topic.clone()),
                    alias: None,
                    payload: message.payload.clone(),
                    properties: if version == Version::V5 { message.properties.clone() } else { None },
                }
            );
        }
    }

    #[test]
    fn a_packet_that_is_held_by_itself_reads_the_same_and_its_payload_is_a_part_of_it() {
        for (version, bytes) in [
            (Version::V311, &b"\x32\x09\0\x01a\0\x07load"[..]),
            (Version::V5, b"\x32\x0d\0\x01a\0\x07\x03\x23\0\x05load"),
            (Version::V5, b"\x30\x05\0\x01a\0"),
            (Version::V311, b"\x36\x05\0\x01a\0\x01"),
            (Version::V5, b"\xc0\0"),
            (Version::V311, b"\x82\x06\0\x01\0\x01a\0"),
        ] {
            let whole = bytes::Bytes::copy_from_slice(bytes);
            let header = framing::header(&whole, usize::MAX).unwrap();
            let Some(header) = header.filter(|header| header.total() == whole.len()) else { continue };
            let read = decode_whole(version, header, &whole);
            assert_eq!(read, decoded(version, bytes));
            if let Ok(Incoming::Publish(publish)) = read
                && !publish.payload.is_empty()
            {
                assert_eq!(publish.payload.as_ptr(), whole[whole.len() - publish.payload.len()..].as_ptr());
                assert_eq!(&*publish.payload, b"load");
            }
        }
    }

    #[test]
    fn a_few_bytes_behind_large_properties_do_not_keep_the_packet() {
        let name = "n".repeat(60_000);
        let user = vec![(Arc::from(name.as_str()), Arc::from("v"))];
        let properties = Some(Arc::new(Properties { user, ..Properties::default() }));
        for (payload, is_shared) in [(&b"1"[..], false), (&vec![7; 70_000][..], true)] {
            let topic = TopicName::parse("t").unwrap();
            let message = Message {
                properties: properties.clone(),
                ..Message::new(topic, payload, Qos::AtMostOnce, false, Origin::Client)
            };
            let mut out = BytesMut::new();
            let publish = OutPublish {
                message: &message,
                qos: Qos::AtMostOnce,
                retain: false,
                dup: false,
                packet_id: 0,
                expiry_s: None,
                subscription_ids: &[],
                alias: None,
            };
            assert!(put_publish(&mut out, Version::V5, &publish, usize::MAX));
            let whole = out.freeze();
            let header = framing::header(&whole, usize::MAX).unwrap().unwrap();
            let Ok(Incoming::Publish(read)) = decode_whole(Version::V5, header, &whole) else { panic!("a PUBLISH") };
            assert_eq!(*read.payload, *payload);
            assert_eq!(read.payload.as_ptr() == whole[whole.len() - payload.len()..].as_ptr(), is_shared);
        }
    }

    #[test]
    fn a_panic_in_the_parser_is_a_refusal() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let outcome = guarded::<()>(|| panic!("as a parser might"));
        std::panic::set_hook(hook);
        assert_eq!(outcome.unwrap_err().reason, Reason::ImplementationError);
    }
}

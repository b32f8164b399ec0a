//! What a client sends after CONNECT.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{PropertiesParse, Property, SubEntry, v3_1_1, v5_0};

use super::{Refusal, Version, guarded, malformed, protocol};
use crate::limits::SHARED_PAYLOAD_BYTES;
use crate::model::{Payload, Properties, Qos, TopicName};
use crate::mqtt::framing::Header;
use crate::mqtt::properties;
use crate::mqtt::reason::Reason;

/// A message as a client sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// Whether it says that it may have been sent before.
    pub dup: bool,
    /// Quality of service.
    pub qos: Qos,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Packet id; 0 with QoS 0.
    pub packet_id: u16,
    /// Topic name; `None` when only the alias is there.
    pub topic: Option<TopicName>,
    /// Topic alias.
    pub alias: Option<u16>,
    /// Payload.
    pub payload: Payload,
    /// Properties that travel with the message.
    pub properties: Option<Arc<Properties>>,
}

/// One subscription asked for. The filter is text: one that is malformed is refused in its SUBACK, not by hanging up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Topic filter as sent.
    pub filter: String,
    /// Highest QoS wanted.
    pub qos: Qos,
    /// Not to be told what it publishes itself.
    pub no_local: bool,
    /// The retain flag is passed on as published.
    pub retain_as_published: bool,
    /// When retained messages are sent: 0 always, 1 when the subscription is new, 2 never.
    pub retain_handling: u8,
}

/// A packet from a client after CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// PUBLISH
    Publish(Publish),
    /// PUBACK
    Puback(u16),
    /// PUBREC; whether it says that the message is not taken.
    Pubrec(u16, bool),
    /// PUBREL
    Pubrel(u16),
    /// PUBCOMP
    Pubcomp(u16),
    /// SUBSCRIBE with packet id and subscription identifier.
    Subscribe(u16, Option<u32>, Vec<Ask>),
    /// UNSUBSCRIBE with packet id.
    Unsubscribe(u16, Vec<String>),
    /// PINGREQ
    Pingreq,
    /// DISCONNECT
    Disconnect {
        /// Whether the will is to be published all the same (reason 0x04).
        with_will: bool,
        /// New session expiry, seconds.
        session_expiry_s: Option<u32>,
    },
}

/// Reads the body of a packet that follows CONNECT.
///
/// # Errors
/// [`Refusal`]: the connection is to end.
pub fn decode(version: Version, header: Header, body: &[u8]) -> Result<Incoming, Refusal> {
    match (header.kind(), header.flags()) {
        (3, flags) => {
            let (publish, at) = decode_publish(version, flags, body)?;
            Ok(Incoming::Publish(Publish { payload: body[at..].into(), ..publish }))
        }
        (4, 0) => acknowledgement(version, body).map(|(id, _)| Incoming::Puback(id)),
        (5, 0) => acknowledgement(version, body).map(|(id, reason)| Incoming::Pubrec(id, reason >= 0x80)),
        (6, 2) => acknowledgement(version, body).map(|(id, _)| Incoming::Pubrel(id)),
        (7, 0) => acknowledgement(version, body).map(|(id, _)| Incoming::Pubcomp(id)),
        (8, 2) => guarded(|| subscribe(version, body)),
        (10, 2) => guarded(|| unsubscribe(version, body)),
        (12, 0) if body.is_empty() => Ok(Incoming::Pingreq),
        (14, 0) => guarded(|| disconnect(version, body)),
        (1, _) => Err(protocol("a second CONNECT")),
        (15, 0) if version == Version::V5 => Err(protocol("AUTH without an authentication method")),
        (4..=8 | 10 | 12 | 14, _) => Err(malformed("flags or length that this packet may not have")),
        _ => Err(protocol("a packet that only a server sends")),
    }
}

/// The same for a packet that is held by itself, header included: the payload of a PUBLISH is a part of it, and no copy.
///
/// # Errors
/// [`Refusal`]: the connection is to end.
pub fn decode_whole(version: Version, header: Header, packet: &Bytes) -> Result<Incoming, Refusal> {
    let body = &packet[header.header_len..];
    if header.kind() != 3 {
        return decode(version, header, body);
    }
    let (publish, at) = decode_publish(version, header.flags(), body)?;
    let payload = packet.slice(header.header_len + at..);
    // A slice keeps the whole packet: not for a few bytes behind large properties.
    let besides = packet.len() - payload.len();
    let is_little = besides > payload.len().max(SHARED_PAYLOAD_BYTES);
    let payload = if is_little { Bytes::copy_from_slice(&payload) } else { payload };
    Ok(Incoming::Publish(Publish { payload: payload.into(), ..publish }))
}

fn packet_id(body: &[u8]) -> Result<u16, Refusal> {
    match body {
        [high, low, ..] => match u16::from_be_bytes([*high, *low]) {
            0 => Err(protocol("packet id 0")),
            id => Ok(id),
        },
        _ => Err(malformed("packet id is cut short")),
    }
}

/// All of a PUBLISH but its payload, and where that begins.
fn decode_publish(version: Version, flags: u8, body: &[u8]) -> Result<(Publish, usize), Refusal> {
    let qos = Qos::from_level((flags >> 1) & 0x03).ok_or(malformed("QoS 3"))?;
    let dup = flags & 0x08 != 0;
    if dup && qos == Qos::AtMostOnce {
        return Err(malformed("DUP with QoS 0"));
    }
    let [high, low, rest @ ..] = body else { return Err(malformed("PUBLISH is cut short")) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let Some((topic, mut rest)) = rest.split_at_checked(length) else { return Err(malformed("PUBLISH is cut short")) };
    let topic = std::str::from_utf8(topic).map_err(|_| malformed("topic name is not UTF-8"))?;
    let mut id = 0;
    if qos != Qos::AtMostOnce {
        id = packet_id(rest)?;
        rest = &rest[2..];
    }
    let mut alias = None;
    let mut travelling = None;
    if version == Version::V5 {
        let (found, consumed) = guarded(|| {
            properties::decode(rest).map_err(|error| match error {
                properties::PropertyError::Misplaced => protocol("a property that a PUBLISH may not have"),
                properties::PropertyError::Malformed => malformed("malformed properties"),
                properties::PropertyError::ResponseTopic => protocol("response topic is no topic name"),
            })
        })?;
        if !found.subscription_ids.is_empty() {
            return Err(protocol("a subscription identifier from a client"));
        }
        alias = found.alias;
        travelling = (found.message != Properties::default()).then(|| Arc::new(found.message));
        rest = &rest[consumed..];
    }
    let topic = if topic.is_empty() && alias.is_some() {
        None
    } else {
        Some(
            TopicName::parse(topic)
                .map_err(|_| Refusal { reason: Reason::TopicNameInvalid, text: "no topic name to publish to" })?,
        )
    };
    let retain = flags & 0x01 != 0;
    let payload = Payload::default();
    let publish = Publish { dup, qos, retain, packet_id: id, topic, alias, payload, properties: travelling };
    Ok((publish, body.len() - rest.len()))
}

/// Packet id and reason code of PUBACK, PUBREC, PUBREL and PUBCOMP.
fn acknowledgement(version: Version, body: &[u8]) -> Result<(u16, u8), Refusal> {
    let id = packet_id(body)?;
    match (version, &body[2..]) {
        (_, []) => Ok((id, 0)),
        (Version::V5, [reason]) => Ok((id, *reason)),
        (Version::V5, [reason, block @ ..]) => {
            let consumed = guarded(|| {
                mqtt_protocol_core::mqtt::packet::Properties::parse(block)
                    .map(|(_, consumed)| consumed)
                    .map_err(|_| malformed("malformed properties"))
            })?;
            if consumed == block.len() { Ok((id, *reason)) } else { Err(malformed("bytes after the end of a packet")) }
        }
        (Version::V311, _) => Err(malformed("bytes after the end of a packet")),
    }
}

fn ask(entry: &SubEntry, version: Version) -> Result<Ask, Refusal> {
    let options = entry.sub_opts();
    let byte = options.to_buffer()[0];
    if version == Version::V311 && byte & 0xfc != 0 || byte & 0xc0 != 0 {
        return Err(malformed("reserved bits of a subscription are set"));
    }
    Ok(Ask {
        filter: entry.topic_filter().to_owned(),
        qos: Qos::from_level(byte & 0x03).ok_or(malformed("QoS 3"))?,
        no_local: options.nl(),
        retain_as_published: options.rap(),
        retain_handling: (byte >> 4) & 0x03,
    })
}

fn subscribe(version: Version, body: &[u8]) -> Result<Incoming, Refusal> {
    let id = packet_id(body)?;
    let wrong = |_| malformed("malformed SUBSCRIBE");
    let (asks, identifier) = match version {
        Version::V311 => {
            let (packet, _) = v3_1_1::Subscribe::parse(body).map_err(wrong)?;
            (packet.entries().iter().map(|entry| ask(entry, version)).collect::<Result<Vec<_>, _>>()?, None)
        }
        Version::V5 => {
            let (packet, _) = v5_0::Subscribe::parse(body).map_err(wrong)?;
            let identifier = packet.props().iter().find_map(|property| match property {
                Property::SubscriptionIdentifier(p) => Some(p.val()),
                _ => None,
            });
            if identifier == Some(0) {
                return Err(protocol("subscription identifier 0"));
            }
            (packet.entries().iter().map(|entry| ask(entry, version)).collect::<Result<Vec<_>, _>>()?, identifier)
        }
    };
    Ok(Incoming::Subscribe(id, identifier, asks))
}

fn unsubscribe(version: Version, body: &[u8]) -> Result<Incoming, Refusal> {
    let id = packet_id(body)?;
    let wrong = |_| malformed("malformed UNSUBSCRIBE");
    let filters: Vec<String> = match version {
        Version::V311 => {
            let (packet, _) = v3_1_1::Unsubscribe::parse(body).map_err(wrong)?;
            packet.entries().iter().map(|filter| filter.as_str().to_owned()).collect()
        }
        Version::V5 => {
            let (packet, _) = v5_0::Unsubscribe::parse(body).map_err(wrong)?;
            packet.entries().iter().map(|filter| filter.as_str().to_owned()).collect()
        }
    };
    if filters.is_empty() {
        return Err(protocol("UNSUBSCRIBE without a filter"));
    }
    Ok(Incoming::Unsubscribe(id, filters))
}

fn disconnect(version: Version, body: &[u8]) -> Result<Incoming, Refusal> {
    if version == Version::V311 || body.is_empty() {
        return if body.is_empty() {
            Ok(Incoming::Disconnect { with_will: false, session_expiry_s: None })
        } else {
            Err(malformed("bytes after the end of a packet"))
        };
    }
    let (packet, consumed) = v5_0::Disconnect::parse(body).map_err(|_| malformed("malformed DISCONNECT"))?;
    if consumed != body.len() {
        return Err(malformed("bytes after the end of a packet"));
    }
    let session_expiry_s = packet.props().as_ref().and_then(|list| {
        list.iter().find_map(|property| match property {
            Property::SessionExpiryInterval(p) => Some(p.val()),
            _ => None,
        })
    });
    Ok(Incoming::Disconnect { with_will: body[0] != 0, session_expiry_s })
}

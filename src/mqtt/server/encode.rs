//! What a server says.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::Version;
use crate::model::{Message, Qos};
use crate::mqtt::framing::{length_len, put_length};
use crate::mqtt::properties::{self, put_bytes};
use crate::mqtt::reason::Reason;

/// What a CONNACK tells a client of version 5 besides success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Whether a session was resumed.
    pub session_present: bool,
    /// Client id the server chose.
    pub assigned_id: Option<Arc<str>>,
    /// Largest packet the server takes.
    pub max_packet: u32,
    /// Most QoS 1/2 messages the server takes unacknowledged.
    pub receive_maximum: u16,
    /// Topic aliases the server takes.
    pub topic_alias_maximum: u16,
    /// Keep alive that the client is to follow in place of its own, seconds.
    pub keep_alive_s: Option<u16>,
}

/// Writes the CONNACK of a connection that is taken.
pub fn put_welcome(out: &mut BytesMut, version: Version, welcome: &Welcome) {
    let mut body = BytesMut::with_capacity(64);
    body.put_u8(u8::from(welcome.session_present));
    body.put_u8(0);
    if version == Version::V5 {
        let mut block = BytesMut::with_capacity(48);
        if let Some(keep_alive_s) = welcome.keep_alive_s {
            block.put_u8(0x13);
            block.put_u16(keep_alive_s);
        }
        block.put_u8(0x21);
        block.put_u16(welcome.receive_maximum);
        block.put_u8(0x22);
        block.put_u16(welcome.topic_alias_maximum);
        block.put_u8(0x27);
        block.put_u32(welcome.max_packet);
        if let Some(id) = &welcome.assigned_id {
            block.put_u8(0x12);
            put_bytes(&mut block, id.as_bytes());
        }
        put_length(&mut body, block.len());
        body.extend_from_slice(&block);
    }
    put_packet(out, 0x20, &body);
}

/// Writes the CONNACK of a connection that is refused.
pub fn put_connect_refusal(out: &mut BytesMut, version: Version, reason: Reason) {
    match version {
        Version::V311 => put_packet(out, 0x20, &[0, reason.connack_311()]),
        Version::V5 => put_packet(out, 0x20, &[0, reason.code(), 0]),
    }
}

/// Writes PUBACK (`0x40`), PUBREC (`0x50`), PUBREL (`0x62`) or PUBCOMP (`0x70`). 3.1.1 has no room for a reason.
pub fn put_acknowledgement(out: &mut BytesMut, version: Version, first: u8, id: u16, reason: Reason) {
    let [high, low] = id.to_be_bytes();
    match (version, reason) {
        (Version::V311, _) | (_, Reason::Success) => out.extend_from_slice(&[first, 2, high, low]),
        (Version::V5, reason) => out.extend_from_slice(&[first, 3, high, low, reason.code()]),
    }
}

/// Writes SUBACK, one code for each filter asked for.
pub fn put_suback(out: &mut BytesMut, version: Version, id: u16, codes: &[u8]) {
    put_codes(out, version, 0x90, id, codes);
}

/// Writes UNSUBACK; 3.1.1 has no room for codes.
pub fn put_unsuback(out: &mut BytesMut, version: Version, id: u16, codes: &[u8]) {
    put_codes(out, version, 0xb0, id, if version == Version::V5 { codes } else { &[] });
}

fn put_codes(out: &mut BytesMut, version: Version, first: u8, id: u16, codes: &[u8]) {
    let block = usize::from(version == Version::V5);
    out.put_u8(first);
    put_length(out, 2 + block + codes.len());
    out.put_u16(id);
    if block == 1 {
        out.put_u8(0);
    }
    out.extend_from_slice(codes);
}

/// Writes PINGRESP.
pub fn put_pingresp(out: &mut BytesMut) {
    out.extend_from_slice(&[0xd0, 0]);
}

/// Writes DISCONNECT; nothing with 3.1.1, where only a client may send one.
pub fn put_disconnect(out: &mut BytesMut, version: Version, reason: Reason) {
    if version == Version::V5 {
        out.extend_from_slice(&[0xe0, 1, reason.code()]);
    }
}

fn put_packet(out: &mut BytesMut, first: u8, body: &[u8]) {
    out.put_u8(first);
    put_length(out, body.len());
    out.extend_from_slice(body);
}

/// A PUBLISH to one client.
#[derive(Debug, Clone, Copy)]
pub struct OutPublish<'a> {
    /// The message.
    pub message: &'a Message,
    /// QoS of this delivery.
    pub qos: Qos,
    /// Retain flag of this delivery.
    pub retain: bool,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Packet id; not written with QoS 0.
    pub packet_id: u16,
    /// What is left of the message's life, seconds.
    pub expiry_s: Option<u32>,
    /// Identifiers of the subscriptions it answers.
    pub subscription_ids: &'a [u32],
    /// Topic alias, and whether the client knows it already: then the topic name is left out.
    pub alias: Option<(u16, bool)>,
}

/// Writes a PUBLISH, unless it is larger than `limit` bytes in all.
///
/// Returns whether it was written.
pub fn put_publish(out: &mut BytesMut, version: Version, publish: &OutPublish<'_>, limit: usize) -> bool {
    let payload = &publish.message.payload;
    if !put_head(out, version, publish, limit, payload.len()) {
        return false;
    }
    out.extend_from_slice(payload);
    true
}

/// Writes all of a PUBLISH but its payload, which is to follow, unless both together are larger than `limit` bytes.
///
/// Returns whether it was written.
pub fn put_publish_head(out: &mut BytesMut, version: Version, publish: &OutPublish<'_>, limit: usize) -> bool {
    put_head(out, version, publish, limit, 0)
}

/// Writes it with room behind it.
fn put_head(out: &mut BytesMut, version: Version, publish: &OutPublish<'_>, limit: usize, room: usize) -> bool {
    let topic = match publish.alias {
        Some((_, true)) => "",
        _ => publish.message.topic.as_str(),
    };
    let block = (version == Version::V5).then(|| publish_block(publish));
    let block_len = block.as_ref().map_or(0, |block| length_len(block.len()) + block.len());
    let id_len = if publish.qos == Qos::AtMostOnce { 0 } else { 2 };
    let body_len = 2 + topic.len() + id_len + block_len + publish.message.payload.len();
    let total = 1 + length_len(body_len) + body_len;
    if total > limit {
        return false;
    }
    out.reserve(total - publish.message.payload.len() + room);
    out.put_u8(0x30 | u8::from(publish.dup) << 3 | publish.qos.level() << 1 | u8::from(publish.retain));
    put_length(out, body_len);
    put_bytes(out, topic.as_bytes());
    if id_len == 2 {
        out.put_u16(publish.packet_id);
    }
    if let Some(block) = block {
        put_length(out, block.len());
        out.extend_from_slice(&block);
    }
    true
}

fn publish_block(publish: &OutPublish<'_>) -> BytesMut {
    let mut block = BytesMut::new();
    if let Some((alias, _)) = publish.alias {
        block.put_u8(0x23);
        block.put_u16(alias);
    }
    for id in publish.subscription_ids {
        block.put_u8(0x0b);
        put_length(&mut block, *id as usize);
    }
    if let Some(travelling) = &publish.message.properties {
        properties::encode(&mut block, travelling, publish.expiry_s);
    }
    block
}

//! The server's end of the wire: bytes of one framed packet to [`Incoming`], and what a server says to bytes.
//!
//! CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT and every property block are read by mqtt-protocol-core's packet parsers. Its `Connection` is not
//! used on this side: as a server it panics on a legal CONNECT (Topic Alias Maximum 0), loses count of its send quota after a resumed session,
//! and hangs up on a repeated acknowledgement, so the session keeps that state itself (docs/decisions/0002). What the parsers do not check is
//! checked here first: fixed header flags, packet id 0, DUP with QoS 0, the reserved bit of CONNECT, will flags, trailing bytes, U+0000,
//! wildcards. A panic inside a parser is caught and ends that connection only. PUBLISH and the acknowledgements, the hot path, are read and
//! written here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use mqtt_protocol_core::mqtt::packet::{PropertiesParse, Property, SubEntry, v3_1_1, v5_0};

use super::framing::{Header, length_len, put_length};
use super::properties::{self, put_bytes};
use super::reason::Reason;
use crate::model::{Message, Origin, Properties, Qos, TopicName};

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

/// What a client asks for with its CONNECT.
#[derive(Clone, PartialEq)]
pub struct Connect {
    /// Version it speaks.
    pub version: Version,
    /// Client id; empty when the server is to choose one.
    pub client_id: String,
    /// Clean session (3.1.1), clean start (5.0).
    pub clean_start: bool,
    /// Seconds the session outlives the connection; `u32::MAX` for ever. With 3.1.1: 0 or for ever.
    pub session_expiry_s: u32,
    /// Keep alive in seconds; 0 for none.
    pub keep_alive_s: u16,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// Message to publish when the connection ends without a DISCONNECT.
    pub will: Option<Will>,
    /// Most QoS 1/2 messages it wants in flight; never 0.
    pub receive_maximum: u16,
    /// Largest packet it takes, bytes.
    pub max_packet: Option<u32>,
    /// Topic aliases it takes.
    pub topic_alias_maximum: u16,
    /// Whether it asks for extended authentication, which there is none of.
    pub authentication: bool,
}

/// Passwords do not show.
impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("session_expiry_s", &self.session_expiry_s)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A will [MQTT-3.1.2.5].
#[derive(Debug, Clone, PartialEq)]
pub struct Will {
    /// What is published.
    pub message: Arc<Message>,
    /// Seconds between the end of the connection and the publication; 0 with 3.1.1.
    pub delay_s: u32,
}

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
    pub payload: Arc<[u8]>,
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

/// Runs a parser of mqtt-protocol-core; a panic inside becomes a refusal.
fn guarded<T>(parse: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(parse))
        .unwrap_or(Err(Refusal { reason: Reason::ImplementationError, text: "the packet parser gave up" }))
}

/// Reads the body of the first packet of a connection.
///
/// # Errors
/// [`Refusal`]; [`Reason::UnsupportedVersion`] for a level other than 4 and 5.
pub fn decode_connect(header: Header, body: &[u8]) -> Result<Connect, Refusal> {
    if header.first != CONNECT {
        return Err(protocol("the first packet is not a CONNECT"));
    }
    // MQTT 3.1 names itself MQIsdp, level 3: an honest client of an old protocol, and told so.
    if body.starts_with(b"\0\x06MQIsdp") {
        return Err(UNSUPPORTED);
    }
    if !body.starts_with(b"\0\x04MQTT") {
        return Err(protocol("the protocol name is not MQTT"));
    }
    let (Some(&level), Some(&flags)) = (body.get(6), body.get(7)) else {
        return Err(malformed("CONNECT is cut short"));
    };
    // Mosquitto's bridges try 0x84 first and take the refusal as a no to their private form.
    let version = match level {
        4 => Version::V311,
        5 => Version::V5,
        _ => return Err(UNSUPPORTED),
    };
    if flags & 0x01 != 0 {
        return Err(malformed("the reserved flag of CONNECT is set"));
    }
    let will_qos = (flags >> 3) & 0x03;
    if flags & 0x04 == 0 && flags & 0x38 != 0 {
        return Err(malformed("will QoS or will retain without a will"));
    }
    if will_qos == 3 {
        return Err(malformed("will QoS 3"));
    }
    if version == Version::V311 && flags & 0xc0 == 0x40 {
        return Err(malformed("a password without a user name"));
    }
    let connect = guarded(|| match version {
        Version::V311 => connect_311(body),
        Version::V5 => connect_5(body),
    })?;
    if connect.client_id.contains('\0') || connect.user.as_ref().is_some_and(|user| user.contains('\0')) {
        return Err(malformed("the character U+0000 in a text"));
    }
    Ok(connect)
}

fn connect_311(body: &[u8]) -> Result<Connect, Refusal> {
    let (packet, consumed) = v3_1_1::Connect::parse(body).map_err(|_| malformed("malformed CONNECT"))?;
    if consumed != body.len() {
        return Err(malformed("bytes after the end of CONNECT"));
    }
    let will = match (packet.will_topic(), packet.will_payload()) {
        (Some(topic), Some(payload)) => Some(Will {
            message: will_message(topic, payload, packet.will_qos() as u8, packet.will_retain(), None)?,
            delay_s: 0,
        }),
        _ => None,
    };
    Ok(Connect {
        version: Version::V311,
        client_id: packet.client_id().to_owned(),
        clean_start: packet.clean_session(),
        session_expiry_s: if packet.clean_session() { 0 } else { u32::MAX },
        keep_alive_s: packet.keep_alive(),
        user: packet.user_name().map(str::to_owned),
        password: packet.password().map(<[u8]>::to_vec),
        will,
        receive_maximum: u16::MAX,
        max_packet: None,
        topic_alias_maximum: 0,
        authentication: false,
    })
}

fn connect_5(body: &[u8]) -> Result<Connect, Refusal> {
    let (packet, consumed) = v5_0::Connect::parse(body).map_err(|_| malformed("malformed CONNECT"))?;
    if consumed != body.len() {
        return Err(malformed("bytes after the end of CONNECT"));
    }
    let mut connect = Connect {
        version: Version::V5,
        client_id: packet.client_id().to_owned(),
        clean_start: packet.clean_start(),
        session_expiry_s: 0,
        keep_alive_s: packet.keep_alive(),
        user: packet.user_name().map(str::to_owned),
        password: packet.password().map(<[u8]>::to_vec),
        will: None,
        receive_maximum: u16::MAX,
        max_packet: None,
        topic_alias_maximum: 0,
        authentication: false,
    };
    for property in packet.props() {
        match property {
            Property::SessionExpiryInterval(p) => connect.session_expiry_s = p.val(),
            Property::ReceiveMaximum(p) => connect.receive_maximum = p.val(),
            Property::MaximumPacketSize(p) => connect.max_packet = Some(p.val()),
            Property::TopicAliasMaximum(p) => connect.topic_alias_maximum = p.val(),
            Property::AuthenticationMethod(_) => connect.authentication = true,
            _ => {}
        }
    }
    if connect.receive_maximum == 0 || connect.max_packet == Some(0) {
        return Err(protocol("Receive Maximum or Maximum Packet Size of 0"));
    }
    if let (Some(topic), Some(payload)) = (packet.will_topic(), packet.will_payload()) {
        let mut delay_s = 0;
        let mut travelling = Properties::default();
        for property in packet.will_props() {
            match property {
                Property::WillDelayInterval(p) => delay_s = p.val(),
                Property::PayloadFormatIndicator(p) => travelling.utf8 = Some(p.val() == 1),
                Property::MessageExpiryInterval(p) => travelling.expiry_s = Some(p.val()),
                Property::ContentType(p) => travelling.content_type = Some(p.val().into()),
                Property::ResponseTopic(p) => {
                    let topic = TopicName::parse(p.val())
                        .map_err(|_| malformed("the will's response topic is no topic name"))?;
                    travelling.response_topic = Some(topic);
                }
                Property::CorrelationData(p) => travelling.correlation_data = Some(p.val().into()),
                Property::UserProperty(p) => travelling.user.push((p.key().into(), p.val().into())),
                _ => {}
            }
        }
        let properties = (travelling != Properties::default()).then(|| Arc::new(travelling));
        let message = will_message(topic, payload, packet.will_qos() as u8, packet.will_retain(), properties)?;
        connect.will = Some(Will { message, delay_s });
    }
    Ok(connect)
}

fn will_message(
    topic: &str,
    payload: &[u8],
    qos: u8,
    retain: bool,
    properties: Option<Arc<Properties>>,
) -> Result<Arc<Message>, Refusal> {
    let topic = TopicName::parse(topic)
        .map_err(|_| Refusal { reason: Reason::TopicNameInvalid, text: "the will's topic is no topic name" })?;
    let qos = Qos::from_level(qos).ok_or(malformed("will QoS 3"))?;
    Ok(Arc::new(Message { properties, ..Message::new(topic, payload, qos, retain, Origin::Client) }))
}

/// Reads the body of a packet that follows CONNECT.
///
/// # Errors
/// [`Refusal`]: the connection is to end.
pub fn decode(version: Version, header: Header, body: &[u8]) -> Result<Incoming, Refusal> {
    match (header.kind(), header.flags()) {
        (3, flags) => decode_publish(version, flags, body).map(Incoming::Publish),
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

fn packet_id(body: &[u8]) -> Result<u16, Refusal> {
    match body {
        [high, low, ..] => match u16::from_be_bytes([*high, *low]) {
            0 => Err(protocol("packet id 0")),
            id => Ok(id),
        },
        _ => Err(malformed("packet id is cut short")),
    }
}

fn decode_publish(version: Version, flags: u8, body: &[u8]) -> Result<Publish, Refusal> {
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
    Ok(Publish { dup, qos, retain, packet_id: id, topic, alias, payload: rest.into(), properties: travelling })
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
}

/// Writes the CONNACK of a connection that is taken.
pub fn put_welcome(out: &mut BytesMut, version: Version, welcome: &Welcome) {
    let mut body = BytesMut::with_capacity(64);
    body.put_u8(u8::from(welcome.session_present));
    body.put_u8(0);
    if version == Version::V5 {
        let mut block = BytesMut::with_capacity(48);
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
    out.reserve(total);
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
    out.extend_from_slice(&publish.message.payload);
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

const CONNECT: u8 = 0x10;
const UNSUPPORTED: Refusal = Refusal { reason: Reason::UnsupportedVersion, text: "neither MQTT 3.1.1 nor 5.0" };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::framing;

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
    fn a_panic_in_the_parser_is_a_refusal() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let outcome = guarded::<()>(|| panic!("as a parser might"));
        std::panic::set_hook(hook);
        assert_eq!(outcome.unwrap_err().reason, Reason::ImplementationError);
    }
}

//! The client's end of the wire: what a bridge says to bytes, and the cloud's bytes to [`Incoming`].
//!
//! As on the server's side, mqtt-protocol-core's packet builders and parsers are used and its `Connection` is not. Packet ids, windows and
//! the state of every handshake are durable with us, in the same transactions as the messages; a second copy of them inside the library
//! would have to be kept in step, and its copy is the weaker one: it loses count of the send quota after a resumed session and closes the
//! connection on a repeated acknowledgement, which is the livelock that bridges are known for. A panic inside a parser is caught and ends
//! the connection only.
//!
//! Reading is lenient where strictness would help nobody: an acknowledgement with a reason code from a later specification is still an
//! acknowledgement.

mod answers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use mqtt_protocol_core::mqtt::packet::{
    self, MqttString, PropertiesParse, Property, Qos as WireQos, RetainHandling, SubEntry, SubOpts, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::MqttError;

pub use answers::{put_disconnect, put_pingreq, put_puback, put_pubcomp, put_pubrec, put_pubrel};

use super::framing::{FrameError, Header, header, length_len, put_length};
use super::properties::{self, put_bytes};
pub use super::server::Version;
use crate::model::{Payload, Properties, Qos, TopicFilter, TopicName};

/// What is said first.
#[derive(Clone)]
pub struct Connect<'a> {
    /// Client id.
    pub client_id: &'a str,
    /// Whether the cloud is to forget what it knows of us.
    pub clean: bool,
    /// Keep alive, seconds.
    pub keep_alive_s: u16,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a str>,
    /// Topic and payload of the will, QoS 1.
    pub will: Option<(&'a TopicName, &'a str)>,
    /// Whether the cloud is to retain the will.
    pub will_retained: bool,
    /// MQTT 5: how long the cloud waits before it publishes the will, seconds.
    pub will_delay_s: u32,
    /// MQTT 5: how long the cloud keeps the session without a connection, seconds.
    pub session_expiry_s: u32,
    /// MQTT 5: most QoS 1/2 messages we take unacknowledged.
    pub receive_maximum: u16,
    /// MQTT 5: largest packet we take, bytes.
    pub max_packet: u32,
}

/// Why something cannot be put into a packet: a text longer than 65,535 bytes, U+0000, and the like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} does not fit into a packet")]
pub struct EncodeError {
    what: &'static str,
}

/// Why the cloud's bytes end the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The stream cannot be cut into packets.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A packet is not what it says it is.
    #[error("malformed {0} from the cloud")]
    Malformed(&'static str),
    /// It used a topic alias [MQTT-3.3.2-9].
    #[error("a topic alias from the cloud, which was allowed none")]
    Alias,
    /// A packet that only a client sends, or of no known type.
    #[error("unexpected packet of type {0} from the cloud")]
    Unexpected(u8),
}

/// The cloud's answer to CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// 0, or why not.
    pub code: u8,
    /// Whether the cloud still knows our session.
    pub session_present: bool,
    /// Most QoS 1/2 messages it takes unacknowledged; `None` with 3.1.1, which cannot say.
    pub receive_maximum: Option<u16>,
    /// Largest packet it takes, bytes.
    pub max_packet: usize,
    /// Highest QoS it takes.
    pub max_qos: Qos,
    /// Whether it takes retained messages.
    pub retain: bool,
    /// Keep alive it wants, seconds.
    pub keep_alive_s: Option<u16>,
    /// How long it keeps our session, seconds.
    pub session_expiry_s: Option<u32>,
    /// Most topic aliases it takes.
    pub topic_aliases: u16,
    /// Which server it would have us use [MQTT-3.2.2.3.16].
    pub elsewhere: Elsewhere,
}

/// Another server that a cloud names, as it names it.
pub type Elsewhere = Option<Arc<str>>;

/// A message from the cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Topic at the cloud.
    pub topic: TopicName,
    /// Payload.
    pub payload: Payload,
    /// Quality of service.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// Packet id; 0 with QoS 0.
    pub pkid: u16,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Properties that travel with the message.
    pub properties: Option<Arc<Properties>>,
}

/// A packet from the cloud.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// CONNACK
    Connack(Welcome),
    /// PUBLISH
    Publish(Delivery),
    /// PUBACK with its reason.
    Puback(u16, u8),
    /// PUBREC with its reason.
    Pubrec(u16, u8),
    /// PUBREL
    Pubrel(u16),
    /// PUBCOMP
    Pubcomp(u16),
    /// SUBACK with a code for each filter.
    Suback(u16, Vec<u8>),
    /// UNSUBACK
    Unsuback(u16),
    /// PINGRESP
    Pingresp,
    /// DISCONNECT with its reason, MQTT 5 only.
    Disconnect(u8, Elsewhere),
}

/// Cuts the cloud's bytes into packets.
#[derive(Debug)]
pub struct Decoder {
    version: Version,
    buffer: BytesMut,
    limit: usize,
}

impl Decoder {
    /// For one connection; `limit` is the largest packet taken.
    pub fn new(version: Version, limit: usize) -> Self {
        Self { version, buffer: BytesMut::new(), limit }
    }

    /// Takes bytes in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet.
    ///
    /// # Errors
    /// [`WireError`]: the connection is to end.
    pub fn next_packet(&mut self) -> Result<Option<Incoming>, WireError> {
        let Some(header) = header(&self.buffer, self.limit)? else { return Ok(None) };
        if self.buffer.len() < header.total() {
            return Ok(None);
        }
        self.buffer.advance(header.header_len);
        let body = self.buffer.split_to(header.body_len);
        let version = self.version;
        catch_unwind(AssertUnwindSafe(|| decode(version, header, &body)))
            .unwrap_or(Err(WireError::Malformed("packet")))
            .map(Some)
    }
}

fn decode(version: Version, header: Header, body: &[u8]) -> Result<Incoming, WireError> {
    match header.kind() {
        2 => welcome(version, body).map(Incoming::Connack),
        3 => delivery(version, header.flags(), body).map(Incoming::Publish),
        4 => acknowledgement(body, "PUBACK").map(|(pkid, reason)| Incoming::Puback(pkid, reason)),
        5 => acknowledgement(body, "PUBREC").map(|(pkid, reason)| Incoming::Pubrec(pkid, reason)),
        6 => acknowledgement(body, "PUBREL").map(|(pkid, _)| Incoming::Pubrel(pkid)),
        7 => acknowledgement(body, "PUBCOMP").map(|(pkid, _)| Incoming::Pubcomp(pkid)),
        9 => suback(version, body),
        11 => acknowledgement(body, "UNSUBACK").map(|(pkid, _)| Incoming::Unsuback(pkid)),
        13 => Ok(Incoming::Pingresp),
        14 if version == Version::V5 => Ok(disconnect(body)),
        kind => Err(WireError::Unexpected(kind)),
    }
}

fn acknowledgement(body: &[u8], name: &'static str) -> Result<(u16, u8), WireError> {
    let (pkid, rest) = body.split_first_chunk::<2>().ok_or(WireError::Malformed(name))?;
    match u16::from_be_bytes(*pkid) {
        0 => Err(WireError::Malformed(name)),
        pkid => Ok((pkid, rest.first().copied().unwrap_or(0))),
    }
}

/// Lenient: the connection is over, whatever the properties are.
fn disconnect(body: &[u8]) -> Incoming {
    let Some((reason, block)) = body.split_first() else { return Incoming::Disconnect(0, None) };
    let list = packet::Properties::parse(block).map(|(list, _)| list).unwrap_or_default();
    Incoming::Disconnect(*reason, list.iter().find_map(elsewhere))
}

fn elsewhere(property: &Property) -> Elsewhere {
    if let Property::ServerReference(p) = property { Some(p.val().into()) } else { None }
}

fn welcome(version: Version, body: &[u8]) -> Result<Welcome, WireError> {
    let [flags, code, block @ ..] = body else { return Err(WireError::Malformed("CONNACK")) };
    let mut welcome = Welcome {
        code: *code,
        session_present: flags & 1 == 1,
        receive_maximum: (version == Version::V5).then_some(u16::MAX),
        max_packet: usize::MAX,
        max_qos: Qos::ExactlyOnce,
        retain: true,
        keep_alive_s: None,
        session_expiry_s: None,
        topic_aliases: 0,
        elsewhere: None,
    };
    // A 3.1.1 server answers a CONNECT of version 5 in its own words: a code and no properties.
    if version == Version::V311 || block.is_empty() {
        return Ok(welcome);
    }
    let (list, _) =
        mqtt_protocol_core::mqtt::packet::Properties::parse(block).map_err(|_| WireError::Malformed("CONNACK"))?;
    for property in list {
        match property {
            Property::ReceiveMaximum(p) => welcome.receive_maximum = Some(p.val().max(1)),
            Property::MaximumPacketSize(p) => welcome.max_packet = usize::try_from(p.val()).unwrap_or(usize::MAX),
            Property::MaximumQos(p) => welcome.max_qos = Qos::from_level(p.val()).unwrap_or_default(),
            Property::RetainAvailable(p) => welcome.retain = p.val() == 1,
            Property::ServerKeepAlive(p) => welcome.keep_alive_s = Some(p.val()),
            Property::SessionExpiryInterval(p) => welcome.session_expiry_s = Some(p.val()),
            Property::TopicAliasMaximum(p) => welcome.topic_aliases = p.val(),
            Property::ServerReference(_) => welcome.elsewhere = elsewhere(&property),
            _ => {}
        }
    }
    Ok(welcome)
}

fn delivery(version: Version, flags: u8, body: &[u8]) -> Result<Delivery, WireError> {
    const WRONG: WireError = WireError::Malformed("PUBLISH");
    let qos = Qos::from_level((flags >> 1) & 3).ok_or(WRONG)?;
    let (length, rest) = body.split_first_chunk::<2>().ok_or(WRONG)?;
    let (topic, mut rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(WRONG)?;
    let mut pkid = 0;
    if qos != Qos::AtMostOnce {
        (pkid, _) = acknowledgement(rest, "PUBLISH")?;
        rest = &rest[2..];
    }
    let mut travelling = None;
    if version == Version::V5 {
        let (found, consumed) = properties::decode(rest).map_err(|_| WRONG)?;
        if found.alias.is_some() {
            return Err(WireError::Alias);
        }
        travelling = (found.message != Properties::default()).then(|| Arc::new(found.message));
        rest = rest.get(consumed..).ok_or(WRONG)?;
    }
    let topic = std::str::from_utf8(topic).ok().and_then(|topic| TopicName::parse(topic).ok()).ok_or(WRONG)?;
    let (retain, dup) = (flags & 1 != 0, flags & 8 != 0);
    Ok(Delivery { topic, payload: rest.into(), qos, retain, pkid, dup, properties: travelling })
}

fn suback(version: Version, body: &[u8]) -> Result<Incoming, WireError> {
    let (pkid, _) = acknowledgement(body, "SUBACK")?;
    let mut codes = &body[2..];
    if version == Version::V5 {
        let (_, consumed) =
            mqtt_protocol_core::mqtt::packet::Properties::parse(codes).map_err(|_| WireError::Malformed("SUBACK"))?;
        codes = codes.get(consumed..).unwrap_or_default();
    }
    Ok(Incoming::Suback(pkid, codes.to_vec()))
}

/// Writes CONNECT.
///
/// # Errors
/// [`EncodeError`] names the text that does not fit.
pub fn put_connect(out: &mut BytesMut, version: Version, connect: &Connect<'_>) -> Result<(), EncodeError> {
    let bytes = match version {
        Version::V311 => connect_311(connect),
        Version::V5 => connect_5(connect),
    }?;
    out.extend_from_slice(&bytes);
    Ok(())
}

fn unfit<E>(what: &'static str) -> impl Fn(E) -> EncodeError {
    move |_| EncodeError { what }
}

fn connect_311(connect: &Connect<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut builder = v3_1_1::Connect::builder()
        .client_id(connect.client_id)
        .map_err(unfit("client id"))?
        .clean_session(connect.clean)
        .keep_alive(connect.keep_alive_s);
    if let Some((topic, payload)) = connect.will {
        let qos = WireQos::AtLeastOnce;
        builder = builder.will_message(topic.as_str(), payload, qos, connect.will_retained).map_err(unfit("will"))?;
    }
    if let Some(name) = connect.username {
        builder = builder.user_name(name).map_err(unfit("user name"))?;
    }
    if let Some(password) = connect.password {
        builder = builder.password(password).map_err(unfit("password"))?;
    }
    Ok(builder.build().map_err(unfit("CONNECT"))?.to_continuous_buffer())
}

fn connect_5(connect: &Connect<'_>) -> Result<Vec<u8>, EncodeError> {
    let wrong = unfit::<MqttError>("CONNECT");
    let props = vec![
        Property::SessionExpiryInterval(packet::SessionExpiryInterval::new(connect.session_expiry_s).map_err(&wrong)?),
        Property::ReceiveMaximum(packet::ReceiveMaximum::new(connect.receive_maximum.max(1)).map_err(&wrong)?),
        Property::MaximumPacketSize(packet::MaximumPacketSize::new(connect.max_packet.max(1)).map_err(&wrong)?),
    ];
    let mut builder = v5_0::Connect::builder()
        .client_id(connect.client_id)
        .map_err(unfit("client id"))?
        .clean_start(connect.clean)
        .keep_alive(connect.keep_alive_s)
        .props(props);
    if let Some((topic, payload)) = connect.will {
        let delay = packet::WillDelayInterval::new(connect.will_delay_s).map_err(unfit("will"))?;
        builder = builder
            .will_message(topic.as_str(), payload, WireQos::AtLeastOnce, connect.will_retained)
            .map_err(unfit("will"))?
            .will_props(vec![Property::WillDelayInterval(delay)]);
    }
    if let Some(name) = connect.username {
        builder = builder.user_name(name).map_err(unfit("user name"))?;
    }
    if let Some(password) = connect.password {
        builder = builder.password(password).map_err(unfit("password"))?;
    }
    Ok(builder.build().map_err(unfit("CONNECT"))?.to_continuous_buffer())
}

/// What is wanted, when a subscription is made, of what the server has retained. Only MQTT 5 can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainedFirst {
    /// All of it.
    Sent,
    /// Nothing.
    Kept,
}

/// Writes SUBSCRIBE. With MQTT 5, what we publish ourselves does not come back (no local), and the retain flag comes as it was published.
///
/// # Errors
/// [`EncodeError`].
pub fn put_subscribe(
    out: &mut BytesMut,
    version: Version,
    pkid: u16,
    filters: &[(TopicFilter, Qos)],
    retained: RetainedFirst,
) -> Result<(), EncodeError> {
    let wrong = unfit::<MqttError>("subscription");
    let entry = |(filter, qos): &(TopicFilter, Qos)| {
        let options = SubOpts::new().set_qos(match qos {
            Qos::AtMostOnce => WireQos::AtMostOnce,
            Qos::AtLeastOnce => WireQos::AtLeastOnce,
            Qos::ExactlyOnce => WireQos::ExactlyOnce,
        });
        let options = if version == Version::V5 { options.set_nl(true).set_rap(true) } else { options };
        let is_kept = version == Version::V5 && retained == RetainedFirst::Kept;
        let options = if is_kept { options.set_rh(RetainHandling::DoNotSendRetained) } else { options };
        SubEntry::new(filter.as_str(), options)
    };
    let entries = filters.iter().map(entry).collect::<Result<Vec<_>, _>>().map_err(&wrong)?;
    let bytes = match version {
        Version::V311 => {
            let packet = v3_1_1::Subscribe::builder().packet_id(pkid).entries(entries).build().map_err(&wrong)?;
            packet.to_continuous_buffer()
        }
        Version::V5 => {
            let packet = v5_0::Subscribe::builder().packet_id(pkid).entries(entries).build().map_err(&wrong)?;
            packet.to_continuous_buffer()
        }
    };
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Writes UNSUBSCRIBE.
///
/// # Errors
/// [`EncodeError`].
pub fn put_unsubscribe(
    out: &mut BytesMut,
    version: Version,
    pkid: u16,
    filters: &[TopicFilter],
) -> Result<(), EncodeError> {
    let wrong = unfit::<MqttError>("subscription");
    let entries: Vec<MqttString> =
        filters.iter().map(|filter| MqttString::new(filter.as_str())).collect::<Result<_, _>>().map_err(&wrong)?;
    let bytes = match version {
        Version::V311 => {
            let builder = v3_1_1::Unsubscribe::builder().packet_id(pkid).entries(entries).map_err(&wrong)?;
            builder.build().map_err(&wrong)?.to_continuous_buffer()
        }
        Version::V5 => {
            let builder = v5_0::Unsubscribe::builder().packet_id(pkid).entries(entries).map_err(&wrong)?;
            builder.build().map_err(&wrong)?.to_continuous_buffer()
        }
    };
    out.extend_from_slice(&bytes);
    Ok(())
}

/// A PUBLISH to the cloud.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Topic at the cloud; empty where its alias is known there.
    pub topic: &'a str,
    /// Topic alias; not written with 3.1.1.
    pub alias: Option<u16>,
    /// Payload.
    pub payload: &'a [u8],
    /// Quality of service.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Packet id; not written with QoS 0.
    pub pkid: u16,
    /// What travels with it; not written with 3.1.1.
    pub properties: Option<&'a Properties>,
}

/// Writes a PUBLISH, unless it is larger than `limit` bytes in all. Returns whether it was written.
pub fn put_publish(out: &mut BytesMut, version: Version, publish: &Outgoing<'_>, limit: usize) -> bool {
    let mut block = BytesMut::new();
    if version == Version::V5 {
        let mut inner = BytesMut::new();
        if let Some(alias) = publish.alias {
            inner.put_u8(TOPIC_ALIAS);
            inner.put_u16(alias);
        }
        if let Some(travelling) = publish.properties {
            properties::encode(&mut inner, travelling, travelling.expiry_s);
        }
        put_length(&mut block, inner.len());
        block.extend_from_slice(&inner);
    }
    let id_len = if publish.qos == Qos::AtMostOnce { 0 } else { 2 };
    let body_len = 2 + publish.topic.len() + id_len + block.len() + publish.payload.len();
    let total = 1 + length_len(body_len) + body_len;
    if total > limit {
        return false;
    }
    out.reserve(total);
    out.put_u8(0x30 | u8::from(publish.dup) << 3 | publish.qos.level() << 1 | u8::from(publish.retain));
    put_length(out, body_len);
    put_bytes(out, publish.topic.as_bytes());
    if id_len > 0 {
        out.put_u16(publish.pkid);
    }
    out.extend_from_slice(&block);
    out.extend_from_slice(publish.payload);
    true
}

/// Property identifier, MQTT 5.0 table 2-4.
const TOPIC_ALIAS: u8 = 0x23;

#[cfg(test)]
mod tests;

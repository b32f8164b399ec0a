//! CONNECT.

use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{Property, v3_1_1, v5_0};

use super::{Refusal, Version, guarded, malformed, protocol};
use crate::model::{Message, Origin, Properties, Qos, TopicName};
use crate::mqtt::framing::Header;
use crate::mqtt::reason::Reason;

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
    let (Some(&level), Some(&flags)) = (body.get(6), body.get(FLAGS)) else {
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
    let nameless = body[FLAGS] & 0xc0 == 0x40;
    let parsed = if nameless { v5_0::Connect::parse(&without_password(body)) } else { v5_0::Connect::parse(body) };
    let (packet, consumed) = parsed.map_err(|_| malformed("malformed CONNECT"))?;
    let mut left = &body[consumed..];
    let nameless = if nameless { Some(take_bytes(&mut left).ok_or(malformed("malformed CONNECT"))?) } else { None };
    if !left.is_empty() {
        return Err(malformed("bytes after the end of CONNECT"));
    }
    let mut connect = Connect {
        version: Version::V5,
        client_id: packet.client_id().to_owned(),
        clean_start: packet.clean_start(),
        session_expiry_s: 0,
        keep_alive_s: packet.keep_alive(),
        user: packet.user_name().map(str::to_owned),
        password: packet.password().or(nameless).map(<[u8]>::to_vec),
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

/// A CONNECT that does not say that it has a password, which is last in it. MQTT 5 allows a password without a user name [3.1.2.9],
/// mqtt-protocol-core does not: it reads this, and leaves the password over.
fn without_password(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body[FLAGS] &= !0x40;
    body
}

/// Bytes with their length before them.
fn take_bytes<'a>(left: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = left.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    *left = rest;
    Some(bytes)
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

const CONNECT: u8 = 0x10;
/// Where the flags stand.
const FLAGS: usize = 7;
const UNSUPPORTED: Refusal = Refusal { reason: Reason::UnsupportedVersion, text: "neither MQTT 3.1.1 nor 5.0" };

//! Reason codes [MQTT 5.0 §2.4], and what stands for them in a CONNACK of 3.1.1.

use super::server::Version;

/// Why something was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Done.
    Success,
    /// Nobody is subscribed; the message is taken all the same.
    NoMatchingSubscribers,
    /// No such subscription.
    NoSubscriptionExisted,
    /// Refused, the reason is nobody's business or has no code.
    Unspecified,
    /// The bytes are no packet.
    MalformedPacket,
    /// A packet that has no place here.
    ProtocolError,
    /// Valid, and not taken by this server.
    ImplementationError,
    /// Neither 3.1.1 nor 5.0.
    UnsupportedVersion,
    /// The client id cannot be used.
    ClientIdInvalid,
    /// Wrong user name or password.
    BadUserOrPassword,
    /// Not allowed.
    NotAuthorized,
    /// Too many connections.
    ServerBusy,
    /// The server is stopping.
    ShuttingDown,
    /// Extended authentication is asked for and there is none.
    BadAuthMethod,
    /// Nothing was heard for one and a half keep alive.
    KeepAliveTimeout,
    /// The client id connected a second time.
    SessionTakenOver,
    /// The filter is malformed.
    FilterInvalid,
    /// The topic is malformed, or the server's own.
    TopicNameInvalid,
    /// No such packet id.
    PacketIdNotFound,
    /// More unacknowledged messages than agreed.
    ReceiveMaximumExceeded,
    /// No such topic alias.
    TopicAliasInvalid,
    /// The packet is larger than agreed.
    PacketTooLarge,
    /// A limit is reached.
    QuotaExceeded,
    /// An operator's doing.
    Administrative,
}

impl Reason {
    /// The code on the wire of MQTT 5.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0x00,
            Self::NoMatchingSubscribers => 0x10,
            Self::NoSubscriptionExisted => 0x11,
            Self::Unspecified => 0x80,
            Self::MalformedPacket => 0x81,
            Self::ProtocolError => 0x82,
            Self::ImplementationError => 0x83,
            Self::UnsupportedVersion => 0x84,
            Self::ClientIdInvalid => 0x85,
            Self::BadUserOrPassword => 0x86,
            Self::NotAuthorized => 0x87,
            Self::ServerBusy => 0x89,
            Self::ShuttingDown => 0x8b,
            Self::BadAuthMethod => 0x8c,
            Self::KeepAliveTimeout => 0x8d,
            Self::SessionTakenOver => 0x8e,
            Self::FilterInvalid => 0x8f,
            Self::TopicNameInvalid => 0x90,
            Self::PacketIdNotFound => 0x92,
            Self::ReceiveMaximumExceeded => 0x93,
            Self::TopicAliasInvalid => 0x94,
            Self::PacketTooLarge => 0x95,
            Self::QuotaExceeded => 0x97,
            Self::Administrative => 0x98,
        }
    }

    /// The return code of a 3.1.1 CONNACK [MQTT-3.2.2.3]. A wrong password gets 5, "not authorized", as Mosquitto answers it.
    pub const fn connack_311(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsupportedVersion => 1,
            Self::ClientIdInvalid => 2,
            Self::ServerBusy | Self::ShuttingDown => 3,
            _ => 5,
        }
    }
}

/// The code of a CONNACK in words.
pub fn connack(version: Version, code: u8) -> &'static str {
    // A 3.1.1 cloud answers a CONNECT of version 5 with its own codes, all of them below 6.
    match (version, code) {
        (_, 1) => "unacceptable protocol version",
        (_, 2) => "client id rejected",
        (_, 3) => "server unavailable",
        (_, 4) => "bad user name or password",
        (_, 5) => "not authorized",
        (_, code) => in_words(code),
    }
}

/// Reason codes of MQTT 5, table 2.4, as far as they are a failure.
pub fn in_words(code: u8) -> &'static str {
    match code {
        0x00 => "normal disconnection",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client id not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8a => "banned",
        0x8b => "server shutting down",
        0x8c => "bad authentication method",
        0x8d => "keep alive timeout",
        0x8e => "session taken over: another client has this client id",
        0x8f => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x93 => "receive maximum exceeded",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9a => "retain not supported",
        0x9b => "QoS not supported",
        0x9e => "shared subscriptions not supported",
        0x9c => "use another server",
        0x9d => "server moved",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time",
        0xa1 => "subscription identifiers not supported",
        0xa2 => "wildcard subscriptions not supported",
        _ => "unspecified error",
    }
}

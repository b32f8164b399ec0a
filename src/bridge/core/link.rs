//! One connection: what the cloud said of itself, and what waits for the next commit before it may be answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;

use crate::limits::PING_ANSWER;
use crate::logic::flight::Claim;
use crate::logic::keepalive::KeepAlive;
use crate::model::{Message, Moment, Qos, TopicFilter};
use crate::mqtt::client::{Decoder, Version, Welcome};

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// CONNECT was sent.
    Greeting,
    /// CONNACK came; what it means for the session is not committed yet.
    Welcomed(Welcome),
    /// Delivering.
    Online,
    /// Saying `offline`; nothing new goes out.
    Leaving,
}

/// What a packet id stands for that belongs to no record. These need not outlive the connection: the cloud keeps nothing of a QoS 1
/// message or a subscription once it has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Own {
    /// `online` on the status topic.
    Birth,
    /// `offline` on the status topic, on the way out.
    Goodbye,
    /// SUBSCRIBE for these filters; the text is remembered once the cloud has agreed.
    Subscribe(Vec<TopicFilter>, String),
    /// UNSUBSCRIBE
    Unsubscribe,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) version: Version,
    /// Whether the CONNECT asked the cloud to forget us.
    pub(super) clean: bool,
    pub(super) phase: Phase,
    pub(super) decoder: Decoder,
    pub(super) keep_alive: KeepAlive,
    /// Bytes said after the last PINGREQ: it has left when no more than these wait for the socket.
    pub(super) after_ping: usize,
    pub(super) max_packet: usize,
    pub(super) max_qos: Qos,
    pub(super) retain: bool,
    pub(super) own: BTreeMap<u16, Own>,
    /// From an earlier connection, to be said again, oldest first.
    pub(super) resend: VecDeque<Claim>,
    /// Packet ids of records said on this connection and not ended, and those of them with QoS 2: what the cloud's window sees.
    said: BTreeSet<u16>,
    said_qos2: BTreeSet<u16>,
    /// Whether the cloud has taken a QoS 2 message further on this connection.
    pub(super) progressed: bool,
    /// Goes out after the next commit, in the order in which its causes came in.
    pub(super) replies: BytesMut,
    /// From the cloud, told locally after the next commit.
    pub(super) deliver: Vec<Message>,
}

impl Link {
    pub(super) fn new(
        version: Version,
        clean: bool,
        limit: usize,
        keep_alive: std::time::Duration,
        now: Moment,
    ) -> Self {
        Self {
            version,
            clean,
            phase: Phase::Greeting,
            decoder: Decoder::new(version, limit),
            keep_alive: KeepAlive::new(keep_alive, PING_ANSWER, now),
            after_ping: 0,
            max_packet: usize::MAX,
            max_qos: Qos::ExactlyOnce,
            retain: true,
            own: BTreeMap::new(),
            resend: VecDeque::new(),
            said: BTreeSet::new(),
            said_qos2: BTreeSet::new(),
            progressed: false,
            replies: BytesMut::new(),
            deliver: Vec::new(),
        }
    }

    /// The record's PUBLISH or PUBREL goes out on this connection.
    pub(super) fn say(&mut self, pkid: u16, qos: Qos) {
        self.said.insert(pkid);
        if qos == Qos::ExactlyOnce {
            self.said_qos2.insert(pkid);
        }
    }

    /// Its handshake is over, or it was never said after all.
    pub(super) fn unsay(&mut self, pkid: u16) {
        self.said.remove(&pkid);
        self.said_qos2.remove(&pkid);
    }

    /// Packet ids in use on this connection.
    pub(super) fn said(&self) -> usize {
        self.said.len() + self.own.len()
    }

    /// Of those, with QoS 2.
    pub(super) fn said_qos2(&self) -> usize {
        self.said_qos2.len()
    }

    pub(super) fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }
}

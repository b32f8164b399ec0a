//! One connection: what the cloud said of itself, and what waits for the next commit before it may be answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;

use crate::bridge::settings::InRule;
use crate::limits::{PING_ANSWER, TOKEN_GRACE};
use crate::logic::flight::Claim;
use crate::logic::keepalive::KeepAlive;
use crate::model::{Message, Moment, Qos, TopicFilter, TopicName};
use crate::mqtt::aliases::Aliases;
use crate::mqtt::client::{Decoder, Version};

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// CONNECT was sent.
    Greeting,
    /// CONNACK came; what it means for the session is not committed yet.
    Welcomed,
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
    /// SUBSCRIBE for these filters, each with the QoS asked for; the text is remembered once the cloud has agreed.
    Subscribe(Vec<(TopicFilter, Qos)>, String),
    /// UNSUBSCRIBE for these filters.
    Unsubscribe(Vec<TopicFilter>),
    /// UNSUBSCRIBE that tells a gateway who we are ([`crate::logic::marks::greeting`]); whether it has told us who it is.
    Greeting(bool),
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
    /// The topics that the cloud knows by number.
    pub(super) aliases: Aliases,
    /// When it has to be made anew, because its token ends soon after; and whether that is being done.
    pub(super) renew_at: Option<Moment>,
    pub(super) renewing: bool,
    pub(super) own: BTreeMap<u16, Own>,
    /// From an earlier connection, or refused on this one, to be said again, oldest first.
    pub(super) resend: VecDeque<Claim>,
    /// Of those, whom the cloud refused on this connection: what it does not hold is said as new.
    pub(super) anew: BTreeSet<u16>,
    /// Until when the store waits for the answer to our subscriptions.
    pub(super) subscribing: Option<Moment>,
    /// Whether every answer to them was what was asked for, so far.
    pub(super) agreed: bool,
    /// Subscriptions that the cloud refused, with its codes.
    pub(super) refused: Vec<(TopicFilter, u8)>,
    /// Packet ids of records said on this connection and not ended, and those of them with QoS 2: what the cloud's window sees.
    said: BTreeSet<u16>,
    said_qos2: BTreeSet<u16>,
    /// Whether the cloud has taken a QoS 2 message further on this connection.
    pub(super) progressed: bool,
    /// Whether it was told that messages come back.
    pub(super) echo_told: bool,
    /// Goes out after the next commit, in the order in which its causes came in.
    pub(super) replies: BytesMut,
    /// From the cloud, told locally after the next commit.
    pub(super) deliver: Vec<Message>,
    /// QoS 0, which waits for no commit.
    pub(super) unstored: BytesMut,
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
            aliases: Aliases::default(),
            renew_at: None,
            renewing: false,
            own: BTreeMap::new(),
            resend: VecDeque::new(),
            anew: BTreeSet::new(),
            subscribing: None,
            agreed: true,
            refused: Vec::new(),
            said: BTreeSet::new(),
            said_qos2: BTreeSet::new(),
            progressed: false,
            echo_told: false,
            replies: BytesMut::new(),
            deliver: Vec::new(),
            unstored: BytesMut::new(),
        }
    }

    /// The record's PUBLISH or PUBREL goes out on this connection. Returns whether it was to be said as new.
    pub(super) fn say(&mut self, pkid: u16, qos: Qos) -> bool {
        self.said.insert(pkid);
        if qos == Qos::ExactlyOnce {
            self.said_qos2.insert(pkid);
        }
        self.anew.remove(&pkid)
    }

    /// Whether the cloud owes this one an answer.
    pub(super) fn has_said(&self, pkid: u16) -> bool {
        self.said.contains(&pkid)
    }

    /// Its handshake is over, or it was never said after all.
    pub(super) fn unsay(&mut self, pkid: u16) {
        self.said.remove(&pkid);
        self.said_qos2.remove(&pkid);
    }

    /// The cloud did not take it: it waits to be said anew, in its place.
    pub(super) fn say_anew(&mut self, claim: Claim) {
        self.unsay(claim.pkid);
        self.anew.insert(claim.pkid);
        let place = self.resend.partition_point(|other| other.nth < claim.nth);
        self.resend.insert(place, claim);
    }

    /// Whether the cloud may hold it from when it was said before.
    pub(super) fn may_hold(&self, pkid: u16) -> bool {
        !self.anew.contains(&pkid)
    }

    /// Whether the cloud owes us an answer. Nobody waits for the one to a greeting.
    pub(super) fn awaits(&self) -> bool {
        !self.said.is_empty() || self.own.values().any(|own| !matches!(own, Own::Greeting(_)))
    }

    /// Whether the cloud, a foreign broker, will send this message back to us: 3.1.1 has no "no local".
    pub(super) fn comes_back(&self, inward: &[InRule], topic: &TopicName) -> bool {
        let granted = |filter: &TopicFilter| !self.refused.iter().any(|(refused, _)| refused == filter);
        self.version == Version::V311 && inward.iter().any(|rule| rule.from.matches(topic) && granted(&rule.from))
    }

    /// Messages that the cloud has not acknowledged on this connection. Only a PUBLISH takes from the window [MQTT-4.9.0-1].
    pub(super) fn said(&self) -> usize {
        self.said.len() + self.own.values().filter(|own| matches!(own, Own::Birth | Own::Goodbye)).count()
    }

    /// Of those, with QoS 2.
    pub(super) fn said_qos2(&self) -> usize {
        self.said_qos2.len()
    }

    /// What is next to be done about a token that ends: to begin to renew it, or to wait no longer for what is in flight.
    pub(super) fn renew_due(&self) -> Option<Moment> {
        self.renew_at.map(|at| if self.renewing { at + TOKEN_GRACE } else { at })
    }

    /// Bytes that wait for a commit, since the cloud said something.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.replies.len() + self.deliver.iter().map(Message::weight).sum::<usize>()
    }

    pub(super) fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }
}

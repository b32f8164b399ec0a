//! A cloud after the letter of the specification, in memory: it delivers a QoS 2 message when its PUBLISH comes, holds the packet id until
//! PUBREL, and counts what a broker would suffer in silence.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};

use crate::model::{Qos, TopicName};
use crate::mqtt::client::Version;
use crate::mqtt::framing::header;
use crate::mqtt::server::{self, Incoming, OutPublish};

/// One delivery to the cloud's subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) topic: String,
    pub(super) qos: Qos,
    pub(super) payload: Vec<u8>,
    pub(super) dup: bool,
}

/// The cloud: a session that outlives connections, and the connection.
#[derive(Debug, Default)]
pub(super) struct Cloud {
    session: bool,
    held: BTreeMap<u16, Vec<u8>>,
    pub(super) arrived: Vec<Arrival>,
    pub(super) status: Vec<String>,
    pub(super) subscribed: Vec<String>,
    /// Message expiry of what arrived with properties.
    pub(super) expiry_s: Vec<Option<u32>>,
    /// What a client must never do.
    pub(super) violations: Vec<String>,
    pub(super) receive_maximum: u16,
    /// QoS 2 messages above which a 3.1.1 client is hung up on.
    pub(super) inflight_max_311: usize,
    version: Option<Version>,
    input: BytesMut,
    /// Bytes to the client.
    pub(super) output: BytesMut,
    pub(super) hung_up: bool,
    will: Option<String>,
}

impl Cloud {
    pub(super) fn new(receive_maximum: u16) -> Self {
        Self { receive_maximum, inflight_max_311: 20, ..Self::default() }
    }

    /// The connection is gone.
    pub(super) fn cut(&mut self) {
        self.input.clear();
        self.output.clear();
        self.version = None;
        self.hung_up = false;
        self.status.extend(self.will.take());
    }

    /// It forgets its sessions, as a broker without a disk does at a restart.
    pub(super) fn forget(&mut self) {
        self.cut();
        self.session = false;
        self.held.clear();
        self.subscribed.clear();
    }

    pub(super) fn holds(&self) -> usize {
        self.held.len()
    }

    /// Takes bytes of the client in and answers what is whole.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some(header) = header(&self.input, usize::MAX).unwrap() {
            if self.hung_up || self.input.len() < header.total() {
                return;
            }
            self.input.advance(header.header_len);
            let body = self.input.split_to(header.body_len);
            match self.version {
                None => self.connect(&server::decode_connect(header, &body).unwrap()),
                Some(version) => self.packet(version, server::decode(version, header, &body).unwrap()),
            }
        }
    }

    fn connect(&mut self, connect: &server::Connect) {
        self.version = Some(connect.version);
        if connect.clean_start {
            self.session = false;
            self.held.clear();
            self.subscribed.clear();
        }
        let welcome = server::Welcome {
            session_present: self.session,
            assigned_id: None,
            max_packet: 1 << 20,
            receive_maximum: self.receive_maximum,
            topic_alias_maximum: 0,
        };
        server::put_welcome(&mut self.output, connect.version, &welcome);
        self.session = connect.version == Version::V5 || !connect.clean_start;
        self.will = connect.will.as_ref().map(|will| String::from_utf8(will.message.payload.to_vec()).unwrap());
    }

    fn packet(&mut self, version: Version, packet: Incoming) {
        let answer = |out: &mut BytesMut, first, id| {
            server::put_acknowledgement(out, version, first, id, crate::mqtt::reason::Reason::Success);
        };
        match packet {
            Incoming::Publish(publish) => {
                self.expiry_s.extend(publish.properties.as_ref().map(|properties| properties.expiry_s));
                let topic = publish.topic.unwrap().to_string();
                let arrival = Arrival { topic, qos: publish.qos, payload: publish.payload.to_vec(), dup: publish.dup };
                match publish.qos {
                    Qos::AtMostOnce => self.deliver(arrival),
                    Qos::AtLeastOnce => {
                        if let Some(held) = self.held.get(&publish.packet_id) {
                            self.violations
                                .push(format!("packet id {} reused while it holds {held:?}", publish.packet_id));
                        }
                        self.deliver(arrival);
                        answer(&mut self.output, 0x40, publish.packet_id);
                    }
                    Qos::ExactlyOnce => self.publish_qos2(version, publish.packet_id, arrival),
                }
            }
            Incoming::Pubrel(id) => {
                self.held.remove(&id);
                answer(&mut self.output, 0x70, id);
            }
            Incoming::Pingreq => server::put_pingresp(&mut self.output),
            Incoming::Subscribe(id, _, asks) => {
                self.subscribed = asks.iter().map(|ask| ask.filter.clone()).collect();
                let codes: Vec<u8> = asks.iter().map(|ask| ask.qos.level()).collect();
                server::put_suback(&mut self.output, version, id, &codes);
            }
            Incoming::Unsubscribe(id, filters) => {
                self.subscribed.retain(|filter| !filters.contains(filter));
                server::put_unsuback(&mut self.output, version, id, &vec![0; filters.len()]);
            }
            Incoming::Disconnect { .. } => self.will = None,
            Incoming::Puback(_) | Incoming::Pubrec(..) | Incoming::Pubcomp(_) => {}
        }
    }

    fn publish_qos2(&mut self, version: Version, id: u16, arrival: Arrival) {
        match self.held.get(&id) {
            Some(held) if *held != arrival.payload => {
                self.violations.push(format!("packet id {id} holds {held:?} and now carries {:?}", arrival.payload));
            }
            Some(_) if !arrival.dup => self.violations.push(format!("packet id {id} said again without DUP")),
            Some(_) => {}
            None => {
                let limit =
                    if version == Version::V5 { usize::from(self.receive_maximum) } else { self.inflight_max_311 };
                if self.held.len() >= limit {
                    if version == Version::V5 {
                        self.violations.push(format!("more than {limit} in flight"));
                    }
                    self.hung_up = true;
                    self.output.clear();
                    return;
                }
                self.held.insert(id, arrival.payload.clone());
                self.deliver(arrival);
            }
        }
        let reason = crate::mqtt::reason::Reason::Success;
        server::put_acknowledgement(&mut self.output, version, 0x50, id, reason);
    }

    fn deliver(&mut self, arrival: Arrival) {
        if arrival.topic.ends_with("/status") {
            self.status.push(String::from_utf8(arrival.payload).unwrap());
        } else {
            self.arrived.push(arrival);
        }
    }

    /// Sends a message down.
    pub(super) fn send(&mut self, topic: &str, payload: &[u8], qos: Qos, id: u16, dup: bool) {
        let topic = TopicName::parse(topic).unwrap();
        let message = crate::model::Message::new(topic, payload, qos, false, crate::model::Origin::Client);
        let publish = OutPublish {
            message: &message,
            qos,
            retain: false,
            dup,
            packet_id: id,
            expiry_s: None,
            subscription_ids: &[],
            alias: None,
        };
        server::put_publish(&mut self.output, self.version.unwrap(), &publish, usize::MAX);
    }

    /// Releases a message that was sent down.
    pub(super) fn release(&mut self, id: u16) {
        let reason = crate::mqtt::reason::Reason::Success;
        server::put_acknowledgement(&mut self.output, self.version.unwrap(), 0x62, id, reason);
    }
}

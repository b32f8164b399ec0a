//! A cloud after the letter of the specification, in memory: it delivers a QoS 2 message when its PUBLISH comes, holds the packet id until
//! PUBREL, and counts what a broker would suffer in silence.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};

use crate::logic::marks;
use crate::model::{GatewayId, Qos, TopicName};
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
    /// The reason it refuses every PUBLISH with, as long as it is set; `online` and `offline` excepted.
    pub(super) refuses: Option<u8>,
    /// It does not answer SUBSCRIBE.
    pub(super) mute: bool,
    /// The code of every filter in a SUBACK; `None`: as asked.
    pub(super) grants: Option<u8>,
    /// Filters of one SUBSCRIBE above which it hangs up; and filters that it refuses.
    pub(super) subscribe_max: Option<usize>,
    pub(super) bars: Vec<String>,
    /// Messages it was offered, refused ones included.
    pub(super) offered: u32,
    /// It delivers a QoS 2 message at its PUBREL, not at its PUBLISH.
    pub(super) at_release: bool,
    stored: BTreeMap<u16, Arrival>,
    /// User properties of what arrived.
    pub(super) user: Vec<Vec<(String, String)>>,
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
    /// It takes the CONNECT and then nothing: what is sent is lost on the way.
    pub(super) deaf: bool,
    /// Largest packet it takes.
    pub(super) max_packet: u32,
    will: Option<String>,
    /// Most topic aliases it takes, and those it knows.
    pub(super) aliases_max: u16,
    aliases: BTreeMap<u16, TopicName>,
    /// The gateway whose broker it is.
    pub(super) gateway: Option<&'static str>,
    /// Bytes of PUBLISH packets that it was sent.
    pub(super) publish_bytes: usize,
}

impl Cloud {
    pub(super) fn new(receive_maximum: u16) -> Self {
        Self { receive_maximum, inflight_max_311: 20, max_packet: 1 << 20, aliases_max: 3, ..Self::default() }
    }

    /// The connection is gone.
    pub(super) fn cut(&mut self) {
        self.input.clear();
        self.output.clear();
        self.version = None;
        self.aliases.clear();
        self.hung_up = false;
        self.status.extend(self.will.take());
    }

    /// It forgets its sessions, as a broker without a disk does at a restart.
    pub(super) fn forget(&mut self) {
        self.cut();
        self.session = false;
        self.held.clear();
        self.stored.clear();
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
            self.publish_bytes += if header.kind() == 3 { header.total() } else { 0 };
            match self.version {
                None => self.connect(&server::decode_connect(header, &body).unwrap()),
                Some(_) if self.deaf => {}
                Some(version) => self.packet(version, server::decode(version, header, &body).unwrap()),
            }
        }
    }

    fn connect(&mut self, connect: &server::Connect) {
        self.version = Some(connect.version);
        if connect.clean_start {
            self.session = false;
            self.held.clear();
            self.stored.clear();
            self.subscribed.clear();
        }
        let welcome = server::Welcome {
            session_present: self.session,
            assigned_id: None,
            max_packet: self.max_packet,
            receive_maximum: self.receive_maximum,
            topic_alias_maximum: self.aliases_max,
            keep_alive_s: None,
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
                if let Some(properties) = &publish.properties {
                    let pairs = properties.user.iter().map(|(name, value)| (name.to_string(), value.to_string()));
                    self.user.push(pairs.collect());
                }
                self.expiry_s.extend(publish.properties.as_ref().map(|properties| properties.expiry_s));
                if publish.dup && publish.alias.is_some() {
                    // What holds the message already may not look at it (ejabberd 23.01).
                    self.violations.push(format!("a topic alias given with DUP, packet id {}", publish.packet_id));
                }
                let topic = self.topic(publish.alias, publish.topic).to_string();
                let refused = self.refuses.filter(|_| !topic.ends_with("/status"));
                self.offered += u32::from(!topic.ends_with("/status"));
                if let Some(reason) = refused {
                    if publish.dup && !self.held.contains_key(&publish.packet_id) {
                        self.violations
                            .push(format!("packet id {} said with DUP after it was refused", publish.packet_id));
                    }
                    let first = if publish.qos == Qos::ExactlyOnce { 0x50 } else { 0x40 };
                    let [high, low] = publish.packet_id.to_be_bytes();
                    self.output.extend_from_slice(&[first, 3, high, low, reason]);
                    return;
                }
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
                if let Some(arrival) = self.stored.remove(&id) {
                    self.deliver(arrival);
                }
                answer(&mut self.output, 0x70, id);
            }
            Incoming::Pingreq => server::put_pingresp(&mut self.output),
            Incoming::Subscribe(id, _, asks) => {
                if self.subscribe_max.is_some_and(|most| asks.len() > most) {
                    self.violations.push(format!("a SUBSCRIBE of {} filters", asks.len()));
                    self.hung_up = true;
                    return;
                }
                for ask in &asks {
                    if !self.subscribed.contains(&ask.filter) {
                        self.subscribed.push(ask.filter.clone());
                    }
                }
                let code = |ask: &server::Ask| {
                    let barred = self.bars.contains(&ask.filter).then_some(0x87);
                    barred.or(self.grants).unwrap_or(ask.qos.level())
                };
                let codes: Vec<u8> = asks.iter().map(code).collect();
                if self.mute {
                    return;
                }
                server::put_suback(&mut self.output, version, id, &codes);
            }
            Incoming::Unsubscribe(id, filters) => {
                if self.subscribe_max.is_some_and(|most| filters.len() > most) {
                    self.violations.push(format!("an UNSUBSCRIBE of {} filters", filters.len()));
                }
                self.subscribed.retain(|filter| !filters.contains(filter));
                if let Some(us) = self.gateway.filter(|_| filters.iter().any(|filter| marks::greets(filter).is_some()))
                {
                    let greeting = marks::greeting(&GatewayId::parse(us).unwrap());
                    self.send(&greeting, b"", Qos::AtMostOnce, 0, false);
                }
                server::put_unsuback(&mut self.output, version, id, &vec![0; filters.len()]);
            }
            Incoming::Disconnect { .. } => self.will = None,
            Incoming::Puback(_) | Incoming::Pubrec(..) | Incoming::Pubcomp(_) => {}
        }
    }

    fn topic(&mut self, alias: Option<u16>, topic: Option<TopicName>) -> TopicName {
        let Some(alias) = alias else { return topic.unwrap() };
        if alias == 0 || alias > self.aliases_max {
            self.violations.push(format!("alias {alias} of {}", self.aliases_max));
        }
        if let Some(topic) = topic {
            self.aliases.insert(alias, topic);
        }
        self.aliases.get(&alias).cloned().unwrap_or_else(|| {
            self.violations.push(format!("alias {alias} was never given a topic"));
            TopicName::parse("nowhere").unwrap()
        })
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
                if self.at_release {
                    self.stored.insert(id, arrival);
                } else {
                    self.deliver(arrival);
                }
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

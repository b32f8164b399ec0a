//! One client's session, after the letter of the specification: what is held, what is accepted, what is answered. No socket, no clock.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::Ledger;
use super::wire::{
    Body, CONNACK, Connect, DISCONNECT, Fault, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Packet,
    Publish, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, acknowledged,
};

/// When a QoS 2 message is handed on. The specification allows both [MQTT-4.3.3], and each punishes another mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Deliver {
    /// At PUBLISH: a message that comes again under a fresh packet id is doubled.
    #[default]
    AtPublish,
    /// At PUBREL: a message whose PUBREL never comes is lost.
    AtRelease,
}

/// What the receiver demands and offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) deliver: Deliver,
    /// Receive Maximum of MQTT 5; at 3.1.1 the number at which it hangs up, as brokers do. `None`: 65,535 and no limit.
    pub(crate) receive_maximum: Option<u16>,
}

/// An answer to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Bytes to be sent.
    Send(Vec<u8>),
    /// Bytes that end a delivery: a slow receiver may hold them back.
    Acknowledge { bytes: Vec<u8>, id: u16 },
    /// The connection ends: the client said goodbye, or the receiver hangs up.
    Close { said_goodbye: bool },
}

/// State that outlives connections, and what belongs to the one that is open.
#[derive(Debug, Default)]
pub(crate) struct Session {
    terms: Terms,
    ledger: Ledger,
    exists: bool,
    /// Received and not yet released, by packet id.
    held: BTreeMap<u16, Publish>,
    connection: Option<Connect>,
    /// What the last client said of itself.
    greeted: Option<Connect>,
    /// Publishes of this connection whose PUBACK or PUBCOMP has not left.
    unanswered: BTreeSet<u16>,
    wills: Vec<(String, Vec<u8>)>,
    forgotten: u64,
    hung_up: u64,
}

impl Session {
    pub(crate) fn new(terms: Terms) -> Self {
        Self { terms, ..Self::default() }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Packet ids of QoS 2 messages that wait for their PUBREL.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Wills that were sent out, topic and payload.
    pub(crate) fn wills(&self) -> &[(String, Vec<u8>)] {
        &self.wills
    }

    /// The last CONNECT.
    pub(crate) fn greeted(&self) -> Option<&Connect> {
        self.greeted.as_ref()
    }

    /// How often a session that existed was forgotten by order.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How often it hung up on a 3.1.1 client that had too much in flight.
    pub(crate) fn hung_up(&self) -> u64 {
        self.hung_up
    }

    /// Loses the session, as a broker without a disk does when it restarts.
    pub(crate) fn forget(&mut self) {
        self.forgotten += u64::from(self.exists);
        self.end();
    }

    fn end(&mut self) {
        self.exists = false;
        self.held.clear();
        self.ledger.new_session();
    }

    fn v5(&self) -> bool {
        self.connection.as_ref().is_some_and(|connect| connect.v5)
    }

    /// The network connection is gone. `said_goodbye`: a DISCONNECT came first, and there is no will.
    pub(crate) fn disconnected(&mut self, said_goodbye: bool) {
        let Some(connect) = self.connection.take() else { return };
        self.unanswered.clear();
        if let Some((topic, payload, ..)) = connect.will.filter(|_| !said_goodbye) {
            self.wills.push((topic, payload));
        }
        if connect.session_expiry_s == 0 || (!connect.v5 && connect.clean) {
            self.end();
        }
    }

    /// The acknowledgement of this packet id has left: it no longer counts against the receive maximum.
    pub(crate) fn answered(&mut self, id: u16) {
        self.unanswered.remove(&id);
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// When the client breaks a rule. It is in the ledger then, and the connection is to be closed.
    pub(crate) fn handle(&mut self, packet: &Packet) -> Result<Vec<Answer>, Fault> {
        let outcome = self.judge(packet);
        if let Err(fault) = &outcome {
            self.ledger.violation(fault.clone());
        }
        outcome
    }

    fn judge(&mut self, packet: &Packet) -> Result<Vec<Answer>, Fault> {
        if self.connection.is_none() {
            return Ok(vec![self.connect(Connect::parse(packet)?)]);
        }
        let expected_flags = if matches!(packet.kind, PUBREL | SUBSCRIBE | UNSUBSCRIBE) { 2 } else { 0 };
        if packet.kind != PUBLISH && packet.flags != expected_flags {
            return Err(format!("flags {} on a packet of type {} [MQTT-2.1.3-1]", packet.flags, packet.kind));
        }
        match packet.kind {
            PUBLISH => self.publish(Publish::parse(packet, self.v5())?),
            PUBREL => Ok(vec![self.release(acknowledged(packet)?)]),
            SUBSCRIBE => Ok(vec![self.subscribe(packet)?]),
            UNSUBSCRIBE => self.unsubscribe(packet),
            PINGREQ => Ok(vec![Answer::Send(Packet::bytes(PINGRESP, 0, &[]))]),
            DISCONNECT => Ok(vec![Answer::Close { said_goodbye: true }]),
            // The receiver publishes nothing, so nothing can be acknowledged to it.
            kind => Err(format!("a packet of type {kind} that answers nothing")),
        }
    }

    fn connect(&mut self, connect: Connect) -> Answer {
        let present = self.exists && !connect.clean;
        if !present {
            self.end();
        }
        self.exists = true;
        self.ledger.new_connection();
        let mut body = vec![u8::from(present), 0];
        if connect.v5 {
            match self.terms.receive_maximum {
                Some(maximum) => {
                    body.extend_from_slice(&[3, 0x21]);
                    body.extend_from_slice(&maximum.to_be_bytes());
                }
                None => body.push(0),
            }
        }
        self.greeted = Some(connect.clone());
        self.connection = Some(connect);
        Answer::Send(Packet::bytes(CONNACK, 0, &body))
    }

    fn publish(&mut self, publish: Publish) -> Result<Vec<Answer>, Fault> {
        let id = publish.id;
        if publish.qos == 0 {
            self.ledger.accept(&publish);
            return Ok(Vec::new());
        }
        self.unanswered.insert(id);
        let limit = self.terms.receive_maximum.map_or(65_535, usize::from);
        if self.unanswered.len() > limit && !self.v5() {
            // 3.1.1 has no way to tell a limit: going over it is no breach, and what brokers do about it is to hang up.
            self.hung_up += 1;
            return Ok(vec![Answer::Close { said_goodbye: false }]);
        }
        if self.unanswered.len() > limit {
            return Err(format!("{} in flight where {limit} were allowed [MQTT-3.3.4-9]", self.unanswered.len()));
        }
        if let Some(held) = self.held.get(&id) {
            let same = publish.qos == 2 && held.topic == publish.topic && held.payload == publish.payload;
            if !same {
                // By the letter it is taken for a repetition, and what it carries is lost [MQTT-4.3.3-10].
                self.ledger.id_reused(id);
            } else if !publish.dup {
                self.ledger.violation(format!("packet id {id} sent again without DUP [MQTT-3.3.1-1]"));
            }
            return Ok(vec![Answer::Send(self.answer(PUBREC, 0, id, 0))]);
        }
        if publish.qos == 1 {
            self.ledger.accept(&publish);
            return Ok(vec![Answer::Acknowledge { bytes: self.answer(PUBACK, 0, id, 0), id }]);
        }
        if self.terms.deliver == Deliver::AtPublish {
            self.ledger.accept(&publish);
        }
        self.held.insert(id, publish);
        Ok(vec![Answer::Send(self.answer(PUBREC, 0, id, 0))])
    }

    fn release(&mut self, id: u16) -> Answer {
        let known = match self.held.remove(&id) {
            Some(publish) => {
                if self.terms.deliver == Deliver::AtRelease {
                    self.ledger.accept(&publish);
                }
                true
            }
            None => false,
        };
        // 0x92, packet identifier not found [MQTT-3.7.2]: after a repeated PUBREL it is no fault of the client.
        let reason = if known { 0 } else { 0x92 };
        Answer::Acknowledge { bytes: self.answer(PUBCOMP, 0, id, reason), id }
    }

    fn answer(&self, kind: u8, flags: u8, id: u16, reason: u8) -> Vec<u8> {
        let mut body = id.to_be_bytes().to_vec();
        if self.v5() && reason != 0 {
            body.push(reason);
        }
        Packet::bytes(kind, flags, &body)
    }

    fn subscribe(&mut self, packet: &Packet) -> Result<Answer, Fault> {
        let mut body = Body(&packet.body);
        let mut reply = body.take(2)?.to_vec();
        if self.v5() {
            body.properties()?;
            reply.push(0);
        }
        if body.0.is_empty() {
            return Err("SUBSCRIBE without a filter [MQTT-3.8.3-2]".to_owned());
        }
        while !body.0.is_empty() {
            body.text()?;
            reply.push(body.byte()? & 3);
        }
        Ok(Answer::Send(Packet::bytes(SUBACK, 0, &reply)))
    }

    fn unsubscribe(&mut self, packet: &Packet) -> Result<Vec<Answer>, Fault> {
        let mut body = Body(&packet.body);
        let mut reply = body.take(2)?.to_vec();
        if self.v5() {
            body.properties()?;
            reply.push(0);
        }
        while !body.0.is_empty() {
            body.text()?;
            if self.v5() {
                reply.push(0);
            }
        }
        Ok(vec![Answer::Send(Packet::bytes(UNSUBACK, 0, &reply))])
    }
}

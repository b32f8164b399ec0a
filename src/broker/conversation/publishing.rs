//! What a client publishes: to whom it goes, and what its acknowledgement waits for.

use std::sync::Arc;

use super::{Conversation, Ending, PUBACK, PUBCOMP, PUBREC, refuse};
use crate::broker::journal::Receipt;
use crate::broker::keeper::Urgency;
use crate::broker::owed::Answer;
use crate::broker::promise::{Broken, Pending, Promise, Teller};
use crate::broker::shared::{Exchange, count};
use crate::limits;
use crate::logic::marks;
use crate::model::{ExchangeId, Message, Moment, Origin, Qos, TopicName};
use crate::mqtt::reason::Reason;
use crate::mqtt::server::{Publish, Version};
use crate::ports::{Acceptance, NotAccepted};

impl Conversation {
    pub(super) fn hear_publish(&mut self, publish: Publish) -> Result<(), Ending> {
        count(&self.shared.traffic.publish_received, 1);
        count(&self.shared.traffic.publish_bytes_received, publish.payload.len() as u64);
        // What a reload took away counts at once, also for what is read before there was something to say.
        self.follow_reload()?;
        let topic = self.resolve_alias(&publish)?;
        let packet_id = publish.packet_id;
        let held = {
            let session = self.current()?;
            let is_qos_2 = publish.qos == Qos::ExactlyOnce;
            let held = is_qos_2.then(|| session.received(packet_id).cloned()).flatten();
            // A message sent again is counted already: a client that comes back with a full window must be able to send all of it.
            let unacknowledged = session.received_len() + self.owed.count(PUBACK);
            if self.version == Version::V5
                && publish.qos != Qos::AtMostOnce
                && held.is_none()
                && unacknowledged >= usize::from(limits::UNACKNOWLEDGED_MAX)
            {
                return Err(refuse(
                    Reason::ReceiveMaximumExceeded,
                    "more unacknowledged messages than Receive Maximum",
                ));
            }
            held
        };
        // The same QoS 2 message again: delivered already, it waits for the promise made the first time.
        if let Some(promise) = held.as_ref().filter(|promise| !promise.is_broken()) {
            self.owe(Answer::Acknowledgement(PUBREC, packet_id, Reason::Success), promise.wait());
            return Ok(());
        }
        if !self.access.may_publish(&topic) {
            let is_again = publish.dup || held.is_some();
            return self.deny_publish(&topic, publish.qos, packet_id, is_again);
        }
        let mut message = Message {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            origin: Origin::Client,
            properties: publish.properties,
            stamp: None,
            exchange: self.exchange(publish.qos, packet_id)?,
        };
        let peer = self.current()?.peer().cloned();
        let is_from_peer = peer.is_some();
        if let Some(peer) = peer {
            marks::came_from(&mut message.properties, &peer);
            if self.shared.went_through_us(&message) {
                return self.promise(publish.qos, packet_id, None);
            }
        }
        let message = Arc::new(message);
        let promised = self.begin_promise(publish.qos, packet_id)?;
        let mut pending = None;
        if is_from_peer && held.is_none() {
            let uplink = &self.shared.uplink;
            uplink.told_in_order(&message, &mut |told| pending = self.tell(&message, packet_id, told, held.as_ref()));
        } else {
            pending = self.tell(&message, packet_id, None, held.as_ref());
        }
        match promised {
            None => self.promise(publish.qos, packet_id, pending),
            Some((promise, teller)) => {
                let wait = pending.as_ref().and_then(|_| promise.wait());
                teller.owe(pending);
                self.owe(Answer::Acknowledgement(PUBREC, packet_id, Reason::Success), wait);
                Ok(())
            }
        }
    }

    /// What a QoS 2 message is known by at the bridges: where its session outlives the process, it is said again after a crash.
    fn exchange(&self, qos: Qos, packet_id: u16) -> Result<Option<ExchangeId>, Ending> {
        if qos != Qos::ExactlyOnce {
            return Ok(None);
        }
        Ok(self.current()?.id().map(|session| ExchangeId { session, packet_id }))
    }

    /// The client frees a packet id. It hears that it has once nobody holds it on disk any more, here or at a bridge.
    pub(super) fn hear_pubrel(&mut self, packet_id: u16) -> Result<(), Ending> {
        let (known, freed) = self.free(packet_id)?;
        let reason = if known { Reason::Success } else { Reason::PacketIdNotFound };
        match freed {
            None => self.acknowledge(PUBCOMP, packet_id, reason),
            freed => self.owe(Answer::Acknowledgement(PUBCOMP, packet_id, reason), freed),
        }
        Ok(())
    }

    /// Frees a packet id here and at the bridges. Returns whether it was held here, and what is awaited before the client may use it again.
    fn free(&self, packet_id: u16) -> Result<(bool, Option<Pending>), Ending> {
        let mut receipt = Receipt::new(Urgency::Now);
        let (known, session) = {
            let mut session = self.current()?;
            (session.release(packet_id, &mut receipt), session.id())
        };
        let exchange = session.map(|session| ExchangeId { session, packet_id });
        let released = exchange.and_then(|exchange| self.shared.uplink.release(exchange));
        Ok((known, join(released, receipt.pending(), Broken::Bridge)))
    }

    /// Holds a QoS 2 message before anybody has it. Another connection that takes the session while it is told finds the promise there, and
    /// waits for the same outcome.
    fn begin_promise(&self, qos: Qos, packet_id: u16) -> Result<Option<(Promise, Teller)>, Ending> {
        if qos != Qos::ExactlyOnce {
            return Ok(None);
        }
        let (promise, teller) = Promise::open();
        self.current()?.receive(packet_id, promise.clone());
        Ok(Some((promise, teller)))
    }

    /// Gives a message to everyone who is to have it. `fetched`: when its copy was told, if one was; `held`: what became of it when it came before.
    fn tell(
        &self,
        message: &Arc<Message>,
        packet_id: u16,
        fetched: Option<Moment>,
        held: Option<&Promise>,
    ) -> Option<Pending> {
        let exchange = (message.qos == Qos::ExactlyOnce).then_some(Exchange { slot: &self.attached.slot, packet_id });
        let urgency = if message.qos == Qos::AtMostOnce { Urgency::Soon } else { Urgency::Now };
        if fetched.is_some() || held.is_some_and(Promise::is_for_a_copy) {
            // What that copy did not wait for this one does: its sender forgets it then.
            let settled = self.shared.uplink.settled(message);
            let kept = match fetched {
                Some(at) => self.shared.retain(message, at, urgency, exchange),
                None => self.shared.keep_again(message, urgency),
            };
            return join(settled, kept, Broken::Fetched);
        }
        // A bridge that has committed it must not get it twice.
        let is_with_bridges = held.is_some_and(Promise::is_with_bridges);
        let acceptance = match held.and_then(Promise::refusal) {
            _ if is_with_bridges => None,
            Some(refusal) => self.shared.uplink.accept_rest(message, &refusal),
            None => self.shared.uplink.accept(message),
        };
        let kept = if held.is_some() {
            // Its subscribers have it; only what was promised beyond them is to be tried again.
            self.shared.keep_again(message, urgency)
        } else {
            self.shared.publish(self.attached.slot.key, message, urgency, exchange)
        };
        join(acceptance, kept, Broken::Bridge)
    }

    fn resolve_alias(&mut self, publish: &Publish) -> Result<TopicName, Ending> {
        match (publish.alias, &publish.topic) {
            (None, Some(topic)) => Ok(topic.clone()),
            (Some(alias), _) if alias == 0 || alias > limits::TOPIC_ALIASES => {
                Err(refuse(Reason::TopicAliasInvalid, "topic alias out of range"))
            }
            (Some(alias), Some(topic)) => {
                self.aliases_in.insert(alias, topic.clone());
                if self.aliases_in.values().map(|topic| topic.as_str().len()).sum::<usize>() > limits::ALIASED_BYTES_MAX
                {
                    return Err(refuse(Reason::QuotaExceeded, "the topics of its aliases are too long"));
                }
                Ok(topic.clone())
            }
            (Some(alias), None) => match self.aliases_in.get(&alias) {
                Some(topic) => Ok(topic.clone()),
                None => Err(refuse(Reason::ProtocolError, "a topic alias that was never given a topic")),
            },
            (None, None) => Err(refuse(Reason::ProtocolError, "neither topic nor topic alias")),
        }
    }

    /// Acknowledges a message once this has come true; one of QoS 2 at once: it goes to nobody.
    fn promise(&mut self, qos: Qos, packet_id: u16, pending: Option<Pending>) -> Result<(), Ending> {
        match qos {
            Qos::AtMostOnce => {
                if pending.is_some() {
                    self.owe(Answer::None, pending);
                }
            }
            Qos::AtLeastOnce => self.owe(Answer::Acknowledgement(PUBACK, packet_id, Reason::Success), pending),
            Qos::ExactlyOnce => {
                self.current()?.receive(packet_id, Promise::Kept);
                self.owe(Answer::Acknowledgement(PUBREC, packet_id, Reason::Success), pending);
            }
        }
        Ok(())
    }

    /// 3.1.1 has no word for it: the message is acknowledged and dropped. `is_again`: it may have come before.
    fn deny_publish(&mut self, topic: &TopicName, qos: Qos, packet_id: u16, is_again: bool) -> Result<(), Ending> {
        let client = &self.attached.slot.client;
        if self.shared.is_first(client, "publish") {
            tracing::warn!(%client, %topic, "client may not publish to this topic, its message is dropped");
        }
        if self.version == Version::V311 {
            return self.promise(qos, packet_id, None);
        }
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.owe(Answer::Acknowledgement(PUBACK, packet_id, Reason::NotAuthorized), None),
            Qos::ExactlyOnce => {
                // Behind this answer the id stands for another message [MQTT-4.3.3-9], also where this one came before and was half promised
                // while it was allowed.
                let freed = if is_again { self.free(packet_id)?.1 } else { None };
                self.owe(Answer::Acknowledgement(PUBREC, packet_id, Reason::NotAuthorized), freed);
            }
        }
        Ok(())
    }
}

fn join(acceptance: Option<Acceptance>, kept: Option<Pending>, because: fn(NotAccepted) -> Broken) -> Option<Pending> {
    match (acceptance, kept) {
        (None, kept) => kept,
        (Some(acceptance), None) => Some(Box::pin(async move { acceptance.await.map_err(because) })),
        (Some(acceptance), Some(kept)) => Some(Box::pin(async move {
            let (accepted, kept) = tokio::join!(acceptance, kept);
            accepted.map_err(because)?;
            kept
        })),
    }
}

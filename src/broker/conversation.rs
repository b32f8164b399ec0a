//! What a connected client says, and what it is answered: from packets to the core and back to bytes. Does no I/O.

mod publishing;
pub(super) mod subscribing;

use std::collections::HashMap;
use std::sync::Arc;

use super::access::Access;
use super::arrival::Entry;
use super::core::{Attached, Farewell};
use super::door::Guests;
use super::output::Output;
use super::owed::{Answer, Ledger, Owed};
use super::promise::{Broken, Pending};
use super::session::{Action, Delivery};
use super::shared::{Live, Shared, count};
use super::subscribers::SessionGuard;
use super::wire::Recorded;
use crate::limits;
use crate::logic::marks;
use crate::model::{Moment, TopicName};
use crate::mqtt::reason::Reason;
use crate::mqtt::server::{self, Connect, Incoming, OutPublish, Refusal, Version};

/// Why a conversation ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ending {
    /// The client said DISCONNECT.
    #[error("it said goodbye")]
    Goodbye {
        /// Whether it wants its will published all the same.
        with_will: bool,
    },
    /// The client broke the protocol.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A message could not be stored; its publisher must not believe that it was.
    #[error(transparent)]
    Unkept(#[from] Broken),
    /// Another connection has the client id.
    #[error("another connection took its client id")]
    TakenOver,
    /// A person ended it.
    #[error("it was shown out by the control socket")]
    Kicked,
    /// A reload took the user away, or changed its password.
    #[error("its user is not let in any more")]
    Unwelcome,
}

impl Ending {
    /// What a client of MQTT 5 is told; `None` when nothing is to be said.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Goodbye { .. } => None,
            Self::Refused(refusal) => Some(refusal.reason),
            Self::Unkept(_) => Some(Reason::QuotaExceeded),
            Self::TakenOver => Some(Reason::SessionTakenOver),
            Self::Kicked => Some(Reason::Administrative),
            Self::Unwelcome => Some(Reason::NotAuthorized),
        }
    }
}

/// One client's conversation with the broker.
pub(super) struct Conversation {
    shared: Arc<Shared>,
    pub(super) attached: Attached,
    pub(super) version: Version,
    user: Option<String>,
    access: Arc<Access>,
    /// Whom it was let in by.
    guests: Arc<Guests>,
    entry: Entry,
    /// The revision of the settings that `access` follows.
    revision: u64,
    max_packet: usize,
    /// Bytes on their way to the client.
    pub(super) output: Output,
    owed: Ledger,
    aliases_in: HashMap<u16, TopicName>,
    aliases_out: HashMap<TopicName, u16>,
    aliases_out_max: u16,
}

impl Conversation {
    pub(super) fn new(
        shared: Arc<Shared>,
        attached: Attached,
        connect: &Connect,
        access: Arc<Access>,
        live: &Live,
        entry: Entry,
        output: Output,
    ) -> Self {
        Self {
            shared,
            attached,
            version: connect.version,
            user: connect.user.clone(),
            access,
            guests: live.guests.clone(),
            entry,
            revision: live.revision,
            max_packet: connect.max_packet.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            output,
            owed: Ledger::default(),
            aliases_in: HashMap::new(),
            aliases_out: HashMap::new(),
            aliases_out_max: connect.topic_alias_maximum.min(limits::TOPIC_ALIASES),
        }
    }

    /// Whether one more packet may be taken in.
    pub(super) fn is_listening(&self) -> bool {
        self.owed.len() < usize::from(limits::UNACKNOWLEDGED_MAX) && self.output.own_len() < limits::ANSWER_BYTES_MAX
    }

    /// Takes a packet in.
    pub(super) fn hear(&mut self, packet: Incoming) -> Result<(), Ending> {
        count(&self.shared.traffic.messages_received, 1);
        match packet {
            Incoming::Publish(publish) => self.hear_publish(publish),
            Incoming::Puback(id) => {
                self.current()?.puback(id);
                Ok(())
            }
            Incoming::Pubrec(id, refused) => {
                let recorded = self.current()?.pubrec(id, refused);
                if recorded == Recorded::Release {
                    self.acknowledge(PUBREL, id, Reason::Success);
                }
                Ok(())
            }
            Incoming::Pubcomp(id) => {
                self.current()?.pubcomp(id);
                Ok(())
            }
            Incoming::Pubrel(id) => self.hear_pubrel(id),
            Incoming::Subscribe(id, identifier, asks) => self.hear_subscribe(id, identifier, &asks),
            Incoming::Unsubscribe(id, filters) => self.hear_unsubscribe(id, &filters),
            Incoming::Pingreq => {
                server::put_pingresp(self.output.tail());
                count(&self.shared.traffic.messages_sent, 1);
                Ok(())
            }
            Incoming::Disconnect { with_will, session_expiry_s } => {
                if let Some(expiry_s) = session_expiry_s {
                    let mut session = self.current()?;
                    if session.expiry_s() == 0 && expiry_s != 0 {
                        drop(session);
                        return Err(refuse(Reason::ProtocolError, "a session expiry where CONNECT said none"));
                    }
                    session.set_expiry_s(expiry_s);
                }
                Err(Ending::Goodbye { with_will })
            }
        }
    }

    fn current(&self) -> Result<SessionGuard<'_>, Ending> {
        self.stay()?;
        let session = self.attached.slot.session();
        if session.is_current(self.attached.generation) { Ok(session) } else { Err(Ending::TakenOver) }
    }

    /// Ends where a person has shown the client out.
    fn stay(&self) -> Result<(), Ending> {
        let is_kicked = self.attached.slot.presence.is_kicked(self.attached.generation);
        if is_kicked { Err(Ending::Kicked) } else { Ok(()) }
    }

    fn acknowledge(&mut self, first: u8, packet_id: u16, reason: Reason) {
        server::put_acknowledgement(self.output.tail(), self.version, first, packet_id, reason);
        count(&self.shared.traffic.messages_sent, 1);
    }

    /// Answers at once when nothing is waited for, and nobody waits before it.
    fn owe(&mut self, answer: Answer, pending: Option<Pending>) {
        if pending.is_none() && self.owed.is_empty() {
            self.answer(answer);
        } else {
            self.owed.push(Owed { answer, pending });
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::None => {}
            Answer::Acknowledgement(first, packet_id, reason) => self.acknowledge(first, packet_id, reason),
            Answer::Whole(bytes) => {
                self.output.tail().extend_from_slice(&bytes);
                count(&self.shared.traffic.messages_sent, 1);
            }
        }
    }

    /// Waits for the oldest promise, and writes the acknowledgements that it held back.
    pub(super) async fn settle(&mut self) -> Result<(), Ending> {
        for owed in self.owed.settle().await? {
            self.answer(owed.answer);
        }
        Ok(())
    }

    /// Encodes what waits for the client, as far as the output has room.
    pub(super) fn speak(&mut self) -> Result<(), Ending> {
        // Asked for here too: a client that takes nothing gets nothing more.
        self.stay()?;
        self.follow_reload()?;
        let now = self.shared.clock.now();
        while self.output.len() < limits::OUTPUT_BYTES {
            let (action, is_hungry) = {
                let mut session = self.current()?;
                let mut action = session.poll(now);
                // What came from another gateway does not go back to it, and a bridge to its own broker gets nothing.
                while let Some(Action::Publish { delivery, packet_id, .. }) = &action
                    && let Some(peer) = session.peer()
                    && (self.shared.is_us(peer)
                        || marks::went_through(delivery.message.properties.as_deref(), peer.as_str()))
                {
                    session.forget(*packet_id);
                    action = session.poll(now);
                }
                let is_hungry = action.is_none() && session.hungry_cursor().is_some();
                if action.is_none()
                    && let Some(dropped) = session.take_recovery()
                {
                    drop(session);
                    let client = &self.attached.slot.client;
                    tracing::info!(%client, dropped, "client keeps up again");
                }
                (action, is_hungry)
            };
            match action {
                Some(Action::Publish { delivery, packet_id, dup }) => self.send(&delivery, packet_id, dup, now)?,
                Some(Action::Release(id)) => self.acknowledge(PUBREL, id, Reason::Success),
                None if is_hungry => self.shared.core().feed(&self.attached.slot, now),
                None => break,
            }
        }
        Ok(())
    }

    fn send(&mut self, delivery: &Delivery, packet_id: u16, dup: bool, now: Moment) -> Result<(), Ending> {
        let alias = self.alias_out(&delivery.message.topic);
        let left = delivery.expires.map(|expires| u32::try_from((expires - now).as_secs()).unwrap_or(u32::MAX).max(1));
        let publish = OutPublish {
            message: &delivery.message,
            qos: delivery.qos,
            retain: delivery.retain,
            dup,
            packet_id,
            expiry_s: left,
            subscription_ids: delivery.subscription_ids.as_deref().unwrap_or_default(),
            alias,
        };
        let payload = &delivery.message.payload;
        let is_shared = payload.len() >= limits::SHARED_PAYLOAD_BYTES;
        let put = if is_shared { server::put_publish_head } else { server::put_publish };
        if put(self.output.tail(), self.version, &publish, self.max_packet) {
            if is_shared {
                self.output.share(payload.shared());
            }
            if let Some((alias, false)) = alias {
                self.aliases_out.insert(delivery.message.topic.clone(), alias);
            }
            count(&self.shared.traffic.messages_sent, 1);
            count(&self.shared.traffic.publish_sent, 1);
            count(&self.shared.traffic.publish_bytes_sent, delivery.message.payload.len() as u64);
        } else {
            // Larger than the client takes: it must not be sent, and counts as delivered [MQTT-3.1.2-25].
            self.current()?.forget(packet_id);
            count(&self.shared.core().counters.dropped, 1);
            count(&self.attached.slot.presence.dropped, 1);
        }
        Ok(())
    }

    fn alias_out(&self, topic: &TopicName) -> Option<(u16, bool)> {
        if self.aliases_out_max == 0 {
            return None;
        }
        if let Some(alias) = self.aliases_out.get(topic) {
            return Some((*alias, true));
        }
        let before: usize = self.aliases_out.keys().map(|topic| topic.as_str().len()).sum();
        if self.aliases_out.len() >= usize::from(self.aliases_out_max)
            || before + topic.as_str().len() > limits::ALIASED_BYTES_MAX
        {
            return None;
        }
        u16::try_from(self.aliases_out.len() + 1).ok().map(|next| (next, false))
    }

    /// Takes over new permissions after a reload; ends when the user is gone.
    fn follow_reload(&mut self) -> Result<(), Ending> {
        if self.shared.revision() == self.revision {
            return Ok(());
        }
        let live = self.shared.live();
        let user = self.user.as_deref();
        if !live.guests.is_same_user(&self.guests, user) || !self.entry.counts_under(&live, user) {
            return Err(Ending::Unwelcome);
        }
        self.guests = live.guests.clone();
        self.access = live.guests.access(user, &self.attached.slot.client).ok_or(Ending::Unwelcome)?;
        self.revision = live.revision;
        Ok(())
    }

    /// Writes the DISCONNECT that goes with an ending, where there is one.
    pub(super) fn say_goodbye(&mut self, reason: Reason) {
        server::put_disconnect(self.output.tail(), self.version, reason);
    }
}

/// A panic ends one connection, and that connection in order: the session is let go and the will published.
impl Drop for Conversation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let client = &self.attached.slot.client;
            tracing::error!(%client, "a fault in the broker ended this client's connection");
            let now = self.shared.clock.now();
            let will = self.shared.core().detach(&self.attached.slot, self.attached.generation, Farewell::Abrupt, now);
            self.shared.due_changed.notify_one();
            if let Some(will) = will {
                self.shared.publish_will(&will);
            }
        }
    }
}

fn refuse(reason: Reason, text: &'static str) -> Ending {
    Ending::Refused(Refusal { reason, text })
}

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

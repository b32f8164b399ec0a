//! What the broker remembers of one client, longer than a connection lasts: what waits for it, what is on the wire, what it has sent of QoS 2.
//!
//! Pure: told what happened and what time it is, it says what to send next. Guarantees:
//! - never more unacknowledged messages on the wire than `window`; resent ones first, in their old order and under their old packet ids;
//! - messages of QoS 1 and 2 leave in the order they came, those of QoS 0 likewise; QoS 0 does not wait for a full window;
//! - a full queue drops the oldest, QoS 0 first, and counts it.
//!
//! One that outlives its connection is on disk as well: every change of it is noted in its [`Diary`], and of QoS 2 nothing leaves before what makes it
//! repeatable is written.

mod durable;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::core::Weight;
use super::journal::{Diary, Due, Op, Receipt};
use super::promise::Promise;
use super::queue::{Pushed, Queue, Room};
use super::subscribers::ByGroup;
use super::wire::{Next, Recorded, Wire};
use crate::limits;
use crate::model::{GatewayId, Message, Moment, Qos, TopicFilter, TopicName};
use durable::Durable;
pub(super) use durable::Found;

/// A message on its way to one client.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    /// The lower of the message's QoS and the subscription's [MQTT-3.8.4-8].
    pub(super) qos: Qos,
    /// Retain flag to send.
    pub(super) retain: bool,
    /// When the message is not worth sending any more.
    pub(super) expires: Option<Moment>,
    /// Identifiers of the subscriptions it answers.
    pub(super) subscription_ids: Option<Arc<[u32]>>,
    /// Set when it is due to a shared subscription alone.
    pub(super) by_group: Option<ByGroup>,
    /// Its row on disk, given by the session it waits in; 0 for none.
    pub(super) row: i64,
    /// What it weighs with all that waits.
    pub(super) weight: Option<Weight>,
}

impl Delivery {
    /// What its message weighs, bytes.
    pub(super) fn weighs(&self) -> usize {
        self.weight.as_ref().map_or_else(|| self.message.weight(), Weight::bytes)
    }

    pub(super) fn is_expired(&self, now: Moment) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What to send next.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// A PUBLISH; the packet id is 0 with QoS 0.
    Publish { delivery: Delivery, packet_id: u16, dup: bool },
    /// A PUBREL for this packet id.
    Release(u16),
}

/// A subscription's own part of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Filter without the `$share/<group>/` in front.
    pub(super) filter: TopicFilter,
    /// Group of a shared subscription.
    pub(super) group: Option<Arc<str>>,
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) identifier: Option<u32>,
    /// Messages numbered up to here are not for it: they were published before it was made.
    pub(super) since: u64,
}

impl Subscription {
    /// Bytes of memory that it takes, in its session and among the filters.
    pub(super) fn weight(&self) -> usize {
        let text = self.filter.as_str();
        let texts = text.len() + self.group.as_ref().map_or(0, |group| group.len());
        limits::FILTER_BYTES + 2 * texts + limits::FILTER_LEVEL_BYTES * text.split('/').count()
    }
}

/// Retained messages still to be read for a new subscription: a place in the retained set, no copies of its messages.
#[derive(Debug, Clone)]
pub(super) struct RetainedCursor {
    pub(super) subscription: Subscription,
    /// The last topic served.
    pub(super) after: Option<TopicName>,
}

/// Of a subscription: how far its retained messages are on their way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hunger {
    /// The topic of the last one that is.
    pub(super) after: Option<TopicName>,
}

/// How a connection uses the session.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    /// Most unacknowledged messages towards this client.
    pub(super) window: usize,
    /// Seconds the session outlives the connection; `u32::MAX` for ever.
    pub(super) expiry_s: u32,
    /// How much may wait.
    pub(super) room: Room,
    /// Wakes the connection's task.
    pub(super) wake: Arc<Notify>,
}

/// The state of one session.
#[derive(Debug)]
pub(super) struct Session {
    /// Rises with every connection: what an older connection still wants to do is void.
    generation: u64,
    attachment: Option<Attachment>,
    expiry_s: u32,
    /// The gateway whose bridge this client is, as it told itself.
    peer: Option<GatewayId>,
    queue: Queue,
    wire: Wire,
    received: HashMap<u16, Promise>,
    retained_cursors: VecDeque<RetainedCursor>,
    retained_ready: VecDeque<Delivery>,
    /// Whose the retained messages are that were read.
    reading: Option<TopicFilter>,
    /// Subscriptions of which the disk does not know yet that their retained messages were sent.
    hungry: HashMap<TopicFilter, Hunger>,
    pub(super) subscriptions: HashMap<TopicFilter, Subscription>,
    pub(super) diary: Diary,
    durable: Option<Box<Durable>>,
    last_id: i64,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            generation: 0,
            attachment: None,
            expiry_s: 0,
            peer: None,
            queue: Queue::default(),
            wire: Wire::default(),
            received: HashMap::new(),
            retained_cursors: VecDeque::new(),
            retained_ready: VecDeque::new(),
            reading: None,
            hungry: HashMap::new(),
            subscriptions: HashMap::new(),
            diary: Diary::default(),
            durable: None,
            last_id: 0,
        }
    }

    /// A connection takes the session; one that had it is woken to find out. Returns the generation it must show from here on.
    pub(super) fn attach(&mut self, attachment: Attachment) -> u64 {
        self.generation += 1;
        self.expiry_s = attachment.expiry_s;
        self.queue.set_room(attachment.room);
        self.wire.restart();
        if let Some(old) = self.attachment.replace(attachment) {
            old.wake.notify_one();
        }
        self.generation
    }

    /// The connection is gone. What was sent without an acknowledgement waits for the next one; QoS 0 does not wait.
    pub(super) fn detach(&mut self) {
        self.attachment = None;
        self.wire.restart();
        self.queue.clear_loose();
        self.note_about(true, Due::Lazy, None);
    }

    /// Ends the session for whoever still holds it. Returns what other members of its shared subscriptions may have: all that was not sent,
    /// and QoS 1 that was not acknowledged. QoS 2 that was sent must go to nobody else [MQTT-4.8.2-5].
    pub(super) fn end(&mut self) -> Vec<Delivery> {
        self.generation += 1;
        if let Some(old) = self.attachment.take() {
            old.wake.notify_one();
        }
        let mut left = self.wire.drain_unacknowledged(&mut self.diary);
        left.extend(self.queue.drain(&mut self.diary));
        self.diary.note_lazily(Op::End);
        self.diary.close();
        self.durable = None;
        left.retain(|delivery| delivery.by_group.is_some());
        for delivery in &mut left {
            delivery.row = 0;
        }
        left
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    pub(super) fn is_connected(&self) -> bool {
        self.attachment.is_some()
    }

    /// The generation of the connection that has it.
    pub(super) fn connected(&self) -> Option<u64> {
        self.attachment.is_some().then_some(self.generation)
    }

    pub(super) fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    pub(super) fn set_expiry_s(&mut self, expiry_s: u32) {
        self.expiry_s = expiry_s;
    }

    pub(super) fn set_room(&mut self, room: Room) {
        self.queue.set_room(room);
    }

    /// The gateway whose bridge this client is.
    pub(super) fn peer(&self) -> Option<&GatewayId> {
        self.peer.as_ref()
    }

    pub(super) fn set_peer(&mut self, peer: GatewayId) {
        if self.peer.as_ref() != Some(&peer) {
            self.peer = Some(peer);
            self.note_about(false, Due::Lazy, None);
        }
    }

    pub(super) fn wake(&self) {
        if let Some(attachment) = &self.attachment {
            attachment.wake.notify_one();
        }
    }

    /// Messages that wait, and what they weigh.
    pub(super) fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.bytes())
    }

    /// Messages waiting or on the wire.
    #[cfg(test)]
    fn backlog(&self) -> usize {
        self.queue.len() + self.wire.len()
    }

    /// What all that wait weigh.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Drops the oldest message that waits. Returns whether there was one.
    pub(super) fn drop_oldest(&mut self) -> bool {
        self.queue.drop_oldest(&mut self.diary)
    }

    /// Whether a message of this QoS waits here at all.
    pub(super) fn takes(&self, qos: Qos) -> bool {
        self.attachment.is_some() || (self.expiry_s != 0 && qos != Qos::AtMostOnce)
    }

    /// Takes a message in and wakes the connection. What its publisher's acknowledgement waits for is in the receipt then.
    pub(super) fn push(&mut self, mut delivery: Delivery, receipt: &mut Receipt) -> Pushed {
        if !self.takes(delivery.qos) {
            return Pushed::Away;
        }
        let window = self.attachment.as_ref().map_or(0, |attachment| attachment.window);
        // Nothing is before it, so that it leaves at once.
        let leaves = self.queue.waiting() == 0 && self.wire.has_room(window) && self.is_done_with_retained();
        delivery.row = self.give_row(delivery.qos);
        let noted = (delivery.row != 0).then(|| Delivery { weight: None, ..delivery.clone() });
        let qos = delivery.qos;
        let pushed = self.queue.push(delivery, &mut self.diary);
        if let Some(noted) = noted {
            // The acknowledgement of a QoS 1 message may be faster than the disk, and then there is nothing to write.
            let at_best = if leaves && qos == Qos::AtLeastOnce { Due::Linger } else { Due::Now };
            self.diary.note(Op::Queued(noted), at_best, Some(receipt));
            // One commit for the message and its packet id.
            if leaves && qos == Qos::ExactlyOnce {
                self.load(window, Moment::ZERO);
            }
        }
        self.wake();
        pushed
    }

    fn is_done_with_retained(&self) -> bool {
        self.retained_ready.is_empty() && self.retained_cursors.is_empty()
    }

    /// Puts what waits on the wire, as far as that has room.
    fn load(&mut self, window: usize, now: Moment) {
        while self.wire.has_room(window) {
            let Some(delivery) = self.queue.pop_waiting(now, &mut self.diary) else { break };
            self.wire.put(delivery, &mut self.diary);
        }
    }

    /// See [`Queue::is_dropping`].
    pub(super) fn is_dropping(&self) -> bool {
        self.queue.is_dropping()
    }

    /// See [`Queue::take_recovery`].
    pub(super) fn take_recovery(&mut self) -> Option<u64> {
        self.queue.take_recovery()
    }

    /// Asks for the retained messages of a new subscription. A cursor of the same filter that is not done yet begins anew.
    pub(super) fn add_cursor(&mut self, cursor: RetainedCursor) {
        self.retained_cursors.retain(|old| old.subscription.filter != cursor.subscription.filter);
        self.retained_cursors.push_back(cursor);
        self.wake();
    }

    /// Forgets the retained messages still to come for a filter.
    fn drop_cursor(&mut self, filter: &TopicFilter) {
        self.retained_cursors.retain(|old| old.subscription.filter != *filter);
    }

    /// The cursor to read from next, when nothing read is left to send.
    pub(super) fn hungry_cursor(&mut self) -> Option<&mut RetainedCursor> {
        if self.retained_ready.is_empty() { self.retained_cursors.front_mut() } else { None }
    }

    /// Takes what was read for [`Self::hungry_cursor`]; `done` when there is no more.
    pub(super) fn fill(&mut self, deliveries: Vec<Delivery>, done: bool) {
        self.reading = self.retained_cursors.front().map(|cursor| cursor.subscription.filter.clone());
        self.retained_ready.extend(deliveries);
        if done {
            self.retained_cursors.pop_front();
        }
        self.settle_hunger(None);
    }

    /// What to send next; `None` when there is nothing, no room on the wire, or the disk has to be waited for.
    pub(super) fn poll(&mut self, now: Moment) -> Option<Action> {
        let window = self.attachment.as_ref()?.window;
        loop {
            match self.wire.next(window, &self.diary) {
                Next::Now(action) => return Some(action),
                Next::Later | Next::Done => {}
            }
            let open = self.wire.has_room(window);
            match self.retained_ready.front() {
                Some(next) if next.qos != Qos::AtMostOnce && !open => return self.pop_loose(now),
                Some(_) => {
                    let Some(mut delivery) = self.retained_ready.pop_front() else { continue };
                    let is_expired = delivery.is_expired(now);
                    if !is_expired {
                        delivery.row = self.give_row(delivery.qos);
                    }
                    self.settle_hunger(Some(&delivery));
                    if is_expired {
                        continue;
                    }
                    if delivery.qos == Qos::AtMostOnce {
                        return Some(Action::Publish { delivery, packet_id: 0, dup: false });
                    }
                    if delivery.row != 0 {
                        self.diary.note_lazily(Op::Queued(delivery.clone()));
                    }
                    self.wire.put(delivery, &mut self.diary);
                }
                None if !self.retained_cursors.is_empty() => return None,
                None => match self.queue.pop(open, now, &mut self.diary)? {
                    loose if loose.qos == Qos::AtMostOnce => {
                        return Some(Action::Publish { delivery: loose, packet_id: 0, dup: false });
                    }
                    delivery => self.wire.put(delivery, &mut self.diary),
                },
            }
        }
    }

    fn pop_loose(&mut self, now: Moment) -> Option<Action> {
        let delivery = self.queue.pop(false, now, &mut self.diary)?;
        Some(Action::Publish { delivery, packet_id: 0, dup: false })
    }

    /// How many messages are on the wire and not acknowledged.
    pub(super) fn in_flight(&self) -> usize {
        self.wire.len()
    }

    /// The client has a QoS 1 message.
    pub(super) fn puback(&mut self, packet_id: u16) {
        self.wire.puback(packet_id, &mut self.diary);
    }

    /// The client has a QoS 2 message, or refuses it.
    pub(super) fn pubrec(&mut self, packet_id: u16, refused: bool) -> Recorded {
        self.wire.pubrec(packet_id, refused, &mut self.diary)
    }

    /// The client has released a QoS 2 message.
    pub(super) fn pubcomp(&mut self, packet_id: u16) {
        self.wire.pubcomp(packet_id, &mut self.diary);
    }

    /// Forgets a message that cannot be sent to this client at all.
    pub(super) fn forget(&mut self, packet_id: u16) {
        self.wire.forget(packet_id, &mut self.diary);
    }

    /// What became of a QoS 2 message with this packet id that the client has not released yet.
    pub(super) fn received(&self, packet_id: u16) -> Option<&Promise> {
        self.received.get(&packet_id)
    }

    /// How many QoS 2 messages the client has not released yet.
    pub(super) fn received_len(&self) -> usize {
        self.received.len()
    }

    /// Remembers a QoS 2 message until it is released. Before anybody has it: a connection that takes the session meanwhile finds it held.
    pub(super) fn receive(&mut self, packet_id: u16, promise: Promise) {
        self.received.insert(packet_id, promise);
    }

    /// Notes that a QoS 2 message came, in the commit that all of what becomes of it is in; whichever connection the session has by now.
    pub(super) fn note_received(&mut self, packet_id: u16, receipt: &mut Receipt) {
        if self.received.contains_key(&packet_id) {
            self.diary.note(Op::Received(packet_id), Due::Now, Some(receipt));
        }
    }

    /// The client releases its packet id. Returns whether it was held. What the answer waits for is in the receipt: a client that had it would use
    /// the packet id for another message, which must not be taken for this one after a crash. One that is released again may be held on disk still.
    pub(super) fn release(&mut self, packet_id: u16, receipt: &mut Receipt) -> bool {
        let held = self.received.remove(&packet_id).is_some();
        if held || !self.diary.is_all_safe() {
            self.diary.note(Op::Forgotten(packet_id), Due::Linger, Some(receipt));
        }
        held
    }

    /// Makes or replaces a subscription, and asks for its retained messages if they are `wanted`. Returns the one before.
    pub(super) fn subscribe(
        &mut self,
        asked: &TopicFilter,
        subscription: Subscription,
        wanted: bool,
        receipt: &mut Receipt,
    ) -> Option<Subscription> {
        let old = self.subscriptions.insert(asked.clone(), subscription.clone());
        if self.diary.is_kept() {
            let is_same =
                old.as_ref().is_some_and(|old| Subscription { since: old.since, ..subscription.clone() } == *old);
            if wanted {
                self.hungry.insert(asked.clone(), Hunger::default());
                self.reading = self.reading.take().filter(|reading| reading != asked);
            }
            let hungry = self.hungry.get(asked).cloned();
            let op = Op::Subscribed { asked: asked.clone(), subscription, hungry };
            // The client will not ask for its retained messages again once it has its answer.
            if is_same && !wanted {
                self.diary.note_lazily(op);
            } else {
                self.diary.note(op, Due::Now, Some(receipt));
            }
        }
        old
    }

    /// Ends a subscription. Returns it, if there was one.
    pub(super) fn unsubscribe(&mut self, asked: &TopicFilter, receipt: &mut Receipt) -> Option<Subscription> {
        let old = self.subscriptions.remove(asked)?;
        self.drop_cursor(&old.filter);
        self.hungry.remove(asked);
        self.diary.note(Op::Unsubscribed(asked.clone()), Due::Now, Some(receipt));
        Some(old)
    }
}

#[cfg(test)]
mod tests;

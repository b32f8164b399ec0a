//! The part of a session that outlives the process: what it is on disk, and how it comes back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Delivery, Hunger, RetainedCursor, Session, Subscription};
use crate::broker::journal::{About, Due, Op, Receipt, Sent};
use crate::broker::promise::Promise;
use crate::broker::queue::Room;
use crate::model::{Qos, TopicFilter};

/// A session as a file tells of it.
#[derive(Debug)]
pub(in crate::broker) struct Found {
    pub(in crate::broker) id: i64,
    pub(in crate::broker) about: About,
    /// Wall clock when its connection ended, if it did and that clock was set.
    pub(in crate::broker) left_ms: Option<i64>,
    /// How long it lives without a connection from now on; `None` for ever, zero when it is over.
    pub(in crate::broker) left: Option<Duration>,
    /// Filters as they were asked for; and whether retained messages are still to be sent.
    pub(in crate::broker) subscriptions: Vec<(TopicFilter, Subscription, Option<Hunger>)>,
    /// What was on the wire, in the order of sending.
    pub(in crate::broker) wire: Vec<(i64, Option<Delivery>, Sent)>,
    /// What waits, in its order.
    pub(in crate::broker) queue: Vec<Delivery>,
    /// The highest row of all.
    pub(in crate::broker) last_row: i64,
    pub(in crate::broker) received: Vec<u16>,
}

impl Found {
    /// Every message of QoS 1 or 2 that it has.
    pub(in crate::broker) fn each_delivery(&mut self) -> impl Iterator<Item = &mut Delivery> {
        let on_wire = self.wire.iter_mut().filter_map(|(_, delivery, _)| delivery.as_mut());
        self.queue.iter_mut().chain(on_wire)
    }
}

/// What a session on disk is known by.
#[derive(Debug)]
pub(super) struct Durable {
    id: i64,
    about: About,
    last_row: i64,
}

impl Session {
    /// The session is to outlive its process, from its beginning on.
    pub(in crate::broker) fn become_durable(&mut self, id: i64, about: About) {
        self.durable = Some(Box::new(Durable { id, about, last_row: 0 }));
        self.last_id = id;
        self.diary.keep();
    }

    /// A session of another life, but for its subscriptions.
    pub(in crate::broker) fn restored(found: Found, room: Room) -> Self {
        let mut session = Self::new();
        session.expiry_s = found.about.expiry_s;
        session.peer.clone_from(&found.about.peer);
        session.queue.set_room(room);
        session.become_durable(found.id, found.about);
        if let Some(durable) = &mut session.durable {
            durable.last_row = found.last_row;
        }
        for (row, delivery, sent) in found.wire {
            session.wire.restore(row, delivery, sent);
        }
        for delivery in found.queue {
            session.queue.put(delivery);
        }
        session.received = found.received.into_iter().map(|id| (id, Promise::Before)).collect();
        session
    }

    /// Its number on disk, if it is there.
    pub(in crate::broker) fn id(&self) -> Option<i64> {
        self.durable.as_ref().map(|durable| durable.id)
    }

    /// The same, also of one that has ended; 0 if it never was there.
    pub(in crate::broker) fn last_id(&self) -> i64 {
        self.last_id
    }

    /// Notes what it is, `left` or with a connection.
    pub(in crate::broker) fn note_about(&mut self, left: bool, due: Due, receipt: Option<&mut Receipt>) {
        let Some(durable) = &mut self.durable else { return };
        durable.about.expiry_s = self.expiry_s;
        durable.about.peer.clone_from(&self.peer);
        self.diary.note(Op::Session { about: durable.about.clone(), left }, due, receipt);
    }

    /// Retained messages are still to be sent for a subscription of a life before.
    pub(in crate::broker) fn hunger(&mut self, asked: TopicFilter, cursor: RetainedCursor) {
        self.hungry.insert(asked, Hunger { after: cursor.after.clone() });
        self.add_cursor(cursor);
    }

    /// Every message of QoS 1 or 2 that it has.
    pub(in crate::broker) fn each_delivery(&mut self, see: &mut dyn FnMut(&mut Delivery)) {
        self.wire.each_delivery(see);
        self.queue.each_delivery(see);
    }

    /// Notes all of it anew, for a file that knows nothing of it.
    pub(in crate::broker) fn note_again(&mut self) {
        if self.durable.is_none() {
            return;
        }
        self.note_about(self.attachment.is_none(), Due::Lazy, None);
        for (asked, subscription) in &self.subscriptions {
            let hungry = self.hungry.get(asked).cloned();
            let (asked, subscription) = (asked.clone(), subscription.clone());
            self.diary.note_lazily(Op::Subscribed { asked, subscription, hungry });
        }
        self.wire.note_again(&mut self.diary);
        self.queue.note_again(&mut self.diary);
        for id in self.received.keys() {
            self.diary.note_lazily(Op::Received(*id));
        }
    }

    /// What wakes its connection, if it has one.
    pub(in crate::broker) fn waker(&self) -> Option<Arc<Notify>> {
        self.attachment.as_ref().map(|attachment| attachment.wake.clone())
    }

    /// A row for a message that has to be on disk; 0 for another.
    pub(super) fn give_row(&mut self, qos: Qos) -> i64 {
        match &mut self.durable {
            Some(durable) if qos != Qos::AtMostOnce => {
                durable.last_row += 1;
                durable.last_row
            }
            _ => 0,
        }
    }

    /// Notes how far the retained messages that were read are on their way, `now` with this one: in the commit that has its row, so that a crash
    /// repeats none of those that are to come once.
    pub(super) fn settle_hunger(&mut self, now: Option<&Delivery>) {
        let Some(asked) = self.reading.as_ref().filter(|_| self.diary.is_kept()) else { return };
        let has_more = self.retained_cursors.front().is_some_and(|cursor| cursor.subscription.filter == *asked);
        let hungry = if has_more || !self.retained_ready.is_empty() {
            let Some(delivery) = now.filter(|delivery| delivery.row != 0) else { return };
            let Some(hunger) = self.hungry.get_mut(asked) else { return };
            hunger.after = Some(delivery.message.topic.clone());
            Some(hunger.clone())
        } else if self.hungry.remove(asked).is_some() {
            None
        } else {
            return;
        };
        if let Some(subscription) = self.subscriptions.get(asked).cloned() {
            self.diary.note_lazily(Op::Subscribed { asked: asked.clone(), subscription, hungry });
        }
    }
}

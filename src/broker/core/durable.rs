//! Sessions that outlive the process: how they begin, how they come back, and what all queues together may hold.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Core, Life};
use crate::broker::door::Guests;
use crate::broker::journal::{About, Due, Receipt};
use crate::broker::keeper::{self, Desk, Past, Urgency};
use crate::broker::promise::Pending;
use crate::broker::queue::Room;
use crate::broker::session::{Delivery, Found, Hunger, RetainedCursor, Session};
use crate::broker::subscribers::Slot;
use crate::limits;
use crate::model::{Message, Moment, QUEUE_ENTRY_BYTES};

/// What a message weighs, once, however many it is for. A clone is for one more of them.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Weight {
    held: Arc<Held>,
    /// While it waits in a queue; what is on the wire cannot be dropped to make room.
    waiting: Option<Entry>,
}

#[derive(Debug)]
struct Held {
    weight: u64,
    payload_bytes: u64,
    all: Arc<Queued>,
}

/// Its entry in one queue, which each queue has of its own.
#[derive(Debug)]
struct Entry(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    weight: u64,
    all: Arc<Queued>,
}

/// What is in all queues and on all wires together, each message once.
#[derive(Debug, Default)]
pub(in crate::broker) struct Queued {
    /// Messages.
    pub(in crate::broker) messages: AtomicU64,
    /// Their payloads.
    pub(in crate::broker) bytes: AtomicU64,
    /// What those weigh that are in queues, and their entries there.
    waiting_bytes: AtomicU64,
}

impl Weight {
    fn of(message: &Message, all: &Arc<Queued>) -> Self {
        let (weight, payload_bytes) = (message.weight() as u64, message.payload.len() as u64);
        all.messages.fetch_add(1, Ordering::Relaxed);
        all.bytes.fetch_add(payload_bytes, Ordering::Relaxed);
        Self { held: Arc::new(Held { weight, payload_bytes, all: all.clone() }), waiting: None }.in_queue()
    }

    /// What the message weighs.
    pub(in crate::broker) fn bytes(&self) -> usize {
        usize::try_from(self.held.weight).unwrap_or(usize::MAX)
    }

    /// The same in a queue again.
    pub(super) fn in_queue(mut self) -> Self {
        let Held { weight, all, .. } = &*self.held;
        self.waiting.get_or_insert_with(|| {
            all.waiting_bytes.fetch_add(*weight, Ordering::Relaxed);
            Entry::of(Arc::new(Waiting { weight: *weight, all: all.clone() }))
        });
        self
    }

    /// The same on a wire.
    pub(in crate::broker) fn on_wire(self) -> Self {
        Self { waiting: None, ..self }
    }
}

impl Entry {
    fn of(waiting: Arc<Waiting>) -> Self {
        waiting.all.waiting_bytes.fetch_add(ENTRY_BYTES, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        Self::of(self.0.clone())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.all.waiting_bytes.fetch_sub(ENTRY_BYTES, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.messages.fetch_sub(1, Ordering::Relaxed);
        self.all.bytes.fetch_sub(self.payload_bytes, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.waiting_bytes.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

const ENTRY_BYTES: u64 = QUEUE_ENTRY_BYTES as u64;

impl Core {
    /// A session that is locked by nobody yet; one that is to outlive its connection outlives the process.
    pub(super) fn begin(&mut self, client: &Arc<str>, user: Option<&str>, expiry_s: u32) -> Arc<Slot> {
        self.next_key += 1;
        let slot = Slot::new(client.clone(), self.next_key, self.desk.clone(), Session::new());
        if expiry_s > 0 && self.desk.is_some() {
            let about = About { client: client.clone(), user: user.map(str::to_owned), peer: None, expiry_s };
            slot.session().become_durable(keeper::new_id(), about);
        }
        Arc::new(slot)
    }

    /// Notes that a session has a connection, and that the one which ended by that is `over`. Returns what its CONNACK waits for: after a crash,
    /// too, the client finds what it was told.
    pub(super) fn note_attached(&self, slot: &Slot, over: Option<&Slot>) -> Option<Pending> {
        let mut receipt = Receipt::new(Urgency::Now);
        slot.session().note_about(false, Due::Now, Some(&mut receipt));
        // Where both are on disk, the end of the one is in the commit that the beginning of the other is in, or before.
        let was_kept = over.is_some_and(|over| over.session().last_id() != 0);
        receipt.pending().or_else(|| Some(self.desk.as_ref().filter(|_| was_kept)?.flushed()))
    }

    /// A client has left. By a clock that is not set nobody knows when: that is noted once it is.
    pub(super) fn note_undated(&mut self, client: &Arc<str>) {
        let has_no_date = self.desk.as_ref().is_some_and(|desk| !desk.knows_the_time());
        if has_no_date && self.undated.len() < limits::SESSIONS_MAX {
            self.undated.insert(client.clone());
        }
    }

    /// Notes by the clock, once that is set, that those are away of whom the file does not know since when: else their time would begin anew with
    /// every start, and never be over on a board that is switched off more often than that.
    pub(in crate::broker) fn date(&mut self) {
        if self.undated.is_empty() || !self.desk.as_ref().is_some_and(|desk| desk.knows_the_time()) {
            return;
        }
        for client in std::mem::take(&mut self.undated) {
            let Some(life) = self.lives.get(&client) else { continue };
            let mut session = life.slot.session();
            if !session.is_connected() {
                session.note_about(true, Due::Lazy, None);
            }
        }
    }

    /// What a life before left, as far as it is let in by now. Clients that are here already keep what they have. A session that is over, or that is
    /// not taken in, leaves to the other members of its shared subscriptions what is theirs.
    pub(in crate::broker) fn adopt(&mut self, past: Past, room: Room, guests: &Guests, now: Moment) {
        let desk = self.desk.clone();
        // What one session leaves and another takes is in one commit.
        let hold = Desk::hold(desk.as_deref());
        let mut weights = HashMap::new();
        let (mut taken, mut over) = (Vec::new(), Vec::new());
        for mut found in past.sessions {
            for delivery in found.each_delivery() {
                let weigh = || Weight::of(&delivery.message, &self.queued);
                let weight = weights.entry(Arc::as_ptr(&delivery.message)).or_insert_with(weigh);
                delivery.weight = Some(weight.clone());
            }
            if self.is_here(&found) {
                if let Some(desk) = &desk {
                    desk.wipe(found.id, found.each_delivery().map(|delivery| &delivery.message));
                }
            } else if found.left == Some(Duration::ZERO) {
                tracing::debug!(client = %found.about.client, "session ended while the gateway was down");
                self.counters.expired.fetch_add(1, Ordering::Relaxed);
                over.push(self.place(found, room));
            } else if self.lives.contains_key(&found.about.client) || self.lives.len() >= limits::SESSIONS_MAX {
                tracing::warn!(client = %found.about.client, "a session of the store is not taken in");
                over.push(self.place(found, room));
            } else {
                taken.push(self.take_in(found, room, now));
            }
        }
        // Only now every filter has its number.
        for slot in taken.iter().chain(&over) {
            let by_filter = &self.by_filter;
            slot.session().each_delivery(&mut |delivery: &mut Delivery| {
                let known = delivery.by_group.as_mut().and_then(|by_group| {
                    by_group.filter = *by_filter.get(&by_group.topics)?;
                    Some(())
                });
                if known.is_none() {
                    delivery.by_group = None;
                }
            });
        }
        self.date();
        self.withdraw(guests, now);
        for slot in over {
            let left = slot.session().end();
            for delivery in left {
                self.bequeath(delivery);
            }
        }
        drop(hold);
    }

    fn is_here(&self, found: &Found) -> bool {
        self.lives.get(&found.about.client).is_some_and(|life| life.slot.session().id() == Some(found.id))
    }

    fn place(&mut self, found: Found, room: Room) -> Arc<Slot> {
        self.next_key += 1;
        let client = found.about.client.clone();
        Arc::new(Slot::new(client, self.next_key, self.desk.clone(), Session::restored(found, room)))
    }

    fn take_in(&mut self, mut found: Found, room: Room, now: Moment) -> Arc<Slot> {
        let (client, user) = (found.about.client.clone(), found.about.user.clone());
        let subscriptions = std::mem::take(&mut found.subscriptions);
        let ends = found.left.map(|left| now + left);
        if found.left_ms.is_none() && ends.is_some() {
            self.undated.insert(client.clone());
        }
        let slot = self.place(found, room);
        for (asked, mut subscription, hungry) in subscriptions {
            subscription.since = self.number;
            slot.session().subscriptions.insert(asked.clone(), subscription.clone());
            self.enter(&slot, &subscription);
            if let Some(Hunger { after }) = hungry.filter(|_| subscription.group.is_none()) {
                slot.session().hunger(asked, RetainedCursor { subscription, after });
            }
        }
        if let Some(ends) = ends {
            self.due.insert((ends, client.clone()));
        }
        let life = Life { slot: slot.clone(), user, will: None, will_due: None, ends };
        self.lives.insert(client, life);
        slot
    }

    /// The numbers of those that are on disk.
    pub(in crate::broker) fn numbers(&self) -> HashSet<i64> {
        self.lives.values().filter_map(|life| life.slot.session().id()).collect()
    }

    /// Notes everything anew, for a file that knows nothing of it.
    pub(in crate::broker) fn say_again(&self) {
        let Some(desk) = &self.desk else { return };
        for life in self.lives.values() {
            let mut session = life.slot.session();
            if let Some(id) = session.id() {
                desk.wipe(id, []);
                session.note_again();
            }
        }
    }

    /// What a message weighs that comes to queues, after what waits longest in the fullest of them made room for it.
    pub(super) fn weigh(&mut self, message: &Message) -> Weight {
        let more = message.weight() as u64 + ENTRY_BYTES * self.targets.len() as u64;
        let total = |core: &Self| core.queued.waiting_bytes.load(Ordering::Relaxed);
        let most = self.queued_bytes_max;
        if total(self) + more > most && self.targets.iter().any(|target| target.slot.session().takes(target.qos)) {
            // One that is larger than all queues together may be: the others do not make room for it.
            self.make_room(most.checked_sub(more).unwrap_or(most));
        }
        Weight::of(message, &self.queued)
    }

    /// Drops the oldest messages of whoever has most waiting at that moment, until there are no more bytes than that: queues that hold the same
    /// messages lose them one by one together, and nobody loses more than whoever has less keeps. A little more than has to be, so that not every
    /// message looks at every queue.
    fn make_room(&self, most: u64) {
        let goal = most - most / limits::QUEUED_SLACK;
        let is_over = || self.queued.waiting_bytes.load(Ordering::Relaxed) > goal;
        let slots: Vec<&Arc<Slot>> = self.slots().collect();
        let queues = slots.iter().enumerate().map(|(place, slot)| (slot.session().queued_bytes(), place));
        let mut fullest: BinaryHeap<(usize, usize)> = queues.filter(|(bytes, _)| *bytes > 0).collect();
        while is_over()
            && let Some((bytes, place)) = fullest.pop()
        {
            let (slot, next) = (slots[place], fullest.peek().map_or(0, |(bytes, _)| *bytes));
            let mut session = slot.session();
            let was_dropping = session.is_dropping();
            let mut dropped = 0;
            while is_over() && session.queued_bytes() >= next && session.drop_oldest() {
                dropped += 1;
            }
            let left = session.queued_bytes();
            drop(session);
            if left > 0 {
                fullest.push((left, place));
            }
            self.counters.dropped.fetch_add(dropped, Ordering::Relaxed);
            slot.presence.dropped.fetch_add(dropped, Ordering::Relaxed);
            if !was_dropping {
                tracing::warn!(
                    client = %slot.client, waiting_bytes = bytes,
                    "all queues together are full, the oldest messages of the client with the fullest one are dropped"
                );
            }
        }
    }
}

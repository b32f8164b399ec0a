//! The broker's shared state behind one lock that is held briefly: who there is, who subscribes to what, what is retained.
//!
//! Every message passes [`Core::publish`] under that lock, so that all subscribers see messages in one order, and a new subscriber sees each
//! retained message either as retained or live, never neither. Lock order: core, then one session.

mod census;
mod durable;
mod filters;
mod sitters;
mod wills;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) use self::census::Census;
pub(super) use self::durable::{Queued, Weight};
pub(super) use self::sitters::Sitter;
use self::wills::Wills;
use super::fanout::{Envelope, Fanout, FilterId};
use super::journal::Receipt;
use super::keeper::{Desk, Urgency};
use super::promise::Pending;
use super::queue::Pushed;
use super::retained::{Outcome, Retained};
use super::session::{Attachment, Delivery, RetainedCursor, Subscription};
use super::subscribers::{Slot, Subscribers, Target};
use crate::limits;
use crate::logic::marks;
use crate::model::{GatewayId, Message, Moment, TopicFilter};
use crate::mqtt::server::Will;
use crate::ports::Uplink;

/// Message counts, read by `$SYS`.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) dropped: AtomicU64,
    pub(super) refused_retained: AtomicU64,
    /// Sessions that ended because their time was over.
    pub(super) expired: AtomicU64,
}

#[derive(Debug)]
struct Life {
    slot: Arc<Slot>,
    /// Whose session it is: the user name of the CONNECT that began it.
    user: Option<String>,
    will: Option<wills::Kept>,
    will_due: Option<Moment>,
    ends: Option<Moment>,
}

/// What a connection gets with its session.
pub(super) struct Attached {
    pub(super) slot: Arc<Slot>,
    pub(super) generation: u64,
    pub(super) session_present: bool,
    /// Wills that the takeover or the end of an older session sets free.
    pub(super) wills: Vec<Arc<Message>>,
    /// What the CONNACK waits for: that the session is on disk.
    pub(super) pending: Option<Pending>,
}

/// Why a connection gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// There are [`limits::SESSIONS_MAX`].
    Session,
    /// The will is large, and so are those of others.
    Will,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// With a DISCONNECT: the will is void.
    Normal,
    /// Without one, or with one that asks for the will.
    Abrupt,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    /// Whether it changed the retained set, or was to.
    pub(super) retained: Option<Outcome>,
    /// Whether the router was full.
    pub(super) lost: bool,
}

/// See the module.
pub(super) struct Core {
    fanout: Box<dyn Fanout>,
    filters: HashMap<FilterId, Subscribers>,
    by_filter: HashMap<TopicFilter, FilterId>,
    lives: HashMap<Arc<str>, Life>,
    /// Clients that are away, and the file does not know since when.
    undated: HashSet<Arc<str>>,
    /// When something is due for a client: its will, or its session's end.
    due: BTreeSet<(Moment, Arc<str>)>,
    pub(super) retained: Retained,
    pub(super) counters: Arc<Counters>,
    number: u64,
    next_filter: FilterId,
    next_key: u64,
    connected: usize,
    connected_max: usize,
    subscriptions: usize,
    shared_subscriptions: usize,
    /// What all filters weigh.
    filter_bytes: usize,
    wills: Wills,
    found: Vec<FilterId>,
    targets: Vec<Target>,
    /// Where sessions that outlive the process are written; `None` where none do.
    desk: Option<Arc<Desk>>,
    /// Who is told that a session on disk is over.
    uplink: Option<Arc<dyn Uplink>>,
    /// What is in all queues, each message once.
    queued: Arc<Queued>,
    queued_bytes_max: u64,
}

impl Core {
    pub(super) fn new(fanout: Box<dyn Fanout>, retained_bytes_max: u64) -> Self {
        Self {
            fanout,
            filters: HashMap::new(),
            by_filter: HashMap::new(),
            lives: HashMap::new(),
            undated: HashSet::new(),
            due: BTreeSet::new(),
            retained: Retained::new(retained_bytes_max),
            counters: Arc::default(),
            number: 0,
            next_filter: 0,
            next_key: 0,
            connected: 0,
            connected_max: 0,
            subscriptions: 0,
            shared_subscriptions: 0,
            filter_bytes: 0,
            wills: Wills::default(),
            found: Vec::new(),
            targets: Vec::new(),
            desk: None,
            uplink: None,
            queued: Arc::default(),
            queued_bytes_max: u64::MAX,
        }
    }

    /// Sessions that outlive their connection are written there from here on.
    pub(super) fn write_to(&mut self, desk: Option<&Arc<Desk>>) {
        self.desk = desk.cloned();
    }

    /// Sessions on disk that are over are told of here.
    pub(super) fn tell_ends(&mut self, uplink: &Arc<dyn Uplink>) {
        self.uplink = Some(uplink.clone());
    }

    pub(super) fn set_queued_bytes_max(&mut self, queued_bytes_max: u64) {
        self.queued_bytes_max = queued_bytes_max;
    }

    /// Gives a connection its session: the one the client id has, or a new one. What another user began under the same client id is not its.
    pub(super) fn attach(
        &mut self,
        client: &Arc<str>,
        user: Option<&str>,
        clean_start: bool,
        will: Option<Will>,
        attachment: Attachment,
        now: Moment,
    ) -> Result<Attached, NoRoom> {
        if will.as_ref().is_some_and(|will| !self.wills.has_room(will)) {
            return Err(NoRoom::Will);
        }
        let (mut wills, mut resumed, mut over) = (Vec::new(), None, None);
        if let Some(life) = self.lives.get_mut(client) {
            let (was_connected, ended) = {
                let session = life.slot.session();
                let is_over = session.expiry_s() == 0 || life.ends.is_some_and(|ends| ends <= now);
                let ended = clean_start || is_over || life.user.as_deref() != user;
                (session.is_connected(), ended)
            };
            // A will whose delay runs is void when its session goes on [MQTT-3.1.3-9]; without a delay the takeover ends a connection.
            if let Some(old) = life.will.take()
                && (ended || (was_connected && old.delay_s == 0))
            {
                wills.push(old.message.clone());
            }
            for at in [life.will_due.take(), life.ends.take()].into_iter().flatten() {
                self.due.remove(&(at, client.clone()));
            }
            if was_connected {
                self.connected -= 1;
            }
            if ended {
                over = Some(life.slot.clone());
                self.remove(client);
            } else {
                resumed = Some(life.slot.clone());
            }
        }
        let session_present = resumed.is_some();
        let slot = match resumed {
            Some(slot) => slot,
            None if self.lives.len() >= limits::SESSIONS_MAX => return Err(NoRoom::Session),
            None => self.begin(client, user, attachment.expiry_s),
        };
        let generation = slot.session().attach(attachment);
        let pending = self.note_attached(&slot, over.as_deref());
        let user = user.map(str::to_owned);
        let will = will.map(|will| self.wills.keep(will));
        self.lives.insert(client.clone(), Life { slot: slot.clone(), user, will, will_due: None, ends: None });
        self.connected += 1;
        self.connected_max = self.connected_max.max(self.connected);
        Ok(Attached { slot, generation, session_present, wills, pending })
    }

    /// Takes a connection off its session. Returns the will to publish at once; nothing when another connection has the session by now.
    pub(super) fn detach(
        &mut self,
        slot: &Arc<Slot>,
        generation: u64,
        farewell: Farewell,
        now: Moment,
    ) -> Option<Arc<Message>> {
        let expiry_s = {
            let mut session = slot.session();
            if !session.is_current(generation) || !session.is_connected() {
                return None;
            }
            session.detach();
            session.expiry_s()
        };
        self.connected -= 1;
        let client = slot.client.clone();
        if expiry_s > 0 {
            self.note_undated(&client);
        }
        let life = self.lives.get_mut(&client)?;
        let mut will = life.will.take().filter(|_| farewell == Farewell::Abrupt);
        if expiry_s == 0 {
            self.remove(&client);
            return will.map(|will| will.message.clone());
        }
        if expiry_s != u32::MAX {
            let ends = now + Duration::from_secs(expiry_s.into());
            life.ends = Some(ends);
            self.due.insert((ends, client.clone()));
        }
        if let Some(waiting) = will.take_if(|will| will.delay_s > 0) {
            // The will is published at the end of the session at the latest [MQTT-3.1.3-9].
            let due = now + Duration::from_secs(waiting.delay_s.min(expiry_s).into());
            life.will_due = Some(due);
            life.will = Some(waiting);
            self.due.insert((due, client));
        }
        will.map(|will| will.message.clone())
    }

    /// The next moment at which [`Self::expire`] has something to do.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Ends the sessions whose time has come; returns the wills whose time has come.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<Arc<Message>> {
        let mut wills = Vec::new();
        while let Some((at, client)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, client));
                break;
            }
            let Some(life) = self.lives.get_mut(&client) else { continue };
            if life.will_due.is_some_and(|due| due <= now) {
                life.will_due = None;
                wills.extend(life.will.take().map(|will| will.message.clone()));
            }
            if life.ends.is_some_and(|ends| ends <= now) {
                self.counters.expired.fetch_add(1, Ordering::Relaxed);
                self.remove(&client);
            }
        }
        wills
    }

    fn remove(&mut self, client: &Arc<str>) {
        let Some(life) = self.lives.remove(client) else { return };
        let desk = self.desk.clone();
        // What it bequeaths is gone here and there for another in one commit.
        let _hold = Desk::hold(desk.as_deref());
        for at in [life.will_due, life.ends].into_iter().flatten() {
            self.due.remove(&(at, client.clone()));
        }
        let (subscriptions, left) = {
            let mut session = life.slot.session();
            if let (Some(uplink), Some(id)) = (&self.uplink, session.id()) {
                uplink.session_over(id);
            }
            let left = session.end();
            (std::mem::take(&mut session.subscriptions), left)
        };
        for subscription in subscriptions.values() {
            self.leave(&life.slot, subscription);
        }
        for delivery in left {
            self.bequeath(delivery);
        }
    }

    /// A client is the bridge of this gateway: so what its will says comes from there.
    pub(super) fn mark_will(&mut self, slot: &Slot, gateway: &GatewayId) {
        if let Some(will) = self.lives.get_mut(&slot.client).and_then(|life| life.will.as_mut()) {
            marks::came_from(&mut Arc::make_mut(&mut will.message).properties, gateway);
        }
    }

    /// Makes or replaces a subscription under the text it was asked for. Returns whether it is new.
    pub(super) fn subscribe(
        &mut self,
        slot: &Arc<Slot>,
        asked: &TopicFilter,
        mut subscription: Subscription,
        retain_handling: u8,
        receipt: &mut Receipt,
    ) -> bool {
        subscription.since = self.number;
        let old = slot.session().subscriptions.get(asked).cloned();
        // Retained messages are not sent to shared subscriptions [MQTT-4.8.2].
        let wanted = retain_handling == 0 || (retain_handling == 1 && old.is_none());
        let wanted = wanted && subscription.group.is_none();
        slot.session().subscribe(asked, subscription.clone(), wanted, receipt);
        if let Some(old) = &old {
            self.leave(slot, old);
        }
        self.enter(slot, &subscription);
        if wanted {
            slot.session().add_cursor(RetainedCursor { subscription, after: None });
        }
        old.is_none()
    }

    /// Ends a subscription. Returns whether there was one.
    pub(super) fn unsubscribe(&mut self, slot: &Arc<Slot>, asked: &TopicFilter, receipt: &mut Receipt) -> bool {
        let old = slot.session().unsubscribe(asked, receipt);
        if let Some(old) = &old {
            self.leave(slot, old);
        }
        old.is_some()
    }

    /// Makes a message its topic's retained one if it is to be, and tells nobody. `told`: when its subscribers were told its copy, if they were.
    pub(super) fn retain(
        &mut self,
        sender: u64,
        message: Arc<Message>,
        told: Option<Moment>,
        now: Moment,
    ) -> (Envelope, Option<Outcome>) {
        self.number += 1;
        let envelope = Envelope { number: self.number, sender, received: now, message };
        let retained = envelope.message.retain.then(|| {
            let (message, expires) = (&envelope.message, expires(&envelope));
            let outcome = match told {
                Some(told) => self.retained.set_late(message, self.number, expires, told, now),
                None => self.retained.set(message, self.number, expires, now),
            };
            if outcome == Outcome::Full {
                self.counters.refused_retained.fetch_add(1, Ordering::Relaxed);
            }
            outcome
        });
        (envelope, retained)
    }

    /// Sends a message to everyone who subscribes to its topic, and makes it the topic's retained one if it is to be.
    /// What its acknowledgement waits for is in the receipt then.
    pub(super) fn publish(
        &mut self,
        sender: u64,
        message: Arc<Message>,
        now: Moment,
        receipt: &mut Receipt,
    ) -> Published {
        let (envelope, retained) = self.retain(sender, message, None, now);
        let mut found = std::mem::take(&mut self.found);
        let lost = self.fanout.publish(&envelope, &mut found).is_err();
        if lost {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.deliver(&envelope, &found, receipt);
        found.clear();
        self.found = found;
        Published { retained, lost }
    }

    /// Queues a message for the subscribers of the filters that mean it.
    pub(super) fn deliver(&mut self, envelope: &Envelope, found: &[FilterId], receipt: &mut Receipt) {
        for id in found {
            let Some(entry) = self.filters.get_mut(id) else { continue };
            entry.aim(*id, envelope, &mut self.targets);
        }
        if self.targets.is_empty() {
            return;
        }
        let expires = expires(envelope);
        let weight = self.weigh(&envelope.message);
        for target in self.targets.drain(..) {
            let delivery = Delivery {
                message: envelope.message.clone(),
                qos: target.qos,
                retain: target.retain,
                expires,
                subscription_ids: target.ids,
                by_group: target.by_group,
                row: 0,
                weight: Some(weight.clone()),
            };
            push(&self.counters, &target.slot, delivery, receipt);
        }
    }

    /// Gives what a member of a shared subscription left to another one.
    fn bequeath(&mut self, delivery: Delivery) {
        let Some(by_group) = &delivery.by_group else { return };
        let topic = &delivery.message.topic;
        let heir = self.filters.get_mut(&by_group.filter).and_then(|entry| entry.heir(&by_group.group, topic));
        if let Some((slot, qos)) = heir {
            let qos = delivery.message.qos.min(qos);
            let weight = delivery.weight.clone().map(Weight::in_queue);
            // Its publisher has its acknowledgement, or waits for this same commit.
            let mut receipt = Receipt::new(Urgency::Next);
            push(&self.counters, &slot, Delivery { qos, subscription_ids: None, weight, ..delivery }, &mut receipt);
        }
    }

    /// Everyone there is, connected or not.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.lives.values().map(|life| &life.slot)
    }

    /// Reads on the retained messages a session asks for, until it has some to send or wants no more.
    pub(super) fn feed(&self, slot: &Slot, now: Moment) {
        let mut session = slot.session();
        if let Some(cursor) = session.hungry_cursor() {
            let (found, done) = self.retained.read(cursor, &slot.withheld, now);
            session.fill(found, done);
        }
    }

    pub(super) fn stop(&mut self) {
        self.fanout.stop();
    }
}

fn push(counters: &Counters, slot: &Slot, delivery: Delivery, receipt: &mut Receipt) {
    let (pushed, was_dropping) = {
        let mut session = slot.session();
        let was_dropping = session.is_dropping();
        (session.push(delivery, receipt), was_dropping)
    };
    let dropped = match pushed {
        Pushed::Queued | Pushed::Away => return,
        Pushed::Dropped => 1,
        Pushed::Displaced(count) => count,
    };
    counters.dropped.fetch_add(dropped, Ordering::Relaxed);
    slot.presence.dropped.fetch_add(dropped, Ordering::Relaxed);
    if !was_dropping {
        tracing::warn!(client = %slot.client, "client does not keep up, its oldest messages are dropped");
    }
}

fn expires(envelope: &Envelope) -> Option<Moment> {
    let seconds = envelope.message.properties.as_ref()?.expiry_s?;
    Some(envelope.received + Duration::from_secs(seconds.into()))
}

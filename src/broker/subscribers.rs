//! The subscribers of one filter, and which of them a message is for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::Withheld;
use super::fanout::{Envelope, FilterId};
use super::keeper::Desk;
use super::presence::Presence;
use super::session::{Session, Subscription};
use crate::model::{Qos, TopicFilter, TopicName};

/// A client's place in the broker.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) client: Arc<str>,
    /// Never given to another slot.
    pub(super) key: u64,
    session: Mutex<Session>,
    /// Where what it notes is laid down; `None` where nothing outlives the process.
    desk: Option<Arc<Desk>>,
    /// Whose connection it has, or had last.
    pub(super) presence: Presence,
    /// What is kept from the client, whatever it subscribes to.
    pub(super) withheld: Withheld,
    /// Message last routed here, and its place among the targets: how overlapping subscriptions become one delivery.
    marked: AtomicU64,
    place: AtomicUsize,
    /// What its filters weigh.
    pub(super) filter_bytes: AtomicUsize,
}

impl Slot {
    pub(super) fn new(client: Arc<str>, key: u64, desk: Option<Arc<Desk>>, session: Session) -> Self {
        let (marked, place, filter_bytes) = Default::default();
        let (presence, withheld) = (Presence::default(), Withheld::default());
        Self { client, key, session: Mutex::new(session), desk, presence, withheld, marked, place, filter_bytes }
    }

    /// Locks the session. A panic elsewhere while it was locked leaves it as it was: each of its operations is complete in itself.
    pub(super) fn session(&self) -> SessionGuard<'_> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.diary.is_kept()
            && let Some(desk) = &self.desk
        {
            session.diary.committed(desk.committed());
        }
        SessionGuard { session, desk: self.desk.as_deref() }
    }
}

/// A locked session. What it notes lies on the desk before it is unlocked.
pub(super) struct SessionGuard<'a> {
    session: MutexGuard<'a, Session>,
    desk: Option<&'a Desk>,
}

impl std::ops::Deref for SessionGuard<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl std::ops::DerefMut for SessionGuard<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Drop for SessionGuard<'_> {
    fn drop(&mut self) {
        let session = &mut *self.session;
        if let Some(desk) = self.desk
            && let Some((entries, is_awaited)) = session.diary.take()
        {
            let waker = if is_awaited { session.waker() } else { None };
            let commit = desk.lay(session.last_id(), entries, waker);
            session.diary.laid(commit);
        }
    }
}

#[derive(Debug)]
struct Member {
    slot: Arc<Slot>,
    subscription: Subscription,
}

/// The members of a shared subscription.
#[derive(Debug)]
struct Group {
    name: Arc<str>,
    members: Vec<Member>,
    next: usize,
}

impl Group {
    /// The member whose turn it is among those that may have the topic, connected ones first.
    fn take_turn(&mut self, topic: &TopicName) -> Option<&Member> {
        let count = self.members.len();
        let turn = (0..count).map(|step| (self.next + step) % count);
        let turn = turn.filter(|&index| !self.members[index].slot.withheld.holds(topic));
        let connected = turn.clone().find(|&index| self.members[index].slot.session().is_connected());
        let index = connected.or_else(|| turn.clone().next())?;
        self.next = (index + 1) % count;
        self.members.get(index)
    }
}

/// Where a delivery by a shared subscription came from: it goes to another member when this one leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ByGroup {
    pub(super) filter: FilterId,
    pub(super) group: Arc<str>,
    /// The filter's text.
    pub(super) topics: TopicFilter,
}

/// A client that a message is for, and how.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) slot: Arc<Slot>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) ids: Option<Arc<[u32]>>,
    pub(super) by_group: Option<ByGroup>,
}

/// Everyone who subscribes to one filter.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    members: Vec<Member>,
    groups: Vec<Group>,
    /// The last message that came here.
    last: u64,
}

impl Subscribers {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.groups.is_empty()
    }

    pub(super) fn join(&mut self, slot: &Arc<Slot>, subscription: Subscription) {
        let group = subscription.group.clone();
        let member = Member { slot: slot.clone(), subscription };
        match group {
            None => self.members.push(member),
            Some(name) => match self.groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.members.push(member),
                None => self.groups.push(Group { name, members: vec![member], next: 0 }),
            },
        }
    }

    pub(super) fn leave(&mut self, slot: &Slot, group: Option<&Arc<str>>) {
        match group {
            None => self.members.retain(|member| member.slot.key != slot.key),
            Some(name) => {
                for group in self.groups.iter_mut().filter(|group| group.name == *name) {
                    group.members.retain(|member| member.slot.key != slot.key);
                }
                self.groups.retain(|group| !group.members.is_empty());
            }
        }
    }

    /// Adds those a message is for.
    pub(super) fn aim(&mut self, filter: FilterId, envelope: &Envelope, targets: &mut Vec<Target>) {
        // rumqttd's router may read a filter twice over after it was taken out and put in again; its log is in order, so a number that is not
        // higher has been here.
        if envelope.number <= self.last {
            return;
        }
        self.last = envelope.number;
        let topic = &envelope.message.topic;
        for member in self.members.iter().filter(|member| !member.slot.withheld.holds(topic)) {
            aim(targets, envelope, member, None);
        }
        for group in &mut self.groups {
            let name = group.name.clone();
            if let Some(member) = group.take_turn(topic) {
                let by_group = ByGroup { filter, group: name, topics: member.subscription.filter.clone() };
                aim(targets, envelope, member, Some(by_group));
            }
        }
    }

    /// The member of a group that takes over what another one left of a topic, and its QoS.
    pub(super) fn heir(&mut self, group: &Arc<str>, topic: &TopicName) -> Option<(Arc<Slot>, Qos)> {
        let group = self.groups.iter_mut().find(|other| other.name == *group)?;
        group.take_turn(topic).map(|member| (member.slot.clone(), member.subscription.qos))
    }
}

/// Adds a subscriber to the targets, or joins the subscription to the one that already brings it the message [MQTT-3.3.4-2].
fn aim(targets: &mut Vec<Target>, envelope: &Envelope, member: &Member, by_group: Option<ByGroup>) {
    let subscription = &member.subscription;
    if (subscription.no_local && member.slot.key == envelope.sender) || envelope.number <= subscription.since {
        return;
    }
    let qos = envelope.message.qos.min(subscription.qos);
    let retain = envelope.message.retain && subscription.retain_as_published;
    let place = member.slot.place.load(Ordering::Relaxed);
    if member.slot.marked.swap(envelope.number, Ordering::Relaxed) == envelope.number
        && let Some(target) = targets.get_mut(place).filter(|target| target.slot.key == member.slot.key)
    {
        target.qos = target.qos.max(qos);
        target.retain |= retain;
        if let Some(id) = subscription.identifier {
            let mut ids = target.ids.as_deref().unwrap_or_default().to_vec();
            ids.push(id);
            target.ids = Some(ids.into());
        }
        return;
    }
    member.slot.place.store(targets.len(), Ordering::Relaxed);
    let ids = subscription.identifier.map(|id| Arc::from([id]));
    targets.push(Target { slot: member.slot.clone(), qos, retain, ids, by_group });
}

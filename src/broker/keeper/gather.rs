//! What of the sessions is to be written next: their changes, each row in its last state. What comes and goes between two commits leaves nothing.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;

use super::super::journal::{About, Entry, Op, Sent, Stub};
use super::super::promise::Broken;
use super::super::session::{Delivery, Hunger, Subscription};
use crate::clock::Clock;
use crate::model::{Message, Moment, TopicFilter};

/// A session's row; `None` when it is over.
type SessionState = Option<(About, Option<i64>)>;

/// A row of a queue.
#[derive(Debug)]
pub(super) enum Place {
    /// It is not on disk yet, or has to be there again.
    New { body: Option<i64>, delivery: Option<Delivery>, sent: Option<Sent>, stub: Option<Stub> },
    /// It is there, and is sent under another packet id, or the client has it.
    Sent { sent: Sent, released: bool },
    /// It goes.
    Gone,
}

/// A message's row.
#[derive(Debug)]
pub(super) enum Body {
    Put { message: Arc<Message>, expires_ms: Option<i64> },
    Gone,
}

/// `None` when it has ended; else with how far its retained messages are on their way.
pub(super) type SubscriptionState = Option<(Subscription, Option<Hunger>)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) sessions: BTreeMap<i64, SessionState>,
    pub(super) subscriptions: BTreeMap<(i64, TopicFilter), SubscriptionState>,
    pub(super) places: BTreeMap<(i64, i64), Place>,
    pub(super) bodies: BTreeMap<i64, Body>,
    /// Whether the packet id is held.
    pub(super) received: BTreeMap<(i64, u16), bool>,
    /// Who waits for any of it, but for a new row of a queue.
    pub(super) stubs: Vec<Stub>,
    /// Connections that go on when it is written.
    pub(super) wakes: Vec<Arc<Notify>>,
    /// How many wait.
    pub(super) waiting: usize,
    /// Sessions of which nothing that the file holds is to stay.
    pub(super) wiped: BTreeSet<i64>,
}

/// The messages that wait in queues on disk: each once.
#[derive(Debug)]
pub(super) struct Bodies {
    by_message: HashMap<usize, Known>,
    next: i64,
}

#[derive(Debug)]
struct Known {
    id: i64,
    /// In so many queues.
    queues: usize,
    /// Keeps the place in memory from becoming another message's.
    _message: Arc<Message>,
}

fn key(message: &Arc<Message>) -> usize {
    Arc::as_ptr(message) as usize
}

impl Bodies {
    pub(super) fn from(first: i64) -> Self {
        Self { by_message: HashMap::new(), next: first }
    }

    /// A message that is on disk waits in so many queues.
    pub(super) fn restore(&mut self, id: i64, message: &Arc<Message>, queues: usize) {
        self.by_message.insert(key(message), Known { id, queues, _message: message.clone() });
    }

    fn hold(&mut self, message: &Arc<Message>) -> (i64, bool) {
        let next = self.next;
        let known = self.by_message.entry(key(message)).or_insert_with(|| Known {
            id: next,
            queues: 0,
            _message: message.clone(),
        });
        known.queues += 1;
        let is_new = known.queues == 1;
        if known.id == next {
            self.next += 1;
        }
        (known.id, is_new)
    }

    fn find(&self, message: &Arc<Message>) -> Option<i64> {
        self.by_message.get(&key(message)).map(|known| known.id)
    }

    /// It waits in one queue less. Its number, if that was the last.
    fn let_go(&mut self, message: &Arc<Message>) -> Option<i64> {
        let known = self.by_message.get_mut(&key(message))?;
        known.queues -= 1;
        if known.queues > 0 {
            return None;
        }
        self.by_message.remove(&key(message)).map(|known| known.id)
    }
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.subscriptions.is_empty()
            && self.places.is_empty()
            && self.bodies.is_empty()
            && self.received.is_empty()
            && self.stubs.is_empty()
            && self.wiped.is_empty()
    }

    /// All of it is on disk.
    pub(super) fn written(self) {
        let rows = self.places.into_values().filter_map(|place| match place {
            Place::New { stub, .. } => stub,
            Place::Sent { .. } | Place::Gone => None,
        });
        for stub in self.stubs.into_iter().chain(rows) {
            stub.settle(Ok(()));
        }
        self.wakes.iter().for_each(|wake| wake.notify_one());
    }

    /// Lays down a change of this session.
    pub(super) fn lay(&mut self, session: i64, entry: Entry, bodies: &mut Bodies, clock: &dyn Clock) {
        let Entry { op, stub, .. } = entry;
        self.waiting += usize::from(stub.is_some());
        let stub = match op {
            Op::Queued(delivery) => {
                let (body, is_new) = bodies.hold(&delivery.message);
                if is_new {
                    self.put_body(body, &delivery, clock);
                }
                let row = delivery.row;
                let place = Place::New { body: Some(body), delivery: Some(delivery), sent: None, stub };
                self.places.insert((session, row), place);
                return;
            }
            Op::Again { row, delivery, sent } => {
                let body = delivery.as_ref().and_then(|delivery| bodies.find(&delivery.message));
                if let (Some(body), Some(delivery)) = (body, &delivery) {
                    self.put_body(body, delivery, clock);
                }
                let stub = match self.places.remove(&(session, row)) {
                    Some(Place::New { stub, .. }) => stub,
                    _ => None,
                };
                self.places.insert((session, row), Place::New { body, delivery, sent, stub });
                return;
            }
            Op::Sent(row, sent) => {
                self.send(session, row, sent, false);
                stub
            }
            Op::Released(row, sent, message) => {
                self.send(session, row, sent, true);
                self.let_go(message.as_ref(), bodies);
                stub
            }
            Op::Gone(row, message) => {
                self.go(session, row);
                self.let_go(message.as_ref(), bodies);
                stub
            }
            Op::Left(row, message) => {
                let kept = match self.places.get_mut(&(session, row)) {
                    Some(Place::New { stub, .. }) => stub.take(),
                    _ => None,
                };
                self.stubs.extend(kept);
                self.go(session, row);
                self.let_go(Some(&message), bodies);
                stub
            }
            Op::Session { about, left } => {
                let wall = clock.wall();
                let left_ms = (left && wall.synced).then_some(wall.unix_ms);
                self.sessions.insert(session, Some((about, left_ms)));
                stub
            }
            Op::End => {
                self.end(session);
                stub
            }
            Op::Subscribed { asked, subscription, hungry } => {
                self.subscriptions.insert((session, asked), Some((subscription, hungry)));
                stub
            }
            Op::Unsubscribed(asked) => {
                self.subscriptions.insert((session, asked), None);
                stub
            }
            Op::Received(id) => {
                self.received.insert((session, id), true);
                stub
            }
            Op::Forgotten(id) => {
                self.received.insert((session, id), false);
                stub
            }
        };
        self.stubs.extend(stub);
    }

    fn put_body(&mut self, id: i64, delivery: &Delivery, clock: &dyn Clock) {
        let message = delivery.message.clone();
        let expires_ms = delivery.expires.and_then(|expires| wall_at(expires, clock));
        self.bodies.insert(id, Body::Put { message, expires_ms });
    }

    pub(super) fn let_go(&mut self, message: Option<&Arc<Message>>, bodies: &mut Bodies) {
        let Some(id) = message.and_then(|message| bodies.let_go(message)) else { return };
        match self.bodies.entry(id) {
            // It never was on disk.
            Slot::Occupied(occupied) if matches!(occupied.get(), Body::Put { .. }) => drop(occupied.remove()),
            Slot::Occupied(_) => {}
            Slot::Vacant(vacant) => drop(vacant.insert(Body::Gone)),
        }
    }

    fn send(&mut self, session: i64, row: i64, now: Sent, has_it: bool) {
        let place = self.places.entry((session, row)).or_insert(Place::Sent { sent: now, released: false });
        match place {
            Place::New { body, delivery, sent, .. } => {
                *sent = Some(now);
                if has_it {
                    (*body, *delivery) = (None, None);
                }
            }
            Place::Sent { sent, released } => {
                *sent = now;
                *released |= has_it;
            }
            Place::Gone => {}
        }
    }

    fn go(&mut self, session: i64, row: i64) {
        match self.places.insert((session, row), Place::Gone) {
            Some(Place::New { stub, .. }) => {
                // It never was on disk.
                self.places.remove(&(session, row));
                self.settle(stub);
            }
            Some(Place::Sent { .. } | Place::Gone) | None => {}
        }
    }

    /// A change came to nothing: nobody has to wait for it.
    fn settle(&mut self, stub: Option<Stub>) {
        if let Some(stub) = stub {
            self.waiting = self.waiting.saturating_sub(1);
            stub.settle(Ok(()));
        }
    }

    fn end(&mut self, session: i64) {
        self.sessions.insert(session, None);
        self.subscriptions.retain(|(of, _), _| *of != session);
        self.received.retain(|(of, _), _| *of != session);
        self.drop_rows(session);
    }

    fn drop_rows(&mut self, session: i64) {
        let rows: Vec<_> = self.places.range((session, i64::MIN)..=(session, i64::MAX)).map(|(key, _)| *key).collect();
        for key in rows {
            if let Some(Place::New { stub, .. }) = self.places.remove(&key) {
                self.settle(stub);
            }
        }
    }

    /// Nobody waits for any of it any more.
    pub(super) fn break_promises(&mut self, broken: &Broken) {
        let rows = self.places.values_mut().filter_map(|place| match place {
            Place::New { stub, .. } => stub.take(),
            Place::Sent { .. } | Place::Gone => None,
        });
        for stub in self.stubs.drain(..).chain(rows) {
            stub.settle(Err(broken.clone()));
        }
    }

    /// Takes back what was not written, as far as nothing newer was laid down. What is newer goes into what is older, of which there may be much:
    /// publications wait meanwhile. With `is_certain` nothing of it is on disk, so that what has gone since leaves nothing.
    pub(super) fn put_back(&mut self, back: Self, is_certain: bool) {
        let newer = std::mem::replace(self, back);
        self.waiting = newer.waiting;
        let ended = newer.sessions.iter().filter(|(_, state)| state.is_none());
        let ended: BTreeSet<i64> = ended.map(|(id, _)| *id).collect();
        if !ended.is_empty() {
            self.subscriptions.retain(|(of, _), _| !ended.contains(of));
            self.received.retain(|(of, _), _| !ended.contains(of));
            for session in ended {
                self.drop_rows(session);
            }
        }
        self.sessions.extend(newer.sessions);
        self.subscriptions.extend(newer.subscriptions);
        self.received.extend(newer.received);
        for ((session, row), place) in newer.places {
            match place {
                Place::Sent { sent, released } => self.send(session, row, sent, released),
                Place::Gone => match self.places.remove(&(session, row)) {
                    Some(Place::New { stub, .. }) if is_certain => self.stubs.extend(stub),
                    other => {
                        if let Some(Place::New { stub, .. }) = other {
                            self.stubs.extend(stub);
                        }
                        self.places.insert((session, row), Place::Gone);
                    }
                },
                Place::New { .. } => {
                    if let Some(Place::New { stub, .. }) = self.places.insert((session, row), place) {
                        self.stubs.extend(stub);
                    }
                }
            }
        }
        for (id, body) in newer.bodies {
            match (self.bodies.remove(&id), body) {
                (Some(Body::Put { .. }), Body::Gone) if is_certain => {}
                (_, body) => drop(self.bodies.insert(id, body)),
            }
        }
        self.stubs.extend(newer.stubs);
        self.wakes.extend(newer.wakes);
        // While nothing can be written, connections come and go.
        self.wakes.retain(|wake| Arc::strong_count(wake) > 1);
        self.wakes.sort_by_key(Arc::as_ptr);
        self.wakes.dedup_by(|one, other| Arc::ptr_eq(one, other));
        self.wiped.extend(newer.wiped);
    }
}

/// What the wall clock shows at a moment to come, if it is set.
pub(super) fn wall_at(moment: Moment, clock: &dyn Clock) -> Option<i64> {
    let wall = clock.wall();
    let left_ms = i64::try_from((moment - clock.now()).as_millis()).unwrap_or(i64::MAX);
    wall.synced.then(|| wall.unix_ms.saturating_add(left_ms))
}

#[cfg(test)]
mod tests;

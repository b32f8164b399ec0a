//! What a file tells of the life before: retained messages, and sessions with all that waits in them.
//!
//! Times are honest on a board whose clock is not set: what was left by a clock that was not, or is read by one that is not, begins anew. Nothing
//! ends too early, and on a board that never knows the time a session may never end at all.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{new_id, tell_quarantine};
use crate::broker::conversation::subscribing::take_apart;
use crate::broker::journal::{About, Sent};
use crate::broker::session::{Delivery, Found, Hunger, Subscription};
use crate::broker::subscribers::ByGroup;
use crate::clock::Clock;
use crate::health::Pulse;
use crate::model::{GatewayId, Message, Moment, Origin, TopicName};
use crate::mqtt::properties;
use crate::store::{
    BodyRow, QueuedRow, RetainedChange, RetainedRow, SessionChange, SessionRow, Sessions, StoreError, SubscriptionRow,
};

/// A retained message as it was found on disk.
#[derive(Debug, Clone)]
pub(in crate::broker) struct FoundRetained {
    pub(in crate::broker) message: Arc<Message>,
    pub(in crate::broker) expires: Option<Moment>,
}

/// Number, message, in how many queues.
pub(super) type FoundBody = (i64, Arc<Message>, usize);

/// All that a file holds.
#[derive(Debug, Default)]
pub(in crate::broker) struct Past {
    pub(in crate::broker) retained: Vec<FoundRetained>,
    /// Of two of one client, which no file should hold, the one that was there last comes first.
    pub(in crate::broker) sessions: Vec<Found>,
    /// The messages that wait in their queues: number, message, in how many.
    pub(super) bodies: Vec<FoundBody>,
    pub(super) stale: Stale,
    /// The last era in which packet ids became free.
    pub(in crate::broker) era: Option<i64>,
}

/// What a file holds for nobody.
#[derive(Debug, Default)]
pub(super) struct Stale {
    topics: Vec<String>,
    rows: Vec<SessionChange<'static>>,
}

impl Stale {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.rows.is_empty()
    }

    /// What takes it out of the file. A commit that does more begins with this.
    pub(super) fn retained(&self) -> impl Iterator<Item = RetainedChange<'_>> {
        self.topics.iter().map(|topic| RetainedChange::Clear(topic))
    }

    #[allow(clippy::map_clone)] // `copied` keeps the longer lifetime, which does not fit what is chained behind it
    pub(super) fn sessions<'s>(&'s self) -> impl Iterator<Item = SessionChange<'s>> {
        self.rows.iter().map(|row| -> SessionChange<'s> { *row })
    }
}

/// Opens the file and reads it. A damaged one is moved away, and a new one begun. What has expired is taken out of it, if the disk takes that: a
/// full one must not cost what is in the file.
pub(super) fn read(path: &Path, clock: &dyn Clock, pulse: &Pulse) -> Result<(Sessions, Past), StoreError> {
    let (mut store, opened) = Sessions::open(path)?;
    tell_quarantine(&opened, path);
    let mut reader = Reader { clock, pulse, sessions: HashMap::new(), bodies: HashMap::new(), gone: Vec::new() };
    let mut topics = Vec::new();
    let found = retained(&store, clock, pulse, &mut topics);
    match found.and_then(|retained| Ok((retained, reader.read(&store)?, store.era()?))) {
        Ok((retained, (), era)) => {
            let (sessions, bodies) = reader.finish();
            let mut stale = Stale { topics, rows: reader.gone };
            if !stale.is_empty() {
                match store.write(stale.retained(), stale.sessions()) {
                    Ok(()) => stale = Stale::default(),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "what has expired cannot be taken out of the store yet");
                    }
                }
            }
            let era = era.or_else(|| first_era(&mut store));
            Ok((store, Past { retained, sessions, bodies, stale, era }))
        }
        Err(error) if error.is_damage() => {
            let (store, opened) = store.quarantine(error.to_string())?;
            tell_quarantine(&opened, path);
            Ok((store, Past::default()))
        }
        Err(error) => Err(error),
    }
}

/// A file that tells of no era begins with one that no bridge knows: what is noted before the next is written down then counts from the first message on.
fn first_era(store: &mut Sessions) -> Option<i64> {
    let era = new_id();
    // A disk that takes nothing is met again, and told of, with the first commit.
    store.write([], [SessionChange::Era(era)]).ok().map(|()| era)
}

fn retained(
    store: &Sessions,
    clock: &dyn Clock,
    pulse: &Pulse,
    stale: &mut Vec<String>,
) -> Result<Vec<FoundRetained>, StoreError> {
    let mut found = Vec::new();
    store.each_retained(|row| {
        // A card may be slow, and there may be much of it.
        pulse.beat(clock.now());
        match restore_retained(&row, clock) {
            Some(message) => found.push(message),
            None => stale.push(row.topic.to_owned()),
        }
    })?;
    Ok(found)
}

/// `None` for a message that has expired, or that no broker could have written.
pub(super) fn restore_retained(row: &RetainedRow<'_>, clock: &dyn Clock) -> Option<FoundRetained> {
    let topic = TopicName::parse(row.topic).ok()?;
    let properties = match row.properties {
        Some(block) => Some(Arc::new(properties::decode(block).ok()?.0.message)),
        None => None,
    };
    let life = properties.as_ref().and_then(|properties| properties.expiry_s).map(|s| Duration::from_secs(s.into()));
    let expires = match life {
        Some(life) => Some(clock.now() + until(row.expires_ms, life, clock)?),
        None => None,
    };
    let message = Message { properties, ..Message::new(topic, row.payload, row.qos, true, Origin::Seed) };
    Some(FoundRetained { message: Arc::new(message), expires })
}

/// A message that waits.
struct Waiting {
    message: Arc<Message>,
    expires: Option<Moment>,
    /// It has expired: what has begun to be sent goes on [MQTT-4.4.0-1], and nothing else has it.
    is_over: bool,
    queues: usize,
}

struct Reader<'c> {
    clock: &'c dyn Clock,
    pulse: &'c Pulse,
    sessions: HashMap<i64, Found>,
    bodies: HashMap<i64, Waiting>,
    /// What is in the file for nobody.
    gone: Vec<SessionChange<'static>>,
}

impl Reader<'_> {
    fn read(&mut self, store: &Sessions) -> Result<(), StoreError> {
        store.each_session(|row| self.session(&row))?;
        store.each_subscription(|row| self.subscription(&row))?;
        store.each_body(|row| self.body(&row))?;
        store.each_queued(|row| self.queued(&row))?;
        store.each_received(|session, id| {
            if let Some(found) = self.sessions.get_mut(&session) {
                found.received.push(id);
            }
        })
    }

    fn session(&mut self, row: &SessionRow<'_>) {
        let left = time_left(row.expiry_s, row.left_ms, self.clock);
        let about = About {
            client: row.client.into(),
            user: row.user.map(str::to_owned),
            peer: row.peer.and_then(|peer| GatewayId::parse(peer).ok()),
            expiry_s: row.expiry_s,
        };
        let found = Found {
            id: row.id,
            about,
            left_ms: row.left_ms,
            left,
            subscriptions: Vec::new(),
            wire: Vec::new(),
            queue: Vec::new(),
            last_row: 0,
            received: Vec::new(),
        };
        self.sessions.insert(row.id, found);
    }

    fn subscription(&mut self, row: &SubscriptionRow<'_>) {
        let (Some(found), Some(asked)) = (self.sessions.get_mut(&row.session), take_apart(row.asked)) else { return };
        let subscription = Subscription {
            filter: asked.filter,
            group: asked.group,
            qos: row.qos,
            no_local: row.no_local,
            retain_as_published: row.retain_as_published,
            identifier: row.identifier,
            since: 0,
        };
        let after = row.after.and_then(|topic| TopicName::parse(topic).ok());
        found.subscriptions.push((asked.whole, subscription, row.hungry.then_some(Hunger { after })));
    }

    fn body(&mut self, row: &BodyRow<'_>) {
        self.pulse.beat(self.clock.now());
        let known = TopicName::parse(row.topic).ok().and_then(|topic| {
            let properties = match row.properties {
                Some(block) => Some(Arc::new(properties::decode(block).ok()?.0.message)),
                None => None,
            };
            let life_s = properties.as_ref().and_then(|properties| properties.expiry_s);
            let left = life_s.map(|life_s| until(row.expires_ms, Duration::from_secs(life_s.into()), self.clock));
            let expires = left.map(|left| self.clock.now() + left.unwrap_or_default());
            let is_over = left == Some(None);
            let message = Message { properties, ..Message::new(topic, row.payload, row.qos, row.retain, Origin::Seed) };
            Some(Waiting { message: Arc::new(message), expires, is_over, queues: 0 })
        });
        match known {
            Some(waiting) => drop(self.bodies.insert(row.id, waiting)),
            // Nothing that could be sent. The places in queues that it had go with it.
            None => self.gone.push(SessionChange::BodyGone(row.id)),
        }
    }

    fn queued(&mut self, row: &QueuedRow<'_>) {
        self.pulse.beat(self.clock.now());
        let Some(found) = self.sessions.get_mut(&row.session) else { return };
        found.last_row = found.last_row.max(row.row);
        let sent = row.sent.map(|sent| Sent { packet_id: sent.packet_id, turn: sent.turn });
        let Some(body) = row.body else {
            // The client has it, and waits for the PUBREL.
            match sent {
                Some(sent) => found.wire.push((row.row, None, sent)),
                None => self.gone.push(SessionChange::Gone(row.session, row.row)),
            }
            return;
        };
        let Some(waiting) = self.bodies.get_mut(&body).filter(|waiting| sent.is_some() || !waiting.is_over) else {
            self.gone.push(SessionChange::Gone(row.session, row.row));
            return;
        };
        waiting.queues += 1;
        let ids = row.ids.map(|ids| {
            ids.chunks_exact(4).filter_map(|id| id.try_into().ok()).map(u32::from_be_bytes).collect::<Arc<[u32]>>()
        });
        let by_group = row.share.and_then(take_apart).and_then(|asked| {
            // The filter's number is found when its subscribers are there.
            Some(ByGroup { filter: 0, group: asked.group?, topics: asked.filter })
        });
        let delivery = Delivery {
            message: waiting.message.clone(),
            qos: row.qos,
            retain: row.retain,
            expires: waiting.expires,
            subscription_ids: ids,
            by_group,
            row: row.row,
            weight: None,
        };
        match sent {
            Some(sent) => found.wire.push((row.row, Some(delivery), sent)),
            None => found.queue.push(delivery),
        }
    }

    fn finish(&mut self) -> (Vec<Found>, Vec<FoundBody>) {
        let gone = self.bodies.iter().filter(|(_, waiting)| waiting.queues == 0);
        self.gone.extend(gone.map(|(id, _)| SessionChange::BodyGone(*id)));
        let bodies = self.bodies.drain().filter(|(_, waiting)| waiting.queues > 0);
        let bodies = bodies.map(|(id, waiting)| (id, waiting.message, waiting.queues)).collect();
        let mut sessions: Vec<Found> = self.sessions.drain().map(|(_, found)| found).collect();
        for found in &mut sessions {
            found.wire.sort_by_key(|(_, _, sent)| sent.turn);
        }
        // One without a date had its connection to the end.
        sessions.sort_by_key(|found| (Reverse(found.left_ms.unwrap_or(i64::MAX)), found.id));
        (sessions, bodies)
    }
}

/// What is left of a session's time; `None` for ever, zero when it is over.
fn time_left(expiry_s: u32, left_ms: Option<i64>, clock: &dyn Clock) -> Option<Duration> {
    if expiry_s == u32::MAX {
        return None;
    }
    let life = Duration::from_secs(expiry_s.into());
    let ends_ms = left_ms.map(|left_ms| left_ms.saturating_add(i64::from(expiry_s) * 1_000));
    Some(until(ends_ms, life, clock).unwrap_or_default())
}

/// What is left of a life that ends then by the wall clock; all of it where that is not known, `None` where nothing is. A clock that is not set ends nothing:
/// it may show any year.
fn until(ends_ms: Option<i64>, life: Duration, clock: &dyn Clock) -> Option<Duration> {
    let wall = clock.wall();
    let Some(ends_ms) = ends_ms.filter(|_| wall.synced) else { return Some(life).filter(|life| !life.is_zero()) };
    let left_ms = u64::try_from(ends_ms.saturating_sub(wall.unix_ms)).ok().filter(|ms| *ms > 0)?;
    Some(Duration::from_millis(left_ms).min(life))
}

#[cfg(test)]
mod tests;

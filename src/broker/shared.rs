//! What all connections of one broker share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::door::{Door, Guests};
use super::journal::Receipt;
use super::keeper::{Home, Keeper, Past, Urgency};
use super::promise::{Pending, both};
use super::queue::Room;
use super::settings::Settings;
use super::subscribers::Slot;
use crate::clock::Clock;
use crate::limits;
use crate::logic::marks;
use crate::model::{GatewayId, Message, Moment, Origin, Qos};
use crate::mqtt::tls_server::TlsServer;
use crate::ports::{LocalBus, Uplink};

/// What a reload changes.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) settings: Settings,
    pub(super) guests: Arc<Guests>,
    /// What TLS is spoken with, where it is.
    pub(super) tls: Option<Arc<TlsServer>>,
    /// Rises with every reload.
    pub(super) revision: u64,
}

/// Bytes and packets, read by `$SYS`.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) messages_received: AtomicU64,
    pub(super) messages_sent: AtomicU64,
    pub(super) publish_received: AtomicU64,
    pub(super) publish_sent: AtomicU64,
    pub(super) sockets_opened: AtomicU64,
    /// CONNECT packets.
    pub(super) connects: AtomicU64,
    /// Payloads of the messages received and sent.
    pub(super) publish_bytes_received: AtomicU64,
    pub(super) publish_bytes_sent: AtomicU64,
}

/// Who is to have a message.
enum Reach {
    /// Every subscriber, but for the sender's own "no local" ones.
    All {
        /// Key of the sender.
        sender: u64,
    },
    /// Nobody any more.
    Told {
        /// When they were told its copy.
        at: Moment,
    },
}

/// What one client's queue may hold.
pub(super) fn room(settings: &Settings) -> Room {
    let bytes = usize::try_from(settings.max_queued_bytes).unwrap_or(usize::MAX);
    Room { messages: settings.max_queued, bytes }
}

/// A QoS 2 message: whose it is, and under which packet id it is held.
#[derive(Clone, Copy)]
pub(super) struct Exchange<'a> {
    pub(super) slot: &'a Slot,
    pub(super) packet_id: u16,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// See the module.
pub(super) struct Shared {
    core: Mutex<Core>,
    pub(super) uplink: Arc<dyn Uplink>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) door: Door,
    pub(super) traffic: Traffic,
    pub(super) keeper: Keeper,
    live: RwLock<Arc<Live>>,
    revision: AtomicU64,
    told: Mutex<HashSet<(Arc<str>, &'static str)>>,
    /// Says goodbye to the clients.
    pub(super) stopping: CancellationToken,
    /// Cuts the connections.
    pub(super) killed: CancellationToken,
    /// A will or a session's end has got a time.
    pub(super) due_changed: Notify,
    /// A reload may have changed how often the counters are told.
    pub(super) settings_changed: Notify,
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        tls: Option<Arc<TlsServer>>,
        core: Core,
        keeper: Keeper,
        uplink: Arc<dyn Uplink>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let guests = Arc::new(Guests::new(&settings));
        Arc::new(Self {
            core: Mutex::new(core),
            uplink,
            clock,
            door: Door::new(),
            traffic: Traffic::default(),
            keeper,
            live: RwLock::new(Arc::new(Live { settings, guests, tls, revision: 0 })),
            revision: AtomicU64::new(0),
            told: Mutex::default(),
            stopping: CancellationToken::new(),
            killed: CancellationToken::new(),
            due_changed: Notify::new(),
            settings_changed: Notify::new(),
        })
    }

    /// Locks the core. It stays whole across a panic: what a connection's task was doing ends with that connection.
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, while these settings are in force; `None` once they are not. A client that was let in by what a reload has changed meanwhile comes
    /// behind everything that the reload took away.
    pub(super) fn core_under(&self, live: &Live) -> Option<MutexGuard<'_, Core>> {
        let core = self.core();
        (self.revision() == live.revision).then_some(core)
    }

    pub(super) fn live(&self) -> Arc<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Puts new settings in force; connections find out when they are woken. Under the core's lock, so that no subscription is made by the
    /// permissions of before once those are over.
    pub(super) fn put_live(&self, settings: Settings, tls: Option<Arc<TlsServer>>) {
        let guests = Arc::new(Guests::new(&settings));
        let mut core = self.core();
        let revision = self.revision() + 1;
        let live = Arc::new(Live { settings, guests, tls, revision });
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live.clone();
        self.revision.store(revision, Ordering::Release);
        self.settings_changed.notify_one();
        core.retained.set_bytes_max(live.settings.max_retained_bytes);
        core.set_queued_bytes_max(live.settings.max_queued_bytes_total);
        core.withdraw(&live.guests, self.clock.now());
        self.due_changed.notify_one();
        for slot in core.slots() {
            let mut session = slot.session();
            session.set_room(room(&live.settings));
            session.wake();
        }
    }

    /// Whether this is said of this client for the first time.
    pub(super) fn is_first(&self, client: &Arc<str>, what: &'static str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= limits::TOLD_ONCE_MAX {
            told.clear();
        }
        told.insert((client.clone(), what))
    }

    /// Whether this is the gateway whose broker it is.
    pub(super) fn is_us(&self, gateway: &GatewayId) -> bool {
        self.live().settings.gateway.as_ref() == Some(gateway)
    }

    /// Whether a bridge of this gateway has sent the message up before.
    pub(super) fn went_through_us(&self, message: &Message) -> bool {
        let live = self.live();
        live.settings.gateway.as_ref().is_some_and(|us| marks::went_through(message.properties.as_deref(), us.as_str()))
    }

    /// Routes a message. Returns what its acknowledgement waits for as far as this broker's own store is concerned: a place in the queue of
    /// everyone who is to have it, and in the retained set. Where it is of QoS 2, its packet id is noted in the same commit.
    pub(super) fn publish(
        &self,
        sender: u64,
        message: &Arc<Message>,
        urgency: Urgency,
        exchange: Option<Exchange<'_>>,
    ) -> Option<Pending> {
        self.route(&Reach::All { sender }, message, urgency, exchange)
    }

    /// The same for one that all subscribers have had at that moment: not as a retained one, maybe, since 3.1.1 does not say so of what is fetched.
    /// What its topic was given since stays.
    pub(super) fn retain(
        &self,
        message: &Arc<Message>,
        told: Moment,
        urgency: Urgency,
        exchange: Option<Exchange<'_>>,
    ) -> Option<Pending> {
        self.route(&Reach::Told { at: told }, message, urgency, exchange)
    }

    fn route(
        &self,
        reach: &Reach,
        message: &Arc<Message>,
        urgency: Urgency,
        exchange: Option<Exchange<'_>>,
    ) -> Option<Pending> {
        let now = self.clock.now();
        // What clears a topic may always do so.
        let is_kept = !message.retain || message.payload.is_empty() || self.uplink.keeps(&message.topic);
        let unkept = (!is_kept).then(|| Arc::new(Message { retain: false, ..Message::clone(message) }));
        let message = unkept.as_ref().unwrap_or(message);
        let mut receipt = Receipt::new(urgency);
        let mut core = self.core();
        let hold = self.keeper.hold();
        let outcome = match *reach {
            Reach::All { sender } => core.publish(sender, message.clone(), now, &mut receipt).retained,
            Reach::Told { at } => core.retain(0, message.clone(), Some(at), now).1,
        };
        if let Some(Exchange { slot, packet_id }) = exchange {
            slot.session().note_received(packet_id, &mut receipt);
        }
        // Noted under the lock, so that the store sees the messages of a topic in the order its subscribers do.
        let kept = outcome.and_then(|outcome| self.keeper.note(message, outcome, urgency));
        drop(hold);
        both(receipt.pending(), kept)
    }

    /// Notes a message again whose first notes were not kept. Its subscribers have it.
    pub(super) fn keep_again(&self, message: &Arc<Message>, urgency: Urgency) -> Option<Pending> {
        let core = self.core();
        let outcome = message.retain.then(|| core.retained.outcome(message));
        let kept = outcome.and_then(|outcome| self.keeper.note(message, outcome, urgency));
        both(self.keeper.flushed(), kept)
    }

    /// Publishes a will: a client's message like any other, which nobody waits for.
    pub(super) fn publish_will(&self, message: &Arc<Message>) {
        if self.went_through_us(message) {
            return;
        }
        let acceptance = self.uplink.accept(message);
        let urgency = if message.qos == Qos::AtMostOnce { Urgency::Soon } else { Urgency::Now };
        let kept = self.publish(0, message, urgency, None);
        tokio::spawn(async move {
            if let Some(acceptance) = acceptance
                && let Err(error) = acceptance.await
            {
                tracing::warn!(%error, "a will is not taken by a bridge");
            }
            if let Some(kept) = kept {
                // A failure to keep it is the keeper's to tell.
                let _ = kept.await;
            }
        });
    }
}

impl LocalBus for Shared {
    fn deliver(&self, message: Arc<Message>) {
        let urgency = match message.origin {
            Origin::Seed => Urgency::Never,
            // The cloud is acknowledged and does not say it again; a sensor does.
            Origin::Bridge(_) if message.qos == Qos::AtMostOnce => Urgency::Soon,
            Origin::Bridge(_) => Urgency::Next,
            Origin::Sensor | Origin::Gateway | Origin::Client => Urgency::Lazy,
        };
        self.publish(0, &message, urgency, None);
    }
}

/// The way back from the keeper's thread.
pub(super) struct AtHome(pub(super) Weak<Shared>);

impl Home for AtHome {
    fn adopt(&self, mut past: Past) {
        if let Some(shared) = self.0.upgrade() {
            let mut core = shared.core();
            // Under the lock under which a reload puts others in force.
            let live = shared.live();
            for found in past.retained.drain(..) {
                // What is known of a topic by now is newer.
                if !core.retained.has(&found.message.topic) && !shared.keeper.is_noted(&found.message.topic) {
                    core.retained.restore(found.message, found.expires);
                }
            }
            core.adopt(past, room(&live.settings), &live.guests, shared.clock.now());
            drop(core);
            shared.due_changed.notify_one();
        }
    }

    fn say_again(&self) {
        if let Some(shared) = self.0.upgrade() {
            let core = shared.core();
            core.say_again();
            core.retained.each(shared.clock.now(), |message, expires| shared.keeper.remind(message, expires));
        }
    }
}

//! The bridge to the cloud: one engine thread a bridge, which owns its connection and its store.
//!
//! - `intake` is where messages come in, on whatever thread they come from; `rules` says which, and under which topic; `held` is what the local broker says
//!   of QoS 2 messages that are half handed over to it
//! - `engine` is the thread's loop (its socket is `mqtt::link`), `state` and `words` what it tells, `supervisor` what starts it again after a panic
//! - `presets` are the clouds that are known, as data
//! - `signers` make user name and password where they are made of a key
//! - `probe` walks the way to the cloud once, for a person, and `hints` says what to do where it ends
//! - `core` is the engine without its socket: store, handshakes, decisions

mod core;
#[cfg(test)]
mod dialing_tests;
mod engine;
mod held;
mod hints;
mod intake;
pub mod presets;
pub mod probe;
pub mod rules;
pub mod settings;
pub mod signers;
mod state;
mod supervisor;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use self::core::Core;
use self::intake::Shared;
use self::supervisor::Parts;
use crate::clock::Clock;
use crate::health::{Health, Supervised};
use crate::limits::PULSE_LIMIT_DISK;
use crate::model::chore::Chore;
use crate::model::{Era, ExchangeId, Message, Timestamp};
use crate::ports::{Acceptance, ChoreDone, Publish, Uplink};
use crate::store::{Condition, StoreError};
pub use settings::{
    Auth, CloudLimits, CloudUrl, Durability, Full, InRule, OnSessionLoss, OutRule, OutboxSettings, Reconnect, Settings,
    Share, Tls, TopicTemplate, VersionChoice,
};

/// Why a bridge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The store is another process's.
    #[error("bridge `{bridge}`: open the store: {error}")]
    Store {
        /// The bridge's id.
        bridge: String,
        /// What went wrong.
        error: StoreError,
    },
    /// The system gives no thread.
    #[error("bridge `{bridge}`: start its thread: {error}")]
    Thread {
        /// The bridge's id.
        bridge: String,
        /// What the kernel said.
        error: std::io::Error,
    },
}

impl BridgeError {
    /// Whether reading or writing failed; else something it needs is not to be had, mostly because another process has it.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Store { error, .. } if !error.is_in_use())
    }
}

/// Life of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected; the reason says why.
    Offline,
    /// An attempt is under way.
    Connecting,
    /// Connected, subscribed, delivering.
    Online,
}

impl LinkState {
    /// The word in `bridge/<id>`.
    pub fn word(self) -> &'static str {
        match self {
            LinkState::Offline => "offline",
            LinkState::Connecting => "connecting",
            LinkState::Online => "online",
        }
    }
}

/// What is counted of a bridge's store since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreFigures {
    /// Transactions that were committed.
    pub commits: u64,
    /// Times it could not be written, however long each lasted.
    pub faults: u64,
    /// Damaged files that were set aside.
    pub quarantined: u64,
    /// Records that were brought over from them.
    pub salvaged: u64,
    /// Times the cloud forgot the session while messages of it were in flight.
    pub sessions_lost: u64,
}

/// What a bridge says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Life of the link.
    pub state: LinkState,
    /// Since when.
    pub since: Timestamp,
    /// Why it is not online; `None` when it is.
    pub reason: Option<String>,
    /// Records waiting, in flight included; at least so many while `counting`.
    pub queued: u64,
    /// After a crash a large store is counted bit by bit.
    pub counting: bool,
    /// Letters that the cloud will never take, kept for a person.
    pub dead: u64,
    /// Size of the store, bytes.
    pub bytes: u64,
    /// Records the cloud acknowledged since start.
    pub delivered: u64,
    /// Records dropped since start, all causes.
    pub dropped: u64,
    /// The same by cause, as the event `dropped` names them.
    pub causes: Vec<(String, u64)>,
    /// When the oldest waiting record was accepted.
    pub oldest: Option<Timestamp>,
    /// Time until the queue is empty at the pace of the last seconds; `None` while there is no end in sight.
    pub drain: Option<Duration>,
    /// What its store is fit for.
    pub condition: Condition,
    /// What is counted of its store.
    pub store: StoreFigures,
}

/// Takes messages for one bridge. Cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Shared>);

impl Intake {
    /// Offers a message. `None` when no `out` rule wants it, which costs a look at the rules and nothing else.
    ///
    /// The message is queued before this returns, whatever becomes of the future, and without waiting. A client's acknowledged message is
    /// answered after its commit, or refused; any other is dropped and counted when the queue is full ([`crate::limits::INTAKE_QUEUE`]).
    pub fn accept(&self, message: &Arc<Message>) -> Option<Acceptance> {
        self.0.accept(message)
    }
}

impl Uplink for Intake {
    fn accept(&self, message: &Arc<Message>) -> Option<Acceptance> {
        Intake::accept(self, message)
    }

    fn settled(&self, message: &Arc<Message>) -> Option<Acceptance> {
        self.0.settled(message)
    }

    fn release(&self, exchange: ExchangeId) -> Option<Acceptance> {
        self.0.release(exchange)
    }

    fn session_over(&self, session: i64) {
        self.0.held.session_over(session);
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

/// What may be asked of a bridge from anywhere.
#[derive(Clone)]
pub struct Nudge(Arc<Shared>);

impl Nudge {
    /// Forgets the back-off and tries at once.
    pub fn reconnect_now(&self) {
        self.0.order(|orders| orders.reconnect = true);
    }

    /// Has a piece of work done on the store, by the engine, between two turns.
    pub fn chore(&self, chore: Chore) -> ChoreDone {
        let (answer, done) = oneshot::channel();
        self.0.order(|orders| orders.chores.push((chore, answer)));
        Box::pin(async move { done.await.unwrap_or_else(|_| Err("the bridge is stopping".into())) })
    }
}

/// A running bridge. Dropped without [`Bridge::stop`], its engine ends without a word to the cloud, which then publishes the will.
pub struct Bridge {
    shared: Arc<Shared>,
    status: watch::Receiver<Status>,
    clock: Arc<dyn Clock>,
    /// The engine's place in the book; it ends with the bridge.
    _supervised: Supervised,
}

impl Bridge {
    /// Opens the store and starts the engine thread. Neither an unreachable cloud nor a store that cannot be used is an error.
    ///
    /// # Errors
    /// [`BridgeError`] when another process has the store, or the system gives no thread.
    pub fn start(
        settings: Settings,
        publish: Arc<dyn Publish>,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
    ) -> Result<Self, BridgeError> {
        let settings = Arc::new(settings);
        let core = Core::open(&settings, &*clock)?;
        let shared = Arc::new(Shared::new(Arc::clone(&settings), Arc::clone(&clock)));
        let (sender, status) = watch::channel(Status {
            state: LinkState::Connecting,
            since: clock.wall(),
            reason: None,
            queued: core.queued(),
            counting: !core.is_counted(),
            dead: core.dead(),
            bytes: core.bytes(),
            delivered: 0,
            dropped: 0,
            causes: Vec::new(),
            oldest: core.oldest(),
            drain: None,
            condition: core.condition(),
            store: core.store(),
        });
        let supervised = health.enter(format!("bridge {}", settings.id), PULSE_LIMIT_DISK, clock.now());
        let parts = Parts {
            shared: Arc::clone(&shared),
            publish,
            clock: Arc::clone(&clock),
            status: Arc::new(sender),
            pulse: supervised.pulse(),
        };
        std::thread::Builder::new()
            .name(format!("bridge-{}", settings.id))
            .spawn(move || parts.run(core))
            .map_err(|error| BridgeError::Thread { bridge: settings.id.to_string(), error })?;
        Ok(Self { shared, status, clock, _supervised: supervised })
    }

    /// Where its messages go in.
    pub fn intake(&self) -> Intake {
        Intake(Arc::clone(&self.shared))
    }

    /// What it says of itself, newest value.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Takes new settings: reconnects when it must, keeps store and intake.
    pub fn apply(&self, settings: Settings) {
        self.shared.order(|orders| orders.settings = Some(settings));
    }

    /// Says which era of the local broker it is, before anything of it is offered. Ready once that is written down, or cannot be: then nothing that the store
    /// knows of messages half handed over counts any more.
    pub fn begin_era(&self, era: Era) -> oneshot::Receiver<()> {
        let begun = self.shared.held.begin_era(era);
        self.shared.bell.notify_one();
        begun
    }

    /// Forgets the back-off and tries at once (a person asked, or the network came up).
    pub fn reconnect_now(&self) {
        self.nudge().reconnect_now();
    }

    /// The same, for somebody who does not own the bridge.
    pub fn nudge(&self) -> Nudge {
        Nudge(Arc::clone(&self.shared))
    }

    /// Hands over what it can within the budget, says `offline` at the cloud, commits, closes. What is left stays in the store.
    pub async fn stop(self, budget: Duration) {
        let (done, ended) = oneshot::channel();
        let until = self.clock.now() + budget;
        self.shared.order(|orders| orders.stop = Some((until, done)));
        // The engine ends by itself; a disk that hangs in its last commit must not hang the whole stop.
        let _ = tokio::time::timeout(budget + crate::limits::GOODBYE, ended).await;
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.shared.order(|orders| orders.abandoned = true);
    }
}

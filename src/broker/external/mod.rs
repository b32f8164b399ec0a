//! The gateway as a client of a broker that is already there (`engine = "external"`): the in-process door of the gateway's own broker, with another's
//! behind it.
//!
//! - `session` is what is said and heard, without a socket; `inbound` and `outbound` its two directions
//! - `engine` is the task that carries its bytes; what waits for the broker is a `logic::spool`
//!
//! Promises: a message of QoS 1 or 2 is acknowledged to the broker after every bridge that forwards it has committed it, and a command after it is
//! noted; the session there is persistent under a fixed client id, so that the broker keeps what comes while the gateway is away. Readings go to the
//! bridges without that broker. Not promised: what waits for it, or is on its way to it, when the gateway is killed; and that a message of QoS 2 from
//! it, whose handshake was half done then, is not taken a second time.

mod engine;
mod inbound;
mod outbound;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use self::engine::{Engine, Once};
use super::settings::External;
use crate::clock::Clock;
use crate::health::{Health, Supervised};
use crate::limits::{EXTERNAL_RESTART, PULSE_LIMIT};
use crate::logic::spool::Spool;
use crate::model::overview::{BrokerOverview, ExternalOverview};
use crate::model::{Message, Moment, Timestamp};
use crate::ports::{LocalBus, Uplink};

/// Life of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not connected; the reason says why.
    Offline,
    /// An attempt is under way.
    Connecting,
    /// Connected.
    Online,
}

impl State {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Connecting => "connecting",
            Self::Online => "online",
        }
    }
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Life of the connection.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why it is not online, or what does not work although it is.
    pub reason: Option<String>,
    /// Messages that wait for the broker.
    pub waiting: u64,
    /// Messages that came from it since the start.
    pub received: u64,
    /// Messages that went to it since the start.
    pub sent: u64,
    /// Messages that were dropped since the start: for want of room, or because they were too large.
    pub dropped: u64,
}

/// What the task shares with those who give it something to do.
struct Shared {
    spool: Mutex<Spool>,
    bell: Notify,
    orders: Mutex<Orders>,
    uplink: Arc<dyn Uplink>,
    clock: Arc<dyn Clock>,
    drop_told: Once,
    /// A connection stood in this process.
    was_connected: AtomicBool,
    /// What the session there may be subscribed to, over restarts.
    held: Mutex<BTreeSet<String>>,
    notes: Notes,
}

/// Notes the filters that are subscribed to, one a line, for the next process.
pub type Notes = Box<dyn Fn(String) + Send + Sync>;

struct Orders {
    settings: Arc<External>,
    /// When to have ended.
    stop: Option<Moment>,
}

impl Shared {
    /// It stays whole across a panic: it is changed in one step at a time.
    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Arc<External> {
        Arc::clone(&self.orders().settings)
    }

    fn held(&self) -> BTreeSet<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, held: &BTreeSet<String>) {
        held.clone_into(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner));
        (self.notes)(held.iter().map(String::as_str).collect::<Vec<_>>().join("\n"));
    }

    fn stop_until(&self) -> Option<Moment> {
        self.orders().stop
    }
}

impl LocalBus for Shared {
    fn deliver(&self, message: Arc<Message>) {
        self.spool().push(message);
        self.bell.notify_one();
    }
}

/// The running client.
pub struct Client {
    shared: Arc<Shared>,
    standing: watch::Receiver<Standing>,
    task: AbortOnDropHandle<()>,
    /// The task's place in the book.
    _supervised: Supervised,
}

impl Client {
    /// Begins to connect. That the broker is out of reach is no error: it may come up later. `noted` is what `notes` was last given, in whichever
    /// process.
    pub fn start(
        settings: External,
        uplink: Arc<dyn Uplink>,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
        noted: &str,
        notes: Notes,
    ) -> Self {
        let supervised = health.enter("local broker", PULSE_LIMIT, clock.now());
        let (sender, standing) = watch::channel(Standing {
            state: State::Connecting,
            since: clock.wall(),
            reason: None,
            waiting: 0,
            received: 0,
            sent: 0,
            dropped: 0,
        });
        let orders = Mutex::new(Orders { settings: Arc::new(settings), stop: None });
        let shared = Arc::new(Shared {
            spool: Mutex::default(),
            bell: Notify::new(),
            orders,
            uplink,
            clock,
            drop_told: Once::new(false),
            was_connected: AtomicBool::new(false),
            held: Mutex::new(noted.lines().map(str::to_owned).collect()),
            notes,
        });
        let (parts, pulse) = (Arc::clone(&shared), supervised.pulse());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            // A fault of its own ends one life of it, not the gateway; what waits is kept.
            loop {
                let engine = Engine::new(Arc::clone(&parts), sender.clone(), pulse.clone());
                let Err(fault) = AbortOnDropHandle::new(tokio::spawn(engine.run())).await else { return };
                tracing::error!(%fault, "the client of the local broker failed, and is started again");
                tokio::time::sleep(EXTERNAL_RESTART).await;
            }
        }));
        Self { shared, standing, task, _supervised: supervised }
    }

    /// The in-process door.
    pub fn link(&self) -> Arc<dyn LocalBus> {
        self.shared.clone()
    }

    /// How it stands.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// What there is to see of it.
    pub fn view(&self) -> View {
        View { shared: Arc::clone(&self.shared), standing: self.standing.clone() }
    }

    /// Takes new settings: connects anew when it must.
    pub fn apply(&self, settings: External) {
        let mut orders = self.shared.orders();
        if *orders.settings != settings {
            orders.settings = Arc::new(settings);
            self.shared.bell.notify_one();
        }
    }

    /// Says what waits, takes its leave, ends. What could not be said within the budget is lost; the will is then left to speak.
    pub async fn stop(mut self, budget: Duration) {
        self.shared.orders().stop = Some(self.shared.clock.now() + budget);
        self.shared.bell.notify_one();
        // What is not done then is cut off when it is dropped.
        let _ = tokio::time::timeout(budget, &mut self.task).await;
    }
}

/// What there is to see of the client.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
    standing: watch::Receiver<Standing>,
}

impl View {
    /// The figures as they are.
    pub fn read(&self) -> BrokerOverview {
        let (standing, settings) = (self.standing.borrow().clone(), self.shared.settings());
        BrokerOverview {
            received: standing.received,
            sent: standing.sent,
            dropped: standing.dropped,
            subscriptions: settings.filters.len() as u64,
            external: Some(ExternalOverview {
                url: settings.url.to_string(),
                state: standing.state.word().to_owned(),
                since_ms: standing.since.unix_ms,
                reason: standing.reason,
                waiting: standing.waiting,
            }),
            ..BrokerOverview::default()
        }
    }

    /// Why local clients are not served; `None` when they are.
    pub fn trouble(&self) -> Option<String> {
        let standing = self.standing.borrow();
        if standing.state == State::Online {
            return None;
        }
        let reason = standing.reason.as_deref().unwrap_or("it has not answered yet");
        Some(format!("the local broker `{}` is not connected: {reason}", self.shared.settings().url))
    }

    /// What needs a person although it is connected.
    pub fn warning(&self) -> Option<String> {
        let standing = self.standing.borrow();
        let reason = standing.reason.as_ref().filter(|_| standing.state == State::Online)?;
        Some(format!("the local broker `{}`: {reason}", self.shared.settings().url))
    }
}

//! The local broker: MQTT 3.1.1 and 5.0 on one port, over TCP, TLS and WebSockets.
//!
//! - `listener` takes connections in and shakes hands, as far as `room` has seats; `arrival` knows how one came, `connection` carries their bytes, `conversation` knows what they mean
//! - `session` is what outlives a connection; `core` is everyone's state; `fanout` finds the subscribers of a message
//! - `retained` holds the last message of each topic; `keeper` writes it to disk, and what sessions note in their `journal`
//! - `external` is the gateway as a client of a broker that is there already, in place of all this
//! - `door` lets users in, `access` says what they may do, `judge` the same for a person who asks; `sys` counts
//! - `clients` tells a person who is there, and shows one out
//!
//! Promises: a publisher of QoS 1 or 2 is acknowledged after every bridge that forwards its message has committed it, and after the message is
//! on disk, if it is retained or a session that outlives its connection is to have it. Such sessions outlive the process too.

mod access;
mod arrival;
mod clients;
mod connection;
mod conversation;
mod core;
mod door;
pub mod external;
mod fanout;
mod input;
mod journal;
pub mod judge;
mod keeper;
mod listener;
mod output;
mod owed;
mod presence;
#[cfg(test)]
mod probes;
mod promise;
mod queue;
mod retained;
mod room;
mod session;
pub mod settings;
mod shared;
mod subscribers;
mod sys;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio_util::task::TaskTracker;

pub use self::clients::Clients;
use self::core::Core;
use self::door::Guests;
#[cfg(feature = "rumqttd")]
use self::fanout::{Alive, Envelope, Rumqttd};
use self::fanout::{Fanout, Trie};
#[cfg(feature = "rumqttd")]
use self::journal::Receipt;
use self::keeper::Keeper;
#[cfg(feature = "rumqttd")]
use self::keeper::Urgency;
use self::listener::Listener;
use self::room::Room;
use self::settings::Place;
use self::shared::{AtHome, Shared};
pub use self::sys::Counters;
use crate::clock::Clock;
use crate::health::{Health, Pulse, Supervised};
use crate::limits::{PULSE_EVERY, PULSE_LIMIT, RETAINED_RETRY};
use crate::model::Era;
use crate::mqtt::tls::TlsError;
use crate::mqtt::tls_server::TlsServer;
use crate::ports::{LocalBus, Uplink};
use crate::store::StoreError;
pub use settings::{Caps, FilterTemplate, PasswordHash, Rights, Routing, Settings, Tls, User};

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is taken, or not ours.
    #[error("listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// The address is taken by one that a reload would give up for it.
    #[error("listen on {address}: it still listens on {held}; only a restart can change the one for the other")]
    Held {
        /// The address.
        address: SocketAddr,
        /// What it listens on, and would not by the new settings.
        held: SocketAddr,
    },
    /// Certificate, key or authorities cannot be used.
    #[error("TLS for clients: {0}")]
    Tls(#[from] TlsError),
    /// What it keeps on disk cannot be opened, nor a new file made in its place.
    #[error("open the store `{}`: {error}", .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: StoreError,
    },
    /// rumqttd's router does not start.
    #[error("routing `rumqttd`: {0}")]
    Router(std::io::Error),
}

impl BrokerError {
    /// Whether reading or writing failed; else something it needs is not to be had, mostly because another process has it.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Store { error, .. } if !error.is_in_use())
    }
}

/// The running broker.
pub struct Broker {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    room: Arc<Room>,
    tasks: TaskTracker,
    health: Arc<Health>,
    /// The last era that the file tells of.
    era_before: Option<i64>,
    /// The house-keeping's place in the book. It takes the core's lock, so that a lock which is never given back is noticed.
    _supervised: Supervised,
}

impl Broker {
    /// Binds every listener, opens the store, serves.
    ///
    /// # Errors
    /// [`BrokerError`] when a port is taken, or certificates or the store cannot be read.
    pub async fn start(
        settings: Settings,
        uplink: Arc<dyn Uplink>,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
    ) -> Result<Self, BrokerError> {
        let tls = tls(&settings, None).await?;
        let mut sockets = Vec::new();
        for place in settings.places() {
            sockets.push((place, Listener::bind(place.address).await?));
        }
        // The way back from a router that finds its filters later; known once the core is where it stays.
        let home = Arc::new(OnceLock::new());
        let mut core = Core::new(router(settings.routing, &home)?, settings.max_retained_bytes);
        core.set_queued_bytes_max(settings.max_queued_bytes_total);
        core.tell_ends(&uplink);
        let mut era_before = None;
        let keeper = match &settings.store {
            None => Keeper::default(),
            Some(directory) => {
                let (keeper, mut past) = Keeper::open(directory, clock.clone(), health).await?;
                era_before = past.era;
                for found in past.retained.drain(..) {
                    core.retained.restore(found.message, found.expires);
                }
                core.write_to(keeper.desk());
                core.adopt(past, shared::room(&settings), &Guests::new(&settings), clock.now());
                keeper
            }
        };
        let supervised = health.enter("broker", PULSE_LIMIT, clock.now());
        let shared = Shared::new(settings, tls, core, keeper, uplink, clock);
        // Set once, here.
        let _ = home.set(Arc::downgrade(&shared));
        shared.keeper.belongs_to(Box::new(AtHome(Arc::downgrade(&shared))));
        let room = Arc::<Room>::default();
        let tasks = TaskTracker::new();
        tasks.spawn(keep_house(shared.clone(), supervised.pulse()));
        tasks.spawn(sys::tell(shared.clone()));
        let listeners = sockets
            .into_iter()
            .map(|(asked, bound)| Listener::serve(asked, bound, shared.clone(), room.clone(), &tasks, health))
            .collect();
        Ok(Self { shared, listeners, room, tasks, health: Arc::clone(health), era_before, _supervised: supervised })
    }

    /// The in-process door.
    pub fn link(&self) -> Arc<dyn LocalBus> {
        self.shared.clone()
    }

    /// The first era of this life, if there is something to keep by it: its number is chosen here.
    pub fn first_era(&self) -> Option<Era> {
        self.shared.keeper.desk()?;
        let sessions = Arc::new(self.shared.core().numbers());
        Some(Era { before: self.era_before, now: keeper::new_id(), sessions: Some(sessions) })
    }

    /// The era that comes after that one.
    pub fn next_era(&self, now: i64) -> Era {
        Era { before: Some(now), now: keeper::new_id(), sessions: None }
    }

    /// Resolves once it is on disk that it is this era: packet ids may become free in it from here on. False where it ends before that.
    pub fn note_era(&self, era: i64) -> impl Future<Output = bool> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            loop {
                let Some(noted) = shared.keeper.note_era(era) else { return false };
                match noted.await {
                    Ok(()) => return true,
                    Err(promise::Broken::Stopping) => return false,
                    // A disk that takes nothing, which its owner tells of.
                    Err(_) => tokio::time::sleep(RETAINED_RETRY).await,
                }
            }
        }
    }

    /// What it counts.
    pub fn counters(&self) -> Counters {
        Counters(self.shared.clone())
    }

    /// Its clients, for a person who asks.
    pub fn clients(&self) -> Clients {
        Clients(self.shared.clone())
    }

    /// The addresses it listens on, with the ports the kernel gave where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// Makes what runs equal to the settings without touching connections that may stay.
    ///
    /// # Errors
    /// [`BrokerError`] when a new listener cannot be bound, or new certificates cannot be read; then everything stays as it was.
    pub async fn apply(&mut self, settings: Settings) -> Result<(), BrokerError> {
        let now = self.shared.live();
        if settings.routing != now.settings.routing || settings.store != now.settings.store {
            tracing::warn!("a change of the local broker's routing or store takes effect at the next start");
        }
        let tls = tls(&settings, now.tls.as_ref()).await?;
        let wanted = settings.places();
        let mut sockets = Vec::new();
        for place in wanted.iter().filter(|place| !self.listeners.iter().any(|old| old.serves(place))) {
            let bound = Listener::bind(place.address).await.map_err(|error| self.explain(error, &wanted))?;
            sockets.push((*place, bound));
        }
        let is_wanted = |old: &Listener| wanted.iter().any(|place| old.serves(place));
        let (stay, go) = std::mem::take(&mut self.listeners).into_iter().partition(is_wanted);
        self.listeners = stay;
        for old in go {
            // Waited for: the next reload may ask for the address again.
            Listener::end(old).await;
        }
        // First what TLS is spoken with, then where: no connection finds the one without the other.
        self.shared.put_live(settings, tls);
        for old in &self.listeners {
            if let Some(place) = wanted.iter().find(|place| old.serves(place)) {
                old.become_place(*place);
            }
        }
        for (place, bound) in sockets {
            let (shared, room) = (self.shared.clone(), self.room.clone());
            self.listeners.push(Listener::serve(place, bound, shared, room, &self.tasks, &self.health));
        }
        Ok(())
    }

    /// Names the listener that is in the way of the one to replace it: `127.0.0.1:1883` of `0.0.0.0:1883`. It is not closed first, since the
    /// new one might fail for another reason, and then nobody would listen.
    fn explain(&self, error: BrokerError, wanted: &[Place]) -> BrokerError {
        match error {
            BrokerError::Listen { address, error } if error.kind() == std::io::ErrorKind::AddrInUse => {
                let is_in_the_way = |held: &SocketAddr| {
                    held.port() == address.port() && (held.ip().is_unspecified() || address.ip().is_unspecified())
                };
                let going = self.listeners.iter().filter(|old| !wanted.iter().any(|place| old.serves(place)));
                match going.map(|old| old.address).find(is_in_the_way) {
                    Some(held) => BrokerError::Held { address, held },
                    None => BrokerError::Listen { address, error },
                }
            }
            error => error,
        }
    }

    /// Says goodbye to the clients, writes what is retained, closes.
    pub async fn stop(self, budget: Duration) {
        self.listeners.iter().for_each(Listener::close);
        self.shared.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(budget, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "clients did not go in time, their connections are cut");
            self.shared.killed.cancel();
        }
        self.shared.core().stop();
        self.shared.keeper.stop().await;
    }

    /// Falls over as if killed: connections cut, no wills, nothing written. For the demo's cloud.
    pub async fn kill(self) {
        self.shared.killed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.core().stop();
        self.shared.keeper.kill().await;
    }
}

/// What TLS is spoken with. It stays the same as long as it is made of the same files, whatever is in them: it looks for itself.
async fn tls(settings: &Settings, before: Option<&Arc<TlsServer>>) -> Result<Option<Arc<TlsServer>>, TlsError> {
    let Some(wanted) = &settings.tls else { return Ok(None) };
    if let Some(same) = before.filter(|before| *before.files() == wanted.files) {
        return Ok(Some(same.clone()));
    }
    let files = wanted.files.clone();
    // A disk may be slow, and clients must not wait for it.
    let read = tokio::task::spawn_blocking(move || TlsServer::new(files)).await;
    let broke = |error| TlsError::File { path: wanted.files.cert.clone(), error: std::io::Error::other(error) };
    Ok(Some(Arc::new(read.map_err(broke)??)))
}

type Home = Arc<OnceLock<Weak<Shared>>>;

#[cfg(feature = "rumqttd")]
fn router(routing: Routing, home: &Home) -> Result<Box<dyn Fanout>, BrokerError> {
    match routing {
        Routing::Trie => Ok(Box::new(Trie::default())),
        Routing::Rumqttd => {
            let home = home.clone();
            let deliver = move |envelope: &Envelope, id| {
                let Some(shared) = home.get().and_then(Weak::upgrade) else { return Alive::No };
                // Its publisher has been answered: what this puts into queues is in the next commit.
                shared.core().deliver(envelope, &[id], &mut Receipt::new(Urgency::Next));
                Alive::Yes
            };
            let router = Rumqttd::start(Box::new(deliver)).map_err(BrokerError::Router)?;
            Ok(Box::new(router))
        }
    }
}

#[cfg(not(feature = "rumqttd"))]
fn router(routing: Routing, _home: &Home) -> Result<Box<dyn Fanout>, BrokerError> {
    match routing {
        Routing::Trie => Ok(Box::new(Trie::default())),
        Routing::Rumqttd => Err(BrokerError::Router(std::io::Error::other("this program was built without it"))),
    }
}

/// Publishes wills and ends sessions when their time has come.
async fn keep_house(shared: Arc<Shared>, pulse: Pulse) {
    loop {
        let now = shared.clock.now();
        let wills = {
            let mut core = shared.core();
            core.date();
            core.expire(now)
        };
        for will in &wills {
            shared.publish_will(will);
        }
        let next = shared.core().next_due();
        pulse.beat(now);
        let wait = next.map_or(PULSE_EVERY, |due| due - now).min(PULSE_EVERY);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.due_changed.notified() => {}
            () = shared.stopping.cancelled() => return,
            () = shared.killed.cancelled() => return,
        }
    }
}

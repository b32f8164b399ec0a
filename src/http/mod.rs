//! The page and what else speaks HTTP: metrics, health, and the control socket of the command line. HTTP/1.1 by hyper; nothing of it goes beyond
//! what a visitor may see.
//!
//! - `listener` takes connections in, on TCP and on the control socket; `stall` ends those that take nothing
//! - `guard` says who may do what; `route` what is answered; `answer` how that looks on the wire
//! - `stream` tells an open page what changed; `metrics` is the same picture for Prometheus; `assets` is the page itself
//!
//! Promises: a visitor cannot make the gateway hold more than the limits of [`crate::limits`] allow, nor wait. Not promised: secrecy on the
//! way; there is no TLS here (docs/http.md).

mod answer;
mod assets;
mod guard;
mod listener;
pub mod metrics;
mod route;
pub mod settings;
mod stall;
mod stream;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::listener::{Door, Listener};
use crate::clock::Clock;
use crate::health::{Health, Supervised};
use crate::limits::{
    CONTROL_AGAIN, CONTROL_CONNECTIONS_MAX, HTTP_BODY_WAIT, HTTP_CONNECTIONS_MAX, HTTP_HEAD_WAIT, HTTP_STREAMS_MAX,
    HTTP_WRITE_STALL, PULSE_LIMIT,
};
use crate::logic::failures::Failures;
use crate::ports::Watch;
pub use settings::Settings;

/// Why the page cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, or not ours.
    #[error("listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        error: std::io::Error,
    },
}

/// How long a visitor is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    head: Duration,
    body: Duration,
    write: Duration,
    /// Until a control socket that could not be made is tried again.
    control: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: HTTP_HEAD_WAIT, body: HTTP_BODY_WAIT, write: HTTP_WRITE_STALL, control: CONTROL_AGAIN }
    }
}

/// What all connections share.
struct Shared {
    patience: Patience,
    watch: Arc<dyn Watch>,
    clock: Arc<dyn Clock>,
    /// Settings of the page; another value after a reload.
    settings: RwLock<Option<Arc<Settings>>>,
    seats: Arc<Semaphore>,
    control_seats: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    failures: Mutex<Failures>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Shared {
    fn settings(&self) -> Option<Arc<Settings>> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The running server.
pub struct Server {
    shared: Arc<Shared>,
    page: Option<Listener>,
    /// The control socket, once it is there, and its place in the book.
    control: Arc<OnceLock<(PathBuf, Supervised)>>,
    health: Arc<Health>,
}

impl Server {
    /// Opens the control socket, and the page where there is to be one. Without a control socket the gateway runs all the same, with a warning, and it is tried
    /// again: the disk it is to be on may be read-only for a time.
    ///
    /// # Errors
    /// [`HttpError`] when the page's port is taken.
    pub async fn start(
        settings: Option<Settings>,
        control: &Path,
        watch: Arc<dyn Watch>,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
    ) -> Result<Self, HttpError> {
        Self::start_with(settings, control, watch, clock, health, Patience::default()).await
    }

    async fn start_with(
        settings: Option<Settings>,
        control: &Path,
        watch: Arc<dyn Watch>,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
        patience: Patience,
    ) -> Result<Self, HttpError> {
        let shared = Arc::new(Shared {
            patience,
            watch,
            clock,
            settings: RwLock::new(None),
            seats: Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX)),
            control_seats: Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX)),
            streams: Arc::new(Semaphore::new(HTTP_STREAMS_MAX)),
            failures: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let mut server = Self { shared, page: None, control: Arc::default(), health: Arc::clone(health) };
        server.apply(settings).await?;
        let control = ControlDoor {
            path: control.to_path_buf(),
            shared: Arc::clone(&server.shared),
            place: Arc::clone(&server.control),
            health: Arc::clone(health),
        };
        match listener::bind_control(&control.path) {
            Ok(socket) => control.open(socket),
            Err(error) => {
                warn!(path = %control.path.display(), %error, "no control socket: `tidegate status` and `set` cannot reach this gateway until it can be made");
                server.shared.tasks.spawn(control.try_again());
            }
        }
        Ok(server)
    }

    /// Where the page is, with the port that the kernel gave where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.page.as_ref().map(|page| page.address)
    }

    /// Makes the page what the settings say. Open pages ask anew where something changed.
    ///
    /// # Errors
    /// [`HttpError`] when a new address cannot be listened on; then everything stays as it was.
    pub async fn apply(&mut self, settings: Option<Settings>) -> Result<(), HttpError> {
        if settings.as_ref() == self.shared.settings().as_deref() {
            return Ok(());
        }
        let asked = settings.as_ref().map(|settings| settings.listen);
        let bound = match asked {
            Some(asked) if self.page.as_ref().map(|page| page.asked) != Some(asked) => {
                let bound = listener::bind_page(asked).await;
                Some(bound.map_err(|error| HttpError::Listen { address: asked, error })?)
            }
            _ => None,
        };
        *self.shared.settings.write().unwrap_or_else(PoisonError::into_inner) = settings.map(Arc::new);
        if asked.is_none() || bound.is_some() {
            // Dropped, it accepts no more, and its connections end.
            self.page = None;
        }
        if let Some((asked, (socket, address))) = asked.zip(bound) {
            let stop = self.shared.stop.child_token();
            let supervised = self.health.enter("page", PULSE_LIMIT, self.shared.clock.now());
            let (shared, pulse) = (Arc::clone(&self.shared), supervised.pulse());
            self.shared.tasks.spawn(listener::accept(Door::Page(socket), shared, stop.clone(), pulse));
            self.page = Some(Listener { asked, address, stop, _supervised: supervised });
        }
        Ok(())
    }

    /// Ends every connection and removes the control socket.
    pub async fn stop(self, budget: Duration) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        // What does not end in time ends with the process; nothing hangs on it.
        let _ = tokio::time::timeout(budget, self.shared.tasks.wait()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Some((path, _)) = self.control.get() {
            // One that stays behind is replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Lets the command line in.
struct ControlDoor {
    path: PathBuf,
    shared: Arc<Shared>,
    place: Arc<OnceLock<(PathBuf, Supervised)>>,
    health: Arc<Health>,
}

impl ControlDoor {
    fn open(self, socket: UnixListener) {
        let supervised = self.health.enter("control socket", PULSE_LIMIT, self.shared.clock.now());
        let (pulse, stop) = (supervised.pulse(), self.shared.stop.clone());
        let tasks = self.shared.tasks.clone();
        // Set here alone, once.
        let _ = self.place.set((self.path, supervised));
        tasks.spawn(listener::accept(Door::Control(socket), self.shared, stop, pulse));
    }

    /// Until the socket can be made.
    async fn try_again(self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.shared.patience.control) => {}
                () = self.shared.stop.cancelled() => return,
            }
            // The disk may be one that hangs.
            let wanted = self.path.clone();
            let tried = tokio::task::spawn_blocking(move || listener::bind_control(&wanted)).await;
            if let Ok(Ok(socket)) = tried {
                info!(path = %self.path.display(), "the control socket is there");
                return self.open(socket);
            }
        }
    }
}

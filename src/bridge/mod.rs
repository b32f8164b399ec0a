//! The bridge to the cloud: one engine thread a bridge, which owns its connection and its store.

pub mod rules;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::model::{Message, Timestamp};
use crate::ports::{Acceptance, Publish};
pub use settings::{
    CloudUrl, InRule, OnSessionLoss, OutRule, OutboxSettings, Reconnect, Settings, Tls, TopicTemplate, VersionChoice,
};

/// Why a bridge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The store cannot be opened, nor a new one made in its place.
    #[error("bridge `{bridge}`: open the store: {error}")]
    Store {
        /// The bridge's id.
        bridge: String,
        /// What went wrong.
        error: String,
    },
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

/// What a bridge says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Life of the link.
    pub state: LinkState,
    /// Since when.
    pub since: Timestamp,
    /// Why it is not online; `None` when it is.
    pub reason: Option<String>,
    /// Records waiting, in flight included.
    pub queued: u64,
    /// Size of the store, bytes.
    pub bytes: u64,
    /// Records the cloud acknowledged since start.
    pub delivered: u64,
    /// Records dropped since start, all causes.
    pub dropped: u64,
}

/// Takes messages for one bridge. Cheap to clone.
#[derive(Clone)]
pub struct Intake {}

impl Intake {
    /// Offers a message. `None` when no `out` rule wants it.
    pub fn accept(&self, _message: &Arc<Message>) -> Option<Acceptance> {
        None
    }
}

/// A running bridge.
pub struct Bridge {}

impl Bridge {
    /// Opens the store and starts the engine thread. An unreachable cloud is no error.
    ///
    /// # Errors
    /// [`BridgeError`] when there can be no store.
    pub fn start(_settings: Settings, _publish: Arc<dyn Publish>, _clock: Arc<dyn Clock>) -> Result<Self, BridgeError> {
        Ok(Self {})
    }

    /// Where its messages go in.
    pub fn intake(&self) -> Intake {
        todo!()
    }

    /// What it says of itself, newest value.
    pub fn status(&self) -> watch::Receiver<Status> {
        todo!()
    }

    /// Takes new settings: reconnects when it must, keeps store and intake.
    pub fn apply(&self, _settings: Settings) {}

    /// Forgets the back-off and tries at once (a person asked, or the network came up).
    pub fn reconnect_now(&self) {}

    /// Says `offline` at the cloud, waits for what is in flight up to the budget, commits, closes.
    pub async fn stop(self, _budget: Duration) {}
}

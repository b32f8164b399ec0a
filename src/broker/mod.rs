//! The local broker.

pub mod settings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::ports::{LocalBus, Uplink};
pub use settings::{FilterTemplate, PasswordHash, Routing, Settings, User};

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
}

/// The running broker.
pub struct Broker {}

impl Broker {
    /// Binds every listener, opens the store, serves.
    ///
    /// # Errors
    /// [`BrokerError`] when a port is taken or the store cannot be opened.
    pub async fn start(
        _settings: Settings,
        _uplink: Arc<dyn Uplink>,
        _clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        Ok(Self {})
    }

    /// The in-process door.
    pub fn link(&self) -> Arc<dyn LocalBus> {
        todo!()
    }

    /// The addresses it listens on, with the ports the kernel gave where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Makes what runs equal to the settings without touching connections that may stay.
    ///
    /// # Errors
    /// [`BrokerError`] when a new listener cannot be bound; then everything stays as it was.
    pub async fn apply(&mut self, _settings: Settings) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Says goodbye to the clients, writes what is retained, closes.
    pub async fn stop(self, _budget: Duration) {}

    /// Falls over as if killed: connections cut, no wills, nothing written. For the demo's cloud.
    pub async fn kill(self) {}
}

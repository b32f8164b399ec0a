//! The demo's cloud: a second local broker in this process, with nothing on disk, which can be killed and started again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::app::StartError;
use crate::broker::{Broker, Caps, Routing, Settings};
use crate::clock::Clock;
use crate::health::Health;
use crate::model::Message;
use crate::ports::{Acceptance, Uplink};

/// The cloud.
pub(super) struct Cloud {
    settings: Settings,
    clock: Arc<dyn Clock>,
    broker: Option<Broker>,
}

/// Nothing lies above the cloud.
struct Nowhere;

impl Uplink for Nowhere {
    fn accept(&self, _message: &Arc<Message>) -> Option<Acceptance> {
        None
    }
}

impl Cloud {
    /// Starts it on a port of the kernel's choice, which it keeps over restarts.
    pub(super) async fn start(clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let settings = Settings {
            gateway: None,
            listen: vec![SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0))],
            websocket_listen: Vec::new(),
            tls: None,
            routing: Routing::Trie,
            max_packet: 1 << 20,
            max_connections: 16,
            caps: Caps::default(),
            max_queued: 100_000,
            max_queued_bytes: 64 << 20,
            max_queued_bytes_total: 64 << 20,
            max_retained_bytes: 1 << 20,
            users: Vec::new(),
            anonymous: true,
            anyone: None,
            store: None,
            sys_interval: Duration::ZERO,
        };
        let mut cloud = Self { settings, clock, broker: None };
        cloud.restart().await?;
        Ok(cloud)
    }

    /// Starts it again where it was. Nothing is remembered: no session, no retained message.
    pub(super) async fn restart(&mut self) -> Result<(), StartError> {
        if self.broker.is_none() {
            let clock = Arc::clone(&self.clock);
            let broker = Broker::start(self.settings.clone(), Arc::new(Nowhere), clock, &Health::new()).await?;
            self.settings.listen = broker.addresses();
            self.broker = Some(broker);
        }
        Ok(())
    }

    /// Falls over, as if by kill -9.
    pub(super) async fn kill(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.kill().await;
        }
    }

    /// Whether it runs.
    pub(super) fn is_up(&self) -> bool {
        self.broker.is_some()
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        *self
            .settings
            .listen
            .first()
            .expect("it is given one address, and a broker listens on all it is given or does not start")
    }
}

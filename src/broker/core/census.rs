//! How many there are.

use std::sync::Arc;

use super::Queued;
use super::{Core, Counters};

/// How many there are.
#[derive(Debug)]
pub(in crate::broker) struct Census {
    pub(in crate::broker) connected: usize,
    pub(in crate::broker) connected_max: usize,
    pub(in crate::broker) sessions: usize,
    pub(in crate::broker) subscriptions: usize,
    /// Those of them that are shared.
    pub(in crate::broker) shared_subscriptions: usize,
    pub(in crate::broker) retained: usize,
    pub(in crate::broker) retained_payload_bytes: u64,
    pub(in crate::broker) queued: Arc<Queued>,
    pub(in crate::broker) counters: Arc<Counters>,
}

impl Core {
    pub(in crate::broker) fn census(&self) -> Census {
        Census {
            connected: self.connected,
            connected_max: self.connected_max,
            sessions: self.lives.len(),
            subscriptions: self.subscriptions,
            shared_subscriptions: self.shared_subscriptions,
            retained: self.retained.len(),
            retained_payload_bytes: self.retained.payload_bytes(),
            queued: self.queued.clone(),
            counters: self.counters.clone(),
        }
    }
}

//! Keeps an engine alive: a mistake in it that ends in a panic costs its connection and a pause, not the bridge.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::watch;

use super::Status;
use super::core::Core;
use super::engine::Engine;
use super::intake::Shared;
use crate::clock::Clock;
use crate::health::Pulse;
use crate::limits::ENGINE_PAUSE;
use crate::ports::Publish;

/// Everything an engine is made of.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) publish: Arc<dyn Publish>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<watch::Sender<Status>>,
    pub(super) pulse: Pulse,
}

impl Parts {
    /// Runs the engine until it ends in order. What was committed is in the file, so that an engine made anew goes on where it was.
    pub(super) fn run(&self, mut core: Core) {
        loop {
            // What the engine before it may have left standing.
            self.shared.refuse(None);
            self.shared.held.tell_again();
            let engine = Engine::new(
                core,
                Arc::clone(&self.shared),
                Arc::clone(&self.publish),
                Arc::clone(&self.clock),
                Arc::clone(&self.status),
                self.pulse.clone(),
            );
            if catch_unwind(AssertUnwindSafe(|| engine.run())).is_ok() {
                return;
            }
            let settings = self.shared.settings();
            let bridge = settings.id.as_str();
            tracing::error!(bridge, "the bridge failed by a mistake of its own and is started again");
            core = loop {
                std::thread::sleep(ENGINE_PAUSE);
                self.pulse.beat(self.clock.now());
                if self.shared.is_abandoned() {
                    return;
                }
                match Core::open(&self.shared.settings(), &*self.clock) {
                    Ok(core) => break core,
                    Err(error) => tracing::error!(bridge, %error, "the bridge cannot be started again yet"),
                }
            };
        }
    }
}

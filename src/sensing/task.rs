//! The task of one bus, and the one that starts it again when it panics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use super::chains::Chains;
use crate::bus::{Port, PortEvent, SerialSettings};
use crate::clock::Clock;
use crate::limits::{BUS_RESTART_MAX, BUS_RESTART_MIN};
use crate::logic::retry::Backoff;
use crate::model::{Message, Moment};
use crate::plan::SensorPlan;
use crate::ports::Publish;

/// The sensors of a bus: its task works on them, a screen looks at them. Held for the length of one event, never over an await.
pub(super) type SharedChains = Arc<Mutex<Chains>>;

/// The sensors a bus is to have, in the order of the plan.
pub(super) type Plans = Arc<[SensorPlan]>;

/// What a bus's task needs, and needs again when it is started again.
#[derive(Clone)]
pub(super) struct BusContext {
    pub(super) settings: SerialSettings,
    pub(super) plans: watch::Receiver<Plans>,
    /// Tells which plans are in force.
    pub(super) adopted: Arc<watch::Sender<Plans>>,
    pub(super) publish: Arc<dyn Publish>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chains: SharedChains,
    pub(super) stop: CancellationToken,
}

/// Runs the bus until it is stopped. A panic ends this bus's task alone, is counted, and is followed by a new start after a back-off.
pub(super) async fn supervise(context: BusContext) {
    let mut backoff = Backoff::new(BUS_RESTART_MIN, BUS_RESTART_MAX);
    let mut panics: u32 = 0;
    loop {
        let started = context.clock.now();
        let task = AbortOnDropHandle::new(tokio::spawn(run(context.clone())));
        match task.await {
            Err(ended) if ended.is_panic() => {}
            Ok(()) | Err(_) => return,
        }
        panics = panics.saturating_add(1);
        if context.clock.now().since(started) > BUS_RESTART_MAX {
            backoff.reset();
        }
        let wait = backoff.next_wait(fastrand::f64());
        let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        error!(bus = %context.settings.id, panics, delay_ms, "task of the bus panicked; it is started again");
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn run(mut context: BusContext) {
    let mut port = Port::new(&context.settings, context.clock.clone());
    let mut away = false;
    // A task that panicked leaves its chains in an unknown state: they are made anew.
    *context.chains() = Chains::default();
    context.adopt_plans(away);
    loop {
        let timeout = context.chains().timeout();
        tokio::select! {
            biased;
            () = context.stop.cancelled() => break,
            changed = context.plans.changed() => {
                if changed.is_err() {
                    break;
                }
                context.adopt_plans(away);
            }
            event = port.next() => {
                let time = context.clock.wall();
                match event {
                    PortEvent::Opened => {
                        away = false;
                        context.chains().port_opened();
                    }
                    PortEvent::Away => {
                        away = true;
                        context.act(Chains::port_away);
                    }
                    PortEvent::Bytes { bytes, midway } => {
                        context.act(|chains, now, out| chains.received(bytes, midway, now, time, out));
                    }
                }
            }
            () = until(timeout, context.clock.as_ref()) => {}
        }
        // Looked at in every turn: a port that always has bytes must not hold up a deadline.
        if timeout.is_some_and(|at| context.clock.now() >= at) {
            context.act(Chains::tick);
        }
    }
    context.act(Chains::end);
}

impl BusContext {
    fn chains(&self) -> MutexGuard<'_, Chains> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the chains equal to the plans.
    fn adopt_plans(&mut self, away: bool) {
        let plans = self.plans.borrow_and_update().clone();
        let mut out = Vec::new();
        self.chains().apply(&plans, away, self.clock.now(), &mut out);
        self.tell(out);
        self.adopted.send_replace(plans);
    }

    /// Does something with the sensors, and publishes what comes of it.
    fn act(&self, act: impl FnOnce(&mut Chains, Moment, &mut Vec<Message>)) {
        let mut out = Vec::new();
        act(&mut self.chains(), self.clock.now(), &mut out);
        self.tell(out);
    }

    fn tell(&self, messages: Vec<Message>) {
        for message in messages {
            self.publish.publish(message);
        }
    }
}

/// Waits for a point in time; for ever without one.
async fn until(moment: Option<Moment>, clock: &dyn Clock) {
    match moment {
        // At least a millisecond, the resolution of the timer: a deadline that is there already must not become a spin.
        Some(moment) => tokio::time::sleep(moment.since(clock.now()).max(Duration::from_millis(1))).await,
        None => std::future::pending().await,
    }
}

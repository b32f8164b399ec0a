//! The task of one bus, and the one that starts it again when it panics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use super::SensorView;
use super::chain::{Chain, Chains};
use crate::bus::{Port, PortEvent, SerialSettings};
use crate::clock::Clock;
use crate::limits::{BUS_RESTART_MAX, BUS_RESTART_MIN};
use crate::logic::retry::Backoff;
use crate::model::{Message, Moment};
use crate::plan::SensorPlan;
use crate::ports::Publish;

/// What the sensors of a bus showed last.
pub(super) type Views = Arc<Mutex<Vec<SensorView>>>;

/// What a bus's task needs, and needs again when it is started again.
#[derive(Clone)]
pub(super) struct BusContext {
    pub(super) settings: SerialSettings,
    pub(super) plans: watch::Receiver<Arc<[SensorPlan]>>,
    pub(super) publish: Arc<dyn Publish>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) views: Views,
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
    let mut chains = Chains::default();
    let mut away = false;
    let mut out = Vec::new();
    let plans = context.plans.borrow_and_update().clone();
    chains.apply(&plans, away, context.clock.now(), &mut out);
    loop {
        context.tell(&chains, &mut out);
        let timeout = chains.timeout();
        tokio::select! {
            biased;
            () = context.stop.cancelled() => break,
            changed = context.plans.changed() => {
                if changed.is_err() {
                    break;
                }
                let plans = context.plans.borrow_and_update().clone();
                chains.apply(&plans, away, context.clock.now(), &mut out);
            }
            event = port.next() => {
                let (now, time) = (context.clock.now(), context.clock.wall());
                match event {
                    PortEvent::Opened => {
                        away = false;
                        chains.iter_mut().for_each(Chain::port_opened);
                    }
                    PortEvent::Away => {
                        away = true;
                        chains.iter_mut().for_each(|chain| chain.port_away(now, &mut out));
                    }
                    PortEvent::Bytes { bytes, midway } => {
                        chains.iter_mut().for_each(|chain| chain.received(bytes, midway, now, time, &mut out));
                    }
                }
            }
            () = until(timeout, context.clock.as_ref()) => {}
        }
        // Looked at in every turn: a port that always has bytes must not hold up a deadline.
        let now = context.clock.now();
        if chains.timeout().is_some_and(|at| now >= at) {
            chains.iter_mut().for_each(|chain| chain.tick(now, &mut out));
        }
    }
    chains.iter_mut().for_each(|chain| chain.end(&mut out));
    context.tell(&chains, &mut out);
}

impl BusContext {
    fn tell(&self, chains: &Chains, out: &mut Vec<Message>) {
        *self.views.lock().unwrap_or_else(PoisonError::into_inner) = chains.views();
        for message in out.drain(..) {
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

//! The task of one bus of any kind, the one that starts it again when it panics, and the loop of a serial port.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use super::SensorView;
use super::chains::Chains;
use super::lines::{self, SharedLines};
use super::polled::{self, SharedPolled};
use crate::bus::gpio::{BoardGpio, Gpio};
use crate::bus::{BusSettings, Port, PortEvent, SerialSettings, WriteQueue};
use crate::clock::Clock;
use crate::health::Pulse;
use crate::limits::{BUS_RESTART_MAX, BUS_RESTART_MIN, PULSE_EVERY};
use crate::logic::retry::Backoff;
use crate::model::{Message, Moment};
use crate::plan::SensorPlan;
use crate::ports::{Publish, Totals};

/// The sensors of a bus: its task works on them, a screen looks at them. Held for the length of one event, never over an await.
pub(super) type SharedChains = Arc<Mutex<Chains>>;

/// The sensors a bus is to have, in the order of the plan.
pub(super) type Plans = Arc<[SensorPlan]>;

/// The sensors of a bus, by what it is.
#[derive(Clone)]
pub(super) enum Sensors {
    /// Of a serial port.
    Stream(SharedChains),
    /// Of a bus whose devices are asked.
    Polled(SharedPolled),
    /// Of GPIO lines.
    Lines(SharedLines),
}

impl Sensors {
    /// None yet.
    pub(super) fn of(settings: &BusSettings) -> Self {
        match settings {
            BusSettings::Serial(_) => Self::Stream(SharedChains::default()),
            BusSettings::I2c(_) | BusSettings::Files(_) => Self::Polled(SharedPolled::default()),
            BusSettings::Lines(_) => Self::Lines(SharedLines::default()),
        }
    }

    /// What a screen shows of them.
    pub(super) fn views(&self) -> Vec<SensorView> {
        match self {
            Self::Stream(chains) => chains.lock().unwrap_or_else(PoisonError::into_inner).views().cloned().collect(),
            Self::Polled(polled) => polled.lock().unwrap_or_else(PoisonError::into_inner).views(),
            Self::Lines(lines) => lines.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect(),
        }
    }
}

/// What a bus's task needs, and needs again when it is started again.
#[derive(Clone)]
pub(super) struct BusContext {
    pub(super) settings: BusSettings,
    pub(super) plans: watch::Receiver<Plans>,
    /// Tells which plans are in force.
    pub(super) adopted: Arc<watch::Sender<Plans>>,
    pub(super) publish: Arc<dyn Publish>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sensors: Sensors,
    pub(super) stop: CancellationToken,
    /// Longest a measurement may take.
    pub(super) deadline: Duration,
    /// Beats in each turn of the task: it makes progress, whatever its devices do.
    pub(super) pulse: Pulse,
    /// Where counters keep their totals.
    pub(super) totals: Arc<dyn Totals>,
    /// The lines of a test; `None`: the board's.
    pub(super) gpio: Option<Arc<dyn Gpio>>,
    /// What is to be written to the port.
    pub(super) writes: WriteQueue,
}

/// Runs the bus until it is stopped. A panic ends this bus's task alone, is counted, and is followed by a new start after a back-off.
pub(super) async fn supervise(context: BusContext) {
    let mut backoff = Backoff::new(BUS_RESTART_MIN, BUS_RESTART_MAX);
    let mut failed: u32 = 0;
    loop {
        let started = context.clock.now();
        let task = AbortOnDropHandle::new(tokio::spawn(run(context.clone())));
        let reason = match task.await {
            Err(ended) if ended.is_panic() => "it panicked".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(())) | Err(_) => return,
        };
        failed = failed.saturating_add(1);
        if context.clock.now().since(started) > BUS_RESTART_MAX {
            backoff.reset();
        }
        let wait = backoff.next_wait(fastrand::f64());
        let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        error!(bus = %context.settings.id(), error = reason, failed, delay_ms, "task of the bus ended; it is started again");
        let again = context.clock.now() + wait;
        while context.clock.now() < again {
            context.pulse.beat(context.clock.now());
            tokio::select! {
                () = context.stop.cancelled() => return,
                () = until(Some(again), context.clock.as_ref()) => {}
            }
        }
    }
}

async fn run(context: BusContext) -> std::io::Result<()> {
    match (context.settings.clone(), context.sensors.clone()) {
        (BusSettings::Serial(settings), Sensors::Stream(chains)) => {
            listen(context, &settings, &chains).await;
            Ok(())
        }
        (BusSettings::Lines(settings), Sensors::Lines(shared)) => {
            let board = || Arc::new(BoardGpio::new(settings.gpio, context.clock.clone())) as Arc<dyn Gpio>;
            let gpio = context.gpio.clone().unwrap_or_else(board);
            lines::run(context, gpio, shared).await;
            Ok(())
        }
        (_, Sensors::Polled(polled)) => polled::run(context, polled).await,
        (_, Sensors::Stream(_) | Sensors::Lines(_)) => Ok(()),
    }
}

/// Reads a serial port until it is stopped.
async fn listen(mut context: BusContext, settings: &SerialSettings, chains: &SharedChains) {
    let mut port = Port::new(settings, context.clock.clone());
    let mut away = false;
    // Before that is known, what is to be written waits.
    let mut has_been_tried = false;
    let mut opened = Moment::ZERO;
    // A task that panicked leaves its chains in an unknown state: they are made anew.
    *lock(chains) = Chains::default();
    adopt(&mut context, chains, away);
    loop {
        context.pulse.beat(context.clock.now());
        let timeout = lock(chains).timeout();
        tokio::select! {
            biased;
            () = context.stop.cancelled() => break,
            changed = context.plans.changed() => {
                if changed.is_err() {
                    break;
                }
                adopt(&mut context, chains, away);
            }
            // Before the port: one that always has bytes must not hold up what is to be written.
            job = context.writes.next(), if has_been_tried => {
                let outcome = port.write(&job.bytes).await;
                job.end(outcome.map(|()| opened));
            }
            event = port.next() => {
                let time = context.clock.wall();
                match event {
                    PortEvent::Opened => {
                        (away, has_been_tried) = (false, true);
                        opened = context.clock.now();
                        lock(chains).port_opened();
                    }
                    PortEvent::Away => {
                        (away, has_been_tried) = (true, true);
                        act(&context, chains, Chains::port_away);
                    }
                    PortEvent::Bytes { bytes, midway } => {
                        act(&context, chains, |chains, now, out| chains.received(bytes, midway, now, time, out));
                    }
                }
            }
            () = until(timeout, context.clock.as_ref()) => {}
        }
        // Looked at in every turn: a port that always has bytes must not hold up a deadline.
        if timeout.is_some_and(|at| context.clock.now() >= at) {
            act(&context, chains, Chains::tick);
        }
    }
    act(&context, chains, Chains::end);
}

fn lock(chains: &SharedChains) -> MutexGuard<'_, Chains> {
    chains.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the chains equal to the plans.
fn adopt(context: &mut BusContext, chains: &SharedChains, away: bool) {
    let plans = context.plans.borrow_and_update().clone();
    let mut out = Vec::new();
    lock(chains).apply(&plans, away, context.clock.now(), &mut out);
    context.tell(out);
    context.adopted.send_replace(plans);
}

/// Does something with the sensors, and publishes what comes of it.
fn act(context: &BusContext, chains: &SharedChains, act: impl FnOnce(&mut Chains, Moment, &mut Vec<Message>)) {
    let mut out = Vec::new();
    act(&mut lock(chains), context.clock.now(), &mut out);
    context.tell(out);
}

impl BusContext {
    /// Publishes what came of something.
    pub(super) fn tell(&self, messages: Vec<Message>) {
        for message in messages {
            self.publish.publish(message);
        }
    }
}

/// Waits for a point in time, or until the pulse is due.
pub(super) async fn until(moment: Option<Moment>, clock: &dyn Clock) {
    let wait = moment.map_or(PULSE_EVERY, |moment| moment.since(clock.now())).min(PULSE_EVERY);
    // At least a millisecond, the resolution of the timer: a deadline that is there already must not become a spin.
    tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
}

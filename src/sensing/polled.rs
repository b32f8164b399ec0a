//! The task of a bus whose devices are asked: who is due, one at a time, on the bus's own thread.
//!
//! The thread is where kernel calls wait for a device. When one does not return, the task goes on: it tells all sensors of the bus as faulty and
//! waits for the call, as it cannot be given up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::chain::Chain;
use super::task::{BusContext, until};
use super::{SensorView, ms};
use crate::bus::BusSettings;
use crate::bus::i2c::{I2cHandle, Pause};
use crate::bus::settings::I2cDevice;
use crate::bus::worker::Worker;
use crate::clock::Clock;
use crate::drivers::{Factory, PolledDriver, SampleError};
use crate::limits::{SAMPLE_PAUSE, SAMPLE_RETRY_MAX, SAMPLE_TRIES};
use crate::logic::schedule::Schedule;
use crate::model::{Message, Moment, Sample, SensorId, Timestamp};
use crate::plan::SensorPlan;

/// The sensors of a bus: its task works on them, a screen looks at them.
pub(super) type SharedPolled = Arc<Mutex<Polled>>;

/// The sensors of a bus.
#[derive(Default)]
pub(super) struct Polled {
    sensors: Vec<Sensor>,
    made: u64,
    /// Since when the bus itself is away, and how many questions failed for it since.
    away: Option<(Moment, u32)>,
}

struct Sensor {
    chain: Chain,
    /// Which of those made so far: an answer to one that was replaced meanwhile is nobody's.
    number: u64,
    /// `None` while it measures.
    driver: Option<Box<dyn PolledDriver>>,
    /// Failures in a row.
    failed: u32,
}

/// A measurement under way.
struct Running {
    id: SensorId,
    number: u64,
    answer: oneshot::Receiver<Answer>,
    deadline: Moment,
    /// Since when it is too late, which is told once.
    late: Option<Moment>,
}

struct Answer {
    driver: Box<dyn PolledDriver>,
    outcome: Result<Vec<Sample>, SampleError>,
    at: Moment,
    time: Timestamp,
}

/// Asks until it is stopped.
///
/// # Errors
/// The kernel has no thread for the bus.
pub(super) async fn run(mut context: BusContext, shared: SharedPolled) -> std::io::Result<()> {
    let worker = Worker::start(context.settings.id().as_str())?;
    let mut schedule = Schedule::new(SAMPLE_RETRY_MAX);
    let mut running: Option<Running> = None;
    // A task that panicked leaves its sensors in an unknown state: they are made anew.
    *lock(&shared) = Polled::default();
    adopt(&mut context, &shared, &mut schedule);
    loop {
        let now = context.clock.now();
        context.pulse.beat(now);
        if running.is_none()
            && let Some(id) = schedule.start(now)
        {
            running = lock(&shared).ask(id, &worker, &context, now);
            if running.is_none() {
                schedule.done(false, now);
            }
        }
        let deadline = running.as_ref().filter(|running| running.late.is_none()).map(|running| running.deadline);
        let timeout = [lock(&shared).timeout(), schedule.poll_timeout(), deadline].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = context.stop.cancelled() => break,
            changed = context.plans.changed() => {
                if changed.is_err() {
                    break;
                }
                adopt(&mut context, &shared, &mut schedule);
            }
            answer = answered(&mut running) => {
                if let Some(ended) = running.take() {
                    let now = context.clock.now();
                    if let Some(since) = ended.late {
                        info!(bus = %context.settings.id(), outage_ms = ms(now, since), "the bus answers again");
                    }
                    let mut out = Vec::new();
                    let took = lock(&shared).took(&context.settings, &ended, answer, now, &mut out);
                    context.tell(out);
                    schedule.done(took.answered, now);
                    for id in took.ask_again {
                        schedule.now(&id, now);
                    }
                }
            }
            () = until(timeout, context.clock.as_ref()) => {}
        }
        let now = context.clock.now();
        let mut out = Vec::new();
        if let Some(running) = running.as_mut().filter(|running| running.late.is_none() && now >= running.deadline) {
            running.late = Some(now);
            warn!(bus = %context.settings.id(), sensor = %running.id, "the bus hangs: a measurement does not end");
            lock(&shared).bus_away(now, &mut out);
        }
        lock(&shared).tick(now, &mut out);
        context.tell(out);
    }
    let mut out = Vec::new();
    lock(&shared).end(context.clock.now(), &mut out);
    context.tell(out);
    Ok(())
}

fn lock(shared: &SharedPolled) -> std::sync::MutexGuard<'_, Polled> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the measurement under way; for ever without one. `None` when its driver went down with a panic.
async fn answered(running: &mut Option<Running>) -> Option<Answer> {
    match running {
        Some(running) => (&mut running.answer).await.ok(),
        None => std::future::pending().await,
    }
}

fn adopt(context: &mut BusContext, shared: &SharedPolled, schedule: &mut Schedule) {
    let plans = context.plans.borrow_and_update().clone();
    let now = context.clock.now();
    let mut out = Vec::new();
    lock(shared).apply(&context.settings, &plans, now, &mut out);
    schedule.set(plans.iter().filter_map(|plan| Some((plan.id.clone(), plan.every?))), now);
    context.tell(out);
    context.adopted.send_replace(plans);
}

/// What an answer means for the timetable.
struct Took {
    answered: bool,
    /// The bus is there again: these were held to be away with it.
    ask_again: Vec<SensorId>,
}

impl Polled {
    /// What a screen shows of them.
    pub(super) fn views(&self) -> Vec<SensorView> {
        self.sensors.iter().map(|sensor| sensor.chain.view().clone()).collect()
    }

    fn apply(&mut self, settings: &BusSettings, plans: &[SensorPlan], now: Moment, out: &mut Vec<Message>) {
        let mut before = std::mem::take(&mut self.sensors);
        for plan in plans {
            let at = before.iter().position(|sensor| sensor.chain.plan().id == plan.id);
            match at.map(|at| before.swap_remove(at)) {
                Some(sensor) if sensor.chain.plan() == plan => self.sensors.push(sensor),
                replaced => {
                    if let Some(mut old) = replaced {
                        old.chain.replaced(plan, now, out);
                    }
                    self.made += 1;
                    let driver = make(settings, plan);
                    let chain = Chain::new(plan.clone(), now);
                    self.sensors.push(Sensor { chain, number: self.made, driver, failed: 0 });
                }
            }
        }
        for mut removed in before {
            removed.chain.end(now, out);
        }
    }

    /// Has the sensor measure. `None` when it is not there, or the thread is stuck.
    fn ask(&mut self, id: SensorId, worker: &Worker, context: &BusContext, now: Moment) -> Option<Running> {
        let sensor = self.sensors.iter_mut().find(|sensor| sensor.chain.plan().id == id)?;
        let mut driver = sensor.driver.take()?;
        let tries = if sensor.failed > 0 { 1 } else { SAMPLE_TRIES };
        let (sender, answer) = oneshot::channel();
        let (clock, deadline) = (Arc::clone(&context.clock), context.deadline);
        let job = Box::new(move || {
            let outcome = measure(driver.as_mut(), tries, deadline, clock.as_ref());
            // Nobody waits any more when the bus was stopped meanwhile.
            let _ = sender.send(Answer { driver, outcome, at: clock.now(), time: clock.wall() });
        });
        worker.run(job).ok()?;
        Some(Running { id, number: sensor.number, answer, deadline: now + context.deadline, late: None })
    }

    fn took(
        &mut self,
        settings: &BusSettings,
        ended: &Running,
        answer: Option<Answer>,
        now: Moment,
        out: &mut Vec<Message>,
    ) -> Took {
        let bus = settings.id();
        let gone = matches!(&answer, Some(Answer { outcome: Err(SampleError::Away(_)), .. }));
        let mut ask_again = Vec::new();
        if let (false, Some((since, failed))) = (gone, self.away) {
            self.away = None;
            info!(%bus, failed, outage_ms = ms(now, since), "the bus is there again");
            ask_again = self.others(&ended.id);
        } else if ended.late.is_some() {
            ask_again = self.others(&ended.id);
        }
        let Some(at) = self.sensors.iter().position(|sensor| sensor.number == ended.number) else {
            return Took { answered: true, ask_again };
        };
        let sensor = &mut self.sensors[at];
        let Some(Answer { driver, outcome, at, time }) = answer else {
            sensor.driver = make(settings, sensor.chain.plan());
            sensor.failed = sensor.failed.saturating_add(1);
            sensor.chain.unread("its driver panicked, and is started again", now, out);
            return Took { answered: false, ask_again };
        };
        sensor.driver = Some(driver);
        sensor.failed = if outcome.is_ok() { 0 } else { sensor.failed.saturating_add(1) };
        let answered = outcome.is_ok();
        match outcome {
            Ok(samples) => sensor.chain.sampled(samples, at, time, out),
            Err(SampleError::Device(reason)) => sensor.chain.unread(&reason, now, out),
            Err(SampleError::Away(reason)) => self.away(settings, &reason, now, out),
        }
        Took { answered, ask_again }
    }

    fn others(&self, id: &SensorId) -> Vec<SensorId> {
        self.sensors.iter().map(|sensor| &sensor.chain.plan().id).filter(|other| *other != id).cloned().collect()
    }

    /// The bus itself is not there: told once, not once a sensor.
    fn away(&mut self, settings: &BusSettings, reason: &str, now: Moment, out: &mut Vec<Message>) {
        let bus = settings.id();
        if let Some((_, failed)) = &mut self.away {
            *failed = failed.saturating_add(1);
            debug!(%bus, error = reason, "the bus cannot be used");
            return;
        }
        self.away = Some((now, 1));
        warn!(%bus, error = reason, "the bus cannot be used");
        self.bus_away(now, out);
    }

    fn bus_away(&mut self, now: Moment, out: &mut Vec<Message>) {
        for sensor in &mut self.sensors {
            sensor.chain.port_away(now, out);
        }
    }

    fn tick(&mut self, now: Moment, out: &mut Vec<Message>) {
        for sensor in &mut self.sensors {
            if sensor.chain.timeout().is_some_and(|at| now >= at) {
                sensor.chain.tick(now, out);
            }
        }
    }

    fn timeout(&self) -> Option<Moment> {
        self.sensors.iter().filter_map(|sensor| sensor.chain.timeout()).min()
    }

    fn end(&mut self, now: Moment, out: &mut Vec<Message>) {
        for sensor in &mut self.sensors {
            sensor.chain.end(now, out);
        }
    }
}

/// Measures, a few times if it must: a disturbed transaction is no news. A device that fails slowly has no try that would make it late: that is
/// the sign of a bus that hangs.
fn measure(
    driver: &mut dyn PolledDriver,
    tries: u32,
    deadline: Duration,
    clock: &dyn Clock,
) -> Result<Vec<Sample>, SampleError> {
    let begun = clock.now();
    let mut outcome = driver.sample();
    let mut longest = clock.now().since(begun);
    for _ in 1..tries {
        let now = clock.now();
        // The next one begins with setting the device up, and may take twice as long.
        let fits = now.since(begun) + longest.saturating_mul(2) <= deadline;
        if !(fits && matches!(outcome, Err(SampleError::Device(_)))) {
            break;
        }
        driver.reset();
        std::thread::sleep(SAMPLE_PAUSE);
        outcome = driver.sample();
        longest = longest.max(clock.now().since(now));
    }
    if outcome.is_err() {
        driver.reset();
    }
    outcome
}

/// The driver of a sensor, with its way to its bus. The plan gives each bus sensors of its kind alone.
fn make(settings: &BusSettings, plan: &SensorPlan) -> Option<Box<dyn PolledDriver>> {
    match (settings, &plan.factory) {
        (BusSettings::I2c(bus), Factory::I2c(factory)) => Some(match &bus.device {
            I2cDevice::Path(path) => factory.make(I2cHandle::open(path), Pause::Real),
            I2cDevice::Simulated => {
                let target = factory.simulated(seed(&plan.id));
                factory.make(I2cHandle::simulated(factory.address(), target), Pause::None)
            }
        }),
        (BusSettings::Files(bus), Factory::Files(factory)) => Some(match &bus.sys {
            Some(sys) => factory.make(sys),
            None => factory.simulated(seed(&plan.id)),
        }),
        _ => None,
    }
}

/// The same sensor moves the same way each time (FNV-1a).
fn seed(id: &SensorId) -> u64 {
    id.as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;

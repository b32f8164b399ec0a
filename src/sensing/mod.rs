//! Joins buses, drivers and pipelines: one supervised task a bus, which turns what arrives into messages.

pub mod chain;
mod chains;
mod ledger;
pub mod line;
mod lines;
mod polled;
pub mod stream;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::chain::Chain;
pub use self::line::LineChain;
pub use self::stream::StreamChain;
use self::task::{BusContext, Plans, Sensors, supervise};
use crate::bus::gpio::Gpio;
use crate::bus::{BusSettings, SerialWriter, WriteQueue, write_path};
use crate::clock::Clock;
use crate::health::{Health, Supervised};
use crate::limits::{PULSE_LIMIT, SAMPLE_DEADLINE, STOP_SENSORS};
use crate::model::{BusId, LineTotals, Moment, Quality, Sample, SensorId};
use crate::plan::SensorPlan;
use crate::ports::{Publish, Recall, Remembered, Totals};

/// The running sensors.
pub struct Sensing {
    publish: Arc<dyn Publish>,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    buses: BTreeMap<BusId, RunningBus>,
    /// Ids in the order of the plan.
    order: Vec<SensorId>,
    /// Longest a measurement may take.
    deadline: Duration,
    /// Where counters keep their totals.
    totals: Arc<dyn Totals>,
    /// Lines that somebody else moves; `None`: the board's.
    gpio: Option<Arc<dyn Gpio>>,
    writes: Writes,
    /// Serial ports that are open for what is written to them, with sensors or without.
    written: BTreeSet<BusId>,
}

/// The ways to write to serial ports; each is there from when it is asked for.
#[derive(Clone, Default)]
pub struct Writes(Arc<Mutex<BTreeMap<BusId, (SerialWriter, WriteQueue)>>>);

impl Writes {
    fn of(&self, bus: &BusId) -> (SerialWriter, WriteQueue) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(bus.clone()).or_insert_with(write_path).clone()
    }

    /// The way to one port.
    pub fn writer(&self, bus: &BusId) -> SerialWriter {
        self.of(bus).0
    }
}

struct RunningBus {
    settings: BusSettings,
    plans: watch::Sender<Plans>,
    adopted: watch::Receiver<Plans>,
    sensors: Sensors,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// The task's place in the book: it ends with the bus.
    _supervised: Supervised,
}

/// What a screen shows of a sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorView {
    /// Who it is.
    pub id: SensorId,
    /// The bus it hangs on.
    pub bus: BusId,
    /// Its driver.
    pub driver: &'static str,
    /// Units of its values, by the name they are told under, where they are known.
    pub units: Arc<[(Arc<str>, Arc<str>)]>,
    /// Values last told, processed.
    pub values: Vec<Sample>,
    /// Their quality.
    pub quality: Quality,
    /// When they were told; `None` before the first.
    pub at: Option<Moment>,
    /// Availability; `None` before it is known.
    pub online: Option<bool>,
    /// What became of its frames.
    pub frames: FrameCounts,
}

/// A way to see what the sensors say.
#[derive(Clone, Default)]
pub struct Gallery {
    sensors: Vec<Sensors>,
    order: Vec<SensorId>,
}

impl Gallery {
    /// What each sensor said last, in the order of the plan.
    pub fn views(&self) -> Vec<SensorView> {
        let mut views: BTreeMap<SensorId, SensorView> = BTreeMap::new();
        for sensors in &self.sensors {
            views.extend(sensors.views().into_iter().map(|view| (view.id.clone(), view)));
        }
        self.order.iter().filter_map(|id| views.remove(id)).collect()
    }
}

/// How many frames were what, since the sensor was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameCounts {
    /// Read.
    pub good: u64,
    /// No frame, or one whose values could not be read.
    pub bad: u64,
    /// Somebody else's.
    pub ignored: u64,
}

impl Sensing {
    /// Starts one task a bus. A port that is not there is no error: it is opened when it comes. A bus without sensors is not opened.
    pub fn start(
        buses: &[BusSettings],
        sensors: &[SensorPlan],
        publish: Arc<dyn Publish>,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
    ) -> Self {
        let health = Arc::clone(health);
        let mut sensing = Self {
            publish,
            clock,
            health,
            buses: BTreeMap::new(),
            order: Vec::new(),
            deadline: SAMPLE_DEADLINE,
            writes: Writes::default(),
            written: BTreeSet::new(),
            totals: Arc::new(Forgetful),
            gpio: None,
        };
        for settings in buses {
            let plans = plans_of(settings.id(), sensors);
            if !plans.is_empty() {
                sensing.start_bus(settings, plans);
            }
        }
        sensing.order = sensors.iter().map(|sensor| sensor.id.clone()).collect();
        sensing
    }

    /// Says where counters keep their totals. Sensors that run are not told: it is said before there are any.
    pub fn keep_totals(&mut self, totals: Arc<dyn Totals>) {
        self.totals = totals;
    }

    /// Says whose lines inputs are, instead of the board's. Sensors that run are not told: it is said before there are any.
    pub fn use_lines(&mut self, gpio: Arc<dyn Gpio>) {
        self.gpio = Some(gpio);
    }

    /// The ways to write to serial ports.
    pub fn writes(&self) -> Writes {
        self.writes.clone()
    }

    /// From the next [`Self::apply`] on these ports are open, whether they have sensors or not.
    pub fn set_written(&mut self, buses: impl IntoIterator<Item = BusId>) {
        self.written = buses.into_iter().collect();
    }

    /// Makes what runs equal to the plan: a changed sensor restarts, an unchanged one on the same port does not miss a byte.
    pub async fn apply(&mut self, buses: &[BusSettings], sensors: &[SensorPlan]) {
        let wanted = |id: &BusId| buses.iter().find(|settings| settings.id() == id);
        let ended: Vec<BusId> = self
            .buses
            .iter()
            .filter(|(id, bus)| wanted(id) != Some(&bus.settings) || self.is_idle(id, &plans_of(id, sensors)))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &ended {
            if let Some(bus) = self.buses.get(id) {
                bus.stop.cancel();
            }
        }
        // A port is closed before another bus may open it.
        for id in ended {
            if let Some(bus) = self.buses.remove(&id) {
                bus.stop(STOP_SENSORS).await;
            }
        }
        // A sensor leaves its bus before it appears on another: its last word on the old one is `offline`.
        for (id, bus) in &mut self.buses {
            let stay =
                |running: &&SensorPlan| sensors.iter().any(|sensor| sensor.id == running.id && sensor.bus == *id);
            let staying: Plans = bus.plans.borrow().iter().filter(stay).cloned().collect();
            bus.adopt(staying).await;
        }
        for settings in buses {
            let plans = plans_of(settings.id(), sensors);
            if self.is_idle(settings.id(), &plans) {
                continue;
            }
            match self.buses.get_mut(settings.id()) {
                Some(bus) => bus.adopt(plans).await,
                None => self.start_bus(settings, plans),
            }
        }
        self.order = sensors.iter().map(|sensor| sensor.id.clone()).collect();
    }

    /// What each sensor said last, in the order of the plan.
    pub fn views(&self) -> Vec<SensorView> {
        self.gallery().views()
    }

    /// The same for somebody who does not own the sensors, until the next [`Self::apply`].
    pub fn gallery(&self) -> Gallery {
        Gallery { sensors: self.buses.values().map(|bus| bus.sensors.clone()).collect(), order: self.order.clone() }
    }

    /// Stops reading and says `offline` for each sensor; what has not ended after `budget` is cut off.
    pub async fn stop(self, budget: Duration) {
        for bus in self.buses.values() {
            bus.stop.cancel();
        }
        let deadline = self.clock.now() + budget;
        for bus in self.buses.into_values() {
            bus.stop(deadline.since(self.clock.now())).await;
        }
    }

    /// Whether nobody needs the bus.
    fn is_idle(&self, bus: &BusId, plans: &Plans) -> bool {
        plans.is_empty() && !self.written.contains(bus)
    }

    fn start_bus(&mut self, settings: &BusSettings, plans: Plans) {
        let (sender, receiver) = watch::channel(plans);
        let (adopted_sender, adopted) = watch::channel(Plans::default());
        let sensors = Sensors::of(settings);
        let stop = CancellationToken::new();
        let supervised = self.health.enter(format!("bus {}", settings.id()), PULSE_LIMIT, self.clock.now());
        let task = tokio::spawn(supervise(BusContext {
            settings: settings.clone(),
            plans: receiver,
            adopted: Arc::new(adopted_sender),
            publish: self.publish.clone(),
            clock: self.clock.clone(),
            sensors: sensors.clone(),
            stop: stop.clone(),
            deadline: self.deadline,
            pulse: supervised.pulse(),
            totals: self.totals.clone(),
            gpio: self.gpio.clone(),
            writes: self.writes.of(settings.id()).1,
        }));
        let bus = RunningBus {
            settings: settings.clone(),
            plans: sender,
            adopted,
            sensors,
            stop,
            task,
            _supervised: supervised,
        };
        self.buses.insert(settings.id().clone(), bus);
    }
}

impl RunningBus {
    /// Gives the bus other sensors, and waits until it has them. A bus that is just being started again has them when it is.
    async fn adopt(&mut self, plans: Plans) {
        if *self.plans.borrow() == plans {
            return;
        }
        self.plans.send_replace(plans.clone());
        let in_force = self.adopted.wait_for(|adopted| Arc::ptr_eq(adopted, &plans));
        if tokio::time::timeout(STOP_SENSORS, in_force).await.is_err() {
            warn!(bus = %self.settings.id(), "task of the bus does not answer");
        }
    }

    async fn stop(mut self, budget: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(budget, &mut self.task).await.is_err() {
            warn!(bus = %self.settings.id(), "task of the bus does not end; it is cut off");
            self.task.abort();
        }
    }
}

/// Counters begin at zero with the process.
struct Forgetful;

impl Totals for Forgetful {
    fn recall(&self, _: &SensorId) -> Recall {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn remember(&self, _: &SensorId, _: LineTotals) -> Remembered {
        Box::pin(std::future::ready(true))
    }
}

/// The sensors of a bus, in the order of the plan.
fn plans_of(bus: &BusId, sensors: &[SensorPlan]) -> Plans {
    sensors.iter().filter(|sensor| sensor.bus == *bus).cloned().collect()
}

fn ms(now: Moment, since: Moment) -> u64 {
    u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX)
}

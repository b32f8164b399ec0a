//! Joins devices, outputs and commands: one supervised task an actuator, which judges what it is asked, notes it, moves, reads back, and tells.

mod board;
mod hands;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::board::Board;
use self::task::{Context, Orders, supervise};
use crate::actuators::{Chip, Means, Way};
use crate::bus::gpio::{BoardGpio, Gpio, GpioSettings};
use crate::bus::i2c::I2cHandle;
use crate::bus::settings::{BusSettings, I2cDevice};
use crate::bus::{SerialWriter, write_path};
use crate::clock::Clock;
use crate::health::{Health, Supervised};
use crate::limits::{COMMAND_LAST_COMMIT, OUTPUT_START, PULSE_LIMIT, STOP_ACTUATORS, STORE_RETRY};
use crate::model::{Ack, ActuatorId, BusId, Outcome};
use crate::plan::ActuatorPlan;
use crate::ports::{Commands, Publish};
use crate::store::{NotWritten, State, StateDesk};

/// The running actuators.
pub struct Actuating {
    publish: Arc<dyn Publish>,
    clock: Arc<dyn Clock>,
    desk: StateDesk,
    health: Arc<Health>,
    board: Arc<Board>,
    running: BTreeMap<ActuatorId, Running>,
    gpio: Option<(GpioSettings, Arc<dyn Gpio>)>,
    chips: HashMap<(BusId, u8), Weak<Chip>>,
    /// The ways to the serial ports, which the sensors' side holds.
    writers: Box<dyn Fn(&BusId) -> SerialWriter + Send + Sync>,
    link: watch::Sender<bool>,
    /// Whether what the actuators have to say is told, and commands are done. Not before there is somebody to hear.
    open: watch::Sender<bool>,
    unanswered: Option<JoinHandle<()>>,
}

struct Running {
    plans: watch::Sender<ActuatorPlan>,
    settled: Arc<watch::Sender<bool>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// The task's place in the book: it ends with the actuator.
    _supervised: Supervised,
}

impl Actuating {
    /// No actuators yet.
    pub fn new(publish: Arc<dyn Publish>, clock: Arc<dyn Clock>, desk: StateDesk, health: &Arc<Health>) -> Self {
        Self {
            publish,
            clock,
            desk,
            health: Arc::clone(health),
            board: Arc::new(Board::default()),
            running: BTreeMap::new(),
            gpio: None,
            chips: HashMap::new(),
            writers: Box::new(|_| write_path().0),
            link: watch::Sender::new(false),
            open: watch::Sender::new(false),
            unanswered: None,
        }
    }

    /// The same, with lines of another board.
    #[must_use]
    pub fn with_gpio(mut self, settings: GpioSettings, gpio: Arc<dyn Gpio>) -> Self {
        self.gpio = Some((settings, gpio));
        self
    }

    /// The same, with ways to serial ports.
    #[must_use]
    pub fn with_ports(mut self, writers: impl Fn(&BusId) -> SerialWriter + Send + Sync + 'static) -> Self {
        self.writers = Box::new(writers);
        self
    }

    /// Where commands are handed in.
    pub fn commands(&self) -> Arc<dyn Commands> {
        Arc::clone(&self.board) as Arc<dyn Commands>
    }

    /// Makes what runs equal to the plan, and waits until each output is in its safe state, has said that it cannot, or a limit of time. An
    /// unchanged actuator is not touched. A changed one keeps hold of its device, where that is the same, and goes to its new safe state;
    /// else it goes to its old one and lets go.
    pub async fn apply(&mut self, plans: &[ActuatorPlan]) {
        self.leave(plans).await;
        // All of them before the first one moves: what is no output of ours is written high.
        let _held = self.reserve(plans);
        for plan in plans {
            let Some(running) = self.running.get(&plan.id) else {
                self.start(plan);
                continue;
            };
            running.plans.send_if_modified(|now| {
                let changed = now != plan;
                if changed {
                    *now = plan.clone();
                    running.settled.send_replace(false);
                }
                changed
            });
        }
        self.board.set_order(plans);
        let settled = async {
            for running in self.running.values() {
                // There is a sender for as long as it runs.
                let _ = running.settled.subscribe().wait_for(|settled| *settled).await;
            }
        };
        if tokio::time::timeout(OUTPUT_START, settled).await.is_err() {
            warn!("not every output was asked for its safe state in time");
        }
    }

    /// The first half of [`Self::apply`]: those that are not in the plan, or no longer at the same device, go to their safe state and let go of
    /// it. For what has to happen before their ports are closed and their lines are somebody else's.
    pub async fn leave(&mut self, plans: &[ActuatorPlan]) {
        let stays = |id: &ActuatorId, running: &Running| {
            plans.iter().any(|plan| plan.id == *id && plan.same_device(&running.plans.borrow()))
        };
        let gone: Vec<ActuatorId> =
            self.running.iter().filter(|(id, running)| !stays(id, running)).map(|(id, _)| id.clone()).collect();
        let gone: Vec<(ActuatorId, Running)> =
            gone.into_iter().filter_map(|id| self.running.remove(&id).map(|running| (id, running))).collect();
        self.board.keep(plans.iter().map(|plan| &plan.id));
        // A line is let go of before another actuator asks for it.
        stop_all(gone, STOP_ACTUATORS).await;
    }

    /// There is somebody to hear: tells what there is to tell, and lets commands in. Commands that an earlier process took and did not answer
    /// are answered.
    pub fn open(&mut self) {
        if self.unanswered.is_none() {
            let (board, desk, open) = (Arc::clone(&self.board), self.desk.clone(), self.open.clone());
            self.unanswered = Some(tokio::spawn(answer_what_was_left(board, desk, open)));
        }
    }

    /// Whether the link to a cloud is up.
    pub fn link(&self) -> watch::Sender<bool> {
        self.link.clone()
    }

    /// Every output to its safe state, and let go. What has not ended after `budget` is cut off. Who gives a command after that is told that it is
    /// refused, for as long as there is a way in.
    pub async fn stop(mut self, budget: Duration) {
        let end = self.clock.now() + budget;
        if let Some(task) = self.unanswered.take() {
            task.abort();
        }
        let running = std::mem::take(&mut self.running);
        stop_all(running.into_iter().collect(), budget).await;
        let last = async {
            self.board.close().await;
            // The answers that were given are noted, and told, before this.
            let (tell, told) = oneshot::channel::<Result<(), NotWritten>>();
            self.desk.write(|_| Ok(()), |outcome| drop(tell.send(outcome)));
            let _ = told.await;
        };
        // A disk that holds this up has the next start tell the answers.
        let _ = tokio::time::timeout(end.since(self.clock.now()).max(COMMAND_LAST_COMMIT), last).await;
    }

    fn start(&mut self, plan: &ActuatorPlan) {
        let Some(device) = self.way(plan).and_then(|way| plan.factory.make(way)) else {
            warn!(actuator = %plan.id, "there is no way to this actuator");
            return;
        };
        let settled = Arc::new(watch::Sender::new(false));
        let (plans, plans_seen) = watch::channel(plan.clone());
        let stop = CancellationToken::new();
        let door = self.board.door(plan, Arc::clone(&self.publish), Arc::clone(&self.clock), self.desk.clone());
        let supervised = self.health.enter(format!("actuator {}", plan.id), PULSE_LIMIT, self.clock.now());
        let context = Context {
            door,
            pulse: supervised.pulse(),
            plans: plans_seen,
            device: hands::Hands::new(device),
            link: self.link.subscribe(),
            open: self.open.subscribe(),
            settled: Arc::clone(&settled),
            stop: stop.clone(),
            orders: Orders::default(),
        };
        let task = tokio::spawn(supervise(context));
        self.running.insert(plan.id.clone(), Running { plans, settled, stop, task, _supervised: supervised });
    }

    /// Says to the chips which of their pins are outputs of ours. Returns the chips: until an output has its own, they are held by that.
    fn reserve(&mut self, plans: &[ActuatorPlan]) -> Vec<Arc<Chip>> {
        let mut chips = Vec::new();
        for plan in plans {
            if let (Means::I2c { address, output, .. }, Some(bus)) = (plan.factory.means(), &plan.bus) {
                let chip = self.chip(bus.id(), address);
                chip.reserve(output);
                chips.push(chip);
            }
        }
        chips
    }

    fn chip(&mut self, bus: &BusId, address: u8) -> Arc<Chip> {
        let chip = self.chips.entry((bus.clone(), address)).or_default();
        let shared = chip.upgrade().unwrap_or_default();
        *chip = Arc::downgrade(&shared);
        shared
    }

    fn way(&mut self, plan: &ActuatorPlan) -> Option<Way> {
        match (plan.factory.means(), &plan.bus) {
            (Means::Line(_), _) => {
                let gpio = match &self.gpio {
                    Some((settings, gpio)) if *settings == plan.gpio => Arc::clone(gpio),
                    _ => {
                        let gpio = Arc::new(BoardGpio::new(plan.gpio, Arc::clone(&self.clock))) as Arc<dyn Gpio>;
                        self.gpio = Some((plan.gpio, Arc::clone(&gpio)));
                        gpio
                    }
                };
                Some(Way::Gpio(gpio, format!("tidegate {}", plan.id)))
            }
            (Means::I2c { address, .. }, Some(BusSettings::I2c(bus))) => {
                let handle = match &bus.device {
                    I2cDevice::Path(path) => I2cHandle::open(path),
                    I2cDevice::Simulated => I2cHandle::simulated(address, plan.factory.simulated()?),
                };
                Some(Way::I2c(handle, self.chip(&bus.id, address)))
            }
            (Means::Serial, Some(BusSettings::Serial(bus))) => Some(Way::Serial((self.writers)(&bus.id))),
            _ => None,
        }
    }
}

async fn stop_all(actuators: Vec<(ActuatorId, Running)>, budget: Duration) {
    for (_, actuator) in &actuators {
        actuator.stop.cancel();
    }
    let mut stopping = tokio::task::JoinSet::new();
    for (id, mut actuator) in actuators {
        stopping.spawn(async move {
            if tokio::time::timeout(budget, &mut actuator.task).await.is_err() {
                warn!(actuator = %id, "actuator does not reach its safe state in time; it is cut off");
                actuator.task.abort();
            }
        });
    }
    while stopping.join_next().await.is_some() {}
}

/// Answers `interrupted` to what an earlier process took and left: told first, noted then, so that it is told in any case. Commands are let in
/// behind that, so that one with such an id finds the answer it had.
async fn answer_what_was_left(board: Arc<Board>, desk: StateDesk, open: watch::Sender<bool>) {
    loop {
        let (tell, told) = oneshot::channel();
        desk.write(State::unanswered, |outcome| drop(tell.send(outcome)));
        // A disk without room may have some later.
        let Ok(Ok(left)) = told.await else {
            open.send_replace(true);
            tokio::time::sleep(STORE_RETRY).await;
            continue;
        };
        for left in left {
            let reason: Arc<str> = "the gateway was stopped before it had an answer; it is not done again".into();
            if let Ok(id) = ActuatorId::parse(&left.actuator) {
                let ack = Ack::because(left.id.clone(), Outcome::Interrupted, Arc::clone(&reason));
                board.tell_left(&id, ack);
            }
            let number = left.number;
            desk.write(move |state| state.answer(number, Outcome::Interrupted, Some(&reason)), |_| {});
        }
        open.send_replace(true);
        return;
    }
}

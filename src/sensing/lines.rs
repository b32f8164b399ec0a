//! The lines of the board's GPIO chips: one supervised task a line, so that a chip behind a bus that hangs holds up its own lines alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use super::SensorView;
use super::ledger::Ledger;
use super::line::LineChain;
use super::task::{BusContext, until};
use crate::bus::gpio::{Gpio, InputRequest, LineEvent, LinePort};
use crate::clock::Clock;
use crate::drivers::{Factory, LineFactory};
use crate::limits::{BUS_RESTART_MAX, BUS_RESTART_MIN, LINES_END};
use crate::logic::retry::Backoff;
use crate::model::{Message, SensorId};
use crate::plan::SensorPlan;
use crate::ports::{Publish, Totals};

/// What a screen shows of the lines.
pub(super) type SharedLines = Arc<Mutex<BTreeMap<SensorId, SensorView>>>;

/// A line that is read.
struct Running {
    plan: SensorPlan,
    /// Another takes its place, which tells its availability.
    replaced: Arc<Mutex<Option<SensorPlan>>>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// Reads the lines until it is stopped.
pub(super) async fn run(mut context: BusContext, gpio: Arc<dyn Gpio>, shared: SharedLines) {
    let mut lines: BTreeMap<SensorId, Running> = BTreeMap::new();
    lock(&shared).clear();
    adopt(&mut context, &gpio, &shared, &mut lines).await;
    loop {
        context.pulse.beat(context.clock.now());
        tokio::select! {
            biased;
            () = context.stop.cancelled() => break,
            changed = context.plans.changed() => {
                if changed.is_err() {
                    break;
                }
                adopt(&mut context, &gpio, &shared, &mut lines).await;
            }
            () = until(None, context.clock.as_ref()) => {}
        }
    }
    end(lines.into_values().collect()).await;
}

/// Makes the tasks equal to the plans. A line is given back before anyone takes it again.
async fn adopt(
    context: &mut BusContext,
    gpio: &Arc<dyn Gpio>,
    shared: &SharedLines,
    lines: &mut BTreeMap<SensorId, Running>,
) {
    let plans = context.plans.borrow_and_update().clone();
    let planned = |id: &SensorId| plans.iter().find(|plan| plan.id == *id);
    let ended: Vec<SensorId> =
        lines.iter().filter(|(id, line)| planned(id) != Some(&line.plan)).map(|(id, _)| id.clone()).collect();
    let ending: Vec<Running> = ended.iter().filter_map(|id| lines.remove(id)).collect();
    for line in &ending {
        *line.replaced.lock().unwrap_or_else(PoisonError::into_inner) = planned(&line.plan.id).cloned();
    }
    end(ending).await;
    for id in ended.iter().filter(|id| planned(id).is_none()) {
        lock(shared).remove(id);
    }
    for plan in plans.iter().filter(|plan| !lines.contains_key(&plan.id)).cloned().collect::<Vec<_>>() {
        // The plan gives this bus drivers of its kind alone.
        let Factory::Line(factory) = &plan.factory else { continue };
        let (stop, replaced) = (CancellationToken::new(), Arc::default());
        let line = Line {
            plan: plan.clone(),
            factory: factory.clone(),
            replaced: Arc::clone(&replaced),
            gpio: gpio.clone(),
            totals: context.totals.clone(),
            publish: context.publish.clone(),
            clock: context.clock.clone(),
            shared: shared.clone(),
            stop: stop.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(supervise(line)));
        lines.insert(plan.id.clone(), Running { plan, replaced, stop, task });
    }
    context.adopted.send_replace(plans);
}

/// Ends tasks, all at once; one that hangs in the kernel is cut off.
async fn end(lines: Vec<Running>) {
    for line in &lines {
        line.stop.cancel();
    }
    let deadline = tokio::time::sleep(LINES_END);
    tokio::pin!(deadline);
    for mut line in lines {
        tokio::select! {
            biased;
            _ = &mut line.task => {}
            () = &mut deadline => warn!(sensor = %line.plan.id, "task of the line does not end; it is cut off"),
        }
    }
}

/// What a line's task needs, and needs again when it is started again.
#[derive(Clone)]
struct Line {
    plan: SensorPlan,
    factory: Arc<dyn LineFactory>,
    replaced: Arc<Mutex<Option<SensorPlan>>>,
    gpio: Arc<dyn Gpio>,
    totals: Arc<dyn Totals>,
    publish: Arc<dyn Publish>,
    clock: Arc<dyn Clock>,
    shared: SharedLines,
    stop: CancellationToken,
}

/// Runs one line until it is stopped. A panic ends this line's task alone, and is followed by a new start after a back-off.
async fn supervise(line: Line) {
    let mut backoff = Backoff::new(BUS_RESTART_MIN, BUS_RESTART_MAX);
    let mut failed: u32 = 0;
    loop {
        let started = line.clock.now();
        let task = AbortOnDropHandle::new(tokio::spawn(read(line.clone())));
        match task.await {
            Err(ended) if ended.is_panic() => {}
            Ok(()) | Err(_) => return,
        }
        failed = failed.saturating_add(1);
        if line.clock.now().since(started) > BUS_RESTART_MAX {
            backoff.reset();
        }
        let wait = backoff.next_wait(fastrand::f64());
        let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        error!(sensor = %line.plan.id, failed, delay_ms, "task of the line panicked; it is started again");
        tokio::select! {
            () = line.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn read(line: Line) {
    let clock = line.clock.clone();
    let mut chain = LineChain::new(line.plan.clone(), line.factory.as_ref(), clock.now());
    let request = InputRequest { consumer: format!("tidegate:{}", line.plan.id), ..line.factory.request() };
    let mut port = LinePort::new(line.gpio.clone(), request, line.plan.id.clone(), clock.clone());
    let mut ledger = Ledger::new(line.plan.id.clone(), line.factory.counts(), line.totals.clone(), clock.clone());
    loop {
        let timeout = [chain.timeout(), ledger.timeout()].into_iter().flatten().min();
        let look_at = chain.look_at();
        let mut out = Vec::new();
        tokio::select! {
            biased;
            () = line.stop.cancelled() => break,
            recalled = ledger.recalled() => {
                let (now, wall) = (clock.now(), clock.wall());
                match recalled {
                    Ok(totals) => chain.restore(totals, now, wall, &mut out),
                    Err(reason) => chain.not_restored(&reason, now, &mut out),
                }
            }
            event = port.next(look_at) => {
                let (now, wall) = (clock.now(), clock.wall());
                match event {
                    LineEvent::Opened { active } => chain.opened(active, now, wall, &mut out),
                    LineEvent::Edges(edges) => chain.edges(edges, now, wall, &mut out),
                    LineEvent::Level { active } => chain.level(active, now, wall, &mut out),
                    LineEvent::Away => chain.away(now, &mut out),
                }
            }
            () = until(timeout, clock.as_ref()) => {}
        }
        let now = clock.now();
        chain.tick(now, clock.wall(), &mut out);
        ledger.keep(chain.totals(), now);
        line.tell(&chain, out);
    }
    port.close().await;
    let mut out = Vec::new();
    let replaced = line.replaced.lock().unwrap_or_else(PoisonError::into_inner).take();
    match replaced {
        Some(by) => chain.chain_mut().replaced(&by, clock.now(), &mut out),
        None => chain.chain_mut().end(clock.now(), &mut out),
    }
    line.tell(&chain, out);
    ledger.close(chain.totals()).await;
}

impl Line {
    fn tell(&self, chain: &LineChain, messages: Vec<Message>) {
        for message in messages {
            self.publish.publish(message);
        }
        lock(&self.shared).insert(self.plan.id.clone(), chain.chain().view().clone());
    }
}

fn lock(shared: &SharedLines) -> std::sync::MutexGuard<'_, BTreeMap<SensorId, SensorView>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Sensing;
    use super::super::tests::{LIMIT, Told, sensor};
    use super::*;
    use crate::bus::BusSettings;
    use crate::bus::gpio::{GpioError, GpioSettings, SimulatedGpio};
    use crate::bus::settings::LinesSettings;
    use crate::clock::SystemClock;
    use crate::drivers::registry;
    use crate::health::Health;
    use crate::model::{BusId, LineTotals};
    use crate::ports::{Recall, Remembered};

    /// Keeps totals as a file would.
    #[derive(Default)]
    struct Memory(Mutex<BTreeMap<SensorId, LineTotals>>);

    impl Totals for Memory {
        fn recall(&self, sensor: &SensorId) -> Recall {
            let totals = self.0.lock().unwrap().get(sensor).copied();
            Box::pin(std::future::ready(Ok(totals)))
        }

        fn remember(&self, sensor: &SensorId, totals: LineTotals) -> Remembered {
            self.0.lock().unwrap().insert(sensor.clone(), totals);
            Box::pin(std::future::ready(true))
        }
    }

    struct Bench {
        gpio: SimulatedGpio,
        told: Arc<Told>,
        sensing: Sensing,
    }

    fn buses() -> [BusSettings; 1] {
        [BusSettings::Lines(LinesSettings { id: BusId::parse("gpio").unwrap(), gpio: GpioSettings::default() })]
    }

    fn line(id: &str, driver: &str, options: &str) -> SensorPlan {
        let spec = registry::find(driver).unwrap();
        let table = toml::de::DeTable::parse(options).unwrap().into_inner();
        SensorPlan {
            driver: spec.name,
            every: Some(Duration::from_millis(50)),
            options: options.to_owned(),
            factory: spec.build(table).ok().unwrap(),
            ..sensor(id, "gpio", "match = { json = true }")
        }
    }

    impl Bench {
        async fn new(sensors: &[SensorPlan], totals: Arc<Memory>) -> Self {
            let (gpio, told) = (SimulatedGpio::new(SystemClock::shared()), Arc::new(Told::default()));
            let mut sensing = Sensing::start(&[], &[], told.clone(), SystemClock::shared(), &Health::new());
            sensing.keep_totals(totals);
            sensing.gpio = Some(Arc::new(gpio.clone()));
            sensing.apply(&buses(), sensors).await;
            Self { gpio, told, sensing }
        }

        /// Waits until the sensor has its line. That somebody holds it is not enough: a thread takes it, and hands it over later.
        async fn has_its_line(&self, sensor: &str) {
            let topic = format!("{sensor}/availability");
            self.told.wait("the line to be taken", |told| told.on(&topic) == ["online"]).await;
        }
    }

    #[tokio::test]
    async fn forty_pulses_count_forty_and_the_total_goes_on_after_a_restart() {
        let rain = || [line("rain", "gpio-counter", "line = 'GPIO17'\ndebounce = '0s'")];
        let memory = Arc::new(Memory::default());
        for expected in ["40", "80"] {
            let bench = Bench::new(&rain(), memory.clone()).await;
            bench.has_its_line("rain").await;
            for _ in 0..40 {
                bench.gpio.drive("GPIO17", true);
                bench.gpio.drive("GPIO17", false);
            }
            bench
                .told
                .wait("the pulses", |told| told.on("rain/count").last().is_some_and(|count| count == expected))
                .await;
            bench.sensing.stop(LIMIT).await;
            assert_eq!(bench.told.on("rain/availability"), ["online", "offline"]);
            assert!(bench.told.on("rain/missed").iter().all(|missed| missed == "0"));
        }
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_had_is_offline_and_costs_its_neighbour_nothing() {
        let sensors = [line("door", "gpio-input", "line = 'GPIO27'"), line("gate", "gpio-input", "line = 'GPIO22'")];
        let bench = Bench::new(&[], Arc::default()).await;
        bench.gpio.fail("GPIO27", Some(GpioError::Held { consumer: "gpio-fan".into() }));
        let Bench { gpio, told, mut sensing } = bench;
        sensing.apply(&buses(), &sensors).await;
        told.wait("the refusal", |told| told.on("door/availability") == ["offline"]).await;
        told.wait("the other", |told| told.on("gate/state") != [""; 0]).await;
        gpio.drive("GPIO22", true);
        told.wait("its change", |told| told.on("gate/state").last().is_some_and(|state| state == "true")).await;
        gpio.fail("GPIO27", None);
        told.wait("the line", |told| told.on("door/availability") == ["offline", "online"]).await;
        let views = sensing.views();
        assert_eq!(views.iter().map(|view| view.online).collect::<Vec<_>>(), [Some(true); 2]);
    }

    #[tokio::test]
    async fn a_reload_hands_a_line_from_one_sensor_to_another() {
        let mut bench = Bench::new(&[line("door", "gpio-input", "line = 'GPIO27'")], Arc::default()).await;
        bench.has_its_line("door").await;
        bench.sensing.apply(&buses(), &[line("gate", "gpio-input", "line = 'GPIO27'")]).await;
        bench.told.wait("its state", |told| told.on("gate/state") != [""; 0]).await;
        assert_eq!(bench.told.on("door/availability").last().map(String::as_str), Some("offline"));
        assert_eq!(bench.told.on("gate/availability"), ["online"], "the line was free at once");
    }
}

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;
use crate::bus::i2c::{Registers, Target};
use crate::bus::settings::I2cSettings;
use crate::clock::{Clock, FakeClock, SystemClock};
use crate::drivers::I2cFactory;
use crate::health::Health;
use crate::limits::{PULSE_EVERY, PULSE_LIMIT, SAMPLE_DEADLINE};
use crate::model::{BusId, Quality, Value};
use crate::sensing::Sensing;
use crate::sensing::tests::{LIMIT, Told, sensor};

/// What a scripted driver does at a sample.
enum Act {
    Give(i64),
    Fail(&'static str),
    Away,
    Panic,
    /// Waits until the other end lets go.
    Hang(Receiver<()>),
}

/// A device that does what its script says, and answers with the last number for ever after.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<(VecDeque<Act>, u32)>>);

impl Script {
    fn of(acts: impl IntoIterator<Item = Act>) -> Self {
        Self(Arc::new(Mutex::new((acts.into_iter().collect(), 0))))
    }

    fn samples(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl PolledDriver for Script {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let act = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.1 += 1;
            state.0.pop_front().unwrap_or(Act::Give(99))
        };
        let give = |number| vec![Sample { name: "n".into(), value: Value::Integer(number) }];
        match act {
            Act::Give(number) => Ok(give(number)),
            Act::Fail(reason) => Err(SampleError::Device(reason.into())),
            Act::Away => Err(SampleError::Away("there is no such bus".into())),
            // Without the hook: its trace of where it was takes a busy machine longer than a measurement may.
            Act::Panic => std::panic::resume_unwind(Box::new("on purpose")),
            Act::Hang(until) => {
                let _ = until.recv();
                Ok(give(1))
            }
        }
    }

    fn reset(&mut self) {}
}

impl I2cFactory for Script {
    fn make(&self, _i2c: I2cHandle, _pause: Pause) -> Box<dyn PolledDriver> {
        Box::new(self.clone())
    }

    fn address(&self) -> u8 {
        0x40
    }

    fn channels(&self) -> Vec<Arc<str>> {
        vec!["n".into()]
    }

    fn units(&self) -> Vec<(Arc<str>, Arc<str>)> {
        Vec::new()
    }

    fn simulated(&self, _seed: u64) -> Box<dyn Target> {
        Box::new(Registers::new())
    }
}

fn plan(id: &str, every_ms: u64, script: &Script) -> SensorPlan {
    SensorPlan {
        every: Some(Duration::from_millis(every_ms)),
        factory: Factory::I2c(Arc::new(script.clone())),
        ..sensor(id, "i2c-1", "match = { json = true }")
    }
}

fn bus() -> BusSettings {
    BusSettings::I2c(I2cSettings { id: BusId::parse("i2c-1").unwrap(), device: I2cDevice::Simulated })
}

/// Where a device hangs, this is what the test waits for. Much longer than a thread of a busy machine waits for its turn.
const HANGS: Duration = Duration::from_secs(2);

fn start(plans: &[SensorPlan]) -> (Sensing, Arc<Told>) {
    start_within(SAMPLE_DEADLINE, plans)
}

/// Starts the sensors with that deadline for a measurement.
fn start_within(deadline: Duration, plans: &[SensorPlan]) -> (Sensing, Arc<Told>) {
    let told = Arc::new(Told::default());
    let mut sensing = Sensing::start(&[], &[], told.clone(), SystemClock::shared(), &Health::new());
    sensing.deadline = deadline;
    sensing.start_bus(&bus(), plans.into());
    sensing.order = plans.iter().map(|plan| plan.id.clone()).collect();
    (sensing, told)
}

fn hang() -> (SyncSender<()>, Act) {
    let (release, until) = sync_channel(0);
    (release, Act::Hang(until))
}

#[tokio::test]
async fn a_sensor_is_asked_again_and_again_and_each_answer_is_told() {
    let script = Script::of((1..=3).map(Act::Give));
    let (sensing, told) = start(&[plan("a", 20, &script)]);
    told.wait("three answers", |told| told.on("a/n").len() >= 3).await;
    assert_eq!(told.on("a/n")[..3], ["1", "2", "3"]);
    let view = &sensing.views()[0];
    assert_eq!((view.online, view.bus.as_str(), view.quality), (Some(true), "i2c-1", Quality::Good));
    sensing.stop(LIMIT).await;
    assert_eq!(told.on("a/availability"), ["online", "offline"]);
}

#[tokio::test]
async fn one_failed_try_is_no_news() {
    let script = Script::of([Act::Give(1), Act::Fail("NACK"), Act::Fail("NACK"), Act::Give(2)]);
    let (sensing, told) = start(&[plan("a", 20, &script)]);
    told.wait("two answers", |told| told.on("a/n").len() >= 2).await;
    assert_eq!(told.on("a/n")[..2], ["1", "2"]);
    assert_eq!(told.on("a/q"), ["good"]);
    sensing.stop(LIMIT).await;
}

/// Fails, and takes its time for it.
struct Slow {
    clock: FakeClock,
    takes: Duration,
    samples: u32,
}

impl PolledDriver for Slow {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        self.samples += 1;
        self.clock.advance(self.takes);
        Err(SampleError::Device("the chip is not done".into()))
    }

    fn reset(&mut self) {}
}

#[test]
fn a_device_that_fails_slowly_is_not_tried_until_its_bus_seems_to_hang() {
    for (takes_ms, expected) in [(1, SAMPLE_TRIES), (2_000, SAMPLE_TRIES), (3_000, 2), (4_000, 1), (8_000, 1)] {
        let clock = FakeClock::new(0);
        let mut slow = Slow { clock: clock.clone(), takes: Duration::from_millis(takes_ms), samples: 0 };
        let begun = clock.now();
        assert!(measure(&mut slow, SAMPLE_TRIES, SAMPLE_DEADLINE, &clock).is_err());
        assert_eq!(slow.samples, expected, "of {takes_ms} ms each");
        assert!(clock.now().since(begun) <= SAMPLE_DEADLINE);
    }
}

#[tokio::test]
async fn a_device_that_does_not_answer_is_a_fault_and_offline_until_it_does() {
    let script = Script::of([Act::Give(1), Act::Fail("NACK"), Act::Fail("NACK"), Act::Fail("NACK"), Act::Give(2)]);
    let (sensing, told) = start(&[plan("a", 20, &script)]);
    told.wait("the device to come back", |told| told.on("a/availability").len() == 3).await;
    assert_eq!(told.on("a/availability"), ["online", "offline", "online"]);
    assert_eq!(told.on("a/q"), ["good", "fault", "good"]);
    assert_eq!(told.on("a/n")[..3], ["1", "1", "2"], "the last reading is told again as what it is");
    sensing.stop(LIMIT).await;
}

#[tokio::test]
async fn a_driver_that_panics_costs_its_own_sensor_one_measurement() {
    let (bad, good) = (Script::of([Act::Give(1), Act::Panic, Act::Give(2)]), Script::default());
    let (sensing, told) = start(&[plan("bad", 20, &bad), plan("good", 20, &good)]);
    told.wait("the driver to come back", |told| told.on("bad/availability").len() == 3).await;
    assert_eq!(told.on("bad/availability"), ["online", "offline", "online"]);
    assert_eq!(told.on("good/availability"), ["online"]);
    sensing.stop(LIMIT).await;
}

#[tokio::test]
async fn a_bus_that_is_away_takes_all_its_sensors_with_it_and_brings_them_back() {
    let a = Script::of([Act::Give(1), Act::Away]);
    let b = Script::of([Act::Give(1)]);
    let (sensing, told) = start(&[plan("a", 50, &a), plan("b", 60_000, &b)]);
    told.wait("both to be offline and back", |told| {
        told.on("a/availability").len() == 3 && told.on("b/availability").len() == 3
    })
    .await;
    assert_eq!(told.on("a/availability"), ["online", "offline", "online"]);
    assert_eq!(told.on("b/availability"), ["online", "offline", "online"], "asked at once, not in a minute");
    assert_eq!(told.on("b/q"), ["good", "fault", "good"]);
    sensing.stop(LIMIT).await;
}

#[tokio::test]
async fn a_kernel_call_that_does_not_return_is_a_fault_of_its_bus_and_ends_when_it_does() {
    let (release, hang) = hang();
    let (stuck, other) = (Script::of([Act::Give(1), hang]), Script::default());
    let (sensing, told) = start_within(HANGS, &[plan("stuck", 50, &stuck), plan("other", 50, &other)]);
    told.wait("the bus to be told as hanging", |told| told.on("other/availability").len() == 2).await;
    assert_eq!(told.on("stuck/availability"), ["online", "offline"]);
    assert_eq!(told.on("other/q").last().unwrap(), "fault");
    let asked = other.samples();
    assert!(asked <= 2, "nobody is asked on a bus that hangs: {asked}");
    drop(release);
    told.wait("both to be back", |told| {
        told.on("stuck/availability").len() == 3 && told.on("other/availability").len() == 3
    })
    .await;
    sensing.stop(LIMIT).await;
}

#[tokio::test]
async fn a_bus_whose_device_hangs_in_the_kernel_makes_progress_all_the_same() {
    let (release, hang) = hang();
    let (sensing, told) = start_within(HANGS, &[plan("stuck", 50, &Script::of([hang]))]);
    told.wait("the bus to be told as hanging", |told| told.on("stuck/availability") == ["offline"]).await;
    let (health, clock) = (Arc::clone(&sensing.health), SystemClock);
    let start = clock.now();
    // Asked about a moment to come: who is not late then has beaten since `start`.
    while !health.verdict(start + PULSE_LIMIT + Duration::from_millis(1)).is_healthy() {
        assert!(clock.now().since(start) < PULSE_EVERY * 3, "the task waits for the kernel");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(health.names(), ["bus i2c-1"]);
    drop(release);
    sensing.stop(LIMIT).await;
    assert_eq!(health.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_kernel_call() {
    let (release, hang) = hang();
    let stuck = Script::of([hang]);
    let (sensing, _told) = start(&[plan("stuck", 50, &stuck)]);
    let deadline = tokio::time::Instant::now() + LIMIT;
    while stuck.samples() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "waited for the first question");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begun = tokio::time::Instant::now();
    sensing.stop(LIMIT).await;
    assert!(begun.elapsed() < LIMIT / 2);
    drop(release);
}

#[tokio::test]
async fn a_reload_leaves_an_unchanged_sensor_its_slot_and_starts_a_changed_one_anew() {
    let (a, b) = (Script::default(), Script::default());
    let (mut sensing, told) = start(&[plan("a", 20, &a), plan("b", 20, &b)]);
    told.wait("both", |told| !told.on("a/n").is_empty() && !told.on("b/n").is_empty()).await;
    let mut changed = plan("b", 20, &b);
    changed.publish.retain = false;
    sensing.apply(&[bus()], &[plan("a", 20, &a), changed]).await;
    let before = told.on("b/n").len();
    told.wait("the changed sensor", |told| told.on("b/n").len() > before + 2).await;
    assert_eq!(told.on("a/availability"), ["online"]);
    sensing.apply(&[], &[]).await;
    assert_eq!(told.on("a/availability"), ["online", "offline"]);
}

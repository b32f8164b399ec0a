use std::sync::Mutex;

use super::*;
use crate::bus::{Device, Parity, SerialSettings};
use crate::clock::{Clock, SystemClock};
use crate::drivers::registry;
use crate::health::Health;
use crate::limits::{PULSE_EVERY, PULSE_LIMIT};
use crate::logic::pipeline::SensorSettings;
use crate::logic::route::{PayloadForm, PublishSettings};
use crate::model::{Message, Qos, TopicName};

/// Longest a test waits for what it waits for: a machine that is busy with others may take its time.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Keeps what was published.
#[derive(Default)]
pub(super) struct Told(Mutex<Vec<(String, String)>>);

impl Publish for Told {
    fn publish(&self, message: Message) {
        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
        self.0.lock().unwrap().push((message.topic.as_str().to_owned(), payload));
    }
}

impl Told {
    pub(super) fn on(&self, topic: &str) -> Vec<String> {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(on, _)| on == topic).map(|(_, payload)| payload.clone()).collect()
    }

    pub(super) async fn wait(&self, what: &str, mut seen: impl FnMut(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !seen(self) {
            assert!(tokio::time::Instant::now() < deadline, "waited for {what}; told: {:?}", self.0.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn bus(id: &str, device: Device) -> BusSettings {
    BusSettings::Serial(serial(id, device))
}

fn serial(id: &str, device: Device) -> SerialSettings {
    SerialSettings {
        id: BusId::parse(id).unwrap(),
        device,
        baud: 115_200,
        data_bits: 8,
        parity: Parity::None,
        stop_bits: 1,
        rs485: None,
    }
}

pub(super) fn sensor(id: &str, bus: &str, options: &str) -> SensorPlan {
    let spec = registry::find("uart").unwrap();
    let table = toml::de::DeTable::parse(options).unwrap().into_inner();
    SensorPlan {
        id: SensorId::parse(id).unwrap(),
        bus: BusId::parse(bus).unwrap(),
        driver: spec.name,
        every: None,
        options: options.to_owned(),
        factory: spec.build(table).ok().unwrap(),
        pipeline: SensorSettings::default(),
        publish: PublishSettings {
            topic: TopicName::parse(id).unwrap(),
            availability_topic: TopicName::parse(&format!("{id}/availability")).unwrap(),
            qos: Qos::AtLeastOnce,
            retain: true,
            payload: PayloadForm::Value,
            seq: false,
        },
    }
}

fn simulated(name: &str) -> Device {
    Device::Simulated(name.to_owned())
}

#[tokio::test]
async fn lines_of_a_port_become_messages() {
    let told = Arc::new(Told::default());
    let buses = [bus("a", simulated("burst?rate=1000"))];
    let sensors = [sensor("n", "a", "match = { json = true }"), sensor("other", "a", "match = { kv = '=' }")];
    let sensing = Sensing::start(&buses, &sensors, told.clone(), SystemClock::shared(), &Health::new());
    told.wait("100 lines", |told| told.on("n/n").len() >= 100).await;

    let views = sensing.views();
    assert_eq!(views.iter().map(|view| view.id.as_str()).collect::<Vec<_>>(), ["n", "other"]);
    assert_eq!(views[0].online, Some(true));
    assert!(views[0].frames.good >= 100 && views[1].frames.ignored >= 100, "{views:?}");
    assert_eq!(views[1].online, None, "nothing was read yet, and nobody can say that it is not there");

    sensing.stop(LIMIT).await;
    let numbers = told.on("n/n");
    let expected: Vec<String> = (1..=numbers.len()).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);
    assert_eq!(told.on("n/availability"), ["online", "offline"]);
    assert_eq!(told.on("other/availability"), [""; 0]);
}

#[tokio::test]
async fn a_reload_of_one_sensor_costs_its_neighbour_no_line() {
    let told = Arc::new(Told::default());
    let buses = [bus("a", simulated("burst?rate=2000"))];
    let changing =
        |name: &str| sensor("changing", "a", &format!("match = {{ regex = '^\\{{\"n\":(?P<{name}>[0-9]+)' }}"));
    let steady = sensor("n", "a", "match = { json = true }");
    let mut sensing =
        Sensing::start(&buses, &[steady.clone(), changing("a0")], told.clone(), SystemClock::shared(), &Health::new());
    for round in 1..=20 {
        let topic = format!("changing/a{}", round - 1);
        told.wait("the changed sensor's lines", |told| told.on(&topic).len() >= 20).await;
        sensing.apply(&buses, &[steady.clone(), changing(&format!("a{round}"))]).await;
    }
    told.wait("the last change", |told| !told.on("changing/a20").is_empty()).await;
    sensing.stop(LIMIT).await;
    let numbers = told.on("n/n");
    let expected: Vec<String> = (1..=numbers.len()).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);
    assert_eq!(told.on("n/availability"), ["online", "offline"]);
}

#[tokio::test]
async fn buses_come_and_go_with_the_plan() {
    let told = Arc::new(Told::default());
    let (a, b) = (bus("a", simulated("burst")), bus("b", simulated("greenhouse?rate=50")));
    let (on_a, on_b) = (sensor("n", "a", "match = { json = true }"), sensor("air", "b", "match = { json = true }"));
    let mut sensing =
        Sensing::start(&[a.clone(), b.clone()], &[on_a], told.clone(), SystemClock::shared(), &Health::new());
    told.wait("a line of the first", |told| !told.on("n/n").is_empty()).await;
    assert_eq!(sensing.buses.len(), 1, "a bus without sensors is not opened");

    sensing.apply(&[a, b.clone()], std::slice::from_ref(&on_b)).await;
    assert_eq!(told.on("n/availability"), ["online", "offline"]);
    told.wait("a line of the second", |told| !told.on("air/temperature").is_empty()).await;

    let faster = SerialSettings { baud: 9600, ..serial("b", simulated("greenhouse?rate=50")) };
    sensing.apply(&[BusSettings::Serial(faster)], &[on_b]).await;
    told.wait("the second again", |told| told.on("air/availability") == ["online", "offline", "online"]).await;
    sensing.stop(LIMIT).await;
}

/// Takes its time over one topic, and so keeps that bus's task busy.
struct Slow(Told);

impl Publish for Slow {
    fn publish(&self, message: Message) {
        if message.topic.as_str() == "slow/n" {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.0.publish(message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_sensor_that_moves_to_another_bus_ends_online() {
    let slow = Arc::new(Slow(Told::default()));
    // The new bus comes first in the plan and speaks every millisecond; the old one is slow to let go.
    let buses = [bus("new", simulated("burst?rate=1000")), bus("old", simulated("burst?rate=1000"))];
    let plan = |of_mover: &str| {
        let json = "match = { json = true }";
        [sensor("steady", "new", json), sensor("slow", "old", json), sensor("mover", of_mover, json)]
    };
    let mut sensing = Sensing::start(&buses, &plan("old"), slow.clone(), SystemClock::shared(), &Health::new());
    slow.0.wait("the mover", |told| told.on("mover/availability") == ["online"]).await;
    sensing.apply(&buses, &plan("new")).await;
    slow.0.wait("the mover again", |told| told.on("mover/availability").len() >= 3).await;
    assert_eq!(slow.0.on("mover/availability"), ["online", "offline", "online"]);
    assert_eq!(slow.0.on("steady/availability"), ["online"]);
    sensing.stop(LIMIT).await;
}

#[tokio::test]
async fn a_port_that_cannot_be_opened_makes_its_sensors_offline() {
    let told = Arc::new(Told::default());
    let buses = [bus("a", simulated("nothing")), bus("b", simulated("burst"))];
    let sensors = [sensor("lost", "a", "match = { json = true }"), sensor("n", "b", "match = { json = true }")];
    let sensing = Sensing::start(&buses, &sensors, told.clone(), SystemClock::shared(), &Health::new());
    told.wait("offline", |told| told.on("lost/availability") == ["offline"]).await;
    told.wait("the other bus", |told| told.on("n/n").len() >= 5).await;
    sensing.stop(LIMIT).await;
    assert_eq!(told.on("lost/availability"), ["offline"]);
}

/// Panics at a message on `n/n`, once.
struct Trap(Told, std::sync::atomic::AtomicBool);

impl Publish for Trap {
    fn publish(&self, message: Message) {
        let sprung = message.topic.as_str() != "n/n" || self.1.swap(true, std::sync::atomic::Ordering::SeqCst);
        if !sprung {
            // Without the hook, whose trace of where it was takes a busy machine a minute.
            std::panic::resume_unwind(Box::new("the trap"));
        }
        self.0.publish(message);
    }
}

#[tokio::test]
async fn a_panic_in_one_bus_restarts_it_and_leaves_the_others_alone() {
    let trap = Arc::new(Trap(Told::default(), false.into()));
    let buses = [bus("a", simulated("burst?rate=200")), bus("b", simulated("burst?rate=200"))];
    let sensors = [sensor("n", "a", "match = { json = true }"), sensor("steady", "b", "match = { json = true }")];
    let sensing = Sensing::start(&buses, &sensors, trap.clone(), SystemClock::shared(), &Health::new());
    trap.0.wait("the restarted bus", |told| told.on("n/n").len() >= 5).await;
    sensing.stop(LIMIT).await;
    let numbers = trap.0.on("steady/n");
    let expected: Vec<String> = (1..=numbers.len()).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);
}

/// Holds whoever has a message, while the test holds the lock.
#[derive(Default)]
struct Gate(Told, std::sync::Mutex<()>);

impl Publish for Gate {
    fn publish(&self, message: Message) {
        drop(self.1.lock());
        self.0.publish(message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_idles_beats_and_one_whose_task_is_stuck_is_named() {
    let (gate, health, clock) = (Arc::new(Gate::default()), Health::new(), SystemClock);
    // The one has always something to tell, the other never: a port that is not there.
    let buses = [bus("busy", simulated("burst?rate=200")), bus("idle", Device::Path("/dev/ttyTidegate0".into()))];
    let sensors = [sensor("n", "busy", "match = { json = true }"), sensor("away", "idle", "match = { json = true }")];
    let sensing = Sensing::start(&buses, &sensors, gate.clone(), SystemClock::shared(), &health);
    gate.0.wait("the first lines", |told| told.on("n/n").len() >= 5).await;
    assert_eq!(health.names(), ["bus busy", "bus idle"]);
    let start = clock.now();
    // Asked about a moment to come: who is not late then has beaten since `start`.
    while !health.verdict(start + PULSE_LIMIT + Duration::from_millis(1)).is_healthy() {
        assert!(clock.now().since(start) < PULSE_EVERY * 3, "it idles and does not beat");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    {
        let _held = gate.1.lock().unwrap();
        let start = clock.now();
        // Longer than anybody is silent who idles. The runtime may be held up with the task, and others with it.
        let ahead = PULSE_LIMIT.saturating_sub(PULSE_EVERY * 2);
        while !health.verdict(clock.now() + ahead).late.iter().any(|late| late.name == "bus busy") {
            assert!(clock.now().since(start) < PULSE_EVERY * 4, "it is stuck and beats");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    sensing.stop(LIMIT).await;
    assert_eq!(health.names(), Vec::<String>::new());
}

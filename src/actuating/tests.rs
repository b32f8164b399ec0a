//! Actuators on a simulated board, with a real `state.db`: what moves, and what is answered.

use std::sync::Mutex;

use super::*;
use crate::bus::gpio::{GpioError, SimulatedGpio};
use crate::clock::{FakeClock, SystemClock};
use crate::health::Health;
use crate::model::{Command, Message, Origin, Qos, TopicName};
use crate::plan::{Environment, Plan, Secrets};
use crate::store::StateFile;

/// 2026-11-23T01:15:00Z.
const NOW_MS: i64 = 1_795_396_500_000;

/// Everything that was told, in its order; and on which topic the next telling panics.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, String)>>, Mutex<Option<&'static str>>);

impl Publish for Heard {
    fn publish(&self, message: Message) {
        let topic = message.topic.as_str().trim_start_matches("tidegate/g/").to_owned();
        let panics = self.1.lock().unwrap().take_if(|on| *on == topic).is_some();
        self.0.lock().unwrap().push((topic, String::from_utf8(message.payload.to_vec()).unwrap()));
        assert!(!panics, "as the test wants it");
    }
}

impl Heard {
    fn on(&self, topic: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(on, _)| on == topic).map(|(_, payload)| payload.clone()).collect()
    }

    /// Waits until so many were told on the topic.
    async fn wait(&self, topic: &str, count: usize) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let on = self.on(topic);
            if on.len() >= count {
                return on;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{count} on {topic} awaited; told: {:?}",
                self.0.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

struct Bench {
    heard: Arc<Heard>,
    board: SimulatedGpio,
    clock: Arc<dyn Clock>,
    directory: tempfile::TempDir,
    health: Arc<Health>,
    running: Option<(Actuating, StateFile)>,
}

impl Bench {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let board = SimulatedGpio::new(Arc::clone(&clock));
        let directory = tempfile::tempdir().unwrap();
        Self { heard: Arc::default(), board, clock, directory, health: Health::new(), running: None }
    }

    async fn started(toml: &str) -> Self {
        let mut bench = Self::new(SystemClock::shared());
        bench.start(toml).await;
        bench
    }

    async fn start(&mut self, toml: &str) {
        let state = StateFile::open(self.directory.path(), || ()).unwrap();
        let publish = Arc::clone(&self.heard) as Arc<dyn Publish>;
        let board = Arc::new(self.board.clone()) as Arc<dyn Gpio>;
        let mut actuating = Actuating::new(publish, Arc::clone(&self.clock), state.desk(), &self.health)
            .with_gpio(GpioSettings::default(), board);
        actuating.apply(&plans(toml)).await;
        actuating.open();
        self.running = Some((actuating, state));
    }

    fn actuating(&mut self) -> &mut Actuating {
        &mut self.running.as_mut().unwrap().0
    }

    /// As a kill leaves it: nothing goes to its safe state, nothing more is noted.
    async fn kill(&mut self) {
        let (mut actuating, state) = self.running.take().unwrap();
        for running in std::mem::take(&mut actuating.running).into_values() {
            running.task.abort();
            let _ = running.task.await;
        }
        if let Some(task) = actuating.unanswered.take() {
            task.abort();
        }
        drop(actuating);
        tokio::task::spawn_blocking(move || state.close()).await.unwrap();
    }

    async fn stop(&mut self) {
        let (actuating, state) = self.running.take().unwrap();
        actuating.stop(Duration::from_secs(5)).await;
        tokio::task::spawn_blocking(move || state.close()).await.unwrap();
    }

    fn publish(&mut self, actuator: &str, payload: &str, change: impl FnOnce(&mut Message)) {
        let topic = TopicName::parse(&format!("tidegate/g/{actuator}/set")).unwrap();
        let mut message = Message::new(topic, payload.as_bytes(), Qos::AtLeastOnce, false, Origin::Client);
        change(&mut message);
        drop(self.actuating().commands().offer(&Arc::new(message)).expect("a topic that takes commands"));
    }

    async fn ask(&mut self, actuator: &str, payload: &str) -> Ack {
        let id = ActuatorId::parse(actuator).unwrap();
        let answer = self.actuating().commands().command(&id, Command::of_page(payload.as_bytes()));
        tokio::time::timeout(Duration::from_secs(10), answer.unwrap()).await.expect("no answer")
    }

    /// What the line was set to since it was first taken; the voltage.
    fn trace(&self, line: &str) -> Vec<bool> {
        self.board.trace(line).into_iter().map(|(_, high)| high).collect()
    }
}

fn plans(toml: &str) -> Vec<ActuatorPlan> {
    plan(toml).actuators
}

fn plan(toml: &str) -> Plan {
    let text = format!("[gateway]\nid = 'g'\n{toml}");
    let loaded = crate::config::load_text(std::path::Path::new("/t.toml"), &text);
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    crate::plan::plan(loaded, &environment).map_err(|report| report.render_with(false, "")).unwrap().0
}

const PUMP: &str = "[[actuator]]\nid = 'pump'\ndriver = 'gpio-out'\nline = 'sim:pump'\n";

#[tokio::test]
async fn a_command_moves_the_line_and_its_read_back_state_is_told_before_its_answer() {
    let mut bench = Bench::started(PUMP).await;
    assert_eq!(bench.ask("pump", r#"{"id":"7","value":"on"}"#).await, Ack::done(crate::model::CommandId::parse("7")));
    assert_eq!(bench.trace("pump"), [false, true]);
    let heard = bench.heard.0.lock().unwrap().clone();
    let order: Vec<&str> = heard.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(order, ["pump", "pump/availability", "pump", "pump/ack"]);
    assert!(heard[2].1.contains(r#""value":"on""#), "{heard:?}");
}

#[tokio::test]
async fn a_retained_one_one_expired_by_a_second_and_one_sent_twice_move_nothing_more() {
    let mut bench = Bench::new(Arc::new(FakeClock::new(NOW_MS)));
    bench.start(PUMP).await;
    bench.publish("pump", r#"{"id":"r","value":"on"}"#, |message| message.retain = true);
    bench.publish("pump", r#"{"id":"e","value":"on","expires":"2026-11-23T01:14:59Z"}"#, |_| {});
    assert_eq!(bench.heard.wait("pump/ack", 2).await.len(), 2);
    assert_eq!(bench.trace("pump"), [false], "neither moved it");
    bench.publish("pump", r#"{"id":"1","value":"on"}"#, |_| {});
    bench.heard.wait("pump/ack", 3).await;
    bench.publish("pump", r#"{"id":"2","value":"off"}"#, |_| {});
    bench.heard.wait("pump/ack", 4).await;
    bench.publish("pump", r#"{"id":"1","value":"on"}"#, |_| {});
    let acks = bench.heard.wait("pump/ack", 5).await;
    let mut results: Vec<(String, String)> = acks
        .iter()
        .map(|ack| serde_json::from_str::<serde_json::Value>(ack).unwrap())
        .map(|ack| (ack["id"].as_str().unwrap().to_owned(), ack["result"].as_str().unwrap().to_owned()))
        .collect();
    // Each answer waits for its own commit: those to two ids that came at once may change places.
    if results[0].0 == "e" {
        results.swap(0, 1);
    }
    let expected = [("r", "rejected"), ("e", "expired"), ("1", "done"), ("2", "done"), ("1", "duplicate")];
    assert_eq!(results, expected.map(|(id, result)| (id.to_owned(), result.to_owned())));
    assert_eq!(bench.trace("pump"), [false, true, false]);
}

#[tokio::test]
async fn what_was_noted_and_not_answered_is_interrupted_at_the_next_start_and_never_done() {
    let mut bench = Bench::new(SystemClock::shared());
    {
        // An earlier process that died between the commit and the move.
        let (mut state, _) = State::open(&bench.directory.path().join("state.db")).unwrap();
        let id = crate::model::CommandId::parse("7");
        state.take(&ActuatorId::parse("pump").unwrap(), id.as_ref(), None, bench.clock.wall()).unwrap();
    }
    bench.start(PUMP).await;
    let acks = bench.heard.wait("pump/ack", 1).await;
    assert!(acks[0].contains(r#""id":"7","result":"interrupted""#), "{acks:?}");
    assert_eq!(bench.ask("pump", r#"{"id":"7","value":"on"}"#).await.outcome, Outcome::Duplicate);
    assert_eq!(bench.trace("pump"), [false]);
    bench.stop().await;
    bench.start(PUMP).await;
    assert_eq!(bench.ask("pump", r#"{"id":"8","value":"on"}"#).await.outcome, Outcome::Done);
    assert_eq!(bench.heard.on("pump/ack").len(), 3, "it is told once");
}

#[tokio::test]
async fn without_a_store_nothing_moves_but_towards_the_safe_state() {
    let mut bench = Bench::started(&format!("{PUMP}max_on = '300ms'\n")).await;
    assert_eq!(bench.ask("pump", "on").await.outcome, Outcome::Done);
    let (actuating, state) = bench.running.take().unwrap();
    tokio::task::spawn_blocking(move || state.close()).await.unwrap();
    let id = ActuatorId::parse("pump").unwrap();
    let answer = actuating.commands().command(&id, Command::of_page(*b"on")).unwrap().await;
    assert_eq!(answer.outcome, Outcome::Failed);
    bench.heard.wait("pump", 3).await;
    assert_eq!(bench.trace("pump"), [false, true, false], "max_on needs no disk");
}

#[tokio::test]
async fn a_reload_leaves_what_is_unchanged_as_it_is_and_takes_what_changed_to_its_safe_state() {
    const LAMP: &str = "[[actuator]]\nid = 'lamp'\ndriver = 'gpio-out'\nline = 'sim:lamp'\n";
    let mut bench = Bench::started(&format!("{PUMP}{LAMP}")).await;
    bench.ask("pump", "on").await;
    bench.ask("lamp", "on").await;
    bench.actuating().apply(&plans(&format!("{LAMP}{PUMP}"))).await;
    assert_eq!(bench.trace("pump"), [false, true]);
    bench.actuating().apply(&plans(&format!("{LAMP}{PUMP}max_on = '1h'\n"))).await;
    assert_eq!(
        bench.trace("pump"),
        [false, true, false],
        "changed: safe when the reload is over, and the line was held all the time"
    );
    assert_eq!(bench.trace("lamp"), [false, true], "unchanged");
    bench.ask("pump", "on").await;
    bench.actuating().apply(&plans(PUMP.replace("sim:pump", "sim:other").as_str())).await;
    assert_eq!(bench.trace("pump"), [false, true, false, true, false], "safe before it is let go of");
    assert_eq!(bench.trace("lamp"), [false, true, false]);
    assert_eq!(bench.heard.on("lamp/availability"), ["online", "offline"]);
    assert_eq!(bench.ask("pump", "on").await.outcome, Outcome::Done);
    assert_eq!(bench.trace("other"), [false, true]);
    bench.stop().await;
    assert_eq!(bench.trace("other"), [false, true, false], "the stop is safe too");
}

#[tokio::test]
async fn a_broken_device_stops_no_other_and_comes_back_in_its_safe_state() {
    let lamp = PUMP.replace("pump", "lamp");
    let mut bench = Bench::started(&format!("{PUMP}{lamp}")).await;
    bench.ask("pump", "on").await;
    bench.board.fail("pump", Some(GpioError::Held { consumer: "another".into() }));
    assert_eq!(bench.ask("pump", r#"{"id":"1","value":"off"}"#).await.outcome, Outcome::Failed);
    assert_eq!(bench.ask("lamp", "on").await.outcome, Outcome::Done);
    let availability = bench.heard.wait("pump/availability", 2).await;
    assert_eq!(availability, ["online", "offline"]);
    assert!(bench.heard.on("pump").last().unwrap().contains(r#""q":"fault""#));
    bench.board.fail("pump", None);
    bench.heard.wait("pump/availability", 3).await;
    assert_eq!(bench.trace("pump").last(), Some(&false));
    assert_eq!(bench.ask("pump", r#"{"id":"1","value":"off"}"#).await.outcome, Outcome::Duplicate);
}

#[tokio::test]
async fn a_stop_while_a_task_that_panicked_waits_to_be_started_again_leaves_the_output_safe() {
    let mut bench = Bench::started(PUMP).await;
    bench.heard.wait("pump/availability", 1).await;
    *bench.heard.1.lock().unwrap() = Some("pump");
    bench.publish("pump", r#"{"id":"1","value":"on"}"#, |_| {});
    let acks = bench.heard.wait("pump/ack", 1).await;
    assert!(acks[0].contains(r#""result":"failed""#), "{acks:?}");
    assert_eq!(bench.trace("pump"), [false, true], "it is started again after a back-off of half a second");
    bench.stop().await;
    assert_eq!(bench.trace("pump").last(), Some(&false));
}

/// Somebody who hears an answer while the doors are put in another order.
#[derive(Default)]
struct Turning(Arc<Board>, Mutex<Vec<bool>>);

impl Publish for Turning {
    fn publish(&self, _: Message) {
        let board = Arc::clone(&self.0);
        let (tell, turned) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            board.set_order(&[]);
            tell.send(())
        });
        self.1.lock().unwrap().push(turned.recv_timeout(Duration::from_secs(2)).is_ok());
    }
}

#[tokio::test]
async fn what_an_earlier_process_left_is_answered_with_the_board_unlocked() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateFile::open(directory.path(), || ()).unwrap();
    let turning = Arc::new(Turning::default());
    let publish = Arc::clone(&turning) as Arc<dyn Publish>;
    turning.0.door(&plans(PUMP)[0], publish, SystemClock::shared(), state.desk());
    turning.0.tell_left(&ActuatorId::parse("pump").unwrap(), Ack::done(None));
    assert_eq!(*turning.1.lock().unwrap(), [true]);
}

#[tokio::test]
async fn a_chip_knows_all_its_outputs_before_the_first_of_them_moves() {
    let fan =
        "[[actuator]]\nid = 'fan'\ndriver = 'i2c-write'\nbus = 'i'\nchip = 'pcf8574'\naddress = 0x20\noutput = 0\n";
    let lamp = fan.replace("fan", "lamp").replace("output = 0", "output = 7");
    let plans = plans(&format!("[bus.i]\ndevice = '/dev/i2c-1'\n{fan}{lamp}"));
    let mut bench = Bench::started("").await;
    let chips = bench.actuating().reserve(&plans);
    assert!(chips.iter().all(|chip| chip.has(0) && chip.has(7) && !chip.has(1)), "{chips:?}");
    assert_eq!(chips.len(), 2);
}

#[tokio::test]
async fn a_lost_link_takes_it_to_its_safe_state_after_the_grace() {
    let bridge = "[[bridge]]\nid = 'cloud'\nurl = 'mqtt://cloud.test'\nout = [{ from = 'x' }]\n";
    let mut bench = Bench::started(&format!("{bridge}{PUMP}link_loss = '1s'\n")).await;
    let link = bench.actuating().link();
    link.send_replace(true);
    bench.ask("pump", "on").await;
    link.send_replace(false);
    let cut = tokio::time::Instant::now();
    bench.heard.wait("pump", 3).await;
    let took = cut.elapsed();
    assert!((900..2_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(bench.trace("pump"), [false, true, false]);
    assert_eq!(bench.ask("pump", "on").await.outcome, Outcome::Done, "a later local command holds");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(bench.trace("pump"), [false, true, false, true]);
}

#[tokio::test]
async fn a_simulated_plan_touches_no_line_of_the_board() {
    let mut plan = plan(&PUMP.replace("sim:pump", "GPIO23"));
    plan.simulate();
    let mut bench = Bench::started("").await;
    bench.actuating().apply(&plan.actuators).await;
    assert_eq!(bench.ask("pump", "on").await.outcome, Outcome::Done);
    assert_eq!(bench.trace("GPIO23"), [false; 0]);
}

#[tokio::test]
async fn a_command_that_comes_after_the_stop_is_refused_and_none_is_kept() {
    let mut bench = Bench::started(PUMP).await;
    let commands = bench.actuating().commands();
    bench.stop().await;
    let topic = TopicName::parse("tidegate/g/pump/set").unwrap();
    let late = Message::new(topic.clone(), *br#"{"id":"7","value":"on"}"#, Qos::AtLeastOnce, true, Origin::Client);
    let accepted = commands.offer(&Arc::new(late)).expect("the topic takes commands as long as there is a broker");
    assert_eq!(accepted.await, Ok(()));
    let acks = bench.heard.wait("pump/ack", 1).await;
    assert!(acks[0].contains(r#""id":"7""#) && acks[0].contains("refused"), "{acks:?}");
    assert!(commands.takes(&topic), "a retained one would be kept");
    assert!(!bench.trace("pump").contains(&true));
}

#[tokio::test]
async fn more_commands_than_may_wait_are_refused_and_every_one_is_answered() {
    let mut bench = Bench::started(PUMP).await;
    for n in 0..200 {
        bench.publish("pump", &format!(r#"{{"id":{n},"value":"on"}}"#), |_| {});
    }
    let acks = bench.heard.wait("pump/ack", 200).await;
    let count = |result: &str| acks.iter().filter(|ack| ack.contains(&format!(r#""result":"{result}""#))).count();
    // One that a quick successor overtook says so.
    let begun = count("done") + count("interrupted");
    assert!(count("refused") > 0 && count("done") > 0 && count("refused") + begun == 200, "{acks:?}");
}

/// Whatever is sent, how often, and whenever the process dies: a pulse is given at most once an id, and each id has one answer that is its own.
#[tokio::test]
async fn over_any_sequence_of_commands_and_kills_a_pulse_is_given_at_most_once_an_id() {
    const DOOR: &str = "[[actuator]]\nid = 'door'\ndriver = 'gpio-pulse'\nline = 'sim:door'\nlength = '10ms'\n";
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::started(DOOR).await;
    let (mut sent, mut kills) = (std::collections::BTreeMap::<u32, u32>::new(), 0_usize);
    for _ in 0..150 {
        match random.u32(0..10) {
            0 => {
                bench.kill().await;
                // What the kernel does with the line of a dead process: it is low again.
                bench.board.drive("door", false);
                kills += 1;
                bench.start(DOOR).await;
            }
            1..=3 => tokio::time::sleep(Duration::from_millis(random.u64(0..25))).await,
            _ => {
                let id = random.u32(0..40);
                *sent.entry(id).or_default() += 1;
                bench.publish("door", &format!(r#"{{"id":{id},"value":"press"}}"#), |_| {});
            }
        }
    }
    bench.stop().await;
    let mut own = std::collections::BTreeMap::<String, Vec<String>>::new();
    for ack in bench.heard.on("door/ack") {
        let ack: serde_json::Value = serde_json::from_str(&ack).unwrap();
        let (id, result) = (ack["id"].as_str().unwrap().to_owned(), ack["result"].as_str().unwrap().to_owned());
        if matches!(result.as_str(), "done" | "interrupted" | "failed") {
            own.entry(id).or_default().push(result);
        }
    }
    for (id, results) in &own {
        assert_eq!(results.len(), 1, "seed {seed}: {id} was answered {results:?}");
    }
    let pulses = bench.trace("door").windows(2).filter(|pair| pair == &[false, true]).count();
    assert!(pulses <= own.len(), "seed {seed}: {pulses} pulses for {} ids, {kills} kills", own.len());
    assert!(pulses > 0 && kills > 0, "seed {seed}: it showed nothing");
}

//! Does a cable that is pulled and plugged in again cost anything but the time in between?

use std::time::{Duration, Instant};

use crate::need_mosquitto;
use crate::support::receiver::ledger::number;
use crate::support::{Gateway, Lateness, Subscriber, Tty, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// A sensor on a port that will be pulled, and one whose port stays.
const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[bus.pulled]
device = "@pulled@"
serial = "9600 8N1"

[bus.left]
device = "@left@"

[[sensor]]
id = "pulled"
driver = "uart"
bus = "pulled"
match = { json = true }
publish = { qos = 1 }

[[sensor]]
id = "left"
driver = "uart"
bus = "left"
match = { json = true }
publish = { qos = 1 }
"#;

struct Bench {
    gateway: Gateway,
    pulled: Tty,
    left: Tty,
    below: Subscriber,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (pulled, left) = (Tty::plug(dir.path().join("pulled")), Tty::plug(dir.path().join("left")));
    let mut gateway = Gateway::new(CONFIG, &[("pulled", &pulled.device()), ("left", &left.device())]);
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/#");
    Bench { gateway, pulled, left, below, _dir: dir }
}

/// The availability a sensor was said to have, repeats included.
fn availability(below: &Subscriber, sensor: &str) -> Vec<String> {
    let topic = format!("tidegate/box/{sensor}/availability");
    below.on(&topic).into_iter().map(|message| message.payload).collect()
}

#[track_caller]
fn wait_availability(below: &Subscriber, sensor: &str, expected: &[&str]) {
    wait_for(LIMIT, &format!("{sensor}: {expected:?}"), || {
        let told = availability(below, sensor);
        if told == expected { Ok(()) } else { Err(format!("{told:?}")) }
    });
}

/// The numbers a sensor told, those told again for their quality left out.
fn numbers(below: &Subscriber, sensor: &str) -> Vec<u64> {
    let messages = below.on(&format!("tidegate/box/{sensor}"));
    let fresh = messages.iter().filter(|message| !message.payload.contains("\"q\""));
    fresh.filter_map(|message| number(message.payload.as_bytes())).collect()
}

#[test]
fn an_unplugged_port_is_offline_costs_nothing_and_comes_back_under_another_name() {
    need_mosquitto!();
    let Bench { mut gateway, mut pulled, mut left, below, _dir } = bench();
    pulled.line("{\"n\":1}");
    left.line("{\"n\":1}");
    wait_availability(&below, "pulled", &["online"]);
    wait_availability(&below, "left", &["online"]);

    let mark = gateway.log().len();
    pulled.unplug();
    wait_availability(&below, "pulled", &["online", "offline"]);
    let fault = below.wait(LIMIT, "the last reading as a fault", |m| m.payload.contains("\"q\":\"fault\""));
    assert_eq!((fault.topic.as_str(), fault.qos), ("tidegate/box/pulled", 1));
    gateway.wait_for_log(LIMIT, mark, &["WARN", "port went away", "bus=pulled"]);

    // An end of file that is read again and again would take a whole core.
    let percent = gateway.process().cpu_percent_over(Duration::from_secs(4));
    println!("processor while the port was away: {percent:.2} % of one core");
    assert!(percent < 3.0, "{percent:.2} % of a core while a port is away");

    let (late, plugged) = (Lateness::watch(), Instant::now());
    pulled.replug();
    pulled.line("{\"n\":2}");
    wait_availability(&below, "pulled", &["online", "offline", "online"]);
    let took = plugged.elapsed();
    println!("from the plug to `online`: {took:?}");
    assert!(
        took < late.widen(Duration::from_secs(2)),
        "took {took:?}: the back-off, not the change in the folder, brought it back"
    );
    let line = gateway.wait_for_log(LIMIT, mark, &["INFO", "port is open again", "bus=pulled"]);
    assert!(line.contains("failed=") && line.contains("outage_ms="), "{line}");

    let told = gateway.log().since(mark);
    let of_port = told.iter().filter(|line| line.contains("bus=pulled")).count();
    assert_eq!(of_port, 2, "an outage is told once when it begins and once when it ends: {told:#?}");
    assert_eq!(numbers(&below, "pulled"), [1, 2]);
    assert_eq!(availability(&below, "left"), ["online"]);
}

#[test]
fn a_sensor_misses_no_line_while_its_neighbours_port_comes_and_goes() {
    need_mosquitto!();
    let Bench { mut pulled, mut left, below, gateway: _gateway, _dir } = bench();
    let mut last = 0;
    let mut got = Vec::new();
    for _ in 0..5 {
        pulled.unplug();
        for _ in 0..100 {
            last += 1;
            left.line(&format!("{{\"n\":{last}}}"));
        }
        pulled.replug();
        for _ in 0..100 {
            last += 1;
            left.line(&format!("{{\"n\":{last}}}"));
        }
        // Round by round: a thousand lines at once are more than the broker holds for one client.
        got = wait_for(LIMIT, "the last line of a round", || {
            let got = numbers(&below, "left");
            if got.last() == Some(&last) { Ok(got) } else { Err(format!("{:?}", got.last())) }
        });
    }
    let expected: Vec<u64> = (1..=last).collect();
    assert_eq!(got, expected);
    assert_eq!(availability(&below, "left"), ["online"]);
}

#[test]
fn a_port_that_another_holds_is_told_and_taken_when_it_is_free() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let mut pulled = Tty::plug(dir.path().join("pulled"));
    let left = Tty::plug(dir.path().join("left"));
    let words = [("pulled", pulled.device()), ("left", left.device())];
    let words: Vec<(&str, &str)> = words.iter().map(|(word, value)| (*word, value.as_str())).collect();
    let (mut holder, mut second) = (Gateway::new(CONFIG, &words), Gateway::new(CONFIG, &words));
    holder.start();
    let of_holder = Subscriber::new(&holder.door(), "tidegate/box/#");
    wait_for(LIMIT, "the first gateway to have the port", || {
        pulled.line("{\"n\":1}");
        let told = availability(&of_holder, "pulled");
        if told.is_empty() { Err("silent".to_owned()) } else { Ok(()) }
    });
    second.start();
    second.wait_for_log(LIMIT, 0, &["WARN", "port cannot be opened", "bus=pulled", "in use by another process"]);
    holder.stop();
    second.wait_for_log(LIMIT, 0, &["INFO", "port is open again", "bus=pulled"]);
}

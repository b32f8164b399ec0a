//! Does a reload touch what changed and nothing else, and does a broken file change nothing at all?

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::receiver::ledger::number;
use crate::support::{Gateway, Subscriber, Tty, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// Two sensors on one port and a third on another.
const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[bus.one]
device = "@one@"
serial = "115200 8N1"

[bus.two]
device = "@two@"
serial = "115200 8N1"

[[sensor]]
id = "changed"
driver = "uart"
bus = "one"
match = { regex = '^changed (?P<n>\d+)$' }
@change@

[[sensor]]
id = "neighbour"
driver = "uart"
bus = "one"
match = { regex = '^neighbour (?P<n>\d+)$' }
publish = { qos = 1 }

[[sensor]]
id = "distant"
driver = "uart"
bus = "two"
match = { regex = '^distant (?P<n>\d+)$' }
publish = { qos = 1 }
"#;

/// Lines of each sensor around a reload, at the least.
const LEAST: u64 = 300;

const BEFORE: &str = "[sensor.values.n]\nscale = 1";
const AFTER: &str = "[sensor.values.n]\nscale = 1000000";

struct Bench {
    gateway: Gateway,
    one: Tty,
    two: Tty,
    below: Subscriber,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (Tty::plug(dir.path().join("one")), Tty::plug(dir.path().join("two")));
    let mut gateway = Gateway::new(CONFIG, &[("one", &one.device()), ("two", &two.device()), ("change", BEFORE)]);
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/+");
    wait_for(LIMIT, "a line from each port", || {
        one.line("neighbour 0");
        two.line("distant 0");
        std::thread::sleep(Duration::from_millis(50));
        let silent = ["neighbour", "distant"].into_iter().find(|sensor| numbers(&below, sensor).is_empty());
        silent.map_or(Ok(()), |sensor| Err(format!("nothing from {sensor}")))
    });
    Bench { gateway, one, two, below, _dir: dir }
}

fn numbers(below: &Subscriber, sensor: &str) -> Vec<u64> {
    let messages = below.on(&format!("tidegate/box/{sensor}"));
    messages.iter().filter_map(|message| number(message.payload.as_bytes())).collect()
}

/// Ends the stream of lines when it is dropped: also when what goes on meanwhile fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lines from both neighbours without a pause while `meanwhile` runs; then every one of them must have arrived, once and in order.
fn none_missed(bench: &mut Bench, meanwhile: impl FnOnce(&mut Gateway, &Subscriber)) {
    let Bench { gateway, one, two, below, .. } = bench;
    let done = AtomicBool::new(false);
    let before = numbers(below, "neighbour").into_iter().max().unwrap_or(0);
    let last = std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            let mut n = before;
            while !done.load(Ordering::SeqCst) || n < before + LEAST {
                n += 1;
                one.line(&format!("neighbour {n}"));
                one.line(&format!("changed {n}"));
                two.line(&format!("distant {n}"));
                std::thread::sleep(Duration::from_millis(2));
            }
            n
        });
        {
            let _ends_with_this = Done(&done);
            meanwhile(gateway, below);
        }
        stream.join().unwrap()
    });
    let expected: Vec<u64> = (before + 1..=last).collect();
    for sensor in ["neighbour", "distant"] {
        let got = wait_for(LIMIT, &format!("number {last} of {sensor}"), || {
            let got: Vec<u64> = numbers(below, sensor).into_iter().filter(|n| *n > before).collect();
            if got.last() == Some(&last) { Ok(got) } else { Err(format!("{:?}", got.last())) }
        });
        assert_eq!(got, expected, "{sensor}");
    }
}

#[test]
fn a_changed_sensor_restarts_and_its_neighbours_miss_no_line() {
    need_mosquitto!();
    let mut bench = bench();
    none_missed(&mut bench, |gateway, below| {
        wait_for(LIMIT, "the old scale", || {
            if numbers(below, "changed").is_empty() { Err("none".to_owned()) } else { Ok(()) }
        });
        gateway.set("change", AFTER);
        gateway.reload();
        wait_for(LIMIT, "the new scale", || {
            let got = numbers(below, "changed");
            if got.iter().any(|n| *n >= 1_000_000) { Ok(()) } else { Err(format!("{:?}", got.last())) }
        });
    });
    bench.gateway.process().assert_running();
}

#[test]
fn a_broken_file_changes_nothing_and_is_told_at_its_line() {
    need_mosquitto!();
    let mut bench = bench();
    none_missed(&mut bench, |gateway, below| {
        let mark = gateway.log().len();
        gateway.set("change", "[sensor.values.n]\nscael = 1000");
        gateway.reload();
        gateway.wait_for_log(LIMIT, mark, &["ERROR"]);
        gateway.wait_for_log(LIMIT, mark, &["scael"]);
        // What ran goes on with its old settings.
        let seen = numbers(below, "changed").len();
        wait_for(LIMIT, "more lines of the sensor that was to change", || {
            let got = numbers(below, "changed");
            if got.len() > seen + 20 { Ok(()) } else { Err(format!("{} of {}", got.len(), seen + 20)) }
        });
    });
    let changed = numbers(&bench.below, "changed");
    assert!(changed.is_sorted_by(|a, b| a < b) && changed.iter().all(|n| *n < 1_000_000), "{changed:?}");
    bench.gateway.process().assert_running();
}

/// A sensor whose lines show by nothing that they have lost their beginning.
const TANK: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[bus.one]
device = "@one@"

[[sensor]]
id = "tank"
driver = "uart"
bus = "one"
match = { csv = ["n", "t"] }
max_age = "@age@"
"#;

#[test]
fn a_sensor_changed_in_the_middle_of_a_line_does_not_take_the_rest_for_a_whole_one() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let mut one = Tty::plug(dir.path().join("one"));
    let mut gateway = Gateway::new(TANK, &[("one", &one.device()), ("age", "30s")]);
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/+");
    let wait_for_level = |level: u64| {
        wait_for(LIMIT, &format!("level {level}"), || {
            let got = numbers(&below, "tank");
            if got.last() == Some(&level) { Ok(got) } else { Err(format!("{got:?}")) }
        })
    };
    one.line("1940,14.0");
    wait_for_level(1940);

    one.write(b"19");
    wait_for(LIMIT, "the first half to be read", || if one.is_read() { Ok(()) } else { Err("it waits".to_owned()) });
    let mark = gateway.log().len();
    gateway.set("age", "40s");
    gateway.reload();
    gateway.wait_for_log(LIMIT, mark, &["INFO", "config reloaded"]);
    one.line("50,14.0");
    one.line("1960,14.0");
    assert_eq!(wait_for_level(1960), [1940, 1950, 1960], "the halves make one line, and 50 was never measured");
    gateway.process().assert_running();
}

/// A config whose log and listeners change, and a sensor that is to go on meanwhile.
const LOGGING: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[log]
level = "@level@"
format = "@format@"

[broker]
listen = [@more@ "@listen@"]

[bus.port]
device = "sim:burst"

[[sensor]]
id = "@sensor@"
driver = "uart"
bus = "port"
match = { json = true }
"#;

/// A connection, which the log tells at level debug, and the mark before it.
fn visit(gateway: &Gateway, id: &str) -> usize {
    let mark = gateway.log().len();
    drop(Client::connect(gateway.door().port, id).unwrap());
    mark
}

#[test]
fn a_reload_that_finds_its_port_taken_changes_nothing_not_even_the_log() {
    let words = [("level", "info"), ("format", "text"), ("more", ""), ("sensor", "steady")];
    // The level is the config's, not the environment's.
    let mut gateway = Gateway::new(LOGGING, &words).log_level("");
    gateway.start();
    let mut watch = Client::connect(gateway.door().port, "watch").unwrap();
    watch.subscribe("tidegate/box/+", 0).unwrap();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();

    let mark = gateway.log().len();
    gateway.set("more", &format!("\"{address}\","));
    gateway.set("level", "debug");
    gateway.set("sensor", "renamed");
    gateway.reload();
    gateway.wait_for_log(LIMIT, mark, &["ERROR", "config not reloaded", &address]);
    let mut next = |topic: &str| {
        let mut seen = Vec::new();
        let deadline = std::time::Instant::now() + LIMIT;
        while std::time::Instant::now() < deadline {
            let message = watch.next_message().unwrap();
            if message.topic == topic {
                return (String::from_utf8(message.payload).unwrap(), seen);
            }
            seen.push(message.topic);
        }
        panic!("nothing on {topic}, but {seen:?}");
    };
    let (event, _) = next("tidegate/box/event");
    assert!(event.contains("reload-failed") && event.contains(&address), "{event}");
    let (_, others) = next("tidegate/box/steady");
    assert_eq!(others, Vec::<String>::new(), "the sensor that ran goes on under its name, alone");

    visit(&gateway, "while-refused");
    drop(taken);
    let reloading = gateway.log().len();
    gateway.set("format", "json");
    gateway.reload();
    gateway.wait_for_log(LIMIT, reloading, &["WARN", "log's format", "next start"]);
    gateway.wait_for_log(LIMIT, reloading, &["config reloaded"]);
    let quiet: Vec<String> = gateway.log().lines().into_iter().filter(|line| line.contains("while-refused")).collect();
    assert_eq!(quiet, Vec::<String>::new(), "the level of the refused config was taken");
    let mark = visit(&gateway, "after-all");
    gateway.wait_for_log(LIMIT, mark, &["DEBUG", "client connected", "after-all"]);
    next("tidegate/box/renamed");
}

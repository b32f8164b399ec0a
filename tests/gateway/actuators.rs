//! Does a command move an actuator at most once, whoever gives it and whatever dies, and is every output safe when nobody watches?

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::need_mosquitto;
use crate::support::link::Cut;
use crate::support::mosquitto::publish;
use crate::support::{Gateway, Lateness, Link, Mosquitto, Received, Subscriber, Tty, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[actuator]]
id = "pump"
driver = "gpio-out"
line = "sim:pump"
active_low = true
link_loss = "2s"

[[actuator]]
id = "door"
driver = "gpio-pulse"
line = "sim:door"
length = "5s"

[[bridge]]
id = "cloud"
url = "@cloud@"
keep_alive = "5s"
will_delay = "0s"
reconnect = { min = "100ms", max = "1s" }
out = [ { from = "tidegate/box/#", to = "plants/box/{1}" } ]
in = [ { from = "cmd/box/+/set", to = "tidegate/box/{1}/set", qos = 1 } ]
"#;

struct Chain {
    cloud: Mosquitto,
    /// The local broker, where it is another program.
    local: Option<Mosquitto>,
    link: Link,
    gateway: Gateway,
    above: Subscriber,
    below: Subscriber,
}

fn chain() -> Chain {
    chain_with(None)
}

fn chain_with(local: Option<Mosquitto>) -> Chain {
    let cloud = Mosquitto::start();
    // A command of some earlier year, which the cloud has kept.
    publish(&cloud.door(), "cmd/box/pump/set", r#"{"id":"old","value":"on"}"#, &["-q", "1", "-r"]);
    let above = Subscriber::new(&cloud.door(), "plants/box/#");
    let link = Link::to(cloud.port());
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &link.url())]);
    if let Some(local) = &local {
        gateway = gateway.client_of(local.port());
    }
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/#");
    Chain { cloud, local, link, gateway, above, below }
}

fn json(message: &Received) -> Value {
    serde_json::from_str(&message.payload).unwrap_or_default()
}

/// The answers to an id, in their order.
fn results(subscriber: &Subscriber, topic: &str, id: &str) -> Vec<String> {
    let acks = subscriber.on(topic);
    let own = acks.iter().map(json).filter(|ack| ack["id"] == id);
    own.map(|ack| ack["result"].as_str().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn answered(subscriber: &Subscriber, topic: &str, id: &str, count: usize) -> Vec<String> {
    wait_for(LIMIT, &format!("{count} answers to {id}"), || {
        let results = results(subscriber, topic, id);
        if results.len() >= count { Ok(results) } else { Err(format!("{results:?}")) }
    })
}

/// The states that were told while the subscriber listened, without repetition.
fn states(subscriber: &Subscriber, topic: &str) -> Vec<String> {
    let mut states: Vec<String> =
        subscriber.on(topic).iter().map(|state| json(state)["value"].as_str().unwrap_or_default().to_owned()).collect();
    states.dedup();
    states
}

#[track_caller]
fn state(subscriber: &Subscriber, topic: &str, value: &str) {
    wait_for(LIMIT, &format!("{topic} to be {value}"), || match states(subscriber, topic).last() {
        Some(last) if last == value => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_command_from_the_cloud_moves_the_output_and_a_retained_a_late_and_a_second_one_do_not() {
    need_mosquitto!();
    commands_from_the_cloud(chain());
}

#[test]
fn the_same_where_the_local_broker_is_mosquitto() {
    need_mosquitto!();
    commands_from_the_cloud(chain_with(Some(Mosquitto::start())));
}

fn commands_from_the_cloud(chain: Chain) {
    let Chain { cloud, local: _local, above, below, gateway: _gateway, link: _link } = chain;
    assert_eq!(answered(&above, "plants/box/pump/ack", "old", 1), ["rejected"]);
    let command = |payload: &str| publish(&cloud.door(), "cmd/box/pump/set", payload, &["-q", "1"]);
    command(r#"{"id":"1","value":"on"}"#);
    assert_eq!(answered(&above, "plants/box/pump/ack", "1", 1), ["done"]);
    command(r#"{"id":"2","value":"off"}"#);
    assert_eq!(answered(&above, "plants/box/pump/ack", "2", 1), ["done"]);
    command(r#"{"id":"1","value":"on"}"#);
    assert_eq!(answered(&above, "plants/box/pump/ack", "1", 2), ["done", "duplicate"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let second_ago = i64::try_from(now.as_millis()).unwrap() - 1_000;
    let late = tidegate::model::time::rfc3339(second_ago);
    command(&format!(r#"{{"id":"late","value":"on","expires":"{late}"}}"#));
    // Where the machine's clock is not set nobody can say that it is late: then it is refused, and says why.
    let late = answered(&above, "plants/box/pump/ack", "late", 1);
    let unset = above.on("plants/box/pump/ack").iter().any(|ack| json(ack)["tq"] == "unsynced");
    assert_eq!(late, [if unset { "refused" } else { "expired" }]);
    assert_eq!(states(&below, "tidegate/box/pump"), ["off", "on", "off"]);
    state(&above, "plants/box/pump", "off");
    let retained = above.on("plants/box/pump").last().cloned().unwrap();
    assert!(retained.retain, "the state is retained at the cloud as well: {retained:?}");
    assert!(above.received().iter().all(|message| !message.topic.ends_with("/set")), "commands do not go up");
}

#[test]
fn a_local_retained_command_is_rejected_and_nobody_keeps_it() {
    need_mosquitto!();
    let Chain { gateway, below, .. } = chain();
    publish(&gateway.door(), "tidegate/box/pump/set", r#"{"id":"r","value":"on"}"#, &["-q", "1", "-r"]);
    assert_eq!(answered(&below, "tidegate/box/pump/ack", "r", 1), ["rejected"]);
    publish(&gateway.door(), "tidegate/box/pump/set", r#"{"id":"n","value":"on"}"#, &["-q", "2"]);
    assert_eq!(answered(&below, "tidegate/box/pump/ack", "n", 1), ["done"]);
    let later = Subscriber::new(&gateway.door(), "tidegate/box/#");
    later.wait(LIMIT, "the retained state", |message| message.topic == "tidegate/box/pump" && message.retain);
    assert_eq!(later.on("tidegate/box/pump/set"), []);
    assert_eq!(states(&below, "tidegate/box/pump"), ["off", "on"]);
}

#[test]
fn an_output_is_safe_within_a_second_after_its_grace_when_the_link_is_cut() {
    need_mosquitto!();
    let Chain { cloud, link, gateway, above, below, local: _ } = chain();
    answered(&above, "plants/box/pump/ack", "old", 1);
    publish(&cloud.door(), "cmd/box/pump/set", "on", &["-q", "1"]);
    state(&below, "tidegate/box/pump", "on");
    let (late, cut) = (Lateness::watch(), Instant::now());
    link.down();
    state(&below, "tidegate/box/pump", "off");
    let took = cut.elapsed();
    println!("safe {} ms after the link was cut, with a grace of 2 s", took.as_millis());
    assert!((Duration::from_secs(2)..late.widen(Duration::from_secs(3))).contains(&took), "{took:?}");
    publish(&gateway.door(), "tidegate/box/pump/set", r#"{"id":"by-hand","value":"on"}"#, &["-q", "1"]);
    answered(&below, "tidegate/box/pump/ack", "by-hand", 1);
    link.up();
    link.cut(Cut::Reset);
    wait_for(LIMIT, "the state at the cloud", || match states(&above, "plants/box/pump").last() {
        Some(last) if last == "on" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(states(&below, "tidegate/box/pump").last().map(String::as_str), Some("on"));
}

#[test]
fn it_goes_off_after_max_on_without_a_cloud_and_without_a_client() {
    need_mosquitto!();
    let alone = CONFIG.replace("link_loss = \"2s\"", "max_on = \"1s\"");
    // Nobody listens there.
    let mut gateway = Gateway::new(&alone, &[("cloud", "mqtt://127.0.0.1:9")]);
    gateway.start();
    publish(&gateway.door(), "tidegate/box/pump/set", "on", &["-q", "1"]);
    gateway.log().wait_for_line(LIMIT, 0, &["goes off by itself", "max_on"]);
    let later = Subscriber::new(&gateway.door(), "tidegate/box/#");
    state(&later, "tidegate/box/pump", "off");
}

#[test]
fn a_kill_between_the_commit_and_the_answer_is_answered_interrupted_and_never_done_again() {
    need_mosquitto!();
    let Chain { mut gateway, link, .. } = chain();
    link.down();
    for round in 0..5 {
        let id = format!("k{round}");
        let payload = format!(r#"{{"id":"{id}","value":"press"}}"#);
        // Acknowledged is committed; the pulse lasts for longer than the process does.
        let told = publish(&gateway.door(), "tidegate/box/door/set", &payload, &["-q", "1"]);
        assert!(told.status.success());
        gateway.kill();
        gateway.start();
        let below = Subscriber::new(&gateway.door(), "tidegate/box/#");
        publish(&gateway.door(), "tidegate/box/door/set", &payload, &["-q", "1"]);
        let results = answered(&below, "tidegate/box/door/ack", &id, 1);
        let duplicate = below.wait(LIMIT, "the second answer", |message| {
            message.topic == "tidegate/box/door/ack" && json(message)["result"] == "duplicate"
        });
        let reason = json(&duplicate)["reason"].as_str().unwrap_or_default().to_owned();
        assert!(reason.contains("interrupted"), "round {round}: {reason}, {results:?}");
        assert_eq!(states(&below, "tidegate/box/door"), ["off"], "round {round}");
    }
}

#[test]
fn a_reload_leaves_an_unchanged_output_on_and_a_stop_takes_it_to_its_safe_state() {
    need_mosquitto!();
    let Chain { mut gateway, below, .. } = chain();
    publish(&gateway.door(), "tidegate/box/pump/set", "on", &["-q", "1"]);
    state(&below, "tidegate/box/pump", "on");
    let mark = gateway.log().len();
    gateway.configure(&CONFIG.replace("length = \"5s\"", "length = \"1s\""));
    gateway.reload();
    gateway.log().wait_for_line(LIMIT, mark, &["config reloaded"]);
    assert_eq!(states(&below, "tidegate/box/pump"), ["off", "on"]);
    assert!(below.on("tidegate/box/pump/availability").iter().all(|word| word.payload == "online"));
    assert!(gateway.stop().success());
    assert_eq!(states(&below, "tidegate/box/pump"), ["off", "on", "off"]);
    let last = below.on("tidegate/box/pump/availability").pop().unwrap();
    assert_eq!(last.payload, "offline");
}

const SERIAL: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[bus.port]
device = "@tty@"
serial = "115200 8N1"

[[actuator]]
id = "amp"
driver = "uart-write"
bus = "port"
words = { on = "PWR ON", off = "PWR OFF" }
format = "VOL {value}"
range = [0, 100]
end = "\r\n"
safe = "off"
"#;

/// Waits until the device has heard all of this, and nothing else.
#[track_caller]
fn heard(tty: &mut Tty, expected: &str) {
    let mut heard = String::new();
    wait_for(LIMIT, &format!("the device to hear {expected:?}"), || {
        heard += &tty.heard();
        if heard == expected { Ok(()) } else { Err(heard.clone()) }
    });
}

#[test]
fn words_go_out_on_a_port_without_sensors_and_it_ends_in_its_safe_state() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let mut tty = Tty::plug(dir.path().join("amp"));
    let mut gateway = Gateway::new(SERIAL, &[("tty", &tty.device())]);
    gateway.start();
    heard(&mut tty, "PWR OFF\r\n");
    let below = Subscriber::new(&gateway.door(), "tidegate/box/#");
    let say = |payload: &str| publish(&gateway.door(), "tidegate/box/amp/set", payload, &["-q", "1"]);
    say(r#"{"id":"1","value":"on"}"#);
    assert_eq!(answered(&below, "tidegate/box/amp/ack", "1", 1), ["done"]);
    say(r#"{"id":"2","value":35}"#);
    assert_eq!(answered(&below, "tidegate/box/amp/ack", "2", 1), ["done"]);
    say(r#"{"id":"2","value":35}"#);
    assert_eq!(answered(&below, "tidegate/box/amp/ack", "2", 2), ["done", "duplicate"]);
    heard(&mut tty, "PWR ON\r\nVOL 35\r\n");
    let told = below.on("tidegate/box/amp").pop().unwrap();
    assert!(told.payload.contains(r#""value":"35","assumed":true"#), "{}", told.payload);
    // Nobody knows what a device without power has become: it is told its safe state when it is back.
    tty.unplug();
    tty.replug();
    heard(&mut tty, "PWR OFF\r\n");
    say(r#"{"id":"3","value":"on"}"#);
    heard(&mut tty, "PWR ON\r\n");
    assert!(gateway.stop().success());
    heard(&mut tty, "PWR OFF\r\n");
}

#[test]
fn an_output_that_a_reload_removes_together_with_its_port_is_told_its_safe_state_first() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let mut tty = Tty::plug(dir.path().join("amp"));
    let mut gateway = Gateway::new(SERIAL, &[("tty", &tty.device())]);
    gateway.start();
    heard(&mut tty, "PWR OFF\r\n");
    let doubts = |line: &String| line.contains("does not do as it is told");
    assert!(!gateway.log().lines().iter().any(doubts), "a port is waited for until it is known");
    publish(&gateway.door(), "tidegate/box/amp/set", r#"{"id":"1","value":"on"}"#, &["-q", "1"]);
    heard(&mut tty, "PWR ON\r\n");
    let mark = gateway.log().len();
    gateway.configure(SERIAL.split_once("[bus.port]").unwrap().0);
    gateway.reload();
    gateway.log().wait_for_line(LIMIT, mark, &["config reloaded"]);
    heard(&mut tty, "PWR OFF\r\n");
}

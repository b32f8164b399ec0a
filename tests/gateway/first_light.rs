//! Does a line on a serial port reach both brokers, once, as it was asked for, and does each side learn when the other is gone?

use std::time::Duration;

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::receiver::ledger::number;
use crate::support::{Gateway, Link, Mosquitto, Received, Subscriber, Tty, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

/// Two sensors on one port, told apart by their lines; each line carries a number.
const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[bus.port]
device = "@tty@"
serial = "115200 8N1"

[[sensor]]
id = "once"
driver = "uart"
bus = "port"
match = { regex = '^once (?P<n>\d+)$' }
publish = { qos = 1, retain = true }

[[sensor]]
id = "exact"
driver = "uart"
bus = "port"
match = { regex = '^exact (?P<n>\d+)$' }
publish = { qos = 2, retain = false }

[[bridge]]
id = "cloud"
url = "@cloud@"
will_delay = "0s"
reconnect = { min = "100ms", max = "1s" }
out = [ { from = "tidegate/box/#" } ]
"#;

struct Chain {
    cloud: Mosquitto,
    /// The local broker, where it is another program.
    local: Option<Mosquitto>,
    link: Link,
    tty: Tty,
    gateway: Gateway,
    above: Subscriber,
    below: Subscriber,
    dir: tempfile::TempDir,
}

/// Everything joined: a line went through to the cloud, and both brokers have a subscriber to all of the gateway's topics.
fn chain() -> Chain {
    chain_with(None)
}

/// The same, the gateway being a client of this broker if there is one.
fn chain_with(local: Option<Mosquitto>) -> Chain {
    let dir = tempfile::tempdir().unwrap();
    let mut tty = Tty::plug(dir.path().join("sensor"));
    let cloud = Mosquitto::start();
    let above = Subscriber::new(&cloud.door(), "tidegate/box/#");
    let link = Link::to(cloud.port());
    let mut gateway = Gateway::new(CONFIG, &[("tty", &tty.device()), ("cloud", &link.url())]);
    if let Some(local) = &local {
        gateway = gateway.client_of(local.port());
    }
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/#");
    // A port may drop what came before it was opened: number 0 is sent until it is seen, and belongs to no count.
    wait_for(LIMIT, "the first line above", || {
        tty.line("once 0");
        std::thread::sleep(Duration::from_millis(50));
        if above.on("tidegate/box/once").is_empty() { Err(format!("{:?}", above.received())) } else { Ok(()) }
    });
    Chain { cloud, local, link, tty, gateway, above, below, dir }
}

/// Numbers above 0 of what arrived on a sensor's topic.
fn numbers(subscriber: &Subscriber, sensor: &str) -> Vec<u64> {
    let messages = subscriber.on(&format!("tidegate/box/{sensor}"));
    messages.iter().filter_map(|message| number(message.payload.as_bytes())).filter(|n| *n > 0).collect()
}

fn wait_for_last(subscriber: &Subscriber, sensor: &str, last: u64) {
    wait_for(LIMIT, &format!("number {last} of `{sensor}`"), || {
        let got = numbers(subscriber, sensor);
        if got.contains(&last) { Ok(()) } else { Err(format!("{} came, the last: {:?}", got.len(), got.last())) }
    });
}

#[test]
fn a_thousand_lines_of_each_qos_arrive_once_at_both_brokers_with_their_retain_flag() {
    need_mosquitto!();
    a_thousand_lines(chain());
}

#[test]
fn the_same_where_the_local_broker_is_mosquitto() {
    need_mosquitto!();
    a_thousand_lines(chain_with(Some(Mosquitto::start())));
}

fn a_thousand_lines(chain: Chain) {
    let Chain { cloud, local: _local, link: _link, mut tty, above, below, gateway, dir: _dir } = chain;
    for n in 1..=1000 {
        tty.line(&format!("once {n}"));
        tty.line(&format!("exact {n}"));
        // A pseudo terminal is as fast as memory; a port of 115200 baud takes this long for the two lines.
        std::thread::sleep(Duration::from_millis(2));
    }
    let expected: Vec<u64> = (1..=1000).collect();
    for (place, subscriber) in [("below", &below), ("above", &above)] {
        for (sensor, qos, retain) in [("once", 1, true), ("exact", 2, false)] {
            wait_for_last(subscriber, sensor, 1000);
            assert_eq!(numbers(subscriber, sensor), expected, "{sensor}, {place}");
            let messages = subscriber.on(&format!("tidegate/box/{sensor}"));
            let odd: Vec<_> = messages.iter().filter(|m| (m.qos, m.retain) != (qos, retain)).collect();
            assert_eq!(odd, Vec::<&Received>::new(), "{sensor}, {place}");
        }
    }
    // What a later subscriber finds kept.
    for door in [cloud.door(), gateway.door()] {
        let late = Subscriber::new(&door, "tidegate/box/+");
        let kept = late.wait(LIMIT, "the retained reading", |m| m.topic == "tidegate/box/once");
        assert_eq!((number(kept.payload.as_bytes()), kept.retain), (Some(1000), true));
        assert_eq!(late.on("tidegate/box/exact"), []);
    }
}

#[test]
fn the_cloud_learns_that_the_gateway_was_killed() {
    need_mosquitto!();
    // Every part is named: what `..` leaves out would be dropped here.
    let Chain { cloud: _cloud, local: _, link: _link, tty: _tty, mut gateway, above, below: _below, dir: _dir } =
        chain();
    above.wait(LIMIT, "the birth", |m| m.topic == "tidegate/box/status" && m.payload == "online" && m.retain);
    gateway.kill();
    let will = above.wait(LIMIT, "the will", |m| m.topic == "tidegate/box/status" && m.payload == "offline");
    assert!(will.retain);
    let words: Vec<String> = above.on("tidegate/box/status").into_iter().map(|m| m.payload).collect();
    assert_eq!(words, ["online", "offline"]);
}

#[test]
fn the_gateway_learns_that_the_cloud_was_killed_and_delivers_when_it_is_back() {
    need_mosquitto!();
    let Chain { mut cloud, local: _, link, mut tty, above: _above, below, gateway: _gateway, dir: _dir } = chain();
    let state = |word: &'static str| {
        move |m: &Received| {
            m.topic == "tidegate/box/bridge/cloud" && m.payload.contains(&format!("\"state\":\"{word}\""))
        }
    };
    below.wait(LIMIT, "the bridge to be online", state("online"));

    cloud.kill();
    let told = below.wait(LIMIT, "word that the cloud is gone", state("offline"));
    assert!(told.retain, "{told:?}");
    assert!(told.payload.contains("\"reason\":\""), "{told:?}");
    for n in 1..=200 {
        tty.line(&format!("once {n}"));
        tty.line(&format!("exact {n}"));
    }
    wait_for_last(&below, "once", 200);
    wait_for_last(&below, "exact", 200);

    // The link stays down until there is somebody to count: what is not retained passes a subscriber by that comes later.
    link.down();
    cloud.restart();
    let above = Subscriber::new(&cloud.door(), "tidegate/box/#");
    link.up();
    wait_for_last(&above, "once", 200);
    wait_for_last(&above, "exact", 200);
    let all: Vec<u64> = (1..=200).collect();
    let exact: Vec<u64> = numbers(&above, "exact").into_iter().filter(|n| all.contains(n)).collect();
    assert_eq!(exact, all, "QoS 2, each once and in order");
}

#[test]
fn a_retained_message_that_is_cleared_during_an_outage_is_cleared_at_the_cloud() {
    need_mosquitto!();
    a_retained_message_is_cleared(chain());
}

#[test]
fn the_same_where_the_retained_message_is_at_mosquitto() {
    need_mosquitto!();
    a_retained_message_is_cleared(chain_with(Some(Mosquitto::start())));
}

fn a_retained_message_is_cleared(chain: Chain) {
    let Chain { cloud, local: _local, link, gateway, above, below: _below, tty: _tty, dir: _dir } = chain;
    let mut publisher = Client::connect(gateway.door().port, "publisher").unwrap().retaining();
    let mut publish =
        |payload: &str| publisher.publish(&[("tidegate/box/note".into(), 1, payload.into())], 1).assert_complete(1);
    publish("here");
    above.wait(LIMIT, "the note", |m| m.topic == "tidegate/box/note" && m.payload == "here");
    link.down();
    publish("");
    link.up();
    above.wait(LIMIT, "the end of the note", |m| m.topic == "tidegate/box/note" && m.payload.is_empty());
    // What is retained reaches a new subscriber ahead of what comes after.
    let late = Subscriber::new(&cloud.door(), "tidegate/box/note");
    publish("again");
    assert_eq!(late.wait(LIMIT, "a note", |_| true).payload, "again");
}

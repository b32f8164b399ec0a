//! Can the far side slow this one? Whatever becomes of the cloud, sensors and local clients must not notice.

use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::receiver::ledger::number;
use crate::support::{Gateway, Lateness, Link, Receiver, Terms, wait_for};

const LIMIT: Duration = Duration::from_secs(20);
/// Messages timed in each state of the link.
const TIMED: usize = 200;
/// Far above what a loaded machine adds, far below what one wait for the cloud costs.
const BAR: Duration = Duration::from_millis(500);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[bus.port]
device = "sim:burst"

[[sensor]]
id = "burst"
driver = "uart"
bus = "port"
match = { json = true }

[[bridge]]
id = "cloud"
url = "@cloud@"
keep_alive = "5s"
connect_timeout = "2s"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#" }, { from = "tidegate/box/burst" } ]
"#;

/// The longest pause between the readings of the sensor, at 50 a second, each of them forwarded. None is missed.
fn longest_pause(gateway: &Gateway) -> Duration {
    let mut subscriber = Client::connect(gateway.door().port, "readings").unwrap();
    subscriber.subscribe("tidegate/box/burst", 1).unwrap();
    // What was retained, or waited for the subscription, is no reading of this time.
    let mut number_of_next = || number(&subscriber.next_message().unwrap().payload).unwrap();
    let mut last = (number_of_next(), Instant::now());
    let mut longest = Duration::ZERO;
    for n in 0..TIMED {
        let next = (number_of_next(), Instant::now());
        // The retained one may be told beside the one that comes.
        assert!(next.0 == last.0 + 1 || n == 0, "reading {} after {}", next.0, last.0);
        longest = longest.max(next.1 - last.1);
        last = next;
    }
    longest
}

/// The slowest of many messages from a publisher to a subscriber of the local broker, each acknowledged and each forwarded; and the longest
/// pause of the sensor meanwhile.
fn slowest(gateway: &Gateway) -> Duration {
    std::thread::scope(|scope| {
        let sensor = scope.spawn(|| longest_pause(gateway));
        let client = slowest_message(gateway);
        client.max(sensor.join().unwrap())
    })
}

fn slowest_message(gateway: &Gateway) -> Duration {
    let port = gateway.door().port;
    let mut subscriber = Client::connect(port, "subscriber").unwrap();
    subscriber.subscribe("data/#", 1).unwrap();
    let mut publisher = Client::connect(port, "publisher").unwrap();
    let mut slowest = Duration::ZERO;
    for n in 0..TIMED {
        let start = Instant::now();
        publisher.publish(&[("data/x".to_owned(), 1, n.to_string())], 1).assert_complete(1);
        assert_eq!(subscriber.next_message().unwrap().payload, n.to_string().into_bytes());
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

#[test]
fn sensors_and_local_clients_notice_nothing_of_a_cloud_that_is_gone_silent_or_slow() {
    let receiver = Receiver::start(Terms::default(), 61);
    let link = Link::to(receiver.port());
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &link.url())]);
    gateway.start();
    wait_for(LIMIT, "the bridge to connect", || {
        if receiver.connections() > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let late = Lateness::watch();
    let online = slowest(&gateway);
    link.rate(2_000);
    let slow = slowest(&gateway);
    link.rate(0);
    link.black_hole();
    let silent = slowest(&gateway);
    link.down();
    let gone = slowest(&gateway);
    println!("slowest of {TIMED}: online {online:?}, slow link {slow:?}, black hole {silent:?}, gone {gone:?}");
    for (state, took) in [("online", online), ("slow", slow), ("a black hole", silent), ("gone", gone)] {
        assert!(took < late.widen(BAR), "{state}: {took:?}");
    }
}

#[test]
fn a_link_that_swallows_everything_is_noticed_by_the_keep_alive() {
    let receiver = Receiver::start(Terms::default(), 62);
    let link = Link::to(receiver.port());
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &link.url())]);
    gateway.start();
    let mut watch = Client::connect(gateway.door().port, "watch").unwrap();
    watch.subscribe("tidegate/box/bridge/cloud", 0).unwrap();
    let mut wait_for_state = |word: &str| {
        let start = Instant::now();
        loop {
            let payload = String::from_utf8(watch.next_message().unwrap().payload).unwrap();
            if payload.contains(&format!("\"state\":\"{word}\"")) {
                return start.elapsed();
            }
        }
    };
    wait_for_state("online");
    link.black_hole();
    // A keep alive of 5 s, and the time a PINGRESP is waited for.
    let noticed = wait_for_state("offline");
    assert!(noticed < Duration::from_secs(18), "noticed after {noticed:?}");
    link.up();
    wait_for_state("online");
}

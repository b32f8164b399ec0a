//! Can messages run in a circle? Two gateways and one cloud between them, or each the other's cloud, with rules as wide as they go; and a
//! gateway that is its own cloud by a name that nobody would know it by.

use std::time::Duration;

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::{Gateway, Link, Mosquitto, publish, wait_for};

const CONFIG: &str = r##"
[gateway]
id = "@id@"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "@cloud@"
version = "@version@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "#", qos = 1 } ]
in = [ { from = "#", qos = 1 } ]
"##;
const COUNT: usize = 100;

/// A gateway and somebody who hears everything at it.
struct Side {
    gateway: Gateway,
    ears: Client,
    heard: Vec<String>,
}

impl Side {
    /// Starts it, and waits until what the cloud has comes down.
    fn start(id: &str, cloud: &Mosquitto, version: &str) -> Self {
        let mut gateway = Gateway::new(CONFIG, &[("id", id), ("cloud", &cloud.url()), ("version", version)]);
        gateway.start();
        let mut ears = Client::connect(gateway.door().port, "ears").unwrap();
        ears.subscribe("shared/#", 1).unwrap();
        let mut side = Self { gateway, ears, heard: Vec::new() };
        side.listen_until("hello");
        side.heard.clear();
        side
    }

    fn listen_until(&mut self, end: &str) {
        while self.heard.last().is_none_or(|last| last != end) {
            self.heard.push(String::from_utf8(self.ears.next_message().unwrap().payload).unwrap());
        }
    }

    fn say(&self, name: &str, texts: &[String]) {
        let messages: Vec<_> = texts.iter().map(|text| ("shared/x".to_owned(), 1, text.clone())).collect();
        let mut client = Client::connect(self.gateway.door().port, name).unwrap();
        client.publish(&messages, 20).assert_complete(messages.len());
    }
}

fn texts(name: &str) -> Vec<String> {
    (0..COUNT).map(|n| format!("{name}{n}")).chain([format!("end of {name}")]).collect()
}

fn both_ways(version: &str) {
    let cloud = Mosquitto::start();
    assert!(publish(&cloud.door(), "shared/hello", "hello", &["-q", "1", "-r"]).status.success());
    let (mut a, mut b) = (Side::start("a", &cloud, version), Side::start("b", &cloud, version));
    a.say("talker", &texts("a"));
    b.listen_until("end of a");
    // What the cloud sends back to the first is on its way before this.
    b.say("talker", &texts("b"));
    a.listen_until("end of b");
    // And once more round: what went in a circle would be ahead of it.
    a.say("closer", &["the end".to_owned()]);
    b.listen_until("the end");
    a.listen_until("the end");
    let all: Vec<String> = texts("a").into_iter().chain(texts("b")).chain(["the end".to_owned()]).collect();
    assert_eq!(a.heard, all, "at the first");
    assert_eq!(b.heard, all, "at the second");
}

#[test]
fn two_gateways_that_pass_everything_both_ways_neither_echo_nor_multiply_on_mqtt_5() {
    need_mosquitto!();
    both_ways("5");
}

#[test]
fn two_gateways_that_pass_everything_both_ways_neither_echo_nor_multiply_on_3_1_1() {
    need_mosquitto!();
    both_ways("3.1.1");
}

/// What is below `push/` comes to the other by `out` alone, and what are commands by `in` alone.
const EACH_OTHER: &str = r#"
[gateway]
id = "@id@"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "other"
url = "@other@"
version = "@version@"
reconnect = { min = "100ms", max = "200ms" }
out = [ @out@ ]
in = [ @in@ ]
"#;
const LIMIT: Duration = Duration::from_secs(20);
/// Far more than two gateways have to say of themselves in a test, far less than a message that runs in a circle comes to.
const MANY: usize = 60;

/// One of two gateways that are bridged to each other, and all that is heard at its broker.
struct Peer {
    gateway: Gateway,
    ears: Client,
    heard: Vec<(String, String)>,
}

impl Peer {
    fn pair(version: &str, out: &str, inward: &str) -> [Self; 2] {
        let mut gateways = ["a", "b"].map(|id| {
            let words =
                [("id", id), ("version", version), ("out", out), ("in", inward), ("other", "mqtt://127.0.0.1:1")];
            Gateway::new(EACH_OTHER, &words)
        });
        let urls = [1, 0].map(|other: usize| format!("mqtt://127.0.0.1:{}", gateways[other].door().port));
        for (gateway, url) in gateways.iter_mut().zip(&urls) {
            gateway.set("other", url);
            gateway.start();
        }
        gateways.map(|gateway| {
            // It subscribes in the same breath. What is said before that comes by one of the two ways alone, and later than what is said after.
            gateway.wait_for_log(LIMIT, 0, &["the cloud is a gateway"]);
            let mut ears = Client::connect(gateway.door().port, "ears").unwrap();
            ears.subscribe("#", 1).unwrap();
            Self { gateway, ears, heard: Vec::new() }
        })
    }

    fn say(&self, messages: &[(String, u8, String)]) {
        let mut client = Client::connect(self.gateway.door().port, "talker").unwrap();
        client.publish(messages, 20).assert_complete(messages.len());
    }

    fn say_one(&self, topic: &str, text: &str) {
        self.say(&[(topic.to_owned(), 1, text.to_owned())]);
    }

    /// Listens until this comes, which no other topic may keep it from.
    fn listen_until(&mut self, topic: &str, text: &str) {
        let end = (topic.to_owned(), text.to_owned());
        while self.heard.last() != Some(&end) {
            let message = self.ears.next_message().unwrap();
            self.heard.push((message.topic, String::from_utf8(message.payload).unwrap()));
            let count = self.heard.iter().filter(|(topic, _)| topic == &self.heard[self.heard.len() - 1].0).count();
            let last = &self.heard[self.heard.len() - 1];
            assert!(count < MANY || last.0.starts_with("shared/"), "{last:?} comes again and again");
            assert!(self.heard.len() < 20 * COUNT, "{last:?} comes again and again");
        }
    }

    fn heard_on(&self, topic: &str) -> Vec<String> {
        self.heard.iter().filter(|(heard, _)| heard == topic).map(|(_, text)| text.clone()).collect()
    }
}

/// Passes `shared/x` and equal messages both ways, and then twice round by each way what would be behind an echo.
fn each_other_s_cloud(version: &str, out: &str, inward: &str, fences: [&str; 2]) {
    let [mut a, mut b] = Peer::pair(version, out, inward);
    let said = |peer: &Peer, name: &str| {
        let all: Vec<_> = texts(name).into_iter().map(|text| ("shared/x".to_owned(), 1, text)).collect();
        peer.say(&all);
        // Equal ones are as many as were said.
        for text in ["on", "on", "off", "on"] {
            peer.say_one(&format!("shared/{name}"), text);
        }
    };
    said(&a, "a");
    b.listen_until("shared/x", "end of a");
    said(&b, "b");
    a.listen_until("shared/x", "end of b");
    for round in ["first", "second"] {
        for fence in fences.into_iter().filter(|fence| !fence.is_empty()) {
            a.say_one(&fence.replace('@', "a"), round);
            b.listen_until(&fence.replace('@', "a"), round);
            b.say_one(&fence.replace('@', "b"), round);
            a.listen_until(&fence.replace('@', "b"), round);
        }
    }
    let all: Vec<String> = texts("a").into_iter().chain(texts("b")).collect();
    for (peer, name) in [(&a, "the first"), (&b, "the second")] {
        assert_eq!(peer.heard_on("shared/x"), all, "at {name}");
        for topic in ["shared/a", "shared/b"] {
            assert_eq!(peer.heard_on(topic), ["on", "on", "off", "on"], "{topic} at {name}");
        }
    }
}

const OUT: &str = r##"{ from = "#", qos = 1 }"##;
const IN: &str = r#"{ from = "shared/#", qos = 1 }, { from = "tidegate/#", qos = 1 }"#;
const FENCES: [&str; 2] = ["push/x", "tidegate/@/fence/set"];

#[test]
fn gateways_that_are_each_other_s_cloud_and_pass_everything_neither_echo_nor_multiply_on_mqtt_5() {
    each_other_s_cloud("5", OUT, IN, FENCES);
}

#[test]
fn gateways_that_are_each_other_s_cloud_and_pass_everything_neither_echo_nor_multiply_on_3_1_1() {
    each_other_s_cloud("3.1.1", OUT, IN, FENCES);
}

#[test]
fn gateways_that_only_push_to_each_other_or_only_fetch_do_not_echo_on_3_1_1() {
    each_other_s_cloud("3.1.1", OUT, "", ["push/x", ""]);
    each_other_s_cloud("3.1.1", "", IN, ["", "tidegate/@/fence/set"]);
}

#[test]
fn gateways_that_only_push_to_each_other_or_only_fetch_do_not_echo_on_mqtt_5() {
    each_other_s_cloud("5", OUT, "", ["push/x", ""]);
    each_other_s_cloud("5", "", IN, ["", "tidegate/@/fence/set"]);
}

/// A bridge to its own gateway by way of a link: no config tells it.
fn itself(version: &str) {
    let mut gateway = Gateway::new(
        EACH_OTHER,
        &[("id", "a"), ("version", version), ("out", OUT), ("in", IN), ("other", "mqtt://127.0.0.1:1")],
    );
    let link = Link::to(gateway.door().port);
    gateway.set("other", &link.url());
    gateway.start();
    let mut ears = Client::connect(gateway.door().port, "ears").unwrap();
    ears.subscribe("#", 1).unwrap();
    let mut peer = Peer { gateway, ears, heard: Vec::new() };
    let reason = "the cloud is this gateway's own broker, or another gateway has its id `a`";
    peer.gateway.wait_for_log(LIMIT, 0, &["the cloud is out of reach", reason]);
    let opened = link.opened();
    peer.say(&[("shared/x".to_owned(), 1, "once".to_owned()), ("shared/x".to_owned(), 1, "twice".to_owned())]);
    wait_for(LIMIT, "three more attempts", || {
        let more = link.opened() - opened;
        if more < 3 { Err(format!("{more} so far")) } else { Ok(()) }
    });
    peer.say_one("shared/x", "the end");
    peer.listen_until("shared/x", "the end");
    assert_eq!(peer.heard_on("shared/x"), ["once", "twice", "the end"]);
    assert_eq!(peer.heard_on("tidegate/a/status"), ["online"], "neither birth nor will by way of the bridge");
    let states = peer.heard_on("tidegate/a/bridge/other");
    assert!(states.last().is_some_and(|state| state.contains("offline") && state.contains(reason)), "{states:?}");
    let connected = peer.gateway.log().lines().iter().filter(|line| line.contains("connected to the cloud")).count();
    assert!(connected <= 1, "{connected} times");
}

#[test]
fn a_gateway_that_is_its_own_cloud_says_so_and_passes_nothing() {
    itself("5");
    itself("3.1.1");
}

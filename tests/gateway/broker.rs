//! Do Mosquitto's own clients find in the local broker what they are used to, with either routing, and does what it acknowledged outlive it?

use std::collections::BTreeSet;
use std::time::Duration;

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::{Gateway, Lateness, Received, Subscriber, publish, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
routing = "@routing@"
"#;

const CLOSED: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

# The password is: correct horse
[[broker.users]]
name = "ha"
hash = "@hash@"
publish = ["house/{client}/#"]
subscribe = ["house/#"]
"#;

const ROUTINGS: [&str; 2] = ["trie", "rumqttd"];
const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

fn open(routing: &str) -> Gateway {
    let mut gateway = Gateway::new(CONFIG, &[("routing", routing)]);
    gateway.start();
    gateway
}

/// A gateway with one user, whose hash the binary itself makes.
fn closed() -> Gateway {
    let mut gateway = Gateway::new(CLOSED, &[("hash", "to be made")]);
    let mut command = gateway.command(&["user", "hash"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"correct horse\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap();
    gateway.set("hash", hash.trim());
    gateway.start();
    gateway
}

#[test]
fn every_qos_goes_through_in_both_versions_and_with_each_routing() {
    need_mosquitto!();
    for routing in ROUTINGS {
        let gateway = open(routing);
        let door = gateway.door();
        for version in VERSIONS {
            let subscriber = Subscriber::with(&door, "über/#", &["-V", version, "-q", "2"]);
            for qos in ["0", "1", "2"] {
                let output = publish(&door, "über/x", qos, &["-V", version, "-q", qos]);
                assert!(output.status.success(), "{routing}, {version}, QoS {qos}: {output:?}");
            }
            let got = subscriber.wait_count(LIMIT, 3, |_| true);
            let expected: Vec<Received> = (0..3)
                .map(|qos| Received { topic: "über/x".into(), qos, retain: false, payload: qos.to_string() })
                .collect();
            assert_eq!(got, expected, "{routing}, {version}");
        }
    }
}

#[test]
fn a_wrong_password_and_a_filter_that_is_not_allowed_are_told_with_the_true_codes() {
    need_mosquitto!();
    let gateway = closed();
    // mosquitto_pub ends with the code of the CONNACK.
    for (version, code) in [("mqttv311", 5), ("mqttv5", 0x86)] {
        let output = publish(&gateway.door().login("ha", "wrong"), "house/x", "", &["-V", version]);
        assert_eq!(output.status.code(), Some(code), "{version}: {output:?}");
    }
    let door = gateway.door().login("ha", "correct horse");
    for (version, code) in [("mqttv311", "128"), ("mqttv5", "135")] {
        let subscriber = Subscriber::unconfirmed(&door, "#", &["-V", version]);
        subscriber.log().wait_for_line(LIMIT, 0, &["Subscribed (mid", code]);
    }
    let subscriber = Subscriber::with(&door, "house/#", &["-V", "mqttv5"]);
    publish(&door, "house/other/x", "no", &["-i", "mine", "-q", "1"]);
    assert!(publish(&door, "house/mine/x", "yes", &["-i", "mine", "-q", "1"]).status.success());
    let got = subscriber.wait(LIMIT, "the message that is allowed", |_| true);
    assert_eq!((got.topic.as_str(), got.payload.as_str()), ("house/mine/x", "yes"));
    assert_eq!(subscriber.received().len(), 1);
}

#[test]
fn a_will_is_published_when_its_client_is_killed() {
    need_mosquitto!();
    let gateway = open("trie");
    let watcher = Subscriber::new(&gateway.door(), "gone/#");
    let options = ["--will-topic", "gone/mortal", "--will-payload", "killed", "--will-qos", "1", "--will-retain"];
    let mut mortal = Subscriber::with(&gateway.door(), "x", &options);
    mortal.process().kill();
    let will = watcher.wait(LIMIT, "the will", |_| true);
    assert_eq!(will, Received { topic: "gone/mortal".into(), qos: 1, retain: true, payload: "killed".into() });
}

#[test]
fn five_thousand_retained_reach_one_new_subscriber_also_after_a_kill() {
    need_mosquitto!();
    for routing in ROUTINGS {
        let mut gateway = open(routing);
        let messages: Vec<_> =
            (0..5_000).map(|n| (format!("kept/{n}"), 1 + u8::from(n % 2 == 0), format!("value {n}"))).collect();
        let mut publisher = Client::connect(gateway.door().port, "publisher").unwrap().retaining();
        publisher.publish(&messages, 100).assert_complete(messages.len());
        let expected: BTreeSet<_> =
            messages.iter().map(|(topic, _, payload)| (topic.clone(), payload.clone())).collect();
        for round in ["at first", "after the kill"] {
            if round == "after the kill" {
                gateway.kill();
                gateway.start();
            }
            let subscriber = Subscriber::new(&gateway.door(), "kept/+");
            let found = wait_for(LIMIT, "all that is retained", || {
                let found = subscriber.received();
                if found.len() >= messages.len() { Ok(found) } else { Err(format!("{} came", found.len())) }
            });
            assert!(found.iter().all(|message| message.retain), "{routing}, {round}");
            assert_eq!(found.len(), messages.len(), "{routing}, {round}: each once");
            let found: BTreeSet<_> = found.into_iter().map(|message| (message.topic, message.payload)).collect();
            assert!(found == expected, "{routing}, {round}: what was published, and nothing else");
        }
    }
}

#[test]
fn a_taken_port_ends_the_start_with_a_word_about_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let gateway = Gateway::new(&CONFIG.replace("@listen@", &address), &[("routing", "trie")]);
    let mut command = gateway.command(&["run", "--config"]);
    let (late, started) = (Lateness::watch(), std::time::Instant::now());
    let output = command.arg(gateway.config_path()).output().unwrap();
    assert!(started.elapsed() < late.widen(Duration::from_secs(5)), "it took {:?}", started.elapsed());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&address), "{said}");
}

//! Is a Mosquitto that is there already as good a local broker as the gateway's own, also when it dies, refuses, or hangs; and when the gateway does?

mod bench;

use std::time::Duration;

use serde_json::Value;

use self::bench::{Bench, CONFIG, get, secret};
use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::mosquitto::Setup;
use crate::support::receiver::ledger::number;
use crate::support::{Gateway, Mosquitto, Received, Subscriber, Tty, publish, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

fn payloads(messages: &[Received]) -> Vec<&str> {
    messages.iter().map(|message| message.payload.as_str()).collect()
}

fn result(message: &Received) -> String {
    let ack: Value = serde_json::from_str(&message.payload).unwrap_or_default();
    format!("{} {}", ack["id"].as_str().unwrap_or_default(), ack["result"].as_str().unwrap_or_default())
}

#[test]
fn what_local_clients_publish_goes_up_and_what_comes_down_is_told_there_once_each_and_in_order() {
    need_mosquitto!();
    let bench = Bench::ready();
    let mut client = Client::connect(bench.local.port(), "talker").unwrap();
    let messages: Vec<(String, u8, String)> =
        (0..300).map(|n: usize| (format!("data/q{}", n % 3), [0, 1, 2][n % 3], n.to_string())).collect();
    let outcome = client.publish(&messages, 20);
    assert!(outcome.error.is_none() && outcome.acknowledged.len() == 200, "all but QoS 0: {outcome:?}");
    for (topic, level) in [("data/q1", 1), ("data/q2", 2)] {
        bench.above.wait_count(LIMIT, 100, |m| m.topic == topic && m.qos == level);
        let expected: Vec<String> = (0..300).filter(|n| n % 3 == u32::from(level)).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&bench.above.on(topic)), expected, "{topic}");
    }
    let mut cloud = Client::connect(bench.cloud.port(), "far").unwrap();
    let messages: Vec<_> = (0..100).map(|n| ("down/x".to_owned(), 2, n.to_string())).collect();
    cloud.publish(&messages, 20).assert_complete(messages.len());
    bench.below.wait_count(LIMIT, 100, |m| m.topic == "down/x" && m.qos == 2);
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&bench.below.on("down/x")), expected);
}

#[test]
fn a_local_command_is_done_and_answered_and_a_retained_one_is_not() {
    need_mosquitto!();
    let bench = Bench::ready();
    let command =
        |payload: &str, options: &[&str]| publish(&bench.local.door(), "tidegate/box/pump/set", payload, options);
    command(r#"{"id":"r","value":"on"}"#, &["-q", "1", "-r"]);
    command(r#"{"id":"1","value":"on"}"#, &["-q", "2"]);
    let acks = bench.below.wait_count(LIMIT, 2, |m| m.topic == "tidegate/box/pump/ack");
    assert_eq!(acks.iter().map(result).collect::<Vec<_>>(), ["r rejected", "1 done"]);
    let state =
        bench.below.wait(LIMIT, "the state", |m| m.topic == "tidegate/box/pump" && m.payload.contains("\"on\""));
    assert!(state.retain);
    // A connection later the retained one does not come again.
    bench.to_local.cut(crate::support::Cut::Reset);
    bench.subscribed(2);
    command(r#"{"id":"2","value":"off"}"#, &["-q", "1"]);
    bench.below.wait(LIMIT, "the answer", |m| m.topic == "tidegate/box/pump/ack" && result(m) == "2 done");
    let mut acks: Vec<String> = bench.below.on("tidegate/box/pump/ack").iter().map(result).collect();
    // The cut may come before the PUBACK of an answer, which is said again then: it is of QoS 1.
    acks.dedup();
    assert_eq!(acks, ["r rejected", "1 done", "2 done"]);
}

#[test]
fn with_rules_as_wide_as_they_go_nothing_that_the_gateway_says_there_goes_up_a_second_time() {
    need_mosquitto!();
    for version in ["5", "3.1.1"] {
        let mut bench = Bench::start_with(
            &CONFIG.replace("{ from = \"data/#\" }, ", "").replace("tidegate/box/level\" }", "#\", qos = 1 }"),
            &format!("version = \"{version}\""),
            Setup::new(),
        );
        bench.subscribed(1);
        bench.below.wait(LIMIT, "the bridge to be online", |m| {
            m.topic == "tidegate/box/bridge/cloud" && m.payload.contains("\"state\":\"online\"")
        });
        for n in 1..20 {
            bench.level(n);
        }
        let mut far = Client::connect(bench.cloud.port(), "far").unwrap();
        let messages: Vec<_> = (0..100).map(|n| ("down/x".to_owned(), 1, n.to_string())).collect();
        far.publish(&messages, 20).assert_complete(messages.len());
        bench.below.wait_count(LIMIT, 100, |m| m.topic == "down/x");
        // What comes last has let all before it by.
        publish(&bench.local.door(), "data/end", "end", &["-q", "1"]);
        bench.above.wait(LIMIT, "the last message", |m| m.topic == "data/end");
        let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        for (place, subscriber) in [("below", &bench.below), ("above", &bench.above)] {
            assert_eq!(payloads(&subscriber.on("down/x")), expected, "{place}, MQTT {version}");
        }
        let (above, below) = (bench.above.on("tidegate/box/level"), bench.below.on("tidegate/box/level"));
        assert_eq!(payloads(&above), payloads(&below), "MQTT {version}");
    }
}

#[test]
fn mosquitto_killed_and_back_without_its_memory_finds_the_gateway_s_states_and_no_reading_was_missed_at_the_cloud() {
    need_mosquitto!();
    // It forgets everything when it is killed.
    let mut bench = Bench::start("", Setup::stock().with("allow_anonymous true"));
    bench.subscribed(1);
    bench.level(1);
    bench.local.kill();
    let offline = bench.wait_state("offline");
    assert!(offline["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{offline}");
    let output = bench.tidegate(&["status"]);
    let status = String::from_utf8(output.stdout).unwrap();
    assert!(status.contains(&format!("local broker: {}, offline for", bench.to_local.url())), "{status}");
    // Readings go up without it.
    for n in 2..10 {
        bench.level(n);
    }
    let mark = bench.local.log().len();
    bench.local.restart();
    bench.local.log().wait_for_line(LIMIT, mark, &["Sending SUBACK to tidegate-box"]);
    bench.wait_state("online");
    let late = Subscriber::new(&bench.local.door(), "tidegate/#");
    late.wait(LIMIT, "the status", |m| m.topic == "tidegate/box/status" && m.payload == "online" && m.retain);
    late.wait(LIMIT, "the newest reading", |m| {
        m.topic == "tidegate/box/level" && m.retain && number(m.payload.as_bytes()) == Some(9)
    });
    late.wait(LIMIT, "the actuator's state", |m| m.topic == "tidegate/box/pump" && m.retain);
    late.wait(LIMIT, "its availability", |m| m.topic == "tidegate/box/pump/availability" && m.payload == "online");
    let mut client = Client::connect(bench.local.port(), "talker").unwrap();
    client.publish(&[("data/x".into(), 1, "after".into())], 1).assert_complete(1);
    bench.above.wait(LIMIT, "a forwarded message", |m| m.topic == "data/x" && m.payload == "after");
}

#[test]
fn mosquitto_says_that_the_gateway_was_killed_and_keeps_for_it_what_comes_meanwhile() {
    need_mosquitto!();
    let mut bench = Bench::ready();
    bench.gateway.kill();
    bench.below.wait(LIMIT, "the will", |m| m.topic == "tidegate/box/status" && m.payload == "offline" && m.retain);
    let mut client = Client::connect(bench.local.port(), "talker").unwrap();
    let messages: Vec<_> =
        (0..50).map(|n: usize| (format!("data/q{}", 1 + n % 2), [1, 2][n % 2], n.to_string())).collect();
    client.publish(&messages, 20).assert_complete(messages.len());
    bench.gateway.start();
    for (topic, from) in [("data/q1", 0), ("data/q2", 1)] {
        bench.above.wait_count(LIMIT, 25, |m| m.topic == topic);
        let expected: Vec<String> = (from..50).step_by(2).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&bench.above.on(topic)), expected);
    }
    let online = |m: &Received| m.topic == "tidegate/box/status" && m.payload == "online";
    bench.below.wait_count(LIMIT, 2, online);
    assert_eq!(bench.gateway.stop().code(), Some(0));
    let words = bench.below.on("tidegate/box/status");
    assert_eq!(payloads(&words), ["online", "offline", "online", "offline"], "in order, not by the will");
    let lines = bench.local.log().lines();
    assert!(lines.iter().any(|line| line.contains("Received DISCONNECT from tidegate-box")));
}

#[test]
fn a_link_that_is_cut_again_and_again_doubles_no_message_of_qos_2_and_loses_none() {
    need_mosquitto!();
    let bench = Bench::ready();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                // A connection has its time to begin, or nothing would be tried but beginnings.
                std::thread::sleep(Duration::from_millis(70));
                if bench.to_local.open() > 0 {
                    bench.to_local.cut(crate::support::Cut::Reset);
                }
            }
        });
        let mut client = Client::connect(bench.local.port(), "talker").unwrap();
        let mut far = Client::connect(bench.cloud.port(), "far").unwrap();
        for batch in 0..20 {
            let messages = |topic: &str| -> Vec<(String, u8, String)> {
                (0..50).map(|n| (topic.to_owned(), 2, (batch * 50 + n).to_string())).collect()
            };
            client.publish(&messages("data/x"), 20).assert_complete(50);
            far.publish(&messages("down/x"), 20).assert_complete(50);
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let expected: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    bench.above.wait_count(LIMIT, 1000, |m| m.topic == "data/x");
    assert_eq!(payloads(&bench.above.on("data/x")), expected);
    bench.below.wait_count(LIMIT, 1000, |m| m.topic == "down/x");
    assert_eq!(payloads(&bench.below.on("down/x")), expected);
}

#[test]
fn a_broker_that_swallows_everything_is_found_out_and_one_that_is_back_gets_what_waited() {
    need_mosquitto!();
    let mut bench = Bench::ready();
    bench.level(1);
    let mark = bench.gateway.log().len();
    bench.to_local.black_hole();
    bench.gateway.wait_for_log(LIMIT, mark, &["the local broker is out of reach", "no answer to ping within 10 s"]);
    bench.level(2);
    bench.to_local.up();
    bench.to_local.cut(crate::support::Cut::Reset);
    bench.below.wait(LIMIT, "the reading that waited", |m| {
        m.topic == "tidegate/box/level" && number(m.payload.as_bytes()) == Some(2)
    });
}

#[test]
fn a_wrong_password_is_told_and_a_right_one_after_a_reload_lets_it_in() {
    need_mosquitto!();
    let login = "username = \"box\"\npassword = \"file:@dir@/password\"";
    let mut bench = Bench::start("", Setup::new().user("box", "right"));
    bench.gateway.wait_for_log(LIMIT, 0, &["the local broker is out of reach", "CONNACK", "username"]);
    assert_eq!(bench.wait_state("offline")["state"], "offline");
    secret(&bench.gateway, "right");
    bench.gateway.set("login", login);
    bench.gateway.reload();
    bench.wait_state("online");
    bench.below.wait(LIMIT, "the birth", |m| m.topic == "tidegate/box/status" && m.payload == "online");
}

/// Another gateway as the broker that is there: it refuses a subscription with a code, whereas Mosquitto's file of rights lets any be made.
const GUARDED: &str = r#"
[gateway]
id = "there"
state_dir = "@state@"

[broker]
listen = "@listen@"

# The password is: example
[[broker.users]]
name = "box"
hash = "$argon2id$v=19$m=19456,t=2,p=1$6UNh3kEx/F3qcY7rOYbd5Q$n6LgQD+YWLYO1CGB726W766sx90V1nLeuqEkW6yWJPI"
publish = ["tidegate/#"]
subscribe = ["tidegate/#"]
"#;

#[test]
fn a_subscription_that_it_refuses_is_told_and_the_rest_works() {
    let mut there = Gateway::new(GUARDED, &[]);
    there.start();
    let dir = tempfile::tempdir().unwrap();
    let tty = Tty::plug(dir.path().join("sensor"));
    let url = format!("mqtt://127.0.0.1:{}", there.door().port);
    let login = "username = \"box\"\npassword = \"file:@dir@/password\"";
    let words = [("login", login), ("tty", &tty.device()), ("cloud", "mqtt://127.0.0.1:9"), ("local", &url)];
    let mut gateway = Gateway::new(CONFIG, &words).client_of(there.door().port);
    secret(&gateway, "example");
    gateway.start();
    gateway.wait_for_log(LIMIT, 0, &["the local broker refuses a subscription", "data/#", "0x87"]);
    let mut command = gateway.command(&["status", "--config"]);
    command.arg(gateway.config_path()).env_remove("RUNTIME_DIRECTORY");
    let told = wait_for(LIMIT, "the status to tell", || {
        let status = String::from_utf8(command.output().unwrap().stdout).unwrap();
        if status.contains(": it refuses the subscription") { Ok(status) } else { Err(status) }
    });
    assert!(told.contains("online for") && told.contains("`data/#`: 0x87 not authorized; 0 waiting"), "{told}");
    let mut set = gateway.command(&["clients"]);
    set.arg("--config").arg(gateway.config_path()).env_remove("RUNTIME_DIRECTORY");
    let output = set.output().unwrap();
    assert!(!output.status.success(), "its clients are not the gateway's to tell: {output:?}");
}

#[test]
fn rules_and_urls_follow_a_reload_and_another_engine_waits_for_the_next_start() {
    need_mosquitto!();
    let mut bench = Bench::ready();
    let other = Mosquitto::start();
    let elsewhere = Subscriber::new(&other.door(), "tidegate/#");
    // Another rule, on the same connection.
    bench.gateway.configure(&CONFIG.replace("{ from = \"data/#\" }", "{ from = \"other/#\" }"));
    bench.gateway.reload();
    bench.subscribed(2);
    publish(&bench.local.door(), "data/x", "not any more", &["-q", "1"]);
    publish(&bench.local.door(), "other/x", "here", &["-q", "1"]);
    bench.above.wait(LIMIT, "the new rule's message", |m| m.topic == "other/x" && m.payload == "here");
    assert_eq!(bench.above.on("data/x"), []);
    // Another engine.
    let mark = bench.gateway.log().len();
    bench.gateway.set("login", "");
    bench.gateway.configure("[gateway]\nid = \"box\"\nstate_dir = \"@state@\"\n");
    bench.gateway.reload();
    bench.gateway.wait_for_log(LIMIT, mark, &["a change of `[broker] engine` takes effect at the next start"]);
    bench.gateway.wait_for_log(LIMIT, mark, &["config reloaded"]);
    assert_eq!(bench.wait_state("online")["url"], bench.to_local.url());
    // Another URL.
    bench.gateway.set("local", &other.url());
    bench.gateway.configure(CONFIG);
    bench.gateway.reload();
    elsewhere.wait(LIMIT, "the birth", |m| m.topic == "tidegate/box/status" && m.payload == "online");
    bench.below.wait(LIMIT, "the will", |m| m.topic == "tidegate/box/status" && m.payload == "offline");
}

#[test]
fn check_tells_where_local_clients_are_and_leaves_that_broker_s_rights_to_it() {
    let example = format!("{}/config/examples/beside-mosquitto.toml", env!("CARGO_MANIFEST_DIR"));
    let run = |arguments: &[&str]| {
        let mut command = crate::support::program::program();
        command.args(arguments).args(["--config", &example]).env_remove("CREDENTIALS_DIRECTORY").output().unwrap()
    };
    let output = run(&["check", "--no-secrets"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("1 bridge; local clients are at mqtt://127.0.0.1:1883\n"), "{said}");
    for arguments in [&["check", "--acl", "ha", "home/x"][..], &["user", "list"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("is said in that broker's own configuration"), "{told}");
    }
}

#[test]
fn the_example_runs_beside_a_mosquitto_without_hardware() {
    need_mosquitto!();
    let example = include_str!("../../../config/examples/beside-mosquitto.toml");
    let local = Setup::new().user("tidegate", "secret").start();
    let config = example
        .replace("id = \"house\"\n", "id = \"house\"\nstate_dir = \"@state@\"\n")
        .replace("mqtt://127.0.0.1:1883", &local.url())
        .replace("credential:mosquitto.password", "file:@dir@/password")
        .replace("mqtts://broker.example.com", "mqtt://127.0.0.1:9");
    let mut gateway = Gateway::new(&config, &[]).client_of(local.port()).simulated();
    secret(&gateway, "secret");
    let below = Subscriber::new(&local.door(), "tidegate/#");
    gateway.start();
    below.wait(LIMIT, "a reading", |m| m.topic == "tidegate/house/hall" && m.payload.contains("\"ts\""));
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn a_gateway_without_its_broker_starts_and_is_not_ready_and_is_once_it_comes() {
    need_mosquitto!();
    let config = CONFIG.replace("[broker]\n", "[http]\nlisten = \"127.0.0.1:@page@\"\n\n[broker]\n");
    let mut local = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let tty = Tty::plug(dir.path().join("sensor"));
    let page = crate::support::free_port().to_string();
    let words = [
        ("tty", tty.device()),
        ("cloud", "mqtt://127.0.0.1:9".into()),
        ("local", local.url()),
        ("login", String::new()),
        ("page", page.clone()),
    ];
    let words: Vec<(&str, &str)> = words.iter().map(|(word, value)| (*word, value.as_str())).collect();
    local.stop();
    let mut gateway = Gateway::new(&config, &words).client_of(local.port());
    gateway.start();
    let ready = || {
        let (status, body) = get(&page, "/readyz");
        (status, body)
    };
    let (status, body) = wait_for(LIMIT, "word that it is not ready", || match ready() {
        (503, body) if body.contains("is not connected: connection refused") => Ok((503, body)),
        other => Err(format!("{other:?}")),
    });
    assert!(body.contains(&local.url()), "{status} {body}");
    local.restart();
    wait_for(LIMIT, "it to be ready", || match ready() {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let metrics = get(&page, "/metrics").1;
    assert!(metrics.contains("tidegate_broker_connected 1"), "{metrics}");
}

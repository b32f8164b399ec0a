//! Does the bridge speak MQTT in a WebSocket as it does without?

use std::collections::HashSet;
use std::time::Duration;

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::mosquitto::Setup;
use crate::support::{Certificates, Cut, Door, Gateway, Link, Mosquitto, Subscriber, free_port, publish, wait_for};

const LIMIT: Duration = Duration::from_secs(40);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "@url@"
@more@
reconnect = { min = "100ms", max = "500ms", stable = "1s" }
out = [ { from = "up/#" } ]
in = [ { from = "down/#", qos = 1 } ]
"#;

/// A Mosquitto with a second listener, of WebSockets, and the port of that.
fn cloud(more: &str) -> (Mosquitto, u16) {
    let web = free_port();
    let cloud = Setup::new()
        .with(&format!("listener {web} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n{more}"))
        .start();
    (cloud, web)
}

fn online(below: &Subscriber) {
    below.wait(LIMIT, "the bridge to be online", |m| m.payload.contains("\"state\":\"online\""));
}

#[test]
fn cut_and_mended_over_websockets_nothing_is_lost_and_nothing_doubled() {
    need_mosquitto!();
    let (cloud, web) = cloud("");
    let above = Subscriber::new(&cloud.door(), "up/#");
    let link = Link::to(web);
    let url = format!("ws://127.0.0.1:{}/mqtt", link.port());
    let mut gateway = Gateway::new(CONFIG, &[("url", &url), ("more", "")]);
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/bridge/cloud");
    online(&below);
    let mut sender = Client::connect(gateway.door().port, "sender").unwrap();
    let count = 600;
    let messages: Vec<(String, u8, String)> = (0..count)
        .map(|number| (format!("up/{}", 1 + number % 2), if number % 2 == 0 { 1 } else { 2 }, number.to_string()))
        .collect();
    // Slow enough for each cut to fall among messages that are under way.
    link.rate(20_000);
    sender.publish(&messages, 50).assert_complete(count);
    for round in 1..=6 {
        wait_for(LIMIT, "some more messages above", || {
            let got = above.received().len();
            if got >= round * 60 { Ok(()) } else { Err(got.to_string()) }
        });
        link.cut(if round % 2 == 0 { Cut::Reset } else { Cut::Fin });
    }
    let got = wait_for(LIMIT, "all messages above", || {
        let got = above.received();
        let numbers: HashSet<&str> = got.iter().map(|m| m.payload.as_str()).collect();
        if numbers.len() == count { Ok(got.clone()) } else { Err(format!("{} of {count}", numbers.len())) }
    });
    assert!(link.opened() > 6, "the cuts cut nothing");
    let exactly: Vec<&str> = got.iter().filter(|m| m.topic == "up/2").map(|m| m.payload.as_str()).collect();
    assert_eq!(exactly.len(), count / 2, "QoS 2 messages came twice");
    // And down, after all that.
    online(&below);
    let local = Subscriber::new(&gateway.door(), "down/#");
    assert!(publish(&cloud.door(), "down/x", "hello", &["-q", "1"]).status.success());
    local.wait(LIMIT, "the message from above", |m| m.topic == "down/x" && m.payload == "hello");
}

#[test]
fn a_message_of_many_frames_goes_up_whole() {
    need_mosquitto!();
    let (cloud, web) = cloud("");
    let above = Subscriber::new(&cloud.door(), "up/#");
    let mut gateway = Gateway::new(CONFIG, &[("url", &format!("ws://127.0.0.1:{web}")), ("more", "")]);
    gateway.start();
    let large = "0123456789".repeat(10_000);
    assert!(publish(&gateway.door(), "up/large", &large, &["-q", "2"]).status.success());
    above.wait(LIMIT, "the large message", |m| m.payload == large);
}

#[test]
fn tls_goes_around_the_websocket() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let certs = Certificates::make(dir.path());
    let (cert, key) = (certs.server.cert.display(), certs.server.key.display());
    let (cloud, web) = cloud(&format!("certfile {cert}\nkeyfile {key}\ncafile {}\n", certs.ca.display()));
    let above = Subscriber::new(&cloud.door(), "up/#");
    let tls = format!("tls = {{ ca = \"{}\" }}", certs.ca.display());
    let mut gateway = Gateway::new(CONFIG, &[("url", &format!("wss://localhost:{web}/mqtt")), ("more", &tls)]);
    gateway.start();
    assert!(publish(&gateway.door(), "up/x", "secret way", &["-q", "2"]).status.success());
    above.wait(LIMIT, "the message", |m| m.payload == "secret way");
}

#[test]
fn a_port_without_websockets_is_told_by_that_reason() {
    need_mosquitto!();
    let cloud = Mosquitto::start();
    let mut gateway = Gateway::new(CONFIG, &[("url", &format!("ws://127.0.0.1:{}", cloud.port())), ("more", "")]);
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/bridge/cloud");
    below.wait(LIMIT, "a reason that names the WebSocket", |m| {
        m.payload.contains("\"state\":\"offline\"") && m.payload.contains("WebSocket")
    });
    // The plain door of the cloud is not used up by that: others still get in.
    assert!(publish(&Door::plain(cloud.port()), "x", "y", &["-q", "1"]).status.success());
}

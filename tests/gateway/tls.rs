//! Does the bridge prove who it is, and does it refuse a cloud that cannot?

use std::time::Duration;

use crate::need_mosquitto;
use crate::support::certs::Pair;
use crate::support::mosquitto::Setup;
use crate::support::{Certificates, Cut, Door, Gateway, Link, Mosquitto, Received, Subscriber, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "mqtts://localhost:@port@"
tls = { ca = "@ca@", cert = "@cert@", key = "file:@key@" }
reconnect = { min = "100ms", max = "1s" }
out = [ { from = "data/#" } ]
"#;

struct Meeting {
    cloud: Mosquitto,
    gateway: Gateway,
    below: Subscriber,
}

/// A gateway with a client certificate meets a cloud with this one.
fn meet(certs: &Certificates, server: &Pair, ca: &std::path::Path) -> Meeting {
    let cloud = Setup::new().tls(certs.ca.clone(), server.clone()).start();
    let words = [
        ("port", cloud.port().to_string()),
        ("ca", ca.display().to_string()),
        ("cert", certs.client.cert.display().to_string()),
        ("key", certs.client.key.display().to_string()),
    ];
    let words: Vec<(&str, &str)> = words.iter().map(|(word, value)| (*word, value.as_str())).collect();
    let mut gateway = Gateway::new(CONFIG, &words);
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/bridge/cloud");
    Meeting { cloud, gateway, below }
}

/// The reason the bridge gives for not being online, once it says what `word` says; the same reason must stand in the log.
fn refusal(meeting: &Meeting, word: &str) -> Received {
    let told = meeting.below.wait(LIMIT, &format!("a reason with `{word}`"), |m| {
        m.payload.contains("\"state\":\"offline\"") && m.payload.contains(word)
    });
    meeting.gateway.wait_for_log(LIMIT, 0, &["WARN", word]);
    told
}

#[test]
fn a_bridge_with_a_client_certificate_delivers() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let certs = Certificates::make(dir.path());
    let meeting = meet(&certs, &certs.server, &certs.ca);
    let certificate = Some((certs.client.cert.clone(), certs.client.key.clone()));
    let door = Door { port: meeting.cloud.port(), ca: Some(certs.ca.clone()), certificate, ..Door::default() };
    let above = Subscriber::new(&door, "#");
    meeting.below.wait(LIMIT, "the bridge to be online", |m| m.payload.contains("\"state\":\"online\""));
    let published = crate::support::publish(&meeting.gateway.door(), "data/x", "up", &["-q", "1"]);
    assert!(published.status.success(), "{published:?}");
    above.wait(LIMIT, "the message", |m| m.topic == "data/x" && m.payload == "up");
}

#[test]
fn an_expired_certificate_is_refused_by_that_name() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let certs = Certificates::make(dir.path());
    let meeting = meet(&certs, &certs.expired, &certs.ca);
    refusal(&meeting, "expired");
}

#[test]
fn a_certificate_for_another_name_is_refused_by_that_reason() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let certs = Certificates::make(dir.path());
    let meeting = meet(&certs, &certs.wrong_name, &certs.ca);
    let told = refusal(&meeting, "another name");
    assert!(!told.payload.contains("expired"), "{told:?}");
}

#[test]
fn a_certificate_of_an_unknown_root_is_refused() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let certs = Certificates::make(dir.path());
    let meeting = meet(&certs, &certs.server, &certs.other_ca);
    let told = meeting.below.wait(LIMIT, "the bridge to be offline", |m| m.payload.contains("\"state\":\"offline\""));
    assert!(!told.payload.contains("expired") && !told.payload.contains("another name"), "{told:?}");
    // Not a byte of MQTT has reached it.
    wait_for(LIMIT, "the cloud's word on it", || {
        let lines = meeting.cloud.log().lines();
        let spoke = lines.iter().any(|line| line.contains("New client connected"));
        assert!(!spoke, "the bridge spoke with an untrusted cloud");
        if lines.iter().any(|line| line.contains("unknown ca")) { Ok(()) } else { Err(format!("{:?}", lines.last())) }
    });
}

/// What a real broker makes of a session that comes again, one that wants a client certificate.
#[test]
fn cut_off_the_bridge_comes_back_with_the_session_it_had_until_its_certificate_is_renewed() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let certs = Certificates::make(dir.path());
    let cloud = Setup::new().tls(certs.ca.clone(), certs.server.clone()).start();
    let link = Link::to(cloud.port());
    let words = [
        ("port", link.port().to_string()),
        ("ca", certs.ca.display().to_string()),
        ("cert", certs.client.cert.display().to_string()),
        ("key", certs.client.key.display().to_string()),
    ];
    let words: Vec<(&str, &str)> = words.iter().map(|(word, value)| (*word, value.as_str())).collect();
    let mut gateway = Gateway::new(CONFIG, &words).log_level("info,tidegate=debug");
    gateway.start();
    for (round, resumed) in [(1, false), (2, true), (3, true), (4, false), (5, true)] {
        if round == 4 {
            // Another file with the same in it: what is in it is not asked.
            let next = dir.path().join("next.pem");
            std::fs::copy(&certs.client.cert, &next).unwrap();
            std::fs::rename(&next, &certs.client.cert).unwrap();
        }
        let mark = if round == 1 { 0 } else { gateway.log().len() };
        if round > 1 {
            link.cut(Cut::Reset);
        }
        gateway.wait_for_log(LIMIT, mark, &["connected to the cloud"]);
        let lines = gateway.log().since(mark);
        let handshakes: Vec<&String> = lines.iter().filter(|line| line.contains("TLS with the cloud")).collect();
        assert!(handshakes[0].contains(&format!("resumed={resumed}")), "connection {round}: {handshakes:?}");
        assert!(!lines.iter().any(|line| line.contains("still out of reach")), "connection {round}: {lines:#?}");
    }
}

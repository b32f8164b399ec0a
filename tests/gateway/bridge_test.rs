//! Does `tidegate bridge test` say where the way to a cloud ends, why, and what to do, and does it leave the bridge alone?

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::need_mosquitto;
use crate::support::certs::Pair;
use crate::support::mosquitto::Setup;
use crate::support::{Certificates, Gateway, Subscriber, free_port, publish};

const LIMIT: Duration = Duration::from_secs(30);

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
connect_timeout = "1s"
reconnect = { min = "100ms", max = "1s" }
out = [ { from = "data/#" } ]
in = [ { from = "down/#", qos = 1 }, { from = "secret/#", qos = 2 } ]
"#;

fn gateway(url: &str, more: &str) -> Gateway {
    Gateway::new(CONFIG, &[("url", url), ("more", more)])
}

/// Exit code, what is said, and what is told of errors.
fn run(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let mut command = gateway.command(&["bridge", "test"]);
    command.args(arguments).arg("--config").arg(gateway.config_path()).env_remove("RUNTIME_DIRECTORY");
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The stages by name and outcome, and the last of them whole.
fn stages(gateway: &Gateway, arguments: &[&str], code: i32) -> (Vec<String>, Value) {
    let (ended, said, told) = run(gateway, &[&["cloud", "--json"], arguments].concat());
    assert_eq!(ended, code, "{said}{told}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["ok"], Value::from(code == 0), "{said}");
    let stages = report["stages"].as_array().unwrap();
    let word = |stage: &Value, key: &str| stage[key].as_str().unwrap().to_owned();
    assert!(stages.iter().all(|stage| stage["took_ms"].as_f64().is_some()), "{said}");
    let names = stages.iter().map(|stage| format!("{} {}", word(stage, "stage"), word(stage, "outcome"))).collect();
    (names, stages.last().unwrap().clone())
}

/// It ends at `stage`, in words with `reason` and a hint with `hint`, as JSON and as text.
#[track_caller]
fn ends_at(gateway: &Gateway, stage: &str, reason: &str, hint: &str) -> Value {
    let (names, last) = stages(gateway, &[], 1);
    assert_eq!(names.last().unwrap(), &format!("{stage} failed"), "{last}");
    let has = |key: &str, part: &str| last[key].as_str().unwrap().contains(part);
    assert!(has("what", reason) && has("hint", hint), "`{reason}`, `{hint}`: {last:#}");
    let (code, said, _) = run(gateway, &[]);
    assert_eq!(code, 1, "{said}");
    let line = said.lines().find(|line| line.contains("FAILED")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.starts_with(stage) && line.contains(reason) && line.contains(" ms "), "{said}");
    assert!(said.lines().last().unwrap().contains(hint), "{said}");
    last
}

#[test]
fn a_way_that_ends_before_mqtt_is_told_by_its_stage() {
    ends_at(&gateway("mqtt://nobody.invalid", ""), "name", "`nobody.invalid` cannot be resolved", "/etc/resolv.conf");
    let closed = format!("mqtt://127.0.0.1:{}", free_port());
    ends_at(&gateway(&closed, ""), "tcp", "connection refused", "is the port in `url` right?");

    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let began = Instant::now();
    ends_at(&gateway(&format!("mqtt://127.0.0.1:{port}"), ""), "connect", "no CONNACK within 1 s", "mqtts://");
    ends_at(
        &gateway(&format!("mqtts://127.0.0.1:{port}"), ""),
        "tls",
        "no answer to the TLS handshake",
        "port for TLS",
    );
    ends_at(&gateway(&format!("ws://127.0.0.1:{port}/mqtt"), ""), "websocket", "no answer to the request", "path");
    assert!(began.elapsed() >= Duration::from_secs(3), "it did not wait");
}

/// A gateway with a client certificate on the way to a cloud with this one.
fn to_cloud_with(certs: &Certificates, server: &Pair, ca: &Path) -> (crate::support::Mosquitto, Gateway) {
    let cloud = Setup::new().tls(certs.ca.clone(), server.clone()).start();
    let tls = format!(
        "tls = {{ ca = \"{}\", cert = \"{}\", key = \"file:{}\" }}",
        ca.display(),
        certs.client.cert.display(),
        certs.client.key.display()
    );
    let gateway = gateway(&format!("mqtts://localhost:{}", cloud.port()), &tls);
    (cloud, gateway)
}

#[test]
fn a_certificate_that_is_turned_down_is_named_with_the_reason() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let certs = Certificates::make(dir.path());

    let (_cloud, gateway) = to_cloud_with(&certs, &certs.expired, &certs.ca);
    let told = ends_at(&gateway, "tls", "has expired: `", "has to renew it; this board's clock says");
    let certificate = &told["certificate"];
    assert!(certificate["subject"].as_str().unwrap().contains("CN=cloud"), "{told}");
    assert!(certificate["issuer"].as_str().unwrap().contains("CN=Tidegate test root"), "{told}");
    assert_eq!(certificate["not_after"], "2001-01-01T00:00:00.000Z");
    assert!(told["what"].as_str().unwrap().contains("valid 2000-01-01 00:00 to 2001-01-01 00:00 UTC"), "{told}");

    let (_cloud, gateway) = to_cloud_with(&certs, &certs.wrong_name, &certs.ca);
    let told = ends_at(&gateway, "tls", "is for another name (elsewhere.example)", "`server_name` of `tls`");
    assert_eq!(told["certificate"]["names"], serde_json::json!(["elsewhere.example"]));

    let (_cloud, gateway) = to_cloud_with(&certs, &certs.future, &certs.ca);
    ends_at(&gateway, "tls", "is not valid yet", "timedatectl");

    let (_cloud, gateway) = to_cloud_with(&certs, &certs.server, &certs.other_ca);
    let told = ends_at(&gateway, "tls", "unknown authority: `", "other-ca.pem` does not hold the authority");
    assert!(told["certificate"]["issuer"].as_str().unwrap().contains("CN=Tidegate test root"), "{told}");

    let (_cloud, gateway) = to_cloud_with(&certs, &certs.server, &certs.ca);
    let (names, last) = stages(&gateway, &[], 0);
    let all = ["name ok", "tcp ok", "tls ok", "connect ok", "subscribe ok", "publish ok"];
    assert_eq!(names, all, "{last}");
    let (code, said, _) = run(&gateway, &["cloud"]);
    assert!(code == 0 && said.contains("TLS 1.3, `") && said.contains("MQTT 5, as `box-test`"), "{said}");
}

#[test]
fn a_refused_login_is_told_in_the_words_of_the_cloud_s_code() {
    need_mosquitto!();
    let cloud = Setup::new().user("box", "right").start();
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("password");
    std::fs::write(&secret, "wrong").unwrap();
    let login = format!("username = \"box\"\npassword = \"file:{}\"", secret.display());
    let gateway = gateway(&cloud.url(), &login);
    ends_at(&gateway, "connect", "CONNACK 0x87 not authorized", "`username` and `password`");
    let (_, said, told) = run(&gateway, &[]);
    assert!(!said.contains("wrong") && !told.contains("wrong"), "the password is told: {said}{told}");
    std::fs::write(&secret, "right").unwrap();
    assert_eq!(run(&gateway, &[]).0, 0);
}

#[test]
fn a_refused_subscription_and_a_refused_message_are_told_by_their_topic() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    // Mosquitto's list of permissions refuses no subscription; its plugin does.
    let plugin = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let plugin = plugin.map(|entry| entry.path().join("mosquitto_dynamic_security.so")).find(|path| path.exists());
    let plugin = plugin.expect("mosquitto comes with its plugin of permissions");
    let allowed = dir.path().join("allowed.json");
    let rules = r#"{
        "defaultACLAccess": { "publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true },
        "clients": [], "groups": [ { "groupname": "all", "roles": [ { "rolename": "some" } ] } ], "anonymousGroup": "all",
        "roles": [ { "rolename": "some", "acls": [
            { "acltype": "subscribePattern", "topic": "secret/#", "priority": 1, "allow": false },
            { "acltype": "publishClientSend", "topic": "tidegate/#", "priority": 1, "allow": false } ] } ] }"#;
    std::fs::write(&allowed, rules).unwrap();
    let lines = format!("plugin {}\nplugin_opt_config_file {}", plugin.display(), allowed.display());
    let cloud = Setup::new().with(&lines).start();
    let mut gateway = gateway(&cloud.url(), "");
    let last = ends_at(&gateway, "subscribe", "`secret/#` refused: 0x87 not authorized", "what `in` asks for");
    let codes = serde_json::json!([{ "filter": "down/#", "code": 1 }, { "filter": "secret/#", "code": 0x87 }]);
    assert_eq!(last["subscriptions"], codes);

    gateway.configure(&CONFIG.replace(", { from = \"secret/#\", qos = 2 }", ""));
    ends_at(&gateway, "publish", "`tidegate/box/test` refused: 0x87 not authorized", "--topic");
    assert_eq!(stages(&gateway, &["--topic", "data/probe"], 0).0.last().unwrap(), "publish ok");
    assert_eq!(run(&gateway, &["--topic", "data/#"]).0, 64);
    assert_eq!(run(&gateway, &["nowhere"]).0, 64);
}

#[test]
fn a_test_beside_the_running_bridge_leaves_its_session_alone() {
    need_mosquitto!();
    let cloud = crate::support::Mosquitto::start();
    let mut gateway = gateway(&cloud.url(), "");
    let all = Subscriber::new(&cloud.door(), "#");
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/bridge/cloud");
    let online = |m: &crate::support::Received| m.payload.contains("\"state\":\"online\"");
    below.wait(LIMIT, "the bridge to be online", online);
    let states = below.received().len();

    let (names, last) = stages(&gateway, &[], 0);
    let all_stages = ["name skipped", "tcp ok", "tls skipped", "connect ok", "subscribe ok", "publish ok"];
    assert_eq!(names, all_stages, "{last}");
    let probe = all.wait(LIMIT, "the empty message", |m| m.topic == "tidegate/box/test");
    assert_eq!((probe.payload.as_str(), probe.qos, probe.retain), ("", 1, false));
    let (code, _, told) = run(&gateway, &["--as-bridge"]);
    assert!(code == 69 && told.contains("the gateway is running"), "{code} {told}");

    // The bridge is where it was, and what comes down gets to it.
    let local = Subscriber::new(&gateway.door(), "down/#");
    assert!(publish(&cloud.door(), "down/x", "hello", &["-q", "1"]).status.success());
    local.wait(LIMIT, "the message below", |m| m.topic == "down/x" && m.payload == "hello");
    let later = below.received();
    assert!(later[states..].iter().all(online), "{later:?}");
    assert!(!cloud.log().lines().iter().any(|line| line.contains("already connected")), "an id was used twice");
}

#[test]
fn a_test_under_the_bridge_s_own_id_leaves_no_session_that_the_bridge_would_take_for_its_own() {
    need_mosquitto!();
    let cloud = crate::support::Mosquitto::start();
    let mut gateway = gateway(&cloud.url(), "");
    let skipped = ["name skipped", "tcp ok", "tls skipped", "connect ok", "subscribe skipped", "publish skipped"];
    let words = |arguments: &[&str]| {
        let (code, said, told) = run(&gateway, arguments);
        assert_eq!(code, 0, "{told}");
        said
    };
    assert_eq!(stages(&gateway, &["--as-bridge"], 0).0, skipped);
    // Were the session of the first left, the second would find it.
    let said = words(&["--as-bridge"]);
    assert!(said.contains("as `box`, of which the cloud has no session"), "{said}");

    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/bridge/cloud");
    below.wait(LIMIT, "the bridge to be online", |m| m.payload.contains("\"state\":\"online\""));
    gateway.stop();
    for _ in 0..2 {
        let (_, said, _) = run(&gateway, &["--as-bridge"]);
        assert!(said.contains("as `box`, whose session the cloud has"), "the bridge's session is gone: {said}");
    }
    // And it still holds the bridge's subscriptions.
    assert!(publish(&cloud.door(), "down/x", "kept", &["-q", "1"]).status.success());
    gateway.start();
    let local = Subscriber::new(&gateway.door(), "down/#");
    assert!(publish(&cloud.door(), "down/x", "last", &["-q", "1"]).status.success());
    local.wait(LIMIT, "the message below", |m| m.payload == "last");
}

#[test]
fn a_cloud_that_knows_a_device_by_its_client_id_is_tested_under_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "c2VjcmV0").unwrap();
    let config = format!(
        r#"
[gateway]
id = "box"
state_dir = "@state@"

[[bridge]]
id = "cloud"
preset = "azure-iot-hub"
url = "mqtts://127.0.0.1:{}"
client_id = "{{gateway}}"
auth = {{ kind = "sas", host = "hub.azure-devices.net", device = "box", key = "file:{}" }}
connect_timeout = "1s"
out = [ {{ from = "tidegate/{{gateway}}/+", to = "devices/{{gateway}}/messages/events/s={{1}}" }} ]
"#,
        free_port(),
        key.display()
    );
    let gateway = Gateway::new(&config, &[]);
    let (code, said, told) = run(&gateway, &[]);
    assert!(code == 64 && said.is_empty() && told.contains("say --as-bridge"), "{code} {said}{told}");
    let (code, said, told) = run(&gateway, &["--as-bridge"]);
    assert!(code == 1 && said.contains("as `box`, in the bridge's place"), "{code} {said}{told}");
}

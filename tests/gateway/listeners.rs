//! Do clients come to the local broker by TLS and by WebSockets as they do without, and only those that may?

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::{Certificates, Door, Gateway, Subscriber, Web, free_port, publish, wait_for, web};

const LIMIT: Duration = Duration::from_secs(30);
/// What is said in the documentation of a handshake's deadline.
const HANDSHAKE: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
websocket_listen = "127.0.0.1:@web@"

[broker.tls]
listen = "127.0.0.1:@secure@"
websocket_listen = "127.0.0.1:@secure-web@"
cert = "server.pem"
key = "file:server.key"
@more@
"#;

struct Bench {
    gateway: Gateway,
    certs: Certificates,
    web: u16,
    secure: u16,
    secure_web: u16,
}

/// A gateway whose certificates are in its own directory.
fn bench(template: &str, more: &str) -> Bench {
    let [web, secure, secure_web] = [free_port(), free_port(), free_port()];
    let [web_text, secure_text, secure_web_text] = [web, secure, secure_web].map(|port| port.to_string());
    let words = [("web", &*web_text), ("secure", &*secure_text), ("secure-web", &*secure_web_text), ("more", more)];
    let gateway = Gateway::new(template, &words);
    let certs = Certificates::make(gateway.dir());
    Bench { gateway, certs, web, secure, secure_web }
}

fn started(more: &str) -> Bench {
    let mut bench = bench(CONFIG, more);
    bench.gateway.start();
    // It answers at the first of its listeners before it has the others.
    bench.gateway.wait_for_log(LIMIT, 0, &["gateway is up"]);
    bench
}

impl Bench {
    fn secure_door(&self) -> Door {
        Door { port: self.secure, ca: Some(self.certs.ca.clone()), ..Door::default() }
    }

    fn certified_door(&self, of: &Certificates) -> Door {
        let certificate = Some((of.client.cert.clone(), of.client.key.clone()));
        Door { certificate, ..self.secure_door() }
    }
}

fn comes_in(door: &Door) -> bool {
    publish(door, "x", "y", &["-q", "1"]).status.success()
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_ends_no_connection() {
    need_mosquitto!();
    let bench = started("");
    let before = bench.secure_door();
    let subscriber = Subscriber::new(&before, "data/#");
    for qos in ["0", "1", "2"] {
        assert!(publish(&before, "data/x", qos, &["-q", qos]).status.success());
    }
    subscriber.wait_count(LIMIT, 3, |m| m.topic == "data/x");
    let large = "0123456789".repeat(50_000);
    let lines = [large.clone()];
    crate::support::publish_lines(&before, "data/large", lines, &["-q", "1"]);
    subscriber.wait(LIMIT, "a message of many TLS records", |m| m.payload == large);

    let other = tempfile::tempdir().unwrap();
    let renewed = Certificates::make(other.path());
    fs::copy(&renewed.server.cert, bench.gateway.dir().join("server.pem")).unwrap();
    assert!(comes_in(&before), "the certificate came without its key yet");
    bench.gateway.wait_for_log(LIMIT, 0, &["WARN", "stays in use"]);
    fs::copy(&renewed.server.key, bench.gateway.dir().join("server.key")).unwrap();
    let after = Door { ca: Some(renewed.ca.clone()), ..before.clone() };
    assert!(publish(&after, "data/after", "renewed", &["-q", "1"]).status.success());
    assert!(!comes_in(&before), "the certificate of before is still shown");
    subscriber.wait(LIMIT, "a message over the connection of before", |m| m.payload == "renewed");
    bench.gateway.wait_for_log(LIMIT, 0, &["WARN", "does not trust the broker's certificate"]);
    let log = bench.gateway.log().lines().join("\n");
    let key = fs::read_to_string(&renewed.server.key).unwrap();
    assert!(!log.contains(key.lines().nth(1).unwrap()), "the key is in the log");
}

#[test]
fn where_certificates_are_demanded_only_those_of_the_named_authorities_come_in() {
    need_mosquitto!();
    let other = tempfile::tempdir().unwrap();
    let others = Certificates::make(other.path());
    let two = format!("client_ca = [\"ca.pem\", \"{}\"]", others.ca.display());
    let mut bench = started(&two);
    let (own, foreign) = (bench.certified_door(&bench.certs), bench.certified_door(&others));
    assert!(comes_in(&own) && comes_in(&foreign), "both authorities are named");
    assert!(!comes_in(&bench.secure_door()), "without a certificate");
    bench.gateway.wait_for_log(LIMIT, 0, &["WARN", "it has no certificate"]);
    let stays = Subscriber::new(&foreign, "data/#");

    bench.gateway.set("more", "client_ca = \"ca.pem\"");
    bench.gateway.reload();
    wait_for(LIMIT, "the other authority to be gone", || if comes_in(&foreign) { Err("in".into()) } else { Ok(()) });
    assert!(comes_in(&own));
    assert!(publish(&own, "data/x", "after the reload", &["-q", "1"]).status.success());
    stays.wait(LIMIT, "a message over the connection of before", |m| m.payload == "after the reload");

    bench.gateway.set("more", "client_ca = \"ca.pem\"\nclient_cert = \"optional\"");
    bench.gateway.reload();
    let bare = bench.secure_door();
    wait_for(LIMIT, "a client without a certificate", || if comes_in(&bare) { Ok(()) } else { Err("out".into()) });
    assert!(!comes_in(&foreign), "a certificate of a stranger is none at all");
}

#[test]
fn the_common_name_of_a_certificate_is_the_user() {
    need_mosquitto!();
    let template = format!(
        "{CONFIG}\n[[broker.users]]\nname = \"gateway\"\npublish = [\"from/{{user}}/#\"]\nsubscribe = [\"to/{{user}}/#\"]\n\n\
         [[broker.users]]\nname = \"ha\"\nhash = \"@hash@\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n"
    );
    let mut bench = bench(&template, "client_ca = \"ca.pem\"\nuser_from_cert = true");
    let mut command = bench.gateway.command(&["user", "hash"]);
    let piped = std::process::Stdio::piped;
    let mut child = command.stdin(piped()).stdout(piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let hash = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    bench.gateway.set("hash", hash.trim());
    bench.gateway.start();
    let watcher = Subscriber::new(&bench.gateway.door().login("ha", "correct horse"), "from/#");
    // What it says of itself does not count: neither the name of another user, nor a wrong password.
    let certified = bench.certified_door(&bench.certs).login("ha", "wrong");
    for topic in ["from/ha/x", "from/gateway/x"] {
        assert!(publish(&certified, topic, "mine", &["-q", "1"]).status.success(), "acknowledged either way in 3.1.1");
    }
    let got = watcher.wait(LIMIT, "what its certificate grants", |_| true);
    assert_eq!(got.topic, "from/gateway/x");
    // The same name without the certificate.
    for password in ["", "correct horse"] {
        let output = publish(&bench.gateway.door().login("gateway", password), "from/gateway/x", "", &["-q", "1"]);
        assert_eq!(output.status.code(), Some(5), "{output:?}");
    }
}

#[test]
fn silent_peers_in_a_handshake_delay_nobody_and_are_shown_out() {
    need_mosquitto!();
    let bench = started("");
    let begun = Instant::now();
    let mut silent = Vec::new();
    for port in [bench.web, bench.secure, bench.secure_web] {
        for greeting in [&b""[..], b"\x16\x03\x01", b"GET / HTT"] {
            // Not to the end of what it is asked for, and nothing that is wrong by itself.
            if greeting.starts_with(b"G") != (port == bench.web) && !greeting.is_empty() {
                continue;
            }
            for _ in 0..20 {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                stream.write_all(greeting).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                silent.push(stream);
            }
        }
    }
    assert!(comes_in(&bench.secure_door()) && comes_in(&bench.gateway.door()));
    let web = Web::to(bench.web);
    assert!(comes_in(&Door::plain(web.port())));
    assert!(begun.elapsed() < HANDSHAKE / 2, "others waited for the silent ones: {:?}", begun.elapsed());
    for mut stream in silent {
        let end = stream.read(&mut [0; 64]);
        let is_closed = match &end {
            Ok(length) => *length == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        };
        assert!(is_closed, "{end:?}");
        let waited = begun.elapsed();
        assert!(waited + Duration::from_secs(1) > HANDSHAKE, "closed after {waited:?}");
        assert!(waited < HANDSHAKE * 2, "still open after {waited:?}");
    }
    assert!(comes_in(&bench.secure_door()));
}

#[test]
fn mqtt_goes_through_a_websocket_in_whatever_frames_it_comes() {
    need_mosquitto!();
    let bench = started("");
    let web = Web::to(bench.web);
    let door = Door::plain(web.port());
    let subscriber = Subscriber::new(&door, "data/#");
    let messages: Vec<(String, u8, String)> =
        (0..400).flat_map(|n| [0, 1, 2].map(|qos: u8| (format!("data/{qos}"), qos, n.to_string()))).collect();
    Client::connect(web.port(), "sender").unwrap().publish(&messages, 50).assert_sent();
    let got = subscriber.wait_count(LIMIT, messages.len(), |_| true);
    for qos in 0..3 {
        let topic = format!("data/{qos}");
        let sent: Vec<&str> = messages.iter().filter(|m| m.0 == topic).map(|m| m.2.as_str()).collect();
        let came: Vec<&str> = got.iter().filter(|m| m.topic == topic).map(|m| m.payload.as_str()).collect();
        assert_eq!(came, sent, "{topic}");
    }
    let large = "0123456789".repeat(50_000);
    crate::support::publish_lines(&door, "data/large", [large.clone()], &["-q", "2"]);
    subscriber.wait(LIMIT, "a message of many frames", |m| m.payload == large);
    // Clients of both kinds are clients of one broker.
    assert!(publish(&bench.gateway.door(), "data/plain", "by TCP", &["-q", "1"]).status.success());
    subscriber.wait(LIMIT, "a message that came by TCP", |m| m.payload == "by TCP");
}

#[test]
fn a_websocket_is_opened_for_mqtt_alone_and_not_for_pages_of_elsewhere() {
    let bench = started("");
    let answer = |fields: &str| web::ask(bench.web, fields).unwrap().1;
    assert!(answer("").starts_with("HTTP/1.1 400 "));
    assert!(answer("Sec-WebSocket-Protocol: amqp\r\n").starts_with("HTTP/1.1 400 "));
    let from = |origin: &str| answer(&format!("Sec-WebSocket-Protocol: mqtt\r\nOrigin: {origin}\r\n"));
    assert!(from("https://web.example").starts_with("HTTP/1.1 403 "));
    assert!(from("http://localhost:8080").starts_with("HTTP/1.1 101 "));
    bench.gateway.wait_for_log(LIMIT, 0, &["WARN", "without the subprotocol `mqtt`"]);
}

#[test]
fn a_websocket_takes_no_more_than_a_connect_before_it_knows_its_client() {
    let bench = started("");
    let mut stream = web::open(bench.web).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let begun = Instant::now();
    // One frame, as large as a client that is known may send; its last byte never comes.
    let length = 1_100_000;
    stream.write_all(&web::head(length)).unwrap();
    // It may be closed while this is written.
    let _ = stream.write_all(&vec![0; length - 1]);
    while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    // Else it is closed when its CONNECT does not come in time.
    assert!(begun.elapsed() < HANDSHAKE, "closed after {:?}", begun.elapsed());
}

#[test]
fn nobody_new_comes_in_while_the_authorities_cannot_be_read() {
    need_mosquitto!();
    let bench = started("client_ca = \"ca.pem\"");
    let door = bench.certified_door(&bench.certs);
    let stays = Subscriber::new(&door, "data/#");
    let ca = bench.gateway.dir().join("ca.pem");
    let away = bench.gateway.dir().join("away.pem");
    fs::rename(&ca, &away).unwrap();
    // By the file of the client, which has the authority of the server still.
    let door = Door { ca: Some(away.clone()), ..door };
    assert!(!comes_in(&door));
    bench.gateway.wait_for_log(LIMIT, 0, &["WARN", "nobody comes in by TLS until they can"]);
    assert!(publish(&bench.gateway.door(), "data/x", "still here", &["-q", "1"]).status.success());
    stays.wait(LIMIT, "a message over the connection of before", |m| m.payload == "still here");
    fs::copy(&away, &ca).unwrap();
    assert!(comes_in(&door));
    bench.gateway.wait_for_log(LIMIT, 0, &["INFO", "can be read again"]);
}

#[test]
fn another_gateway_bridges_by_websocket_in_tls_with_its_certificate() {
    need_mosquitto!();
    let above = started("client_ca = \"ca.pem\"");
    let watcher = Subscriber::new(&above.gateway.door(), "up/#");
    let config = r#"
[gateway]
id = "shed"
state_dir = "@state@"
[broker]
listen = "@listen@"
[[bridge]]
id = "cloud"
url = "wss://localhost:@port@/mqtt"
tls = { ca = "@ca@", cert = "@cert@", key = "file:@key@" }
reconnect = { min = "100ms", max = "500ms" }
out = [ { from = "up/#" } ]
in = [ { from = "down/#", qos = 1 } ]
"#;
    let certs = &above.certs;
    let [ca, cert, key] = [&certs.ca, &certs.client.cert, &certs.client.key].map(|path| path.display().to_string());
    let port = above.secure_web.to_string();
    let mut below = Gateway::new(config, &[("port", &port), ("ca", &ca), ("cert", &cert), ("key", &key)]);
    below.start();
    let near = Subscriber::new(&below.door(), "#");
    for qos in ["1", "2"] {
        assert!(publish(&below.door(), "up/x", qos, &["-q", qos]).status.success());
        watcher.wait(LIMIT, "the message above", |m| m.payload == qos);
    }
    assert!(publish(&above.gateway.door(), "down/x", "hello", &["-q", "1"]).status.success());
    near.wait(LIMIT, "the message below", |m| m.topic == "down/x" && m.payload == "hello");
}

#[test]
fn a_reload_opens_changes_and_closes_listeners_and_touches_no_connection() {
    need_mosquitto!();
    let plain = CONFIG.split("[broker.tls]").next().unwrap();
    let mut bench = bench(plain, "");
    bench.gateway.start();
    let stays = Subscriber::new(&bench.gateway.door(), "data/#");
    let (secure, web) = (bench.secure_door(), Web::to(bench.web));
    assert!(!comes_in(&secure) && comes_in(&Door::plain(web.port())));

    bench.gateway.configure(CONFIG);
    bench.gateway.reload();
    wait_for(LIMIT, "the listener for TLS", || if comes_in(&secure) { Ok(()) } else { Err("closed".into()) });

    // One port speaks something else from now on, and one is given up for another.
    let swapped = CONFIG
        .replace(
            "listen = \"@listen@\"\nwebsocket_listen = \"127.0.0.1:@web@\"",
            "listen = [\"@listen@\", \"127.0.0.1:@web@\"]",
        )
        .replace("@secure-web@", "@more-web@");
    let free = free_port().to_string();
    bench.gateway.set("more-web", &free);
    bench.gateway.configure(&swapped);
    bench.gateway.reload();
    let formerly_web = Door::plain(bench.web);
    wait_for(LIMIT, "plain MQTT where WebSockets were", || {
        if comes_in(&formerly_web) { Ok(()) } else { Err("not yet".into()) }
    });
    assert!(!comes_in(&Door::plain(web.port())), "a WebSocket is opened there all the same");
    assert!(TcpStream::connect(("127.0.0.1", bench.secure_web)).is_err(), "it still listens there");

    // A key of another certificate changes nothing, and is told at its line.
    let mark = bench.gateway.log().len();
    fs::copy(&bench.certs.client.key, bench.gateway.dir().join("server.key")).unwrap();
    bench.gateway.reload();
    bench.gateway.wait_for_log(LIMIT, mark, &["`key` does not belong to `cert`"]);
    assert!(comes_in(&secure), "the certificate of before is not shown any more");

    bench.gateway.configure(plain);
    bench.gateway.reload();
    wait_for(LIMIT, "the listener for TLS to be closed", || match TcpStream::connect(("127.0.0.1", bench.secure)) {
        Ok(_) => Err("open".into()),
        Err(_) => Ok(()),
    });
    assert!(publish(&bench.gateway.door(), "data/x", "still here", &["-q", "1"]).status.success());
    stays.wait(LIMIT, "a message over the connection of before", |m| m.payload == "still here");
}

#[test]
fn by_tls_there_may_be_fewer_clients_than_in_all() {
    need_mosquitto!();
    let bench = started("max_connections = 2");
    let one = Subscriber::new(&bench.secure_door(), "x");
    let two = Subscriber::new(&bench.secure_door(), "x");
    assert!(!comes_in(&bench.secure_door()), "a third");
    assert!(comes_in(&bench.gateway.door()), "the others have room");
    drop(one);
    wait_for(LIMIT, "room again", || if comes_in(&bench.secure_door()) { Ok(()) } else { Err("none".into()) });
    drop(two);
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_before_the_start() {
    let bench = bench(CONFIG, "client_ca = \"server.key\"");
    fs::copy(&bench.certs.client.key, bench.gateway.dir().join("server.key")).unwrap();
    let check = bench.gateway.command(&["check", "--config", "tidegate.toml"]).output().unwrap();
    let told = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(78), "{told}");
    for words in
        ["`key` does not belong to `cert`", "`client_ca`: ", "holds no certificate in PEM form", "tidegate.toml:14"]
    {
        assert!(told.contains(words), "no `{words}` in {told}");
    }
    let key = fs::read_to_string(&bench.certs.client.key).unwrap();
    assert!(!told.contains(key.lines().nth(1).unwrap()), "{told}");
}

//! Does the page show what the gateway does, does the command line reach it by the control socket, and does either keep strangers out?

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Cut, Gateway, Lateness, Link, Tty, free_port, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

/// A sensor on a port; the page; a bridge to a cloud that is not there, unless the test has one.
const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[http]
listen = "127.0.0.1:@page@"
@more@

[bus.port]
device = "@tty@"

[[sensor]]
id = "air"
driver = "uart"
bus = "port"
match = { json = true }
values.t = { unit = "°C" }

[[actuator]]
id = "pump"
driver = "gpio-out"
line = "sim:pump"
min_off = "10m"

[[actuator]]
id = "lamp"
driver = "gpio-out"
line = "sim:lamp"

[[bridge]]
id = "cloud"
url = "@cloud@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "tidegate/box/#" } ]
"#;

struct Rig {
    tty: Tty,
    gateway: Gateway,
    page: u16,
    _dir: tempfile::TempDir,
}

/// A running gateway with a page whose sensor has spoken once.
fn gateway(cloud: &str, more: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let tty = Tty::plug(dir.path().join("sensor"));
    let page = free_port();
    let words =
        [("tty", tty.device()), ("cloud", cloud.to_owned()), ("page", page.to_string()), ("more", more.to_owned())];
    let words: Vec<(&str, &str)> = words.iter().map(|(word, value)| (*word, value.as_str())).collect();
    let mut gateway = Gateway::new(CONFIG, &words);
    up(&mut gateway);
    Rig { tty, gateway, page, _dir: dir }
}

/// Starts it and waits until all of it is there: the local broker, which `start` waits for, is the first.
fn up(gateway: &mut Gateway) {
    let mark = gateway.log().len();
    gateway.start();
    gateway.wait_for_log(LIMIT, mark, &["gateway is up"]);
}

/// A port that nobody listens at.
fn nowhere() -> String {
    format!("mqtt://127.0.0.1:{}", free_port())
}

impl Rig {
    fn ask(&self, head: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.page)).expect("the page listens");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "{head}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}", self.page))
    }

    fn overview(&self) -> Value {
        serde_json::from_str(&self.get("/api/overview").1).unwrap()
    }

    /// Sends the value again until the page has it: a port may drop what came before it was opened.
    fn speak(&mut self, value: f64) -> Value {
        wait_for(LIMIT, "the value on the page", || {
            self.tty.line(&format!("{{\"t\":{value}}}"));
            std::thread::sleep(Duration::from_millis(20));
            let overview = self.overview();
            let told = overview["buses"][0]["sensors"][0]["values"][0]["value"] == value;
            if told { Ok(overview) } else { Err(overview["buses"].to_string()) }
        })
    }
}

#[test]
fn a_value_that_changes_is_told_to_an_open_page_and_a_cut_within_a_second() {
    let receiver = crate::support::Mosquitto::start();
    let link = Link::to(receiver.port());
    let mut rig = gateway(&link.url(), "");
    rig.speak(21.5);
    let mut stream = TcpStream::connect(("127.0.0.1", rig.page)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut wait = |what: &str, parts: &[&str]| {
        let end = Instant::now() + LIMIT;
        let found = lines.by_ref().map(|line| line.unwrap()).find(|line| {
            assert!(Instant::now() < end, "waited for {what}");
            line.starts_with("data: ") && parts.iter().all(|part| line.contains(part))
        });
        found.unwrap_or_else(|| panic!("the stream ended; waited for {what}"))
    };
    let first = wait("everything", &["\"gateway\":\"box\"", "21.5"]);
    assert!(first.contains("\"unit\":\"°C\"") && first.contains("\"quality\":\"good\""), "{first}");
    rig.tty.line("{\"t\":22.75}");
    wait("the new value", &["22.75"]);
    if !first.contains("\"state\":\"online\"") {
        wait("the bridge online", &["\"state\":\"online\""]);
    }
    link.down();
    link.cut(Cut::Reset);
    let (late, cut) = (Lateness::watch(), Instant::now());
    wait("the cut", &["\"state\":\"offline\""]);
    assert!(cut.elapsed() < late.widen(Duration::from_secs(1)), "told after {:?}", cut.elapsed());
}

#[test]
fn another_name_another_page_and_a_missing_token_are_refused() {
    let rig = gateway(&nowhere(), "");
    assert_eq!(rig.ask("GET / HTTP/1.1\r\nHost: rebound.example").0, 421);
    let foreign =
        "Host: localhost\r\nOrigin: http://evil.example\r\nContent-Type: application/json\r\nContent-Length: 0";
    assert_eq!(rig.ask(&format!("POST /api/bridges/cloud/reconnect HTTP/1.1\r\n{foreign}")).0, 403);
    let own = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 0";
    assert_eq!(rig.ask(&format!("POST /api/bridges/cloud/reconnect HTTP/1.1\r\n{own}")).0, 200);

    std::fs::write(rig.gateway.dir().join("token"), "open sesame\n").unwrap();
    std::fs::set_permissions(rig.gateway.dir().join("token"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut rig = rig;
    rig.gateway.set("more", "token = \"file:token\"");
    rig.gateway.reload();
    rig.gateway.wait_for_log(LIMIT, 0, &["config reloaded"]);
    assert_eq!(rig.get("/metrics").0, 401);
    let shown = "GET /metrics HTTP/1.1\r\nHost: box.local\r\nAuthorization: Basic bWU6b3BlbiBzZXNhbWU=";
    let (status, metrics) = rig.ask(shown);
    assert!(status == 200 && metrics.ends_with("# EOF\n"), "{status} {metrics}");
}

#[test]
fn a_command_from_the_page_moves_the_output_and_is_answered() {
    let rig = gateway(&nowhere(), "");
    let set = |body: &str| {
        let head = "Host: localhost\r\nOrigin: http://localhost\r\nContent-Type: application/json";
        let mut stream = TcpStream::connect(("127.0.0.1", rig.page)).unwrap();
        let length = body.len();
        write!(stream, "POST /api/actuators/lamp/set HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let lamp = || rig.overview()["actuators"][1].clone();
    assert_eq!(lamp()["value"], "off");
    assert_eq!(set("{\"id\":\"7\",\"value\":\"on\"}")["result"], "done");
    assert_eq!((lamp()["value"].clone(), lamp()["last"]["id"].clone()), ("on".into(), "7".into()));
    assert_eq!(set("{\"id\":\"7\",\"value\":\"off\"}")["result"], "duplicate");
    assert_eq!(lamp()["value"], "on", "a command that is known moves nothing");
    let refused = set("\"purple\"");
    assert!(refused["result"] == "rejected" && refused["reason"].is_string(), "{refused}");
}

#[test]
fn it_is_healthy_and_ready_while_the_cloud_is_away() {
    let rig = gateway(&nowhere(), "");
    let answer = "{\"gateway\":\"box\",\"ok\":true,\"reasons\":[]}\n".to_owned();
    assert_eq!(rig.get("/healthz"), (200, answer.clone()));
    assert_eq!(rig.get("/readyz"), (200, answer));
}

#[test]
fn the_command_line_asks_the_running_gateway_and_says_so_when_there_is_none() {
    let mut rig = gateway(&nowhere(), "");
    rig.speak(21.5);
    let run = |rig: &Rig, arguments: &[&str]| {
        let mut command = rig.gateway.command(arguments);
        command.arg("--config").arg(rig.gateway.config_path()).env_remove("RUNTIME_DIRECTORY");
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, page, _) = run(&rig, &["status"]);
    assert!(code == 0 && page.contains("bridge cloud: "), "{page}");
    let row: Vec<&str> = page.lines().find(|line| line.starts_with("air ")).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], ["air", "port", "t", "21.5", "°C"], "{page}");
    let (_, json, _) = run(&rig, &["status", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["gateway"], "box");
    assert_eq!(run(&rig, &["set", "lamp", "on"]), (0, "lamp: done\n".to_owned(), String::new()));
    let (code, said, _) = run(&rig, &["set", "pump", "on"]);
    assert!(code == 1 && said.starts_with("pump: refused: it has to be off"), "{code} {said}");
    let (_, said, _) = run(&rig, &["set", "pump", "on", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["result"], "refused");
    let (code, _, told) = run(&rig, &["set", "fan", "on"]);
    assert!(code == 64 && told.contains("there is no actuator of that id"), "{code} {told}");

    let waiting = |rig: &Rig| {
        let (code, json, told) = run(rig, &["outbox", "status", "--json"]);
        assert_eq!(code, 0, "{told}");
        let bridges: Value = serde_json::from_str(&json).unwrap();
        (bridges[0]["state"].clone(), bridges[0]["queued"].as_u64().unwrap())
    };
    let running = wait_for(LIMIT, "a message that waits", || match waiting(&rig) {
        (_, 0) => Err("none".to_owned()),
        some => Ok(some),
    });
    assert_ne!(running.0, "stopped");
    rig.gateway.stop();
    let (state, queued) = waiting(&rig);
    assert_eq!(state, "stopped", "now the store is looked at");
    assert!(queued >= running.1, "{queued} wait, {} did before the stop", running.1);
    let (code, _, told) = run(&rig, &["status"]);
    assert_eq!(code, 69, "{told}");
    assert!(told.starts_with("error: no gateway is running: there is no `"), "{told}");
    assert_eq!(run(&rig, &["set", "pump", "on"]).0, 69);
}

#[test]
fn the_control_socket_is_open_to_owner_and_group_and_replaces_what_a_kill_left() {
    let mut rig = gateway(&nowhere(), "");
    let socket = rig.gateway.dir().join("state/control.sock");
    let mode = || std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o660);
    rig.gateway.kill();
    assert!(socket.exists(), "a killed process leaves it behind");
    up(&mut rig.gateway);
    assert_eq!(mode(), 0o660);
    rig.gateway.stop();
    assert!(!socket.exists());
}

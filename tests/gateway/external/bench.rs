//! A gateway between two Mosquittos: one is its cloud, the other the broker that is there already.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::mosquitto::Setup;
use crate::support::receiver::ledger::number;
use crate::support::{Gateway, Link, Mosquitto, Subscriber, Tty, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

pub(super) const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
engine = "external"

[broker.external]
url = "@local@"
keep_alive = "5s"
@login@

[bus.port]
device = "@tty@"
serial = "115200 8N1"

[[sensor]]
id = "level"
driver = "uart"
bus = "port"
match = { regex = '^level (?P<n>\d+)$' }
publish = { qos = 1, retain = true }

[[actuator]]
id = "pump"
driver = "gpio-out"
line = "sim:pump"

[[bridge]]
id = "cloud"
url = "@cloud@"
will_delay = "0s"
reconnect = { min = "100ms", max = "1s" }
out = [ { from = "data/#" }, { from = "tidegate/box/level" } ]
in = [ { from = "down/#", qos = 2 } ]
"#;

/// A gateway between two Mosquittos, the way to each of which can be cut.
pub(super) struct Bench {
    pub(super) cloud: Mosquitto,
    pub(super) local: Mosquitto,
    _to_cloud: Link,
    pub(super) to_local: Link,
    pub(super) tty: Tty,
    pub(super) gateway: Gateway,
    pub(super) above: Subscriber,
    pub(super) below: Subscriber,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(super) fn start(login: &str, local: Setup) -> Self {
        Self::start_with(CONFIG, login, local)
    }

    pub(super) fn start_with(config: &str, login: &str, local: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tty = Tty::plug(dir.path().join("sensor"));
        let (cloud, local) = (Mosquitto::start(), local.start());
        let (to_cloud, to_local) = (Link::to(cloud.port()), Link::to(local.port()));
        let above = Subscriber::new(&cloud.door(), "#");
        let below = Subscriber::new(&local.door(), "#");
        let words =
            [("tty", tty.device()), ("cloud", to_cloud.url()), ("local", to_local.url()), ("login", login.into())];
        let words: Vec<(&str, &str)> = words.iter().map(|(word, value)| (*word, value.as_str())).collect();
        let gateway = Gateway::new(config, &words).client_of(local.port());
        let mut bench = Self { cloud, local, _to_cloud: to_cloud, to_local, tty, gateway, above, below, _dir: dir };
        bench.gateway.start();
        bench
    }

    /// The same, once both brokers have the gateway's word that it is there, and it is subscribed.
    pub(super) fn ready() -> Self {
        let bench = Self::start("", Setup::new());
        bench.below.wait(LIMIT, "the birth", |m| m.topic == "tidegate/box/status" && m.payload == "online" && m.retain);
        bench.below.wait(LIMIT, "the bridge to be online", |m| {
            m.topic == "tidegate/box/bridge/cloud" && m.payload.contains("\"state\":\"online\"")
        });
        bench.subscribed(1);
        bench
    }

    /// Waits until Mosquitto has taken this many SUBSCRIBE packets of the gateway.
    #[track_caller]
    pub(super) fn subscribed(&self, count: usize) {
        wait_for(LIMIT, "the gateway's subscriptions", || {
            let lines = self.local.log().lines();
            let seen = lines.iter().filter(|line| line.contains("Sending SUBACK to tidegate-box")).count();
            if seen >= count { Ok(()) } else { Err(format!("{seen} SUBACKs")) }
        });
    }

    /// Lines of the sensor until one with this number is at the cloud: a port may drop what came before it was opened.
    pub(super) fn level(&mut self, n: u64) {
        wait_for(LIMIT, &format!("number {n} at the cloud"), || {
            self.tty.line(&format!("level {n}"));
            std::thread::sleep(Duration::from_millis(50));
            let got: Vec<_> =
                self.above.on("tidegate/box/level").iter().filter_map(|m| number(m.payload.as_bytes())).collect();
            if got.contains(&n) { Ok(()) } else { Err(format!("{got:?}")) }
        });
    }

    pub(super) fn tidegate(&self, arguments: &[&str]) -> Output {
        let mut command = self.gateway.command(arguments);
        command.arg("--config").arg(self.gateway.config_path()).env_remove("RUNTIME_DIRECTORY").output().unwrap()
    }

    /// `tidegate status --json`, of the broker.
    pub(super) fn standing(&self) -> Value {
        let output = self.tidegate(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["broker"]["external"].clone()
    }

    #[track_caller]
    pub(super) fn wait_state(&self, state: &str) -> Value {
        wait_for(LIMIT, &format!("the broker to be {state}"), || {
            let standing = self.standing();
            if standing["state"] == state { Ok(standing) } else { Err(standing.to_string()) }
        })
    }
}

/// The password where the config looks for it, for its owner alone.
pub(super) fn secret(gateway: &Gateway, password: &str) {
    let path = gateway.dir().join("password");
    std::fs::write(&path, password).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// Status and answer of the page.
pub(super) fn get(port: &str, path: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(format!("127.0.0.1:{port}")) else { return (0, String::new()) };
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (status, answer)
}

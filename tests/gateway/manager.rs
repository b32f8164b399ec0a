//! What the service manager hears (sd_notify(3)): ready, how things stand, that all makes progress, and what a reload came to.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Process, free_port};

const LIMIT: Duration = Duration::from_secs(20);
/// Short, so that the test need not wait; the unit has 30 s.
const WATCHDOG: Duration = Duration::from_secs(1);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[bus.usb]
device = "sim:greenhouse"

[[sensor]]
id = "air"
driver = "uart"
bus = "usb"
match = { json = true }

[[bridge]]
id = "cloud"
url = "mqtt://127.0.0.1:@closed@"
out = [ { from = "tidegate/box/#" } ]
"#;

/// A service manager as far as it listens.
struct Manager {
    socket: UnixDatagram,
    /// Lines of the last word that were not asked for yet.
    unread: VecDeque<String>,
    heard: Vec<String>,
}

impl Manager {
    /// Waits for a line that begins so, behind those that were waited for before.
    #[track_caller]
    fn wait_for(&mut self, line: &str) {
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            if self.next().is_some_and(|heard| heard.starts_with(line)) {
                return;
            }
        }
        panic!("waited for {line}\nheard: {:#?}", self.heard);
    }

    /// The next line; none when nothing is said for a while.
    fn next(&mut self) -> Option<String> {
        if self.unread.is_empty() {
            let mut word = [0; 4096];
            let length = self.socket.recv(&mut word).ok()?;
            self.unread.extend(String::from_utf8_lossy(&word[..length]).lines().map(str::to_owned));
        }
        let line = self.unread.pop_front()?;
        self.heard.push(line.clone());
        Some(line)
    }
}

#[test]
fn the_service_manager_hears_ready_how_things_stand_that_all_is_well_and_what_a_reload_came_to() {
    let mut gateway = Gateway::new(CONFIG, &[("closed", &free_port().to_string())]);
    let path = gateway.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(WATCHDOG / 4)).unwrap();
    let mut manager = Manager { socket, unread: VecDeque::new(), heard: Vec::new() };
    let mut command = gateway.command(&["run", "--config"]);
    command.arg(gateway.config_path()).env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()).env_remove("WATCHDOG_PID");
    let mut process = Process::start("tidegate", &mut command, gateway.log());

    manager.wait_for("READY=1");
    manager.wait_for("STATUS=1 of 1 sensor online; bridge cloud offline (connection refused)");

    let (mut fed, start) = (0, Instant::now());
    while start.elapsed() < 4 * WATCHDOG {
        fed += usize::from(manager.next().is_some_and(|line| line == "WATCHDOG=1"));
    }
    assert!(fed >= 4, "fed {fed} times in {:?}, with {WATCHDOG:?} to starve", start.elapsed());

    gateway.configure(&CONFIG.replace("driver = \"uart\"", "driver = \"uatr\""));
    process.signal(libc::SIGHUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    manager.wait_for("STATUS=the config was not reloaded, see the log; what ran goes on; 1 of 1 sensor online");
    gateway.configure(CONFIG);
    process.signal(libc::SIGHUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    manager.wait_for("STATUS=1 of 1 sensor online");

    assert_eq!(process.stop(LIMIT).code(), Some(0));
    manager.wait_for("STOPPING=1");
}

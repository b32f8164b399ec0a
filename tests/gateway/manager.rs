//! What the service manager hears (sd_notify(3)): ready, how things stand, that all makes progress, and what a reload came to.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tidegate::limits::PULSE_LIMIT_DISK;

use crate::support::{Gateway, Process, free_port, wait_for};

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
    /// A gateway that is started by it.
    fn of(gateway: &Gateway) -> (Self, Process) {
        let path = gateway.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(WATCHDOG / 4)).unwrap();
        let mut command = gateway.command(&["run", "--config"]);
        command.arg(gateway.config_path()).env("NOTIFY_SOCKET", &path);
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()).env_remove("WATCHDOG_PID");
        let process = Process::start("tidegate", &mut command, gateway.log());
        (Self { socket, unread: VecDeque::new(), heard: Vec::new() }, process)
    }

    /// What was said up to here does not count.
    fn forget(&mut self) {
        while self.next().is_some() {}
    }

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
    let (mut manager, mut process) = Manager::of(&gateway);
    manager.wait_for("READY=1");
    manager.wait_for("STATUS=1 of 1 sensor online; bridge cloud offline (connection refused)");

    // How often is a matter of src/app/watchdog.rs and its tests; how soon is one of the machine as well.
    for _ in 0..4 {
        manager.wait_for("WATCHDOG=1");
    }

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

/// One thread of the gateway, held as a debugger holds it (ptrace(2)) while it waits for something to do: the others run on. Let go when dropped.
struct Held(i32);

impl Held {
    fn thread(pid: u32, name: &str) -> Self {
        let of_that_name = |task: &std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        // A thread that has only been made has not its name yet.
        let task = wait_for(LIMIT, &format!("a thread `{name}`"), || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
            tasks.into_iter().find(of_that_name).ok_or("there is none".to_owned())
        });
        let id: i32 = task.file_name().to_str().unwrap().parse().unwrap();
        wait_for(LIMIT, "the thread to be idle", || {
            let held = Self::hold(id);
            // Number and arguments of the system call it is in (proc_pid_syscall(5)). One that is held elsewhere may have a lock, and
            // then the others stand still with it.
            let call = std::fs::read_to_string(task.path().join("syscall")).unwrap();
            let number = call.split(' ').next().and_then(|number| number.parse().ok());
            if number.is_some_and(|number| Self::WAITS.contains(&number)) { Ok(held) } else { Err(call) }
        })
    }

    /// What a thread without work is in.
    #[cfg(target_arch = "x86_64")]
    const WAITS: [i64; 2] = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
    #[cfg(not(target_arch = "x86_64"))]
    const WAITS: [i64; 1] = [libc::SYS_epoll_pwait];

    fn hold(id: i32) -> Self {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        for (what, request) in [("seize", libc::PTRACE_SEIZE), ("interrupt", libc::PTRACE_INTERRUPT)] {
            // SAFETY: with these requests ptrace(2) touches no memory of ours.
            let outcome = unsafe { libc::ptrace(request, id, nothing, nothing) };
            assert_eq!(outcome, 0, "{what} the thread: {}", std::io::Error::last_os_error());
        }
        let mut state = 0;
        // SAFETY: `state` is valid for the length of the call.
        let stopped = unsafe { libc::waitpid(id, &raw mut state, libc::__WALL) };
        assert_eq!(stopped, id, "wait for the thread to stand still");
        Self(id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}

#[test]
fn one_thread_that_stands_still_starves_the_watchdog_and_is_named() {
    let gateway = Gateway::new(CONFIG, &[("closed", &free_port().to_string())]);
    let (mut manager, mut process) = Manager::of(&gateway);
    manager.wait_for("READY=1");
    let mark = gateway.log().len();
    let held = Held::thread(process.pid(), "bridge-cloud");
    let line = wait_for(PULSE_LIMIT_DISK + LIMIT, "the part to be named", || {
        // Heard in the meantime: the kernel holds ten words for a manager that does not listen, and then holds the speaker.
        manager.next();
        let lines = gateway.log().since(mark);
        let named = |line: &&String| line.contains("makes no progress") && line.contains("part=\"bridge cloud\"");
        lines.iter().find(named).cloned().ok_or(format!("{lines:?}"))
    });
    for part in ["ERROR", "the watchdog is not fed"] {
        assert!(line.contains(part), "{line}");
    }
    manager.forget();
    let until = Instant::now() + 3 * WATCHDOG;
    while Instant::now() < until {
        assert_ne!(manager.next().as_deref(), Some("WATCHDOG=1"), "it is fed all the same");
    }
    drop(held);
    gateway.wait_for_log(LIMIT, mark, &["INFO", "makes progress again", "part=\"bridge cloud\"", "outage_ms="]);
    manager.wait_for("WATCHDOG=1");
    assert_eq!(process.stop(LIMIT).code(), Some(0));
}

//! The gateway under test: the real binary, in its own directory, on its own port.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::clock::WallClock;
use super::disk::Disk;
use super::mosquitto::Door;
use super::name_server::NameServer;
use super::pace::{free_port, wait_for};
use super::process::{Log, Process};
use super::program::program;

/// Longest a start may take before the test gives up. The budget is 150 ms; a machine that runs other tests is slower.
const START: Duration = Duration::from_secs(15);
/// Longest a stop may take: its stages add up to less, and systemd kills at 20 s.
const STOP: Duration = Duration::from_secs(15);

/// A gateway with its directory, config file and log. All of them stay over restarts.
pub(crate) struct Gateway {
    dir: TempDir,
    template: String,
    words: Vec<(String, String)>,
    port: u16,
    /// Its local clients are at another program's broker.
    external: bool,
    level: &'static str,
    simulated: bool,
    environment: Vec<(&'static str, PathBuf)>,
    process: Option<Process>,
    log: Log,
}

impl Gateway {
    /// A gateway that is not started yet, with a config made from a template.
    ///
    /// `@word@` in the template is replaced by the value given for it. Always known: `@listen@` (address of its local broker), `@dir@` (its
    /// directory) and `@state@` (a directory in it for its stores).
    pub(crate) fn new(template: &str, words: &[(&str, &str)]) -> Self {
        let dir = TempDir::with_prefix("tidegate-test-").expect("make a temporary directory");
        std::fs::create_dir(dir.path().join("state")).expect("make the state directory");
        let gateway = Self {
            dir,
            template: template.to_owned(),
            words: words.iter().map(|(word, value)| ((*word).to_owned(), (*value).to_owned())).collect(),
            port: free_port(),
            external: false,
            level: "info",
            simulated: false,
            environment: Vec::new(),
            process: None,
            log: Log::default(),
        };
        gateway.write_config();
        gateway
    }

    /// The same with more in its log (`RUST_LOG` form), for looking into a failure.
    pub(crate) fn log_level(mut self, level: &'static str) -> Self {
        self.level = level;
        self
    }

    /// The same as the client of a broker that is there already: `door` leads there, and what the template says of a broker of its own (`listen`
    /// alone) is replaced.
    pub(crate) fn client_of(mut self, port: u16) -> Self {
        (self.port, self.external) = (port, true);
        self.configure(&self.template.clone());
        self
    }

    /// The same with software in the place of every bus.
    pub(crate) fn simulated(mut self) -> Self {
        self.simulated = true;
        self
    }

    /// The same with names looked up where the test says.
    pub(crate) fn asking(mut self, names: &NameServer) -> Self {
        self.environment = names.environment().into();
        self
    }

    /// The same on a disk that does what the test tells it.
    pub(crate) fn on_disk(mut self, disk: &Disk) -> Self {
        self.environment = disk.environment().into();
        self
    }

    /// The same with a wall clock that the test sets.
    pub(crate) fn by_clock(mut self, clock: &WallClock) -> Self {
        self.environment = clock.environment().into();
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir().join("tidegate.toml")
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// How clients reach its local broker.
    pub(crate) fn door(&self) -> Door {
        Door::plain(self.port)
    }

    /// The running process.
    #[track_caller]
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the gateway was started")
    }

    fn fill(&self, template: &str) -> String {
        let mut text = template.to_owned();
        let own = [
            ("listen", format!("127.0.0.1:{}", self.port)),
            ("dir", self.dir().display().to_string()),
            ("state", self.dir().join("state").display().to_string()),
        ];
        let own = own.iter().map(|(word, value)| (*word, value.as_str()));
        for (word, value) in self.words.iter().map(|(word, value)| (word.as_str(), value.as_str())).chain(own) {
            text = text.replace(&format!("@{word}@"), value);
        }
        text
    }

    fn write_config(&self) {
        std::fs::write(self.config_path(), self.fill(&self.template)).expect("write the config");
    }

    /// Replaces the template; what runs learns of it by [`Gateway::reload`] or its next start.
    pub(crate) fn configure(&mut self, template: &str) {
        template.clone_into(&mut self.template);
        if self.external {
            self.template = self.template.replace("[broker]\nlisten = \"@listen@\"\n", EXTERNAL);
        }
        self.write_config();
    }

    /// Gives a word of the template another value.
    pub(crate) fn set(&mut self, word: &str, value: &str) {
        self.words.retain(|(known, _)| known != word);
        self.words.push((word.to_owned(), value.to_owned()));
        self.write_config();
    }

    /// A command of the binary, with the config and nothing of the caller's environment that could change what it does.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).current_dir(self.dir()).env("RUST_LOG", self.level).env_remove("NOTIFY_SOCKET");
        command
    }

    fn spawn(&self) -> Process {
        let mut command = self.command(&["run", "--config"]);
        command.arg(self.config_path()).args(self.simulated.then_some("--simulate"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start("tidegate", &mut command, &self.log)
    }

    /// Starts it and waits until its broker answers. A port that was taken meanwhile is exchanged, at the first start only: later ones must
    /// find what an earlier one left.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "the gateway is running already");
        let first = self.log.len() == 0;
        for attempt in 1.. {
            let mark = self.log.len();
            let mut process = self.spawn();
            let (port, external, log) = (self.port, self.external, self.log.clone());
            let ended = wait_for(START, "the local broker to answer", || {
                if let Some(status) = process.ended() {
                    return Ok(Some(status));
                }
                if external {
                    let is_up = log.since(mark).iter().any(|line| line.contains("gateway is up"));
                    return if is_up { Ok(None) } else { Err("not up".to_owned()) };
                }
                TcpStream::connect(("127.0.0.1", port)).map(|_| None).map_err(|error| error.to_string())
            });
            let Some(status) = ended else {
                self.process = Some(process);
                return;
            };
            let taken = wait_for(START, "the last words", || {
                let lines = self.log.since(mark);
                if lines.is_empty() { Err("none".to_owned()) } else { Ok(lines) }
            })
            .iter()
            .any(|line| line.contains("in use"));
            assert!(first && taken && attempt < 4, "tidegate ended at its start with {status}");
            self.port = free_port();
            self.write_config();
        }
    }

    /// `kill -9`. The directory stays for the next start.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("the gateway was started").kill();
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("the gateway was started").stop(STOP)
    }

    /// SIGHUP.
    #[track_caller]
    pub(crate) fn reload(&mut self) {
        self.process().signal(libc::SIGHUP);
    }

    /// Waits for a log line from `mark` on with all of `parts`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, limit: Duration, mark: usize, parts: &[&str]) -> String {
        self.log.wait_for_line(limit, mark, parts)
    }
}

/// What a config says of a broker that is there already.
const EXTERNAL: &str = "[broker]\nengine = \"external\"\n\n[broker.external]\nurl = \"mqtt://@listen@\"\n";

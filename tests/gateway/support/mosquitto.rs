//! Mosquitto as the cloud, and its command line clients as everybody's clients.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::certs::Pair;
use super::pace::{free_port, wait_for};
use super::process::{Log, Process};

/// Longest a Mosquitto may take to listen, or a client to subscribe.
const START: Duration = Duration::from_secs(15);
/// Between the fields of a subscriber's line. No topic or payload of the tests holds it.
const FIELD: char = '\u{1f}';

/// Whether Mosquitto is installed. Its absence fails the calling test unless `TIDEGATE_SKIP_MOSQUITTO=1`, which prints the skip instead.
pub(crate) fn is_there() -> bool {
    let found = ["mosquitto", "mosquitto_pub", "mosquitto_sub"].iter().all(|program| {
        Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if found {
        return true;
    }
    let agreed = std::env::var("TIDEGATE_SKIP_MOSQUITTO").is_ok_and(|value| value == "1");
    assert!(agreed, "mosquitto, mosquitto_pub or mosquitto_sub is not installed; TIDEGATE_SKIP_MOSQUITTO=1 skips");
    // The harness names a test's thread after the test. Written past its capture: a skip must be seen.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: mosquitto is not installed (TIDEGATE_SKIP_MOSQUITTO=1)");
    false
}

/// User name and password.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// How a client reaches a broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door {
    pub(crate) port: u16,
    pub(crate) login: Option<Login>,
    /// Root to trust; TLS is used when it is there.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

impl Door {
    /// Anonymous, on a port of 127.0.0.1.
    pub(crate) fn plain(port: u16) -> Self {
        Self { port, ..Self::default() }
    }

    /// The same door with a user name and a password.
    pub(crate) fn login(mut self, user: &str, password: &str) -> Self {
        self.login = Some(Login { user: user.to_owned(), password: password.to_owned() });
        self
    }

    /// One of Mosquitto's clients, told how to get in.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let host = if self.ca.is_some() { "localhost" } else { "127.0.0.1" };
        command.args(["-h", host, "-p", &self.port.to_string()]);
        if let Some(login) = &self.login {
            command.args(["-u", &login.user, "-P", &login.password]);
        }
        if let Some(ca) = &self.ca {
            command.arg("--cafile").arg(ca);
        }
        if let Some((cert, key)) = &self.certificate {
            command.arg("--cert").arg(cert).arg("--key").arg(key);
        }
        command
    }
}

/// What a Mosquitto is told to be.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    stock: bool,
    bare: bool,
    users: Vec<Login>,
    tls: Option<(PathBuf, Pair)>,
    extra: String,
}

impl Setup {
    /// A cloud that keeps sessions and puts no limit of its own in the way: no cap on what is in flight or queued, its state on disk.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// As it comes out of the box: 20 in flight, 1,000 queued. Only the listener is ours.
    pub(crate) fn stock() -> Self {
        Self { stock: true, ..Self::default() }
    }

    /// No limits and no log of what goes through it, its state written only when it is stopped: for measuring.
    pub(crate) fn bare() -> Self {
        Self { bare: true, ..Self::default() }
    }

    /// Lets only the users that are named in.
    pub(crate) fn user(mut self, user: &str, password: &str) -> Self {
        self.users.push(Login { user: user.to_owned(), password: password.to_owned() });
        self
    }

    /// TLS with this certificate, for clients with a certificate of this root.
    pub(crate) fn tls(mut self, ca: PathBuf, server: Pair) -> Self {
        self.tls = Some((ca, server));
        self
    }

    /// More lines for its config.
    pub(crate) fn with(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn start(self) -> Mosquitto {
        let dir = TempDir::with_prefix("tidegate-cloud-").expect("make a temporary directory");
        let mut cloud = Mosquitto { setup: self, dir, port: 0, log: Log::default(), process: None };
        for _ in 0..4 {
            cloud.port = free_port();
            if cloud.try_start() {
                return cloud;
            }
        }
        panic!("mosquitto does not start");
    }
}

/// A Mosquitto of our own, on 127.0.0.1. Port and state stay over restarts.
pub(crate) struct Mosquitto {
    setup: Setup,
    dir: TempDir,
    port: u16,
    log: Log,
    process: Option<Process>,
}

impl Mosquitto {
    /// A cloud as most tests want it.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Setup::new().start()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// The URL for a bridge without TLS.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Processor time it has used, none while it is stopped.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.process.as_ref().map_or(Duration::ZERO, Process::cpu_time)
    }

    /// How our own clients reach it: with the first user's login, if there are users.
    pub(crate) fn door(&self) -> Door {
        Door { port: self.port, login: self.setup.users.first().cloned(), ..Door::default() }
    }

    fn config(&self) -> String {
        let dir = self.dir.path().display();
        // `user root`: started by root it would change to a user that may not write here. Without effect otherwise.
        let Setup { stock, bare, .. } = self.setup;
        let mut text = format!("listener {} 127.0.0.1\nuser root\nlog_dest stderr\n", self.port);
        text += if bare { "log_type error\n" } else { "log_type all\n" };
        if !stock {
            text += "max_inflight_messages 0\nmax_queued_messages 0\n";
            text += &format!("persistence true\npersistence_location {dir}/\n");
        }
        if !stock && !bare {
            // Saved within about a second of each change: a SIGKILL undoes what it acknowledged in the last one, and no more.
            text += "autosave_on_changes true\nautosave_interval 1\n";
        }
        if self.setup.users.is_empty() {
            text += "allow_anonymous true\n";
        } else {
            text += &format!("allow_anonymous false\npassword_file {dir}/users\n");
        }
        if let Some((ca, server)) = &self.setup.tls {
            text += &format!("cafile {}\ncertfile {}\n", ca.display(), server.cert.display());
            text += &format!("keyfile {}\nrequire_certificate true\n", server.key.display());
        }
        text + &self.setup.extra
    }

    fn try_start(&mut self) -> bool {
        let dir = self.dir.path();
        if !self.setup.users.is_empty() {
            let lines: String = self.setup.users.iter().map(|l| format!("{}:{}\n", l.user, l.password)).collect();
            std::fs::write(dir.join("users"), lines).expect("write the users");
            let hashed = Command::new("mosquitto_passwd").arg("-U").arg(dir.join("users")).status();
            assert!(hashed.is_ok_and(|status| status.success()), "mosquitto_passwd -U failed");
        }
        let config = dir.join("mosquitto.conf");
        std::fs::write(&config, self.config()).expect("write mosquitto.conf");
        let mut process = Process::start("mosquitto", Command::new("mosquitto").arg("-c").arg(config), &self.log);
        let port = self.port;
        let up = wait_for(START, "mosquitto to listen", || {
            if process.ended().is_some() {
                return Ok(false);
            }
            TcpStream::connect(("127.0.0.1", port)).map(|_| true).map_err(|error| error.to_string())
        });
        if up {
            self.process = Some(process);
        }
        up
    }

    /// Starts it again where it was. The port may still be held for a moment by a connection that is going down.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "mosquitto is running already");
        wait_for(START, "mosquitto to start again", || if self.try_start() { Ok(()) } else { Err("ended".to_owned()) });
    }

    /// Whether the file it keeps its state in holds these words: what a SIGKILL would leave.
    pub(crate) fn has_saved(&self, words: &str) -> bool {
        let state = std::fs::read(self.dir.path().join("mosquitto.db")).unwrap_or_default();
        state.windows(words.len()).any(|window| window == words.as_bytes())
    }

    /// `kill -9`.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("mosquitto was started").kill();
    }

    /// SIGTERM: it writes its state and ends.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("mosquitto was started").stop(START)
    }

    /// The running process.
    #[track_caller]
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("mosquitto was started")
    }
}

/// A message that a subscriber got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    /// The retain flag as delivered.
    pub(crate) retain: bool,
    pub(crate) payload: String,
}

/// A mosquitto_sub that has its SUBACK.
pub(crate) struct Subscriber {
    process: Process,
}

impl Subscriber {
    /// MQTT 5 with retain as published, QoS 2 granted, clean session: what the broker has, as its publisher sent it.
    #[track_caller]
    pub(crate) fn new(door: &Door, filter: &str) -> Self {
        // Told of no limit of its own, Mosquitto 2.0.11 without one sends its client more than that client allows, which ends it.
        let window = ["-D", "connect", "receive-maximum", "65535"];
        let options = ["-V", "mqttv5", "--retain-as-published", "-q", "2"];
        Self::with(door, filter, &[&options[..], &window[..]].concat())
    }

    /// With the client's options as the test wants them.
    #[track_caller]
    pub(crate) fn with(door: &Door, filter: &str, options: &[&str]) -> Self {
        let subscriber = Self::unconfirmed(door, filter, options);
        subscriber.process.log().wait_for_line(START, 0, &["Subscribed (mid"]);
        subscriber
    }

    /// The same without waiting for a SUBACK, for subscriptions that are to be refused.
    #[track_caller]
    pub(crate) fn unconfirmed(door: &Door, filter: &str, options: &[&str]) -> Self {
        let format = format!("{FIELD}%t{FIELD}%q{FIELD}%r{FIELD}%p");
        let mut command = Command::new("stdbuf");
        let client = door.client("mosquitto_sub");
        // Through stdbuf: its debug lines, by which a test knows that it is subscribed, would otherwise wait for a full buffer.
        command.arg("-oL").arg(client.get_program()).args(client.get_args());
        command.args(["-d", "-t", filter, "-F", &format]).args(options);
        Self { process: Process::start(&format!("mosquitto_sub {filter}"), &mut command, &Log::default()) }
    }

    /// What it got so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.process.log().lines().iter().filter_map(|line| parse(line)).collect()
    }

    /// What it got from a mark on, and the mark for the next call: for those who look often at much.
    pub(crate) fn received_since(&self, mark: usize) -> (Vec<Received>, usize) {
        let lines = self.process.log().since(mark);
        (lines.iter().filter_map(|line| parse(line)).collect(), mark + lines.len())
    }

    /// What it got so far on one topic.
    pub(crate) fn on(&self, topic: &str) -> Vec<Received> {
        self.received().into_iter().filter(|message| message.topic == topic).collect()
    }

    /// Everything the client printed, its debug lines included.
    pub(crate) fn log(&self) -> &Log {
        self.process.log()
    }

    /// Waits for a message that `wanted` says yes to, and returns the first.
    #[track_caller]
    pub(crate) fn wait(&self, limit: Duration, what: &str, wanted: impl Fn(&Received) -> bool) -> Received {
        wait_for(limit, what, || {
            let got = self.received();
            let found = got.iter().find(|message| wanted(message)).cloned();
            found.ok_or_else(|| format!("{} messages, the last: {:?}", got.len(), got.last()))
        })
    }

    /// Waits until there are `count` messages that `wanted` says yes to, and returns them.
    #[track_caller]
    pub(crate) fn wait_count(
        &self,
        limit: Duration,
        count: usize,
        wanted: impl Fn(&Received) -> bool,
    ) -> Vec<Received> {
        wait_for(limit, &format!("{count} messages"), || {
            let got: Vec<Received> = self.received().into_iter().filter(&wanted).collect();
            if got.len() >= count {
                Ok(got)
            } else {
                Err(format!("{} messages, the last: {:?}", got.len(), got.last()))
            }
        })
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn parse(line: &str) -> Option<Received> {
    let mut fields = line.strip_prefix(FIELD)?.splitn(4, FIELD);
    Some(Received {
        topic: fields.next()?.to_owned(),
        qos: fields.next()?.parse().ok()?,
        retain: fields.next()? == "1",
        payload: fields.next()?.to_owned(),
    })
}

/// Publishes one message with mosquitto_pub and the options given (`-q`, `-r`, `-V`, …); tells how that ended.
pub(crate) fn publish(door: &Door, topic: &str, payload: &str, options: &[&str]) -> std::process::Output {
    let mut command = door.client("mosquitto_pub");
    command.args(["-t", topic, "-m", payload]).args(options);
    command.output().expect("run mosquitto_pub")
}

/// Publishes each line as a message of its own over one connection.
#[track_caller]
pub(crate) fn publish_lines(door: &Door, topic: &str, lines: impl IntoIterator<Item = String>, options: &[&str]) {
    let mut command = door.client("mosquitto_pub");
    command.args(["-t", topic, "-l"]).args(options).stdin(Stdio::piped());
    let mut client = command.spawn().expect("start mosquitto_pub");
    let mut input = client.stdin.take().expect("piped above");
    for line in lines {
        writeln!(input, "{line}").expect("mosquitto_pub reads its input");
    }
    drop(input);
    let status = client.wait().expect("wait for mosquitto_pub");
    assert!(status.success(), "mosquitto_pub ended with {status}");
}

//! What does a gateway cost: size on disk, memory, processor, time to the first reading, bytes written?
//!
//! `cargo bench --bench footprint` runs the release binary with 20 sensors on pseudo terminals, its broker and one bridge to a Mosquitto, and
//! prints each figure beside its bar.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::cast_precision_loss, clippy::unwrap_used)]
#![allow(clippy::format_push_string, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod figures;
#[path = "../tests/gateway/support/mod.rs"]
mod support;
#[path = "../tests/proof/web.rs"]
mod web;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use figures::Figures;
use support::client::Client;
use support::{Gateway, Mosquitto, Subscriber, Tty, wait_for};
use tidegate::model::{BootId, Priority, Qos, Timestamp};
use tidegate::store::{NewRecord, Outbox};

const LIMIT: Duration = Duration::from_secs(60);
const SENSORS: usize = 20;
/// Starts timed for the time to the first reading; their median is told.
const STARTS: usize = 7;
/// Records waiting for the figure with a full store.
const WAITING: usize = 1_000_000;
/// Commits of a hundred records for the figure of the store alone.
const COMMITS: usize = 2_000;

fn main() -> ExitCode {
    // `cargo test --benches` runs this too, with `--test`: nothing is measured there.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let mut figures = Figures::new(
        "What it costs",
        "The release binary with 20 sensors on pseudo terminals, its broker, and one bridge to a Mosquitto (`cargo bench --bench footprint`).",
    );
    let binary = std::fs::metadata(support::program::binary()).unwrap().len() as f64 / 1e6;
    figures.hold("release binary, stripped", &format!("{binary:.2} MB"), "<= 12 MB", binary <= 12.0);
    start_to_first_reading(&mut figures);
    twenty_sensors(&mut figures);
    one_at_a_time(&mut figures);
    full_store(&mut figures);
    a_hundred_a_commit(&mut figures);
    figures.end()
}

fn config(ttys: &[Tty], cloud: &str) -> String {
    let mut text = format!(
        "[gateway]\nid = \"box\"\nstate_dir = \"@state@\"\n[broker]\nlisten = \"@listen@\"\n\
         [[bridge]]\nid = \"cloud\"\nurl = \"{cloud}\"\nout = [ {{ from = \"tidegate/box/#\" }}, {{ from = \"data/#\" }} ]\n"
    );
    for (n, tty) in ttys.iter().enumerate() {
        text += &format!(
            "[bus.port{n}]\ndevice = \"{}\"\nserial = \"115200 8N1\"\n\
             [[sensor]]\nid = \"s{n}\"\ndriver = \"uart\"\nbus = \"port{n}\"\nmatch = {{ json = true }}\npublish = {{ qos = 1 }}\n",
            tty.device()
        );
    }
    text
}

/// Feeds each port at this rate for so long, one port after the other at even distances: lines that come together share a commit.
fn feed(ttys: &mut [Tty], lines_per_second: f64, span: Duration) {
    let distance = 1.0 / (lines_per_second * ttys.len() as f64);
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < span {
        let (round, port) = (sent / ttys.len(), sent % ttys.len());
        ttys[port].line(&format!("{{\"temperature\":{}.5,\"humidity\":48.25,\"n\":{round}}}", round % 30));
        sent += 1;
        let next = start + Duration::from_secs_f64(sent as f64 * distance);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn start_to_first_reading(figures: &mut Figures) {
    let mut gateway = Gateway::new(
        "[gateway]\nid = \"box\"\nstate_dir = \"@state@\"\n[broker]\nlisten = \"@listen@\"\n\
         [bus.port]\ndevice = \"sim:greenhouse\"\n\
         [[sensor]]\nid = \"air\"\ndriver = \"uart\"\nbus = \"port\"\nmatch = { json = true }\npublish = { retain = true }\n",
        &[],
    );
    let port = gateway.door().port;
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let subscriber = std::thread::spawn(move || {
                loop {
                    let Ok(mut client) = Client::connect(port, "watch") else { continue };
                    client.subscribe("tidegate/box/air", 0).unwrap();
                    client.next_message().unwrap();
                    return Instant::now();
                }
            });
            let begin = Instant::now();
            gateway.start();
            let first = subscriber.join().unwrap() - begin;
            gateway.stop();
            first
        })
        .collect();
    times.sort();
    let median = times[STARTS / 2];
    let kept = median <= Duration::from_millis(150);
    figures.hold("start to first published reading, median", &format!("{median:.0?}"), "<= 150 ms", kept);
}

fn twenty_sensors(figures: &mut Figures) {
    let dir = tempfile::tempdir().unwrap();
    let mut ttys: Vec<Tty> = (0..SENSORS).map(|n| Tty::plug(dir.path().join(format!("tty{n}")))).collect();
    let cloud = Mosquitto::start();
    let above = Subscriber::new(&cloud.door(), "tidegate/box/s0");
    let page = support::free_port();
    let config = config(&ttys, &cloud.url()) + "[http]\nlisten = \"127.0.0.1:@page@\"\n";
    let mut gateway = Gateway::new(&config, &[("page", &page.to_string())]);
    gateway.start();
    wait_for(LIMIT, "a reading above", || {
        feed(&mut ttys, 10.0, Duration::from_millis(100));
        if above.received().is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });

    let quiet = usage(&mut gateway, Duration::from_secs(20), std::thread::sleep);
    let idle = quiet.cpu_percent;
    figures.hold("idle, no line from any port: processor", &format!("{idle:.2} %"), "<= 0.5 %", idle <= 0.5);
    figures.tell("idle: context switches a second", &format!("{:.0}", quiet.switches_per_second));

    let calm = usage(&mut gateway, Duration::from_secs(30), |span| feed(&mut ttys, 1.0, span));
    memory(figures, "20 sensors at 1/s, one bridge: memory", calm.resident, 16.0);
    figures.tell("20 sensors at 1/s, one bridge: processor", &format!("{:.2} %", calm.cpu_percent));

    let commits = || web::metric(page, "tidegate_outbox_commits_total", "");
    let (before, committed, start) = (cloud.cpu_time(), commits(), Instant::now());
    let busy = usage(&mut gateway, Duration::from_secs(30), |span| feed(&mut ttys, 5.0, span));
    let beside = cloud.cpu_time().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    let messages = SENSORS as f64 * 5.0 * 30.0;
    let (percent, per_message) = (busy.cpu_percent, busy.written as f64 / messages);
    let commits = (commits() - committed) as f64 / messages;
    // What waking up costs differs from machine to machine, in a virtual one by far; Mosquitto wakes up as often.
    let bar = "<= 2 %, or 1.5 times Mosquitto's";
    let kept = percent <= 2.0_f64.max(1.5 * beside);
    figures.hold("100 readings/s to both brokers: processor", &format!("{percent:.2} %"), bar, kept);
    figures.tell("the same: processor of the Mosquitto that takes them in", &format!("{beside:.2} %"));
    let kept = commits > 0.0 && commits <= 0.25;
    figures.hold("the same: commits a message", &format!("{commits:.2}"), "<= 0.25", kept);
    figures.hold("the same: written to disk a message", &format!("{per_message:.0} B"), "<= 5 kB", per_message <= 5e3);
    memory(figures, "the same: memory", busy.resident, 16.0);
}

/// Resident memory beside its bar, in megabytes.
fn memory(figures: &mut Figures, what: &str, bytes: u64, most: f64) {
    let mega = bytes as f64 / 1e6;
    figures.hold(what, &format!("{mega:.1} MB"), &format!("<= {most:.0} MB"), mega <= most);
}

/// From a client's PUBLISH to its PUBACK, one at a time, which is as long as one commit at least; beside what the disk takes for a flush.
fn one_at_a_time(figures: &mut Figures) {
    let mut gateway =
        Gateway::new(&config(&[], "mqtt://127.0.0.1:@nobody@"), &[("nobody", &support::free_port().to_string())]);
    gateway.start();
    let mut client = Client::connect(gateway.door().port, "producer").unwrap();
    let one = [("data/x".to_owned(), 1, "x".repeat(100))];
    let answered = p99(|| client.publish(&one, 1).assert_complete(1));
    let flushed = flush_p99(gateway.dir());
    let most = Duration::from_millis(50) + 2 * flushed;
    let bar = format!("<= {most:.1?}: 50 ms and two flushes");
    figures.hold("PUBLISH to PUBACK, one at a time, p99", &format!("{answered:.2?}"), &bar, answered <= most);
}

fn flush_p99(dir: &Path) -> Duration {
    use std::io::Write;
    let mut file = std::fs::File::create(dir.join("flushed")).unwrap();
    p99(|| {
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
    })
}

/// Of a thousand.
fn p99(mut once: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..1_000)
        .map(|_| {
            let start = Instant::now();
            once();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[989]
}

fn full_store(figures: &mut Figures) {
    let mut gateway =
        Gateway::new(&config(&[], "mqtt://127.0.0.1:@nobody@"), &[("nobody", &support::free_port().to_string())]);
    gateway.start();
    let written = written_bytes(&mut gateway);
    let start = Instant::now();
    let chunk: Vec<_> = (0..10_000).map(|_| ("data/x".to_owned(), 1, "x".repeat(100))).collect();
    let mut client = Client::connect(gateway.door().port, "producer").unwrap();
    for _ in 0..WAITING / chunk.len() {
        client.publish(&chunk, 500).assert_complete(chunk.len());
    }
    let took = start.elapsed().as_secs_f64();
    let written = (written_bytes(&mut gateway) - written) as f64 / WAITING as f64;
    memory(figures, "a million 100 B records waiting: memory", gateway.process().resident_bytes(), 24.0);
    figures.tell("taken in from a local client, each acknowledged", &format!("{:.0} /s", WAITING as f64 / took));
    // How many of them a commit takes is up to the burst; see below for the figure at a hundred.
    figures.hold("the same: written to disk a message", &format!("{written:.0} B"), "<= 1 kB", written <= 1e3);
}

/// The store alone, in this process: how many messages a commit takes is up to the burst otherwise.
fn a_hundred_a_commit(figures: &mut Figures) {
    // Beside the program, on its disk: a temporary directory may be in memory, where nothing is written.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut outbox, _) = Outbox::open(&dir.path().join("outbox.db"), BootId::new([1; 16])).unwrap();
    let pid = std::process::id();
    let before = written_by(pid);
    for _ in 0..COMMITS {
        outbox.begin().unwrap();
        for _ in 0..100 {
            outbox.push(record()).unwrap();
        }
        outbox.commit().unwrap();
    }
    let written = (written_by(pid) - before) as f64 / (COMMITS * 100) as f64;
    let kept = written > 0.0 && written <= 600.0;
    figures.hold(
        "100 B messages, 100 a commit: written to disk a message",
        &format!("{written:.0} B"),
        "<= 600 B",
        kept,
    );
}

fn record() -> NewRecord<'static> {
    NewRecord {
        priority: Priority::Normal,
        rule: None,
        topic: "data/x",
        payload: &[b'x'; 100],
        qos: Qos::AtLeastOnce,
        retain: false,
        accepted: Timestamp { unix_ms: 1_795_396_500_000, synced: true, at: None },
        expires_ms: None,
        properties: None,
        stamp: None,
    }
}

struct Usage {
    cpu_percent: f64,
    switches_per_second: f64,
    resident: u64,
    written: u64,
}

fn usage(gateway: &mut Gateway, span: Duration, meanwhile: impl FnOnce(Duration)) -> Usage {
    let (cpu, switches, written) = (gateway.process().cpu_time(), switches(gateway), written_bytes(gateway));
    let start = Instant::now();
    meanwhile(span);
    let took = start.elapsed().as_secs_f64();
    Usage {
        cpu_percent: gateway.process().cpu_time().saturating_sub(cpu).as_secs_f64() / took * 100.0,
        switches_per_second: (self::switches(gateway) - switches) as f64 / took,
        resident: gateway.process().resident_bytes(),
        written: written_bytes(gateway) - written,
    }
}

/// Bytes the process has caused to be written to a disk (proc_pid_io(5)). Zero on a file system in memory.
fn written_bytes(gateway: &mut Gateway) -> u64 {
    written_by(gateway.process().pid())
}

fn written_by(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// Voluntary context switches of all threads: how often something in it woke up.
fn switches(gateway: &mut Gateway) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.process().pid())).unwrap();
    let paths = tasks.filter_map(Result::ok).map(|task| task.path().join("status").display().to_string());
    paths.map(|path| field(&path, "voluntary_ctxt_switches:")).sum()
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().parse().unwrap_or(0)
}

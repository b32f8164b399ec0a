//! What does a gateway cost: size on disk, memory, processor, time to the first reading, bytes written?
//!
//! `cargo bench --bench footprint` runs the release binary with 20 sensors on pseudo terminals, its broker and one bridge to a Mosquitto, and
//! prints each figure beside its bar. It fails nothing: a shared machine proves no absolute figure; the bars are held by whoever reads them.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::cast_precision_loss, clippy::unwrap_used)]
#![allow(clippy::format_push_string)]

#[path = "../tests/gateway/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::client::Client;
use support::{Gateway, Link, Mosquitto, Subscriber, Tty, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const SENSORS: usize = 20;
/// Starts timed for the time to the first reading; their median is told.
const STARTS: usize = 7;
/// Lines and messages timed for each latency.
const TIMED: usize = 1_000;
/// Records waiting for the figure with a full store.
const WAITING: usize = 1_000_000;

fn main() {
    // `cargo test --benches` runs this too, with `--test`: nothing is measured there.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_tidegate")).unwrap().len();
    figure("release binary, stripped", &format!("{:.1} MB", binary as f64 / 1e6), "<= 12 MB");
    start_to_first_reading();
    latency();
    twenty_sensors();
    full_store();
}

fn figure(what: &str, value: &str, bar: &str) {
    println!("{what:<58} {value:>16}   {bar}");
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

fn start_to_first_reading() {
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
    figure("start to first published reading, median", &format!("{:?}", times[STARTS / 2]), "<= 150 ms");
}

/// From a line on a port to a local subscriber, beside the broker's own latency between two clients, with the cloud there and black-holed.
fn latency() {
    let dir = tempfile::tempdir().unwrap();
    let mut ttys = [Tty::plug(dir.path().join("tty"))];
    let cloud = Mosquitto::start();
    let link = Link::to(cloud.port());
    let mut gateway = Gateway::new(&config(&ttys, &link.url()), &[]);
    gateway.start();
    let port = gateway.door().port;
    let mut subscriber = Client::connect(port, "subscriber").unwrap();
    subscriber.subscribe("tidegate/box/s0", 0).unwrap();
    subscriber.subscribe("plain", 0).unwrap();
    let mut publisher = Client::connect(port, "publisher").unwrap();
    wait_for(LIMIT, "the bridge to connect", || if link.open() > 0 { Ok(()) } else { Err("not yet".to_owned()) });
    // A port may drop what came before it was opened.
    std::thread::sleep(Duration::from_secs(2));
    for state in ["cloud there", "cloud black-holed"] {
        let (mut lines, mut messages) = (Vec::new(), Vec::new());
        for n in 0..TIMED {
            let start = Instant::now();
            ttys[0].line(&format!("{{\"n\":{n}}}"));
            subscriber.next_message().unwrap();
            lines.push(start.elapsed());
            let start = Instant::now();
            publisher.publish(&[("plain".to_owned(), 0, n.to_string())], 1).assert_sent();
            subscriber.next_message().unwrap();
            messages.push(start.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
        let (lines, messages) = (p99(lines), p99(messages));
        figure(
            &format!("line to local subscriber, p99, {state}"),
            &format!("{lines:.2?}"),
            &format!("<= 3 ms above {messages:.2?}"),
        );
        link.black_hole();
    }
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

fn twenty_sensors() {
    let dir = tempfile::tempdir().unwrap();
    let mut ttys: Vec<Tty> = (0..SENSORS).map(|n| Tty::plug(dir.path().join(format!("tty{n}")))).collect();
    let cloud = Mosquitto::start();
    let above = Subscriber::new(&cloud.door(), "tidegate/box/s0");
    let mut gateway = Gateway::new(&config(&ttys, &cloud.url()), &[]);
    gateway.start();
    wait_for(LIMIT, "a reading above", || {
        feed(&mut ttys, 10.0, Duration::from_millis(100));
        if above.received().is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });

    let quiet = usage(&mut gateway, Duration::from_secs(20), std::thread::sleep);
    figure("idle, no line from any port: processor", &format!("{:.2} %", quiet.cpu_percent), "<= 0.5 %");
    figure("idle: context switches a second", &format!("{:.0}", quiet.switches_per_second), "no busy wake-ups");

    let calm = usage(&mut gateway, Duration::from_secs(30), |span| feed(&mut ttys, 1.0, span));
    figure("20 sensors at 1/s, one bridge: memory", &mega(calm.resident), "<= 16 MB");
    figure("20 sensors at 1/s, one bridge: processor", &format!("{:.2} %", calm.cpu_percent), "");

    let busy = usage(&mut gateway, Duration::from_secs(30), |span| feed(&mut ttys, 5.0, span));
    let per_message = busy.written as f64 / (SENSORS as f64 * 5.0 * 30.0);
    figure(
        "100 readings/s to both brokers: processor",
        &format!("{:.2} %", busy.cpu_percent),
        "<= 2 % of a desktop core",
    );
    figure("100 readings/s: written to disk a message", &format!("{per_message:.0} B"), "<= 5 kB");
    figure("100 readings/s: memory", &mega(busy.resident), "");
}

fn full_store() {
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
    figure("a million 100 B records waiting: memory", &mega(gateway.process().resident_bytes()), "<= 24 MB");
    figure("taken in from a local client, each acknowledged", &format!("{:.0} /s", WAITING as f64 / took), "");
    figure("taken in: written to disk a message", &format!("{written:.0} B"), "<= 600 B at 100 a commit");
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

fn mega(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Bytes the process has caused to be written to a disk (proc_pid_io(5)). Zero on a file system in memory.
fn written_bytes(gateway: &mut Gateway) -> u64 {
    field(&format!("/proc/{}/io", gateway.process().pid()), "write_bytes:")
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

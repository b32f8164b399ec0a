//! How long does a client of the local broker wait for what a port or a line said? From a line on a pseudo terminal and from an edge of a simulated
//! line, each to a subscriber, beside the broker alone (from a client to that subscriber).
//!
//! `cargo bench --bench edges`. An edge can be timed only by who makes it: so the gateway runs in the process of the bench, which moves the line.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod figures;
#[path = "../tests/gateway/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use figures::Figures;
use support::Tty;
use support::client::Client;
use support::receiver::wire::Publish;
use tidegate::app::Gateway;
use tidegate::bus::gpio::SimulatedGpio;
use tidegate::clock::SystemClock;
use tidegate::limits::RUNTIME_THREADS;
use tidegate::plan::{self, Environment};

const RUNS: usize = 5;
/// Of each kind in each run.
const TIMED: usize = 2_000;
/// Between two that are timed: none waits for another's work to end.
const PAUSE: Duration = Duration::from_millis(1);
/// How much later than a client's message, at the 99th percentile.
const MORE_MAX: Duration = Duration::from_millis(3);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@dir@/state"
[broker]
listen = "127.0.0.1:0"
[bus.port]
device = "@dir@/tty"
serial = "115200 8N1"
[[sensor]]
id = "line"
driver = "uart"
bus = "port"
match = { json = true }
publish = { qos = @qos@ }
[[sensor]]
id = "edge"
driver = "gpio-input"
line = "sim:door"
debounce = "0s"
publish = { qos = @qos@ }
"#;

const KINDS: [&str; 3] = ["client", "line", "edge"];

fn main() -> ExitCode {
    // `cargo test --benches` runs this too, with `--test`: nothing is measured there.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let mut figures = Figures::new(
        "From a port or a line to a subscriber",
        "From a line on a pseudo terminal, from an edge of a simulated line (no kernel and no chip are in that way), and from a client, to a \
         subscriber of the local broker; 2,000 of each by turns, median of five runs (`cargo bench --bench edges`).",
    );
    for qos in [0, 1] {
        let runs: Vec<_> = (0..RUNS).map(|_| measure(qos)).collect();
        let median = |kind: usize, per_cent: usize| {
            let mut times: Vec<Duration> = runs.iter().map(|run| percentile(&run[kind], per_cent)).collect();
            times.sort();
            times[times.len() / 2]
        };
        let most = median(0, 99) + MORE_MAX;
        for (kind, name) in KINDS.iter().enumerate() {
            let (p50, p99) = (median(kind, 50), median(kind, 99));
            figures.tell(&format!("{name} to subscriber, QoS {qos}, p50"), &format!("{} µs", p50.as_micros()));
            let (what, value) = (format!("{name} to subscriber, QoS {qos}, p99"), format!("{} µs", p99.as_micros()));
            match kind {
                0 => figures.tell(&what, &value),
                _ => figures.hold(&what, &value, &format!("<= {most:.2?}"), p99 <= most),
            }
        }
    }
    figures.end()
}

fn percentile(times: &[Duration], per_cent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() * per_cent / 100]
}

/// The times of each kind.
fn measure(qos: u8) -> [Vec<Duration>; 3] {
    let dir = tempfile::tempdir().unwrap();
    let mut tty = Tty::plug(dir.path().join("tty"));
    let file = dir.path().join("tidegate.toml");
    let text = CONFIG.replace("@dir@", &dir.path().display().to_string()).replace("@qos@", &qos.to_string());
    std::fs::write(&file, text).unwrap();
    let (plan, _) = plan::read(&file, &Environment::of_process()).map_err(|report| report.render(false)).unwrap();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let runtime = runtime.unwrap();
    let clock = SystemClock::shared();
    let lines = SimulatedGpio::new(clock.clone());
    let start = Gateway::start_with_lines(plan, clock, Arc::new(lines.clone()));
    let gateway = runtime.block_on(start).unwrap();
    let port = gateway.addresses()[0].port();

    let mut subscriber = Client::connect(port, "subscriber").unwrap();
    for topic in ["tidegate/box/line", "tidegate/box/edge", "plain"] {
        subscriber.subscribe(topic, qos).unwrap();
    }
    let mut publisher = Client::connect(port, "publisher").unwrap();
    let mut hear = |topic: &str, part: &str| {
        let heard =
            |message: &Publish| message.topic == topic && String::from_utf8_lossy(&message.payload).contains(part);
        while !heard(&subscriber.next_message().unwrap()) {}
    };
    // The line tells its state once it is taken; a port drops what came before it was opened, so lines go in until one comes out.
    hear("tidegate/box/edge", "");
    wait_for_port(&mut tty, port);

    let mut times = [const { Vec::new() }; 3];
    for n in 0..TIMED {
        for (kind, topic) in ["plain", "tidegate/box/line", "tidegate/box/edge"].iter().enumerate() {
            let start = Instant::now();
            let part = match kind {
                0 => {
                    publisher.publish(&[("plain".to_owned(), qos, n.to_string())], 1).assert_sent();
                    n.to_string()
                }
                1 => {
                    tty.line(&format!("{{\"n\":{n}}}"));
                    format!("\"n\":{n}")
                }
                _ => {
                    lines.drive("door", n % 2 == 0);
                    format!("\"state\":{}", n % 2 == 0)
                }
            };
            hear(topic, &part);
            times[kind].push(start.elapsed());
            std::thread::sleep(PAUSE);
        }
    }
    runtime.block_on(gateway.stop(std::future::pending()));
    times
}

/// Until a line of the port has come to a subscriber of its own.
fn wait_for_port(tty: &mut Tty, port: u16) {
    let mut waiting = Client::connect(port, "waiting").unwrap();
    waiting.subscribe("tidegate/box/line", 0).unwrap();
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || heard.send(waiting.next_message().map(drop)));
    for _ in 0..1_000 {
        tty.line(r#"{"n":"first"}"#);
        if let Ok(outcome) = hears.recv_timeout(Duration::from_millis(20)) {
            return outcome.unwrap();
        }
    }
    panic!("no line of the port came through");
}

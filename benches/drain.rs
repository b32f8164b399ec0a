//! How fast does a full store drain, beside a Mosquitto bridge (which keeps its queue in memory and never waits for the disk)?
//!
//! `cargo bench --bench drain` fills both with the same messages while the cloud is away, starts it, and measures at one reliable subscriber
//! of the cloud from the first message to the last. The cloud is a Mosquitto without limits on what is in flight. The two take
//! turns; told are the medians and their ratio, which is what a shared machine can tell.
//!
//! Last, 100,000 messages of QoS 2 drain into a Mosquitto as it comes out of the box, which hangs up on more than 20 in flight.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::cast_precision_loss, clippy::unwrap_used)]

mod figures;
#[path = "../tests/gateway/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use figures::Figures;
use support::client::Client;
use support::mosquitto::Setup;
use support::process::Log;
use support::{Gateway, Mosquitto, Process, free_port, wait_until};

/// Alternating runs of each. `TIDEGATE_BENCH_RUNS` and `TIDEGATE_BENCH_MESSAGES` change the two numbers for a quick look.
const RUNS: usize = 5;
const MESSAGES: usize = 100_000;
/// At QoS 2 a Mosquitto bridge slows down with its backlog: 5,000 a second at 20,000 messages, 2,000 at 40,000, nothing in 20 s at 60,000.
const MESSAGES_QOS_2_MAX: usize = 20_000;
const WINDOW: usize = 100;

fn main() -> ExitCode {
    // `cargo test --benches` runs this too, with `--test`: nothing is measured there.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let (runs, messages) = (setting("TIDEGATE_BENCH_RUNS", RUNS), setting("TIDEGATE_BENCH_MESSAGES", MESSAGES));
    let mut figures = Figures::new(
        "How fast a full store drains",
        "Messages of 100 B, window 100, `durability = \"power\"`, into a Mosquitto without limits, beside a Mosquitto bridge with the same \
         window, which keeps its queue in memory; by turns, medians, messages a second at one QoS 1 subscriber of the cloud \
         (`cargo bench --bench drain`). A Mosquitto bridge slows down with its backlog of QoS 2, so both get 20,000 there.",
    );
    let mut medians = Vec::new();
    for (qos, messages) in [(1, messages), (2, messages.min(MESSAGES_QOS_2_MAX))] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            ours.push(drain_tidegate(qos, messages));
            theirs.push(drain_mosquitto(qos, messages));
        }
        println!("QoS {qos}, tidegate:  {ours:.0?}\nQoS {qos}, mosquitto: {theirs:.0?}");
        let (ours, theirs) = (median(ours), median(theirs));
        let what = format!("QoS {qos}, {messages} messages, {runs} runs each");
        figures.tell(&format!("{what}: tidegate"), &format!("{ours:.0} /s"));
        figures.tell(&format!("{what}: Mosquitto bridge"), &format!("{theirs:.0} /s"));
        let ratio = ours / theirs;
        figures.hold(&format!("QoS {qos}: ratio"), &format!("{ratio:.2}"), ">= 1.0 (floor 0.6)", ratio >= 0.6);
        medians.push(ours);
    }
    let ratio = medians[1] / medians[0];
    figures.hold("our QoS 2 beside our QoS 1", &format!("{ratio:.2}"), ">= 0.4 (floor)", ratio >= 0.4);
    into_stock(&mut figures, messages);
    figures.end()
}

/// QoS 2 into a Mosquitto as it comes: 20 in flight, a thousand queued for a subscriber.
fn into_stock(figures: &mut Figures, messages: usize) {
    let mut cloud = Setup::stock().start();
    Client::resume(cloud.port(), "counter").unwrap().subscribe("data/#", 2).unwrap();
    cloud.stop();
    let mut gateway = Gateway::new(&CONFIG.replace("@version@", "3.1.1"), &[("cloud", &cloud.url())]);
    gateway.start();
    fill(gateway.door().port, 2, messages);
    cloud.restart();
    let mut counter = Client::connect(cloud.port(), "counter").unwrap();
    counter.subscribe("data/#", 2).unwrap();
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut start = None;
    while seen.len() < messages {
        match counter.next_message() {
            Ok(message) => *seen.entry(message.payload).or_default() += 1,
            // Nothing for 20 s: what has not come by now does not come.
            Err(error) => {
                println!("the counter waits in vain: {error}");
                break;
            }
        }
        start.get_or_insert_with(Instant::now);
    }
    let rate = seen.len() as f64 / start.map_or(f64::INFINITY, |start| start.elapsed().as_secs_f64());
    let (lost, doubled) = (messages - seen.len(), seen.values().filter(|times| **times > 1).count());
    let kept = lost == 0 && doubled == 0;
    let what = format!("{messages} of QoS 2 by MQTT 3.1.1 into a stock Mosquitto: lost, doubled");
    figures.hold(&what, &format!("{lost}, {doubled}"), "0, 0", kept);
    figures.tell("the same: messages a second", &format!("{rate:.0} /s"));
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A cloud that is away, and that knows its subscriber (at QoS 1): what comes before that one is back waits for it.
fn cloud() -> Mosquitto {
    let mut cloud = Setup::bare().start();
    Client::resume(cloud.port(), "counter").unwrap().subscribe("data/#", 1).unwrap();
    cloud.stop();
    cloud
}

/// Starts the cloud and measures, in messages a second.
fn drain(cloud: &mut Mosquitto, messages: usize) -> f64 {
    cloud.restart();
    let mut counter = Client::resume(cloud.port(), "counter").unwrap();
    let mut start = None;
    for _ in 0..messages {
        counter.next_message().unwrap();
        start.get_or_insert_with(Instant::now);
    }
    messages as f64 / start.unwrap().elapsed().as_secs_f64()
}

/// Publishes all messages and waits for each acknowledgement.
fn fill(port: u16, qos: u8, messages: usize) {
    let mut client = Client::connect(port, "producer").unwrap();
    let numbered: Vec<_> = (0..messages).map(|n| ("data/x".to_owned(), qos, format!("{n:0100}"))).collect();
    client.publish(&numbered, WINDOW).assert_complete(messages);
}

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"
[broker]
listen = "@listen@"
[[bridge]]
id = "cloud"
url = "@cloud@"
version = "@version@"
window = 100
reconnect = { min = "500ms", max = "1s" }
out = [ { from = "data/#" } ]
"#;

fn drain_tidegate(qos: u8, messages: usize) -> f64 {
    let mut cloud = cloud();
    let mut gateway = Gateway::new(&CONFIG.replace("@version@", "auto"), &[("cloud", &cloud.url())]);
    gateway.start();
    fill(gateway.door().port, qos, messages);
    drain(&mut cloud, messages)
}

fn drain_mosquitto(qos: u8, messages: usize) -> f64 {
    let mut cloud = cloud();
    let dir = tempfile::tempdir().unwrap();
    let (port, config) = (free_port(), dir.path().join("edge.conf"));
    let mut file = std::fs::File::create(&config).unwrap();
    write!(
        file,
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_inflight_messages {WINDOW}\nmax_queued_messages 0\n\
         connection up\naddress 127.0.0.1:{}\ntopic data/# out 2\ncleansession false\nnotifications false\ntry_private false\nrestart_timeout 1\n",
        cloud.port()
    )
    .unwrap();
    let _edge = Process::start("edge", Command::new("mosquitto").arg("-c").arg(&config), &Log::default());
    wait_until(Duration::from_secs(10), "the edge to listen", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    fill(port, qos, messages);
    drain(&mut cloud, messages)
}

//! Does a cloud that is gone slow down the local side? From a line on a port, and from a local client, to a local subscriber: with the cloud there,
//! with the link a black hole (nothing comes back, not even a reset), and with a name server that never answers.
//!
//! `cargo bench --bench latency`. The three take turns; told are the medians of the 99th percentiles.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::cast_precision_loss, clippy::unwrap_used)]

mod figures;
#[path = "../tests/gateway/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use figures::Figures;
use support::client::Client;
use support::name_server::{NAME, NameServer};
use support::{Gateway, Link, Mosquitto, Tty, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
/// Alternating runs.
const RUNS: usize = 5;
/// Lines and messages timed in each.
const TIMED: usize = 1_000;
/// How far a dead cloud may push the 99th percentile.
const MORE_MAX: Duration = Duration::from_millis(3);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"
[broker]
listen = "@listen@"
[bus.port]
device = "@tty@"
serial = "115200 8N1"
[[sensor]]
id = "s"
driver = "uart"
bus = "port"
match = { json = true }
publish = { qos = 1 }
[[bridge]]
id = "cloud"
url = "@cloud@"
out = [ { from = "tidegate/box/#" }, { from = "plain" } ]
"#;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Cloud {
    There,
    BlackHole,
    NameServerHangs,
}

fn main() -> ExitCode {
    // `cargo test --benches` runs this too, with `--test`: nothing is measured there.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let mut figures = Figures::new(
        "The local side while the cloud is gone",
        "From a line on a pseudo terminal (QoS 1, stored for the cloud as well), and from a local client (QoS 1, acknowledged after the commit), \
         to a local subscriber; 1,000 of each, 99th percentile, median of five alternating runs (`cargo bench --bench latency`).",
    );
    let clouds = [Cloud::There, Cloud::BlackHole, Cloud::NameServerHangs];
    let mut runs: Vec<Vec<(Duration, Duration)>> = vec![Vec::new(); clouds.len()];
    for _ in 0..RUNS {
        for (cloud, runs) in clouds.iter().zip(&mut runs) {
            runs.push(measure(*cloud));
        }
    }
    let medians: Vec<_> = runs.iter().map(|runs| (median(runs, |run| run.0), median(runs, |run| run.1))).collect();
    for (cloud, (line, message)) in clouds.iter().zip(&medians) {
        let (state, kept) = match cloud {
            Cloud::There => ("cloud there", None),
            Cloud::BlackHole => ("black hole", Some(MORE_MAX)),
            Cloud::NameServerHangs => ("name server hangs", Some(MORE_MAX)),
        };
        for (what, time, there) in [("line", line, medians[0].0), ("client", message, medians[0].1)] {
            let (what, value) = (format!("{what} to subscriber, p99, {state}"), format!("{time:.2?}"));
            match kept {
                None => figures.tell(&what, &value),
                Some(more) => figures.hold(&what, &value, &format!("<= {:.2?}", there + more), *time <= there + more),
            }
        }
    }
    figures.end()
}

fn median(runs: &[(Duration, Duration)], of: impl Fn(&(Duration, Duration)) -> Duration) -> Duration {
    let mut times: Vec<Duration> = runs.iter().map(of).collect();
    times.sort();
    times[times.len() / 2]
}

/// The 99th percentiles from a line, and from a client, to a subscriber.
fn measure(cloud: Cloud) -> (Duration, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let mut tty = Tty::plug(dir.path().join("tty"));
    let broker = Mosquitto::start();
    let link = Link::to(broker.port());
    let url = match cloud {
        Cloud::NameServerHangs => format!("mqtt://{NAME}:1883"),
        _ => link.url(),
    };
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &url), ("tty", &tty.device())]);
    let names = NameServer::silent();
    if cloud == Cloud::NameServerHangs {
        gateway = gateway.asking(&names);
    }
    gateway.start();
    let port = gateway.door().port;
    let mut subscriber = Client::connect(port, "subscriber").unwrap();
    subscriber.subscribe("tidegate/box/s", 0).unwrap();
    subscriber.subscribe("plain", 0).unwrap();
    let mut publisher = Client::connect(port, "publisher").unwrap();
    match cloud {
        Cloud::NameServerHangs => names.wait_asked(LIMIT),
        _ => wait_for(LIMIT, "the bridge to connect", || if link.open() > 0 { Ok(()) } else { Err("no".to_owned()) }),
    }
    // A port drops what came before it was opened: lines go in until one comes out.
    let mut n = 0;
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs(2) {
        tty.line(&format!("{{\"n\":{n}}}"));
        n += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    publisher.publish(&[("plain".to_owned(), 0, "last".to_owned())], 1).assert_sent();
    while subscriber.next_message().unwrap().payload != b"last" {}
    if cloud == Cloud::BlackHole {
        link.black_hole();
    }
    let (mut lines, mut messages) = (Vec::new(), Vec::new());
    for n in 0..TIMED {
        let start = Instant::now();
        tty.line(&format!("{{\"n\":{n}}}"));
        subscriber.next_message().unwrap();
        lines.push(start.elapsed());
        let start = Instant::now();
        publisher.publish(&[("plain".to_owned(), 1, n.to_string())], 1).assert_complete(1);
        subscriber.next_message().unwrap();
        messages.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    (p99(lines), p99(messages))
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

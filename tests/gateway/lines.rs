//! Does a counter know after a restart what it knew before?

use std::time::Duration;

use crate::need_mosquitto;
use crate::support::{Gateway, Subscriber};

const LIMIT: Duration = Duration::from_secs(20);

/// A hundred pulses a second, told five times a second.
const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[sensor]]
id = "flow"
driver = "gpio-counter"
line = "sim:square?rate=100"
debounce = "0s"
every = "@every@"
publish = { retain = false }
"#;

fn count(payload: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(payload).ok()?;
    if value.get("q").is_some() { None } else { value["count"].as_u64() }
}

/// Starts it, and waits for a count of at least so much. The first count it told, and that one.
fn run_until(gateway: &mut Gateway, least: u64) -> (Subscriber, u64) {
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/flow");
    let told = below.wait(LIMIT, "a count", |m| count(&m.payload).is_some());
    let first = count(&told.payload).unwrap();
    below.wait(LIMIT, "pulses", |m| count(&m.payload).is_some_and(|count| count >= least));
    (below, first)
}

fn last(below: &Subscriber) -> u64 {
    below.on("tidegate/box/flow").iter().filter_map(|message| count(&message.payload)).next_back().unwrap()
}

#[test]
fn a_counters_total_goes_on_after_a_stop_and_a_reload_and_a_kill_costs_what_was_not_yet_written() {
    need_mosquitto!();
    let mut gateway = Gateway::new(CONFIG, &[("every", "200ms")]);
    let (below, first) = run_until(&mut gateway, 100);
    assert!(first < 100, "a new counter begins at zero, not at {first}");
    assert!(gateway.stop().success());
    let at_stop = last(&below);

    let (below, first) = run_until(&mut gateway, at_stop + 50);
    // What was counted after the last telling was written at the stop; until the subscriber is there some more is told.
    assert!((at_stop..at_stop + 300).contains(&first), "stopped at {at_stop}, began again at {first}");

    let before = last(&below);
    gateway.set("every", "100ms");
    gateway.reload();
    below.wait(LIMIT, "the reloaded counter", |m| count(&m.payload).is_some_and(|count| count > before + 100));
    let counts: Vec<u64> = below.on("tidegate/box/flow").iter().filter_map(|message| count(&message.payload)).collect();
    assert!(counts.is_sorted(), "it went back: {counts:?}");

    gateway.kill();
    let (_below, first) = run_until(&mut gateway, at_stop + 50);
    assert!(first >= at_stop, "what a stop and a reload had written is lost: {first} after {at_stop}");
}

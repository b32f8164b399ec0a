//! Does the log stay silent while all is well, and does an outage take one line at its start and one at its end?

use std::time::Duration;

use crate::need_mosquitto;
use crate::support::{Gateway, Link, Receiver, Subscriber, Terms, wait_for};

const LIMIT: Duration = Duration::from_secs(20);
/// Normal life that has to pass without a line.
const SILENCE: Duration = Duration::from_secs(5);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[bus.port]
device = "sim:greenhouse"

[[sensor]]
id = "air"
driver = "uart"
bus = "port"
match = { json = true }
publish = { qos = 1, retain = true }

[[bridge]]
id = "cloud"
url = "@cloud@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "tidegate/box/#" } ]
"#;

/// Lines from `mark` on that are WARN or ERROR.
fn loud(gateway: &Gateway, mark: usize) -> Vec<String> {
    let lines = gateway.log().since(mark);
    lines.into_iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect()
}

#[test]
fn a_healthy_gateway_is_silent_and_an_outage_takes_one_line_at_each_end() {
    need_mosquitto!();
    let receiver = Receiver::start(Terms::default(), 51);
    let link = Link::to(receiver.port());
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &link.url())]);
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/#");
    let readings = || receiver.accepted().iter().filter(|message| message.topic == "tidegate/box/air").count();
    let more_readings = |what: &str| {
        let before = readings();
        wait_for(LIMIT, what, || if readings() > before { Ok(()) } else { Err(format!("{before} arrived")) });
    };
    more_readings("a reading above");
    assert_eq!(loud(&gateway, 0), Vec::<String>::new(), "a start without a fault");

    let mark = gateway.log().len();
    std::thread::sleep(SILENCE);
    more_readings("readings to go on");
    assert_eq!(gateway.log().since(mark), Vec::<String>::new(), "{SILENCE:?} of normal life");

    let attempts = link.opened();
    link.down();
    wait_for(LIMIT, "ten attempts to reconnect", || {
        let made = link.opened() - attempts;
        if made >= 10 { Ok(()) } else { Err(format!("{made} attempts")) }
    });
    let outage = loud(&gateway, mark);
    assert_eq!(outage.len(), 1, "ten failed attempts are one line: {outage:#?}");
    assert!(outage[0].contains("cloud"), "which bridge: {outage:?}");
    link.up();
    let told = gateway.wait_for_log(LIMIT, mark, &["INFO", "outage_ms"]);
    assert!(told.contains("cloud") && told.contains("failed"), "{told}");
    more_readings("readings after the outage");
    assert_eq!(loud(&gateway, mark), outage, "the recovery is no warning");
    let states: Vec<String> = below.on("tidegate/box/bridge/cloud").into_iter().map(|m| m.payload).collect();
    assert!(states.len() < 30, "its state is told when it changes, not at each attempt: {states:#?}");
}

//! Does the local broker tell of itself below `$SYS` what Mosquitto tells, by the same names and with the same meaning?

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::need_mosquitto;
use crate::support::mosquitto::Setup;
use crate::support::{Door, Gateway, Subscriber, publish, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
sys_interval = "1s"
"#;

/// What Mosquitto tells and the gateway does not. docs/broker.md says why of each.
const LEFT_OUT: [&str; 0] = [];

/// What the gateway tells and Mosquitto 2.0 does not, though its manual names it.
const MORE: [&str; 1] = ["messages/inflight"];

/// The figures of a broker, by their names below `$SYS/broker/`.
fn figures(observer: &Subscriber) -> BTreeMap<String, String> {
    let all = observer.received().into_iter();
    all.map(|m| (m.topic.strip_prefix("$SYS/broker/").unwrap_or(&m.topic).to_owned(), m.payload)).collect()
}

/// A client that is away with two subscriptions, a member of a shared subscription that is there, and three messages of five bytes.
fn live(door: &Door) -> Subscriber {
    let mut away = door.client("mosquitto_sub");
    away.args(["-i", "away", "-c", "-q", "1", "-t", "data/#", "-t", "more/#", "-E"]);
    assert!(away.status().unwrap().success());
    let member = Subscriber::with(door, "$share/group/data/#", &["-V", "mqttv5", "-q", "1"]);
    for _ in 0..3 {
        assert!(publish(door, "data/x", "12345", &["-q", "1"]).status.success());
    }
    member
}

#[test]
fn its_counters_have_mosquittos_names_and_meaning() {
    need_mosquitto!();
    let cloud = Setup::new().with("sys_interval 1").start();
    let mut gateway = Gateway::new(CONFIG, &[]);
    gateway.start();
    let [theirs, ours] = [cloud.door(), gateway.door()];
    let observers = [&theirs, &ours].map(|door| Subscriber::new(door, "$SYS/#"));
    let _members = [&theirs, &ours].map(live);

    // Those whose value the same clients bring to the same number, whatever the broker says of its own besides.
    let same = [
        "clients/connected",
        "clients/active",
        "clients/disconnected",
        "clients/inactive",
        "clients/total",
        "clients/expired",
        "subscriptions/count",
        "shared_subscriptions/count",
        "publish/messages/received",
        "publish/messages/dropped",
        "publish/bytes/received",
    ];
    let expected = ["2", "2", "1", "1", "3", "0", "3", "1", "3", "0", "15"];
    for (observer, whose) in observers.iter().zip(["Mosquitto", "the gateway"]) {
        wait_for(LIMIT, &format!("the figures of {whose}"), || {
            let now = figures(observer);
            let found = same.map(|name| now.get(name).map_or("none", String::as_str));
            if found == expected { Ok(()) } else { Err(format!("{:?}", same.iter().zip(found).collect::<Vec<_>>())) }
        });
    }

    let [theirs, ours] = observers.map(|observer| figures(&observer));
    assert!(theirs.len() > 40, "Mosquitto has told no more than {:?}", theirs.keys());
    let missing: Vec<_> = theirs.keys().filter(|name| !ours.contains_key(*name)).collect();
    assert_eq!(missing, LEFT_OUT, "left out");
    let more: Vec<_> = ours.keys().filter(|name| !theirs.contains_key(*name)).collect();
    assert_eq!(more, MORE);
    for (name, value) in &ours {
        let kind = |value: &str| {
            value.parse::<f64>().map_or_else(|_| value.split(' ').next_back().map(str::to_owned), |_| None)
        };
        if let Some(like) = theirs.get(name).filter(|_| name != "version") {
            assert_eq!(kind(value), kind(like), "{name}: {value} and {like}");
        }
    }

    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/broker.md")).unwrap();
    let told: BTreeSet<String> =
        ours.keys().map(|name| name.strip_suffix("/1min").unwrap_or(name).to_owned()).collect();
    let told = told.iter().filter(|name| !name.ends_with("min"));
    let unsaid: Vec<_> = told.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(unsaid.is_empty(), "docs/broker.md does not name {unsaid:?}");
}

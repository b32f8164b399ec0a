//! What does a name server that hangs or fails do to a bridge, and to its neighbour?

use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::name_server::{NAME, NameServer};
use crate::support::{Gateway, Lateness, Receiver, Terms, wait_for};

const LIMIT: Duration = Duration::from_secs(20);
/// Far above what a delivery takes, far below one `connect_timeout`.
const BAR: Duration = Duration::from_secs(1);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "named"
url = "mqtt://@name@"
client_id = "named"
connect_timeout = "3s"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#", qos = 1 } ]

[[bridge]]
id = "numbered"
url = "@numbered@"
client_id = "numbered"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#", qos = 1 } ]
"#;

fn wait_arrived(receiver: &Receiver, payload: &str) {
    wait_for(LIMIT, payload, || {
        let all = receiver.accepted();
        let found = all.iter().any(|accepted| accepted.payload == payload.as_bytes());
        if found { Ok(()) } else { Err(format!("{} others", all.len())) }
    });
}

#[test]
fn a_name_server_that_hangs_or_fails_holds_up_its_bridge_alone_and_that_comes_back() {
    let (names, late) = (NameServer::silent(), Lateness::watch());
    let [named, numbered] = [71, 72].map(|seed| Receiver::start(Terms::default(), seed));
    let name = format!("{NAME}:{}", named.port());
    let mut gateway = Gateway::new(CONFIG, &[("name", &name), ("numbered", &numbered.url())]).asking(&names);
    gateway.start();
    names.wait_asked(LIMIT);
    let mut watch = Client::connect(gateway.door().port, "watch").unwrap();
    watch.subscribe("tidegate/box/bridge/named", 0).unwrap();
    let mut wait_for_state = |parts: &[&str]| loop {
        let state = String::from_utf8(watch.next_message().unwrap().payload).unwrap();
        if parts.iter().all(|part| state.contains(part)) {
            break;
        }
    };
    let mut talker = Client::connect(gateway.door().port, "talker").unwrap();
    let mut say = |payload: &str| {
        let start = Instant::now();
        talker.publish(&[("data/x".to_owned(), 1, payload.to_owned())], 1).assert_complete(1);
        wait_arrived(&numbered, payload);
        assert!(start.elapsed() < late.widen(BAR), "{payload} by the other bridge: {:?}", start.elapsed());
    };
    say("while it hangs");
    wait_for_state(&["\"offline\"", "no connection within 3 s: the name server does not answer"]);
    say("while it still hangs");
    names.fail();
    wait_for_state(&["\"offline\"", "name `cloud.test` cannot be resolved: "]);
    say("while it fails");
    names.answer();
    wait_for_state(&["\"online\""]);
    for payload in ["while it hangs", "while it still hangs", "while it fails"] {
        wait_arrived(&named, payload);
    }
    for receiver in [&named, &numbered] {
        let arrived = receiver.accepted().iter().filter(|accepted| accepted.topic == "data/x").count();
        assert_eq!(arrived, 3, "each once");
    }
}

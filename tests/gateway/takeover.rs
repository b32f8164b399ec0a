//! Two clients with one client id throw each other out: does the bridge say so, and keep its peace?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::{Gateway, Link, Mosquitto, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

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
reconnect = { min = "200ms", max = "10s" }
out = [ { from = "data/#", qos = 1 } ]
"#;

/// A client that comes back the moment it is thrown out.
struct Rival {
    stop: Arc<AtomicBool>,
}

impl Rival {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                if let Ok(mut client) = Client::connect(port, "box") {
                    // Nothing is sent to it: this ends when it is thrown out, or after a while.
                    let _ = client.next_message();
                }
            }
        });
        Self { stop }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Mosquitto 2.0.11 closes without a word also with MQTT 5, so it is the bridge that has to guess.
fn taken_over(version: &str) {
    let cloud = Mosquitto::start();
    let link = Link::to(cloud.door().port);
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &link.url()), ("version", version)]);
    gateway.start();
    gateway.wait_for_log(LIMIT, 0, &["connected to the cloud"]);
    let mut watch = Client::connect(gateway.door().port, "watch").unwrap();
    watch.subscribe("tidegate/box/bridge/cloud", 0).unwrap();
    let rival = Rival::start(cloud.door().port);
    let asks = "3 times in a row: is `box` another client's id too?";
    gateway.wait_for_log(LIMIT, 0, &["the cloud is out of reach", asks]);
    loop {
        let state = String::from_utf8(watch.next_message().unwrap().payload).unwrap();
        if state.contains("offline") && state.contains(asks) {
            break;
        }
    }
    // The pauses lie between 0.2 s and a bound that has doubled three times and doubles on: 1.6 s, 3.2 s, 6.4 s, 10 s.
    let (opened, start) = (link.opened(), Instant::now());
    wait_for(LIMIT, "four more connections", || {
        let more = link.opened() - opened;
        if more < 4 { Err(format!("{more} so far")) } else { Ok(()) }
    });
    let took = start.elapsed();
    println!("MQTT {version}: four more connections in {took:?}");
    // Pauses that did not grow would come to 0.8 s; of those that do, one run in 20,000 comes to less than this.
    assert!(took > Duration::from_millis(1_500), "four connections in {took:?}");
    drop(rival);
}

#[test]
fn two_clients_with_one_client_id_are_told_and_do_not_chase_each_other_on_mqtt_5() {
    need_mosquitto!();
    taken_over("5");
}

#[test]
fn two_clients_with_one_client_id_are_told_and_do_not_chase_each_other_on_3_1_1() {
    need_mosquitto!();
    taken_over("3.1.1");
}

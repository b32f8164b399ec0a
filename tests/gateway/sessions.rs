//! Sessions of the local broker across kill -9 and power cuts: of what was acknowledged to publishers nothing is lost to subscribers that come and go,
//! nothing of QoS 2 is doubled, and the order holds.

use std::time::Duration;

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::crowd::{Crowd, Size, Tale};
use crate::support::{Disk, Gateway, wait_for};

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
max_queued = 1000000
"#;

const SIZE: Size = Size { subscribers: 10, publishers: 2, pace: Duration::from_millis(2) };

/// Blows while messages come in; each has had something to hit since the one before.
fn struck(gateway: &mut Gateway, blows: usize, seed: u64, mut blow: impl FnMut(&mut Gateway, &mut fastrand::Rng)) {
    let crowd = Crowd::gather(gateway.door().port, SIZE, seed);
    let mut random = fastrand::Rng::with_seed(seed);
    for n in 1..=blows {
        let before = crowd.acknowledged();
        wait_for(Duration::from_secs(60), "messages to be acknowledged", || {
            let now = crowd.acknowledged();
            if now > before + 100 { Ok(()) } else { Err(format!("{now} after {before}, blow {n}")) }
        });
        std::thread::sleep(Duration::from_millis(random.u64(0..100)));
        blow(gateway, &mut random);
    }
    let tale = crowd.settle(Duration::from_secs(30));
    println!("{tale:?}");
    assert!(tale.acknowledged > 100 * blows as u64, "{tale:?}");
    let Tale { lost, doubled, out_of_order, forgotten, .. } = tale;
    assert_eq!([lost, doubled, out_of_order, forgotten], [0; 4], "lost, doubled, out of order, sessions forgotten");
}

#[test]
fn ten_kills_lose_and_double_nothing_for_subscribers_that_come_and_go() {
    let mut gateway = Gateway::new(CONFIG, &[]);
    gateway.start();
    struck(&mut gateway, 10, 1, |gateway, _| {
        gateway.kill();
        gateway.start();
    });
}

#[test]
fn six_power_cuts_lose_and_double_nothing_for_subscribers_that_come_and_go() {
    let disk = Disk::new();
    disk.keep_shadow();
    let mut gateway = Gateway::new(CONFIG, &[]).on_disk(&disk);
    gateway.start();
    struck(&mut gateway, 6, 2, |gateway, random| {
        gateway.kill();
        let state = gateway.dir().join("state");
        if random.bool() {
            disk.cut_power(&state);
        } else {
            let eighths = random.u8(1..8);
            disk.tear_power(&state, || random.u8(..8) < eighths);
        }
        disk.keep_shadow();
        gateway.start();
    });
}

#[test]
fn ten_thousand_messages_wait_for_mosquitto_sub_across_a_kill() {
    need_mosquitto!();
    let mut gateway = Gateway::new(CONFIG, &[]);
    gateway.start();
    let port = gateway.door().port.to_string();
    let arguments = ["-p", &port, "-i", "waits", "-c", "-q", "1", "-t", "many/#"];
    let run = |more: &[&str]| {
        let output = std::process::Command::new("mosquitto_sub")
            .args(arguments)
            .args(more)
            .output()
            .expect("mosquitto_sub runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Subscribes and leaves.
    run(&["-E"]);
    let messages: Vec<_> = (1..=10_000).map(|n| (format!("many/{}", n % 10), 1, n.to_string())).collect();
    Client::connect(gateway.door().port, "producer").unwrap().publish(&messages, 200).assert_complete(10_000);
    gateway.kill();
    gateway.start();
    let text = run(&["-C", "10000", "-W", "60"]);
    let got: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(got.iter().copied().eq(1..=10_000), "{} messages, from {:?} to {:?}", got.len(), got.first(), got.last());
}

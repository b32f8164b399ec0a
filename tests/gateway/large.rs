//! Does a message of many megabytes reach many subscribers without being held once for each?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Duration;

use crate::support::Gateway;
use crate::support::client::Client;

const LIMIT: Duration = Duration::from_secs(60);
const PAYLOAD: usize = 64 << 20;
const SUBSCRIBERS: usize = 20;

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
max_packet = "65MiB"
max_retained = "1MiB"
"#;

/// A figure of the process's memory from /proc, bytes.
fn memory(gateway: &mut Gateway, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process().pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<usize>().unwrap() << 10
}

fn header(topic: &str) -> Vec<u8> {
    let mut left = 2 + topic.len() + PAYLOAD;
    let mut bytes = vec![0x30];
    while left > 0 {
        let more = left >> 7;
        bytes.push(u8::try_from(left & 0x7f).unwrap() | if more > 0 { 0x80 } else { 0 });
        left = more;
    }
    bytes.extend([0, u8::try_from(topic.len()).unwrap()]);
    bytes.extend(topic.as_bytes());
    bytes
}

#[test]
fn a_large_message_for_many_is_held_once() {
    let mut gateway = Gateway::new(CONFIG, &[]);
    gateway.start();
    let port = gateway.door().port;
    let mut subscribers: Vec<TcpStream> = (0..SUBSCRIBERS)
        .map(|n| {
            let mut client = Client::connect(port, &format!("sub-{n}")).unwrap();
            client.subscribe("large", 0).unwrap();
            client.into_stream()
        })
        .collect();
    let before = memory(&mut gateway, "VmRSS");
    let mut publisher = Client::connect(port, "pub").unwrap().into_stream();
    let block: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    publisher.write_all(&header("large")).unwrap();
    for _ in 0..PAYLOAD >> 20 {
        publisher.write_all(&block).unwrap();
    }
    // Nobody reads before everybody is being sent to: that is when it is held for all of them.
    let all_wait = Barrier::new(SUBSCRIBERS);
    std::thread::scope(|scope| {
        for stream in &mut subscribers {
            let (all_wait, block) = (&all_wait, &block);
            scope.spawn(move || {
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let expected = header("large");
                let mut head = vec![0; expected.len()];
                stream.read_exact(&mut head).unwrap();
                assert_eq!(head, expected);
                all_wait.wait();
                let mut part = vec![0; 1 << 20];
                for n in 0..PAYLOAD >> 20 {
                    stream.read_exact(&mut part).unwrap();
                    assert!(part == *block, "megabyte {n}");
                }
            });
        }
    });
    let most = memory(&mut gateway, "VmHWM") - before;
    println!("at most {} % of a payload beyond what it had", 100 * most / PAYLOAD);
    assert!(most < 2 * PAYLOAD, "{most} bytes for one payload of {PAYLOAD}");
}

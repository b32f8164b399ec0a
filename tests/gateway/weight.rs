//! Do the caps of the broker hold against messages that are large by everything but their payload?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Gateway;
use crate::support::client::Client;
use crate::support::receiver::wire::put_block;

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
max_queued = 100000
max_queued_bytes = "4MiB"
max_retained = "4MiB"
"#;

const MESSAGES: usize = 600;
/// User properties of no name and no value.
const PAIRS: usize = 2_000;
/// What both caps allow, and as much again for what a heap keeps free.
const MEMORY: u64 = 2 * (8 << 20);

/// A packet of more than 127 bytes.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_length(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

fn put_length(out: &mut Vec<u8>, mut left: usize) {
    loop {
        let low = u8::try_from(left & 0x7f).unwrap();
        left >>= 7;
        out.push(low | if left > 0 { 0x80 } else { 0 });
        if left == 0 {
            return;
        }
    }
}

/// A client of MQTT 5.
fn connect(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"\x10\x10\0\x04MQTT\x05\x02\0\0\0\0\x03pub").unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x20);
    stream.read_exact(&mut vec![0; head[1].into()]).unwrap();
    stream
}

/// Waits until the broker has taken in all that was sent.
fn ping(stream: &mut TcpStream) {
    stream.write_all(&[0xc0, 0]).unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0xd0, 0]);
}

/// Memory of the process that no file is behind.
fn memory(gateway: &mut Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process().pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn properties_without_payloads_take_no_more_memory_than_the_caps_say() {
    let mut gateway = Gateway::new(CONFIG, &[]);
    gateway.start();
    let port = gateway.door().port;
    let mut subscriber = Client::connect(port, "reads-nothing").unwrap();
    subscriber.subscribe("queued", 0).unwrap();
    let mut publisher = connect(port);
    let before = memory(&mut gateway);
    for n in 0..MESSAGES {
        for (first, topic) in [(0x30, "queued".to_owned()), (0x31, format!("retained/{n}"))] {
            let mut body = Vec::new();
            put_block(&mut body, topic.as_bytes());
            put_length(&mut body, 5 * PAIRS);
            body.extend([0x26, 0, 0, 0, 0].repeat(PAIRS));
            body.push(b'1');
            publisher.write_all(&packet(first, &body)).unwrap();
        }
    }
    ping(&mut publisher);
    let more = memory(&mut gateway).saturating_sub(before);
    println!(
        "{} KiB more for {MESSAGES} messages of {} KiB queued and as many retained",
        more >> 10,
        (5 * PAIRS) >> 10
    );
    assert!(more < MEMORY, "{more} bytes");
}

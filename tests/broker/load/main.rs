//! The load for both brokers: throughput, latency, clients that idle, a storm of clients that come and go. Standard library alone, so that the
//! compiler builds it in seconds (tests/broker/run); it prints what it measured as `name=value` words.
//!
//!     load throughput port=1883 qos=1 pairs=1 fan=1 messages=200000 size=100 keep=0
//!     load latency port=1883 qos=1 rate=1000 messages=20000 size=100
//!     load idle port=1883 clients=200
//!     load storm port=1883 clients=200 messages=1000000 topics=1000

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod mqtt;
mod storm;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mqtt::{Answer, Connection};

/// Messages under way from end to end, for each pair: less than either broker's queue holds, more than a round trip needs.
const WINDOW: u64 = 200;

/// `name=value` words from the command line.
pub(crate) struct Words(HashMap<String, u64>);

impl Words {
    pub(crate) fn get(&self, name: &str, otherwise: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(otherwise)
    }

    pub(crate) fn port(&self) -> u16 {
        self.get("port", 1883) as u16
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let words = arguments.map(|word| {
        let (name, value) = word.split_once('=').expect("name=value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    let words = Words(words.collect());
    match mode.as_str() {
        "throughput" => throughput(&words),
        "latency" => latency(&words),
        "idle" => idle(&words),
        "storm" => storm::run(&words),
        other => panic!("no load `{other}`"),
    }
}

/// How many have arrived, for the publisher to wait on.
#[derive(Default)]
struct Arrived {
    count: Mutex<u64>,
    more: Condvar,
}

impl Arrived {
    fn add(&self, more: u64) {
        if more > 0 {
            *self.count.lock().unwrap() += more;
            self.more.notify_all();
        }
    }

    /// Waits until so many have; false when nothing more came for 10 s.
    fn wait(&self, least: u64) -> bool {
        let mut count = self.count.lock().unwrap();
        while *count < least {
            let before = *count;
            let (held, waited) = self.more.wait_timeout(count, Duration::from_secs(10)).unwrap();
            count = held;
            if waited.timed_out() && *count == before {
                return false;
            }
        }
        true
    }
}

/// Publishers each with a topic and `fan` subscribers of its own. With `keep`, subscribers have sessions that stay.
fn throughput(words: &Words) {
    let (port, qos) = (words.port(), words.get("qos", 0) as u8);
    let (pairs, fan) = (words.get("pairs", 1), words.get("fan", 1));
    let (messages, keep) = (words.get("messages", 100_000) / pairs, words.get("keep", 0) == 1);
    let payload = vec![b'x'; words.get("size", 100) as usize];
    let arrived: Vec<Arc<Arrived>> = (0..pairs).map(|_| Arc::default()).collect();
    let mut subscribers = Vec::new();
    for pair in 0..pairs {
        for one in 0..fan {
            let (mut connection, _) = Connection::open(port, &format!("sub-{pair}-{one}"), !keep).unwrap();
            connection.subscribe(&format!("load/{pair}"), qos, |_| {}).unwrap();
            // The slowest counts: each tells a share, and whoever waits wants them all.
            let arrived = arrived[pair as usize].clone();
            subscribers.push(thread::spawn(move || {
                connection.patience(Duration::from_secs(10)).unwrap();
                let mut left = messages;
                while left > 0 {
                    let mut count = 0;
                    if connection.turn(|_| count += 1, |_| {}).is_err() {
                        break;
                    }
                    arrived.add(count);
                    left = left.saturating_sub(count);
                }
                let _ = connection.flush();
                left
            }));
        }
    }
    let begin = Instant::now();
    let publishers: Vec<_> = (0..pairs)
        .map(|pair| {
            let (payload, arrived) = (payload.clone(), arrived[pair as usize].clone());
            thread::spawn(move || {
                let (mut connection, _) = Connection::open(port, &format!("pub-{pair}"), true).unwrap();
                let topic = format!("load/{pair}");
                let (mut sent, mut done) = (0, if qos == 0 { u64::MAX } else { 0 });
                while sent < messages || (qos > 0 && done < messages) {
                    let batch = (WINDOW / 4).min(messages - sent);
                    if sent + batch > WINDOW && !arrived.wait((sent + batch - WINDOW) * fan) {
                        break;
                    }
                    for _ in 0..batch {
                        connection.publish(&topic, &payload, qos);
                    }
                    connection.flush().unwrap();
                    sent += batch;
                    // Acknowledgements: no more open than a quarter of the window, all of them at the end.
                    while qos > 0 && (sent - done > WINDOW / 4 || (sent == messages && done < messages)) {
                        connection.turn(|_| {}, |answer| done += u64::from(answer == Answer::Done)).unwrap();
                    }
                }
                connection
            })
        })
        .collect();
    let lost: u64 = subscribers.into_iter().map(|thread| thread.join().unwrap()).sum();
    let seconds = begin.elapsed().as_secs_f64();
    for publisher in publishers {
        publisher.join().unwrap().leave();
    }
    let total = messages * pairs;
    println!("rate={:.0} delivered={} lost={lost} seconds={seconds:.2}", total as f64 / seconds, total * fan - lost);
}

/// One publisher that keeps a rate, one subscriber; each message says when it left.
fn latency(words: &Words) {
    let (port, qos, messages) = (words.port(), words.get("qos", 0) as u8, words.get("messages", 10_000));
    let size = words.get("size", 100).max(8) as usize;
    let pause = Duration::from_nanos(1_000_000_000 / words.get("rate", 1_000));
    let zero = Instant::now();
    let (mut subscriber, _) = Connection::open(port, "latency-sub", true).unwrap();
    subscriber.subscribe("latency", qos, |_| {}).unwrap();
    let reader = thread::spawn(move || {
        let mut times = Vec::new();
        while (times.len() as u64) < messages {
            let turned = subscriber.turn(
                |message| {
                    let sent = u64::from_be_bytes(message.payload[..8].try_into().unwrap());
                    times.push(zero.elapsed().as_micros() as u64 - sent);
                },
                |_| {},
            );
            if turned.is_err() {
                break;
            }
        }
        let _ = subscriber.flush();
        times
    });
    let (mut publisher, _) = Connection::open(port, "latency-pub", true).unwrap();
    let mut payload = vec![b'x'; size];
    let begin = Instant::now();
    let mut open = 0;
    for number in 0..messages {
        let due = pause * number as u32;
        if let Some(wait) = due.checked_sub(begin.elapsed()) {
            thread::sleep(wait);
        }
        payload[..8].copy_from_slice(&(zero.elapsed().as_micros() as u64).to_be_bytes());
        publisher.publish("latency", &payload, qos);
        publisher.flush().unwrap();
        open += 1;
        // With QoS the answers are taken before the next one is due; a lag shows in the times that follow.
        while qos > 0 && open > 0 {
            publisher.turn(|_| {}, |answer| open -= u64::from(answer == Answer::Done)).unwrap();
        }
    }
    let mut times = reader.join().unwrap();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or(0);
    println!("p50={} p99={} p999={} lost={}", at(500), at(990), at(999), messages - times.len() as u64);
    publisher.leave();
}

/// Clients that are there and say nothing, until standard input ends.
fn idle(words: &Words) {
    let held: Vec<Connection> = (0..words.get("clients", 200))
        .map(|number| {
            let (mut connection, _) = Connection::open(words.port(), &format!("idle-{number}"), true).unwrap();
            connection.subscribe(&format!("idle/{number}/#"), 1, |_| {}).unwrap();
            connection
        })
        .collect();
    println!("ready={}", held.len());
    let _ = std::io::stdin().read(&mut [0]);
    held.into_iter().for_each(Connection::leave);
}

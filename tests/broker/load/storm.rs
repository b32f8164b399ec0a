//! A million messages and more over a thousand topics, for as long as it is told, while clients with filters of their own come and go; and innocent ones, who want every message of
//! their topic and are told if they lose one or their connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::Words;
use crate::mqtt::{Answer, Connection};

const PUBLISHERS: u64 = 4;
const INNOCENT: u64 = 10;
/// In flight from each publisher.
const WINDOW: u64 = 100;

pub(crate) fn run(words: &Words) {
    let (port, messages, topics) = (words.port(), words.get("messages", 1_000_000), words.get("topics", 1_000));
    let ends = Arc::new(AtomicBool::new(false));
    let visits = Arc::new(AtomicU64::new(0));
    let published: Arc<Vec<AtomicU64>> = Arc::new((0..topics).map(|_| AtomicU64::new(0)).collect());
    let innocents: Vec<_> = (0..INNOCENT)
        .map(|number| {
            let topic = number * (topics / INNOCENT);
            let (mut connection, _) = Connection::open(port, &format!("innocent-{number}"), true).unwrap();
            connection.subscribe(&format!("storm/{topic}"), 1, |_| {}).unwrap();
            let (ends, published) = (ends.clone(), published.clone());
            thread::spawn(move || innocent(connection, &published[topic as usize], &ends))
        })
        .collect();
    let churners: Vec<_> = (0..words.get("clients", 200))
        .map(|number| {
            let (ends, visits) = (ends.clone(), visits.clone());
            thread::spawn(move || churn(port, number, topics, &ends, &visits))
        })
        .collect();
    let begin = Instant::now();
    let least = Duration::from_secs(words.get("seconds", 0));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let published = published.clone();
            thread::spawn(move || publish(port, number, messages / PUBLISHERS, begin + least, &published))
        })
        .collect();
    let acknowledged: u64 = publishers.into_iter().map(|thread| thread.join().unwrap()).sum();
    let seconds = begin.elapsed().as_secs_f64();
    ends.store(true, Relaxed);
    let (mut missing, mut ended) = (0, 0);
    for thread in innocents {
        let (lost, gone) = thread.join().unwrap();
        missing += lost;
        ended += u64::from(gone);
    }
    let refused: u64 = churners.into_iter().map(|thread| thread.join().unwrap()).sum();
    let published: u64 = published.iter().map(|count| count.load(Relaxed)).sum();
    println!(
        "published={published} acknowledged={acknowledged} seconds={seconds:.1} missing={missing} ended={ended} visits={} refused={refused}",
        visits.load(Relaxed)
    );
}

/// Publishes its share at QoS 1, more of it until that moment, and counts what was acknowledged.
fn publish(port: u16, number: u64, messages: u64, until: Instant, published: &[AtomicU64]) -> u64 {
    let (mut connection, _) = Connection::open(port, &format!("storm-{number}"), true).unwrap();
    let topics = published.len() as u64;
    let payload = [b'x'; 100];
    let (mut sent, mut done) = (0, 0);
    loop {
        let goes_on = Instant::now() < until;
        if !goes_on && done >= messages.max(sent) {
            break;
        }
        while (goes_on || sent < messages) && sent - done < WINDOW {
            let topic = (sent * 7 + number) % topics;
            connection.publish(&format!("storm/{topic}"), &payload, 1);
            published[topic as usize].fetch_add(1, Relaxed);
            sent += 1;
        }
        if connection.turn(|_| {}, |answer| done += u64::from(answer == Answer::Done)).is_err() {
            break;
        }
    }
    connection.leave();
    done
}

/// Takes its topic until everything is there; how many are missing, and whether its connection ended.
fn innocent(mut connection: Connection, published: &AtomicU64, ends: &AtomicBool) -> (u64, bool) {
    let mut got = 0;
    connection.patience(Duration::from_millis(500)).unwrap();
    let mut quiet = 0;
    loop {
        match connection.turn(|_| got += 1, |_| {}) {
            Ok(()) => quiet = 0,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if ends.load(Relaxed) {
                    quiet += 1;
                }
            }
            Err(_) => return (published.load(Relaxed).saturating_sub(got), true),
        }
        if ends.load(Relaxed) && (got >= published.load(Relaxed) || quiet > 10) {
            let _ = connection.flush();
            return (published.load(Relaxed).saturating_sub(got), false);
        }
    }
}

/// Comes, subscribes to something, takes a little, and goes: politely, or not. How often it was not let in.
fn churn(port: u16, number: u64, topics: u64, ends: &AtomicBool, visits: &AtomicU64) -> u64 {
    let (mut turn, mut refused) = (0_u64, 0);
    while !ends.load(Relaxed) {
        turn += 1;
        let topic = (number * 31 + turn * 17) % topics;
        let filter = match turn % 4 {
            0 => format!("storm/{topic}/#"),
            1 => format!("+/{topic}"),
            2 => format!("$share/group/storm/{topic}"),
            _ => format!("storm/{topic}"),
        };
        let Ok((mut connection, _)) = Connection::open(port, &format!("churn-{number}"), turn % 3 > 0) else {
            refused += 1;
            continue;
        };
        let _ = connection.patience(Duration::from_millis(100));
        if connection.subscribe(&filter, (turn % 3) as u8, |_| {}).is_ok() {
            visits.fetch_add(1, Relaxed);
        }
        let until = Instant::now() + Duration::from_millis(200 + turn * 37 % 200);
        while Instant::now() < until && !ends.load(Relaxed) {
            let _ = connection.turn(|_| {}, |_| {});
        }
        if turn % 2 == 0 {
            connection.leave();
        }
    }
    refused
}

//! What becomes of a store that was damaged while nobody ran: is the gateway up at once, is the damaged file kept, does what lay outside the damage
//! arrive, and what comes after it?

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::receiver::ledger::number;
use crate::support::{Gateway, Lateness, Receiver, Terms, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
const STORED: u64 = 2_000;
/// Most records that two pages hold, which is what four kibibytes at any place can touch.
const TOUCHED: u64 = 250;

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "@cloud@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#" } ]
"#;

fn publish(gateway: &Gateway, numbers: std::ops::RangeInclusive<u64>) {
    let count = numbers.clone().count();
    let messages: Vec<_> = numbers.map(|n| ("data/x".to_owned(), 1, n.to_string())).collect();
    Client::connect(gateway.door().port, "producer").unwrap().publish(&messages, 100).assert_complete(count);
}

fn arrived(receiver: &Receiver) -> BTreeSet<u64> {
    receiver.accepted().iter().filter_map(|message| number(&message.payload)).collect()
}

/// Kills a gateway with a full store, damages its files, and holds the next start to what it promises. `least`: so many of the stored messages
/// must arrive. Returns whether the file was set aside.
fn damaged(what: &str, least: u64, spoil: impl FnOnce(&Path)) -> bool {
    let receiver = Receiver::start(Terms::default(), 1);
    receiver.treat(|treatment| treatment.away = true);
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url())]);
    gateway.start();
    publish(&gateway, 1..=STORED);
    gateway.kill();
    let state = gateway.dir().join("state");
    spoil(&state.join("outbox-cloud.db"));

    let (late, begin) = (Lateness::watch(), Instant::now());
    gateway.start();
    let mut listener = Client::connect(gateway.door().port, "listener").unwrap();
    listener.subscribe("local/#", 1).unwrap();
    let mut local = Client::connect(gateway.door().port, "local").unwrap();
    local.publish(&[("local/x".to_owned(), 1, "1".to_owned())], 1).assert_complete(1);
    assert_eq!(listener.next_message().unwrap().payload, b"1");
    let up = begin.elapsed();
    assert!(up < late.widen(Duration::from_secs(2)), "{what}: local delivery after {up:?}");

    publish(&gateway, 10_001..=10_100);
    receiver.treat(|treatment| treatment.away = false);
    let (mut old, mut new) = (0, 0);
    wait_for(LIMIT, &format!("{what}: what lay outside the damage, and what came after it"), || {
        let arrived = arrived(&receiver);
        new = arrived.range(10_001..=10_100).count();
        old = arrived.range(1..=STORED).count() as u64;
        if new == 100 && old >= least { Ok(()) } else { Err(format!("{old} old and {new} new")) }
    });
    gateway.process().assert_running();
    let quarantine = state.join("quarantine/outbox-cloud.db.1");
    println!("{what}: up after {up:?}, {old} of {STORED} arrived, set aside: {}", quarantine.exists());
    quarantine.exists()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    path.with_file_name(format!("outbox-cloud.db{suffix}"))
}

fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// Brings what is in the log into the file, as the gateway does now and then.
fn checkpoint(path: &Path) {
    let file = rusqlite::Connection::open(path).unwrap();
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

#[test]
fn a_file_of_no_length_is_set_aside_and_forwarding_goes_on() {
    assert!(damaged("zero length", 0, |path| std::fs::File::create(path).map(drop).unwrap()));
}

#[test]
fn of_a_truncated_file_the_first_part_arrives() {
    let spoil = |path: &Path| {
        checkpoint(path);
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2 + 100).unwrap();
    };
    // Half of the pages, less those that every table begins with.
    assert!(damaged("truncated", STORED / 6, spoil));
}

#[test]
fn wherever_four_kibibytes_are_overwritten_the_rest_arrives() {
    for seed in 0..6 {
        let spoil = |path: &Path| {
            checkpoint(path);
            let length = std::fs::metadata(path).unwrap().len();
            // The first page of all has its turn.
            let at = if seed == 0 { 0 } else { fastrand::Rng::with_seed(seed).u64(..length - 4096) };
            overwrite(path, at, &garbage(seed, 4096));
        };
        damaged(&format!("4 KiB overwritten, seed {seed}"), STORED - TOUCHED, spoil);
    }
}

#[test]
fn a_log_that_is_cut_short_loses_what_was_cut_and_no_more() {
    let spoil = |path: &Path| {
        let log = std::fs::OpenOptions::new().write(true).open(beside(path, "-wal")).unwrap();
        log.set_len(log.metadata().unwrap().len() * 3 / 4).unwrap();
    };
    assert!(!damaged("log truncated", STORED / 3, spoil));
}

#[test]
fn of_a_log_whose_head_is_garbage_the_rest_arrives() {
    let spoil = |path: &Path| overwrite(&beside(path, "-wal"), 0, &garbage(5, 4096));
    assert!(damaged("head of the log overwritten", STORED - TOUCHED, spoil));
}

#[test]
fn an_index_of_garbage_is_made_anew() {
    let spoil = |path: &Path| overwrite(&beside(path, "-shm"), 0, &garbage(9, 32_768));
    assert!(!damaged("index overwritten", STORED, spoil));
}

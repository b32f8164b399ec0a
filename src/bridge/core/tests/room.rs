//! `max_bytes` counts the file and the write-ahead log beside it, as they are on disk after any commit.

use std::time::Duration;

use super::super::Fault;
use super::bench::Bench;
use crate::bridge::settings::Full;
use crate::clock::Clock;
use crate::model::{Priority, Qos};
use crate::store::Condition;

/// Bytes of the file and of its log.
pub(super) fn on_disk(bench: &Bench) -> (u64, u64) {
    let size = |name| std::fs::metadata(bench.dir.path().join(name)).map_or(0, |file| file.len());
    (size("outbox-cloud.db"), size("outbox-cloud.db-wal"))
}

/// Turns until nothing is left to do at once, each of them measured. Returns the largest file with its log.
fn settle(bench: &mut Bench, largest: u64) -> u64 {
    let mut largest = largest;
    bench.clock.advance(Duration::from_millis(60));
    for _ in 0..10_000 {
        let (up, _) = bench.turn(0);
        if bench.core.is_online() {
            bench.cloud.feed(&up);
        }
        let (file, log) = on_disk(bench);
        largest = largest.max(file + log);
        if !bench.core.has_more(bench.clock.now(), 0) {
            return largest;
        }
    }
    panic!("the turns do not end");
}

/// Fills a store several times over, with cuts and acknowledgements between. Returns the largest size on disk.
fn fill(cap: u64, full: Full, sizes: &[usize], seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::with(|settings| {
        settings.outbox.max_bytes = cap;
        settings.outbox.full = full;
    });
    let (mut largest, mut offered, mut bytes) = (0, 0_u64, 0);
    while bytes < 4 * cap {
        let mut batch = 0;
        while batch < 300 << 10 && bench.core.room_for_intake() > 0 {
            let length = sizes[rng.usize(..sizes.len())];
            let qos = if rng.bool() { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
            let mut one = bench.offered(&format!("t/{}", rng.u8(..5)), &"x".repeat(length), qos);
            one.priority = Priority::at(rng.usize(2..4)).unwrap();
            bench.core.offer(one, bench.clock.now(), 0);
            (offered, batch) = (offered + 1, batch + length as u64 + 50);
        }
        largest = settle(&mut bench, largest);
        bytes += batch.max(50 << 10);
        match rng.u8(..6) {
            0 if !bench.core.is_online() => drop(bench.connect()),
            1 | 2 if bench.core.is_online() => drop(bench.exchange()),
            3 if bench.core.is_online() => bench.cut(),
            _ => {}
        }
        largest = settle(&mut bench, largest);
    }
    if !bench.core.is_online() {
        bench.connect();
    }
    for _ in 0..1_000 {
        bench.clock.advance(Duration::from_secs(2));
        bench.exchange();
        largest = settle(&mut bench, largest);
        if bench.core.is_empty() {
            break;
        }
    }
    assert!(bench.core.is_empty(), "{full:?}: {} are stuck", bench.core.queued());
    assert_eq!(bench.cloud.violations, Vec::<String>::new());
    let came = bench.cloud.arrived.len() as u64;
    assert!(came + bench.core.drops.total() >= offered, "{full:?}: of {offered} came {came}");
    largest
}

#[test]
fn file_and_log_stay_within_the_cap_whatever_comes_in() {
    let of: [(u64, &[usize]); 5] = [
        (1 << 20, &[100]),
        (1 << 20, &[2_100]),
        (1 << 20, &[30, 900, 5_000, 60_000]),
        (1 << 20, &[20, 200_000, 2_000_000]),
        (6 << 20, &[100, 3_000, 700_000]),
    ];
    for (cap, sizes) in of {
        for (seed, full) in (1..).zip([Full::DropOldest, Full::DropNewest, Full::Thin, Full::Block]) {
            let largest = fill(cap, full, sizes, seed);
            println!("{cap} {sizes:?} {full:?}: {largest}");
            assert!(largest <= cap, "{full:?}, records of {sizes:?} bytes: {largest} of {cap}");
        }
    }
}

/// Small records to the brim, and then one that is as large as one may be.
#[test]
fn a_large_record_that_comes_into_a_full_store_stays_within_the_cap() {
    for (cap, full) in [(16 << 20, Full::DropOldest), (4 << 20, Full::DropOldest), (4 << 20, Full::Block)] {
        let mut bench = Bench::with(|settings| {
            settings.outbox.max_bytes = cap;
            settings.outbox.full = full;
        });
        bench.cloud.max_packet = 16 << 20;
        let payloads = vec!["x".repeat(2_000); 250];
        let texts: Vec<&str> = payloads.iter().map(String::as_str).collect();
        let mut largest = 0;
        for _ in 0..cap / 500_000 * 2 {
            bench.store(Qos::AtLeastOnce, &texts);
            largest = settle(&mut bench, largest);
        }
        if full == Full::Block {
            bench.connect();
        }
        let large = usize::try_from(cap / 3 - 20_000).unwrap();
        bench.core.offer(bench.offered("t", &"y".repeat(large), Qos::AtLeastOnce), bench.clock.now(), 0);
        for _ in 0..1_000 {
            largest = settle(&mut bench, largest);
            if bench.core.is_online() {
                bench.exchange();
            }
            if bench.core.waiting.is_empty() && (full != Full::Block || bench.core.is_empty()) {
                break;
            }
        }
        assert!(bench.core.waiting.is_empty(), "{cap} {full:?}: it does not come in");
        largest = settle(&mut bench, largest);
        if !bench.core.is_online() {
            bench.connect();
        }
        for _ in 0..1_000 {
            bench.exchange();
            largest = settle(&mut bench, largest);
            if bench.core.is_empty() {
                break;
            }
        }
        assert!(
            bench.cloud.arrived.iter().any(|arrival| arrival.payload.len() == large),
            "{cap} {full:?}: {:?}, {} came, {} stay, stored {}",
            bench.core.drops.by_cause(),
            bench.cloud.arrived.len(),
            bench.core.queued(),
            bench.core.stored()
        );
        assert!(largest <= cap, "{full:?}: {largest} of {cap}");
    }
}

#[test]
fn a_store_that_is_to_be_smaller_becomes_so() {
    let mut bench = Bench::with(|settings| settings.outbox.max_bytes = 8 << 20);
    let store = |bench: &mut Bench| {
        let payloads = vec!["x".repeat(1_000); 500];
        let texts: Vec<&str> = payloads.iter().map(String::as_str).collect();
        bench.store(Qos::AtLeastOnce, &texts);
        settle(bench, 0)
    };
    (0..10).for_each(|_| _ = store(&mut bench));
    let mut bench = bench.reopen(|settings| settings.outbox.max_bytes = 4 << 20);
    let large = store(&mut bench);
    let mut small = large;
    for _ in 0..50 {
        bench.clock.advance(Duration::from_secs(6));
        settle(&mut bench, 0);
        small = store(&mut bench);
    }
    assert!(large > 5 << 20 && small <= 4 << 20, "from {large} to {small}");
}

#[test]
fn a_store_that_filled_its_disk_gives_the_space_back_though_more_waits_to_come_in() {
    let mut bench = Bench::new();
    let payloads = vec!["x".repeat(1_000); 500];
    let texts: Vec<&str> = payloads.iter().map(String::as_str).collect();
    (0..10).for_each(|_| bench.store(Qos::AtLeastOnce, &texts));
    bench.connect();
    for _ in 0..1_000 {
        bench.clock.advance(Duration::from_millis(60));
        bench.exchange();
        if bench.core.is_empty() {
            break;
        }
    }
    assert!(bench.core.is_empty());
    let now = bench.clock.now();
    bench.core.fault = Some(Fault {
        reason: "the disk is nearly full".into(),
        condition: Condition::Full,
        since: now,
        retry_at: now + Duration::from_secs(86_400),
        stuck: false,
    });
    bench.core.offer(bench.offered("t", "waits", Qos::AtLeastOnce), now, 0);
    let (before, _) = on_disk(&bench);
    for _ in 0..30 {
        bench.clock.advance(Duration::from_secs(6));
        bench.turn(0);
    }
    let (after, _) = on_disk(&bench);
    assert!(before > 3 << 20 && after < 300 << 10, "from {before} to {after}");
}

#[test]
fn a_reader_holds_the_log_back_for_as_long_as_it_reads_and_the_next_commits_fold_it_back() {
    const CAP: u64 = 1 << 20;
    let mut bench = Bench::with(|settings| settings.outbox.max_bytes = CAP);
    let payloads = vec!["x".repeat(1_000); 200];
    let texts: Vec<&str> = payloads.iter().map(String::as_str).collect();
    let store = |bench: &mut Bench| {
        bench.store(Qos::AtLeastOnce, &texts);
        settle(bench, 0)
    };
    (0..10).for_each(|_| _ = store(&mut bench));
    let reader = rusqlite::Connection::open(bench.dir.path().join("outbox-cloud.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM q2").unwrap();
    let beside = (0..10).map(|_| store(&mut bench)).max().unwrap();
    assert!(beside > CAP, "what comes in goes to the log, which cannot be folded back: {beside}");
    reader.execute_batch("ROLLBACK").unwrap();
    let after = (0..3).map(|_| store(&mut bench)).last().unwrap();
    assert!(after <= CAP, "{after} bytes after the reader has gone");
}

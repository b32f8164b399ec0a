//! What a record costs in a store of ten thousand, a million and ten million: `cargo test --lib scale -- --ignored --nocapture`.
//!
//! The files are in memory: on a disk a batch takes as long as its flush, whatever the work in it, and the ratios are 1 for that reason alone. A
//! machine that is busy with something else shows in them too: look at more than one run.

// It measures, beside all clocks of the program.
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss)]

use std::time::Instant;

use super::*;

/// Records taken in and sent for one figure.
const MEASURED: usize = 20_000;
/// By how much a figure may differ from that of the smallest store.
const BAR: f64 = 1.2;

/// A file with so many normal records, as a kill leaves it: what is in it has not been counted.
fn store_of(dir: &tempfile::TempDir, records: u64) -> Outbox {
    let mut outbox = outbox(dir);
    for from in (1..=records).step_by(100_000) {
        let to = (from + 99_999).min(records);
        outbox.begin().unwrap();
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) \
             INSERT INTO q2(seq, qos, retain, ts_ms, synced, topic, payload) \
             SELECT i, 1, 0, 1795396500000, 1, 'plants/gateway/sensor/value', zeroblob(100) FROM n"
        );
        outbox.run(&sql, params![]).unwrap();
        outbox.commit().unwrap();
    }
    drop(outbox);
    self::outbox(dir)
}

/// Seconds of the quickest of some openings.
fn opening(dir: &tempfile::TempDir) -> f64 {
    let once = || {
        let start = Instant::now();
        let outbox = self::outbox(dir);
        let took = start.elapsed().as_secs_f64();
        assert!(outbox.oldest().unwrap().is_some());
        took
    };
    (0..5).map(|_| once()).fold(f64::MAX, f64::min)
}

/// Seconds a record of the median batch: other programs and checkpoints fall into few of them.
fn median(batches: usize, records: usize, mut batch: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..batches)
        .map(|_| {
            let start = Instant::now();
            batch();
            start.elapsed().as_secs_f64() / records as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Taken in by 256 a commit.
fn intake(outbox: &mut Outbox) -> f64 {
    median(MEASURED / 256, 256, || {
        outbox.begin().unwrap();
        for _ in 0..256 {
            outbox.push(new(&[0; 100], at(1_000))).unwrap();
        }
        outbox.commit().unwrap();
    })
}

/// Sent and taken by the cloud by 100 a commit, oldest first.
fn drain(outbox: &mut Outbox) -> f64 {
    let mut cursor = Seq(0);
    median(MEASURED / 100, 100, || {
        outbox.begin().unwrap();
        let records = outbox.between(NORMAL, (cursor, Seq(u64::MAX)), 100, usize::MAX).unwrap();
        for (pkid, record) in (1..).zip(&records) {
            outbox.claim(&claim(pkid, record.seq, Stage::Publish)).unwrap();
            cursor = record.seq;
        }
        outbox.commit().unwrap();
        outbox.begin().unwrap();
        for (pkid, record) in (1..).zip(&records) {
            outbox.finish(pkid, NORMAL, record.seq).unwrap();
        }
        outbox.commit().unwrap();
    })
}

#[test]
#[ignore = "takes two gigabytes of memory: `tests/proof/run 12-scale` runs it"]
fn a_record_costs_in_ten_million_what_it_costs_in_ten_thousand() {
    let sizes: Vec<u64> = std::env::var("SCALE").map_or(vec![10_000, 1_000_000, 10_000_000], |text| {
        text.split(',').map(|size| size.parse().unwrap()).collect()
    });
    let mut first: Option<[f64; 3]> = None;
    let mut over = Vec::new();
    for size in sizes {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let mut outbox = store_of(&dir, size);
        let known = outbox.count();
        let figures = {
            let (taken, sent) = (intake(&mut outbox), drain(&mut outbox));
            drop(outbox);
            [opening(&dir), taken, sent]
        };
        let base = *first.get_or_insert(figures);
        for ((what, figure), base) in ["open", "take in", "send"].into_iter().zip(figures).zip(base) {
            println!("{size:>9} records: {what:<8} {:>9.1} µs, {:.2} times", figure * 1e6, figure / base);
            if figure > BAR * base {
                over.push((size, what));
            }
        }
        assert!(known <= size, "{known}");
    }
    assert!(over.is_empty(), "more than {BAR} times the smallest: {over:?}");
}

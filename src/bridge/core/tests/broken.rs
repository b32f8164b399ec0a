//! A store that cannot be written, opened or read.

use std::sync::Arc;
use std::time::Duration;

use super::super::Core;
use super::bench::Bench;
use super::settings;
use crate::clock::Clock;
use crate::limits::STORE_RETRY;
use crate::model::Qos;
use crate::store::StoreError;

#[test]
fn a_store_that_fails_is_tried_again_after_its_pause_and_not_before() {
    let mut bench = Bench::with(|settings| settings.outbox.max_age = Some(Duration::from_secs(3_600)));
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    bench.core.offer(bench.offered("t", "1", Qos::AtLeastOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    while bench.core.has_more(bench.clock.now(), 0) {
        bench.turn(0);
    }
    assert!(bench.core.fault().is_some());
    let wait = bench.core.poll_timeout().unwrap().since(bench.clock.now());
    assert!(wait > STORE_RETRY / 2, "due in {wait:?}");
}

/// The bench after a kill, with something done to its file in between.
fn spoiled(mut bench: Bench, sql: &str) -> Bench {
    // The core holds the file's lock.
    bench.core.outbox = None;
    let file = rusqlite::Connection::open(bench.dir.path().join("outbox-cloud.db")).unwrap();
    file.execute_batch(sql).unwrap();
    drop(file);
    bench.reopen(|_| ())
}

#[test]
fn a_row_that_cannot_be_read_sets_the_store_aside_and_the_bridge_goes_on() {
    let spoils = [
        "UPDATE q SET topic = CAST(x'ff' AS TEXT)",
        "UPDATE q SET ts_ms = 'long ago'",
        "UPDATE q SET payload = 'text'",
        "INSERT INTO inflight(pkid, seq, st) SELECT 70000, seq, 0 FROM q",
        "INSERT INTO inflight(pkid, seq, st) SELECT 7, seq, 300 FROM q",
        "INSERT INTO rx_q2(pkid) VALUES (-1)",
    ];
    for spoil in spoils {
        let mut bench = Bench::new();
        bench.store(Qos::AtLeastOnce, &["unreadable"]);
        let mut bench = spoiled(bench, spoil);
        if bench.connect().is_some() {
            bench.cut();
            bench.connect();
        }
        bench.core.offer(bench.offered("t", "new", Qos::AtLeastOnce), bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        bench.exchange();
        assert_eq!(bench.arrived(), ["new"], "{spoil}");
        assert_eq!((bench.events("store-quarantined").len(), bench.core.fault()), (1, None), "{spoil}");
    }
}

#[test]
fn a_disk_that_is_full_at_start_delays_the_bridge_and_does_not_end_it() {
    let mut bench = Bench::new();
    bench.store(Qos::AtLeastOnce, &["stored"]);
    let full =
        StoreError::Sqlite(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None));
    assert!(full.may_pass());
    let settings = Arc::new(settings(bench.dir.path()));
    bench.core = Core::new(&settings, Err(full), &bench.clock);
    bench.turn(0);
    assert!(!bench.core.has_store());
    assert!(bench.core.fault().is_some());
    assert_eq!(bench.events("store-fault").len(), 1);
    bench.clock.advance(STORE_RETRY);
    bench.turn(0);
    assert_eq!((bench.core.fault(), bench.core.queued()), (None, 1));
    bench.connect();
    assert_eq!(bench.arrived(), ["stored"]);
}

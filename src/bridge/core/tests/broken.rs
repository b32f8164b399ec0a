//! A store that cannot be written, opened or read.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Close, Core, QOS2_OF};
use super::bench::Bench;
use super::settings;
use crate::clock::Clock;
use crate::limits::{DISK_LOOK, DOWN_WAITING_BYTES, STORE_RETRY};
use crate::model::Qos;
use crate::store::{Condition, StoreError};

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
        "UPDATE q2 SET topic = CAST(x'ff' AS TEXT)",
        "UPDATE q2 SET ts_ms = 'long ago'",
        "UPDATE q2 SET payload = 'text'",
        "UPDATE q2 SET rule = -1",
        "INSERT INTO inflight(pkid, class, seq, st, n) SELECT 70000, 2, seq, 0, 1 FROM q2",
        "INSERT INTO inflight(pkid, class, seq, st, n) SELECT 7, 2, seq, 300, 1 FROM q2",
        "INSERT INTO inflight(pkid, class, seq, st, n) SELECT 7, 4, seq, 0, 1 FROM q2",
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
        // The record itself is whole where something else was spoiled: then it is brought over.
        let arrived: &[&str] = if spoil.starts_with("UPDATE q2") { &["new"] } else { &["unreadable", "new"] };
        assert_eq!(bench.arrived(), arrived, "{spoil}");
        assert_eq!((bench.events("store-quarantined").len(), bench.core.fault()), (1, None), "{spoil}");
    }
}

/// A later version's file, with the message of this version's still in it.
fn of_a_later_version(bench: &Bench, version: u32) {
    let file = rusqlite::Connection::open(bench.dir.path().join("outbox-cloud.db")).unwrap();
    file.pragma_update(None, "user_version", version).unwrap();
}

#[test]
fn a_store_of_a_later_version_keeps_the_bridge_offline_until_it_is_replaced() {
    let mut bench = Bench::new();
    bench.store(Qos::AtLeastOnce, &["stored"]);
    bench.core.outbox = None;
    of_a_later_version(&bench, 99);
    let mut bench = bench.reopen(|_| ());
    bench.turn(0);
    assert_eq!((bench.core.has_store(), bench.core.condition()), (false, Condition::Foreign));
    assert!(bench.core.fault().is_some_and(|reason| reason.contains("version 99")), "{:?}", bench.core.fault());
    bench.clock.advance(STORE_RETRY);
    bench.turn(0);
    assert_eq!(bench.events("store-fault").len(), 1, "told once: {:?}", bench.events("store-fault"));

    of_a_later_version(&bench, 5);
    bench.core.missed(3, 2);
    bench.clock.advance(STORE_RETRY);
    bench.turn(0);
    assert_eq!((bench.core.has_store(), bench.core.condition()), (true, Condition::Ok));
    let recovered = bench.events("store-recovered");
    let words = r#""state":"foreign","duration_ms":10000,"dropped":3,"refused":2"#;
    assert!(recovered.len() == 1 && recovered[0].contains(words), "{recovered:?}");
    assert_eq!(bench.core.store().faults, 1);
    bench.connect();
    assert_eq!(bench.arrived(), ["stored"]);
}

#[test]
fn a_file_that_vanishes_takes_nothing_new_and_drains_and_a_new_one_follows() {
    let mut bench = Bench::new();
    bench.store(Qos::AtLeastOnce, &["stored"]);
    std::fs::remove_file(bench.dir.path().join("outbox-cloud.db")).unwrap();
    bench.clock.advance(DISK_LOOK);
    bench.store(Qos::AtLeastOnce, &["later"]);
    assert_eq!(bench.core.condition(), Condition::Inaccessible, "{:?}", bench.core.fault());
    bench.connect();
    assert_eq!(bench.arrived(), ["stored"]);
    for _ in 0..3 {
        bench.clock.advance(STORE_RETRY);
        if bench.exchange().is_some() {
            bench.cut();
            bench.connect();
        }
    }
    assert_eq!((bench.core.condition(), bench.arrived()), (Condition::Ok, vec!["stored".into(), "later".into()]));
    assert!(bench.dir.path().join("outbox-cloud.db").exists());
}

#[test]
fn a_disk_that_is_full_at_start_delays_the_bridge_and_does_not_end_it() {
    let mut bench = Bench::new();
    bench.store(Qos::AtLeastOnce, &["stored"]);
    let full =
        StoreError::Sqlite(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None));
    assert_eq!(full.condition(), Condition::Full);
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

/// A bench that is online with a store that cannot commit, and a message of the cloud that waits for just that.
fn unable_to_commit() -> Bench {
    let mut bench = Bench::new();
    bench.connect();
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    bench.cloud.send("down/first", b"1", Qos::ExactlyOnce, 1, false);
    hear(&mut bench);
    assert!(bench.core.fault().is_some());
    bench
}

/// The core takes in what the cloud has said, and the cloud what it answers.
fn hear(bench: &mut Bench) -> Option<Close> {
    let down = bench.cloud.output.split();
    bench.core.receive(&down, bench.clock.now(), bench.clock.wall()).unwrap();
    let (up, close) = bench.turn(0);
    bench.cloud.feed(&up);
    close
}

#[test]
fn what_comes_down_waits_for_a_commit_within_bounds_and_the_link_is_not_held_to_be_dead_meanwhile() {
    let mut bench = unable_to_commit();
    let payload = "x".repeat(1_000);
    let mut sent = 0;
    while bench.core.listens() {
        sent += 1;
        assert!(sent * payload.len() <= DOWN_WAITING_BYTES, "{sent} messages wait");
        bench.cloud.send(&format!("down/{sent}"), payload.as_bytes(), Qos::AtMostOnce, 0, false);
        hear(&mut bench);
    }
    assert!(sent > 500 && bench.local.iter().all(|message| !message.topic.as_str().starts_with("local/")));
    let mut pings = 0;
    for _ in 0..300 {
        bench.clock.advance(Duration::from_secs(1));
        let (up, close) = bench.turn(0);
        assert_eq!(close, None, "its answers are there, and unread");
        if !up.is_empty() {
            pings += 1;
            bench.core.sent(bench.clock.now());
        }
        assert!(!bench.core.listens());
    }
    assert!(pings > 5, "the cloud hears of us: {pings} pings");
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    bench.clock.advance(STORE_RETRY);
    assert_eq!(bench.exchange(), None);
    assert!(bench.core.listens());
    let told = bench.local.iter().filter(|message| message.topic.as_str().starts_with("local/")).count();
    assert_eq!(told, sent + 1, "and nothing is lost");
}

#[test]
fn qos_0_goes_out_at_once_while_nothing_can_be_committed() {
    let mut bench = unable_to_commit();
    bench.core.offer(bench.offered("t", "now", Qos::AtMostOnce), bench.clock.now(), 0);
    let (up, _) = bench.turn(0);
    bench.cloud.feed(&up);
    assert!(bench.core.fault().is_some());
    assert_eq!(bench.arrived(), ["now"]);
}

#[test]
fn a_cloud_that_says_connack_while_the_store_cannot_note_it_is_not_waited_for_any_longer() {
    let mut bench = Bench::new();
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    bench.connect();
    assert_eq!((bench.core.is_greeting(), bench.core.is_online()), (false, false));
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    bench.clock.advance(STORE_RETRY);
    assert_eq!(bench.exchange(), None);
    assert!(bench.core.is_online());
}

#[test]
fn a_new_store_notes_that_the_cloud_has_qos_2() {
    let mut bench = Bench::new();
    bench.store(Qos::ExactlyOnce, &["1"]);
    bench.connect();
    bench.cut();
    bench.core.outbox = None;
    std::fs::remove_file(bench.dir.path().join("outbox-cloud.db")).unwrap();
    assert!(bench.core.reopen(bench.clock.now(), bench.clock.wall()));
    bench.store(Qos::ExactlyOnce, &["2"]);
    let noted = bench.core.outbox.as_ref().unwrap().meta(QOS2_OF).unwrap();
    assert!(noted.is_some());
}

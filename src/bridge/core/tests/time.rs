//! A clock that is set while records wait, one that is stepped, and a machine that starts anew.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Core, Ended};
use super::bench::Bench;
use super::settings;
use crate::bridge::intake::Offered;
use crate::clock::{Clock, FakeClock};
use crate::logic::restamp;
use crate::model::{Message, Moment, Origin, Properties, Qos, Timestamp};
use crate::mqtt::client::Version;

const HOUR_MS: i64 = 3_600_000;
/// The time when every bench begins, at a monotonic hour.
const START_MS: i64 = 1_795_396_500_000;

/// The true time of this boot: what the bench's clock would show had nobody touched it.
fn true_ms(now: Moment) -> i64 {
    START_MS - HOUR_MS + i64::try_from(now.since_start().as_millis()).unwrap()
}

/// Makes the clock one that is not set, and wrong by so much.
fn unset(clock: &FakeClock, wrong_by_ms: i64) {
    clock.set_wall(Timestamp { unix_ms: true_ms(clock.now()) + wrong_by_ms, synced: false, at: None });
}

/// NTP sets the clock.
fn set(clock: &FakeClock) {
    clock.set_wall(Timestamp { unix_ms: true_ms(clock.now()), synced: true, at: None });
}

/// A reading made now, as a route would write it, with a number.
fn reading(bench: &Bench, n: u64, qos: Qos) -> Offered {
    let at = bench.clock.wall();
    let text = restamp::object(at, serde_json::Map::from_iter([("n".to_owned(), n.into())]));
    let mut offered = bench.offered("t", &text, qos);
    offered.message = Arc::new((*offered.message).clone().stamped(at));
    offered
}

/// Stores readings with these numbers, ten seconds apart, and tells when they were made.
fn measure(bench: &mut Bench, numbers: std::ops::Range<u64>) -> Vec<Moment> {
    let qos = [Qos::AtLeastOnce, Qos::ExactlyOnce];
    let mut made = Vec::new();
    for (n, qos) in numbers.zip(qos.into_iter().cycle()) {
        bench.clock.advance(Duration::from_millis(10_003));
        made.push(bench.clock.now());
        let offered = reading(bench, n, qos);
        bench.core.offer(offered, bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        bench.turn(0);
    }
    made
}

/// What arrived, parsed: number, time in milliseconds, and whether it is marked.
fn arrived(bench: &Bench) -> Vec<(u64, i64, bool)> {
    let payloads = bench.arrived().into_iter().map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
    let told = payloads.map(|told| {
        let time: jiff::Timestamp = told["ts"].as_str().unwrap().parse().unwrap();
        (told["n"].as_u64().unwrap(), time.as_millisecond(), told.get("tq").is_some_and(|mark| mark == "unsynced"))
    });
    told.collect()
}

fn assert_true(bench: &Bench, made: &[Moment]) {
    let arrived = arrived(bench);
    assert_eq!(arrived.len(), made.len());
    for ((n, time_ms, marked), made) in arrived.into_iter().zip(made) {
        let off_by_ms = time_ms - true_ms(*made);
        assert!(off_by_ms.abs() <= 5 && !marked, "number {n} is off by {off_by_ms} ms, marked: {marked}");
    }
}

fn connect(bench: &mut Bench) {
    while bench.connect().is_some() {
        bench.cut();
    }
}

#[test]
fn records_that_wait_get_their_true_time_when_the_clock_is_set_an_hour_forward_or_back() {
    for (version, wrong_by_ms) in [Version::V311, Version::V5].into_iter().zip([-HOUR_MS, HOUR_MS]) {
        let mut bench = Bench::new();
        bench.version = version;
        unset(&bench.clock, wrong_by_ms);
        let made = measure(&mut bench, 0..20);
        set(&bench.clock);
        connect(&mut bench);
        assert_true(&bench, &made);
        assert!(bench.core.is_empty());
    }
}

#[test]
fn they_do_when_the_process_was_killed_between_measuring_and_setting_and_again_before_sending() {
    let mut bench = Bench::new();
    unset(&bench.clock, -HOUR_MS);
    let made = measure(&mut bench, 0..6);
    let mut bench = bench.reopen(|_| ());
    set(&bench.clock);
    bench.turn(0);
    let mut bench = bench.reopen(|_| ());
    connect(&mut bench);
    assert_true(&bench, &made);
}

#[test]
fn they_do_after_a_restart_of_the_machine_if_the_clock_was_set_before_it() {
    let mut bench = Bench::new();
    unset(&bench.clock, -HOUR_MS);
    let made = measure(&mut bench, 0..6);
    set(&bench.clock);
    // The cloud is away; the engine wakes at least once a minute.
    bench.turn(0);
    bench.clock.reboot();
    unset(&bench.clock, -HOUR_MS);
    let mut bench = bench.reopen(|_| ());
    connect(&mut bench);
    assert_true(&bench, &made);
}

#[test]
fn records_of_an_earlier_boot_whose_clock_was_never_set_stay_as_they_are() {
    let mut bench = Bench::new();
    unset(&bench.clock, -HOUR_MS);
    let made = measure(&mut bench, 0..3);
    bench.clock.reboot();
    let mut bench = bench.reopen(|_| ());
    unset(&bench.clock, -HOUR_MS);
    measure(&mut bench, 3..6);
    set(&bench.clock);
    connect(&mut bench);
    let arrived = arrived(&bench);
    for ((_, time_ms, marked), made) in arrived[..3].iter().zip(made) {
        assert_eq!((*time_ms, *marked), (true_ms(made) - HOUR_MS, true));
    }
    assert_eq!(arrived[3..].iter().map(|told| told.2).collect::<Vec<_>>(), [false; 3], "those of this boot are mended");
}

/// A bench whose records 0 and 1, of QoS 1 and 2, are in flight with a time by an unset clock while 2 and 3 wait behind them.
fn in_flight() -> Bench {
    let mut bench = Bench::with(|settings| settings.window = 2);
    unset(&bench.clock, -HOUR_MS);
    connect(&mut bench);
    for (n, qos) in [Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter().cycle().take(4).enumerate() {
        let offered = reading(&bench, n as u64, qos);
        bench.core.offer(offered, bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        // What the cloud answers stays on its way.
        let (up, _) = bench.turn(0);
        bench.cloud.feed(&up);
    }
    assert_eq!(arrived(&bench).iter().map(|told| told.2).collect::<Vec<_>>(), [true; 2]);
    bench
}

#[test]
fn a_record_in_flight_when_the_clock_is_set_is_said_again_byte_for_byte() {
    let mut killed = in_flight();
    set(&killed.clock);
    killed.turn(0);
    let mut cut = in_flight();
    set(&cut.clock);
    cut.cut();
    for mut bench in [killed.reopen(|settings| settings.window = 2), cut] {
        let first = bench.arrived();
        connect(&mut bench);
        assert_eq!(
            bench.cloud.violations,
            Vec::<String>::new(),
            "what QoS 2 says under one packet id is compared there"
        );
        let payloads = bench.arrived();
        assert_eq!(payloads[2], first[0], "QoS 1 is told twice, in the same words");
        assert_eq!(arrived(&bench).iter().map(|told| told.2).collect::<Vec<_>>(), [true, true, true, false, false]);
    }
}

#[test]
fn it_is_said_again_in_the_same_words_also_when_the_cloud_forgot_the_session() {
    let mut bench = in_flight();
    let first = bench.arrived();
    set(&bench.clock);
    bench.core.disconnected(Ended::Here);
    bench.cloud.forget();
    connect(&mut bench);
    assert_eq!(bench.arrived()[2..4], first);
    assert_eq!(arrived(&bench)[4..].iter().map(|told| told.2).collect::<Vec<_>>(), [false; 2], "what waited is mended");
}

#[test]
fn a_record_that_was_mended_and_sent_is_said_again_byte_for_byte_though_the_clock_is_stepped() {
    let mut bench = Bench::new();
    unset(&bench.clock, -HOUR_MS);
    measure(&mut bench, 0..1);
    set(&bench.clock);
    connect(&mut bench);
    bench.cloud.output.clear();
    let first = bench.arrived();
    bench.cut();
    let mut bench = bench.reopen(|_| ());
    bench.clock.set_wall(Timestamp { unix_ms: true_ms(bench.clock.now()) + HOUR_MS, synced: true, at: None });
    connect(&mut bench);
    assert!(bench.arrived().iter().all(|payload| *payload == first[0]), "{:?}", bench.arrived());
}

#[test]
fn a_step_of_a_clock_that_was_set_rewrites_nothing() {
    for step_ms in [-HOUR_MS, HOUR_MS] {
        let mut bench = Bench::new();
        let made = measure(&mut bench, 0..6);
        let wall_ms = true_ms(bench.clock.now()) + step_ms;
        for synced in [false, true] {
            bench.clock.set_wall(Timestamp { unix_ms: wall_ms, synced, at: None });
            bench.turn(0);
        }
        connect(&mut bench);
        let times: Vec<i64> = arrived(&bench).iter().map(|told| told.1).collect();
        assert_eq!(times, made.into_iter().map(true_ms).collect::<Vec<_>>());
    }
}

#[test]
fn a_client_s_payload_is_never_touched_though_it_looks_like_ours() {
    let mut bench = Bench::new();
    unset(&bench.clock, -HOUR_MS);
    let text = restamp::object(bench.clock.wall(), serde_json::Map::new());
    bench.store(Qos::AtLeastOnce, &[&text, "21.5"]);
    set(&bench.clock);
    connect(&mut bench);
    assert_eq!(bench.arrived(), [text.as_str(), "21.5"]);
}

#[test]
fn a_commit_that_fails_leaves_nothing_half_mended() {
    let mut bench = Bench::new();
    unset(&bench.clock, -HOUR_MS);
    let made = measure(&mut bench, 0..6);
    set(&bench.clock);
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    bench.connect();
    assert!(bench.core.fault().is_some() && bench.cloud.arrived.is_empty());
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    bench.clock.advance(Duration::from_secs(6));
    bench.exchange();
    assert_true(&bench, &made);
}

#[test]
fn an_age_is_counted_by_the_monotonic_clock_while_the_other_is_not_set() {
    let mut bench = Bench::with(|settings| settings.outbox.max_age = Some(Duration::from_secs(3_600)));
    unset(&bench.clock, -24 * HOUR_MS);
    bench.store(Qos::AtLeastOnce, &["swept", "swept too"]);
    bench.clock.advance(Duration::from_secs(3_601));
    bench.store(Qos::AtLeastOnce, &["young"]);
    assert_eq!((bench.core.queued(), bench.core.drops.total()), (1, 2), "the sweep drops what is old by itself");
    bench.clock.advance(Duration::from_secs(3_601));
    bench.store(Qos::AtLeastOnce, &["new"]);
    connect(&mut bench);
    assert_eq!(bench.arrived(), ["new"]);
    let events = bench.events("dropped");
    assert!(events[0].contains(r#""cause":"age","count":2,"seq":[1,2]"#), "{events:?}");
    assert!(events[0].ends_with(r#""time_tq":"unsynced"}"#), "{events:?}");
}

#[test]
fn drops_are_told_with_their_true_times_once_the_clock_is_set() {
    let mut bench = Bench::with(|settings| settings.outbox.max_age = Some(Duration::from_secs(3_600)));
    unset(&bench.clock, -24 * HOUR_MS);
    let made = true_ms(bench.clock.now());
    bench.store(Qos::AtLeastOnce, &["old"]);
    bench.clock.advance(Duration::from_secs(3_000));
    set(&bench.clock);
    bench.turn(0);
    assert_eq!(bench.core.drops.total(), 0, "a clock that is set a day forward makes nothing a day older");
    bench.clock.advance(Duration::from_secs(601));
    bench.turn(0);
    let time = crate::model::time::rfc3339(made);
    let events = bench.events("dropped");
    assert!(events[0].ends_with(&format!(r#""time":["{time}","{time}"]}}"#)), "{events:?}");
}

#[test]
fn a_message_s_life_is_counted_from_when_it_came_whatever_the_clock_showed_then() {
    for wrong_by_ms in [-24 * HOUR_MS, 24 * HOUR_MS] {
        for set_before_sending in [true, false] {
            let mut bench = Bench::new();
            unset(&bench.clock, wrong_by_ms);
            for (payload, expiry_s) in [("short", 5), ("long", 100)] {
                let mut offered = bench.offered("t", payload, Qos::AtLeastOnce);
                let properties = Properties { expiry_s: Some(expiry_s), ..Properties::default() };
                let (origin, properties) = (Origin::Client, Some(Arc::new(properties)));
                offered.message = Arc::new(Message { origin, properties, ..(*offered.message).clone() });
                bench.core.offer(offered, bench.clock.now(), 0);
            }
            bench.clock.advance(Duration::from_millis(60));
            bench.turn(0);
            bench.clock.advance(Duration::from_secs(30));
            if set_before_sending {
                set(&bench.clock);
            }
            connect(&mut bench);
            assert_eq!((bench.arrived(), bench.cloud.expiry_s.clone()), (vec!["long".to_owned()], vec![Some(69)]));
        }
    }
}

#[test]
fn what_is_said_again_has_no_more_life_than_is_left_and_never_none() {
    let mut bench = Bench::with(|settings| settings.inward.clear());
    let mut offered = bench.offered("t", "1", Qos::ExactlyOnce);
    let properties = Some(Arc::new(Properties { expiry_s: Some(100), ..Properties::default() }));
    offered.message = Arc::new(Message { origin: Origin::Client, properties, ..(*offered.message).clone() });
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    bench.turn(0);
    bench.connect_without_reading();
    for _ in 0..2 {
        // Its answers never come.
        bench.cut();
        bench.clock.advance(Duration::from_secs(60));
        bench.connect_without_reading();
    }
    assert_eq!(bench.cloud.expiry_s, [Some(99), Some(39), Some(1)]);
}

#[test]
fn a_store_of_the_first_version_opens_and_drains_as_it_was() {
    let mut bench = Bench::new();
    bench.core.outbox = None;
    let path = bench.dir.path().join("outbox-cloud.db");
    std::fs::remove_file(&path).unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(concat!(
        include_str!("../../../store/migrations/base.sql"),
        include_str!("../../../store/migrations/outbox_0001.sql"),
        "PRAGMA user_version = 2; PRAGMA application_id = 0x54476F62; PRAGMA journal_mode = WAL;",
        "INSERT INTO q VALUES (1, 1, 0, 1795396500000, 1, NULL, 't', NULL, CAST('21.5' AS BLOB));",
        r#"INSERT INTO q VALUES (2, 2, 0, 20000, 0, NULL, 't', NULL,
           CAST('{"ts":"1970-01-01T00:00:20.000Z","n":7,"tq":"unsynced"}' AS BLOB));"#,
        "INSERT INTO q VALUES (3, 1, 0, 20000, 0, 30000, 't', NULL, CAST('22' AS BLOB));",
    ))
    .unwrap();
    drop(file);
    let old = Arc::new(settings(bench.dir.path()));
    bench.core = Core::open(&old, &bench.clock).unwrap();
    assert_eq!(bench.core.queued(), 3);
    connect(&mut bench);
    assert_eq!(bench.arrived(), ["21.5", r#"{"ts":"1970-01-01T00:00:20.000Z","n":7,"tq":"unsynced"}"#, "22"]);
    assert!(bench.core.is_empty() && bench.core.fault().is_none());
    assert_eq!(bench.events("store-quarantined"), Vec::<String>::new());
}

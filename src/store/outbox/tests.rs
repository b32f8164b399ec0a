use super::*;
use crate::logic::flight::{Claim, Stage};

mod counts;
mod dead;
mod durability;
mod scale;

const NORMAL: Priority = Priority::Normal;
const ALL: (Seq, Seq) = (Seq(0), Seq(u64::MAX));

fn outbox(dir: &tempfile::TempDir) -> Outbox {
    Outbox::open(&dir.path().join("outbox-cloud.db"), BootId::new([1; 16])).unwrap().0
}

fn new(payload: &[u8], accepted: Timestamp) -> NewRecord<'_> {
    NewRecord {
        priority: NORMAL,
        rule: None,
        topic: "t",
        payload,
        qos: Qos::ExactlyOnce,
        retain: false,
        accepted,
        expires_ms: None,
        properties: None,
        stamp: None,
    }
}

fn at(unix_ms: i64) -> Timestamp {
    Timestamp { unix_ms, synced: true, at: None }
}

/// On the wire as the `seq`th of all.
fn claim(pkid: u16, seq: Seq, stage: Stage) -> Claim {
    Claim { pkid, priority: NORMAL, seq, qos: Qos::ExactlyOnce, stage, bytes: 2, nth: seq.0 }
}

/// Commits `count` records, accepted at 1,000 ms, 2,000 ms, and so on.
fn fill(outbox: &mut Outbox, count: i64) {
    outbox.begin().unwrap();
    for n in 1..=count {
        outbox.push(new(n.to_string().as_bytes(), at(n * 1_000))).unwrap();
    }
    outbox.commit().unwrap();
}

fn seqs(outbox: &Outbox) -> Vec<u64> {
    outbox.between(NORMAL, ALL, 1_000, usize::MAX).unwrap().iter().map(|record| record.seq.0).collect()
}

#[test]
fn a_record_comes_back_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    let accepted = unset(7, 20);
    let stamp = Some(Moment::at(Duration::from_secs(15)));
    let block = [5, 2, 0, 0, 0, 60];
    outbox.begin().unwrap();
    let seq = outbox
        .push(NewRecord {
            rule: Some(RuleId(u32::MAX)),
            topic: "up/über",
            retain: true,
            expires_ms: Some(60_007),
            properties: Some(&block),
            stamp,
            ..new(b"21.5", accepted)
        })
        .unwrap();
    outbox.commit().unwrap();
    let expected = Record {
        seq,
        priority: NORMAL,
        rule: Some(RuleId(u32::MAX)),
        topic: "up/über".into(),
        payload: b"21.5".to_vec(),
        qos: Qos::ExactlyOnce,
        retain: true,
        accepted,
        expires_ms: Some(60_007),
        properties: Some(block.to_vec()),
        stamp,
    };
    assert_eq!(outbox.between(NORMAL, ALL, 10, usize::MAX).unwrap(), std::slice::from_ref(&expected));
    assert_eq!(outbox.record(NORMAL, seq).unwrap(), Some(expected));
    assert_eq!(outbox.record(NORMAL, Seq(99)).unwrap(), None);
}

#[test]
fn a_read_stops_at_its_size_but_never_at_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    fill(&mut outbox, 5);
    let read = |limit, bytes| outbox.between(NORMAL, (Seq(1), Seq(u64::MAX)), limit, bytes).unwrap().len();
    assert_eq!([read(10, usize::MAX), read(2, usize::MAX), read(10, 3), read(10, 0)], [4, 2, 2, 1]);
}

#[test]
fn a_number_is_never_used_twice_though_its_record_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    for orderly in [false, true] {
        let mut outbox = outbox(&dir);
        fill(&mut outbox, 3);
        let used = seqs(&outbox);
        outbox.begin().unwrap();
        for seq in &used {
            outbox.remove(NORMAL, Seq(*seq)).unwrap();
        }
        outbox.commit().unwrap();
        if orderly {
            outbox.close().unwrap();
        } else {
            drop(outbox);
        }
        let mut outbox = self::outbox(&dir);
        assert_eq!(outbox.count(), 0);
        fill(&mut outbox, 1);
        let fresh = seqs(&outbox)[0];
        assert!(fresh > used[2], "{fresh} after {used:?}");
        outbox.begin().unwrap();
        outbox.remove(NORMAL, Seq(fresh)).unwrap();
        outbox.commit().unwrap();
    }
}

#[test]
fn a_rolled_back_change_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    fill(&mut outbox, 2);
    outbox.begin().unwrap();
    outbox.push(new(b"gone", at(0))).unwrap();
    outbox.finish(1, NORMAL, Seq(1)).unwrap();
    outbox.rollback();
    assert_eq!((seqs(&outbox), outbox.count()), (vec![1, 2], 2));
    fill(&mut outbox, 1);
    assert_eq!(seqs(&outbox), [1, 2, 3]);
}

#[test]
fn the_oldest_go_first_and_never_what_is_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    fill(&mut outbox, 6);
    outbox.begin().unwrap();
    outbox.claim(&claim(1, Seq(1), Stage::Publish)).unwrap();
    outbox.claim(&claim(2, Seq(3), Stage::Publish)).unwrap();
    outbox.commit().unwrap();
    let waiting =
        |seq: u64| Waiting { seq: Seq(seq), priority: NORMAL, accepted: at(i64::try_from(seq).unwrap() * 1_000) };
    assert_eq!(outbox.waiting(NORMAL, 2).unwrap(), [waiting(2), waiting(4)]);
    assert_eq!(outbox.waiting(NORMAL, 100).unwrap(), [2, 4, 5, 6].map(waiting));
}

/// A record accepted by a clock that was not set.
fn unset(unix_ms: i64, seconds: u64) -> Timestamp {
    Timestamp { unix_ms, synced: false, at: Some(Moment::at(Duration::from_secs(seconds))) }
}

fn set(unix_ms: i64, seconds: u64) -> Timestamp {
    Timestamp { synced: true, ..unset(unix_ms, seconds) }
}

fn open_in(dir: &tempfile::TempDir, boot: u8) -> Outbox {
    Outbox::open(&dir.path().join("outbox-cloud.db"), BootId::new([boot; 16])).unwrap().0
}

/// Commits one record accepted 20 s after boot by a clock that was not set.
fn push_unset(outbox: &mut Outbox) -> Seq {
    outbox.begin().unwrap();
    let seq = outbox.push(new(b"x", unset(0, 20))).unwrap();
    outbox.commit().unwrap();
    seq
}

fn learn(outbox: &mut Outbox, unix_ms: i64, seconds: u64) {
    outbox.begin().unwrap();
    outbox.learn(set(unix_ms, seconds)).unwrap();
    outbox.commit().unwrap();
}

#[test]
fn what_was_known_of_a_boot_s_clock_is_known_in_later_boots() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open_in(&dir, 1);
    let known = push_unset(&mut outbox);
    learn(&mut outbox, 1_000_000, 80);
    drop(outbox);
    let mut outbox = open_in(&dir, 2);
    let unknown = push_unset(&mut outbox);
    drop(outbox);
    let mut outbox = open_in(&dir, 3);
    let running = push_unset(&mut outbox);
    learn(&mut outbox, 9_000_000, 80);
    let times = [known, unknown, running].map(|seq| {
        let time = outbox.boots().mended(seq, outbox.record(NORMAL, seq).unwrap().unwrap().accepted);
        time.synced.then_some(time.unix_ms)
    });
    assert_eq!(times, [Some(940_000), None, Some(8_940_000)]);
}

#[test]
fn a_boot_that_was_noted_in_a_change_that_failed_is_noted_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open_in(&dir, 1);
    outbox.begin().unwrap();
    outbox.push(new(b"gone", unset(0, 20))).unwrap();
    outbox.rollback();
    let seq = push_unset(&mut outbox);
    outbox.begin().unwrap();
    outbox.learn(set(1_000_000, 80)).unwrap();
    outbox.rollback();
    learn(&mut outbox, 1_000_000, 80);
    drop(outbox);
    let outbox = open_in(&dir, 2);
    assert_eq!(outbox.boots().mended(seq, unset(0, 20)).unix_ms, 940_000);
}

#[test]
fn the_table_of_boots_does_not_grow_beyond_those_that_something_waits_of() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |outbox: &Outbox| -> i64 {
        outbox.store.connection().query_row("SELECT count(*) FROM boots", [], |row| row.get(0)).unwrap()
    };
    for boot in 1..=5 {
        let mut outbox = open_in(&dir, boot);
        fill(&mut outbox, 3);
        push_unset(&mut outbox);
        assert_eq!(rows(&outbox), i64::from(boot), "all of them wait");
    }
    let mut outbox = open_in(&dir, 6);
    outbox.begin().unwrap();
    for row in outbox.waiting(NORMAL, 19).unwrap() {
        outbox.remove(NORMAL, row.seq).unwrap();
    }
    outbox.commit().unwrap();
    push_unset(&mut outbox);
    assert_eq!(rows(&outbox), 2, "one record of boot 5 is left, and that of boot 6");
}

#[test]
fn a_payload_that_was_sent_is_not_mended_any_more_once_the_session_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    let stamp = Some(Moment::at(Duration::from_secs(15)));
    outbox.begin().unwrap();
    let seqs = [(); 2].map(|()| outbox.push(NewRecord { stamp, ..new(b"x", unset(0, 20)) }).unwrap());
    outbox.claim(&claim(7, seqs[0], Stage::Publish)).unwrap();
    outbox.forget_session().unwrap();
    outbox.commit().unwrap();
    assert_eq!(seqs.map(|seq| outbox.record(NORMAL, seq).unwrap().unwrap().stamp), [None, stamp]);
}

#[test]
fn handshakes_are_found_again_in_the_order_of_their_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    fill(&mut outbox, 3);
    outbox.begin().unwrap();
    outbox.claim(&claim(9, Seq(1), Stage::Publish)).unwrap();
    outbox.claim(&claim(4, Seq(2), Stage::Publish)).unwrap();
    outbox.release(9).unwrap();
    outbox.note_received(77).unwrap();
    outbox.commit().unwrap();
    drop(outbox);
    let mut outbox = self::outbox(&dir);
    assert_eq!(outbox.claimed().unwrap(), [claim(9, Seq(1), Stage::Release), claim(4, Seq(2), Stage::Publish)]);
    assert_eq!(outbox.received().unwrap(), [77]);
    outbox.begin().unwrap();
    outbox.forget_session().unwrap();
    outbox.commit().unwrap();
    assert_eq!((outbox.claimed().unwrap(), outbox.received().unwrap(), seqs(&outbox)), (vec![], vec![], vec![1, 2, 3]));
}

#[test]
fn a_file_that_was_large_gives_its_space_back_piece_by_piece() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    outbox.keep_within(64 << 20).unwrap();
    let payload = vec![7; 3_000];
    outbox.begin().unwrap();
    for _ in 0..1_000 {
        outbox.push(new(&payload, at(0))).unwrap();
    }
    outbox.commit().unwrap();
    let pages = |outbox: &Outbox| -> i64 {
        outbox.store.connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
    };
    let large = pages(&outbox);
    assert!(!outbox.shrink(256, false).unwrap(), "nothing is free");
    outbox.begin().unwrap();
    for row in outbox.waiting(NORMAL, 1_000).unwrap() {
        outbox.remove(NORMAL, row.seq).unwrap();
    }
    outbox.commit().unwrap();
    let mut rounds = 0;
    while outbox.shrink(256, false).unwrap() {
        rounds += 1;
    }
    assert!((3..20).contains(&rounds), "{rounds} rounds");
    assert!(pages(&outbox) < large / 2, "{} of {large} pages", pages(&outbox));
}

#[test]
fn a_file_is_shortened_by_what_the_deletions_beside_it_leave_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    outbox.keep_within(1 << 20).unwrap();
    let payload = vec![7; 3_000];
    for _ in 0..20 {
        outbox.begin().unwrap();
        (0..20).for_each(|_| _ = outbox.push(new(&payload, at(0))).unwrap());
        outbox.commit().unwrap();
    }
    let mut rows = outbox.waiting(NORMAL, 1_000).unwrap().into_iter();
    let mut remove_down_to = |outbox: &mut Outbox, left: u64| {
        outbox.begin().unwrap();
        while outbox.log_left() > left {
            outbox.remove(NORMAL, rows.next().unwrap().seq).unwrap();
        }
    };
    for _ in 0..4 {
        remove_down_to(&mut outbox, 0);
        outbox.commit().unwrap();
    }
    let pages = |outbox: &Outbox| outbox.store.length().unwrap() / 4096;
    let all = pages(&outbox);
    // Some seven pages of the log are left: two that are given back change six. One of the pointer map may go with them.
    remove_down_to(&mut outbox, 29_000);
    assert!(outbox.shorten(0, 256).unwrap());
    let few = pages(&outbox);
    assert!((1..=3).contains(&(all - few)), "from {all} to {few} pages");
    assert!(outbox.shorten(0, 256).unwrap(), "it is behind");
    assert_eq!(pages(&outbox), few, "no room is left");
    outbox.commit().unwrap();
    outbox.begin().unwrap();
    assert!(outbox.shorten(0, 256).unwrap() && pages(&outbox) < few - 3, "the next transaction goes on");
    outbox.commit().unwrap();
    assert!(!outbox.shorten(1 << 30, 256).unwrap(), "it is short enough");
}

/// Commits a record of this priority.
fn push(outbox: &mut Outbox, priority: Priority, payload: &[u8], accepted: Timestamp) -> Seq {
    outbox.begin().unwrap();
    let seq = outbox.push(NewRecord { priority, ..new(payload, accepted) }).unwrap();
    outbox.commit().unwrap();
    seq
}

#[test]
fn one_sequence_goes_over_all_classes_and_each_keeps_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    let order = [Priority::Low, Priority::Urgent, Priority::High, Priority::Normal, Priority::Urgent];
    let seqs = order.map(|priority| push(&mut outbox, priority, priority.word().as_bytes(), at(1_000)));
    assert_eq!(seqs.map(|seq| seq.0), [1, 2, 3, 4, 5]);
    let of = |outbox: &Outbox, priority| -> Vec<u64> {
        let records = outbox.between(priority, ALL, 10, usize::MAX).unwrap();
        assert!(
            records.iter().all(|record| record.payload == priority.word().as_bytes() && record.priority == priority)
        );
        records.iter().map(|record| record.seq.0).collect()
    };
    assert_eq!(Priority::ALL.map(|priority| of(&outbox, priority)), [vec![2, 5], vec![3], vec![4], vec![1]]);
    outbox.begin().unwrap();
    outbox.remove(Priority::Low, seqs[0]).unwrap();
    outbox.remove(Priority::Low, seqs[1]).unwrap();
    outbox.claim(&Claim { priority: Priority::Urgent, ..claim(7, seqs[1], Stage::Publish) }).unwrap();
    outbox.commit().unwrap();
    assert_eq!((outbox.count(), Priority::ALL.map(|priority| outbox.count_of(priority))), (4, [2, 1, 1, 0]));
    let waiting = outbox.waiting(Priority::Urgent, 10).unwrap();
    assert_eq!(waiting, [Waiting { seq: seqs[4], priority: Priority::Urgent, accepted: at(1_000) }]);
    drop(outbox);
    let mut outbox = self::outbox(&dir);
    assert_eq!((outbox.count(), outbox.claimed().unwrap()[0].priority), (4, Priority::Urgent));
    assert!(push(&mut outbox, Priority::High, b"high", at(0)) > seqs[4]);
}

#[test]
fn the_oldest_record_is_the_oldest_of_all_classes() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    assert_eq!(outbox.oldest().unwrap(), None);
    push(&mut outbox, Priority::Low, b"", at(1_000));
    push(&mut outbox, Priority::Urgent, b"", at(2_000));
    assert_eq!(outbox.oldest().unwrap(), Some(at(1_000)));
}

#[test]
fn a_boot_is_remembered_while_a_record_of_any_class_waits_of_it() {
    for priority in Priority::ALL {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = open_in(&dir, 1);
        let known = push(&mut outbox, priority, b"x", unset(0, 20));
        push_unset(&mut outbox);
        learn(&mut outbox, 1_000_000, 80);
        drop(outbox);
        let mut outbox = open_in(&dir, 2);
        push_unset(&mut outbox);
        drop(outbox);
        let outbox = open_in(&dir, 3);
        assert_eq!(outbox.boots().mended(known, unset(0, 20)).unix_ms, 940_000, "{priority:?}");
    }
}

#[test]
fn a_file_of_the_second_version_keeps_every_record_and_every_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(dir.path().join("outbox-cloud.db")).unwrap();
    file.execute_batch(concat!(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;",
        include_str!("../migrations/base.sql"),
        include_str!("../migrations/outbox_0001.sql"),
        include_str!("../migrations/outbox_0002.sql"),
        "PRAGMA user_version = 3; PRAGMA application_id = 0x54476F62;
         INSERT INTO meta VALUES ('seq_lease', 65537), ('session_of', 'me at the cloud');
         INSERT INTO q VALUES (5, 2, 0, 5000, 1, NULL, 't', NULL, CAST('5' AS BLOB), NULL, NULL);
         INSERT INTO q VALUES (6, 1, 1, 6000, 0, 9000, 'u/v', x'00', CAST('6' AS BLOB), 20000, 15000);
         INSERT INTO q VALUES (7, 2, 0, 7000, 1, NULL, 't', NULL, CAST('7' AS BLOB), NULL, NULL);
         INSERT INTO inflight VALUES (9, 5, 1), (3, 7, 0);
         INSERT INTO rx_q2 VALUES (77);
         INSERT INTO boots VALUES (6, x'01010101010101010101010101010101', NULL);"
    ))
    .unwrap();
    drop(file);
    let (outbox, opened) = Outbox::open(&dir.path().join("outbox-cloud.db"), BootId::new([1; 16])).unwrap();
    assert_eq!((opened, seqs(&outbox), outbox.count()), (Opened::Existing, vec![5, 6, 7], 3));
    let whole = Record {
        seq: Seq(6),
        priority: NORMAL,
        rule: None,
        topic: "u/v".into(),
        payload: b"6".to_vec(),
        qos: Qos::AtLeastOnce,
        retain: true,
        accepted: unset(6_000, 20),
        expires_ms: Some(9_000),
        properties: Some(vec![0]),
        stamp: Some(Moment::at(Duration::from_secs(15))),
    };
    assert_eq!(outbox.record(NORMAL, Seq(6)).unwrap(), Some(whole));
    assert_eq!(outbox.claimed().unwrap(), [claim(9, Seq(5), Stage::Release), claim(3, Seq(7), Stage::Publish)]);
    assert_eq!((outbox.received().unwrap(), outbox.next()), (vec![77], Seq(65_537)));
    assert_eq!(outbox.meta("session_of").unwrap().as_deref(), Some("me at the cloud"));
    assert_eq!(outbox.boots().current().map(|boot| boot.first), Some(Seq(6)));
}

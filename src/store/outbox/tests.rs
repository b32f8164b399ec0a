use super::*;

fn outbox(dir: &tempfile::TempDir) -> Outbox {
    Outbox::open(&dir.path().join("outbox-cloud.db"), BootId::new([1; 16])).unwrap().0
}

fn new(payload: &[u8], accepted: Timestamp) -> NewRecord<'_> {
    let (qos, topic) = (Qos::ExactlyOnce, "t");
    NewRecord { topic, payload, qos, retain: false, accepted, expires_ms: None, properties: None, stamp: None }
}

fn at(unix_ms: i64) -> Timestamp {
    Timestamp { unix_ms, synced: true, at: None }
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
    outbox.after(Seq(0), 1_000, usize::MAX).unwrap().iter().map(|record| record.seq.0).collect()
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
        topic: "up/über".into(),
        payload: b"21.5".to_vec(),
        qos: Qos::ExactlyOnce,
        retain: true,
        accepted,
        expires_ms: Some(60_007),
        properties: Some(block.to_vec()),
        stamp,
    };
    assert_eq!(outbox.after(Seq(0), 10, usize::MAX).unwrap(), std::slice::from_ref(&expected));
    assert_eq!(outbox.record(seq).unwrap(), Some(expected));
    assert_eq!(outbox.record(Seq(99)).unwrap(), None);
}

#[test]
fn a_read_stops_at_its_size_but_never_at_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    fill(&mut outbox, 5);
    let read = |limit, bytes| outbox.after(Seq(1), limit, bytes).unwrap().len();
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
            outbox.remove(Seq(*seq)).unwrap();
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
        outbox.remove(Seq(fresh)).unwrap();
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
    outbox.finish(1, Seq(1)).unwrap();
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
    outbox.claim(1, Seq(1)).unwrap();
    outbox.claim(2, Seq(3)).unwrap();
    outbox.commit().unwrap();
    let waiting = |seq: u64| Waiting { seq: Seq(seq), accepted: at(i64::try_from(seq).unwrap() * 1_000) };
    assert_eq!(outbox.waiting(2).unwrap(), [waiting(2), waiting(4)]);
    assert_eq!(outbox.waiting(100).unwrap(), [2, 4, 5, 6].map(waiting));
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
        let time = outbox.boots().mended(seq, outbox.record(seq).unwrap().unwrap().accepted);
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
    for row in outbox.waiting(19).unwrap() {
        outbox.remove(row.seq).unwrap();
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
    outbox.claim(7, seqs[0]).unwrap();
    outbox.forget_session().unwrap();
    outbox.commit().unwrap();
    assert_eq!(seqs.map(|seq| outbox.record(seq).unwrap().unwrap().stamp), [None, stamp]);
}

#[test]
fn handshakes_are_found_again_in_the_order_of_their_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    fill(&mut outbox, 3);
    outbox.begin().unwrap();
    outbox.claim(9, Seq(1)).unwrap();
    outbox.claim(4, Seq(2)).unwrap();
    outbox.release(9).unwrap();
    outbox.note_received(77).unwrap();
    outbox.commit().unwrap();
    drop(outbox);
    let mut outbox = self::outbox(&dir);
    let claim = |pkid, seq, stage| Claim { pkid, seq: Seq(seq), qos: Qos::ExactlyOnce, stage, bytes: 2 };
    assert_eq!(outbox.claimed().unwrap(), [claim(9, 1, Stage::Release), claim(4, 2, Stage::Publish)]);
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
    assert!(!outbox.shrink(256).unwrap(), "nothing is free");
    outbox.begin().unwrap();
    for row in outbox.waiting(1_000).unwrap() {
        outbox.remove(row.seq).unwrap();
    }
    outbox.commit().unwrap();
    let mut rounds = 0;
    while outbox.shrink(256).unwrap() {
        rounds += 1;
    }
    assert!(rounds >= 3, "{rounds} rounds");
    assert!(pages(&outbox) < large / 2, "{} of {large} pages", pages(&outbox));
}

use super::*;

fn outbox(dir: &tempfile::TempDir) -> Outbox {
    Outbox::open(&dir.path().join("outbox-cloud.db")).unwrap().0
}

fn new(payload: &[u8], accepted: Timestamp) -> NewRecord<'_> {
    let (qos, topic) = (Qos::ExactlyOnce, "t");
    NewRecord { topic, payload, qos, retain: false, accepted, expires_ms: None, properties: None }
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
    let accepted = Timestamp { unix_ms: 7, synced: false, at: None };
    let block = [5, 2, 0, 0, 0, 60];
    outbox.begin().unwrap();
    let seq = outbox
        .push(NewRecord {
            topic: "up/über",
            retain: true,
            expires_ms: Some(60_007),
            properties: Some(&block),
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
    let dropped = outbox.drop_oldest(2, None).unwrap();
    outbox.commit().unwrap();
    assert_eq!(dropped, Dropped { count: 2, seqs: (Seq(2), Seq(4)), times_ms: (2_000, 4_000) });
    assert_eq!((seqs(&outbox), outbox.count()), (vec![1, 3, 5, 6], 4));
}

#[test]
fn age_takes_only_what_is_old_by_a_clock_that_was_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    fill(&mut outbox, 4);
    outbox.store.connection().execute_batch("UPDATE q SET synced = 0 WHERE seq = 2").unwrap();
    outbox.begin().unwrap();
    let dropped = outbox.drop_oldest(256, Some(3_500)).unwrap();
    outbox.commit().unwrap();
    assert_eq!(dropped, Dropped { count: 2, seqs: (Seq(1), Seq(3)), times_ms: (1_000, 3_000) });
    assert_eq!(seqs(&outbox), [2, 4]);
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
    outbox.drop_oldest(1_000, None).unwrap();
    outbox.commit().unwrap();
    let mut rounds = 0;
    while outbox.shrink(256).unwrap() {
        rounds += 1;
    }
    assert!(rounds >= 3, "{rounds} rounds");
    assert!(pages(&outbox) < large / 2, "{} of {large} pages", pages(&outbox));
}

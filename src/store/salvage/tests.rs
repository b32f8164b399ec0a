use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::limits::SALVAGE_PAGES;
use crate::model::BootId;
use crate::store::{NewRecord, Outbox};

const RECORDS: u64 = 2_000;

/// A store with records of all classes in its file and, the last of them, in its log alone, copied while it is open.
fn store(dir: &Path) -> (PathBuf, BTreeMap<u64, Vec<u8>>) {
    let live = dir.join("live.db");
    let (mut outbox, _) = Outbox::open(&live, BootId::new([1; 16])).unwrap();
    let mut payloads = BTreeMap::new();
    for n in 1..=RECORDS {
        if n % 100 == 1 {
            outbox.begin().unwrap();
        }
        // One in fifty does not fit on its page.
        let length = if n % 50 == 0 { 9_000 } else { 80 };
        let payload: Vec<u8> = n.to_le_bytes().iter().copied().cycle().take(length).collect();
        let new = NewRecord {
            priority: Priority::at(usize::try_from(n % 4).unwrap()).unwrap(),
            rule: (n % 3 == 0).then_some(RuleId(7)),
            topic: "plant/line/value",
            payload: &payload,
            qos: if n % 2 == 0 { Qos::ExactlyOnce } else { Qos::AtLeastOnce },
            retain: n % 5 == 0,
            accepted: Timestamp { unix_ms: 1_000, synced: true, at: None },
            expires_ms: None,
            properties: None,
            stamp: None,
        };
        let seq = outbox.push(new).unwrap();
        payloads.insert(seq.0, payload);
        if n % 100 == 0 {
            outbox.commit().unwrap();
        }
        if n == RECORDS - 500 {
            let file = rusqlite::Connection::open(&live).unwrap();
            file.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        }
    }
    let copy = dir.join("x.db");
    fs::copy(&live, &copy).unwrap();
    fs::copy(dir.join("live.db-wal"), dir.join("x.db-wal")).unwrap();
    (copy, payloads)
}

fn salvaged(path: &Path) -> (Vec<Record>, u64) {
    let mut salvage = Salvage::open(path, 1).unwrap();
    let mut records = Vec::new();
    while !salvage.is_done() {
        records.extend(salvage.step(SALVAGE_PAGES, 64 << 10));
    }
    records.sort_by_key(|record| record.seq);
    (records, salvage.take_lost_ranges())
}

#[test]
fn a_file_that_is_whole_gives_every_record_once_in_its_class() {
    let dir = tempfile::tempdir().unwrap();
    let (path, payloads) = store(dir.path());
    let (records, lost) = salvaged(&path);
    assert_eq!((records.len() as u64, lost), (RECORDS, 0));
    for record in &records {
        let n = record.seq.0;
        assert_eq!(record.payload, payloads[&n], "payload of {n}");
        assert_eq!(record.priority.index() as u64, n % 4);
        assert_eq!((record.qos == Qos::ExactlyOnce, record.retain), (n % 2 == 0, n % 5 == 0));
        assert_eq!(record.rule.is_some(), n % 3 == 0);
    }
}

#[test]
fn what_was_removed_does_not_come_back_from_pages_that_are_free() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = store(dir.path());
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch("DELETE FROM q1 WHERE seq < 1500; DELETE FROM q2; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let left: i64 = file
        .query_row(
            "SELECT (SELECT count(*) FROM q0) + (SELECT count(*) FROM q1) + (SELECT count(*) FROM q3)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let (records, lost) = salvaged(&path);
    assert_eq!((i64::try_from(records.len()).unwrap(), lost), (left, 0));
}

/// Whatever 4 KiB are overwritten, all but what lay on the two pages that they touch is found, and nothing that was never written.
#[test]
fn whatever_four_kibibytes_are_overwritten_the_records_outside_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (path, payloads) = store(dir.path());
    let damaged = dir.path().join("d.db");
    let parts = [("", "d.db"), ("-wal", "d.db-wal")];
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        for (suffix, name) in parts {
            fs::copy(crate::store::quarantine::with_suffix(&path, suffix), dir.path().join(name)).unwrap();
        }
        let victim = dir.path().join(parts[usize::from(seed % 5 == 4)].1);
        let mut bytes = fs::read(&victim).unwrap();
        // The first page, with the head of everything, has its turn too.
        let at = if seed < 5 { 0 } else { random.usize(..bytes.len() - 4096) };
        bytes[at..at + 4096].fill_with(|| random.u8(..));
        fs::write(&victim, bytes).unwrap();

        let (records, lost) = salvaged(&damaged);
        let wrong = records.iter().filter(|record| payloads.get(&record.seq.0) != Some(&record.payload)).count();
        // A page holds some 33 rows; a row at the edge of the damage may be taken for whole.
        assert!(wrong <= 2, "seed {seed}: {wrong} records that were never written");
        let found: HashSet<u64> = records.iter().map(|record| record.seq.0).collect();
        let missing = RECORDS - found.len() as u64;
        assert!(missing <= 80, "seed {seed}: {missing} missing after damage at {at} of {victim:?}, {lost} ranges");
    }
}

#[test]
fn bytes_of_any_kind_end_in_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; random.usize(..60_000)];
        bytes.fill_with(|| random.u8(..));
        // Pages that claim to be leaves and inner pages.
        for page in bytes.chunks_mut(4096) {
            page[0] = [13, 5, 2, 10][random.usize(..4)];
        }
        fs::write(&path, &bytes).unwrap();
        fs::write(dir.path().join("x.db-wal"), &bytes).unwrap();
        assert_eq!(salvaged(&path).0, Vec::new(), "seed {seed}");
    }
    fs::write(&path, b"").unwrap();
    fs::remove_file(dir.path().join("x.db-wal")).unwrap();
    assert_eq!(salvaged(&path), (Vec::new(), 0));
}

/// The log of a store, and where its frames of this use begin; behind them lie frames of an earlier one.
fn log_of(path: &Path) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let log = crate::store::quarantine::with_suffix(path, "-wal");
    let bytes = fs::read(&log).unwrap();
    let all = (32..bytes.len()).step_by(4120);
    let used = all.take_while(|at| bytes[at + 8..at + 16] == bytes[16..24]).collect();
    (log, bytes, used)
}

/// A store after twenty notes under a key, and after the frame with this number from the head of its log, or (negative) from its end, was damaged.
fn spoiled(dir: &Path, frame: i64, key: Option<&str>) -> PathBuf {
    let (path, _) = store(dir);
    if let Some(key) = key {
        let file = rusqlite::Connection::open(&path).unwrap();
        file.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        for n in 0..20 {
            file.execute("INSERT OR REPLACE INTO meta(k, v) VALUES (?1, ?2)", (key, n)).unwrap();
        }
    }
    let (log, mut bytes, frames) = log_of(&path);
    let used = i64::try_from(frames.len()).unwrap();
    let frame = if frame < 0 { used + frame } else { frame };
    assert!(used > 30 && frame < used, "{frame} of {used}");
    bytes[frames[usize::try_from(frame).unwrap()] + 1_000] ^= 0xff;
    fs::write(&log, bytes).unwrap();
    path
}

/// That store opened by its owner.
fn opened_after(frame: i64, key: Option<&str>) -> (tempfile::TempDir, crate::store::Opened, u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = spoiled(dir.path(), frame, key);
    let (outbox, opened) = Outbox::open(&path, BootId::new([1; 16])).unwrap();
    let count = outbox.count();
    (dir, opened, count)
}

#[test]
fn a_log_that_goes_on_behind_damage_is_no_power_cut_and_its_later_records_are_found() {
    let (dir, opened, _) = opened_after(5, None);
    let crate::store::Opened::Quarantined { moved_to, reason } = opened else { panic!("{opened:?}") };
    assert!(reason.contains("log goes on behind a place that is damaged"), "{reason}");
    let (records, lost) = salvaged(&moved_to.join("x.db"));
    assert!(records.len() as u64 > RECORDS - 100 && lost >= 1, "{} found, {lost} places lost", records.len());
    drop(dir);
}

#[test]
fn zeros_and_frames_of_an_earlier_use_in_the_middle_of_a_log_are_not_its_end() {
    for zeros in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = store(dir.path());
        let (log, mut bytes, frames) = log_of(&path);
        let hole = frames[5]..frames[8];
        let earlier = frames.len() * 4120 + 32;
        assert!(bytes.len() >= earlier + hole.len(), "there was no earlier use");
        let lies_there = if zeros { vec![0; hole.len()] } else { bytes[earlier..earlier + hole.len()].to_vec() };
        bytes[hole].copy_from_slice(&lies_there);
        fs::write(&log, bytes).unwrap();
        let (records, lost) = salvaged(&path);
        assert!(records.len() as u64 > RECORDS - 150 && lost >= 1, "{} found, {lost} places lost", records.len());
        let opened = Outbox::open(&path, BootId::new([1; 16])).unwrap().1;
        assert!(matches!(opened, crate::store::Opened::Quarantined { .. }), "zeros: {zeros}, {opened:?}");
    }
}

#[test]
fn a_log_that_is_cut_or_torn_at_its_end_is_read_up_to_there() {
    // Commits that did not wait for the disk may go with a power cut in any order.
    for (frame, key) in [(-1, None), (-2, None), (-10, Some("relaxed"))] {
        let (_dir, opened, count) = opened_after(frame, key);
        assert_eq!(opened, crate::store::Opened::Existing, "frame {frame}");
        assert!((RECORDS - 500..=RECORDS).contains(&count), "{count}");
    }
    let (_dir, opened, _) = opened_after(-10, Some("other"));
    assert!(matches!(opened, crate::store::Opened::Quarantined { .. }), "{opened:?}");
    // As it was left, with an earlier use of the log behind this one.
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = store(dir.path());
    let (outbox, opened) = Outbox::open(&path, BootId::new([1; 16])).unwrap();
    assert_eq!((opened, outbox.count()), (crate::store::Opened::Existing, RECORDS));
}

#[test]
fn a_hole_that_is_no_damage_is_none_later_when_commits_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = spoiled(dir.path(), -15, Some("relaxed"));
    let (mut outbox, opened) = Outbox::open(&path, BootId::new([1; 16])).unwrap();
    assert_eq!(opened, crate::store::Opened::Existing);
    outbox.wait_for_disk(true, None).unwrap();
    // As a kill leaves it.
    let killed = tempfile::tempdir().unwrap();
    let copy = killed.path().join("x.db");
    for suffix in ["", "-wal"] {
        let of = |path: &Path| crate::store::quarantine::with_suffix(path, suffix);
        fs::copy(of(&path), of(&copy)).unwrap();
    }
    let (again, opened) = Outbox::open(&copy, BootId::new([1; 16])).unwrap();
    assert_eq!((opened, again.count()), (crate::store::Opened::Existing, outbox.count()));
}

#[test]
fn a_number_that_no_store_gives_out_decides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = store(dir.path());
    let file = rusqlite::Connection::open(&path).unwrap();
    let spoil = "UPDATE q0 SET seq = 9223372036854775807 WHERE seq = (SELECT max(seq) FROM q0)";
    file.execute_batch(&format!("{spoil}; UPDATE meta SET v = 9223372036854775807 WHERE k = 'seq_lease'")).unwrap();
    let next = Salvage::open(&path, 1).unwrap().first_unused().unwrap();
    assert!((RECORDS..RECORDS + 10).contains(&next.0), "{next:?}");
}

#[test]
fn pages_that_the_last_commit_gave_back_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = store(dir.path());
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(
        "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint = 0; DELETE FROM q0; DELETE FROM q1",
    )
    .unwrap();
    let mut vacuum = file.prepare("PRAGMA incremental_vacuum").unwrap();
    let mut steps = vacuum.query([]).unwrap();
    while steps.next().unwrap().is_some() {}
    let count: u32 = file.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    assert!(u64::from(count) * 4096 < fs::metadata(&path).unwrap().len(), "the file is cut with the next checkpoint");
    let mut salvage = Salvage::open(&path, 1).unwrap();
    while !salvage.is_done() {
        salvage.step(SALVAGE_PAGES, u64::MAX);
    }
    assert_eq!(salvage.position(), count + 1);
}

#[test]
fn a_damaged_file_tells_the_numbers_it_gave_out_and_how_many_dead_letters_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = store(dir.path());
    let mut salvage = Salvage::open(&path, 1).unwrap();
    assert_eq!(salvage.first_unused(), Some(Seq(1 + crate::limits::SEQ_LEASE)), "the lease");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(
        "UPDATE meta SET v = 1 WHERE k = 'seq_lease';
         INSERT INTO dead(seq, class, cause, at_ms, qos, retain, ts_ms, synced, topic, payload)
         SELECT seq + 100000, 0, 'x', 1, 1, 0, 1, 1, topic, payload FROM q0 LIMIT 40",
    )
    .unwrap();
    let mut salvage = Salvage::open(&path, 1).unwrap();
    assert!(salvage.first_unused().is_some_and(|next| next.0 > 100_000), "a dead letter has a number too");
    while !salvage.is_done() {
        salvage.step(SALVAGE_PAGES, u64::MAX);
    }
    assert_eq!(salvage.take_dead(), 40);
}

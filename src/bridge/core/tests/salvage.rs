//! A damaged store: what could be read of it arrives, once, before what is new, and marked.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::bench::Bench;
use crate::bridge::settings::OnSessionLoss;
use crate::clock::Clock;
use crate::limits::{SALVAGE_RETRY, SALVAGE_TRIES};
use crate::model::Qos;
use crate::store::Condition;

/// Turns until everything is brought over.
fn salvage(bench: &mut Bench) {
    for _ in 0..10_000 {
        bench.turn(0);
        if bench.core.condition() == Condition::Ok {
            return;
        }
    }
    panic!("the salvage does not end: {:?}", bench.core.condition());
}

/// The bench after a kill, with a page of its file overwritten.
fn damaged(mut bench: Bench, page: u64, policy: OnSessionLoss) -> Bench {
    bench.core.outbox = None;
    let path = bench.dir.path().join("outbox-cloud.db");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0xa5; 4096], (page - 1) * 4096).unwrap();
    bench.reopen(|settings| settings.on_session_loss = policy)
}

fn numbers(count: usize, length: usize) -> Vec<String> {
    (1..=count).map(|n| format!("{n:0length$}")).collect()
}

fn store(bench: &mut Bench, qos: Qos, payloads: &[String]) {
    let texts: Vec<&str> = payloads.iter().map(String::as_str).collect();
    bench.store(qos, &texts);
}

#[test]
fn what_can_be_read_of_a_damaged_store_arrives_before_what_is_new() {
    let mut bench = Bench::new();
    let old = numbers(200, 100);
    store(&mut bench, Qos::AtLeastOnce, &old);
    let mut bench = damaged(bench, 1, OnSessionLoss::Resend);
    store(&mut bench, Qos::AtLeastOnce, &["new".into()]);
    salvage(&mut bench);
    bench.connect();
    assert_eq!(bench.arrived().last().map(String::as_str), Some("new"));
    assert_eq!(bench.arrived()[..200], old[..]);
    let told = bench.events("store-salvaged");
    assert!(told.len() == 1 && told[0].contains(r#""recovered":200,"#), "{told:?}");
    assert_eq!(bench.core.store().salvaged, 200);
}

#[test]
fn a_salvage_that_is_killed_goes_on_where_it_was_and_doubles_nothing() {
    let mut bench = Bench::new();
    let old = numbers(4_000, 1_000);
    for part in old.chunks(500) {
        store(&mut bench, Qos::ExactlyOnce, part);
    }
    let mut bench = damaged(bench, 1, OnSessionLoss::Resend);
    let mut kills = 0;
    while bench.core.condition() == Condition::Salvaging {
        bench.turn(0);
        bench = bench.reopen(|_| ());
        kills += 1;
    }
    assert!(kills > 2, "it was done after {kills} pieces");
    bench.connect();
    assert_eq!(bench.arrived(), old);
}

#[test]
fn what_was_half_handed_over_follows_the_policy_for_a_lost_session() {
    for (policy, arrives) in [(OnSessionLoss::Resend, true), (OnSessionLoss::DropUncertain, false)] {
        let mut bench = Bench::new();
        store(&mut bench, Qos::ExactlyOnce, &numbers(50, 100));
        // The list of handshakes is lost with the list of tables: nobody knows which had begun.
        let mut bench = damaged(bench, 1, policy);
        salvage(&mut bench);
        bench.connect();
        let arrived: BTreeSet<String> = bench.arrived().into_iter().collect();
        assert_eq!(arrived.len(), if arrives { 50 } else { 0 }, "{policy:?}");
        assert_eq!(bench.core.drops.total(), if arrives { 0 } else { 50 }, "{policy:?}");
    }
}

#[test]
fn numbers_are_not_given_out_again_though_the_quarantine_was_emptied_by_hand() {
    // Where the list of tables is lost, and where it can be read.
    for page in [1, 4] {
        let mut bench = Bench::new();
        store(&mut bench, Qos::AtLeastOnce, &numbers(100, 100));
        let mut bench = damaged(bench, 1, OnSessionLoss::Resend);
        salvage(&mut bench);
        store(&mut bench, Qos::AtLeastOnce, &["second".into()]);
        std::fs::remove_dir_all(bench.dir.path().join("quarantine")).unwrap();
        let mut bench = damaged(bench, page, OnSessionLoss::Resend);
        store(&mut bench, Qos::AtLeastOnce, &["third".into()]);
        salvage(&mut bench);
        bench.connect();
        let arrived = bench.arrived();
        assert_eq!(arrived[arrived.len() - 2..], ["second", "third"], "page {page}");
        assert_eq!(arrived.len(), 102);
    }
}

/// Moves the file to a quarantine of this number, to be salvaged.
fn set_aside(bench: &mut Bench, number: u32) -> PathBuf {
    bench.core.outbox = None;
    let set_aside = bench.dir.path().join(format!("quarantine/outbox-cloud.db.{number}"));
    std::fs::create_dir_all(&set_aside).unwrap();
    std::fs::write(set_aside.join("to-salvage"), "").unwrap();
    std::fs::rename(bench.dir.path().join("outbox-cloud.db"), set_aside.join("outbox-cloud.db")).unwrap();
    set_aside
}

/// Puts a file there that leads to itself: it is there, and the kernel does not open it.
fn shut(path: &Path) {
    std::os::unix::fs::symlink(path, path).unwrap();
}

/// Turns up to the last try; those before it come to nothing.
fn try_in_vain(bench: &mut Bench) {
    for _ in 1..SALVAGE_TRIES {
        assert_eq!(bench.core.condition(), Condition::Salvaging);
        assert_eq!(bench.events("store-salvaged"), Vec::<String>::new());
        bench.clock.advance(SALVAGE_RETRY);
        bench.turn(0);
    }
}

#[test]
fn a_log_that_never_opens_costs_what_is_in_it_and_holds_up_no_other_damaged_store() {
    let mut bench = Bench::new();
    store(&mut bench, Qos::AtLeastOnce, &numbers(20, 100));
    let older = set_aside(&mut bench, 1);
    let older_log = older.join("outbox-cloud.db-wal");
    shut(&older_log);
    let mut bench = bench.reopen(|_| ());
    store(&mut bench, Qos::AtLeastOnce, &["newer".into()]);
    let newer = set_aside(&mut bench, 2);
    shut(&newer.join("outbox-cloud.db-wal"));
    std::fs::remove_file(&older_log).unwrap();
    let mut bench = bench.reopen(|_| ());
    try_in_vain(&mut bench);
    salvage(&mut bench);
    let told = bench.events("store-salvaged");
    let says = |nth: usize, what: &str| told.get(nth).is_some_and(|told| told.contains(what));
    assert!(says(0, r#""recovered":1,"#) && says(0, r#""lost_ranges":1,"#), "{told:?}");
    assert!(says(1, r#""recovered":20,"#) && says(1, r#""lost_ranges":0,"#), "{told:?}");
    assert!(!newer.join("to-salvage").exists() && newer.join("outbox-cloud.db").exists());
    bench.connect();
    assert_eq!(bench.arrived().len(), 21);
}

#[test]
fn without_its_log_nobody_can_tell_what_a_damaged_store_had_half_handed_over() {
    let mut bench = Bench::new();
    store(&mut bench, Qos::ExactlyOnce, &numbers(20, 100));
    let set_aside = set_aside(&mut bench, 1);
    shut(&set_aside.join("outbox-cloud.db-wal"));
    let mut bench = bench.reopen(|settings| settings.on_session_loss = OnSessionLoss::DropUncertain);
    try_in_vain(&mut bench);
    salvage(&mut bench);
    bench.connect();
    assert_eq!((bench.arrived().len(), bench.core.drops.total()), (0, 20));
}

#[test]
fn a_damaged_store_that_never_opens_is_told_as_lost_and_stays_where_it_is() {
    let mut bench = Bench::new();
    store(&mut bench, Qos::AtLeastOnce, &numbers(20, 100));
    let set_aside = set_aside(&mut bench, 1);
    let file = set_aside.join("outbox-cloud.db");
    std::fs::remove_file(&file).unwrap();
    shut(&file);
    let mut bench = bench.reopen(|_| ());
    try_in_vain(&mut bench);
    salvage(&mut bench);
    let told = bench.events("store-salvaged");
    assert!(
        told.len() == 1 && told[0].contains(r#""recovered":0,"#) && told[0].contains(r#""lost_ranges":1,"#),
        "{told:?}"
    );
    assert!(!set_aside.join("to-salvage").exists() && file.is_symlink());
    assert!(set_aside.join("given-up").exists(), "no later one pushes it out");
}

#[test]
fn a_damaged_store_that_cannot_be_read_now_is_read_later() {
    let mut bench = Bench::new();
    store(&mut bench, Qos::AtLeastOnce, &numbers(20, 100));
    let set_aside = set_aside(&mut bench, 1);
    let log = set_aside.join("outbox-cloud.db-wal");
    shut(&log);
    let mut bench = bench.reopen(|_| ());
    for _ in 0..3 {
        bench.turn(0);
    }
    assert_eq!(bench.core.condition(), Condition::Salvaging);
    assert!(set_aside.join("to-salvage").exists());
    std::fs::remove_file(&log).unwrap();
    bench.clock.advance(SALVAGE_RETRY);
    assert!(bench.core.poll_timeout().is_some_and(|due| due <= bench.clock.now()));
    salvage(&mut bench);
    bench.connect();
    assert_eq!(bench.arrived().len(), 20);
}

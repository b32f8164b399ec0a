//! What a commit survives, and what the first connection is like after one that was not survived.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::Core;
use super::bench::Bench;
use crate::bridge::settings::{Durability, Settings};
use crate::clock::Clock;
use crate::limits::FLUSH_EVERY;
use crate::model::Qos;

pub(super) fn process(settings: &mut Settings) {
    settings.outbox.durability = Durability::Process;
}

/// What is on disk at this moment, as far as anybody waited for it: a copy of file and log.
pub(super) fn photograph(dir: &Path, to: &Path) {
    for name in files(dir) {
        std::fs::copy(dir.join(&name), to.join(&name)).unwrap();
    }
}

/// The power is gone, and with it all that nobody waited for: what was photographed is what there is.
pub(super) fn cut_power(dir: &Path, photograph: &Path) {
    for name in ["outbox-cloud.db", "outbox-cloud.db-wal", "outbox-cloud.db-shm"] {
        let _ = std::fs::remove_file(dir.join(name));
    }
    for name in files(photograph) {
        std::fs::copy(photograph.join(&name), dir.join(&name)).unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let names = ["outbox-cloud.db", "outbox-cloud.db-wal"].map(PathBuf::from);
    names.into_iter().filter(|name| dir.join(name).exists()).collect()
}

/// The machine dies and starts anew on what was photographed.
pub(super) fn after_a_power_cut(mut bench: Bench, photograph: &Path, change: impl FnOnce(&mut Settings)) -> Bench {
    let idle = Bench::new();
    drop(std::mem::replace(&mut bench.core, idle.core));
    bench.cloud.cut();
    cut_power(bench.dir.path(), photograph);
    bench.clock.reboot();
    bench.clock.set_wall(crate::model::Timestamp { unix_ms: 1_795_396_600_000, synced: true, at: None });
    let mut settings = super::settings(bench.dir.path());
    change(&mut settings);
    bench.core = Core::open(&Arc::new(settings), &bench.clock).unwrap();
    bench
}

#[test]
fn a_packet_id_that_a_power_cut_made_us_forget_takes_no_later_message_with_it() {
    let mut bench = Bench::with(process);
    bench.connect();
    let photo = tempfile::tempdir().unwrap();
    photograph(bench.dir.path(), photo.path());
    // The cloud holds this one's id, and the commit that gave it is not on disk.
    bench.core.offer(bench.offered("t", "before", Qos::ExactlyOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (up, _) = bench.turn(0);
    bench.cloud.feed(&up);
    assert_eq!(bench.cloud.holds(), 1);
    let mut bench = after_a_power_cut(bench, photo.path(), process);
    assert_eq!(bench.core.queued(), 0, "what was not flushed is gone");
    bench.store(Qos::ExactlyOnce, &["after"]);
    bench.connect();
    assert_eq!(bench.arrived(), ["before", "after"]);
    assert_eq!(bench.cloud.violations, Vec::<String>::new());
}

#[test]
fn after_a_kill_the_session_is_kept_and_after_an_orderly_end_too() {
    let mut bench = Bench::with(process);
    bench.connect();
    let bench = bench.reopen(process);
    assert!(!bench.core.clean_needed, "a kill takes nothing");
    let mut bench = after_an_orderly_end(bench);
    assert!(!bench.core.clean_needed);
    bench.connect();
    let photo = tempfile::tempdir().unwrap();
    photograph(bench.dir.path(), photo.path());
    let bench = after_a_power_cut(bench, photo.path(), process);
    assert!(bench.core.clean_needed);
    // Killed before it could make the cloud forget: the next one must still.
    let bench = bench.reopen(|_| ());
    assert!(bench.core.clean_needed, "nor does another durability help");
}

/// Stops it, and starts it anew in another boot.
fn after_an_orderly_end(mut bench: Bench) -> Bench {
    let idle = Bench::new();
    let core = std::mem::replace(&mut bench.core, idle.core);
    core.close(bench.clock.now(), bench.clock.wall());
    bench.cloud.cut();
    bench.clock.reboot();
    bench.clock.set_wall(crate::model::Timestamp { unix_ms: 1_795_396_600_000, synced: true, at: None });
    let mut settings = super::settings(bench.dir.path());
    process(&mut settings);
    bench.core = Core::open(&Arc::new(settings), &bench.clock).unwrap();
    bench
}

#[test]
fn a_power_cut_keeps_the_session_where_every_commit_waits_for_the_disk() {
    let mut bench = Bench::new();
    bench.connect();
    let photo = tempfile::tempdir().unwrap();
    photograph(bench.dir.path(), photo.path());
    let bench = after_a_power_cut(bench, photo.path(), |_| ());
    assert!(!bench.core.clean_needed);
}

#[test]
fn what_was_committed_is_flushed_before_long_and_only_then_is_a_turn_asked_for() {
    let mut bench = Bench::with(process);
    bench.store(Qos::AtLeastOnce, &["1"]);
    let flush_at = bench.core.flush_at.expect("something is to be flushed");
    assert!(flush_at.since(bench.clock.now()) <= FLUSH_EVERY);
    assert!(bench.core.poll_timeout().unwrap() <= flush_at);
    bench.clock.advance(FLUSH_EVERY);
    bench.turn(0);
    assert_eq!((bench.core.flush_at, bench.core.fault()), (None, None));
    let mut strict = Bench::new();
    strict.store(Qos::AtLeastOnce, &["1"]);
    assert_eq!(strict.core.flush_at, None);
}

#[test]
fn a_reload_changes_the_durability_both_ways() {
    let mut bench = Bench::new();
    for (durability, weak) in [(Durability::Process, true), (Durability::Power, false)] {
        let mut settings = super::settings(bench.dir.path());
        settings.outbox.durability = durability;
        bench.core.apply(Arc::new(settings));
        let outbox = bench.core.outbox.as_ref().unwrap();
        assert_eq!((bench.core.relaxed, outbox.waits_for_disk()), (weak, !weak));
        assert_eq!(outbox.meta("relaxed").unwrap().is_some(), weak);
    }
}

#[test]
fn numbers_are_leased_on_disk_before_they_are_used_so_that_no_power_cut_gives_one_out_again() {
    let mut bench = Bench::with(process);
    let outbox = bench.core.outbox.as_mut().unwrap();
    outbox.begin().unwrap();
    outbox.rollback();
    let photo = tempfile::tempdir().unwrap();
    // Before the first message is committed its number is taken for good.
    photograph(bench.dir.path(), photo.path());
    bench.store(Qos::AtLeastOnce, &["1", "2"]);
    let next = bench.core.outbox.as_ref().unwrap().next();
    let bench = after_a_power_cut(bench, photo.path(), process);
    assert!(bench.core.outbox.as_ref().unwrap().next() >= next);
}

//! Letters that the cloud will never take.

use std::time::Duration;

use super::bench::Bench;
use crate::clock::Clock;
use crate::limits::{COUNT_PAUSE, COUNT_ROWS, DEAD_LETTERS_MAX, DROPS_TOLD};
use crate::model::{Priority, Qos};

#[test]
fn what_the_cloud_refuses_for_good_is_kept_as_a_dead_letter_and_told_with_when_it_was_accepted() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut bench = Bench::new();
        bench.store_as(Priority::High, qos, "poison");
        bench.clock.advance(Duration::from_secs(3_600));
        bench.cloud.refuses = Some(0x99);
        bench.connect();
        bench.clock.advance(DROPS_TOLD);
        bench.exchange();
        assert_eq!((bench.core.dead(), bench.core.queued(), bench.core.drops.total()), (1, 0, 1));
        let events = bench.events("dropped");
        assert!(
            events[0].contains(r#""cause":"refused-0x99","count":1,"seq":[1,1],"time":["2026-11-23T01:15:00"#),
            "{events:?}"
        );
        let mut bench = bench.reopen(|_| ());
        bench.cloud.refuses = None;
        bench.store(qos, &["next"]);
        bench.connect();
        assert_eq!((bench.arrived(), bench.core.dead()), (vec!["next".to_owned()], 1), "it is not sent again");
        assert_eq!(bench.cloud.violations, Vec::<String>::new());
    }
}

#[test]
fn what_is_too_large_for_the_cloud_is_a_dead_letter_whether_it_was_on_the_wire_before_or_not() {
    for sent_before in [false, true] {
        let mut bench = Bench::new();
        let large = "x".repeat(2_000);
        bench.store(Qos::AtLeastOnce, &[&large, "small"]);
        if sent_before {
            bench.cloud.deaf = true;
            bench.connect();
            bench.cut();
            bench.cloud.deaf = false;
        }
        bench.cloud.max_packet = 1_000;
        bench.connect();
        bench.clock.advance(Duration::from_secs(2));
        bench.exchange();
        assert_eq!(bench.arrived(), ["small"], "sent before: {sent_before}");
        assert_eq!((bench.core.dead(), bench.core.drops.total(), bench.core.is_empty()), (1, 1, true));
    }
}

#[test]
fn a_dead_letter_that_could_not_be_written_is_neither_counted_nor_lost() {
    let mut bench = Bench::new();
    bench.connect();
    bench.cloud.refuses = Some(0x99);
    bench.core.offer(bench.offered("t", "poison", Qos::AtLeastOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (up, _) = bench.turn(0);
    bench.cloud.feed(&up);
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    bench.exchange();
    bench.clock.advance(Duration::from_secs(2));
    bench.exchange();
    assert_eq!((bench.core.drops.total(), bench.core.dead()), (0, 0));
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    bench.clock.advance(Duration::from_secs(10));
    bench.exchange();
    assert_eq!((bench.core.drops.total(), bench.core.dead(), bench.core.is_empty()), (1, 1, true));
}

#[test]
fn there_are_only_so_many_dead_letters() {
    let mut bench = Bench::new();
    let over = 20;
    bench.store(Qos::AtLeastOnce, &vec!["poison"; usize::try_from(DEAD_LETTERS_MAX).unwrap() + over]);
    bench.cloud.refuses = Some(0x99);
    bench.connect();
    bench.clock.advance(Duration::from_secs(2));
    bench.exchange();
    let dropped = bench.core.drops.total();
    assert_eq!((bench.core.dead(), dropped), (DEAD_LETTERS_MAX, DEAD_LETTERS_MAX + over as u64), "all are counted");
}

#[test]
fn a_large_store_is_counted_bit_by_bit_after_a_crash_while_it_drains_and_takes_in() {
    let mut bench = Bench::with(|settings| settings.window = 1_000);
    let total = 6 * COUNT_ROWS;
    for _ in 0..total / 1_024 {
        bench.store(Qos::AtLeastOnce, &vec!["x"; 1_024]);
    }
    let mut bench = bench.reopen(|settings| settings.window = 1_000);
    assert!(!bench.core.is_counted() && bench.core.queued() < total as u64);
    bench.connect_without_reading();
    let mut steps = 0;
    while !bench.core.is_counted() {
        let wait = bench.core.poll_timeout().unwrap().since(bench.clock.now());
        assert!(wait <= COUNT_PAUSE, "due in {wait:?}");
        bench.store(Qos::AtLeastOnce, &["new"]);
        steps += 1;
    }
    assert_eq!(bench.core.queued(), (total + steps) as u64);
    bench.exchange();
    assert_eq!((bench.arrived().len(), bench.core.is_empty()), (total + steps, true));
}

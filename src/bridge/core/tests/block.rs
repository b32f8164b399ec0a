//! `full = "block"` and messages of all sizes: the queue moves on whatever is to go into it, and opens and shuts no more often than it must.

use std::time::Duration;

use super::bench::Bench;
use crate::bridge::settings::Full;
use crate::clock::Clock;
use crate::model::Qos;

const MIB: u64 = 1 << 20;

fn blocking(max_bytes: u64) -> Bench {
    Bench::with(|settings| {
        settings.outbox.full = Full::Block;
        settings.outbox.max_bytes = max_bytes;
        settings.inward.clear();
    })
}

fn offer(bench: &mut Bench, bytes: usize, mark: &str) {
    let offered = bench.offered("t", &mark.repeat(bytes), Qos::AtLeastOnce);
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    bench.turn(0);
}

fn first_letters(bench: &Bench) -> String {
    bench.cloud.arrived.iter().map(|arrival| char::from(arrival.payload[0])).collect()
}

/// Lets the cloud take what is there.
fn drain(bench: &mut Bench) {
    bench.connect();
    for _ in 0..20 {
        bench.clock.advance(Duration::from_secs(1));
        bench.exchange();
    }
}

#[test]
fn a_large_message_waits_until_it_fits_itself_and_the_store_does_not_open_and_shut_for_it() {
    let mut bench = blocking(MIB);
    for _ in 0..6 {
        offer(&mut bench, 100_000, "a");
    }
    assert_eq!(bench.core.blocked(), None);
    // A sixteenth is free, and far more is wanted.
    offer(&mut bench, 300_000, "b");
    for _ in 0..20 {
        bench.clock.advance(Duration::from_millis(60));
        bench.turn(0);
        let now = bench.clock.now();
        let idles = !bench.core.has_more(now, 0) && bench.core.poll_timeout().is_none_or(|due| due > now);
        assert!(idles, "no turn for nothing");
    }
    assert_eq!((bench.events("store-blocked").len(), bench.events("store-unblocked").len()), (1, 0));
    offer(&mut bench, 10, "c");
    drain(&mut bench);
    assert_eq!(first_letters(&bench), "aaaaaabc");
    assert_eq!((bench.events("store-blocked").len(), bench.events("store-unblocked").len()), (1, 1));
    assert!(bench.core.is_empty() && bench.core.drops.total() == 0);
}

#[test]
fn a_message_that_no_empty_store_has_room_for_is_dropped_and_counted_whatever_the_policy() {
    for policy in [Full::DropOldest, Full::DropNewest, Full::Thin, Full::Block] {
        let mut bench = Bench::with(|settings| {
            settings.outbox.full = policy;
            settings.outbox.max_bytes = MIB;
        });
        offer(&mut bench, 100, "a");
        offer(&mut bench, 800_000, "b");
        offer(&mut bench, 100, "c");
        assert_eq!(bench.core.drops.by_cause(), [("too-large".to_owned(), 1)], "{policy:?}");
        assert_eq!((bench.core.blocked(), bench.core.queued()), (None, 2), "{policy:?}: and the others stay");
        drain(&mut bench);
        assert_eq!(first_letters(&bench), "ac");
    }
}

#[test]
fn a_message_that_a_store_full_of_letters_has_no_room_for_is_not_waited_for_without_end() {
    let mut bench = blocking(MIB);
    // Below the size that is refused by itself, and more than is left beside what else the file holds.
    let file = bench.core.outbox.as_mut().unwrap();
    file.begin().unwrap();
    file.set_meta("more", "x".repeat(400_000)).unwrap();
    file.commit().unwrap();
    offer(&mut bench, 300_000, "b");
    offer(&mut bench, 10, "c");
    assert_eq!(bench.core.drops.by_cause(), [("too-large".to_owned(), 1)]);
    assert_eq!((bench.core.blocked(), bench.core.queued()), (None, 1));
}

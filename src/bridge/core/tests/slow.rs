//! A link that is up and takes little, or nothing.

use std::time::Duration;

use super::super::Close;
use super::bench::Bench;
use crate::clock::Clock;
use crate::limits::OUT_BYTES;
use crate::model::Qos;

#[test]
fn qos_0_fills_no_memory_while_the_cloud_takes_nothing() {
    let mut bench = Bench::new();
    bench.connect();
    let payload = "x".repeat(1_000);
    let (mut unsent, mut sent) = (0, 0);
    for _ in 0..2_000 {
        bench.core.offer(bench.offered("t", &payload, Qos::AtMostOnce), bench.clock.now(), unsent);
        let (up, _) = bench.turn(unsent);
        unsent += up.len();
        sent += u64::from(!up.is_empty());
    }
    assert!(unsent < OUT_BYTES + 2 * payload.len(), "{unsent} bytes wait for the socket");
    assert_eq!(bench.core.drops.total(), 2_000 - sent, "and what was not sent is counted");
}

#[test]
fn a_ping_behind_a_large_message_waits_for_its_answer_only_once_it_has_left() {
    let mut bench = Bench::new();
    bench.connect();
    // A megabyte at 5 kB/s; the ping is queued behind what is left of it after half a minute.
    let mut unsent: usize = 1 << 20;
    let mut pings = 0;
    while unsent > 0 {
        bench.clock.advance(Duration::from_secs(1));
        unsent = unsent.saturating_sub(5_000);
        bench.core.sent(bench.clock.now());
        let (up, close) = bench.turn(unsent);
        assert_eq!(close, None, "{unsent} bytes before the end");
        unsent += up.len();
        pings += u32::from(!up.is_empty());
    }
    assert_eq!(pings, 1);
    bench.clock.advance(Duration::from_secs(8));
    assert_eq!(bench.turn(0).1, None);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.turn(0).1, Some(Close::Silent), "it has left, and nobody answers");
}

#[test]
fn what_is_queued_behind_a_ping_gives_it_no_more_time() {
    let mut bench = Bench::new();
    bench.connect();
    bench.clock.advance(Duration::from_secs(30));
    let mut unsent = bench.turn(0).0.len();
    assert_eq!(unsent, 2, "a ping");
    for second in 0..10 {
        bench.core.offer(bench.offered("t", "x", Qos::AtMostOnce), bench.clock.now(), 0);
        let (up, close) = bench.turn(unsent);
        assert_eq!(close, None, "after {second} s");
        // The ping has left, and what was said after it has not.
        unsent = up.len();
        bench.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(bench.turn(unsent).1, Some(Close::Silent));
}

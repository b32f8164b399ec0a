//! A link that is up and takes little, or nothing.

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

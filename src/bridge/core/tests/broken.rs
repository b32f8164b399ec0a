//! A store that cannot be written, opened or read.

use std::time::Duration;

use super::bench::Bench;
use crate::clock::Clock;
use crate::limits::STORE_RETRY;
use crate::model::Qos;

#[test]
fn a_store_that_fails_is_tried_again_after_its_pause_and_not_before() {
    let mut bench = Bench::with(|settings| settings.outbox.max_age = Some(Duration::from_secs(3_600)));
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    bench.core.offer(bench.offered("t", "1", Qos::AtLeastOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    while bench.core.has_more(bench.clock.now(), 0) {
        bench.turn(0);
    }
    assert!(bench.core.fault().is_some());
    let wait = bench.core.poll_timeout().unwrap().since(bench.clock.now());
    assert!(wait > STORE_RETRY / 2, "due in {wait:?}");
}

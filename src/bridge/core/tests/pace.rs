//! How fast what goes up goes up.

use std::time::Duration;

use super::bench::Bench;
use crate::clock::Clock;
use crate::model::{Qos, Quota, Rate};

fn with_rate(messages: u64) -> Bench {
    Bench::with(|settings| {
        let messages = Some(Quota { count: messages, per: Duration::from_secs(1) });
        settings.outbox.rate = Some(Rate { messages, bytes: None });
    })
}

/// Turns only when the core asks for one, for this long. Returns how many it asked for, and the moments of what arrived in milliseconds.
fn by_its_own_word(bench: &mut Bench, span: Duration, mut each: impl FnMut(&mut Bench)) -> (u32, Vec<u128>) {
    let start = bench.clock.now();
    let (mut turns, mut arrived) = (0, Vec::new());
    while bench.clock.now().since(start) < span {
        let before = bench.cloud.arrived.len();
        let down = bench.cloud.output.split();
        bench.core.receive(&down, bench.clock.now(), bench.clock.wall()).unwrap();
        each(bench);
        let (up, _) = bench.turn(0);
        turns += 1;
        bench.cloud.feed(&up);
        let at = bench.clock.now().since(start).as_millis();
        arrived.extend((before..bench.cloud.arrived.len()).map(|_| at));
        let now = bench.clock.now();
        if bench.core.has_more(now, 0) || !bench.cloud.output.is_empty() {
            bench.clock.advance(Duration::from_micros(200));
            continue;
        }
        let due = bench.core.poll_timeout().expect("something is due");
        assert!(due > now, "a turn was asked for that does nothing");
        bench.clock.advance(due.since(now).min(span));
    }
    (turns, arrived)
}

#[test]
fn a_backlog_goes_up_at_its_rate_and_the_core_wakes_when_there_is_room_and_not_before() {
    let mut bench = with_rate(50);
    let payloads: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    bench.store(Qos::AtLeastOnce, &payloads.iter().map(String::as_str).collect::<Vec<_>>());
    bench.connect();
    let already = bench.cloud.arrived.len();
    let (turns, arrived) = by_its_own_word(&mut bench, Duration::from_secs(6), |_| ());
    let most = arrived.iter().map(|from| arrived.iter().filter(|at| (*from..from + 1_000).contains(at)).count()).max();
    assert!(most.unwrap() <= 55, "{most:?} in one second");
    assert!((290..=305).contains(&(arrived.len() + already)), "{} in six seconds", arrived.len() + already);
    // Ten handfuls a second, with the acknowledgements of each.
    assert!(turns < 6 * 10 * 6, "{turns} turns in six seconds");
}

#[test]
fn what_is_said_again_keeps_the_rate_too() {
    let mut bench = with_rate(10);
    bench.store(Qos::ExactlyOnce, &["1", "2", "3", "4"]);
    bench.connect();
    for _ in 0..3 {
        bench.clock.advance(Duration::from_millis(150));
        bench.turn(0);
    }
    bench.cut();
    bench.clock.advance(Duration::from_secs(1));
    let before = bench.cloud.arrived.len();
    assert_eq!(before, 1, "the others were sent into the void");
    bench.connect();
    assert_eq!(bench.cloud.arrived.len(), before + 1, "one at a time");
    by_its_own_word(&mut bench, Duration::from_secs(1), |_| ());
    assert_eq!(bench.arrived(), ["1", "2", "3", "4"]);
}

#[test]
fn qos_0_beyond_the_rate_is_counted_and_leaves_half_to_what_waits() {
    let mut bench = with_rate(100);
    bench.connect();
    bench.clock.advance(Duration::from_secs(1));
    for n in 0..30 {
        bench.core.offer(bench.offered("q0", &n.to_string(), Qos::AtMostOnce), bench.clock.now(), 0);
    }
    bench.exchange();
    assert_eq!(bench.cloud.arrived.len(), 10, "a tenth of a second's share");
    assert_eq!(bench.core.drops.by_cause(), [("qos0-rate".to_owned(), 20)]);

    let mut bench = with_rate(100);
    let payloads: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    bench.store(Qos::AtLeastOnce, &payloads.iter().map(String::as_str).collect::<Vec<_>>());
    bench.connect();
    by_its_own_word(&mut bench, Duration::from_secs(4), |bench| {
        for _ in 0..20 {
            bench.core.offer(bench.offered("q0", "x", Qos::AtMostOnce), bench.clock.now(), 0);
        }
    });
    let of = |topic: &str| bench.cloud.arrived.iter().filter(|arrival| arrival.topic == topic).count();
    assert!((380..=420).contains(&(of("t") + of("q0"))), "{} and {}", of("t"), of("q0"));
    assert!(of("t") >= 150 && of("q0") >= 50, "{} records and {} of QoS 0 in four seconds", of("t"), of("q0"));
}

#[test]
fn acknowledgements_pings_and_the_birth_do_not_wait_for_the_rate() {
    let mut bench = Bench::with(|settings| {
        settings.outbox.rate =
            Some(Rate { messages: Some(Quota { count: 1, per: Duration::from_secs(3_600) }), bytes: None });
    });
    bench.store(Qos::ExactlyOnce, &["1", "2"]);
    bench.connect();
    assert_eq!((bench.cloud.status.clone(), bench.arrived()), (vec!["online".to_owned()], vec!["1".to_owned()]));
    assert_eq!(bench.cloud.holds(), 0, "its PUBREL went out");
    bench.clock.advance(Duration::from_secs(30));
    let (up, _) = bench.turn(0);
    assert_eq!(&up[..], [0xc0, 0]);
}

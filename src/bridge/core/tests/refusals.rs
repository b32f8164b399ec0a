//! A cloud that refuses messages or subscriptions, or that does not answer them.

use std::time::Duration;

use super::super::Close;
use super::bench::Bench;
use crate::clock::Clock;
use crate::limits::{ACKNOWLEDGED_LINGER, REFUSED_PAUSE_MAX, REFUSED_TRIES, SUBSCRIBE_WAIT};
use crate::model::Qos;
use crate::mqtt::client::Version;

/// A bench with a cloud that refuses what is stored, in flight as far as the window goes.
fn refusing(qos: Qos, reason: u8, payloads: &[&str]) -> Bench {
    let mut bench = Bench::new();
    bench.store(qos, payloads);
    bench.cloud.refuses = Some(reason);
    bench.connect();
    bench
}

/// Lets the time go by, a second at a time.
fn pass(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds {
        bench.clock.advance(Duration::from_secs(1));
        bench.exchange();
    }
}

#[test]
fn what_a_quota_refuses_is_offered_again_in_order_until_the_cloud_takes_it() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let payloads: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        let texts: Vec<&str> = payloads.iter().map(String::as_str).collect();
        let mut bench = refusing(qos, 0x97, &texts);
        assert_eq!(bench.core.complaint().as_deref(), Some("the cloud refuses: 0x97 quota exceeded"));
        let window = bench.cloud.offered;
        pass(&mut bench, 600);
        assert_eq!((bench.core.queued(), bench.core.drops.total()), (50, 0), "nothing is dropped for it");
        let tries = u64::from(bench.cloud.offered - window);
        assert!(tries <= 6 + 600 / REFUSED_PAUSE_MAX.as_secs(), "one at a time, ever more seldom: {tries} tries");
        assert!(tries >= 600 / REFUSED_PAUSE_MAX.as_secs(), "and not given up: {tries} tries");
        bench.cloud.refuses = None;
        pass(&mut bench, 61);
        assert_eq!((bench.arrived(), bench.core.complaint()), (payloads, None));
        assert!(bench.core.is_empty());
        assert_eq!(bench.events("refused").len(), 1, "told when it began");
        assert_eq!(bench.cloud.violations, Vec::<String>::new());
    }
}

#[test]
fn what_waits_for_a_quota_is_still_there_after_a_kill_and_goes_once() {
    let mut bench = refusing(Qos::ExactlyOnce, 0x97, &["1", "2"]).reopen(|_| ());
    bench.cloud.refuses = None;
    bench.connect();
    assert_eq!(bench.arrived(), ["1", "2"]);
    assert_eq!(bench.cloud.violations, Vec::<String>::new());
}

#[test]
fn one_message_that_is_refused_without_a_cause_does_not_hold_up_the_others_for_ever() {
    let mut bench = refusing(Qos::AtLeastOnce, 0x83, &["poison"]);
    for _ in 1..REFUSED_TRIES {
        assert_eq!(bench.core.drops.total(), 0);
        let pause = bench.core.refusals.pause().unwrap().since(bench.clock.now());
        bench.clock.advance(pause);
        bench.exchange();
    }
    bench.clock.advance(ACKNOWLEDGED_LINGER);
    bench.exchange();
    assert_eq!(bench.core.drops.by_cause(), [("refused-0x83".to_owned(), 1)]);
    assert!(bench.core.is_empty());
    bench.cloud.refuses = None;
    bench.core.offer(bench.offered("t", "next", Qos::AtLeastOnce), bench.clock.now(), 0);
    pass(&mut bench, 61);
    assert_eq!((bench.arrived(), bench.core.complaint()), (vec!["next".to_owned()], None));
}

#[test]
fn a_packet_id_that_the_cloud_takes_for_another_message_s_makes_it_forget_the_session() {
    let mut bench = Bench::new();
    bench.connect();
    bench.cloud.refuses = Some(0x91);
    let offered = bench.offered("t", "1", Qos::ExactlyOnce);
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (up, _) = bench.turn(0);
    bench.cloud.feed(&up);
    let down = bench.cloud.output.split();
    assert_eq!(bench.core.receive(&down, bench.clock.now(), bench.clock.wall()), Err(Close::Mismatch));
    bench.cut();
    bench.cloud.refuses = None;
    bench.connect();
    assert_eq!((bench.arrived(), bench.core.is_empty()), (vec!["1".to_owned()], true));
}

#[test]
fn nothing_of_the_store_leaves_before_the_subscriptions_are_answered() {
    for version in [Version::V5, Version::V311] {
        let mut bench = Bench::new();
        bench.version = version;
        bench.store(Qos::AtLeastOnce, &["1"]);
        bench.cloud.mute = true;
        while bench.connect() == Some(Close::Purged) {
            bench.cut();
        }
        bench.clock.advance(SUBSCRIBE_WAIT.checked_sub(Duration::from_secs(1)).unwrap());
        bench.exchange();
        assert_eq!((bench.arrived(), bench.cloud.subscribed.len()), (Vec::new(), 1));
        let due = bench.core.poll_timeout().unwrap();
        assert!(due <= bench.clock.now() + Duration::from_secs(1), "it wakes up by itself");
        bench.clock.advance(Duration::from_secs(1));
        bench.exchange();
        assert_eq!(bench.arrived(), ["1"], "a cloud that does not answer gets them all the same");
        assert!(bench.events("subscription")[0].contains("unanswered"), "and it is told");
    }
}

#[test]
fn what_was_in_flight_waits_for_the_subscriptions_too() {
    let mut bench = Bench::new();
    bench.connect();
    let offered = bench.offered("t", "1", Qos::ExactlyOnce);
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (_lost, _) = bench.turn(0);
    // Other filters: they are asked for although the session is there.
    let mut bench = bench.reopen(|settings| settings.inward.clear());
    bench.connect();
    let mut bench = bench.reopen(|_| ());
    let before = bench.arrived().len();
    assert_eq!(before, 1);
    bench.cloud.mute = true;
    bench.store(Qos::ExactlyOnce, &["2"]);
    bench.connect();
    assert_eq!(bench.arrived().len(), before);
    bench.cloud.mute = false;
    pass(&mut bench, SUBSCRIBE_WAIT.as_secs());
    assert_eq!(bench.arrived(), ["1", "2"]);
}

#[test]
fn a_refused_subscription_is_told_by_name_and_asked_for_again_at_the_next_connection() {
    let mut bench = Bench::new();
    bench.cloud.grants = Some(0x87);
    bench.store(Qos::AtLeastOnce, &["1"]);
    bench.connect();
    assert_eq!(bench.arrived(), ["1"], "what goes up does not wait for what cannot come down");
    assert_eq!(
        bench.core.complaint().as_deref(),
        Some("the cloud refused the subscription `down/#`: 0x87 not authorized")
    );
    assert!(bench.events("subscription")[0].contains(r#""filter":"down/#","reason":"refused: 0x87 not authorized""#));
    bench.cut();
    bench.cloud.subscribed.clear();
    bench.cloud.grants = None;
    bench.connect();
    assert_eq!((bench.cloud.subscribed.len(), bench.core.complaint()), (1, None));
}

#[test]
fn a_subscription_that_is_granted_with_less_is_told() {
    let mut bench = Bench::new();
    bench.cloud.grants = Some(1);
    bench.connect();
    assert!(bench.events("subscription")[0].contains("granted with QoS 1 where 2 was asked for"));
}

#[test]
fn a_link_that_swallows_what_is_sent_is_known_after_30_s_whatever_the_keep_alive() {
    let mut bench = Bench::with(|settings| settings.keep_alive = Duration::from_secs(600));
    bench.connect();
    bench.clock.advance(Duration::from_secs(100));
    bench.exchange();
    let offered = bench.offered("t", "1", Qos::AtLeastOnce);
    bench.core.offer(offered, bench.clock.now(), 0);
    let mut closed = None;
    let mut waited = 0;
    // What is said from here on is lost on the way.
    while closed.is_none() && waited < 100 {
        bench.clock.advance(Duration::from_secs(1));
        waited += 1;
        (_, closed) = bench.turn(0);
        bench.core.sent(bench.clock.now());
    }
    assert_eq!((closed, waited), (Some(Close::Silent), 31));
}

#[test]
fn a_refusal_that_is_said_twice_counts_once_and_a_commit_that_fails_leaves_what_is_to_be_said_as_new() {
    let mut bench = refusing(Qos::ExactlyOnce, 0x97, &[]);
    let offered = bench.offered("t", "1", Qos::ExactlyOnce);
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (up, _) = bench.turn(0);
    bench.cloud.feed(&up);
    let down = bench.cloud.output.split();
    for _ in 0..2 {
        bench.core.receive(&down, bench.clock.now(), bench.clock.wall()).unwrap();
    }
    assert_eq!(bench.core.link.as_ref().unwrap().resend.len(), 1);
    // The next try finds a disk that fails.
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    pass(&mut bench, 2);
    assert!(bench.core.fault().is_some());
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    pass(&mut bench, 20);
    assert!(bench.cloud.offered > 1);
    assert_eq!(bench.cloud.violations, Vec::<String>::new());
}

#[test]
fn a_session_that_was_lost_begins_the_count_of_refusals_anew() {
    let mut bench = refusing(Qos::AtLeastOnce, 0x83, &["1"]);
    let refuse = |bench: &mut Bench, times| {
        for _ in 0..times {
            let pause = bench.core.refusals.pause().unwrap().since(bench.clock.now());
            bench.clock.advance(pause);
            bench.exchange();
        }
        bench.clock.advance(ACKNOWLEDGED_LINGER);
        bench.exchange();
    };
    refuse(&mut bench, REFUSED_TRIES - 2);
    assert_eq!(bench.cloud.offered, REFUSED_TRIES - 1);
    bench.cut();
    bench.cloud.forget();
    bench.connect();
    refuse(&mut bench, REFUSED_TRIES - 1);
    assert_eq!((bench.cloud.offered, bench.core.drops.total()), (2 * REFUSED_TRIES - 2, 0));
    refuse(&mut bench, 1);
    assert_eq!(bench.core.drops.total(), 1);
}

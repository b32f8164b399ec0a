//! A cloud that cannot say what it takes, and one whose tokens end.

use std::time::Duration;

use super::super::{Close, Ended};
use super::bench::Bench;
use crate::bridge::presets;
use crate::bridge::settings::{Auth, CloudLimits, InRule, Settings};
use crate::clock::Clock;
use crate::limits::SUBSCRIBE_WAIT;
use crate::model::{Qos, Secret, Timestamp, TopicFilter};
use crate::mqtt::client::Version;

fn to(preset: &str) -> impl Fn(&mut Settings) {
    let limits = presets::find(preset).unwrap().limits();
    move |settings| settings.limits = limits
}

fn online_on_311(mut bench: Bench) -> Bench {
    bench.version = Version::V311;
    while bench.connect() == Some(Close::Purged) {
        bench.cut();
    }
    bench
}

#[test]
fn qos_2_goes_as_qos_1_to_a_cloud_that_would_hang_up_on_it() {
    let mut bench = Bench::with(to("aws-iot"));
    bench.store(Qos::ExactlyOnce, &["1", "2"]);
    let bench = online_on_311(bench);
    assert_eq!(bench.arrived(), ["1", "2"]);
    assert!(bench.cloud.arrived.iter().all(|arrival| arrival.qos == Qos::AtLeastOnce));
    assert!(bench.core.is_empty());
}

#[test]
fn a_payload_beyond_the_clouds_limit_is_told_and_holds_nothing_up() {
    let change = |settings: &mut Settings| settings.limits = CloudLimits { max_payload: 4, ..CloudLimits::default() };
    let mut bench = Bench::with(change);
    bench.store(Qos::AtLeastOnce, &["fits", "too large", "too"]);
    let bench = online_on_311(bench);
    assert_eq!(bench.arrived(), ["fits", "too"]);
    assert_eq!(bench.core.drops.by_cause().iter().map(|(cause, _)| cause.as_str()).collect::<Vec<_>>(), ["too-large"]);
}

#[test]
fn an_owner_s_own_limit_counts_where_the_broker_says_it_and_the_usual_one_where_it_cannot() {
    for (version, arrived) in [(Version::V5, vec!["long enough"]), (Version::V311, vec![])] {
        let limits = CloudLimits { max_packet: 8, ..presets::find("emqx").unwrap().limits() };
        let mut bench = Bench::with(move |settings| settings.limits = limits);
        bench.version = version;
        bench.store(Qos::AtLeastOnce, &["long enough"]);
        while bench.connect() == Some(Close::Purged) {
            bench.cut();
        }
        assert_eq!(bench.arrived(), arrived, "{version:?}");
    }
}

#[test]
fn a_cloud_that_takes_no_status_hears_none_and_is_left_in_order() {
    let change = |settings: &mut Settings| settings.limits = CloudLimits { status: false, ..CloudLimits::default() };
    let mut bench = online_on_311(Bench::with(change));
    bench.core.leave();
    assert_eq!(bench.exchange(), Some(Close::Left));
    assert!(bench.cloud.status.is_empty(), "{:?}", bench.cloud.status);
}

fn with_token(settings: &mut Settings) {
    let key = Secret::new("AAECAwQFBgcICQoLDA0ODw==".into());
    let (host, device) = ("hub.example".into(), "box".into());
    settings.auth = Auth::Sas { host, device, policy: None, key, ttl: Duration::from_secs(100) };
}

#[test]
fn a_token_is_renewed_before_its_end_and_the_cloud_hears_no_offline() {
    let mut bench = Bench::with(with_token);
    assert_eq!(bench.connect(), None);
    bench.clock.advance(Duration::from_secs(79));
    assert_eq!(bench.turn(0).1, None);
    let heard = bench.cloud.status.clone();
    bench.clock.advance(Duration::from_secs(1));
    let (bytes, close) = bench.turn(0);
    assert_eq!(close, Some(Close::Renewed));
    bench.cloud.feed(&bytes);
    assert_eq!(bench.cloud.status, heard, "nobody is told of it");
    bench.cut();
    bench.store(Qos::AtLeastOnce, &["after"]);
    assert_eq!(bench.connect(), None);
    assert_eq!(bench.arrived(), ["after"]);
}

#[test]
fn what_is_in_flight_is_waited_for_before_a_token_is_renewed_but_not_for_long() {
    let mut bench = Bench::with(|settings| {
        with_token(settings);
        settings.inward.clear();
    });
    assert_eq!(bench.connect(), None);
    bench.cloud.deaf = true;
    bench.store(Qos::AtLeastOnce, &["in flight"]);
    bench.exchange();
    bench.clock.advance(Duration::from_secs(80));
    assert_eq!(bench.turn(0).1, None, "it may be acknowledged yet");
    bench.clock.advance(crate::limits::TOKEN_GRACE);
    let close = (0..3).find_map(|_| bench.turn(0).1);
    assert_eq!(close, Some(Close::Renewed));
}

#[test]
fn a_refusal_whose_pause_is_over_asks_for_no_turn_while_a_token_is_renewed() {
    let mut bench = Bench::with(|settings| {
        with_token(settings);
        settings.inward.clear();
    });
    bench.store(Qos::AtLeastOnce, &["1"]);
    bench.cloud.refuses = Some(0x97);
    assert_eq!(bench.connect(), None);
    // Tried once more, and not answered.
    bench.cloud.deaf = true;
    bench.clock.advance(Duration::from_secs(2));
    bench.exchange();
    bench.clock.advance(Duration::from_secs(78));
    bench.core.receive(&[0xd0, 0], bench.clock.now(), bench.clock.wall()).unwrap();
    for _ in 0..3 {
        assert_eq!(bench.turn(0).1, None);
    }
    let now = bench.clock.now();
    assert!(!bench.core.has_more(now, 0));
    assert!(bench.core.poll_timeout().is_some_and(|due| due > now), "{:?} at {now:?}", bench.core.poll_timeout());
}

#[test]
fn no_token_is_made_by_a_clock_that_cannot_be_right() {
    let mut bench = Bench::with(with_token);
    bench.clock.set_wall(Timestamp { unix_ms: 60_000, synced: false, at: None });
    let told = bench.core.connect(Version::V311, bench.clock.now(), bench.clock.wall()).unwrap_err();
    assert_eq!(told.to_string(), "the clock is not set: a token would be out of date");
}

fn twenty_filters(settings: &mut Settings) {
    to("aws-iot")(settings);
    let rule =
        |nth| InRule { from: TopicFilter::parse(&format!("down/{nth}")).unwrap(), to: None, qos: Qos::AtLeastOnce };
    settings.inward = (0..20).map(rule).collect();
}

#[test]
fn a_cloud_that_takes_eight_filters_a_packet_is_asked_for_twenty_in_three() {
    let mut bench = Bench::with(twenty_filters);
    bench.cloud.subscribe_max = Some(8);
    bench.store(Qos::AtLeastOnce, &["1"]);
    bench.connect_without_reading();
    assert_eq!((bench.cloud.subscribed.len(), bench.cloud.violations.len()), (20, 0), "{:?}", bench.cloud.violations);
    // SUBACK with MQTT 5: two bytes of header, packet id, no properties, a code for each of 8 filters.
    for nth in 0..2 {
        let answer = bench.cloud.output.split_to(2 + 3 + 8);
        bench.core.receive(&answer, bench.clock.now(), bench.clock.wall()).unwrap();
        let (up, _) = bench.turn(0);
        bench.cloud.feed(&up);
        assert!(bench.arrived().is_empty(), "after answer {nth} of 3");
    }
    assert_eq!(bench.exchange(), None);
    assert_eq!(bench.arrived(), ["1"]);
    bench.cut();
    bench.cloud.subscribed.clear();
    bench.connect();
    assert!(bench.cloud.subscribed.is_empty(), "all were agreed to, and the session holds them");
    // What is wanted no longer goes in packets as small.
    let mut bench = bench.reopen(|settings| to("aws-iot")(settings));
    bench.cloud.subscribe_max = Some(8);
    bench.connect();
    assert_eq!(
        (bench.cloud.subscribed.as_slice(), bench.cloud.violations.len()),
        (["down/#".to_owned()].as_slice(), 0)
    );
}

#[test]
fn a_refusal_in_the_first_of_several_packets_is_asked_for_again_at_the_next_connection() {
    let mut bench = Bench::with(twenty_filters);
    bench.cloud.bars = vec!["down/3".into()];
    bench.connect();
    let told = bench.core.complaint();
    assert_eq!(told.as_deref(), Some("the cloud refused the subscription `down/3`: 0x87 not authorized"));
    bench.cut();
    bench.cloud.bars.clear();
    bench.cloud.subscribed.clear();
    bench.connect();
    assert_eq!((bench.cloud.subscribed.len(), bench.core.complaint()), (20, None));
}

/// A 3.1.1 cloud that closes on every QoS 2 message, met ten times with one that waits. Returns the QoS that it came with in the end.
fn closes_on_qos_2(mut bench: Bench, ended: Ended) -> Option<Qos> {
    bench.cloud.inflight_max_311 = 0;
    bench.store(Qos::ExactlyOnce, &["1"]);
    let before = bench.cloud.arrived.len();
    for _ in 0..10 {
        bench = online_on_311(bench);
        bench.core.disconnected(ended);
        bench.cloud.cut();
    }
    bench.cloud.arrived.get(before).map(|arrival| arrival.qos)
}

#[test]
fn a_line_that_breaks_again_and_again_lowers_no_qos_2_message() {
    assert_eq!(closes_on_qos_2(Bench::new(), Ended::Broken), None);
    assert_eq!(
        closes_on_qos_2(Bench::new(), Ended::Closed),
        Some(Qos::AtLeastOnce),
        "closed in order, it is the cloud's word"
    );
}

#[test]
fn a_cloud_that_once_answered_qos_2_is_known_to_have_it_also_after_a_restart_and_another_is_not() {
    let answered = || {
        let mut bench = Bench::new();
        bench.store(Qos::ExactlyOnce, &["0"]);
        let bench = online_on_311(bench);
        assert_eq!(bench.arrived(), ["0"]);
        bench
    };
    let bench = answered().reopen(|_| ());
    assert_eq!(closes_on_qos_2(bench, Ended::Closed), None);

    let mut bench = answered();
    bench.cut();
    let mut other = super::settings(bench.dir.path());
    other.url.host = "other".into();
    bench.core.apply(std::sync::Arc::new(other));
    assert_eq!(closes_on_qos_2(bench, Ended::Closed), Some(Qos::AtLeastOnce));
}

#[test]
fn subscriptions_that_are_not_answered_take_nothing_from_the_window() {
    let mut bench = Bench::with(|settings| {
        twenty_filters(settings);
        (settings.window, settings.limits.subscriptions_per_packet) = (4, 1);
    });
    bench.cloud.mute = true;
    bench.store(Qos::AtLeastOnce, &["1"]);
    bench.connect();
    for _ in 0..=SUBSCRIBE_WAIT.as_secs() {
        bench.clock.advance(Duration::from_secs(1));
        bench.exchange();
    }
    assert_eq!(bench.arrived(), ["1"]);
}

/// MQTT 5 §3.2.2.3.14: the value that the cloud gives takes the place of the one it was asked for.
#[test]
fn the_keep_alive_that_the_cloud_wants_is_kept() {
    let mut bench = Bench::new();
    bench.core.connect(bench.version, bench.clock.now(), bench.clock.wall()).unwrap();
    // CONNACK: no session, success, and one property, Server Keep Alive, 7 s.
    let welcome = [0x20, 6, 0, 0, 3, 0x13, 0, 7];
    bench.core.receive(&welcome, bench.clock.now(), bench.clock.wall()).unwrap();
    assert!(!bench.turn(0).0.is_empty(), "it says that it is there");
    bench.clock.advance(Duration::from_millis(6_999));
    assert!(bench.turn(0).0.is_empty(), "not yet");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.turn(0).0[..], [0xc0, 0], "our own 30 s are not over yet");
}

//! Topics by number: what it saves, and that a number never stands for what the cloud does not know.

use std::time::Duration;

use super::super::{Close, Ended};
use super::bench::Bench;
use crate::clock::Clock;
use crate::model::Qos;
use crate::mqtt::client::Version;

const TOPIC: &str = "tidegate/greenhouse-1/air";
const READINGS: usize = 1_000;

/// Bytes of the packets that carry so many readings of one topic, to a cloud that takes so many aliases.
fn bytes(version: Version, aliases_max: u16) -> usize {
    let mut bench = Bench::new();
    (bench.version, bench.cloud.aliases_max) = (version, aliases_max);
    while bench.connect().is_some() {
        bench.cut();
    }
    let birth = bench.cloud.publish_bytes;
    for n in 0..READINGS {
        let payload = format!(r#"{{"ts":"2026-11-23T01:15:00.123Z","temperature":21.5,"humidity":{:.1}}}"#, n % 100);
        bench.core.offer(bench.offered(TOPIC, &payload, Qos::AtLeastOnce), bench.clock.now(), 0);
        if n % 100 == 99 {
            bench.clock.advance(Duration::from_millis(60));
            bench.exchange();
        }
    }
    assert_eq!(bench.cloud.arrived.len(), READINGS);
    assert!(bench.cloud.arrived.iter().all(|arrival| arrival.topic == TOPIC));
    assert_eq!(bench.cloud.violations, [""; 0]);
    bench.cloud.publish_bytes - birth
}

#[test]
fn a_topic_goes_out_once_on_a_connection_and_then_its_number() {
    let [plain, aliased] = [0, 1].map(|aliases_max| bytes(Version::V5, aliases_max));
    println!("{READINGS} readings on `{TOPIC}`: {plain} bytes without aliases, {aliased} with");
    assert!(plain - aliased >= (READINGS - 1) * (TOPIC.len() - 3) - 3, "its own length less, and three bytes more");
    assert!(bytes(Version::V311, 1) < aliased, "no alias and no marks");
}

#[test]
fn what_is_said_again_on_another_connection_carries_its_topic() {
    let mut bench = Bench::new();
    bench.connect();
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::AtMostOnce] {
        bench.core.offer(bench.offered(TOPIC, "first", qos), bench.clock.now(), 0);
    }
    bench.clock.advance(Duration::from_millis(60));
    bench.exchange();
    for payload in ["a", "b"] {
        bench.core.offer(bench.offered(TOPIC, payload, Qos::AtLeastOnce), bench.clock.now(), 0);
    }
    bench.clock.advance(Duration::from_millis(60));
    // It leaves, and is lost with the connection.
    let (lost, _) = bench.turn(0);
    assert!(!lost.windows(TOPIC.len()).any(|window| window == TOPIC.as_bytes()), "by its number alone");
    bench.cut();
    bench.connect();
    assert_eq!(bench.arrived(), ["first", "first", "first", "a", "b"]);
    assert!(bench.cloud.arrived.iter().all(|arrival| arrival.topic == TOPIC));
    assert_eq!(bench.cloud.violations, [""; 0]);
}

#[test]
fn a_number_that_never_left_is_not_used() {
    let mut bench = Bench::new();
    bench.connect();
    // Taken in and claimed in one transaction, which fails.
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    bench.core.offer(bench.offered(TOPIC, "1", Qos::AtLeastOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    bench.exchange();
    assert!(bench.core.fault().is_some());
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    bench.clock.advance(Duration::from_secs(10));
    bench.exchange();
    bench.core.offer(bench.offered("another/topic", "2", Qos::AtLeastOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    bench.exchange();
    let topics: Vec<_> = bench.cloud.arrived.iter().map(|arrival| arrival.topic.as_str()).collect();
    assert_eq!(topics, [TOPIC, "another/topic"]);
    assert_eq!(bench.cloud.violations, [""; 0]);
}

#[test]
fn more_topics_than_the_cloud_has_numbers_for_go_out_in_full() {
    let mut bench = Bench::new();
    bench.connect();
    let topics: Vec<String> = (0..20).map(|n| format!("topic/{}", n % 5)).collect();
    for topic in &topics {
        bench.core.offer(bench.offered(topic, "x", Qos::AtLeastOnce), bench.clock.now(), 0);
    }
    bench.clock.advance(Duration::from_millis(60));
    bench.exchange();
    let arrived: Vec<_> = bench.cloud.arrived.iter().map(|arrival| arrival.topic.clone()).collect();
    assert_eq!(arrived, topics);
    assert_eq!(bench.cloud.violations, [""; 0]);
}

#[test]
fn what_fits_only_by_its_topic_s_number_does_not_go_since_it_could_not_be_said_again() {
    let mut bench = Bench::new();
    bench.cloud.max_packet = 400;
    bench.connect();
    let (topic, long, fits) = ("t".repeat(200), "x".repeat(150), "x".repeat(100));
    for payload in ["1", &long, &fits] {
        bench.core.offer(bench.offered(&topic, payload, Qos::ExactlyOnce), bench.clock.now(), 0);
    }
    bench.clock.advance(Duration::from_millis(60));
    bench.exchange();
    assert_eq!(bench.arrived(), ["1", &fits]);
    assert_eq!(bench.core.drops.by_cause(), [("too-large".to_owned(), 1)]);
}

#[test]
fn a_cloud_that_ends_the_connection_over_an_alias_gets_none_any_more() {
    let mut bench = Bench::new();
    bench.connect();
    let say = |bench: &mut Bench, payload: &str| {
        bench.core.offer(bench.offered(TOPIC, payload, Qos::AtLeastOnce), bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        bench.exchange();
    };
    let given = |bench: &Bench| bench.core.link.as_ref().unwrap().aliases.given();
    say(&mut bench, "a");
    assert_eq!(given(&bench), 1);
    // DISCONNECT, 0x94: topic alias invalid.
    let end = bench.core.receive(&[0xe0, 1, 0x94], bench.clock.now(), bench.clock.wall());
    assert!(matches!(end, Err(Close::Dismissed(0x94, _))), "{end:?}");
    bench.cut();
    bench.connect();
    say(&mut bench, "b");
    say(&mut bench, "c");
    assert_eq!((bench.arrived(), given(&bench)), (["a", "b", "c"].map(str::to_owned).to_vec(), 0));
}

/// Has a topic's second message go by number, and the connection end over it.
fn end_over_a_number(bench: &mut Bench, ended: Ended) -> usize {
    bench.connect();
    for payload in ["full", "by number"] {
        bench.core.offer(bench.offered(TOPIC, payload, Qos::AtLeastOnce), bench.clock.now(), 0);
    }
    bench.clock.advance(Duration::from_millis(60));
    bench.turn(0);
    let given = bench.core.link.as_ref().unwrap().aliases.given();
    bench.core.disconnected(ended);
    bench.cloud.cut();
    given
}

#[test]
fn a_cloud_that_closes_without_a_word_over_a_number_gets_none_after_a_few_times() {
    let mut bench = Bench::new();
    let given: Vec<usize> = (0..5).map(|_| end_over_a_number(&mut bench, Ended::Broken)).collect();
    assert_eq!(given, [1, 1, 1, 0, 0]);

    let mut bench = Bench::new();
    let given: Vec<usize> = (0..5).map(|_| end_over_a_number(&mut bench, Ended::Here)).collect();
    assert_eq!(given, [1; 5], "where we end it the cloud is not to blame");

    let mut bench = Bench::new();
    bench.connect();
    for payload in ["a", "b"] {
        bench.core.offer(bench.offered(TOPIC, payload, Qos::AtLeastOnce), bench.clock.now(), 0);
    }
    bench.clock.advance(Duration::from_millis(60));
    bench.exchange();
    bench.cut();
    let given: Vec<usize> = (0..5).map(|_| end_over_a_number(&mut bench, Ended::Closed)).collect();
    assert_eq!(given, [1; 5], "it has taken one");
}

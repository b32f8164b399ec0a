//! What a message is known by at the cloud, and what comes back.

use bytes::BytesMut;

use super::super::Close;
use super::bench::Bench;
use super::settings;
use crate::bridge::intake::Offered;
use crate::bridge::settings::InRule;
use crate::clock::Clock;
use crate::logic::marks;
use crate::model::{GatewayId, Qos, TopicFilter};
use crate::mqtt::client::Version;

fn ids(bench: &Bench) -> Vec<String> {
    let found = bench.cloud.user.iter().flatten().filter(|(name, _)| name == "tg-msg-id");
    found.map(|(_, id)| id.clone()).collect()
}

#[test]
fn a_message_keeps_its_id_over_kills_and_lost_sessions_and_another_store_has_others() {
    let mut bench = Bench::new();
    bench.cloud.mute = true;
    bench.store(Qos::AtLeastOnce, &["1", "2"]);
    bench.cloud.mute = false;
    bench.connect();
    let first = ids(&bench);
    assert_eq!(first.len(), 2);
    assert_ne!(first[0], first[1]);
    assert!(first.iter().all(|id| id.len() == "0123456789abcdef-1".len()), "{first:?}");
    // Its acknowledgement is lost with us, and the session with the cloud: it goes again, under another packet id.
    let mut bench = bench.reopen(|_| ());
    bench.cloud.forget();
    bench.connect();
    assert_eq!(bench.arrived(), ["1", "2", "1", "2"]);
    assert_eq!(ids(&bench), [&first[..], &first[..]].concat());
    let vias: Vec<_> = bench.cloud.user.iter().flatten().filter(|(name, _)| name == "tg-via").collect();
    assert!(vias.len() == 4 && vias.iter().all(|(_, gateway)| gateway == "g"), "{vias:?}");

    let mut other = Bench::new();
    other.store(Qos::AtLeastOnce, &["1"]);
    other.connect();
    assert_ne!(ids(&other)[0], first[0]);
}

fn everything() -> Vec<InRule> {
    vec![InRule { from: TopicFilter::parse("#").unwrap(), to: None, qos: Qos::ExactlyOnce }]
}

fn told(bench: &Bench, topic: &str) -> usize {
    bench.local.iter().filter(|message| message.topic.as_str() == topic).count()
}

#[test]
fn a_3_1_1_cloud_that_sends_everything_back_is_told_from_one_that_passes_on_an_equal_message() {
    let mut bench = Bench::with(|settings| settings.inward = everything());
    bench.version = Version::V311;
    while bench.connect().is_some() {
        bench.cut();
    }
    let offered = bench.offered("t", "on", Qos::AtLeastOnce);
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.clock.advance(std::time::Duration::from_millis(60));
    bench.exchange();
    assert_eq!(bench.arrived(), ["on"]);
    // Its echo, and then the same from another client.
    for times in 0..2 {
        bench.cloud.send("t", b"on", Qos::AtMostOnce, 0, false);
        bench.exchange();
        assert_eq!(told(&bench, "t"), times);
    }
    bench.cloud.send("t", b"off", Qos::AtMostOnce, 0, false);
    bench.exchange();
    assert_eq!(told(&bench, "t"), 2);
}

/// A PUBLISH of MQTT 5 with QoS 0 that went through a gateway.
fn through(topic: &str, gateway: &str) -> BytesMut {
    let mut properties = vec![0x26, 0, 6];
    properties.extend_from_slice(b"tg-via");
    properties.extend_from_slice(&[0, u8::try_from(gateway.len()).unwrap()]);
    properties.extend_from_slice(gateway.as_bytes());
    let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
    body.extend_from_slice(topic.as_bytes());
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend_from_slice(&properties);
    body.push(b'x');
    let mut packet = BytesMut::from(&[0x30, u8::try_from(body.len()).unwrap()][..]);
    packet.extend_from_slice(&body);
    packet
}

#[test]
fn on_mqtt_5_what_went_through_us_is_not_told_again_unless_it_comes_by_another_way() {
    let mut bench = Bench::with(|settings| {
        settings.inward.extend(everything());
        settings.out[0].from = TopicFilter::parse("a/#").unwrap();
    });
    bench.connect();
    for (topic, gateway, local, times) in [
        ("a/x", "g", "a/x", 0),
        ("a/x", "another", "a/x", 1),
        // Somebody at the cloud made a command of our message, and kept its properties.
        ("down/pump", "g", "local/pump", 1),
    ] {
        let packet = through(topic, gateway);
        bench.core.receive(&packet, bench.clock.now(), bench.clock.wall()).unwrap();
        bench.exchange();
        assert_eq!(told(&bench, local), times, "{topic} through {gateway}");
    }
}

/// Connects, and carries bytes both ways until the cloud is found to be our own or nothing moves.
fn meet(bench: &mut Bench) -> Result<(), Close> {
    let connect = bench.core.connect(bench.version, bench.clock.now(), bench.clock.wall()).unwrap();
    bench.cloud.feed(&connect);
    for _ in 0..100 {
        let down = bench.cloud.output.split();
        if let Err(close) = bench.core.receive(&down, bench.clock.now(), bench.clock.wall()) {
            bench.cut();
            return Err(close);
        }
        let (up, _) = bench.turn(0);
        bench.cloud.feed(&up);
        if up.is_empty() && bench.cloud.output.is_empty() {
            return Ok(());
        }
    }
    panic!("it is asked whose it is again and again");
}

#[test]
fn a_cloud_that_was_taken_for_our_own_is_used_once_it_says_that_it_is_another() {
    let mut bench = Bench::new();
    bench.cloud.gateway = Some("g");
    assert!(matches!(meet(&mut bench), Err(Close::Itself(_))));
    assert!(matches!(meet(&mut bench), Err(Close::Itself(_))));
    // The gateway there got an id of its own.
    bench.cloud.gateway = Some("g2");
    assert_eq!(meet(&mut bench), Ok(()));
    assert!(bench.core.is_online());
    assert_eq!(bench.core.peer().map(GatewayId::as_str), Some("g2"));
}

#[test]
fn a_cloud_that_is_no_longer_asked_whose_it_is_counts_as_nobody_s() {
    for gateway in ["g", "g2"] {
        let mut bench = Bench::new();
        bench.cloud.gateway = Some(gateway);
        let _ = meet(&mut bench);
        bench.cut();
        let mut settings = settings(bench.dir.path());
        settings.limits.greet = false;
        bench.core.apply(std::sync::Arc::new(settings));
        assert_eq!(meet(&mut bench), Ok(()));
        assert!(bench.core.is_online(), "{gateway}");
        assert_eq!(bench.core.peer(), None);
    }
}

#[test]
fn the_second_copy_of_a_message_waits_for_the_commit_of_the_first_and_is_not_stored() {
    let mut bench = Bench::new();
    bench.core.offer(bench.offered("t", "x", Qos::AtLeastOnce), bench.clock.now(), 0);
    let (answer, mut committed) = tokio::sync::oneshot::channel();
    let second = Offered { is_here: true, answer: Some(answer), ..bench.offered("t", "x", Qos::AtLeastOnce) };
    bench.core.offer(second, bench.clock.now(), 0);
    assert!(committed.try_recv().is_err());
    bench.turn(0);
    assert_eq!(committed.try_recv().unwrap(), Ok(()));
    bench.connect();
    assert_eq!(bench.arrived(), ["x"]);
}

#[test]
fn what_was_stored_before_its_cloud_was_known_for_where_it_came_from_is_counted_when_it_goes() {
    let mut bench = Bench::new();
    let mut offered = bench.offered("t", "x", Qos::AtLeastOnce);
    let peer = GatewayId::parse("g2").unwrap();
    marks::came_from(&mut std::sync::Arc::make_mut(&mut offered.message).properties, &peer);
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.clock.advance(std::time::Duration::from_millis(60));
    bench.turn(0);
    bench.cloud.gateway = Some("g2");
    assert_eq!(meet(&mut bench), Ok(()));
    bench.clock.advance(std::time::Duration::from_secs(1));
    bench.exchange();
    assert_eq!(bench.arrived(), [""; 0]);
    assert_eq!(bench.core.drops.by_cause(), [("circle".to_owned(), 1)]);
}

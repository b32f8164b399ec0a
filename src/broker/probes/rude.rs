//! What rude, broken and hostile clients get, and that their neighbours do not notice.

use super::harness::{Raw, connect, packet, publish, routings, settings, start, subscribe};
use crate::broker::{Broker, Settings};
use crate::model::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use crate::mqtt::server::Version::{self, V5, V311};

/// Runs a test against every routing and version, and then sees whether the broker still serves.
async fn everywhere(test: impl AsyncFn(&Broker, Version)) {
    for routing in routings() {
        let broker = start(settings(routing)).await;
        for version in [V311, V5] {
            test(&broker, version).await;
            serves(&broker, version).await;
        }
        broker.kill().await;
    }
}

async fn serves(broker: &Broker, version: Version) {
    let mut client = Raw::connect(broker, version, "neighbour").await;
    client.subscribe("neighbour/#", 0).await;
    client.publish("neighbour/x", b"1", AtMostOnce, false, 0).await;
    client.expect(&publish(version, "neighbour/x", b"1", AtMostOnce, false, 0)).await;
}

/// Sends the packet after a polite CONNECT; a client of version 5 is told this reason, and both are hung up on.
async fn expect_hang_up(broker: &Broker, version: Version, bytes: &[u8], reason: u8, why: &str) {
    let mut client = Raw::connect(broker, version, "rude").await;
    client.send(bytes).await;
    if version == V5 {
        assert_eq!(client.packet().await.as_deref(), Some(&[0xe0, 1, reason][..]), "{why}");
    }
    assert_eq!(client.packet().await, None, "{why}");
}

#[tokio::test]
async fn a_topic_that_does_not_begin_with_ascii_is_a_topic_like_any_other() {
    everywhere(async |broker, version| {
        let mut client = Raw::connect(broker, version, "c").await;
        client.subscribe("über/#", 0).await;
        client.publish("über/x", b"1", AtMostOnce, false, 0).await;
        client.expect(&publish(version, "über/x", b"1", AtMostOnce, false, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn odd_client_ids_are_client_ids() {
    everywhere(async |broker, version| {
        for client in ["a/b", "a/b", "+", "#", "$x", "$share/a/b", "ü", " "] {
            Raw::connect(broker, version, client).await.expect_silence().await;
        }
    })
    .await;
}

#[tokio::test]
async fn packets_that_no_client_may_send_end_its_connection() {
    everywhere(async |broker, version| {
        let block: &[u8] = if version == V5 { &[0] } else { &[] };
        for (bytes, reason, why) in [
            (packet(0x36, &[b"\0\x01a\0\x01", block].concat()), 0x81, "QoS 3"),
            (packet(0x38, &[b"\0\x01a", block].concat()), 0x81, "DUP with QoS 0"),
            (packet(0x32, &[b"\0\x01a\0\0", block].concat()), 0x82, "packet id 0"),
            (packet(0x30, &[b"\0\x03a/#", block].concat()), 0x90, "a wildcard in a topic"),
            (packet(0x30, &[b"\0\x01\0", block].concat()), 0x90, "U+0000 in a topic"),
            (packet(0x80, b"\0\x01\0\x01a\0"), 0x81, "SUBSCRIBE with wrong flags"),
            (packet(0x60, b"\0\x01"), 0x81, "PUBREL with wrong flags"),
            (connect(version, "rude", 2, &[], &[]), 0x82, "a second CONNECT"),
            (packet(0x90, b"\0\x01\0"), 0x82, "a packet of the server's"),
            (vec![0x00, 0x00], 0x82, "a packet type that is none"),
            (vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f], 0x81, "a length of five bytes"),
            (vec![0x30, 0x80, 0x80, 0x80, 0x10], 0x95, "a packet larger than max_packet"),
        ] {
            expect_hang_up(broker, version, &bytes, reason, why).await;
        }
    })
    .await;
}

#[tokio::test]
async fn acknowledgements_out_of_place_are_passed_over() {
    everywhere(async |broker, version| {
        let mut client = Raw::connect(broker, version, "c").await;
        client.send(&[0x40, 2, 0, 9, 0x70, 2, 0, 9]).await;
        client.expect_silence().await;
        client.send(&[0x50, 2, 0, 9]).await;
        client.expect(&[0x62, 2, 0, 9]).await;
        client.send(&[0x62, 2, 0, 9]).await;
        if version == V5 {
            client.expect(&[0x70, 3, 0, 9, 0x92]).await;
        } else {
            client.expect(&[0x70, 2, 0, 9]).await;
        }
        client.subscribe("t", 2).await;
        client.publish("t", b"x", ExactlyOnce, false, 1).await;
        client.expect(&[0x50, 2, 0, 1]).await;
        client.expect(&publish(version, "t", b"x", ExactlyOnce, false, 1)).await;
        for _ in 0..2 {
            client.send(&[0x50, 2, 0, 1]).await;
            client.expect(&[0x62, 2, 0, 1]).await;
        }
        client.send(&[0x70, 2, 0, 1, 0x70, 2, 0, 1]).await;
        client.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn what_comes_before_connect_is_bounded_and_must_be_connect() {
    let broker = start(settings(routings()[0])).await;
    let address = broker.addresses()[0];
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 2, 0],
        &[0xc0, 0],
        &[0x10, 0xff, 0xff, 0xff, 0x7f],
        b"\x10\x0d\0\x04MQTX\x04\x02\0\x3c\0\x01a",
        b"\x10\x0d\0\x04MQTT\x04\x03\0\x3c\0\x01a",
        b"\x10\x0c\0\x04MQTT\x04\xc2\0\x3c\0\0",
    ] {
        let mut client = Raw::open(address, V311).await;
        client.send_rude(bytes).await;
        client.expect_end().await;
    }
    for level in [3, 6, 0x84] {
        let mut client = Raw::open(address, V311).await;
        let mut bytes = connect(V311, "a", 2, &[], &[]);
        bytes[8] = level;
        client.send(&bytes).await;
        client.expect(&[0x20, 2, 0, 1]).await;
        client.expect_end().await;
    }
    let mut old = Raw::open(address, V311).await;
    old.send(&packet(0x10, b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01a")).await;
    old.expect(&[0x20, 2, 0, 1]).await;
    old.expect_end().await;
    serves(&broker, V311).await;
    broker.kill().await;
}

#[tokio::test]
async fn a_legal_connect_that_panics_the_library_is_welcome() {
    // Topic Alias Maximum 0, and a Receive Maximum of 65,535: the two that mqtt-protocol-core's Connection does not survive as a server.
    let broker = start(settings(routings()[0])).await;
    for properties in [&[0x22, 0, 0][..], &[0x21, 0xff, 0xff]] {
        let (mut client, connack) = Raw::connect_with(&broker, V5, "c", 2, properties).await;
        assert_eq!(connack[3], 0);
        client.expect_silence().await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn a_password_without_a_user_name_is_welcome_in_version_5() {
    let broker = start(settings(routings()[0])).await;
    for (rest, welcome) in [(&b"\0\x02pw"[..], true), (b"\0\x03pw", false), (b"\0\x02pw!", false), (b"", false)] {
        let mut client = Raw::open(broker.addresses()[0], V5).await;
        client.send(&connect(V5, "a", 0x42, &[], rest)).await;
        assert_eq!(client.packet().await.is_some_and(|connack| connack[3] == 0), welcome, "{rest:?}");
    }
    let mut client = Raw::open(broker.addresses()[0], V311).await;
    client.send(&connect(V311, "a", 0x42, &[], b"\0\x02pw")).await;
    client.expect_end().await;
    serves(&broker, V5).await;
    broker.kill().await;
}

#[tokio::test]
async fn a_client_of_version_5_gets_no_more_than_it_takes() {
    let broker = start(settings(routings()[0])).await;
    // Receive Maximum 2, Maximum Packet Size 30.
    let (mut client, _) = Raw::connect_with(&broker, V5, "small", 2, &[0x21, 0, 2, 0x27, 0, 0, 0, 30]).await;
    client.subscribe("t", 1).await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    for (payload, id) in [(&[b'x'; 40][..], 1), (b"1", 2), (b"2", 3), (b"3", 4)] {
        publisher.publish("t", payload, AtLeastOnce, false, id).await;
        publisher.expect(&[0x40, 2, 0, u8::try_from(id).unwrap()]).await;
    }
    client.expect(&publish(V5, "t", b"1", AtLeastOnce, false, 2)).await;
    client.expect(&publish(V5, "t", b"2", AtLeastOnce, false, 3)).await;
    client.expect_silence().await;
    client.send(&[0x40, 2, 0, 2]).await;
    client.expect(&publish(V5, "t", b"3", AtLeastOnce, false, 4)).await;
    broker.kill().await;
}

#[tokio::test]
async fn topic_aliases_work_both_ways() {
    let broker = start(settings(routings()[0])).await;
    // Topic Alias Maximum 1.
    let (mut client, _) = Raw::connect_with(&broker, V5, "alias", 2, &[0x22, 0, 1]).await;
    client.subscribe("a/+", 0).await;
    client.send(&packet(0x30, b"\0\x03a/1\x03\x23\0\x05one")).await;
    client.send(&packet(0x30, b"\0\0\x03\x23\0\x05two")).await;
    client.expect(&packet(0x30, b"\0\x03a/1\x03\x23\0\x01one")).await;
    client.expect(&packet(0x30, b"\0\0\x03\x23\0\x01two")).await;
    client.send(&packet(0x30, b"\0\x03a/2\0x")).await;
    client.expect(&packet(0x30, b"\0\x03a/2\0x")).await;
    client.send(&packet(0x30, b"\0\0\x03\x23\0\x06x")).await;
    client.expect(&[0xe0, 1, 0x82]).await;
    client.expect_end().await;
    broker.kill().await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_free_seat_is_given_again() {
    let broker = start(Settings { max_connections: 1, ..settings(routings()[0]) }).await;
    let first = Raw::connect(&broker, V311, "first").await;
    let mut second = Raw::open(broker.addresses()[0], V311).await;
    second.send_rude(&connect(V311, "second", 2, &[], &[])).await;
    second.expect_end().await;
    drop(first);
    super::harness::eventually("a seat is free", async || {
        let mut third = Raw::open(broker.addresses()[0], V311).await;
        third.send_rude(&connect(V311, "third", 2, &[], &[])).await;
        third.packet().await.is_some()
    })
    .await;
    broker.kill().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody_up() {
    for routing in routings() {
        let broker = start(settings(routing)).await;
        let mut stuck = Raw::connect(&broker, V311, "stuck").await;
        stuck.subscribe("flood", 0).await;
        let mut publisher = Raw::connect(&broker, V311, "pub").await;
        let payload = vec![0; 100_000];
        for id in 1..=300 {
            publisher.publish("flood", &payload, AtLeastOnce, false, id).await;
            let [high, low] = id.to_be_bytes();
            publisher.expect(&[0x40, 2, high, low]).await;
        }
        serves(&broker, V311).await;
        broker.kill().await;
    }
}

#[tokio::test]
async fn a_filter_deeper_than_the_limit_is_refused() {
    let broker = start(settings(routings()[0])).await;
    let mut client = Raw::connect(&broker, V5, "deep").await;
    client.send(&subscribe(V5, 1, &"/".repeat(60_000), 0)).await;
    client.expect(&[0x90, 4, 0, 1, 0, 0x8f]).await;
    client.publish(&"/".repeat(60_000), b"", AtMostOnce, false, 0).await;
    client.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn mutated_packets_take_nobody_down() {
    let mut random = fastrand::Rng::with_seed(7);
    let broker = start(settings(routings()[0])).await;
    for version in [V311, V5] {
        let block: &[u8] = if version == V5 { &[0] } else { &[] };
        let polite = [
            connect(version, "fuzz", 6, &[], &[block, b"\0\x01w\0\x01x"].concat()),
            subscribe(version, 1, "a/+/#", 1),
            publish(version, "a/b/c", b"payload", ExactlyOnce, true, 7),
            vec![0x62, 2, 0, 7, 0xc0, 0],
        ]
        .concat();
        for _ in 0..300 {
            let mut bytes = polite.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(0..bytes.len());
                match random.u8(0..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, random.u8(..)),
                }
            }
            let mut client = Raw::open(broker.addresses()[0], version).await;
            client.send_rude(&bytes).await;
        }
        serves(&broker, version).await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn a_client_that_is_silent_beyond_its_keep_alive_is_closed_and_its_will_published() {
    let broker = start(settings(routings()[0])).await;
    let mut watcher = Raw::connect(&broker, V5, "watch").await;
    watcher.subscribe("gone", 0).await;
    let mut silent = Raw::open(broker.addresses()[0], V5).await;
    let mut bytes = connect(V5, "silent", 0x06, &[], b"\0\0\x04gone\0\x01x");
    // Keep alive of 1 s.
    bytes[11] = 1;
    let before = crate::clock::Clock::now(&crate::clock::SystemClock);
    silent.send(&bytes).await;
    silent.packet().await.unwrap();
    silent.expect(&[0xe0, 1, 0x8d]).await;
    let silence = crate::clock::Clock::now(&crate::clock::SystemClock) - before;
    assert!(silence >= std::time::Duration::from_millis(1_500), "{silence:?}");
    silent.expect_end().await;
    watcher.expect(&publish(V5, "gone", b"x", AtMostOnce, false, 0)).await;
    broker.kill().await;
}

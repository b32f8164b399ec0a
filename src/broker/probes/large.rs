//! Messages of many megabytes: whole for everyone, held once, and in nobody's way.

use super::harness::{Raw, eventually, publish, routings, settings, start};
use crate::broker::{Broker, Settings};
use crate::limits::{LARGE_PACKET_BYTES, SHARED_PAYLOAD_BYTES};
use crate::model::Qos::{AtLeastOnce, AtMostOnce};
use crate::mqtt::server::Version::{V5, V311};

async fn broker(routing: crate::broker::Routing) -> Broker {
    start(Settings { max_packet: 16 << 20, ..settings(routing) }).await
}

/// Bytes that tell their place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n % 253).to_le_bytes()[0]).collect()
}

#[tokio::test]
async fn messages_around_every_limit_arrive_whole_and_in_order_with_small_ones_between() {
    for routing in routings() {
        let broker = broker(routing).await;
        let mut subs = Vec::new();
        for version in [V311, V5] {
            let mut sub = Raw::connect(&broker, version, &format!("{version:?}")).await;
            sub.subscribe("t/#", 1).await;
            subs.push(sub);
        }
        let mut publisher = Raw::connect(&broker, V5, "pub").await;
        let around = |limit: usize| [limit - 20, limit - 8, limit - 1, limit, limit + 1, limit + 20];
        let sizes =
            [around(SHARED_PAYLOAD_BYTES), around(LARGE_PACKET_BYTES), [3 << 20, 0, 5, 8 << 20, 1, 100_000]].concat();
        let sending = async {
            for (id, size) in (1..).zip(&sizes) {
                publisher.publish("t/x", &bytes(*size), AtLeastOnce, false, id).await;
                publisher.expect(&[0x40, 2, 0, u8::try_from(id).unwrap()]).await;
            }
        };
        let reading = async {
            for (id, size) in (1..).zip(&sizes) {
                for sub in &mut subs {
                    let packet = sub.packet().await.unwrap();
                    let expected = publish(sub.version, "t/x", &bytes(*size), AtLeastOnce, false, id);
                    assert!(packet == expected, "{size} bytes for {:?}: {} came", sub.version, packet.len());
                    sub.send(&[0x40, 2, 0, u8::try_from(id).unwrap()]).await;
                }
            }
        };
        tokio::join!(sending, reading);
        broker.kill().await;
    }
}

#[tokio::test]
async fn who_is_in_the_middle_of_a_large_message_is_still_listened_to() {
    let broker = broker(routings()[0]).await;
    let mut sub = Raw::connect(&broker, V5, "sub").await;
    sub.subscribe("t", 0).await;
    let mut watcher = Raw::connect(&broker, V5, "watcher").await;
    watcher.subscribe("said", 0).await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    publisher.publish("t", &bytes(12 << 20), AtMostOnce, false, 0).await;
    publisher.expect_silence().await;
    eventually("it is on its way", async || {
        let told = broker.clients().list("sub").clients.pop().unwrap();
        told.queued == 0
    })
    .await;
    // Its own words do not wait until it has read the twelve megabytes.
    sub.publish("said", b"now", AtMostOnce, false, 0).await;
    watcher.expect(&publish(V5, "said", b"now", AtMostOnce, false, 0)).await;
    let packet = sub.packet().await.unwrap();
    assert!(packet == publish(V5, "t", &bytes(12 << 20), AtMostOnce, false, 0), "{} bytes", packet.len());
    broker.kill().await;
}

#[tokio::test]
async fn a_large_packet_that_breaks_the_protocol_ends_its_connection_as_a_small_one_does() {
    for (version, first) in [(V311, 0x36), (V5, 0x36), (V311, 0x82), (V5, 0xf0)] {
        let broker = broker(routings()[0]).await;
        let mut rude = Raw::connect(&broker, version, "rude").await;
        rude.send_rude(&super::harness::packet(first, &bytes(200_000))).await;
        if version == V5 {
            let last = rude.packet().await.expect("a DISCONNECT");
            assert_eq!(last[..2], [0xe0, 1], "{last:?}");
        }
        rude.expect_end().await;
        broker.kill().await;
    }
}

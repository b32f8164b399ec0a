//! What is capped in bytes is capped whatever the bytes are: properties and long topics fill a queue as payloads do.

use super::harness::{Raw, packet, routings, settings, start};
use crate::broker::{Broker, Settings};
use crate::model::{MESSAGE_BYTES, QUEUE_ENTRY_BYTES};
use crate::mqtt::framing::put_length;
use crate::mqtt::properties::put_bytes;
use crate::mqtt::server::Version::V5;

use bytes::{BufMut, BytesMut};

/// So many user properties of no name and no value: 5 bytes on the wire each.
const EMPTY_PAIRS: usize = 2_000;
/// What they take of memory, at the least: two texts' counts and their places.
const PAIRS_WEIGH: usize = EMPTY_PAIRS * 64;
const TEXT: usize = 40_000;

/// Three messages without a payload worth the name: large by their user properties, their correlation data, and their topic.
fn large_without_a_payload(first: u8, topic: &str, id: Option<u16>) -> Vec<Vec<u8>> {
    let pairs = [0x26, 0, 0, 0, 0].repeat(EMPTY_PAIRS);
    let mut correlation = BytesMut::from(&[0x09][..]);
    put_bytes(&mut correlation, &[7; TEXT]);
    let long = format!("{topic}/{}", "x".repeat(TEXT));
    let one = |topic: &str, properties: &[u8]| {
        let mut body = BytesMut::new();
        put_bytes(&mut body, topic.as_bytes());
        if let Some(id) = id {
            body.put_u16(id);
        }
        put_length(&mut body, properties.len());
        body.extend_from_slice(properties);
        body.extend_from_slice(b"1");
        packet(first, &body)
    };
    vec![one(topic, &pairs), one(topic, &correlation), one(&long, &[])]
}

async fn absent(broker: &Broker, client: &str) {
    let (mut raw, _) = Raw::connect_with(broker, V5, client, 0, &[0x11, 0xff, 0xff, 0xff, 0xff]).await;
    raw.subscribe("t/#", 1).await;
    raw.send(&[0xe0, 0]).await;
    raw.expect_end().await;
}

async fn say(publisher: &mut Raw, bytes: &[u8]) {
    publisher.send(bytes).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
}

fn waiting(broker: &Broker, client: &str) -> usize {
    let core = broker.shared.core();
    let slot = core.slots().find(|slot| *slot.client == *client).unwrap();
    let waiting = slot.session().queued().0;
    waiting
}

#[tokio::test]
async fn properties_and_topics_fill_the_queue_of_a_client() {
    const CAP: usize = 300_000;
    for (kind, weighs) in [PAIRS_WEIGH, TEXT, TEXT].into_iter().enumerate() {
        let broker = start(Settings { max_queued_bytes: CAP as u64, ..settings(routings()[0]) }).await;
        absent(&broker, "away").await;
        let mut publisher = Raw::connect(&broker, V5, "pub").await;
        for _ in 0..20 {
            say(&mut publisher, &large_without_a_payload(0x32, "t/a", Some(1))[kind]).await;
        }
        let waiting = waiting(&broker, "away");
        assert!((1..=CAP / weighs).contains(&waiting), "{waiting} of kind {kind}");
        assert_eq!(broker.counters().read().dropped, 20 - waiting as u64);
        broker.kill().await;
    }
}

#[tokio::test]
async fn properties_topics_and_tiny_messages_fill_all_queues_together() {
    const CAP: usize = 300_000;
    for (kind, weighs) in [PAIRS_WEIGH, TEXT, TEXT].into_iter().enumerate() {
        let broker = start(Settings { max_queued_bytes_total: CAP as u64, ..settings(routings()[0]) }).await;
        absent(&broker, "one").await;
        absent(&broker, "two").await;
        let mut publisher = Raw::connect(&broker, V5, "pub").await;
        for _ in 0..20 {
            say(&mut publisher, &large_without_a_payload(0x32, "t/a", Some(1))[kind]).await;
        }
        for client in ["one", "two"] {
            let waiting = waiting(&broker, client);
            assert!((1..=CAP / weighs).contains(&waiting), "{waiting} of kind {kind} for {client}");
        }
        broker.kill().await;
    }
    // Each entry counts too: what is for ten clients takes ten of them.
    let cap = 100 * MESSAGE_BYTES;
    let broker = start(Settings { max_queued_bytes_total: cap as u64, ..settings(routings()[0]) }).await;
    for client in 0..10 {
        absent(&broker, &client.to_string()).await;
    }
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    for _ in 0..100 {
        say(&mut publisher, &packet(0x32, b"\0\x01t\0\x01\0")).await;
    }
    let entries: usize = (0..10).map(|client| waiting(&broker, &client.to_string())).sum();
    assert!(entries > 0 && entries * QUEUE_ENTRY_BYTES < cap, "{entries}");
    broker.kill().await;
}

#[tokio::test]
async fn properties_and_topics_fill_the_retained_messages() {
    const CAP: usize = 300_000;
    for (kind, weighs) in [PAIRS_WEIGH, TEXT, TEXT].into_iter().enumerate() {
        let broker = start(Settings { max_retained_bytes: CAP as u64, ..settings(routings()[0]) }).await;
        let mut publisher = Raw::connect(&broker, V5, "pub").await;
        for n in 0..20 {
            publisher.send(&large_without_a_payload(0x31, &format!("t/{n}"), None)[kind]).await;
        }
        publisher.expect_silence().await;
        let kept = broker.shared.core().retained.len();
        assert!((1..=CAP / weighs).contains(&kept), "{kept} of kind {kind}");
        broker.kill().await;
    }
}

#[tokio::test]
async fn properties_and_topics_fill_the_wire_of_a_client_that_acknowledges_nothing() {
    for (kind, weighs) in [PAIRS_WEIGH, TEXT, TEXT].into_iter().enumerate() {
        let broker = start(settings(routings()[0])).await;
        let mut silent = Raw::connect(&broker, V5, "silent").await;
        silent.subscribe("t/#", 1).await;
        let mut publisher = Raw::connect(&broker, V5, "pub").await;
        for _ in 0..60 {
            say(&mut publisher, &large_without_a_payload(0x32, "t/a", Some(1))[kind]).await;
        }
        let core = broker.shared.core();
        let slot = core.slots().find(|slot| *slot.client == *"silent").unwrap();
        let in_flight = slot.session().in_flight();
        // One may be larger than what is left.
        let most = crate::limits::WIRE_BYTES_MAX / weighs + 1;
        assert!((1..=most).contains(&in_flight), "{in_flight} of kind {kind}");
        drop(core);
        broker.kill().await;
    }
}

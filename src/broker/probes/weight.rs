//! What is capped in bytes is capped whatever the bytes are: properties and long topics fill a queue as payloads do.

use super::harness::{Raw, connect, packet, routings, settings, start, subscribe};
use crate::broker::{Broker, Settings};
use crate::limits::{FILTER_LEVEL_BYTES, FILTERS_BYTES_MAX, SESSION_FILTERS_BYTES_MAX, WILLS_BYTES_MAX};
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
    put_bytes(&mut correlation, &vec![7; TEXT]);
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
    slot.session().queued().0
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
        let find = || broker.shared.core().slots().find(|slot| *slot.client == *"silent").cloned();
        let in_flight = find().unwrap().session().in_flight();
        // One may be larger than what is left.
        let most = crate::limits::WIRE_BYTES_MAX / weighs + 1;
        assert!((1..=most).contains(&in_flight), "{in_flight} of kind {kind}");
        broker.kill().await;
    }
}

/// Subscribes under packet id 1; the code of the SUBACK.
async fn ask(client: &mut Raw, filter: &str) -> u8 {
    client.send(&subscribe(V5, 1, filter, 0)).await;
    *client.packet().await.unwrap().last().unwrap()
}

/// What a filter weighs, at the least.
fn weighs(filter: &str) -> usize {
    2 * filter.len() + FILTER_LEVEL_BYTES * filter.split('/').count()
}

#[tokio::test]
async fn long_filters_are_bounded_for_a_client_and_for_all() {
    let broker = start(settings(routings()[0])).await;
    // Long by its text, or by its levels.
    let long = |client: usize, n: usize| match client {
        0 => format!("{n}/{}", "x".repeat(60_000)),
        _ => format!("{client}.{n}{}", "/".repeat(120)),
    };
    let mut total = 0;
    let mut clients = Vec::new();
    for client in 0..FILTERS_BYTES_MAX / SESSION_FILTERS_BYTES_MAX + 3 {
        let mut raw = Raw::connect(&broker, V5, &client.to_string()).await;
        let (mut granted, mut bytes) = (0, 0);
        while ask(&mut raw, &long(client, granted)).await == 0 {
            bytes += weighs(&long(client, granted));
            granted += 1;
            assert!(bytes <= SESSION_FILTERS_BYTES_MAX, "{granted} of {client}");
        }
        total += bytes;
        assert!(client > 1 || bytes > SESSION_FILTERS_BYTES_MAX * 9 / 10, "{granted} of {client}");
        assert!(granted == 0 || ask(&mut raw, &long(client, 0)).await == 0, "one that it has takes nothing more");
        clients.push((raw, granted));
    }
    assert!(total <= FILTERS_BYTES_MAX, "{total} bytes of all");
    assert_eq!(clients.last().unwrap().1, 0, "there is no room left");
    // What one gives back is there for another.
    let (mut first, _) = clients.swap_remove(0);
    first.send(&[0xe0, 0]).await;
    first.expect_end().await;
    let (mut last, _) = clients.pop().unwrap();
    assert_eq!(ask(&mut last, &long(0, 0)).await, 0);
    broker.kill().await;
}

#[tokio::test]
async fn large_wills_are_bounded_and_small_ones_always_have_room() {
    async fn come(broker: &Broker, client: &str, pairs: usize) -> (Raw, u8) {
        let pairs = [0x26, 0, 0, 0, 0].repeat(pairs);
        let mut rest = BytesMut::new();
        put_length(&mut rest, pairs.len());
        rest.extend_from_slice(&pairs);
        put_bytes(&mut rest, b"will");
        put_bytes(&mut rest, b"1");
        let mut raw = Raw::open(broker.addresses()[0], V5).await;
        raw.send(&connect(V5, client, 0x06, &[], &rest)).await;
        let code = raw.packet().await.expect("a CONNACK")[3];
        (raw, code)
    }
    const LARGE: usize = 60_000;
    let broker = start(settings(routings()[0])).await;
    let (mut inside, mut filling) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let (raw, code) = come(&broker, &n.to_string(), LARGE).await;
        match code {
            0 => inside.push(raw),
            code => assert_eq!(code, 0x89),
        }
    }
    let most = usize::try_from(WILLS_BYTES_MAX).unwrap() / (LARGE * 64);
    assert!((1..=most).contains(&inside.len()), "{}", inside.len());
    // The room is filled to less than a small one takes.
    for pairs in [10_000, 1_000, 100] {
        while let (raw, 0) = come(&broker, &format!("{pairs}-{}", filling.len()), pairs).await {
            filling.push(raw);
        }
    }
    assert_eq!(come(&broker, "small", 10).await.1, 0);
    // One that leaves in order takes its will along.
    let mut leaves = inside.pop().unwrap();
    leaves.send(&[0xe0, 0]).await;
    leaves.expect_end().await;
    assert_eq!(come(&broker, "next", LARGE).await.1, 0);
    broker.kill().await;
}

#[tokio::test]
async fn the_topics_behind_aliases_are_bounded_each_way() {
    let broker = start(settings(routings()[0])).await;
    // Topic Alias Maximum 10.
    let (mut subscriber, _) = Raw::connect_with(&broker, V5, "sub", 0x02, &[0x22, 0, 10]).await;
    subscriber.subscribe("#", 0).await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    let topic = |n: u8| format!("{n}/{}", "x".repeat(TEXT));
    let aliased = |n: u8| {
        let mut body = BytesMut::new();
        put_bytes(&mut body, topic(n).as_bytes());
        body.extend_from_slice(&[3, 0x23, 0, n]);
        packet(0x30, &body)
    };
    for n in 1..=3 {
        publisher.send(&aliased(n)).await;
        publisher.expect_silence().await;
        assert_eq!(subscriber.packet().await.unwrap(), aliased(n));
    }
    publisher.send(&aliased(4)).await;
    publisher.expect(&[0xe0, 1, 0x97]).await;
    publisher.expect_end().await;
    let mut another = Raw::connect(&broker, V5, "pub").await;
    another.publish(&topic(9), b"", crate::model::Qos::AtMostOnce, false, 0).await;
    let mut plain = BytesMut::new();
    put_bytes(&mut plain, topic(9).as_bytes());
    plain.extend_from_slice(&[0]);
    assert_eq!(subscriber.packet().await.unwrap(), packet(0x30, &plain), "no alias for one more");
    broker.kill().await;
}

//! What all queues together may hold, and who pays when that is full.

use std::sync::atomic::Ordering;

use super::harness::{Raw, publish, routings, settings, start};
use crate::broker::{Broker, Settings};
use crate::model::Qos::AtLeastOnce;
use crate::model::{Message, Origin, QUEUE_ENTRY_BYTES, TopicName};
use crate::mqtt::server::Version::{V5, V311};

async fn absent(broker: &Broker, client: &str, filter: &str) {
    let (mut raw, _) = Raw::connect_with(broker, V5, client, 0, &[0x11, 0xff, 0xff, 0xff, 0xff]).await;
    raw.subscribe(filter, 1).await;
    raw.send(&[0xe0, 0]).await;
    raw.expect_end().await;
}

async fn tell(publisher: &mut Raw, topic: &str, bytes: usize) {
    publisher.publish(topic, &vec![0; bytes], AtLeastOnce, false, 1).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
}

/// How many messages wait for it, and how many it has lost.
fn state(broker: &Broker, client: &str) -> (usize, u64) {
    let core = broker.shared.core();
    let slot = core.slots().find(|slot| *slot.client == *client).unwrap();
    let waiting = slot.session().queued().0;
    (waiting, slot.presence.dropped.load(Ordering::Relaxed))
}

/// What a message of 1,000 bytes takes of the cap where so many queues have it.
fn weight(topic: &str, queues: usize) -> u64 {
    let topic = TopicName::parse(topic).unwrap();
    let message = Message::new(topic, [0; 1_000], AtLeastOnce, false, Origin::Client);
    (message.weight() + queues * QUEUE_ENTRY_BYTES) as u64
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_costs_the_others_nothing() {
    let broker = start(Settings { max_queued_bytes_total: 10_000, ..settings(routings()[0]) }).await;
    absent(&broker, "away", "little").await;
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    for _ in 0..5 {
        tell(&mut publisher, "little", 100).await;
    }
    let mut silent = Raw::connect(&broker, V311, "silent").await;
    silent.subscribe("much", 1).await;
    for id in 1..=40 {
        tell(&mut publisher, "much", 1_000).await;
        silent.expect(&publish(V311, "much", &[0; 1_000], AtLeastOnce, false, id)).await;
    }
    assert_eq!(state(&broker, "away"), (5, 0));
    assert_eq!(broker.counters().read().dropped, 0);
    broker.kill().await;
}

#[tokio::test]
async fn queues_that_hold_the_same_messages_lose_them_together_and_no_more_than_has_to_be() {
    // Four for two clients, four for one, and half of one more.
    let (shared, own) = (weight("shared", 2), weight("own", 1));
    let most = 4 * shared + 4 * own + own / 2;
    let broker = start(Settings { max_queued_bytes_total: most, ..settings(routings()[0]) }).await;
    for (client, filter) in [("one", "shared"), ("two", "shared"), ("other", "own")] {
        absent(&broker, client, filter).await;
    }
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    for topic in ["shared", "own"] {
        for _ in 0..4 {
            tell(&mut publisher, topic, 1_000).await;
        }
    }
    tell(&mut publisher, "own", 1_000).await;
    let [one, two, other] = ["one", "two", "other"].map(|client| state(&broker, client));
    assert!(one.0 >= 3 && two.0 >= 3 && other.0 >= 4, "{one:?} {two:?} {other:?}");
    let dropped = one.1 + two.1 + other.1;
    assert!((1..=2).contains(&dropped), "{dropped}");
    assert_eq!(broker.counters().read().dropped, dropped);
    broker.kill().await;
}

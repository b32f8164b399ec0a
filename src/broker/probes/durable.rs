//! Sessions across the end of the process: what was acknowledged is there, once and in order, and the file knows no more than it has to.

use std::path::Path;
use std::time::Duration;

use super::harness::{Raw, eventually, publish, routings, settings, start};
use crate::broker::{Broker, Settings};
use crate::model::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use crate::model::{Message, Origin, QUEUE_ENTRY_BYTES, TopicName};
use crate::mqtt::server::Version::{self, V5, V311};

const FOR_EVER: [u8; 5] = [0x11, 0xff, 0xff, 0xff, 0xff];

async fn begin(directory: &Path) -> Broker {
    start(kept(directory)).await
}

fn kept(directory: &Path) -> Settings {
    Settings { store: Some(directory.to_path_buf()), ..settings(routings()[0]) }
}

/// Connects with a session that outlives its connection; whether it was there.
async fn resume(broker: &Broker, version: Version, client: &str) -> (Raw, bool) {
    let (raw, connack) = Raw::connect_with(broker, version, client, 0, &FOR_EVER).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{client} is welcome");
    (raw, connack[2] == 1)
}

/// A subscriber that had a connection and left it.
async fn absent(broker: &Broker, version: Version, client: &str, filters: &[(&str, u8)]) {
    let (mut raw, _) = resume(broker, version, client).await;
    for (filter, qos) in filters {
        raw.subscribe(filter, *qos).await;
    }
    raw.send(&[0xe0, 0]).await;
    raw.expect_end().await;
}

fn again(mut packet: Vec<u8>) -> Vec<u8> {
    packet[0] |= 0x08;
    packet
}

/// Rows of a table, read beside the broker.
fn rows(directory: &Path, table: &str) -> i64 {
    crate::store::sessions::rows(&directory.join("sessions.db"), table)
}

#[tokio::test]
async fn what_was_acknowledged_waits_for_every_absent_subscriber_after_a_kill_in_order_and_once_in_the_file() {
    for version in [V311, V5] {
        let directory = tempfile::tempdir().unwrap();
        let broker = begin(directory.path()).await;
        absent(&broker, version, "one", &[("t/#", 1)]).await;
        absent(&broker, version, "two", &[("t/+", 2)]).await;
        let mut publisher = Raw::connect(&broker, version, "pub").await;
        for id in 1..=20_u16 {
            publisher.publish("t/a", &id.to_be_bytes(), AtLeastOnce, false, id).await;
            publisher.expect(&[0x40, 2, 0, id.to_be_bytes()[1]]).await;
        }
        publisher.publish("t/a", b"2", ExactlyOnce, false, 99).await;
        publisher.expect(&[0x50, 2, 0, 99]).await;
        assert_eq!([rows(directory.path(), "body"), rows(directory.path(), "queued")], [21, 42]);
        broker.kill().await;
        let broker = begin(directory.path()).await;
        for (client, qos) in [("one", AtLeastOnce), ("two", ExactlyOnce)] {
            let (mut raw, present) = resume(&broker, version, client).await;
            assert!(present, "{client} finds its session");
            for id in 1..=20_u16 {
                raw.expect(&publish(version, "t/a", &id.to_be_bytes(), AtLeastOnce, false, id)).await;
            }
            raw.expect(&publish(version, "t/a", b"2", qos, false, 21)).await;
        }
        // Its subscriptions are in force too.
        let mut publisher = Raw::connect(&broker, version, "pub").await;
        let (mut one, _) = resume(&broker, version, "one").await;
        publisher.publish("t/b", b"new", AtMostOnce, false, 0).await;
        eventually("the new message comes", async || one.packet().await.is_some_and(|packet| packet.ends_with(b"new")))
            .await;
        broker.kill().await;
    }
}

#[tokio::test]
async fn a_qos_2_delivery_goes_on_where_it_was_when_the_broker_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin(directory.path()).await;
    let (mut subscriber, present) = resume(&broker, V311, "sub").await;
    assert!(!present);
    subscriber.subscribe("t", 2).await;
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    for (id, payload) in [(1, b"a"), (2, b"b")] {
        publisher.publish("t", payload, ExactlyOnce, false, id).await;
        subscriber.expect(&publish(V311, "t", payload, ExactlyOnce, false, id)).await;
    }
    // The client has the first: its PUBREL is out.
    subscriber.send(&[0x50, 2, 0, 1]).await;
    subscriber.expect(&[0x62, 2, 0, 1]).await;
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let (mut subscriber, present) = resume(&broker, V311, "sub").await;
    assert!(present);
    subscriber.expect(&[0x62, 2, 0, 1]).await;
    subscriber.expect(&again(publish(V311, "t", b"b", ExactlyOnce, false, 2))).await;
    subscriber.send(&[0x70, 2, 0, 1, 0x50, 2, 0, 2]).await;
    subscriber.expect(&[0x62, 2, 0, 2]).await;
    subscriber.send(&[0x70, 2, 0, 2]).await;
    // A packet id that was in use is not given out at once.
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    publisher.publish("t", b"c", ExactlyOnce, false, 1).await;
    subscriber.expect(&publish(V311, "t", b"c", ExactlyOnce, false, 3)).await;
    broker.kill().await;
}

#[tokio::test]
async fn a_qos_2_message_that_is_sent_again_after_a_kill_is_not_delivered_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin(directory.path()).await;
    absent(&broker, V5, "sub", &[("t", 2)]).await;
    let (mut publisher, _) = resume(&broker, V5, "pub").await;
    publisher.publish("t", b"a", ExactlyOnce, false, 7).await;
    publisher.expect(&[0x50, 2, 0, 7]).await;
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let (mut publisher, present) = resume(&broker, V5, "pub").await;
    assert!(present);
    publisher.send(&again(publish(V5, "t", b"a", ExactlyOnce, false, 7))).await;
    publisher.expect(&[0x50, 2, 0, 7]).await;
    publisher.send(&[0x62, 2, 0, 7]).await;
    publisher.expect(&[0x70, 2, 0, 7]).await;
    // Once PUBCOMP is there the packet id is another message's, whatever happens.
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let (mut publisher, _) = resume(&broker, V5, "pub").await;
    publisher.send(&again(publish(V5, "t", b"b", ExactlyOnce, false, 7))).await;
    publisher.expect(&[0x50, 2, 0, 7]).await;
    let (mut subscriber, _) = resume(&broker, V5, "sub").await;
    subscriber.expect(&publish(V5, "t", b"a", ExactlyOnce, false, 1)).await;
    subscriber.expect(&publish(V5, "t", b"b", ExactlyOnce, false, 2)).await;
    subscriber.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn sessions_that_end_with_their_connection_are_not_in_the_file_and_cost_no_commit() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin(directory.path()).await;
    let log = || std::fs::metadata(directory.path().join("sessions.db-wal")).map_or(0, |file| file.len());
    let before = log();
    let mut subscriber = Raw::connect(&broker, V311, "sub").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    for id in 1..=5 {
        publisher.publish("t", b"x", ExactlyOnce, false, id).await;
        subscriber.expect(&publish(V311, "t", b"x", ExactlyOnce, false, id)).await;
        publisher.expect(&[0x50, 2, 0, id.to_be_bytes()[1]]).await;
    }
    assert_eq!(log(), before, "nothing was written");
    broker.stop(Duration::from_secs(5)).await;
    assert_eq!(
        ["session", "subscription", "queued", "body", "received"].map(|table| rows(directory.path(), table)),
        [0; 5]
    );
}

#[tokio::test]
async fn a_session_that_ends_leaves_nothing_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin(directory.path()).await;
    for client in ["stays", "goes"] {
        absent(&broker, V5, client, &[("t", 2), ("u", 1)]).await;
    }
    let (mut publisher, _) = resume(&broker, V5, "goes too").await;
    publisher.publish("t", b"x", ExactlyOnce, false, 1).await;
    publisher.expect(&[0x50, 2, 0, 1]).await;
    let tables = ["session", "subscription", "queued", "body", "received"];
    let found = || tables.map(|table| rows(directory.path(), table));
    assert_eq!(found(), [3, 4, 2, 1, 1]);
    drop(Raw::connect(&broker, V5, "goes").await);
    drop(Raw::connect(&broker, V5, "goes too").await);
    eventually("they are gone", async || found() == [1, 2, 1, 1, 0]).await;
    let (mut stays, _) = resume(&broker, V5, "stays").await;
    stays.expect(&publish(V5, "t", b"x", ExactlyOnce, false, 1)).await;
    stays.send(&[0x50, 2, 0, 1]).await;
    stays.expect(&[0x62, 2, 0, 1]).await;
    assert_eq!(found()[3], 0, "the client has it");
    broker.kill().await;
    let broker = begin(directory.path()).await;
    assert!(!resume(&broker, V5, "goes").await.1);
    assert!(resume(&broker, V5, "stays").await.1);
    broker.kill().await;
}

#[tokio::test]
async fn while_the_file_cannot_be_written_publishers_are_refused_and_everybody_else_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let broker = begin(directory.path()).await;
    absent(&broker, V5, "away", &[("t", 1)]).await;
    let mut clean = Raw::connect(&broker, V5, "clean").await;
    clean.subscribe("#", 0).await;
    // Nothing of it is on its way to the file any more.
    let is_written = || rows(directory.path(), "subscription WHERE options < 16") == 1;
    eventually("the disk knows that its retained messages were sent", async || is_written()).await;
    // The file is gone, and there is no way to make one.
    std::fs::rename(&path, directory.path().join("before.db")).unwrap();
    // Its log would bring all of it back.
    std::fs::remove_file(directory.path().join("sessions.db-wal")).unwrap();
    std::fs::create_dir(&path).unwrap();
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    publisher.publish("t", b"lost?", AtLeastOnce, false, 1).await;
    clean.expect(&publish(V5, "t", b"lost?", AtMostOnce, false, 0)).await;
    publisher.expect(&[0xe0, 1, 0x97]).await;
    publisher.expect_end().await;
    // Whoever needs nothing of the disk is answered.
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    publisher.publish("u", b"1", AtLeastOnce, false, 1).await;
    clean.expect(&publish(V5, "u", b"1", AtMostOnce, false, 0)).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
    // A new session lives in memory.
    absent(&broker, V5, "new", &[("t", 2)]).await;
    std::fs::remove_dir(&path).unwrap();
    publisher.publish("t", b"kept", AtLeastOnce, false, 2).await;
    clean.expect(&publish(V5, "t", b"kept", AtMostOnce, false, 0)).await;
    publisher.expect(&[0x40, 2, 0, 2]).await;
    broker.kill().await;
    let found = ["session", "subscription", "body", "queued"].map(|table| rows(directory.path(), table));
    assert_eq!(found, [2, 2, 2, 3]);
    // All that lived is in the new file, also what was refused: its publisher sends it again.
    let broker = begin(directory.path()).await;
    let (mut away, present) = resume(&broker, V5, "away").await;
    assert!(present);
    away.expect(&publish(V5, "t", b"lost?", AtLeastOnce, false, 1)).await;
    away.expect(&publish(V5, "t", b"kept", AtLeastOnce, false, 2)).await;
    let (mut new, present) = resume(&broker, V5, "new").await;
    assert!(present);
    new.expect(&publish(V5, "t", b"kept", AtLeastOnce, false, 1)).await;
    broker.kill().await;
}

#[tokio::test]
async fn a_queue_that_overflows_is_as_short_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(Settings { max_queued: 3, ..kept(directory.path()) }).await;
    absent(&broker, V311, "sub", &[("t", 1)]).await;
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    for id in 1..=9_u16 {
        publisher.publish("t", &id.to_be_bytes(), AtLeastOnce, false, id).await;
        publisher.expect(&[0x40, 2, 0, id.to_be_bytes()[1]]).await;
    }
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let (mut raw, _) = resume(&broker, V311, "sub").await;
    for (turn, id) in (1..).zip(7..=9_u16) {
        raw.expect(&publish(V311, "t", &id.to_be_bytes(), AtLeastOnce, false, turn)).await;
    }
    raw.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn all_queues_together_have_a_cap_and_the_fullest_pays() {
    let directory = tempfile::tempdir().unwrap();
    let message = Message::new(TopicName::parse("much").unwrap(), [0; 1_000], AtLeastOnce, false, Origin::Client);
    let most = 10 * (message.weight() + QUEUE_ENTRY_BYTES) as u64;
    let broker = start(Settings { max_queued_bytes_total: most, ..kept(directory.path()) }).await;
    absent(&broker, V311, "full", &[("much", 1)]).await;
    absent(&broker, V311, "small", &[("little", 1)]).await;
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    publisher.publish("little", b"1", AtLeastOnce, false, 1).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
    for id in 2..=41_u16 {
        publisher.publish("much", &[0; 1_000], AtLeastOnce, false, id).await;
        publisher.expect(&[0x40, 2, 0, id.to_be_bytes()[1]]).await;
    }
    assert!((8..=10).contains(&rows(directory.path(), "queued")), "{}", rows(directory.path(), "queued"));
    let (mut small, _) = resume(&broker, V311, "small").await;
    small.expect(&publish(V311, "little", b"1", AtLeastOnce, false, 1)).await;
    assert!(broker.counters().read().dropped >= 30);
    broker.kill().await;
}

#[tokio::test]
async fn a_publisher_is_answered_whether_its_subscriber_is_faster_than_the_disk_or_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin(directory.path()).await;
    let (mut subscriber, _) = resume(&broker, V311, "sub").await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    for id in 1..=50_u16 {
        publisher.publish("t", b"x", AtLeastOnce, false, id).await;
        subscriber.expect(&publish(V311, "t", b"x", AtLeastOnce, false, id)).await;
        subscriber.send(&[0x40, 2, 0, id.to_be_bytes()[1]]).await;
        publisher.expect(&[0x40, 2, 0, id.to_be_bytes()[1]]).await;
    }
    // One that does not answer is written to, and its publisher waits no longer than that takes.
    publisher.publish("t", b"y", AtLeastOnce, false, 99).await;
    publisher.expect(&[0x40, 2, 0, 99]).await;
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let (mut subscriber, _) = resume(&broker, V311, "sub").await;
    let found = subscriber.packet().await.unwrap();
    assert!(found.ends_with(b"y"), "{found:?}");
    broker.kill().await;
}

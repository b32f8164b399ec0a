//! What waits for a store that takes nothing, and what does not.

use std::path::Path;

use super::harness::{Raw, publish, routings, settings, start};
use crate::broker::{Broker, Settings};
use crate::model::Qos::{AtMostOnce, ExactlyOnce};
use crate::mqtt::server::Version::{self, V5, V311};

const FOR_EVER: [u8; 5] = [0x11, 0xff, 0xff, 0xff, 0xff];

async fn begin(directory: &Path) -> Broker {
    start(Settings { store: Some(directory.to_path_buf()), ..settings(routings()[0]) }).await
}

async fn resume(broker: &Broker, version: Version, client: &str) -> Raw {
    let (raw, connack) = Raw::connect_with(broker, version, client, 0, &FOR_EVER).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{client} is welcome");
    raw
}

/// The file is gone, and there is no way to make one.
fn break_store(directory: &Path) {
    std::fs::rename(directory.join("sessions.db"), directory.join("before.db")).unwrap();
    std::fs::create_dir(directory.join("sessions.db")).unwrap();
}

fn mend_store(directory: &Path) {
    std::fs::remove_dir(directory.join("sessions.db")).unwrap();
}

#[tokio::test]
async fn a_packet_id_that_is_released_again_is_not_free_before_the_disk_knows() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin(directory.path()).await;
    let mut publisher = resume(&broker, V311, "pub").await;
    publisher.publish("t", b"a", ExactlyOnce, false, 7).await;
    publisher.expect(&[0x50, 2, 0, 7]).await;
    break_store(directory.path());
    // Each time: that it was taken out of memory the first time frees nothing.
    for _ in 0..3 {
        publisher.send(&[0x62, 2, 0, 7]).await;
        publisher.expect_end().await;
        publisher = resume(&broker, V311, "pub").await;
    }
    mend_store(directory.path());
    publisher.send(&[0x62, 2, 0, 7]).await;
    publisher.expect(&[0x70, 2, 0, 7]).await;
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let mut subscriber = Raw::connect(&broker, V311, "sub").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = resume(&broker, V311, "pub").await;
    publisher.publish("t", b"b", ExactlyOnce, false, 7).await;
    publisher.expect(&[0x50, 2, 0, 7]).await;
    subscriber.expect(&publish(V311, "t", b"b", AtMostOnce, false, 0)).await;
    broker.kill().await;
}

#[tokio::test]
async fn qos_2_waits_until_it_can_be_written_and_qos_0_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin(directory.path()).await;
    let mut subscriber = resume(&broker, V5, "sub").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    publisher.publish("t", b"a", ExactlyOnce, false, 1).await;
    publisher.expect(&[0x50, 2, 0, 1]).await;
    subscriber.expect(&publish(V5, "t", b"a", ExactlyOnce, false, 1)).await;
    break_store(directory.path());
    subscriber.send(&[0x50, 2, 0, 1]).await;
    publisher.publish("t", b"b", ExactlyOnce, false, 2).await;
    publisher.expect(&[0xe0, 1, 0x97]).await;
    // Neither the PUBREL nor the message.
    subscriber.expect_silence().await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    publisher.publish("t", b"loose", AtMostOnce, false, 0).await;
    subscriber.expect(&publish(V5, "t", b"loose", AtMostOnce, false, 0)).await;
    mend_store(directory.path());
    publisher.publish("t", b"c", ExactlyOnce, false, 3).await;
    publisher.expect(&[0x50, 2, 0, 3]).await;
    subscriber.expect(&[0x62, 2, 0, 1]).await;
    subscriber.expect(&publish(V5, "t", b"b", ExactlyOnce, false, 2)).await;
    subscriber.expect(&publish(V5, "t", b"c", ExactlyOnce, false, 3)).await;
    broker.kill().await;
}

//! What one client may take, and what it is told when it takes more.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{Raw, connect, eventually, publish, routings, settings, start};
use crate::broker::{Broker, Caps, Settings};
use crate::model::Qos::{AtLeastOnce, AtMostOnce};
use crate::mqtt::server::Version::{self, V5, V311};

async fn with(caps: Caps) -> Broker {
    start(Settings { caps, ..settings(routings()[0]) }).await
}

/// A CONNECT with this keep alive, and what is answered.
async fn asks(broker: &Broker, version: Version, keep_alive_s: u16) -> (Raw, Vec<u8>) {
    let mut raw = Raw::open(broker.addresses()[0], version).await;
    let mut bytes = connect(version, "c", 2, &[], &[]);
    bytes[10..12].copy_from_slice(&keep_alive_s.to_be_bytes());
    raw.send(&bytes).await;
    let connack = raw.packet().await.unwrap();
    (raw, connack)
}

#[tokio::test]
async fn who_wants_a_longer_keep_alive_is_given_the_longest_or_refused_where_that_cannot_be_said() {
    let broker = with(Caps { max_keep_alive_s: Some(30), ..Caps::default() }).await;
    for keep_alive_s in [0, 31, u16::MAX] {
        let (mut raw, connack) = asks(&broker, V5, keep_alive_s).await;
        assert_eq!(connack[3], 0, "{keep_alive_s}");
        assert_eq!(connack[5..8], [0x13, 0, 30], "{keep_alive_s}");
        raw.expect_silence().await;
        let (mut raw, connack) = asks(&broker, V311, keep_alive_s).await;
        assert_eq!(connack, [0x20, 2, 0, 2], "{keep_alive_s}");
        raw.expect_end().await;
    }
    for keep_alive_s in [1, 30] {
        let (mut raw, connack) = asks(&broker, V5, keep_alive_s).await;
        assert_eq!((connack[3], connack[5]), (0, 0x21), "{keep_alive_s}: its own is fine");
        raw.expect_silence().await;
        let (mut raw, connack) = asks(&broker, V311, keep_alive_s).await;
        assert_eq!(connack, [0x20, 2, 0, 0], "{keep_alive_s}");
        raw.expect_silence().await;
    }
    broker.kill().await;
    let broker = with(Caps::default()).await;
    for version in [V311, V5] {
        let (mut raw, connack) = asks(&broker, version, 0).await;
        assert_eq!(connack[3], 0, "none at all, where that may be");
        assert!(connack.get(5) != Some(&0x13));
        raw.expect_silence().await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn the_keep_alive_that_was_given_is_the_one_that_is_kept() {
    let broker = with(Caps { max_keep_alive_s: Some(1), ..Caps::default() }).await;
    let (mut raw, _) = asks(&broker, V5, 0).await;
    raw.expect(&[0xe0, 1, 0x8d]).await;
    raw.expect_end().await;
    broker.kill().await;
}

#[tokio::test]
async fn no_more_is_on_its_way_to_a_client_than_the_config_says() {
    let broker = with(Caps { max_inflight: 2, ..Caps::default() }).await;
    for version in [V311, V5] {
        let mut subscriber = Raw::connect(&broker, version, "sub").await;
        subscriber.subscribe("t", 1).await;
        let mut publisher = Raw::connect(&broker, version, "pub").await;
        for id in 1..=4 {
            publisher.publish("t", &[b'0' + u8::try_from(id).unwrap()], AtLeastOnce, false, id).await;
            publisher.packet().await.unwrap();
        }
        for id in 1..=2 {
            let payload = [b'0' + u8::try_from(id).unwrap()];
            subscriber.expect(&publish(version, "t", &payload, AtLeastOnce, false, id)).await;
        }
        subscriber.expect_silence().await;
        subscriber.send(&[0x40, 2, 0, 1]).await;
        subscriber.expect(&publish(version, "t", b"3", AtLeastOnce, false, 3)).await;
        subscriber.expect_silence().await;
        publisher.publish("t", b"free", AtMostOnce, false, 0).await;
        subscriber.expect(&publish(version, "t", b"free", AtMostOnce, false, 0)).await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn who_knocks_more_often_than_the_config_says_is_closed_at_once() {
    let broker = with(Caps { connects_per_minute: Some(3), ..Caps::default() }).await;
    let mut inside = Vec::new();
    for n in 0..3 {
        inside.push(Raw::connect(&broker, V311, &n.to_string()).await);
    }
    let mut fourth = Raw::open(broker.addresses()[0], V311).await;
    fourth.send_rude(&connect(V311, "4", 2, &[], &[])).await;
    fourth.expect_end().await;
    for client in &mut inside {
        client.expect_silence().await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn one_listener_more_than_full_leaves_the_others_open() {
    let caps = Caps { listen_max_connections: Some(1), ..Caps::default() };
    let websocket_listen = vec!["127.0.0.1:0".parse().unwrap()];
    let broker = start(Settings { websocket_listen, caps, ..settings(routings()[0]) }).await;
    let first = Raw::connect(&broker, V311, "first").await;
    let mut second = Raw::open(broker.addresses()[0], V311).await;
    second.send_rude(&connect(V311, "second", 2, &[], &[])).await;
    second.expect_end().await;
    let mut web = TcpStream::connect(broker.addresses()[1]).await.unwrap();
    web.write_all(WEB.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    web.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    drop(first);
    eventually("a seat is free", async || {
        let mut third = Raw::open(broker.addresses()[0], V311).await;
        third.send_rude(&connect(V311, "third", 2, &[], &[])).await;
        third.packet().await.is_some()
    })
    .await;
    broker.kill().await;
}

const WEB: &str = "GET / HTTP/1.1\r\nHost: box\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

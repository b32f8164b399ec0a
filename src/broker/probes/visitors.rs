//! Who is there, told to a person who asks, and what a client and the others see when one is shown out.

use std::time::Duration;

use super::harness::{Raw, connect, eventually, routings, settings, start};
use crate::broker::{Broker, Settings};
use crate::model::MESSAGE_BYTES;
use crate::model::Qos::AtLeastOnce;
use crate::model::clients::{ClientOverview, Kick, KickRefusal, KickReport};
use crate::mqtt::server::Version::{self, V5, V311};

async fn broker() -> Broker {
    start(settings(routings()[0])).await
}

fn one(broker: &Broker, client: &str) -> Option<ClientOverview> {
    broker.clients().list(client).clients.pop()
}

fn kick(broker: &Broker, client: &str, forget: bool) -> Result<KickReport, KickRefusal> {
    broker.clients().kick(&Kick { client: client.to_owned(), forget })
}

/// A client with a will on `gone` and a session of an hour, or for ever with 3.1.1; `delay_s` of the will in version 5.
async fn mortal(broker: &Broker, version: Version, delay_s: u8) -> (Raw, bool) {
    let session: &[u8] = if version == Version::V5 { &[0x11, 0, 0, 0x0e, 0x10] } else { &[] };
    let will_delay = [5, 0x18, 0, 0, 0, delay_s];
    let will = [if version == V5 { &will_delay[..] } else { &[] }, b"\0\x04gone\0\x01x"].concat();
    let mut raw = Raw::open(broker.addresses()[0], version).await;
    raw.send(&connect(version, "mortal", 0x04, session, &will)).await;
    let connack = raw.packet().await.unwrap();
    assert_eq!(connack[3], 0);
    (raw, connack[2] == 1)
}

#[tokio::test]
async fn a_client_is_told_with_its_connection_its_session_and_what_waits_for_it() {
    let broker = start(Settings { max_queued: 2, ..settings(routings()[0]) }).await;
    let (mut sub, _) = mortal(&broker, V5, 0).await;
    sub.subscribe("a/#", 1).await;
    sub.subscribe("b/#", 1).await;
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    publisher.publish("a/1", b"12345", AtLeastOnce, false, 1).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
    sub.packet().await.unwrap();
    let here = one(&broker, "mortal").unwrap();
    assert!(here.address.as_ref().unwrap().starts_with("127.0.0.1:") && here.for_ms.is_some(), "{here:?}");
    let expected = ClientOverview {
        id: "mortal".into(),
        connected: true,
        transport: Some("tcp".into()),
        protocol: Some("5.0".into()),
        keep_alive_s: Some(60),
        subscriptions: 2,
        in_flight: 1,
        expiry_s: Some(3_600),
        address: here.address.clone(),
        for_ms: here.for_ms,
        heard_ms: here.heard_ms,
        ..ClientOverview::default()
    };
    assert_eq!(here, expected);

    drop(sub);
    eventually("it is away", async || one(&broker, "mortal").is_some_and(|client| !client.connected)).await;
    for id in 2..=4 {
        publisher.publish("a/1", b"12345", AtLeastOnce, false, id).await;
        publisher.expect(&[0x40, 2, 0, u8::try_from(id).unwrap()]).await;
    }
    let away = one(&broker, "mortal").unwrap();
    let bytes = 2 * (MESSAGE_BYTES + "a/1".len() + 5) as u64;
    assert_eq!((away.queued, away.queued_bytes, away.in_flight, away.dropped), (2, bytes, 1, 1), "{away:?}");
    assert!(away.ends_ms.is_some_and(|left| left <= 3_600_000) && away.for_ms.is_some(), "{away:?}");
    assert_eq!(away.address, here.address, "where it was last");
    let ids =
        |pattern: &str| broker.clients().list(pattern).clients.into_iter().map(|client| client.id).collect::<Vec<_>>();
    assert_eq!([ids("*"), ids("p*"), ids("x")], [vec!["mortal".to_owned(), "pub".into()], vec!["pub".into()], vec![]]);
    let clean = one(&broker, "pub").unwrap();
    assert_eq!((clean.protocol.as_deref(), clean.expiry_s), (Some("3.1.1"), Some(0)));
    broker.kill().await;
}

#[tokio::test]
async fn a_client_that_is_shown_out_is_told_why_its_will_is_published_and_its_session_waits() {
    for version in [V311, V5] {
        let broker = broker().await;
        let mut heir = Raw::connect(&broker, V311, "heir").await;
        heir.subscribe("gone", 0).await;
        let (mut client, _) = mortal(&broker, version, 0).await;
        client.subscribe("a", 1).await;
        let done = kick(&broker, "mortal", false);
        assert_eq!(done, Ok(KickReport { was_connected: true, is_forgotten: false }));
        assert!(!one(&broker, "mortal").unwrap().connected, "it is away when the answer is there");
        if version == V5 {
            client.expect(&[0xe0, 1, 0x98]).await;
        }
        client.expect_end().await;
        heir.expect(b"\x30\x07\0\x04gonex").await;
        heir.publish("a", b"later", AtLeastOnce, false, 1).await;
        heir.expect(&[0x40, 2, 0, 1]).await;
        let (mut client, present) = mortal(&broker, version, 0).await;
        assert!(present, "its session waited");
        assert!(client.packet().await.unwrap().ends_with(b"later"));
        // The one that came back is not the one that was shown out.
        client.expect_silence().await;
        broker.kill().await;
    }
}

#[tokio::test]
async fn a_client_that_is_forgotten_has_nothing_left_and_its_will_does_not_wait() {
    let broker = broker().await;
    let mut heir = Raw::connect(&broker, V311, "heir").await;
    heir.subscribe("gone", 0).await;
    for away in [false, true] {
        let (mut client, present) = mortal(&broker, V5, 200).await;
        assert!(!present, "away: {away}");
        client.subscribe("a", 1).await;
        if away {
            assert_eq!(kick(&broker, "mortal", false).map(|report| report.was_connected), Ok(true));
            client.expect(&[0xe0, 1, 0x98]).await;
            heir.expect_silence().await;
            assert_eq!(kick(&broker, "mortal", false), Err(KickRefusal::Away));
        }
        let done = kick(&broker, "mortal", true);
        assert_eq!(done, Ok(KickReport { was_connected: !away, is_forgotten: true }));
        if !away {
            client.expect(&[0xe0, 1, 0x98]).await;
        }
        client.expect_end().await;
        heir.expect(b"\x30\x07\0\x04gonex").await;
        assert_eq!(one(&broker, "mortal"), None);
        assert_eq!(kick(&broker, "mortal", true), Err(KickRefusal::Unknown("mortal".into())));
    }
    broker.kill().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_shown_out_all_the_same() {
    let broker = start(Settings { max_connections: 2, ..settings(routings()[0]) }).await;
    let mut deaf = Raw::connect(&broker, V5, "deaf").await;
    deaf.subscribe("a", 0).await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    let payload = vec![7; 1 << 19];
    for id in 1..=40 {
        publisher.publish("a", &payload, AtLeastOnce, false, id).await;
        publisher.packet().await.unwrap();
    }
    assert!(one(&broker, "deaf").unwrap().queued > 0, "its socket is full");
    assert!(kick(&broker, "deaf", false).is_ok());
    assert_eq!(one(&broker, "deaf"), None);
    // Its connection is gone too, not only its place, though it reads nothing: its seat is free for another.
    eventually("a free seat", async || {
        let mut next = Raw::open(broker.addresses()[0], V5).await;
        next.send_rude(&connect(V5, "next", 0x02, &[], &[])).await;
        next.packet().await.is_some()
    })
    .await;
    broker.kill().await;
}

#[tokio::test]
async fn more_clients_than_can_be_told_are_counted() {
    let broker = start(Settings { max_connections: 400, ..settings(routings()[0]) }).await;
    let mut raws = Vec::new();
    // Names of 60,000 bytes, told in six times as much at worst: thirty and some come to the limit.
    for n in 0..40 {
        raws.push(Raw::connect(&broker, V5, &format!("{n:060000}")).await);
    }
    let told = broker.clients().list("*");
    assert_eq!(told.clients.len() as u64 + told.more, 40);
    assert!(told.more > 0 && !told.clients.is_empty(), "{} told", told.clients.len());
    assert_eq!(broker.clients().list("*7").more, 0);
    broker.kill().await;
}

#[tokio::test]
async fn what_is_held_is_counted_once_however_many_it_waits_for() {
    let broker = start(Settings { sys_interval: Duration::from_millis(20), ..settings(routings()[0]) }).await;
    let mut watcher = Raw::connect(&broker, V311, "watcher").await;
    for client in ["one", "two"] {
        // They are kept, and acknowledge nothing.
        let (mut sub, _) = Raw::connect_with(&broker, V311, client, 0x00, &[]).await;
        sub.subscribe("a", 1).await;
    }
    watcher.subscribe("$SYS/broker/store/messages/bytes", 0).await;
    let mut held = async |wanted: &dyn Fn(u64) -> bool| {
        let mut last = 0;
        eventually("the figure", async || {
            let packet = watcher.packet().await.unwrap();
            let text = packet.rsplit(|byte| *byte == b's').next().unwrap();
            last = std::str::from_utf8(text).unwrap().parse().unwrap();
            wanted(last)
        })
        .await;
        last
    };
    // The counters are retained messages too: of a few hundred bytes in all.
    let before = held(&|bytes| bytes > 0).await;
    assert!(before < 5_000, "{before}");
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    publisher.publish("a", &vec![7; 100_000], AtLeastOnce, false, 1).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
    held(&|bytes| (100_000..105_000).contains(&bytes)).await;
    publisher.publish("b", &vec![7; 200_000], AtLeastOnce, true, 2).await;
    publisher.expect(&[0x40, 2, 0, 2]).await;
    held(&|bytes| (300_000..305_000).contains(&bytes)).await;
    publisher.publish("b", &[], AtLeastOnce, true, 3).await;
    for client in ["one", "two"] {
        kick(&broker, client, true).unwrap();
    }
    held(&|bytes| bytes < 5_000).await;
    broker.kill().await;
}

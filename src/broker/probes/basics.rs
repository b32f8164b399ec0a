//! Publish, subscribe, retain, resume: the protocol as polite clients use it, in both versions and with each routing.

use super::harness::{Raw, connect, packet, publish, routings, settings, start, subscribe};
use crate::broker::Broker;
use crate::limits::UNACKNOWLEDGED_MAX;
use crate::model::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use crate::mqtt::server::Version::{self, V5, V311};

/// Runs a test against every routing and version.
async fn everywhere(test: impl AsyncFn(&Broker, Version)) {
    for routing in routings() {
        let broker = start(settings(routing)).await;
        for version in [V311, V5] {
            test(&broker, version).await;
        }
        broker.kill().await;
    }
}

#[tokio::test]
async fn a_delivery_has_the_lower_of_both_qos() {
    everywhere(async |broker, version| {
        let mut publisher = Raw::connect(broker, version, "pub").await;
        let mut subscriber = Raw::connect(broker, version, "sub").await;
        for (published, acknowledgement) in [(AtMostOnce, 0), (AtLeastOnce, 0x40), (ExactlyOnce, 0x50)] {
            for granted in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                subscriber.subscribe("a/+", granted.level()).await;
                publisher.publish("a/b", b"x", published, false, 9).await;
                if published != AtMostOnce {
                    publisher.expect(&[acknowledgement, 2, 0, 9]).await;
                }
                if published == ExactlyOnce {
                    publisher.send(&[0x62, 2, 0, 9]).await;
                    publisher.expect(&[0x70, 2, 0, 9]).await;
                }
                let found = subscriber.packet().await.unwrap();
                let qos = published.min(granted);
                assert_eq!((found[0] >> 1) & 3, qos.level(), "{published:?} to {granted:?}");
                if qos != AtMostOnce {
                    let id = [found[7], found[8]];
                    assert_eq!(found, publish(version, "a/b", b"x", qos, false, u16::from_be_bytes(id)));
                    if qos == AtLeastOnce {
                        subscriber.send(&[0x40, 2, id[0], id[1]]).await;
                    } else {
                        subscriber.send(&[0x50, 2, id[0], id[1]]).await;
                        subscriber.expect(&[0x62, 2, id[0], id[1]]).await;
                        subscriber.send(&[0x70, 2, id[0], id[1]]).await;
                    }
                }
                subscriber.expect_silence().await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_retained_message_is_there_for_a_later_subscriber_until_it_is_cleared() {
    everywhere(async |broker, version| {
        let mut publisher = Raw::connect(broker, version, "pub").await;
        publisher.publish("r/1", b"x", AtLeastOnce, true, 1).await;
        publisher.expect(&[0x40, 2, 0, 1]).await;
        let mut subscriber = Raw::connect(broker, version, "sub").await;
        subscriber.subscribe("r/#", 0).await;
        subscriber.expect(&publish(version, "r/1", b"x", AtMostOnce, true, 0)).await;
        publisher.publish("r/1", b"", AtLeastOnce, true, 2).await;
        publisher.expect(&[0x40, 2, 0, 2]).await;
        subscriber.expect(&publish(version, "r/1", b"", AtMostOnce, false, 0)).await;
        let mut late = Raw::connect(broker, version, "late").await;
        late.subscribe("r/#", 0).await;
        late.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn five_thousand_retained_messages_reach_one_new_subscriber() {
    everywhere(async |broker, version| {
        let mut publisher = Raw::connect(broker, version, "pub").await;
        for n in 0..5_000_u16 {
            publisher.publish(&format!("many/{n}"), b"x", AtLeastOnce, true, n + 1).await;
            if n % 100 == 99 {
                for back in (0..100).rev() {
                    let [high, low] = (n + 1 - back).to_be_bytes();
                    publisher.expect(&[0x40, 2, high, low]).await;
                }
            }
        }
        let mut subscriber = Raw::connect(broker, version, "sub").await;
        subscriber.subscribe("many/+", 1).await;
        let mut topics = std::collections::HashSet::new();
        while topics.len() < 5_000 {
            let found = subscriber.packet().await.unwrap();
            assert_eq!(found[0], 0x33, "QoS 1, retained");
            let end = 4 + usize::from(found[3]);
            topics.insert(found[4..end].to_vec());
            subscriber.send(&[0x40, 2, found[end], found[end + 1]]).await;
        }
        subscriber.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_keeps_what_came_while_its_client_was_away() {
    everywhere(async |broker, version| {
        let expiry = [0x11, 0, 0, 0, 100];
        let (mut subscriber, _) =
            Raw::connect_with(broker, version, "kept", 0x02 * u8::from(version == V5), &expiry).await;
        subscriber.subscribe("q/+", 2).await;
        subscriber.send(&[0xe0, 0]).await;
        subscriber.expect_end().await;
        let mut publisher = Raw::connect(broker, version, "pub").await;
        publisher.publish("q/1", b"one", AtLeastOnce, false, 1).await;
        publisher.publish("q/2", b"two", ExactlyOnce, false, 2).await;
        publisher.expect(&[0x40, 2, 0, 1]).await;
        publisher.expect(&[0x50, 2, 0, 2]).await;
        let (mut subscriber, connack) = Raw::connect_with(broker, version, "kept", 0, &expiry).await;
        assert_eq!(connack[2], 1, "session present");
        subscriber.expect(&publish(version, "q/1", b"one", AtLeastOnce, false, 1)).await;
        subscriber.expect(&publish(version, "q/2", b"two", ExactlyOnce, false, 2)).await;
        subscriber.send(&[0x50, 2, 0, 2]).await;
        subscriber.expect(&[0x62, 2, 0, 2]).await;
        drop(subscriber);
        let (mut subscriber, _) = Raw::connect_with(broker, version, "kept", 0, &expiry).await;
        let mut again = publish(version, "q/1", b"one", AtLeastOnce, false, 1);
        again[0] |= 0x08;
        subscriber.expect(&again).await;
        subscriber.expect(&[0x62, 2, 0, 2]).await;
        subscriber.send(&[0x70, 2, 0, 2]).await;
        subscriber.send(&[0x40, 2, 0, 1]).await;
        subscriber.expect_silence().await;
        let (mut subscriber, connack) = Raw::connect_with(broker, version, "kept", 2, &[]).await;
        assert_eq!(connack[2], 0, "a clean start leaves nothing");
        subscriber.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn a_qos_2_message_sent_twice_is_delivered_once() {
    everywhere(async |broker, version| {
        let mut subscriber = Raw::connect(broker, version, "sub").await;
        subscriber.subscribe("once", 0).await;
        let expiry = [0x11, 0, 0, 0, 100];
        let (mut publisher, _) = Raw::connect_with(broker, version, "twice", 0, &expiry).await;
        publisher.publish("once", b"x", ExactlyOnce, false, 5).await;
        publisher.expect(&[0x50, 2, 0, 5]).await;
        drop(publisher);
        let (mut publisher, connack) = Raw::connect_with(broker, version, "twice", 0, &expiry).await;
        assert_eq!(connack[2], 1, "session present");
        let mut again = publish(version, "once", b"x", ExactlyOnce, false, 5);
        again[0] |= 0x08;
        publisher.send(&again).await;
        publisher.expect(&[0x50, 2, 0, 5]).await;
        publisher.send(&[0x62, 2, 0, 5]).await;
        publisher.expect(&[0x70, 2, 0, 5]).await;
        subscriber.expect(&publish(version, "once", b"x", AtMostOnce, false, 0)).await;
        subscriber.expect_silence().await;
        publisher.send(&[0xe0, 0]).await;
        Raw::connect(broker, version, "twice").await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_comes_back_with_a_full_window_may_send_all_of_it_again_and_no_more() {
    let broker = start(settings(routings()[0])).await;
    let expiry = [0x11, 0, 0, 0, 100];
    let (mut publisher, _) = Raw::connect_with(&broker, V5, "full", 0, &expiry).await;
    for id in 1..=UNACKNOWLEDGED_MAX {
        publisher.publish("t", b"x", ExactlyOnce, false, id).await;
        let [high, low] = id.to_be_bytes();
        publisher.expect(&[0x50, 2, high, low]).await;
    }
    drop(publisher);
    let (mut publisher, connack) = Raw::connect_with(&broker, V5, "full", 0, &expiry).await;
    assert_eq!(connack[2], 1, "session present");
    for id in 1..=UNACKNOWLEDGED_MAX {
        let mut again = publish(V5, "t", b"x", ExactlyOnce, false, id);
        again[0] |= 0x08;
        publisher.send(&again).await;
        let [high, low] = id.to_be_bytes();
        publisher.expect(&[0x50, 2, high, low]).await;
    }
    publisher.publish("t", b"x", ExactlyOnce, false, UNACKNOWLEDGED_MAX + 1).await;
    publisher.expect(&[0xe0, 1, 0x93]).await;
    publisher.expect_end().await;
    broker.kill().await;
}

#[tokio::test]
async fn a_will_is_published_when_the_connection_breaks_and_not_after_goodbye() {
    everywhere(async |broker, version| {
        let mut watcher = Raw::connect(broker, version, "watch").await;
        watcher.subscribe("gone", 0).await;
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        let will = [properties, b"\0\x04gone\0\x01x"].concat();
        for with_goodbye in [true, false] {
            let mut client = Raw::open(broker.addresses()[0], version).await;
            client.send(&connect(version, "mortal", 0x06, &[], &will)).await;
            client.packet().await.unwrap();
            if with_goodbye {
                client.send(&[0xe0, 0]).await;
                client.expect_end().await;
                watcher.expect_silence().await;
            }
        }
        watcher.expect(&publish(version, "gone", b"x", AtMostOnce, false, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn a_second_connection_takes_the_client_id_and_the_firsts_will_is_published() {
    everywhere(async |broker, version| {
        let mut watcher = Raw::connect(broker, version, "watch").await;
        watcher.subscribe("gone", 0).await;
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        let mut first = Raw::open(broker.addresses()[0], version).await;
        first.send(&connect(version, "same", 0x06, &[], &[properties, b"\0\x04gone\0\x011"].concat())).await;
        first.packet().await.unwrap();
        let mut second = Raw::open(broker.addresses()[0], version).await;
        second.send(&connect(version, "same", 0x06, &[], &[properties, b"\0\x04gone\0\x012"].concat())).await;
        second.packet().await.unwrap();
        if version == V5 {
            first.expect(&[0xe0, 1, 0x8e]).await;
        }
        first.expect_end().await;
        watcher.expect(&publish(version, "gone", b"1", AtMostOnce, false, 0)).await;
        second.expect_silence().await;
        watcher.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn a_malformed_filter_is_refused_in_its_suback() {
    everywhere(async |broker, version| {
        let mut client = Raw::connect(broker, version, "c").await;
        for filter in ["a/#/b", "a+", "", "$share/x", "$share//y"] {
            client.send(&subscribe(version, 3, filter, 0)).await;
            match client.packet().await {
                Some(suback) => assert!(suback[suback.len() - 1] >= 0x80, "{filter:?}"),
                None => client = Raw::connect(broker, version, "c").await,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_shared_subscription_gives_each_message_to_one_member_in_turn() {
    everywhere(async |broker, version| {
        let mut members = Vec::new();
        for name in ["one", "two"] {
            let mut member = Raw::connect(broker, version, name).await;
            member.subscribe("$share/group/s/+", 0).await;
            members.push(member);
        }
        let mut other = Raw::connect(broker, version, "other").await;
        other.subscribe("s/x", 0).await;
        for payload in [b"1", b"2", b"3", b"4"] {
            other.publish("s/x", payload, AtMostOnce, false, 0).await;
            other.expect(&publish(version, "s/x", payload, AtMostOnce, false, 0)).await;
        }
        for (index, payloads) in [[b"1", b"3"], [b"2", b"4"]].iter().enumerate() {
            for payload in *payloads {
                members[index].expect(&publish(version, "s/x", payload, AtMostOnce, false, 0)).await;
            }
            members[index].expect_silence().await;
        }
        let mut second = members.remove(1);
        second.send(&[0xe0, 0]).await;
        second.expect_end().await;
        for payload in [b"5", b"6"] {
            other.publish("s/x", payload, AtMostOnce, false, 0).await;
            members[0].expect(&publish(version, "s/x", payload, AtMostOnce, false, 0)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_leaving_member_of_a_shared_subscription_did_not_acknowledge_goes_to_another() {
    everywhere(async |broker, version| {
        let mut leaver = Raw::connect(broker, version, "leaver").await;
        leaver.subscribe("$share/group/s/+", 2).await;
        let mut publisher = Raw::connect(broker, version, "pub").await;
        for (payload, id) in [(b"1", 1), (b"2", 2)] {
            publisher.publish("s/x", payload, AtLeastOnce, false, id).await;
            publisher.expect(&[0x40, 2, 0, u8::try_from(id).unwrap()]).await;
            leaver.expect(&publish(version, "s/x", payload, AtLeastOnce, false, id)).await;
        }
        publisher.publish("s/x", b"3", ExactlyOnce, false, 3).await;
        publisher.expect(&[0x50, 2, 0, 3]).await;
        leaver.expect(&publish(version, "s/x", b"3", ExactlyOnce, false, 3)).await;
        leaver.send(&[0x40, 2, 0, 1]).await;
        leaver.expect_silence().await;
        let mut heir = Raw::connect(broker, version, "heir").await;
        heir.subscribe("$share/group/s/+", 2).await;
        leaver.send(&[0xe0, 0]).await;
        leaver.expect_end().await;
        // The first is acknowledged, and the third, once sent to one member, is nobody else's.
        heir.expect(&publish(version, "s/x", b"2", AtLeastOnce, false, 1)).await;
        heir.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn a_filter_put_in_use_again_and_again_brings_each_message_once() {
    everywhere(async |broker, version| {
        let mut client = Raw::connect(broker, version, "again").await;
        let unsubscribe = match version {
            V5 => packet(0xa2, b"\0\x02\0\0\x01t"),
            V311 => packet(0xa2, b"\0\x02\0\x01t"),
        };
        for round in 0..100_u8 {
            client.subscribe("t", 0).await;
            for part in [0, 1] {
                client.publish("t", &[round, part], AtMostOnce, false, 0).await;
                client.expect(&publish(version, "t", &[round, part], AtMostOnce, false, 0)).await;
            }
            client.send(&unsubscribe).await;
            assert_eq!(client.packet().await.unwrap()[0], 0xb0);
        }
    })
    .await;
}

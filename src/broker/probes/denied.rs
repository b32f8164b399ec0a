//! What is denied does not reach a client by any of the ways in which a message does, and comes from none (docs/decisions/0024).

use std::path::Path;

use super::harness::{Raw, connect, eventually, publish, routings, settings, start, subscribe};
use crate::broker::{Broker, FilterTemplate, Rights, Routing, Settings};
use crate::model::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use crate::model::TopicFilter;
use crate::model::clients::Kick;
use crate::mqtt::server::Version::{self, V5, V311};

fn filters(texts: &[&str]) -> Vec<FilterTemplate> {
    texts.iter().map(|text| FilterTemplate(TopicFilter::parse(text).unwrap())).collect()
}

/// Anyone may do all but this.
fn all_but(deny_publish: &[&str], deny_subscribe: &[&str]) -> Rights {
    Rights {
        publish: filters(&["#"]),
        subscribe: filters(&["#", "$SYS/#"]),
        deny_publish: filters(deny_publish),
        deny_subscribe: filters(deny_subscribe),
    }
}

fn held(settings: Settings, deny_publish: &[&str], deny_subscribe: &[&str]) -> Settings {
    Settings { anyone: Some(all_but(deny_publish, deny_subscribe)), ..settings }
}

/// Runs a test against every routing and version, with a broker that holds to this.
async fn everywhere(deny_publish: &[&str], deny_subscribe: &[&str], test: impl AsyncFn(&mut Broker, Version)) {
    for routing in routings() {
        for version in [V311, V5] {
            let mut broker = start(held(settings(routing), deny_publish, deny_subscribe)).await;
            test(&mut broker, version).await;
            broker.kill().await;
        }
    }
}

/// Connects with a session that outlives its connection; whether it was there.
async fn resume(broker: &Broker, version: Version, client: &str) -> (Raw, bool) {
    let (raw, connack) = Raw::connect_with(broker, version, client, 0, &[0x11, 0, 0, 0, 100]).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{client} is welcome");
    (raw, connack[2] == 1)
}

async fn leave(mut raw: Raw) {
    raw.send(&[0xe0, 0]).await;
    raw.expect_end().await;
}

/// Publishes, and sees that it is acknowledged.
async fn say(publisher: &mut Raw, topic: &str, retain: bool) {
    publisher.publish(topic, b"x", AtLeastOnce, retain, 9).await;
    publisher.expect(&[0x40, 2, 0, 9]).await;
}

/// The reason of a subscription's answer.
async fn asks(client: &mut Raw, filter: &str) -> u8 {
    client.send(&subscribe(client.version, 1, filter, 1)).await;
    *client.packet().await.unwrap().last().unwrap()
}

/// The topic of the next message, which is acknowledged.
async fn next(client: &mut Raw) -> String {
    let packet = client.packet().await.unwrap();
    let length = usize::from(packet[3]);
    assert_eq!(packet[0] & 0xf6, 0x32, "a message of QoS 1");
    client.send(&[0x40, 2, packet[4 + length], packet[5 + length]]).await;
    String::from_utf8(packet[4..4 + length].to_vec()).unwrap()
}

#[tokio::test]
async fn a_wide_subscription_gets_what_is_not_denied_live_retained_and_queued() {
    everywhere(&[], &["secret/#", "+/hidden"], async |broker, version| {
        let mut publisher = Raw::connect(broker, version, "pub").await;
        for topic in ["secret/kept", "open/kept", "a/hidden"] {
            say(&mut publisher, topic, true).await;
        }
        let (mut client, _) = resume(broker, version, "c").await;
        let refused = if version == V5 { 0x87 } else { 0x80 };
        for (filter, answer) in [("secret", refused), ("secret/+/x", refused), ("b/hidden", refused), ("secre", 1)] {
            assert_eq!(asks(&mut client, filter).await, answer, "{filter}");
        }
        assert_eq!(asks(&mut client, "#").await, 1);
        assert_eq!(next(&mut client).await, "open/kept", "of the retained ones");
        for topic in ["secret/live", "b/hidden", "secret", "open/live"] {
            say(&mut publisher, topic, false).await;
        }
        assert_eq!(next(&mut client).await, "open/live");
        leave(client).await;
        for topic in ["secret/away", "open/away"] {
            say(&mut publisher, topic, false).await;
        }
        let (mut client, is_present) = resume(broker, version, "c").await;
        assert!(is_present);
        assert_eq!(next(&mut client).await, "open/away");
        // Nor by several subscriptions that mean it in part.
        assert_eq!(asks(&mut client, "+/live").await, 1);
        for topic in ["secret/live", "open/live"] {
            say(&mut publisher, topic, true).await;
        }
        // rumqttd's router sends once for each of them.
        let copies = if broker.shared.live().settings.routing == Routing::Rumqttd { 2 } else { 1 };
        for _ in 0..copies {
            assert_eq!(next(&mut client).await, "open/live");
        }
        client.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn a_publication_and_a_will_to_a_denied_topic_are_refused() {
    everywhere(&["locked/#"], &[], async |broker, version| {
        let mut watcher = Raw::connect(broker, version, "watcher").await;
        watcher.subscribe("#", 0).await;
        let mut client = Raw::connect(broker, version, "c").await;
        client.publish("locked/x", b"no", AtMostOnce, true, 0).await;
        client.publish("locked/x", b"no", AtLeastOnce, true, 1).await;
        client.publish("locked", b"no", ExactlyOnce, true, 2).await;
        if version == V5 {
            client.expect(&[0x40, 3, 0, 1, 0x87]).await;
            client.expect(&[0x50, 3, 0, 2, 0x87]).await;
        } else {
            client.expect(&[0x40, 2, 0, 1]).await;
            client.expect(&[0x50, 2, 0, 2]).await;
        }
        client.publish("open", b"yes", AtMostOnce, false, 0).await;
        watcher.expect(&publish(version, "open", b"yes", AtMostOnce, false, 0)).await;
        let will = [if version == V5 { &[0][..] } else { &[] }, b"\0\x06locked\0\x01x"].concat();
        let mut mortal = Raw::open(broker.addresses()[0], version).await;
        mortal.send(&connect(version, "mortal", 0x06, &[], &will)).await;
        let connack = mortal.packet().await.unwrap();
        assert_eq!(connack[3], if version == V5 { 0x87 } else { 5 });
        mortal.expect_end().await;
        let mut late = Raw::connect(broker, version, "late").await;
        late.subscribe("#", 0).await;
        late.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn a_shared_subscription_gives_a_message_to_a_member_that_may_have_it() {
    everywhere(&[], &["secret/{client}"], async |broker, version| {
        let mut publisher = Raw::connect(broker, version, "pub").await;
        let (mut low, _) = resume(broker, version, "low").await;
        assert_eq!(asks(&mut low, "$share/g/#").await, 1);
        say(&mut publisher, "secret/low", false).await;
        say(&mut publisher, "open", false).await;
        assert_eq!(next(&mut low).await, "open", "alone, it does not get it either");
        let (mut high, _) = resume(broker, version, "high").await;
        assert_eq!(asks(&mut high, "$share/g/#").await, 1);
        for _ in 0..3 {
            say(&mut publisher, "secret/low", false).await;
            assert_eq!(next(&mut high).await, "secret/low");
        }
        for _ in 0..3 {
            say(&mut publisher, "secret/high", false).await;
            assert_eq!(next(&mut low).await, "secret/high");
        }
        // Connected or not: one that may have it goes before one that is there.
        leave(high).await;
        say(&mut publisher, "secret/low", false).await;
        eventually("it is queued", async || broker.clients().list("high").clients[0].queued == 1).await;
        // What a member leaves is inherited by none who may not have it.
        broker.clients().kick(&Kick { client: "high".into(), forget: true }).unwrap();
        say(&mut publisher, "open", false).await;
        assert_eq!(next(&mut low).await, "open");
        low.expect_silence().await;
    })
    .await;
}

#[tokio::test]
async fn a_reload_that_denies_holds_from_then_on_for_those_who_are_there_and_away() {
    everywhere(&[], &[], async |broker, version| {
        let mut publisher = Raw::connect(broker, version, "pub").await;
        let (mut away, _) = resume(broker, version, "away").await;
        let (mut there, _) = resume(broker, version, "there").await;
        for client in [&mut away, &mut there] {
            for filter in ["#", "secret/only"] {
                assert_eq!(asks(client, filter).await, 1, "{filter}");
            }
        }
        leave(away).await;
        say(&mut publisher, "secret/before", false).await;
        assert_eq!(next(&mut there).await, "secret/before");
        eventually("it is queued", async || broker.clients().list("away").clients[0].queued == 1).await;
        let mut mortal = Raw::open(broker.addresses()[0], V311).await;
        mortal.send(&connect(V311, "mortal", 0x06, &[], b"\0\x06locked\0\x01x")).await;
        mortal.expect(&[0x20, 2, 0, 0]).await;

        let own = || settings(routings()[0]);
        broker.apply(held(own(), &["locked"], &["secret/#"])).await.unwrap();
        mortal.send_rude(&[0xf0, 0]).await;
        mortal.expect_end().await;
        for topic in ["secret/after", "secret/only", "open/after"] {
            say(&mut publisher, topic, true).await;
        }
        assert_eq!(next(&mut there).await, "open/after");
        assert_eq!(asks(&mut there, "secret/only").await, if version == V5 { 0x87 } else { 0x80 });
        let (mut away, is_present) = resume(broker, version, "away").await;
        assert!(is_present);
        assert_eq!(next(&mut away).await, "secret/before", "what was queued by then");
        assert_eq!(next(&mut away).await, "open/after");
        let subscriptions = broker.clients().list("there").clients[0].subscriptions;
        assert_eq!(subscriptions, 1, "the one that means no more than what is denied is over");
        // And back again.
        broker.apply(held(own(), &[], &[])).await.unwrap();
        say(&mut publisher, "secret/again", false).await;
        for client in [&mut away, &mut there] {
            assert_eq!(next(client).await, "secret/again");
            client.expect_silence().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_right_after_a_reload_is_judged_by_it() {
    // Whether a connection first reads or first looks up is a matter of chance: so often that one that reads first is seen.
    for _ in 0..200 {
        let mut broker = start(held(settings(Routing::Trie), &[], &[])).await;
        let mut publisher = Raw::connect(&broker, V5, "says").await;
        let denying = held(settings(Routing::Trie), &["lock/#"], &[]);
        broker.apply(denying).await.unwrap();
        publisher.publish("lock/x", b"x", AtLeastOnce, false, 9).await;
        publisher.expect(&[0x40, 3, 0, 9, 0x87]).await;
        broker.kill().await;
    }
}

#[tokio::test]
async fn what_waits_for_a_user_of_before_is_not_given_to_whoever_takes_the_name() {
    let mut broker = start(settings(Routing::Trie)).await;
    let named = async |broker: &Broker| {
        let mut raw = Raw::open(broker.addresses()[0], V311).await;
        raw.send(&connect(V311, "phone", 0x80, &[], b"\0\x03bob")).await;
        let connack = raw.packet().await.unwrap();
        assert_eq!(connack[3], 0);
        (raw, connack[2] == 1)
    };
    let (mut bob, _) = named(&broker).await;
    assert_eq!(asks(&mut bob, "alarm/#").await, 1);
    leave(bob).await;
    let (bob, is_present) = named(&broker).await;
    assert!(is_present, "while everyone may do everything");
    leave(bob).await;
    let mut publisher = Raw::connect(&broker, V311, "pub").await;
    say(&mut publisher, "alarm/x", false).await;
    broker.apply(held(settings(Routing::Trie), &[], &["alarm/#"])).await.unwrap();
    let (mut stranger, is_present) = named(&broker).await;
    assert!(!is_present);
    stranger.expect_silence().await;
    leave(stranger).await;
    let (_, is_present) = named(&broker).await;
    assert!(is_present, "a session of anyone's is anyone's");
    broker.kill().await;
}

fn kept(directory: &Path) -> Settings {
    Settings { store: Some(directory.to_path_buf()), ..settings(routings()[0]) }
}

#[tokio::test]
async fn a_session_of_a_life_before_is_denied_what_the_settings_of_today_deny() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(kept(directory.path())).await;
    for client in ["away", "back"] {
        let (mut raw, _) = resume(&broker, V5, client).await;
        assert_eq!(asks(&mut raw, "#").await, 1);
        leave(raw).await;
    }
    broker.kill().await;
    let broker = start(held(kept(directory.path()), &[], &["secret/{client}"])).await;
    let (mut back, is_present) = resume(&broker, V5, "back").await;
    assert!(is_present);
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    for topic in ["secret/back", "secret/away", "open"] {
        say(&mut publisher, topic, false).await;
    }
    let (mut away, is_present) = resume(&broker, V5, "away").await;
    assert!(is_present);
    for (client, expected) in [(&mut away, ["secret/back", "open"]), (&mut back, ["secret/away", "open"])] {
        for topic in expected {
            assert_eq!(next(client).await, topic);
        }
        client.expect_silence().await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn a_client_id_that_fills_no_level_opens_nothing() {
    everywhere(&["dev/{client}/set"], &["dev/{client}/set"], async |broker, version| {
        let mut publisher = Raw::connect(broker, version, "pub").await;
        for (client, filter) in [("+", "dev/+/set"), ("#", "dev/a/set"), ("a/b", "dev/a/b/set")] {
            let mut raw = Raw::connect(broker, version, client).await;
            assert_eq!(asks(&mut raw, filter).await, if version == V5 { 0x87 } else { 0x80 }, "{client}");
            assert_eq!(asks(&mut raw, "#").await, 1);
            for topic in ["dev/a/b/set", "dev/a/c/set", "open"] {
                say(&mut publisher, topic, false).await;
            }
            assert_eq!(next(&mut raw).await, "open", "{client}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_whose_will_is_taken_back_ends_in_its_time() {
    let own = || settings(routings()[0]);
    let mut broker = start(own()).await;
    let mut mortal = Raw::open(broker.addresses()[0], V5).await;
    // Its session lives for a second, and its will would wait for longer: both are due at one moment.
    let will = [&[5, 0x18, 0, 0, 0, 100][..], b"\0\x06locked\0\x01x"].concat();
    mortal.send(&connect(V5, "mortal", 0x06, &[0x11, 0, 0, 0, 1], &will)).await;
    mortal.packet().await.unwrap();
    drop(mortal);
    eventually("it is away", async || broker.clients().list("mortal").clients.iter().any(|it| !it.connected)).await;
    broker.apply(held(own(), &["locked"], &[])).await.unwrap();
    let mut watcher = Raw::connect(&broker, V5, "watcher").await;
    watcher.subscribe("locked", 0).await;
    eventually("its end", async || broker.clients().list("mortal").clients.is_empty()).await;
    watcher.expect_silence().await;
    broker.kill().await;
}

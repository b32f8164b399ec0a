//! Who comes in, who stays out, and what a reload and a stop do to those inside.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use argon2::password_hash::PasswordHasher;

use super::harness::{Raw, connect, eventually, publish, routings, settings, start, subscribe};
use crate::broker::{Broker, BrokerError, FilterTemplate, PasswordHash, Rights, Settings, User};
use crate::model::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use crate::model::{Message, Origin, TopicFilter, TopicName};
use crate::mqtt::server::Version::{self, V5, V311};

fn user(name: &str, password: &str) -> User {
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password.as_bytes(), b"salt-salt").unwrap().to_string();
    let filter = |text| FilterTemplate(TopicFilter::parse(text).unwrap());
    User {
        name: name.into(),
        hash: Some(PasswordHash(hash)),
        rights: Rights {
            publish: vec![filter("from/{client}/#")],
            subscribe: vec![filter("from/#"), filter("to/{user}/+")],
            ..Rights::default()
        },
    }
}

fn closed() -> Settings {
    Settings { users: vec![user("ha", "secret")], ..settings(routings()[0]) }
}

/// User name and password behind the client id of a CONNECT with flags 0xc2.
fn login(name: &str, password: &str) -> Vec<u8> {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    [text(name), text(password)].concat()
}

async fn come_in(broker: &Broker, version: Version, client: &str, password: &str) -> (Raw, Vec<u8>) {
    let mut raw = Raw::open(broker.addresses()[0], version).await;
    raw.send(&connect(version, client, 0xc2, &[], &login("ha", password))).await;
    let connack = raw.packet().await.unwrap();
    (raw, connack)
}

#[tokio::test]
async fn a_wrong_password_is_told_with_the_true_code() {
    let broker = start(closed()).await;
    let (mut raw, connack) = come_in(&broker, V311, "c", "wrong").await;
    assert_eq!(connack, [0x20, 2, 0, 5]);
    raw.expect_end().await;
    let (mut raw, connack) = come_in(&broker, V5, "c", "wrong").await;
    assert_eq!(connack, [0x20, 3, 0, 0x86, 0]);
    raw.expect_end().await;
    let (_, connack) = Raw::connect_with(&broker, V5, "c", 2, &[]).await;
    assert_eq!(connack, [0x20, 3, 0, 0x87, 0], "without a name");
    for version in [V311, V5] {
        let (mut raw, connack) = come_in(&broker, version, "c", "secret").await;
        assert_eq!(connack[3], 0);
        raw.expect_silence().await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn filters_hold_for_subscribing_and_publishing() {
    let broker = start(closed()).await;
    for version in [V311, V5] {
        let (mut client, _) = come_in(&broker, version, "c1", "secret").await;
        for (filter, code_5) in [("from/c1/x", 0), ("to/ha/+", 0), ("#", 0x87), ("to/+/x", 0x87), ("$SYS/#", 0x87)] {
            client.send(&subscribe(version, 1, filter, 0)).await;
            let suback = client.packet().await.unwrap();
            let expected = if version == V311 && code_5 != 0 { 0x80 } else { code_5 };
            assert_eq!(suback[suback.len() - 1], expected, "{filter}");
        }
        client.publish("from/c2/x", b"no", AtLeastOnce, false, 1).await;
        client.publish("from/c2/x", b"no", ExactlyOnce, false, 2).await;
        if version == V5 {
            client.expect(&[0x40, 3, 0, 1, 0x87]).await;
            client.expect(&[0x50, 3, 0, 2, 0x87]).await;
        } else {
            client.expect(&[0x40, 2, 0, 1]).await;
            client.expect(&[0x50, 2, 0, 2]).await;
            client.send(&[0x62, 2, 0, 2]).await;
            client.expect(&[0x70, 2, 0, 2]).await;
        }
        client.publish("from/c1/x", b"yes", AtMostOnce, false, 0).await;
        client.expect(&publish(version, "from/c1/x", b"yes", AtMostOnce, false, 0)).await;
        client.expect_silence().await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn a_reload_moves_the_listener_and_shows_out_whom_it_took_the_user_from() {
    let mut broker = start(closed()).await;
    let (mut client, _) = come_in(&broker, V5, "c1", "secret").await;
    let before = broker.addresses();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wrong = Settings { listen: vec![taken.local_addr().unwrap()], ..closed() };
    assert!(matches!(broker.apply(wrong).await, Err(BrokerError::Listen { .. })));
    assert_eq!(broker.addresses(), before, "a reload that fails changes nothing");
    client.expect_silence().await;
    let mut more = user("ha", "secret");
    more.rights.subscribe.push(FilterTemplate(TopicFilter::parse("new/#").unwrap()));
    broker.apply(Settings { users: vec![more], ..closed() }).await.unwrap();
    assert_eq!(broker.addresses(), before, "a listener that stays is not touched");
    eventually("the new filter is in force", async || {
        client.send(&subscribe(V5, 1, "new/x", 0)).await;
        client.packet().await.unwrap().last() == Some(&0)
    })
    .await;
    let moved = Settings { listen: vec!["127.0.0.2:0".parse().unwrap()], users: vec![user("ho", "x")], ..closed() };
    broker.apply(moved).await.unwrap();
    client.expect(&[0xe0, 1, 0x87]).await;
    client.expect_end().await;
    assert_eq!(broker.addresses().len(), 1);
    assert_ne!(broker.addresses(), before);
    eventually("the old port is closed", async || tokio::net::TcpStream::connect(before[0]).await.is_err()).await;
    broker.kill().await;
}

#[tokio::test]
async fn who_has_not_said_connect_before_a_reload_is_let_in_by_what_was_asked_where_it_came() {
    let mut broker = start(closed()).await;
    let mut before = Raw::open(broker.addresses()[0], V5).await;
    eventually("it is taken in", async || broker.shared.traffic.sockets_opened.load(Ordering::Relaxed) == 1).await;
    // Nobody is asked for a password any more, at another address.
    let open = Settings { listen: vec!["127.0.0.2:0".parse().unwrap()], ..settings(routings()[0]) };
    broker.apply(open).await.unwrap();
    before.send(&connect(V5, "c", 2, &[], &[])).await;
    assert_eq!(before.packet().await.unwrap(), [0x20, 3, 0, 0x89, 0], "it has to come again");
    before.expect_end().await;
    Raw::connect(&broker, V5, "c").await.expect_silence().await;
    // A reload that changes nothing of it is not noticed.
    let mut before = Raw::open(broker.addresses()[0], V5).await;
    eventually("it is taken in", async || broker.shared.traffic.sockets_opened.load(Ordering::Relaxed) == 3).await;
    let listen = vec!["127.0.0.2:0".parse().unwrap()];
    broker.apply(Settings { listen, max_queued: 7, ..settings(routings()[0]) }).await.unwrap();
    before.send(&connect(V5, "c", 2, &[], &[])).await;
    assert_eq!(before.packet().await.unwrap()[3], 0);
    broker.kill().await;
}

#[tokio::test]
async fn just_anyone_from_beyond_loopback_does_not_stay_where_just_anyone_comes_by_loopback_alone() {
    // Beyond loopback by its name; nobody else can reach it.
    let everywhere = Settings { listen: vec!["0.0.0.0:0".parse().unwrap()], ..settings(routings()[0]) };
    let mut broker = start(everywhere.clone()).await;
    let port = broker.addresses()[0].port();
    let mut client = Raw::open(([127, 0, 0, 1], port).into(), V5).await;
    client.send(&connect(V5, "c", 2, &[], &[])).await;
    assert_eq!(client.packet().await.unwrap()[3], 0);
    broker.apply(Settings { max_queued: 7, ..everywhere }).await.unwrap();
    client.expect_silence().await;
    broker.apply(settings(routings()[0])).await.unwrap();
    client.expect(&[0xe0, 1, 0x87]).await;
    client.expect_end().await;
    broker.kill().await;
}

#[tokio::test]
async fn an_address_that_a_reload_gave_up_can_be_had_again_at_once() {
    let mut broker = start(settings(routings()[0])).await;
    let first = broker.addresses();
    broker.apply(Settings { listen: vec!["127.0.0.2:0".parse().unwrap()], ..settings(routings()[0]) }).await.unwrap();
    broker.apply(Settings { listen: first.clone(), ..settings(routings()[0]) }).await.unwrap();
    assert_eq!(broker.addresses(), first);
    Raw::connect(&broker, V5, "c").await.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn a_reload_that_needs_a_restart_says_so_and_changes_nothing() {
    let mut broker = start(settings(routings()[0])).await;
    let before = broker.addresses();
    let everywhere = std::net::SocketAddr::from(([0, 0, 0, 0], before[0].port()));
    let outcome = broker.apply(Settings { listen: vec![everywhere], ..settings(routings()[0]) }).await;
    let Err(BrokerError::Held { address, held }) = outcome else { panic!("the old listener is in the way") };
    assert_eq!((address, held), (everywhere, before[0]));
    Raw::connect(&broker, V5, "c").await.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn a_reload_that_lowers_the_number_of_connections_closes_none_and_counts_right_ever_after() {
    let with = |max_connections| Settings { max_connections, ..settings(routings()[0]) };
    let mut broker = start(with(2)).await;
    let mut first = Raw::connect(&broker, V311, "first").await;
    let second = Raw::connect(&broker, V311, "second").await;
    broker.apply(with(1)).await.unwrap();
    first.expect_silence().await;
    drop(second);
    eventually("the second one is gone", async || broker.shared.core().census().connected == 1).await;
    Raw::open(broker.addresses()[0], V311).await.expect_end().await;
    broker.apply(with(2)).await.unwrap();
    let mut second = None;
    eventually("there is room for one again", async || {
        let mut raw = Raw::open(broker.addresses()[0], V311).await;
        raw.send_rude(&connect(V311, "second", 2, &[], &[])).await;
        let is_welcome = raw.packet().await.is_some();
        second = is_welcome.then_some(raw);
        is_welcome
    })
    .await;
    Raw::open(broker.addresses()[0], V311).await.expect_end().await;
    for mut client in [first, second.unwrap()] {
        client.expect_silence().await;
    }
    broker.kill().await;
}

/// Comes in with a session that outlives the connection, and says whether there was one.
async fn resume(broker: &Broker, client: &str, name: &str) -> (Raw, bool) {
    let mut raw = Raw::open(broker.addresses()[0], V5).await;
    raw.send(&connect(V5, client, 0xc0, &[0x11, 0, 0, 0, 100], &login(name, "secret"))).await;
    let connack = raw.packet().await.unwrap();
    assert_eq!(connack[3], 0, "{client} is welcome");
    (raw, connack[2] == 1)
}

fn from_inside(topic: &str) -> Arc<Message> {
    Arc::new(Message::new(TopicName::parse(topic).unwrap(), *b"x", AtLeastOnce, false, Origin::Sensor))
}

#[tokio::test]
async fn another_user_does_not_get_the_session_of_a_client_id() {
    let stranger = User { rights: Rights::default(), ..user("stranger", "secret") };
    let broker = start(Settings { users: vec![user("ha", "secret"), stranger], ..closed() }).await;
    let (mut owner, _) = resume(&broker, "c1", "ha").await;
    owner.subscribe("from/#", 1).await;
    owner.send(&[0xe0, 0]).await;
    owner.expect_end().await;
    broker.link().deliver(from_inside("from/1"));
    let (mut owner, is_present) = resume(&broker, "c1", "ha").await;
    assert!(is_present, "the same user goes on with it");
    owner.expect(&publish(V5, "from/1", b"x", AtLeastOnce, false, 1)).await;
    owner.send(&[0xe0, 0]).await;
    owner.expect_end().await;
    broker.link().deliver(from_inside("from/2"));
    let (mut stranger, is_present) = resume(&broker, "c1", "stranger").await;
    assert!(!is_present);
    broker.link().deliver(from_inside("from/3"));
    stranger.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn a_reload_ends_the_subscriptions_it_does_not_allow_any_more() {
    let mut broker = start(closed()).await;
    let (mut away, _) = resume(&broker, "away", "ha").await;
    let (mut there, _) = resume(&broker, "there", "ha").await;
    for client in [&mut away, &mut there] {
        client.subscribe("from/#", 1).await;
        client.subscribe("$share/g/from/+", 1).await;
        client.subscribe("to/ha/+", 1).await;
    }
    away.send(&[0xe0, 0]).await;
    away.expect_end().await;
    let mut less = user("ha", "secret");
    less.rights.subscribe.remove(0);
    broker.apply(Settings { users: vec![less], ..closed() }).await.unwrap();
    broker.link().deliver(from_inside("from/1"));
    broker.link().deliver(from_inside("to/ha/1"));
    there.expect(&publish(V5, "to/ha/1", b"x", AtLeastOnce, false, 1)).await;
    there.send(&subscribe(V5, 2, "from/#", 1)).await;
    there.expect(&[0x90, 4, 0, 2, 0, 0x87]).await;
    let (mut away, is_present) = resume(&broker, "away", "ha").await;
    assert!(is_present);
    away.expect(&publish(V5, "to/ha/1", b"x", AtLeastOnce, false, 1)).await;
    for mut client in [away, there] {
        client.expect_silence().await;
    }
    broker.kill().await;
}

#[tokio::test]
async fn a_taken_port_fails_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let settings = Settings { listen: vec![address], ..settings(routings()[0]) };
    let (uplink, clock) = (std::sync::Arc::new(super::harness::NoUplink), crate::clock::SystemClock::shared());
    let outcome = Broker::start(settings, uplink, clock, &crate::health::Health::new()).await;
    let Err(BrokerError::Listen { address: told, .. }) = outcome else { panic!("the port is taken") };
    assert_eq!(told, address);
}

#[tokio::test]
async fn a_stop_says_goodbye_and_publishes_no_will() {
    for routing in routings() {
        let broker = start(settings(routing)).await;
        let mut watcher = Raw::connect(&broker, V5, "watch").await;
        watcher.subscribe("gone", 0).await;
        let mut mortal = Raw::open(broker.addresses()[0], V311).await;
        mortal.send(&connect(V311, "mortal", 0x06, &[], b"\0\x04gone\0\x01x")).await;
        mortal.packet().await.unwrap();
        broker.stop(Duration::from_secs(5)).await;
        watcher.expect(&[0xe0, 1, 0x8b]).await;
        watcher.expect_end().await;
        mortal.expect_end().await;
    }
}

#[tokio::test]
async fn counters_are_told_and_hidden_from_wildcards() {
    let broker = start(Settings { sys_interval: Duration::from_millis(20), ..settings(routings()[0]) }).await;
    let mut client = Raw::connect(&broker, V311, "c").await;
    client.subscribe("$SYS/broker/clients/connected", 0).await;
    client.expect(&publish(V311, "$SYS/broker/clients/connected", b"1", AtMostOnce, false, 0)).await;
    let mut other = Raw::connect(&broker, V311, "other").await;
    other.subscribe("#", 0).await;
    other.subscribe("+/broker/#", 0).await;
    eventually("both are counted", async || {
        client.packet().await.unwrap() == publish(V311, "$SYS/broker/clients/connected", b"2", AtMostOnce, false, 0)
    })
    .await;
    other.expect_silence().await;
    other.publish("$SYS/broker/clients/connected", b"9", AtMostOnce, true, 0).await;
    for _ in 0..3 {
        let next = client.packet().await.unwrap();
        assert_eq!(next, publish(V311, "$SYS/broker/clients/connected", b"2", AtMostOnce, false, 0));
    }
    broker.kill().await;
}

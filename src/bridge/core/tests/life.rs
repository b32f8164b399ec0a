//! Single situations in the life of a bridge, each set up by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::super::{Close, Ended};
use super::bench::Bench;
use super::cloud::Cloud;
use super::settings;
use crate::bridge::intake::Offered;
use crate::bridge::settings::{OnSessionLoss, Settings};
use crate::clock::Clock;
use crate::model::{Message, Origin, Properties, Qos, Timestamp, TopicFilter};
use crate::mqtt::client::Version;
use crate::ports::NotAccepted;

#[test]
fn the_backlog_goes_up_in_order_once_and_is_gone() {
    for version in [Version::V311, Version::V5] {
        let mut bench = Bench::new();
        bench.version = version;
        let payloads: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        bench.store(Qos::ExactlyOnce, &payloads.iter().map(String::as_str).collect::<Vec<_>>());
        while bench.connect() == Some(Close::Purged) {
            bench.cut();
        }
        assert_eq!(bench.arrived(), payloads);
        assert!(bench.core.is_empty());
        assert_eq!((bench.core.delivered(), bench.core.drops.total()), (100, 0));
        assert_eq!(bench.cloud.holds(), 0, "every handshake ended");
    }
}

#[test]
fn birth_comes_first_and_the_will_speaks_when_the_link_dies() {
    let mut bench = Bench::new();
    bench.store(Qos::AtLeastOnce, &["1"]);
    bench.connect();
    assert_eq!(bench.cloud.status, ["online"]);
    bench.cut();
    assert_eq!(bench.cloud.status, ["online", "offline"]);
    bench.connect();
    bench.core.leave();
    assert_eq!(bench.exchange(), Some(Close::Left));
    bench.cut();
    assert_eq!(bench.cloud.status, ["online", "offline", "online", "offline"], "said by us, not by the will");
}

#[test]
fn a_new_store_makes_the_cloud_forget_an_old_session_once() {
    for version in [Version::V311, Version::V5] {
        let mut bench = Bench::new();
        bench.version = version;
        bench.connect();
        bench.cut();
        bench.connect();
        bench.store(Qos::ExactlyOnce, &["old"]);
        // The cloud holds a packet id, the store is lost: the id must not meet a new message.
        bench.cut();
        let file = bench.dir.path().join("outbox-cloud.db");
        drop(std::mem::replace(&mut bench.core, Bench::new().core));
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, b"").unwrap();
        let mut bench = bench.reopen(|_| ());
        bench.store(Qos::ExactlyOnce, &["new"]);
        let first = bench.connect();
        assert_eq!(first.is_some(), version == Version::V311, "3.1.1 purges with a connection of its own");
        if first.is_some() {
            assert_eq!(first, Some(Close::Purged));
            bench.cut();
            assert_eq!(bench.connect(), None);
        }
        assert_eq!(bench.arrived().last().map(String::as_str), Some("new"));
        assert_eq!(bench.cloud.violations, Vec::<String>::new());
        assert_eq!(bench.events("store-quarantined").len(), 1);
        bench.cut();
        assert_eq!(bench.connect(), None, "once is enough");
    }
}

/// Leaves one QoS 2 message whose PUBREL was sent and not answered, and one whose PUBLISH was.
fn half_done(policy: OnSessionLoss) -> Bench {
    let mut bench = Bench::with(|settings| settings.on_session_loss = policy);
    bench.connect();
    for payload in ["released", "published"] {
        let offered = bench.offered("t", payload, Qos::ExactlyOnce);
        bench.core.offer(offered, bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        let (up, _) = bench.turn(0);
        bench.cloud.feed(&up);
        if payload == "released" {
            let down = bench.cloud.output.split();
            bench.core.receive(&down, bench.clock.now(), bench.clock.wall()).unwrap();
            let (_lost, _) = bench.turn(0);
        }
    }
    bench.core.disconnected(Ended::Here);
    bench.cloud.forget();
    bench.clock.advance(Duration::from_secs(3_600));
    bench.connect();
    bench
}

#[test]
fn a_session_the_cloud_forgot_is_said_again_or_dropped_by_policy() {
    let bench = half_done(OnSessionLoss::Resend);
    assert_eq!(bench.arrived(), ["released", "published", "released", "published"]);
    assert!(bench.core.is_empty());
    assert_eq!((bench.events("session-lost").len(), bench.core.store().sessions_lost), (1, 1));

    let mut bench = half_done(OnSessionLoss::DropUncertain);
    assert_eq!(bench.arrived(), ["released", "published", "published"]);
    assert!(bench.core.is_empty());
    bench.clock.advance(Duration::from_secs(10));
    bench.exchange();
    assert!(
        bench.events("dropped")[0].contains(r#""cause":"session-lost","count":1"#),
        "{:?}",
        bench.events("dropped")
    );
    let accepted = r#""time":["2026-11-23T01:15:00.002Z","2026-11-23T01:15:00.002Z"]"#;
    assert!(bench.events("dropped")[0].contains(accepted), "{:?}", bench.events("dropped"));
}

#[test]
fn a_refusal_of_the_cloud_ends_the_record_and_is_told() {
    let mut bench = Bench::new();
    bench.connect();
    bench.store(Qos::AtLeastOnce, &["1"]);
    bench.core.offer(bench.offered("t", "2", Qos::AtLeastOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (up, _) = bench.turn(0);
    let pkid = u16::from_be_bytes([up[5], up[6]]);
    let [high, low] = pkid.to_be_bytes();
    bench.core.receive(&[0x40, 3, high, low, 0x87], bench.clock.now(), bench.clock.wall()).unwrap();
    bench.turn(0);
    bench.clock.advance(Duration::from_secs(10));
    bench.turn(0);
    assert!(bench.events("dropped")[0].contains(r#""cause":"refused-0x87","count":1"#));
    assert_eq!(bench.core.drops.total(), 1);
}

#[test]
fn a_cloud_that_answers_qos_2_with_a_puback_has_taken_it() {
    let mut bench = Bench::new();
    bench.version = Version::V311;
    bench.connect();
    bench.cut();
    bench.connect();
    bench.core.offer(bench.offered("t", "1", Qos::ExactlyOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (up, _) = bench.turn(0);
    bench.core.receive(&[0x40, 2, up[5], up[6]], bench.clock.now(), bench.clock.wall()).unwrap();
    bench.clock.advance(Duration::from_secs(10));
    bench.turn(0);
    assert!(bench.core.is_empty(), "RabbitMQ 3 lowers QoS 2 so, and says nothing more");
    bench.cut();
    bench.connect();
    assert!(bench.arrived().is_empty(), "it is not said again");
}

#[test]
fn a_cloud_of_3_1_1_that_closes_on_every_qos_2_message_gets_qos_1() {
    let mut bench = Bench::new();
    bench.version = Version::V311;
    bench.cloud.inflight_max_311 = 0;
    bench.connect();
    bench.cut();
    bench.store(Qos::ExactlyOnce, &["1", "2"]);
    bench.store(Qos::AtLeastOnce, &["3"]);
    bench.connect();
    for _ in 0..20 {
        if !bench.cloud.hung_up {
            break;
        }
        bench.core.disconnected(Ended::Closed);
        bench.cloud.cut();
        bench.connect();
    }
    let arrived: Vec<_> = bench.cloud.arrived.iter().map(|arrival| (&*arrival.payload, arrival.qos)).collect();
    let once = Qos::AtLeastOnce;
    assert_eq!(arrived, [(&b"1"[..], once), (b"2", once), (b"3", once)], "it would wait for ever behind the first");
}

#[test]
fn what_fits_no_handshake_is_dropped_and_the_connection_stays() {
    let mut bench = Bench::new();
    bench.connect();
    for stray in [[0x40, 2, 9, 9], [0x70, 2, 9, 9]] {
        bench.core.receive(&stray, bench.clock.now(), bench.clock.wall()).unwrap();
        assert_eq!(bench.turn(0), (BytesMut::new(), None));
    }
    bench.core.receive(&[0x50, 2, 9, 9], bench.clock.now(), bench.clock.wall()).unwrap();
    let (up, close) = bench.turn(0);
    assert_eq!((&up[..], close), ([0x62, 2, 9, 9].as_slice(), None), "an unknown PUBREC is released");
}

#[test]
fn the_caps_drop_the_oldest_and_never_what_is_in_flight() {
    let mut bench = Bench::with(|settings| {
        settings.window = 2;
        settings.outbox.max_messages = 5;
    });
    bench.connect();
    // Never acknowledged: two are in flight for good.
    for n in 0..10 {
        let offered = bench.offered("t", &n.to_string(), Qos::AtLeastOnce);
        bench.core.offer(offered, bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        bench.turn(0);
    }
    assert_eq!(bench.core.queued(), 5);
    bench.clock.advance(Duration::from_secs(10));
    bench.turn(0);
    let count: u64 = bench
        .events("dropped")
        .iter()
        .map(|event| serde_json::from_str::<serde_json::Value>(event).unwrap()["count"].as_u64().unwrap())
        .sum();
    assert_eq!((count, bench.core.drops.total()), (5, 5));
    bench.cut();
    bench.connect();
    assert_eq!(bench.arrived(), ["0", "1", "7", "8", "9"]);
}

#[test]
fn the_file_stays_below_its_cap() {
    const CAP: u64 = 1 << 20;
    let mut bench = Bench::with(|settings| settings.outbox.max_bytes = CAP);
    let payload = "x".repeat(1_000);
    for _ in 0..40 {
        for _ in 0..100 {
            let offered = bench.offered("t", &payload, Qos::AtLeastOnce);
            bench.core.offer(offered, bench.clock.now(), 0);
        }
        bench.clock.advance(Duration::from_millis(60));
        bench.turn(0);
        while bench.core.has_more(bench.clock.now(), 0) {
            bench.turn(0);
        }
        assert!(bench.core.bytes() <= CAP * 3 / 4, "{} bytes", bench.core.bytes());
    }
    assert_eq!(bench.core.queued() + bench.core.drops.total(), 4_000);
    assert!(bench.core.queued() > 450, "no more than needed was dropped: {} left", bench.core.queued());
}

#[test]
fn what_is_too_old_is_not_sent() {
    let mut bench = Bench::with(|settings| settings.outbox.max_age = Some(Duration::from_secs(3_600)));
    bench.store(Qos::AtLeastOnce, &["old"]);
    bench.clock.advance(Duration::from_secs(3_601));
    bench.store(Qos::AtLeastOnce, &["new"]);
    bench.connect();
    assert_eq!(bench.arrived(), ["new"]);
    assert!(
        bench.events("dropped")[0].contains(r#""cause":"age","count":1,"seq":[1,1]"#),
        "{:?}",
        bench.events("dropped")
    );
}

#[test]
fn an_age_by_a_clock_that_was_not_set_is_no_age() {
    let mut bench = Bench::with(|settings| settings.outbox.max_age = Some(Duration::from_secs(3_600)));
    bench.clock.set_wall(Timestamp { unix_ms: 1_000, synced: false, at: None });
    bench.store(Qos::AtLeastOnce, &["from 1970"]);
    bench.clock.set_wall(Timestamp { unix_ms: 1_795_396_500_000, synced: true, at: None });
    bench.clock.advance(Duration::from_secs(120));
    bench.connect();
    assert_eq!(bench.arrived(), ["from 1970"]);
}

#[test]
fn a_message_goes_up_with_what_is_left_of_its_life_or_not_at_all() {
    let mut bench = Bench::new();
    for (payload, expiry_s) in [("short", 5), ("long", 100)] {
        let mut offered = bench.offered("t", payload, Qos::AtLeastOnce);
        let properties = Properties { expiry_s: Some(expiry_s), ..Properties::default() };
        let message = Message { properties: Some(Arc::new(properties)), ..(*offered.message).clone() };
        offered.message = Arc::new(message);
        bench.core.offer(offered, bench.clock.now(), 0);
    }
    bench.clock.advance(Duration::from_millis(60));
    bench.turn(0);
    bench.clock.advance(Duration::from_secs(30));
    bench.connect();
    assert_eq!(bench.arrived(), ["long"]);
    assert_eq!(bench.cloud.expiry_s, [Some(69)]);
}

#[test]
fn a_command_comes_down_once_though_the_cloud_says_it_again() {
    let mut bench = Bench::new();
    bench.connect();
    assert_eq!(bench.cloud.subscribed, ["down/#"]);
    bench.cloud.send("down/pump", b"on", Qos::ExactlyOnce, 7, false);
    let down = bench.cloud.output.split();
    bench.core.receive(&down, bench.clock.now(), bench.clock.wall()).unwrap();
    let (_lost, _) = bench.turn(0);
    let commands = |bench: &Bench| bench.local.iter().filter(|m| m.topic.as_str() == "local/pump").count();
    assert_eq!(commands(&bench), 1);
    // Killed before the PUBREC was written: the cloud says it again.
    let mut bench = bench.reopen(|_| ());
    bench.connect();
    bench.cloud.send("down/pump", b"on", Qos::ExactlyOnce, 7, true);
    bench.exchange();
    assert_eq!(commands(&bench), 0, "it was told before the kill");
    bench.cloud.release(7);
    bench.exchange();
    bench.cloud.send("down/pump", b"off", Qos::ExactlyOnce, 7, false);
    bench.exchange();
    assert_eq!(commands(&bench), 1, "a released id carries a new message");
    let command = bench.local.last().unwrap();
    assert_eq!(
        (&*command.payload, &command.origin),
        (b"off".as_slice(), &Origin::Bridge(settings(bench.dir.path()).id))
    );
}

#[test]
fn subscriptions_are_made_when_the_cloud_does_not_hold_them() {
    let mut bench = Bench::new();
    bench.connect();
    bench.exchange();
    bench.clock.advance(Duration::from_secs(2));
    bench.turn(0);
    let mut bench = bench.reopen(|_| ());
    bench.cloud.subscribed.clear();
    bench.connect();
    assert!(
        bench.cloud.subscribed.is_empty(),
        "held: not asked for again, which would bring the retained messages again"
    );
    let other = |settings: &mut Settings| settings.inward[0].from = TopicFilter::parse("other/#").unwrap();
    let mut bench = bench.reopen(other);
    bench.cloud.subscribed = vec!["down/#".into()];
    bench.connect();
    assert_eq!(bench.cloud.subscribed, ["other/#"]);
}

#[test]
fn a_reload_that_takes_the_subscriptions_away_and_another_that_brings_them_back_leave_them_held() {
    let mut bench = Bench::new();
    bench.connect();
    let with = settings(bench.dir.path());
    let without = Settings { inward: Vec::new(), ..with.clone() };
    for (settings, held) in [(without, 0), (with, 1)] {
        bench.cut();
        bench.core.apply(Arc::new(settings));
        bench.connect();
        assert_eq!(bench.cloud.subscribed.len(), held);
        bench.cut();
        let before = bench.core.store().commits;
        bench.connect();
        assert_eq!(bench.core.store().commits - before, 1, "agreed: not asked for again");
    }
}

#[test]
fn what_the_cloud_was_asked_for_and_did_not_answer_is_asked_for_again_whatever_is_wanted_then() {
    let mut bench = Bench::new();
    bench.connect();
    let mut bench = bench.reopen(|settings| settings.inward[0].from = TopicFilter::parse("other/#").unwrap());
    bench.connect_without_reading();
    assert_eq!(bench.cloud.subscribed, ["other/#"]);
    // Killed before the answers came, and the old filters are wanted again.
    let mut bench = bench.reopen(|_| ());
    bench.connect();
    assert_eq!(bench.cloud.subscribed, ["down/#"]);
}

#[test]
fn subscriptions_of_a_session_that_was_lost_are_made_again_whatever_dies_before_they_are_agreed() {
    let mut bench = Bench::new();
    bench.connect();
    bench.cut();
    bench.cloud.forget();
    let connect = bench.core.connect(bench.version, bench.clock.now(), bench.clock.wall()).unwrap();
    bench.cloud.feed(&connect);
    let welcome = bench.cloud.output.split();
    bench.core.receive(&welcome, bench.clock.now(), bench.clock.wall()).unwrap();
    let (_lost, _) = bench.turn(0);
    let mut bench = bench.reopen(|_| ());
    bench.connect();
    assert_eq!(bench.cloud.subscribed, ["down/#"]);
}

#[test]
fn qos_0_goes_at_once_or_is_counted() {
    let mut bench = Bench::new();
    bench.core.offer(bench.offered("t", "lost", Qos::AtMostOnce), bench.clock.now(), 0);
    bench.connect();
    bench.core.offer(bench.offered("t", "sent", Qos::AtMostOnce), bench.clock.now(), 0);
    bench.exchange();
    assert_eq!((bench.arrived(), bench.core.drops.total()), (vec!["sent".to_owned()], 1));
}

#[test]
fn a_full_disk_refuses_clients_keeps_the_link_and_recovers() {
    let mut bench = Bench::new();
    bench.store(Qos::AtLeastOnce, &["before"]);
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    let (answer, mut told) = oneshot::channel();
    let offered = Offered { answer: Some(answer), ..bench.offered("t", "client", Qos::AtLeastOnce) };
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.core.offer(bench.offered("t", "sensor", Qos::AtLeastOnce), bench.clock.now(), 0);
    bench.turn(0);
    assert!(matches!(told.try_recv(), Ok(Err(NotAccepted::Store { .. }))));
    assert!(bench.core.fault().is_some());
    assert_eq!(bench.events("store-fault").len(), 1);
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    bench.clock.advance(Duration::from_secs(6));
    bench.turn(0);
    assert_eq!(bench.core.fault(), None);
    bench.connect();
    assert_eq!(bench.arrived(), ["before", "sensor"]);
}

#[test]
fn a_ping_without_an_answer_ends_the_connection() {
    let mut bench = Bench::new();
    bench.connect();
    bench.clock.advance(Duration::from_secs(30));
    let (up, close) = bench.turn(0);
    assert_eq!((&up[..], close), ([0xc0, 0].as_slice(), None));
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(bench.turn(0).1, Some(Close::Silent));
}

#[test]
fn that_a_cloud_speaks_5_is_known_after_a_kill_and_of_no_other_cloud() {
    let mut bench = Bench::new();
    assert!(!bench.core.cloud_speaks_v5());
    bench.connect();
    let bench = bench.reopen(|_| ());
    assert!(bench.core.cloud_speaks_v5());
    let bench = bench.reopen(|settings| settings.url.host = "other".into());
    assert!(!bench.core.cloud_speaks_v5());
}

#[test]
fn another_cloud_gets_everything_under_new_packet_ids() {
    let mut bench = Bench::new();
    bench.connect();
    bench.core.offer(bench.offered("t", "1", Qos::ExactlyOnce), bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (up, _) = bench.turn(0);
    bench.cloud.feed(&up);
    let mut bench = bench.reopen(|settings| settings.url.host = "other".into());
    bench.cloud = Cloud::new(10);
    bench.connect();
    assert_eq!((bench.arrived(), bench.cloud.arrived[0].dup), (vec!["1".to_owned()], false));
}

#[test]
fn a_bridge_with_nothing_to_do_asks_for_no_turn_before_the_next_ping() {
    let mut bench = Bench::new();
    bench.connect();
    bench.clock.advance(Duration::from_secs(6));
    bench.turn(0);
    let now = bench.clock.now();
    let next = bench.core.poll_timeout().unwrap();
    assert!(next.since(now) > Duration::from_secs(20), "due in {:?}", next.since(now));
    assert!(!bench.core.has_more(now, 0));
}

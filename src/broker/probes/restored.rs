//! What a broker makes of the sessions that a file tells of: who is let in by now, who inherits, and what the file holds afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::harness::{NoUplink, PATIENCE, Raw, eventually, publish, routings, settings, start, subscribe};
use crate::broker::{Broker, FilterTemplate, Rights, Settings, User};
use crate::clock::FakeClock;
use crate::health::Health;
use crate::model::Qos::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
use crate::model::clients::Kick;
use crate::model::{Timestamp, TopicFilter};
use crate::mqtt::server::Version::V5;
use crate::store::{
    BodyRow, QueuedRow, RetainedChange, RetainedRow, SessionChange, SessionRow, Sessions, SubscriptionRow,
};

const FOR_EVER: [u8; 5] = [0x11, 0xff, 0xff, 0xff, 0xff];

fn file(directory: &Path) -> PathBuf {
    directory.join("sessions.db")
}

fn kept(directory: &Path) -> Settings {
    Settings { store: Some(directory.to_path_buf()), ..settings(routings()[0]) }
}

async fn begin(directory: &Path) -> Broker {
    start(kept(directory)).await
}

/// A file as a life before left it.
fn left_behind(path: &Path, changes: &[SessionChange<'_>]) {
    Sessions::open(path).unwrap().0.write([], changes.iter().copied()).unwrap();
}

fn session<'a>(id: i64, client: &'a str, user: Option<&'a str>) -> SessionRow<'a> {
    SessionRow { id, client, user, peer: None, expiry_s: u32::MAX, left_ms: None }
}

fn subscription(session: i64, asked: &str) -> SubscriptionRow<'_> {
    SubscriptionRow {
        session,
        asked,
        qos: ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        hungry: false,
        after: None,
        identifier: None,
    }
}

fn body(id: i64, qos: Qos, payload: &[u8]) -> BodyRow<'_> {
    BodyRow { id, qos, retain: false, expires_ms: None, topic: "t", properties: None, payload }
}

fn queued(session: i64, row: i64, body: i64, qos: Qos) -> QueuedRow<'static> {
    QueuedRow { session, row, body: Some(body), qos, retain: false, ids: None, share: None, sent: None }
}

fn found(directory: &Path) -> [i64; 4] {
    let rows = |table| crate::store::sessions::rows(&file(directory), table);
    ["session", "subscription", "queued", "body"].map(rows)
}

async fn resume(broker: &Broker, client: &str) -> (Raw, bool) {
    let (raw, connack) = Raw::connect_with(broker, V5, client, 0, &FOR_EVER).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{client} is welcome");
    (raw, connack[2] == 1)
}

#[tokio::test]
async fn a_disk_that_takes_nothing_at_start_costs_no_session() {
    let directory = tempfile::tempdir().unwrap();
    left_behind(
        &file(directory.path()),
        &[
            SessionChange::Session(session(1, "away", None)),
            SessionChange::Body(body(7, AtLeastOnce, b"waits")),
            SessionChange::Body(body(8, AtLeastOnce, b"for nobody")),
            SessionChange::Queued(queued(1, 1, 7, AtLeastOnce)),
        ],
    );
    crate::store::sessions::forbid(&file(directory.path()), "DELETE ON body");
    let broker = begin(directory.path()).await;
    let (mut away, present) = resume(&broker, "away").await;
    assert!(present);
    away.expect(&publish(V5, "t", b"waits", AtLeastOnce, false, 1)).await;
    crate::store::sessions::allow(&file(directory.path()));
    away.subscribe("t", 1).await;
    eventually("what is for nobody is gone", async || found(directory.path())[3] == 1).await;
    broker.kill().await;
}

#[tokio::test]
async fn a_session_comes_back_with_what_its_user_is_allowed_by_now_and_not_at_all_where_that_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    left_behind(
        &file(directory.path()),
        &[
            SessionChange::Session(session(1, "one", Some("ha"))),
            SessionChange::Subscribed(subscription(1, "a/#")),
            SessionChange::Subscribed(subscription(1, "secret/#")),
            SessionChange::Session(session(2, "two", Some("gone"))),
            SessionChange::Subscribed(subscription(2, "a/#")),
            SessionChange::Body(body(7, AtLeastOnce, b"waits")),
            SessionChange::Queued(queued(2, 1, 7, AtLeastOnce)),
        ],
    );
    let subscribe = vec![FilterTemplate(TopicFilter::parse("a/#").unwrap())];
    let user = User { name: "ha".into(), hash: None, rights: Rights { subscribe, ..Rights::default() } };
    let users = || Settings { users: vec![user.clone()], ..kept(directory.path()) };
    let broker = start(users()).await;
    eventually("the file says so", async || found(directory.path()) == [1, 1, 0, 0]).await;
    let lives = broker.clients().list("*").clients;
    assert_eq!(lives.iter().map(|it| (&*it.id, it.subscriptions)).collect::<Vec<_>>(), [("one", 1)]);
    broker.kill().await;
}

#[tokio::test]
async fn a_reload_that_takes_a_user_away_ends_the_sessions_it_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = begin(directory.path()).await;
    for client in ["away", "here"] {
        let (mut raw, _) = resume(&broker, client).await;
        raw.subscribe("t", 1).await;
        if client == "away" {
            raw.send(&[0xe0, 0]).await;
            raw.expect_end().await;
        } else {
            let user = User { name: "ha".into(), hash: None, rights: Rights::default() };
            broker.apply(Settings { users: vec![user], ..kept(directory.path()) }).await.unwrap();
            assert_eq!(raw.packet().await.map(|packet| packet[0]), Some(0xe0), "nameless, it is not let in any more");
        }
    }
    eventually("nothing is left of either", async || broker.clients().list("*").clients.is_empty()).await;
    eventually("nor in the file", async || found(directory.path())[..2] == [0, 0]).await;
    broker.kill().await;
}

#[tokio::test]
async fn a_session_that_is_over_or_one_too_many_leaves_its_part_of_a_shared_subscription_to_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let share = "$share/g/t";
    let of_group = |session, row, body, qos| QueuedRow { share: Some(share), ..queued(session, row, body, qos) };
    let sent = Some(crate::store::OnWire { packet_id: 1, turn: 1 });
    left_behind(
        &file(directory.path()),
        &[
            SessionChange::Session(session(1, "heir", None)),
            SessionChange::Subscribed(subscription(1, share)),
            // To end with its connection.
            SessionChange::Session(SessionRow { expiry_s: 0, ..session(2, "over", None) }),
            SessionChange::Subscribed(subscription(2, share)),
            SessionChange::Body(body(7, AtLeastOnce, b"shared")),
            SessionChange::Body(body(8, AtLeastOnce, b"its own")),
            SessionChange::Body(body(9, ExactlyOnce, b"maybe there")),
            SessionChange::Queued(of_group(2, 1, 7, AtLeastOnce)),
            SessionChange::Queued(queued(2, 2, 8, AtLeastOnce)),
            // Whoever may have it already is the only one to have it.
            SessionChange::Queued(QueuedRow { sent, ..of_group(2, 3, 9, ExactlyOnce) }),
            // A client that is there twice.
            SessionChange::Session(session(3, "twice", None)),
            SessionChange::Session(SessionRow { left_ms: Some(1), ..session(4, "twice", None) }),
            SessionChange::Body(body(10, ExactlyOnce, b"shared too")),
            SessionChange::Queued(of_group(4, 1, 10, ExactlyOnce)),
        ],
    );
    let broker = begin(directory.path()).await;
    let (mut heir, present) = resume(&broker, "heir").await;
    assert!(present);
    heir.expect(&publish(V5, "t", b"shared", AtLeastOnce, false, 1)).await;
    heir.expect(&publish(V5, "t", b"shared too", ExactlyOnce, false, 2)).await;
    eventually("the file holds no more", async || found(directory.path()) == [2, 1, 2, 2]).await;
    broker.kill().await;
    let broker = begin(directory.path()).await;
    assert!(resume(&broker, "twice").await.1);
    assert!(!resume(&broker, "over").await.1);
    broker.kill().await;
}

#[tokio::test]
async fn a_file_that_can_be_read_late_holds_one_session_of_a_client_from_its_first_commit_on() {
    let directory = tempfile::tempdir().unwrap();
    let before = directory.path().join("before.db");
    left_behind(
        &before,
        &[
            SessionChange::Session(session(1, "here", None)),
            SessionChange::Session(session(2, "away", None)),
            SessionChange::Body(body(7, AtLeastOnce, b"for here")),
            SessionChange::Body(body(8, AtLeastOnce, b"for away")),
            SessionChange::Queued(queued(1, 1, 7, AtLeastOnce)),
            SessionChange::Queued(queued(2, 1, 8, AtLeastOnce)),
        ],
    );
    std::fs::create_dir(file(directory.path())).unwrap();
    let broker = begin(directory.path()).await;
    let (mut here, present) = resume(&broker, "here").await;
    assert!(!present);
    std::fs::remove_dir(file(directory.path())).unwrap();
    std::fs::rename(&before, file(directory.path())).unwrap();
    here.subscribe("u", 1).await;
    assert_eq!(found(directory.path()), [2, 1, 1, 1], "when that was acknowledged");
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let (mut away, present) = resume(&broker, "away").await;
    assert!(present);
    away.expect(&publish(V5, "t", b"for away", AtLeastOnce, false, 1)).await;
    broker.kill().await;
}

#[tokio::test]
async fn retained_messages_that_were_on_their_way_at_a_kill_go_on_where_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin(directory.path()).await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    for (id, topic) in (1..).zip(["r/a", "r/b", "r/c"]) {
        publisher.publish(topic, b"x", ExactlyOnce, true, id).await;
        publisher.expect(&[0x50, 2, 0, id.to_be_bytes()[1]]).await;
    }
    // One at a time on its wire.
    let narrow = [&FOR_EVER[..], &[0x21, 0, 1]].concat();
    let (mut raw, _) = Raw::connect_with(&broker, V5, "sub", 0, &narrow).await;
    raw.send(&subscribe(V5, 1, "r/#", 2)).await;
    let first = publish(V5, "r/a", b"x", ExactlyOnce, true, 1);
    // Either may be on disk before the other.
    let mut packets = [raw.packet().await.unwrap(), raw.packet().await.unwrap()];
    packets.sort();
    assert_eq!((&packets[0], packets[1][0]), (&first, 0x90));
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let (mut raw, present) = resume(&broker, "sub").await;
    assert!(present);
    raw.expect(&[&[first[0] | 0x08], &first[1..]].concat()).await;
    for (id, topic) in [(2, "r/b"), (3, "r/c")] {
        raw.expect(&publish(V5, topic, b"x", ExactlyOnce, true, id)).await;
    }
    raw.expect_silence().await;
    broker.kill().await;
    let broker = begin(directory.path()).await;
    let (mut raw, _) = resume(&broker, "sub").await;
    for (id, topic) in [(1, "r/a"), (2, "r/b"), (3, "r/c")] {
        let again = publish(V5, topic, b"x", ExactlyOnce, true, id);
        raw.expect(&[&[again[0] | 0x08], &again[1..]].concat()).await;
    }
    raw.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn retained_messages_of_a_file_that_can_be_read_late_are_there_unless_something_newer_is() {
    let directory = tempfile::tempdir().unwrap();
    let before = directory.path().join("before.db");
    let row = |topic, payload| {
        let (qos, expires_ms, properties) = (AtLeastOnce, None, None);
        RetainedChange::Keep(RetainedRow { topic, qos, expires_ms, properties, payload })
    };
    let rows = [row("r/a", &b"old"[..]), row("r/b", b"old")];
    Sessions::open(&before).unwrap().0.write(rows, []).unwrap();
    std::fs::create_dir(file(directory.path())).unwrap();
    let broker = begin(directory.path()).await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    publisher.publish("r/a", b"new", AtMostOnce, true, 0).await;
    publisher.expect_silence().await;
    std::fs::remove_dir(file(directory.path())).unwrap();
    std::fs::rename(&before, file(directory.path())).unwrap();
    publisher.publish("r/c", b"new", AtLeastOnce, true, 1).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
    for _ in 0..2 {
        let mut raw = Raw::connect(&broker, V5, "sub").await;
        raw.subscribe("r/#", 0).await;
        for (topic, payload) in [("r/a", &b"new"[..]), ("r/b", b"old"), ("r/c", b"new")] {
            raw.expect(&publish(V5, topic, payload, AtMostOnce, true, 0)).await;
        }
    }
    broker.kill().await;
}

/// One whose clock stands still, so that nothing is written for the sake of time.
async fn begin_timeless(directory: &Path, clock: &FakeClock) -> Broker {
    let (uplink, clock) = (Arc::new(NoUplink), Arc::new(clock.clone()));
    Broker::start(kept(directory), uplink, clock, &Health::new()).await.unwrap()
}

#[tokio::test]
async fn a_session_that_ends_by_a_clean_start_or_by_hand_is_not_there_again_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let broker = begin_timeless(directory.path(), &FakeClock::new(0)).await;
    for client in ["clean", "forgotten"] {
        resume(&broker, client).await.0.subscribe("t", 1).await;
    }
    assert_eq!(found(directory.path())[..2], [2, 2]);
    let _clean = Raw::connect(&broker, V5, "clean").await;
    assert_eq!(found(directory.path())[..2], [1, 1], "when it is welcome");
    broker.clients().kick(&Kick { client: "forgotten".into(), forget: true }).unwrap();
    eventually("the other is gone too", async || found(directory.path())[..2] == [0, 0]).await;
    broker.kill().await;
}

fn left_ms(directory: &Path) -> Option<i64> {
    let mut left = None;
    Sessions::open(&file(directory)).unwrap().0.each_session(|row| left = row.left_ms).unwrap();
    left
}

#[tokio::test]
async fn a_session_that_had_its_connection_at_a_crash_has_left_with_it_once_the_clock_is_set() {
    const NOW_MS: i64 = 1_795_396_500_000;
    let directory = tempfile::tempdir().unwrap();
    let had_it = SessionChange::Session(SessionRow { expiry_s: 3_600, ..session(1, "c", None) });
    left_behind(&file(directory.path()), &[had_it]);
    let clock = FakeClock::new(NOW_MS);
    clock.set_wall(Timestamp { unix_ms: 0, synced: false, at: None });
    let broker = begin_timeless(directory.path(), &clock).await;
    broker.stop(PATIENCE).await;
    assert_eq!(left_ms(directory.path()), None, "nobody knows when");
    let broker = begin_timeless(directory.path(), &clock).await;
    clock.set_wall(Timestamp { unix_ms: NOW_MS, synced: true, at: None });
    broker.shared.due_changed.notify_one();
    eventually("it has a date", async || {
        clock.advance(crate::limits::SESSION_LAZY);
        crate::store::sessions::rows(&file(directory.path()), "session WHERE left_ms IS NOT NULL") == 1
    })
    .await;
    broker.kill().await;
    let left = left_ms(directory.path());
    let broker = begin_timeless(directory.path(), &clock).await;
    broker.stop(PATIENCE).await;
    assert_eq!(left_ms(directory.path()), left, "it is not moved by another start");
}

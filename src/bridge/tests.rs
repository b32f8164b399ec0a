//! The engine's thread with real sockets, as far as no real broker is needed.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::tests::settings;
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::health::Health;
use crate::limits::PULSE_EVERY;
use crate::model::{Moment, Origin, Qos, TopicName};
use crate::ports::{Acceptance, NotAccepted};

/// Longest anything here may take: far more than it needs, so that a busy machine fails nothing.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Local {
    heard: Mutex<Vec<Message>>,
    /// What the next message from the cloud has to wait for.
    notes: Mutex<Option<tokio::sync::oneshot::Receiver<()>>>,
    /// Panics at the next message, once.
    fails: AtomicBool,
}

impl Publish for Local {
    fn publish(&self, message: Message) {
        self.heard.lock().unwrap().push(message);
        assert!(!self.fails.swap(false, Ordering::SeqCst), "a mistake, made on purpose");
    }

    fn publish_from_cloud(&self, message: Message) -> Option<Acceptance> {
        let from_cloud = matches!(message.origin, Origin::Bridge(_));
        self.publish(message);
        let note = self.notes.lock().unwrap().take_if(|_| from_cloud)?;
        Some(Box::pin(async move {
            let _ = note.await;
            Ok(())
        }))
    }
}

/// Reads what the bridge says until these bytes are among it, or until the patience ends.
fn hears(cloud: &mut std::net::TcpStream, bytes: &[u8], patience: Duration) -> bool {
    cloud.set_read_timeout(Some(patience)).unwrap();
    let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
    while !heard.windows(bytes.len()).any(|window| window == bytes) {
        match cloud.read(&mut buffer) {
            Ok(count) if count > 0 => heard.extend_from_slice(&buffer[..count]),
            _ => return false,
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_of_the_cloud_is_acknowledged_once_it_is_noted() {
    const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];
    /// QoS 1, packet id 7, topic `down/x`, no properties, payload `1`.
    const PUBLISH: [u8; 14] = [0x32, 12, 0, 6, b'd', b'o', b'w', b'n', b'/', b'x', 0, 7, 0, b'1'];
    const PUBACK: [u8; 4] = [0x40, 2, 0, 7];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (dir, local) = (tempfile::tempdir().unwrap(), Arc::new(Local::default()));
    let (noted, note) = tokio::sync::oneshot::channel();
    *local.notes.lock().unwrap() = Some(note);
    let bridge = bridge(&dir, listener.local_addr().unwrap().port(), &local);
    let (mut cloud, _) = listener.accept().unwrap();
    assert!(hears(&mut cloud, b"MQTT", PATIENCE));
    cloud.write_all(&CONNACK).unwrap();
    cloud.write_all(&PUBLISH).unwrap();
    let start = SystemClock.now();
    while !local.heard.lock().unwrap().iter().any(|message| message.topic.as_str() == "local/x") {
        assert!(SystemClock.now().since(start) < PATIENCE, "the command does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!hears(&mut cloud, &PUBACK, Duration::from_millis(300)), "acknowledged before it is noted");
    noted.send(()).unwrap();
    assert!(hears(&mut cloud, &PUBACK, PATIENCE), "noted and not acknowledged");
    bridge.stop(Duration::from_secs(2)).await;
}

fn message(payload: &str) -> Arc<Message> {
    let topic = TopicName::parse("a").unwrap();
    Arc::new(Message::new(topic, payload.as_bytes(), Qos::AtLeastOnce, false, Origin::Client))
}

async fn accepted(bridge: &Bridge, payload: &str) -> Result<(), NotAccepted> {
    let acceptance = bridge.intake().accept(&message(payload)).unwrap();
    tokio::time::timeout(PATIENCE, acceptance).await.expect("an answer in time")
}

async fn status_of(bridge: &Bridge, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut status = bridge.status();
    tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await.expect("the status in time").unwrap().clone()
}

/// A bridge to a port of this machine.
fn bridge(dir: &tempfile::TempDir, port: u16, local: &Arc<Local>) -> Bridge {
    supervised_bridge(dir, port, local, &Health::new())
}

fn supervised_bridge(dir: &tempfile::TempDir, port: u16, local: &Arc<Local>, health: &Arc<Health>) -> Bridge {
    let mut settings = settings(dir.path());
    settings.url = CloudUrl { tls: false, host: "127.0.0.1".into(), port, path: None };
    Bridge::start(settings, Arc::clone(local) as Arc<dyn Publish>, SystemClock::shared(), health).unwrap()
}

/// A port nobody listens on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_cloud_that_refuses_is_named_and_what_comes_in_is_stored() {
    let (dir, local) = (tempfile::tempdir().unwrap(), Arc::default());
    let bridge = bridge(&dir, closed_port(), &local);
    let status = status_of(&bridge, |status| status.state == LinkState::Offline).await;
    assert_eq!(status.reason.as_deref(), Some("connection refused"));
    assert_eq!(accepted(&bridge, "1").await, Ok(()));
    assert_eq!(status_of(&bridge, |status| status.queued == 1).await.dropped, 0);
    bridge.stop(Duration::from_secs(2)).await;
    let bridge = self::bridge(&dir, closed_port(), &local);
    assert_eq!(status_of(&bridge, |status| status.queued > 0).await.queued, 1, "it is there after a restart");
}

#[tokio::test]
async fn qos_0_does_not_wait_for_a_store_that_takes_nothing_in() {
    let (dir, local) = (tempfile::tempdir().unwrap(), Arc::default());
    let bridge = bridge(&dir, closed_port(), &local);
    assert_eq!(accepted(&bridge, "1").await, Ok(()));
    std::fs::remove_file(dir.path().join("outbox-cloud.db")).unwrap();
    // Asked about the file only while something comes in.
    while accepted(&bridge, "2").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let unstored = Message { qos: Qos::AtMostOnce, ..(*message("0")).clone() };
    assert!(bridge.intake().accept(&Arc::new(unstored)).is_some());
    let status = status_of(&bridge, |status| status.dropped > 0).await;
    assert_eq!(status.causes, [("qos0-offline".to_owned(), 1)]);
    bridge.stop(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_cloud_that_takes_the_connection_and_says_nothing_delays_no_commit() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (dir, local) = (tempfile::tempdir().unwrap(), Arc::default());
    let bridge = bridge(&dir, silent.local_addr().unwrap().port(), &local);
    let (_held, _) = silent.accept().unwrap();
    for n in 0..20 {
        assert_eq!(accepted(&bridge, &n.to_string()).await, Ok(()));
    }
    let status = status_of(&bridge, |status| status.queued == 20).await;
    assert_eq!(status.state, LinkState::Connecting, "it still waits for CONNACK");
}

#[tokio::test]
async fn a_panic_in_the_engine_costs_neither_the_bridge_nor_what_was_accepted() {
    let (dir, local) = (tempfile::tempdir().unwrap(), Arc::new(Local::default()));
    let bridge = bridge(&dir, closed_port(), &local);
    assert_eq!(accepted(&bridge, "before").await, Ok(()));
    status_of(&bridge, |status| status.state == LinkState::Offline).await;
    local.fails.store(true, Ordering::SeqCst);
    // Another cloud is another state to tell, and the telling fails.
    let mut other = settings(dir.path());
    other.url = CloudUrl { tls: false, host: "127.0.0.1".into(), port: closed_port(), path: None };
    bridge.apply(other);
    while local.fails.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(accepted(&bridge, "after").await, Ok(()));
    assert_eq!(status_of(&bridge, |status| status.queued == 2).await.dropped, 0);
}

#[tokio::test]
async fn an_engine_that_idles_beats_and_one_that_is_stuck_is_named() {
    let clock = SystemClock;
    let (dir, local, health) = (tempfile::tempdir().unwrap(), Arc::new(Local::default()), Health::new());
    let bridge = supervised_bridge(&dir, closed_port(), &local, &health);
    status_of(&bridge, |status| status.state == LinkState::Offline).await;
    // Asked about a moment to come: who is not late then has beaten since `start`.
    let soon = |start: Moment| start + PULSE_LIMIT_DISK + Duration::from_millis(1);
    let start = clock.now();
    while !health.verdict(soon(start)).is_healthy() {
        assert!(clock.now().since(start) < PATIENCE, "it idles and does not beat");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    {
        let _held = local.heard.lock().unwrap();
        let mut other = settings(dir.path());
        other.url = CloudUrl { tls: false, host: "127.0.0.1".into(), port: closed_port(), path: None };
        bridge.apply(other);
        // From its next word on it waits for the lock, and is silent for longer than one that idles ever is.
        let (start, ahead) = (clock.now(), PULSE_LIMIT_DISK.saturating_sub(PULSE_EVERY * 2));
        let late = loop {
            let late = health.verdict(clock.now() + ahead).late;
            if !late.is_empty() {
                break late;
            }
            assert!(clock.now().since(start) < PATIENCE, "it is stuck and beats");
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(late.into_iter().map(|late| late.name).collect::<Vec<_>>(), ["bridge cloud"]);
    }
    bridge.stop(Duration::from_secs(2)).await;
    assert_eq!(health.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_bridge_that_stops_takes_nothing_more_in() {
    let (dir, local) = (tempfile::tempdir().unwrap(), Arc::default());
    let bridge = bridge(&dir, closed_port(), &local);
    let intake = bridge.intake();
    bridge.stop(Duration::from_secs(2)).await;
    let answer = tokio::time::timeout(PATIENCE, intake.accept(&message("late")).unwrap()).await.unwrap();
    assert_eq!(answer, Err(NotAccepted::Stopping { bridge: "cloud".into() }));
}

#[tokio::test]
async fn a_bridge_that_was_stopped_says_so_last() {
    let (dir, local) = (tempfile::tempdir().unwrap(), Arc::new(Local::default()));
    let bridge = bridge(&dir, closed_port(), &local);
    assert_eq!(accepted(&bridge, "1").await, Ok(()));
    status_of(&bridge, |status| status.state == LinkState::Offline).await;
    bridge.stop(Duration::from_secs(2)).await;
    let heard = local.heard.lock().unwrap();
    let last: serde_json::Value = serde_json::from_slice(&heard.last().unwrap().payload).unwrap();
    assert_eq!((&last["state"], &last["reason"], &last["queued"]), (&"offline".into(), &"stopped".into(), &1.into()));
}

/// The protocol level of the next CONNECT, which is answered with `answer` or not at all, and the connection closed.
fn level_of_next(cloud: &TcpListener, answer: &[u8]) -> u8 {
    let (mut connection, _) = cloud.accept().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut start = [0; 12];
    connection.read_exact(&mut start).unwrap();
    connection.write_all(answer).unwrap();
    let name = start.windows(4).position(|part| part == b"MQTT").unwrap();
    start[name + 4]
}

#[test]
fn a_cloud_that_has_spoken_5_is_not_taken_for_an_old_one_when_it_closes_in_silence() {
    for (first, expected) in [(&[0x20, 3, 0, 0, 0][..], [5, 5, 5, 5]), (&[], [5, 5, 4, 4])] {
        let cloud = TcpListener::bind("127.0.0.1:0").unwrap();
        let (dir, local) = (tempfile::tempdir().unwrap(), Arc::default());
        let _bridge = bridge(&dir, cloud.local_addr().unwrap().port(), &local);
        let mut levels = vec![level_of_next(&cloud, first)];
        levels.extend((0..3).map(|_| level_of_next(&cloud, &[])));
        assert_eq!(levels, expected);
    }
}

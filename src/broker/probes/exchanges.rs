//! What bridges hear of QoS 2 messages that are half handed over, and what publishers hear when.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::harness::{PATIENCE, Raw, eventually, publish, routings, settings, start_with};
use crate::broker::{Broker, FilterTemplate, Rights, Settings};
use crate::model::Qos::{AtLeastOnce, ExactlyOnce};
use crate::model::{ExchangeId, Message, TopicFilter};
use crate::mqtt::server::Version::{V5, V311};
use crate::ports::{Acceptance, NotAccepted, Uplink};

type Answer = oneshot::Sender<Result<(), NotAccepted>>;

/// A bridge that takes everything unless its disk is full, and forgets when the test says so.
#[derive(Default)]
struct Bridge {
    is_full: AtomicBool,
    offered: Mutex<Vec<Option<ExchangeId>>>,
    released: Mutex<Vec<(ExchangeId, Option<Answer>)>>,
    over: Mutex<Vec<i64>>,
}

impl Bridge {
    fn last(&self) -> Option<ExchangeId> {
        *self.offered.lock().unwrap().last().unwrap()
    }

    async fn forget(&self, exchange: ExchangeId, outcome: Result<(), NotAccepted>) {
        eventually("it is asked", async || !self.released.lock().unwrap().is_empty()).await;
        let (asked, answer) = self.released.lock().unwrap().pop().unwrap();
        assert_eq!(asked, exchange);
        answer.unwrap().send(outcome).unwrap();
    }
}

impl Uplink for Bridge {
    fn accept(&self, message: &Arc<Message>) -> Option<Acceptance> {
        self.offered.lock().unwrap().push(message.exchange);
        let refused = || Err(NotAccepted::Store { bridge: "cloud".into(), reason: "disk full".into() });
        self.is_full.load(Ordering::Relaxed).then(|| -> Acceptance { Box::pin(async move { refused() }) })
    }

    fn release(&self, exchange: ExchangeId) -> Option<Acceptance> {
        let (tell, told) = oneshot::channel();
        self.released.lock().unwrap().push((exchange, Some(tell)));
        Some(Box::pin(async move { told.await.expect("the test answers") }))
    }

    fn session_over(&self, session: i64) {
        self.over.lock().unwrap().push(session);
    }
}

fn kept(directory: &Path) -> Settings {
    Settings { store: Some(directory.to_path_buf()), ..settings(routings()[0]) }
}

/// The same, and nobody may publish to `t`.
fn denying(directory: &Path) -> Settings {
    let filters = |text| vec![FilterTemplate(TopicFilter::parse(text).unwrap())];
    let denied = Rights {
        publish: filters("#"),
        subscribe: filters("#"),
        deny_publish: filters("t"),
        deny_subscribe: Vec::new(),
    };
    Settings { anyone: Some(denied), ..kept(directory) }
}

async fn begin(directory: &Path, bridge: &Arc<Bridge>) -> Broker {
    start_with(kept(directory), bridge.clone()).await
}

/// A publisher of 3.1.1 whose session outlives its connection.
async fn resume(broker: &Broker) -> Raw {
    Raw::connect_with(broker, V311, "pub", 0, &[]).await.0
}

async fn record(publisher: &mut Raw, id: u8) {
    publisher.publish("t", b"x", ExactlyOnce, false, id.into()).await;
    publisher.expect(&[0x50, 2, 0, id]).await;
}

#[tokio::test]
async fn a_publisher_hears_that_its_packet_id_is_free_once_the_bridges_have_forgotten_it() {
    let (directory, bridge) = (tempfile::tempdir().unwrap(), Arc::<Bridge>::default());
    let broker = begin(directory.path(), &bridge).await;
    let mut publisher = resume(&broker).await;
    record(&mut publisher, 7).await;
    let exchange = bridge.last().expect("it is said again after a crash");
    assert_eq!(exchange.packet_id, 7);
    publisher.send(&[0x62, 2, 0, 7]).await;
    publisher.expect_silence().await;
    bridge.forget(exchange, Ok(())).await;
    publisher.expect(&[0x70, 2, 0, 7]).await;
    // Where a bridge cannot, it hears nothing, and asks again.
    record(&mut publisher, 7).await;
    publisher.send(&[0x62, 2, 0, 7]).await;
    bridge.forget(exchange, Err(NotAccepted::Stopping { bridge: "cloud".into() })).await;
    publisher.expect_end().await;
    let mut publisher = resume(&broker).await;
    publisher.send(&[0x62, 2, 0, 7]).await;
    bridge.forget(exchange, Ok(())).await;
    publisher.expect(&[0x70, 2, 0, 7]).await;
    broker.kill().await;
}

#[tokio::test]
async fn a_message_is_known_by_its_session_over_a_kill_and_not_by_the_next_one_of_that_client() {
    let (directory, bridge) = (tempfile::tempdir().unwrap(), Arc::<Bridge>::default());
    let broker = begin(directory.path(), &bridge).await;
    record(&mut resume(&broker).await, 7).await;
    let exchange = bridge.last().unwrap();
    assert!(broker.first_era().unwrap().sessions.unwrap().contains(&exchange.session));
    broker.kill().await;
    let broker = begin(directory.path(), &bridge).await;
    record(&mut resume(&broker).await, 7).await;
    assert_eq!(bridge.last(), Some(exchange), "said again");
    // A clean start ends it.
    let mut clean = Raw::connect(&broker, V311, "pub").await;
    assert_eq!(*bridge.over.lock().unwrap(), [exchange.session]);
    record(&mut clean, 7).await;
    assert_eq!(bridge.last(), None, "nobody says it again");
    clean.send(&[0x62, 2, 0, 7]).await;
    clean.expect(&[0x70, 2, 0, 7]).await;
    drop(clean);
    let mut publisher = resume(&broker).await;
    record(&mut publisher, 7).await;
    assert_ne!(bridge.last().unwrap().session, exchange.session);
    publisher.publish("t", b"x", AtLeastOnce, false, 8).await;
    publisher.expect(&[0x40, 2, 0, 8]).await;
    assert_eq!(bridge.last(), None, "QoS 1 may come twice");
    broker.kill().await;
}

#[tokio::test]
async fn the_file_names_the_last_era_that_was_written_down_and_so_does_one_in_its_place() {
    let (directory, bridge) = (tempfile::tempdir().unwrap(), Arc::<Bridge>::default());
    let broker = begin(directory.path(), &bridge).await;
    let first = broker.first_era().unwrap();
    assert!(first.before.is_some_and(|before| before != first.now), "one that no bridge knows");
    broker.kill().await;
    let broker = begin(directory.path(), &bridge).await;
    let second = broker.first_era().unwrap();
    assert_eq!(second.before, first.before, "the first never began");
    assert!(broker.note_era(second.now).await);
    broker.kill().await;
    let broker = begin(directory.path(), &bridge).await;
    let third = broker.first_era().unwrap();
    assert_eq!(third.before, Some(second.now));
    assert!(broker.note_era(third.now).await);
    // The file is taken away: what is in memory goes to another.
    std::fs::remove_file(directory.path().join("sessions.db")).unwrap();
    record(&mut resume(&broker).await, 7).await;
    assert!(directory.path().join("sessions.db").exists());
    broker.stop(PATIENCE).await;
    let broker = begin(directory.path(), &bridge).await;
    assert_eq!(broker.first_era().unwrap().before, Some(third.now));
    broker.kill().await;
}

#[tokio::test]
async fn behind_a_denial_a_packet_id_that_was_half_promised_stands_for_another_message() {
    let (directory, bridge) = (tempfile::tempdir().unwrap(), Arc::<Bridge>::default());
    let mut broker = begin(directory.path(), &bridge).await;
    let resume = async |broker: &Broker| Raw::connect_with(broker, V5, "pub", 0, &[0x11, 0, 0, 0, 100]).await.0;
    let mut publisher = resume(&broker).await;
    bridge.is_full.store(true, Ordering::Relaxed);
    publisher.publish("t", b"x", ExactlyOnce, false, 7).await;
    publisher.expect(&[0xe0, 1, 0x97]).await;
    publisher.expect_end().await;
    let exchange = bridge.last();
    bridge.is_full.store(false, Ordering::Relaxed);

    broker.apply(denying(directory.path())).await.unwrap();
    let mut publisher = resume(&broker).await;
    publisher.publish("t", b"x", ExactlyOnce, false, 7).await;
    publisher.expect_silence().await;
    bridge.forget(exchange.unwrap(), Ok(())).await;
    publisher.expect(&[0x50, 3, 0, 7, 0x87]).await;
    publisher.publish("open", b"y", ExactlyOnce, false, 7).await;
    publisher.expect(&[0x50, 2, 0, 7]).await;
    assert_eq!(bridge.last(), exchange, "it is a message of its own");
    broker.kill().await;
}

#[tokio::test]
async fn a_denied_message_that_may_have_come_before_is_asked_for_at_the_bridges_and_a_new_one_is_not() {
    let (directory, bridge) = (tempfile::tempdir().unwrap(), Arc::<Bridge>::default());
    let broker = start_with(denying(directory.path()), bridge.clone()).await;
    let mut publisher = Raw::connect_with(&broker, V5, "pub", 0, &[0x11, 0, 0, 0, 100]).await.0;
    publisher.publish("t", b"x", ExactlyOnce, false, 7).await;
    publisher.expect(&[0x50, 3, 0, 7, 0x87]).await;
    assert!(bridge.released.lock().unwrap().is_empty());
    // Said again to a broker that knows nothing of it: a crash may have left it in an outbox alone.
    let mut again = publish(V5, "t", b"x", ExactlyOnce, false, 7);
    again[0] |= 0x08;
    publisher.send(&again).await;
    publisher.expect_silence().await;
    let exchange = bridge.released.lock().unwrap()[0].0;
    bridge.forget(exchange, Ok(())).await;
    publisher.expect(&[0x50, 3, 0, 7, 0x87]).await;
    broker.kill().await;
}

//! What an acknowledgement is worth: it waits for the bridges and for the retained set, and nobody else waits with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::oneshot;

use super::harness::{PATIENCE, Raw, eventually, publish, routings, settings, start_with};
use crate::broker::Settings;
use crate::broker::promise::{Broken, Promise};
use crate::broker::queue::Room;
use crate::broker::session::Attachment;
use crate::broker::shared::Shared;
use crate::clock::SystemClock;
use crate::model::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use crate::model::{BridgeId, Message, Moment, Origin, TopicName};
use crate::mqtt::server::Version::{V5, V311};
use crate::ports::{Acceptance, NotAccepted, Uplink};

type Answer = oneshot::Sender<Result<(), NotAccepted>>;

/// A bridge that takes `up/#` and answers when the test says so.
#[derive(Default)]
struct SlowUplink {
    offered: Mutex<Vec<(String, Option<Answer>)>>,
    /// When what says `fetched` was, if not just now.
    fetched_at: Mutex<Option<Moment>>,
}

impl SlowUplink {
    fn topics(&self) -> Vec<String> {
        self.offered.lock().unwrap().iter().map(|(topic, _)| topic.clone()).collect()
    }

    fn answer(&self, index: usize, outcome: Result<(), NotAccepted>) {
        let answer = self.offered.lock().unwrap()[index].1.take().expect("answered once");
        answer.send(outcome).unwrap();
    }
}

impl SlowUplink {
    fn ask(&self, what: String) -> Acceptance {
        let (tell, told) = oneshot::channel();
        self.offered.lock().unwrap().push((what, Some(tell)));
        Box::pin(async move { told.await.expect("the test answers") })
    }
}

impl Uplink for SlowUplink {
    fn accept(&self, message: &Arc<Message>) -> Option<Acceptance> {
        assert_ne!(message.topic.as_str(), "panic", "as a fault in the house would");
        if !message.topic.as_str().starts_with("up/") {
            return None;
        }
        Some(self.ask(message.topic.to_string()))
    }

    fn told_in_order(&self, message: &Message, tell: &mut dyn FnMut(Option<Moment>)) {
        let at = self.fetched_at.lock().unwrap().unwrap_or_else(now);
        tell((*message.payload == *b"fetched").then_some(at));
    }

    fn settled(&self, message: &Arc<Message>) -> Option<Acceptance> {
        Some(self.ask(format!("the copy of {}", message.topic)))
    }
}

fn now() -> Moment {
    SystemClock::shared().now()
}

fn refused() -> Result<(), NotAccepted> {
    Err(NotAccepted::Store { bridge: "cloud".into(), reason: "disk full".into() })
}

#[tokio::test]
async fn acknowledgements_wait_for_the_bridge_and_keep_their_order() {
    for version in [V311, V5] {
        let uplink = Arc::new(SlowUplink::default());
        let broker = start_with(settings(routings()[0]), uplink.clone()).await;
        let mut subscriber = Raw::connect(&broker, version, "sub").await;
        subscriber.subscribe("#", 0).await;
        let mut publisher = Raw::connect(&broker, version, "pub").await;
        publisher.publish("up/1", b"1", AtLeastOnce, false, 1).await;
        publisher.publish("up/2", b"2", ExactlyOnce, false, 2).await;
        publisher.publish("local", b"3", AtLeastOnce, false, 3).await;
        // Nobody waits with the publisher, and it is still heard.
        for (topic, payload) in [("up/1", b"1"), ("up/2", b"2"), ("local", b"3")] {
            subscriber.expect(&publish(version, topic, payload, AtMostOnce, false, 0)).await;
        }
        publisher.expect_silence().await;
        uplink.answer(1, Ok(()));
        publisher.expect_silence().await;
        uplink.answer(0, Ok(()));
        publisher.expect(&[0x40, 2, 0, 1]).await;
        publisher.expect(&[0x50, 2, 0, 2]).await;
        publisher.expect(&[0x40, 2, 0, 3]).await;
        assert_eq!(uplink.topics(), ["up/1", "up/2"]);
        broker.kill().await;
    }
}

#[tokio::test]
async fn a_refused_message_ends_the_connection_unacknowledged_and_is_offered_again() {
    let uplink = Arc::new(SlowUplink::default());
    let broker = start_with(settings(routings()[0]), uplink.clone()).await;
    let mut subscriber = Raw::connect(&broker, V5, "sub").await;
    subscriber.subscribe("#", 0).await;
    let expiry = [0x11, 0, 0, 0, 100];
    let (mut publisher, _) = Raw::connect_with(&broker, V5, "pub", 0, &expiry).await;
    publisher.publish("up/2", b"x", ExactlyOnce, false, 9).await;
    subscriber.expect(&publish(V5, "up/2", b"x", AtMostOnce, false, 0)).await;
    uplink.answer(0, refused());
    publisher.expect(&[0xe0, 1, 0x97]).await;
    publisher.expect_end().await;
    let (mut publisher, _) = Raw::connect_with(&broker, V5, "pub", 0, &expiry).await;
    let mut again = publish(V5, "up/2", b"x", ExactlyOnce, false, 9);
    again[0] |= 0x08;
    publisher.send(&again).await;
    eventually("the message is offered again", async || uplink.topics().len() == 2).await;
    uplink.answer(1, Ok(()));
    publisher.expect(&[0x50, 2, 0, 9]).await;
    // Its subscribers have had it.
    subscriber.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn a_qos_2_message_under_way_to_the_bridge_is_not_offered_twice_after_a_reconnect() {
    let uplink = Arc::new(SlowUplink::default());
    let broker = start_with(settings(routings()[0]), uplink.clone()).await;
    let (mut publisher, _) = Raw::connect_with(&broker, V311, "pub", 0, &[]).await;
    publisher.publish("up/2", b"x", ExactlyOnce, false, 9).await;
    eventually("the message is offered", async || uplink.topics().len() == 1).await;
    drop(publisher);
    let (mut publisher, connack) = Raw::connect_with(&broker, V311, "pub", 0, &[]).await;
    assert_eq!(connack[2], 1, "session present");
    let mut again = publish(V311, "up/2", b"x", ExactlyOnce, false, 9);
    again[0] |= 0x08;
    publisher.send(&again).await;
    publisher.expect_silence().await;
    uplink.answer(0, Ok(()));
    publisher.expect(&[0x50, 2, 0, 9]).await;
    assert_eq!(uplink.topics().len(), 1);
    broker.kill().await;
}

#[tokio::test]
async fn a_qos_2_message_that_only_the_retained_set_refused_is_not_offered_to_the_bridge_again() {
    let uplink = Arc::new(SlowUplink::default());
    let broker = start_with(settings(routings()[0]), uplink.clone()).await;
    let (mut publisher, _) = Raw::connect_with(&broker, V311, "pub", 0, &[]).await;
    let (promise, teller) = Promise::open();
    teller.owe(Some(Box::pin(async { Err(Broken::Store("disk full".into())) })));
    eventually("it is broken", async || promise.is_broken()).await;
    let slot = broker.shared.core().slots().next().unwrap().clone();
    slot.session().receive(9, promise);
    let mut again = publish(V311, "up/2", b"x", ExactlyOnce, true, 9);
    again[0] |= 0x08;
    publisher.send(&again).await;
    publisher.expect(&[0x50, 2, 0, 9]).await;
    assert_eq!(uplink.topics(), Vec::<String>::new());
    broker.kill().await;
}

/// Has another connection take the client id while the first message is on its way.
#[derive(Default)]
struct Usurper {
    shared: OnceLock<Arc<Shared>>,
    asked: AtomicUsize,
}

impl Uplink for Usurper {
    fn accept(&self, _message: &Arc<Message>) -> Option<Acceptance> {
        if self.asked.fetch_add(1, Ordering::Relaxed) == 0 {
            let shared = self.shared.get().unwrap();
            let attachment = Attachment { window: 1, expiry_s: u32::MAX, room: Room::default(), wake: Arc::default() };
            let taken =
                shared.core().attach(&Arc::from("pub"), None, false, None, attachment, shared.clock.now()).unwrap();
            assert!(taken.session_present);
        }
        None
    }
}

#[tokio::test]
async fn a_qos_2_message_whose_connection_is_taken_over_while_it_is_told_is_told_once() {
    let uplink = Arc::new(Usurper::default());
    let broker = start_with(settings(routings()[0]), uplink.clone()).await;
    assert!(uplink.shared.set(broker.shared.clone()).is_ok());
    let mut subscriber = Raw::connect(&broker, V311, "sub").await;
    subscriber.subscribe("t", 0).await;
    let (mut publisher, _) = Raw::connect_with(&broker, V311, "pub", 0, &[]).await;
    publisher.publish("t", b"x", ExactlyOnce, false, 7).await;
    while publisher.packet().await.is_some() {}
    let (mut publisher, _) = Raw::connect_with(&broker, V311, "pub", 0, &[]).await;
    let mut again = publish(V311, "t", b"x", ExactlyOnce, false, 7);
    again[0] |= 0x08;
    publisher.send(&again).await;
    publisher.expect(&[0x50, 2, 0, 7]).await;
    subscriber.expect(&publish(V311, "t", b"x", AtMostOnce, false, 0)).await;
    subscriber.expect_silence().await;
    assert_eq!(uplink.asked.load(Ordering::Relaxed), 1);
    broker.kill().await;
}

#[tokio::test]
async fn a_will_is_offered_to_the_bridge() {
    let uplink = Arc::new(SlowUplink::default());
    let broker = start_with(settings(routings()[0]), uplink.clone()).await;
    let mut mortal = Raw::open(broker.addresses()[0], V311).await;
    mortal.send(&super::harness::connect(V311, "mortal", 0x06, &[], b"\0\x07up/gone\0\x01x")).await;
    mortal.packet().await.unwrap();
    drop(mortal);
    eventually("the will is offered", async || uplink.topics() == ["up/gone"]).await;
    uplink.answer(0, Ok(()));
    broker.kill().await;
}

#[tokio::test]
async fn what_was_acknowledged_as_retained_is_back_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let with_store = Settings { store: Some(directory.path().to_path_buf()), ..settings(routings()[0]) };
    let uplink = Arc::new(SlowUplink::default());
    let broker = start_with(with_store.clone(), uplink.clone()).await;
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    for id in 1..=200_u16 {
        publisher.publish(&format!("r/{id}"), b"x", AtLeastOnce, true, id).await;
    }
    for id in 1..=200_u16 {
        let [high, low] = id.to_be_bytes();
        publisher.expect(&[0x40, 2, high, low]).await;
    }
    publisher.publish("r/1", b"", ExactlyOnce, true, 201).await;
    publisher.expect(&[0x50, 2, 0, 201]).await;
    broker.kill().await;
    let broker = start_with(with_store, uplink.clone()).await;
    let mut subscriber = Raw::connect(&broker, V5, "sub").await;
    subscriber.subscribe("r/#", 0).await;
    let mut found = Vec::new();
    while found.len() < 199 {
        let next = tokio::time::timeout(PATIENCE, subscriber.packet()).await.unwrap().unwrap();
        assert_eq!(next[0], 0x31);
        found.push(String::from_utf8(next[4..4 + usize::from(next[3])].to_vec()).unwrap());
    }
    subscriber.expect_silence().await;
    let mut expected: Vec<_> = (2..=200).map(|id| format!("r/{id}")).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert!(uplink.topics().is_empty(), "what was retained before is not offered anew");
    broker.kill().await;
}

#[tokio::test]
async fn what_a_cloud_retains_here_is_in_the_next_commit_and_what_a_sensor_says_has_time() {
    let directory = tempfile::tempdir().unwrap();
    let with_store = Settings { store: Some(directory.path().to_path_buf()), ..settings(routings()[0]) };
    let broker = start_with(with_store.clone(), Arc::new(SlowUplink::default())).await;
    let deliver = |topic: &str, qos, origin| {
        broker.link().deliver(Arc::new(Message::new(TopicName::parse(topic).unwrap(), *b"x", qos, true, origin)));
    };
    let cloud = || Origin::Bridge(BridgeId::parse("cloud").unwrap());
    deliver("r/cloud-0", AtMostOnce, cloud());
    deliver("r/cloud-1", AtLeastOnce, cloud());
    deliver("r/sensor", AtLeastOnce, Origin::Sensor);
    // Acknowledged after a commit that is later than those of before.
    let mut publisher = Raw::connect(&broker, V5, "pub").await;
    publisher.publish("r/client", b"x", AtLeastOnce, true, 1).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
    broker.kill().await;
    let broker = start_with(with_store, Arc::new(SlowUplink::default())).await;
    let mut subscriber = Raw::connect(&broker, V5, "sub").await;
    subscriber.subscribe("r/#", 0).await;
    for topic in ["r/client", "r/cloud-0", "r/cloud-1"] {
        subscriber.expect(&publish(V5, topic, b"x", AtMostOnce, true, 0)).await;
    }
    subscriber.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn a_panic_ends_its_connection_alone_and_in_order() {
    let broker = start_with(settings(routings()[0]), Arc::new(SlowUplink::default())).await;
    let mut watcher = Raw::connect(&broker, V5, "watch").await;
    watcher.subscribe("#", 0).await;
    let mut unlucky = Raw::open(broker.addresses()[0], V5).await;
    unlucky.send(&super::harness::connect(V5, "unlucky", 0x06, &[], b"\0\0\x04gone\0\x01x")).await;
    unlucky.packet().await.unwrap();
    unlucky.publish("panic", b"x", AtLeastOnce, false, 1).await;
    unlucky.expect_end().await;
    watcher.expect(&publish(V5, "gone", b"x", AtMostOnce, false, 0)).await;
    watcher.expect_silence().await;
    let (mut back, connack) = Raw::connect_with(&broker, V5, "unlucky", 0, &[]).await;
    assert_eq!(connack[2..4], [0, 0], "welcome, to a new session");
    back.expect_silence().await;
    broker.kill().await;
}

#[tokio::test]
async fn what_a_gateway_pushes_after_it_was_fetched_is_retained_and_acknowledged_with_the_copy_that_came_first() {
    for qos in [AtLeastOnce, ExactlyOnce] {
        let uplink = Arc::new(SlowUplink::default());
        let broker = start_with(settings(routings()[0]), uplink.clone()).await;
        let mut subscriber = Raw::connect(&broker, V311, "sub").await;
        subscriber.subscribe("up/#", 0).await;
        let mut gateway = Raw::connect(&broker, V311, "gateway").await;
        greet(&mut gateway).await;
        gateway.publish("up/1", b"fetched", qos, true, 7).await;
        eventually("the bridges are asked", async || uplink.topics() == ["the copy of up/1"]).await;
        gateway.expect_silence().await;
        uplink.answer(0, Ok(()));
        gateway.expect(&[if qos == AtLeastOnce { 0x40 } else { 0x50 }, 2, 0, 7]).await;
        subscriber.expect_silence().await;
        subscriber.subscribe("up/+", 0).await;
        subscriber.expect(&publish(V311, "up/1", b"fetched", AtMostOnce, true, 0)).await;
        broker.kill().await;
    }
}

#[tokio::test]
async fn what_was_fetched_before_the_topic_s_last_word_does_not_take_its_place_when_it_is_pushed() {
    for word in ["newer", ""] {
        let uplink = Arc::new(SlowUplink::default());
        let broker = start_with(settings(routings()[0]), uplink.clone()).await;
        let mut local = Raw::connect(&broker, V311, "local").await;
        local.publish("r/1", b"older", AtLeastOnce, true, 1).await;
        local.expect(&[0x40, 2, 0, 1]).await;
        *uplink.fetched_at.lock().unwrap() = Some(now());
        local.publish("r/1", word.as_bytes(), AtLeastOnce, true, 2).await;
        local.expect(&[0x40, 2, 0, 2]).await;
        let mut gateway = Raw::connect(&broker, V311, "gateway").await;
        greet(&mut gateway).await;
        gateway.publish("r/1", b"fetched", AtLeastOnce, true, 7).await;
        eventually("the bridges are asked", async || uplink.topics().len() == 1).await;
        uplink.answer(0, Ok(()));
        gateway.expect(&[0x40, 2, 0, 7]).await;
        local.subscribe("r/#", 0).await;
        if !word.is_empty() {
            local.expect(&publish(V311, "r/1", word.as_bytes(), AtMostOnce, true, 0)).await;
        }
        local.expect_silence().await;
        // What was fetched after it does.
        *uplink.fetched_at.lock().unwrap() = Some(now());
        gateway.publish("r/1", b"fetched", AtLeastOnce, true, 8).await;
        eventually("the bridges are asked", async || uplink.topics().len() == 2).await;
        uplink.answer(1, Ok(()));
        gateway.expect(&[0x40, 2, 0, 8]).await;
        local.subscribe("r/+", 0).await;
        local.expect(&publish(V311, "r/1", b"fetched", AtMostOnce, true, 0)).await;
        broker.kill().await;
    }
}

/// As another gateway's bridge does.
async fn greet(gateway: &mut Raw) {
    let mut body = vec![0, 1, 0, 22];
    body.extend_from_slice(b"$tidegate/gateway/peer");
    gateway.send(&super::harness::packet(0xa2, &body)).await;
    gateway.packet().await.expect("its greeting");
    gateway.expect(&[0xb0, 2, 0, 1]).await;
}

#[tokio::test]
async fn a_pushed_qos_2_message_whose_copy_a_bridge_could_not_commit_stays_that_copy_when_it_is_said_again() {
    let uplink = Arc::new(SlowUplink::default());
    let broker = start_with(settings(routings()[0]), uplink.clone()).await;
    let (mut gateway, _) = Raw::connect_with(&broker, V311, "gateway", 0, &[]).await;
    greet(&mut gateway).await;
    gateway.publish("up/1", b"fetched", ExactlyOnce, true, 7).await;
    eventually("the bridges are asked", async || uplink.topics().len() == 1).await;
    uplink.answer(0, refused());
    gateway.expect_end().await;
    let mut local = Raw::connect(&broker, V311, "local").await;
    local.publish("up/1", b"newer", AtMostOnce, true, 0).await;
    eventually("it is offered", async || uplink.topics().len() == 2).await;
    uplink.answer(1, Ok(()));
    let (mut gateway, _) = Raw::connect_with(&broker, V311, "gateway", 0, &[]).await;
    let mut again = publish(V311, "up/1", b"fetched", ExactlyOnce, true, 7);
    again[0] |= 0x08;
    gateway.send(&again).await;
    eventually("they are asked again", async || uplink.topics().len() == 3).await;
    assert_eq!(uplink.topics(), ["the copy of up/1", "up/1", "the copy of up/1"]);
    uplink.answer(2, Ok(()));
    gateway.expect(&[0x50, 2, 0, 7]).await;
    // Nor does it take the place of what was retained since.
    local.subscribe("up/#", 0).await;
    local.expect(&publish(V311, "up/1", b"newer", AtMostOnce, true, 0)).await;
    broker.kill().await;
}

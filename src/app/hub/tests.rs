use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::clock::FakeClock;
use crate::model::{BridgeId, GatewayId, Origin, Qos, Timestamp, TopicName};
use crate::ports::NotAccepted;

/// Takes what lies below its prefix, and remembers it; refuses when told to.
#[derive(Default)]
struct Cloud {
    prefix: &'static str,
    full: AtomicBool,
    taken: Mutex<Vec<String>>,
}

impl Cloud {
    fn of(prefix: &'static str) -> Arc<Self> {
        Arc::new(Self { prefix, ..Self::default() })
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

impl Uplink for Cloud {
    fn name(&self) -> &str {
        if self.prefix.is_empty() { "all" } else { self.prefix }
    }

    fn accept(&self, message: &Arc<Message>) -> Option<Acceptance> {
        let topic = message.topic.as_str();
        if !topic.starts_with(self.prefix) {
            return None;
        }
        self.taken.lock().unwrap().push(topic.to_owned());
        let outcome = if self.full.load(Ordering::Relaxed) {
            Err(NotAccepted::Store { bridge: self.prefix.into(), reason: "disk full".into() })
        } else {
            Ok(())
        };
        Some(Box::pin(std::future::ready(outcome)))
    }

    fn settled(&self, message: &Arc<Message>) -> Option<Acceptance> {
        self.accept(&Arc::new(Message { topic: TopicName::parse("settled").unwrap(), ..Message::clone(message) }))
    }
}

fn hub() -> Arc<Hub> {
    Hub::new(Arc::new(FakeClock::new(0)))
}

fn message(topic: &str) -> Arc<Message> {
    Arc::new(Message::new(TopicName::parse(topic).unwrap(), *b"1", Qos::AtLeastOnce, false, Origin::Client))
}

#[tokio::test]
async fn a_client_that_comes_before_the_bridges_waits_for_them() {
    let (hub, cloud) = (hub(), Cloud::of("a/"));
    let early = hub.accept(&message("a/1")).expect("nobody knows yet whether it must be stored");
    let mut early = still_waiting(early).await;
    hub.join_bridges([Arc::clone(&cloud) as Arc<dyn Uplink>]);
    assert_eq!(early.as_mut().await, Ok(()));
    assert_eq!(cloud.taken(), ["a/1"]);
}

#[test]
fn what_came_before_the_bridges_goes_up_in_the_order_it_came() {
    let hub = hub();
    let topics: Vec<String> = (1..=50).map(|n| format!("data/{n}")).collect();
    // Nobody polls the outcomes: the order must not depend on who waits first.
    let outcomes: Vec<_> = topics.iter().map(|topic| hub.accept(&message(topic)).unwrap()).collect();
    let cloud = Cloud::of("data/");
    hub.join_bridges([cloud.clone() as Arc<dyn Uplink>]);
    assert_eq!(cloud.taken(), topics);
    drop(outcomes);
}

/// Hands the future back after it was polled once and had nothing to say.
async fn still_waiting(mut acceptance: Acceptance) -> Acceptance {
    tokio::select! {
        biased;
        outcome = &mut acceptance => panic!("answered too early: {outcome:?}"),
        () = std::future::ready(()) => acceptance,
    }
}

#[tokio::test]
async fn every_bridge_that_wants_it_has_to_take_it() {
    let (hub, plants, all) = (hub(), Cloud::of("plants/"), Cloud::of(""));
    hub.join_bridges([Arc::clone(&plants) as Arc<dyn Uplink>, Arc::clone(&all) as Arc<dyn Uplink>]);
    assert_eq!(hub.accept(&message("plants/1")).unwrap().await, Ok(()));
    plants.full.store(true, Ordering::Relaxed);
    let refused = hub.accept(&message("plants/2")).unwrap().await;
    let Err(refused @ NotAccepted::InPart { .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(plants.taken(), ["plants/1", "plants/2"]);
    assert_eq!(all.taken(), ["plants/1", "plants/2"], "one that refuses does not keep it from the other");
    // The client says it again: once more in vain, then not.
    let again = hub.accept_rest(&message("plants/2"), &refused).unwrap().await;
    let Err(again @ NotAccepted::InPart { .. }) = again else { panic!("{again:?}") };
    plants.full.store(false, Ordering::Relaxed);
    assert_eq!(hub.accept_rest(&message("plants/2"), &again).unwrap().await, Ok(()));
    assert_eq!(plants.taken(), ["plants/1", "plants/2", "plants/2", "plants/2"]);
    assert_eq!(all.taken(), ["plants/1", "plants/2"], "who has it does not get it twice");
}

/// Remembers the payloads it is given.
#[derive(Default)]
struct Broker(Mutex<Vec<String>>);

impl LocalBus for Broker {
    fn deliver(&self, message: Arc<Message>) {
        self.0.lock().unwrap().push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
}

#[test]
fn what_is_told_after_the_clock_was_set_has_its_true_time() {
    let clock = FakeClock::new(0);
    let wall = clock.wall();
    clock.set_wall(Timestamp { synced: false, ..wall });
    let (hub, broker) = (Hub::new(Arc::new(clock.clone())), Arc::new(Broker::default()));
    hub.join_broker(Arc::clone(&broker) as Arc<dyn LocalBus>);
    let time = clock.wall();
    let topic = TopicName::parse("t").unwrap();
    let payload = restamp::object(time, serde_json::Map::new());
    let held = Message::new(topic, payload.into_bytes(), Qos::AtLeastOnce, false, Origin::Sensor).stamped(time);
    hub.publish(held.clone());
    clock.advance(std::time::Duration::from_secs(60));
    clock.set_wall(Timestamp { unix_ms: 1_795_396_500_000, synced: true, at: None });
    hub.publish(held);
    assert_eq!(
        *broker.0.lock().unwrap(),
        [r#"{"ts":"1970-01-01T00:00:00.000Z","tq":"unsynced"}"#, r#"{"ts":"2026-11-23T01:14:00.000Z"}"#]
    );
}

#[tokio::test]
async fn what_was_fetched_and_is_pushed_is_asked_for_at_every_bridge_and_offered_to_none() {
    let (clock, cloud) = (FakeClock::new(0), Cloud::of(""));
    let hub = Hub::new(Arc::new(clock.clone()));
    hub.join_bridges([cloud.clone() as Arc<dyn Uplink>]);
    let mut properties = None;
    marks::came_from(&mut properties, &GatewayId::parse("peer").unwrap());
    let pushed = Message { properties, ..Message::clone(&message("a")) };
    hub.publish(Message { origin: Origin::Bridge(BridgeId::parse("b").unwrap()), ..pushed.clone() });
    let fetched_at = clock.now();
    clock.advance(std::time::Duration::from_secs(59));
    let came_before = || {
        let mut before = None;
        hub.told_in_order(&pushed, &mut |told| before = told);
        before
    };
    assert_eq!(came_before(), Some(fetched_at));
    assert_eq!(hub.settled(&Arc::new(pushed.clone())).unwrap().await, Ok(()));
    assert_eq!(cloud.taken(), ["a", "settled"]);
    assert_eq!(came_before(), None, "one for one");
}

/// Notes whether the other way was held back while it was told.
struct Watchful {
    hub: Arc<Hub>,
    held_back: Mutex<Vec<bool>>,
}

impl LocalBus for Watchful {
    fn deliver(&self, _message: Arc<Message>) {
        self.held_back.lock().unwrap().push(self.hub.doubles.try_lock().is_err());
    }
}

#[test]
fn of_two_ways_one_waits_while_the_other_tells() {
    let hub = hub();
    let broker = Arc::new(Watchful { hub: Arc::clone(&hub), held_back: Mutex::default() });
    hub.join_broker(Arc::clone(&broker) as Arc<dyn LocalBus>);
    let fetched = Message { origin: Origin::Bridge(BridgeId::parse("b").unwrap()), ..Message::clone(&message("a")) };
    hub.publish(fetched);
    hub.told_in_order(&message("a"), &mut |_| broker.deliver(message("a")));
    hub.publish(Message { origin: Origin::Gateway, ..Message::clone(&message("a")) });
    assert_eq!(*broker.held_back.lock().unwrap(), [true, true, false], "the gateway's own waits for nobody");
}

/// Knows one exchange, and remembers what it is asked to forget.
#[derive(Default)]
struct Knows(Mutex<Vec<ExchangeId>>);

const KNOWN: ExchangeId = ExchangeId { session: 1, packet_id: 7 };

impl Uplink for Knows {
    fn accept(&self, _message: &Arc<Message>) -> Option<Acceptance> {
        None
    }

    fn release(&self, exchange: ExchangeId) -> Option<Acceptance> {
        self.0.lock().unwrap().push(exchange);
        (exchange == KNOWN).then(|| -> Acceptance { Box::pin(std::future::ready(Ok(()))) })
    }
}

#[tokio::test]
async fn a_packet_id_is_free_when_every_bridge_has_forgotten_it_and_the_era_is_written_down() {
    let (hub, bridges) = (hub(), [Arc::<Knows>::default(), Arc::default()]);
    let first = hub.hold_free();
    let early = hub.release(KNOWN).expect("nobody knows yet who knows it");
    let early = still_waiting(early).await;
    hub.join_bridges(bridges.clone().map(|bridge| bridge as Arc<dyn Uplink>));
    assert!(bridges.iter().all(|bridge| *bridge.0.lock().unwrap() == [KNOWN]));
    let early = still_waiting(early).await;
    let unknown = ExchangeId { session: 2, ..KNOWN };
    let late = still_waiting(hub.release(unknown).expect("the era has not begun")).await;
    let second = hub.hold_free();
    hub.let_free(first);
    let late = still_waiting(late).await;
    hub.let_free(second);
    assert_eq!((early.await, late.await), (Ok(()), Ok(())));
    assert!(hub.release(unknown).is_none());
    assert_eq!(hub.release(KNOWN).unwrap().await, Ok(()));
}

#[test]
fn what_no_bridge_wants_costs_no_wait() {
    let hub = hub();
    hub.join_bridges([Cloud::of("a/") as Arc<dyn Uplink>]);
    assert!(hub.accept(&message("b")).is_none());
}

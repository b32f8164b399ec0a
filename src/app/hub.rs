//! The crossing in the middle of the house: what comes from inside goes to the local broker and to every bridge that wants it; what local clients
//! publish is offered to the bridges. What is a command goes to its actuator, whoever publishes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::logic::chronicle::Chronicle;
use crate::logic::echo::{Doubles, Echoes};
use crate::logic::{marks, restamp};
use crate::model::{ExchangeId, Message, Moment, Origin, TopicName};
use crate::ports::{Acceptance, Commands, LocalBus, NotAccepted, Publish, Uplink};

/// The crossing. It exists before the rooms it joins, since each of them is given it at start.
pub struct Hub {
    clock: Arc<dyn Clock>,
    chronicle: Mutex<Chronicle>,
    doubles: Mutex<Doubles>,
    local: RwLock<Option<Arc<dyn LocalBus>>>,
    commands: RwLock<Option<Arc<dyn Commands>>>,
    bridges: RwLock<Bridges>,
    /// Whether clients may hear that packet ids are free: not while it is being written down which bridges hear of it.
    frees: watch::Sender<bool>,
}

enum Bridges {
    /// Nobody knows yet whether a message must be stored: what clients publish waits here, in its order, and what they free.
    Awaited(Vec<Early>),
    /// They are there.
    Joined(Arc<[Arc<dyn Uplink>]>),
}

/// What came before the bridges. There is at most as much as clients may have unacknowledged.
struct Early {
    what: What,
    offered: oneshot::Sender<Option<Acceptance>>,
}

enum What {
    Message(Arc<Message>),
    Release(ExchangeId),
}

impl What {
    fn ask(&self, intakes: &[Arc<dyn Uplink>]) -> Option<Acceptance> {
        match self {
            Self::Message(message) => offer(intakes, message, &[], Uplink::accept),
            Self::Release(exchange) => release(intakes, *exchange),
        }
    }
}

impl Hub {
    /// A crossing that leads nowhere yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            chronicle: Mutex::default(),
            doubles: Mutex::default(),
            local: RwLock::new(None),
            commands: RwLock::new(None),
            bridges: RwLock::new(Bridges::Awaited(Vec::new())),
            frees: watch::Sender::new(true),
        })
    }

    /// What happened of late, as it was published here.
    pub fn chronicle(&self) -> MutexGuard<'_, Chronicle> {
        self.chronicle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the local broker.
    pub fn join_broker(&self, local: Arc<dyn LocalBus>) {
        *self.local.write().unwrap_or_else(PoisonError::into_inner) = Some(local);
    }

    /// Joins the actuators.
    pub fn join_commands(&self, commands: Arc<dyn Commands>) {
        *self.commands.write().unwrap_or_else(PoisonError::into_inner) = Some(commands);
    }

    /// Lets go of them: nobody can give a command any more. They hold the crossing, too, and neither would ever end.
    pub fn leave_commands(&self) {
        *self.commands.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn commands(&self) -> Option<Arc<dyn Commands>> {
        self.commands.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Joins these bridges, in place of those before. What waited for them is offered first, in the order it came.
    pub fn join_bridges(&self, intakes: impl IntoIterator<Item = Arc<dyn Uplink>>) {
        let intakes: Arc<[Arc<dyn Uplink>]> = intakes.into_iter().collect();
        let mut bridges = self.bridges.write().unwrap_or_else(PoisonError::into_inner);
        if let Bridges::Awaited(waiting) = &mut *bridges {
            for early in waiting.drain(..) {
                // Nobody listens any more when the client has gone; its message was never acknowledged, and is offered all the same.
                let _ = early.offered.send(early.what.ask(&intakes));
            }
        }
        *bridges = Bridges::Joined(intakes);
    }

    /// No client hears that a packet id is free until this is said again with `true`.
    pub fn let_free(&self, frees: bool) {
        self.frees.send_replace(frees);
    }

    fn joined(&self) -> Option<Arc<[Arc<dyn Uplink>]>> {
        match &*self.bridges.read().unwrap_or_else(PoisonError::into_inner) {
            Bridges::Awaited(_) => None,
            Bridges::Joined(intakes) => Some(Arc::clone(intakes)),
        }
    }
}

impl Publish for Hub {
    fn publish(&self, message: Message) {
        // Nobody inside waits for a command's commit.
        drop(self.publish_from_cloud(message));
    }

    fn publish_from_cloud(&self, mut message: Message) -> Option<Acceptance> {
        // Told late: a reading that a deadband held back, or one that is told again as stale, may be from before the clock was set.
        if message.stamp.is_some() {
            restamp::message(&mut message, self.clock.wall());
        }
        let message = Arc::new(message);
        // Held until everyone has it. Who brings it by the other way then waits for what lies with the bridges; and what comes that way after it
        // is not told before it.
        let mut doubles = matches!(message.origin, Origin::Bridge(_)).then(|| self.doubles());
        if doubles.as_mut().is_some_and(|doubles| self.double_of(doubles, &message).is_some()) {
            return None;
        }
        for intake in self.joined().iter().flat_map(|intakes| intakes.iter()) {
            // Nobody inside waits for the commit: the record is queued by the call, and the bridge counts what it cannot take.
            drop(intake.accept(&message));
        }
        self.chronicle().take(&message, || self.clock.wall());
        let command = self.commands().and_then(|commands| commands.offer(&message));
        if let Some(local) = &*self.local.read().unwrap_or_else(PoisonError::into_inner) {
            local.deliver(Arc::clone(&message));
        }
        command
    }
}

impl Uplink for Hub {
    fn accept(&self, message: &Arc<Message>) -> Option<Acceptance> {
        let command = self.commands().and_then(|commands| commands.offer(message));
        both(command, self.to_bridges(message))
    }

    fn accept_rest(&self, message: &Arc<Message>, before: &NotAccepted) -> Option<Acceptance> {
        // A command is known by its id, and is not done twice.
        let command = self.commands().and_then(|commands| commands.offer(message));
        let have: &[String] = if let NotAccepted::InPart { by, .. } = before { by } else { &[] };
        let rest = match self.joined() {
            Some(intakes) => offer(&intakes, message, have, Uplink::accept),
            None => self.to_bridges(message),
        };
        both(command, rest)
    }

    fn told_in_order(&self, message: &Message, tell: &mut dyn FnMut(Option<Moment>)) {
        let mut doubles = self.doubles();
        let before = self.double_of(&mut doubles, message);
        tell(before);
    }

    fn settled(&self, message: &Arc<Message>) -> Option<Acceptance> {
        offer(&self.joined()?, message, &[], Uplink::settled)
    }

    fn release(&self, exchange: ExchangeId) -> Option<Acceptance> {
        let released = self.ask(What::Release(exchange));
        let mut frees = self.frees.subscribe();
        if released.is_none() && *frees.borrow() {
            return None;
        }
        Some(Box::pin(async move {
            if let Some(released) = released {
                released.await?;
            }
            if frees.wait_for(|frees| *frees).await.is_err() {
                // The crossing is gone.
                std::future::pending::<()>().await;
            }
            Ok(())
        }))
    }

    fn session_over(&self, session: i64) {
        // Before they are there they know of none.
        for intake in self.joined().iter().flat_map(|intakes| intakes.iter()) {
            intake.session_over(session);
        }
    }

    fn keeps(&self, topic: &TopicName) -> bool {
        self.commands().is_none_or(|commands| !commands.takes(topic))
    }
}

impl Hub {
    fn doubles(&self) -> MutexGuard<'_, Doubles> {
        self.doubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the message came by the other way.
    fn double_of(&self, doubles: &mut Doubles, message: &Message) -> Option<Moment> {
        let gateway = marks::last_via(message.properties.as_deref())?;
        let mark = Echoes::mark(&format!("{gateway} {}", message.topic), &message.payload);
        doubles.came_before(mark, message.origin == Origin::Client, self.clock.now())
    }

    fn to_bridges(&self, message: &Arc<Message>) -> Option<Acceptance> {
        self.ask(What::Message(Arc::clone(message)))
    }

    fn ask(&self, what: What) -> Option<Acceptance> {
        if let Some(intakes) = self.joined() {
            return what.ask(&intakes);
        }
        // The broker may listen before the bridges are there. A client that comes so early waits: acknowledged and not stored would be lost.
        let mut bridges = self.bridges.write().unwrap_or_else(PoisonError::into_inner);
        let waiting = match &mut *bridges {
            Bridges::Joined(intakes) => return what.ask(intakes),
            Bridges::Awaited(waiting) => waiting,
        };
        let (offered, told) = oneshot::channel();
        waiting.push(Early { what, offered });
        Some(Box::pin(async move {
            match told.await {
                Ok(Some(acceptance)) => acceptance.await,
                Ok(None) => Ok(()),
                // The crossing is gone, and with it everyone who could have answered. Nothing was stored, so nothing is acknowledged.
                Err(_) => std::future::pending().await,
            }
        }))
    }
}

/// Both, where there are two. The second is waited for also when the first is refused.
fn both(one: Option<Acceptance>, other: Option<Acceptance>) -> Option<Acceptance> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Box::pin(async {
            let outcome = one.await;
            outcome.and(other.await)
        })),
        (one, other) => one.or(other),
    }
}

/// Has everyone who may know it forget a message. Waits for all of them.
fn release(intakes: &[Arc<dyn Uplink>], exchange: ExchangeId) -> Option<Acceptance> {
    intakes.iter().filter_map(|intake| intake.release(exchange)).fold(None, |all, one| both(all, Some(one)))
}

type Ask = fn(&dyn Uplink, &Arc<Message>) -> Option<Acceptance>;

/// Asks all but those who have it already.
fn offer(intakes: &[Arc<dyn Uplink>], message: &Arc<Message>, have: &[String], ask: Ask) -> Option<Acceptance> {
    let lacking = intakes.iter().filter(|intake| !have.iter().any(|name| name == intake.name()));
    let mut waiting: Vec<(Arc<dyn Uplink>, Acceptance)> =
        lacking.filter_map(|intake| Some((Arc::clone(intake), ask(&**intake, message)?))).collect();
    if waiting.len() <= 1 && have.is_empty() {
        return waiting.pop().map(|(_, acceptance)| acceptance);
    }
    let mut have = have.to_vec();
    Some(Box::pin(async move {
        // All of them, also after one refused: a future dropped half way might take its record back.
        let mut outcome = Ok(());
        for (intake, acceptance) in waiting {
            match acceptance.await {
                Ok(()) => have.push(intake.name().to_owned()),
                Err(refused) => outcome = outcome.and(Err(refused)),
            }
        }
        outcome.map_err(|because| {
            if have.is_empty() {
                return because;
            }
            NotAccepted::InPart { by: have.into(), because: Box::new(because) }
        })
    }))
}

#[cfg(test)]
mod tests {
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
        let fetched =
            Message { origin: Origin::Bridge(BridgeId::parse("b").unwrap()), ..Message::clone(&message("a")) };
        hub.publish(fetched);
        hub.told_in_order(&message("a"), &mut |_| broker.deliver(message("a")));
        hub.publish(Message { origin: Origin::Gateway, ..Message::clone(&message("a")) });
        assert_eq!(*broker.held_back.lock().unwrap(), [true, true, false], "the gateway's own waits for nobody");
    }

    #[test]
    fn what_no_bridge_wants_costs_no_wait() {
        let hub = hub();
        hub.join_bridges([Cloud::of("a/") as Arc<dyn Uplink>]);
        assert!(hub.accept(&message("b")).is_none());
    }
}

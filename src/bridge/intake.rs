//! Where messages for the cloud come in: matched against the rules in the caller's thread, queued without waiting, committed by the engine.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{Notify, oneshot};

use super::held::Held;
use super::rules::{OutRules, Upward};
use super::settings::Settings;
use crate::clock::Clock;
use crate::limits::{INTAKE_BYTES, INTAKE_QUEUE, INTAKE_QUEUE_CLIENTS};
use crate::logic::{marks, restamp};
use crate::model::chore::{Chore, ChoreReport};
use crate::model::{
    BridgeId, ExchangeId, GatewayId, Message, Moment, Origin, Priority, Qos, RuleId, Timestamp, TopicName,
};
use crate::ports::{Acceptance, NotAccepted};

/// A message that a rule wants up.
#[derive(Debug)]
pub(super) struct Offered {
    /// Topic at the cloud.
    pub(super) topic: TopicName,
    /// QoS upstream.
    pub(super) qos: Qos,
    /// Retain flag upstream.
    pub(super) retain: bool,
    /// What it goes before.
    pub(super) priority: Priority,
    /// The rule that took it up.
    pub(super) rule: Option<RuleId>,
    /// The message.
    pub(super) message: Arc<Message>,
    /// When it was offered.
    pub(super) at: Timestamp,
    /// It lies here already, or did: only its commit is waited for.
    pub(super) is_here: bool,
    /// Who waits for the commit.
    pub(super) answer: Option<oneshot::Sender<Result<(), NotAccepted>>>,
}

/// The queue between all publishers and the engine.
///
/// One queue for all, so that messages of one publisher stay in order. It is bounded for those who do not wait by a number, and for those
/// who do by what they may have unacknowledged.
pub(super) struct Shared {
    bridge: BridgeId,
    settings: RwLock<Arc<Settings>>,
    rules: RwLock<Arc<OutRules>>,
    /// The gateway whose broker the cloud is: what came from there is not taken up.
    peer: RwLock<Option<GatewayId>>,
    queue: Mutex<Queue>,
    orders: Mutex<Orders>,
    clock: Arc<dyn Clock>,
    circle_told: AtomicBool,
    /// Messages of local clients that are half handed over.
    pub(super) held: Held,
    /// Rings when there is something in the queue, or an order.
    pub(super) bell: Notify,
}

/// What the engine is told to do. Slots, not a queue: of two orders of a kind the later one counts, chores excepted.
#[derive(Default)]
pub(super) struct Orders {
    /// New settings.
    pub(super) settings: Option<Settings>,
    /// Try to connect at once.
    pub(super) reconnect: bool,
    /// Work on the store. At most as many as there are visitors of the control socket who wait for it.
    pub(super) chores: Vec<(Chore, oneshot::Sender<Result<ChoreReport, String>>)>,
    /// Stop in order until this moment, and say so.
    pub(super) stop: Option<(Moment, oneshot::Sender<()>)>,
    /// Nobody holds the bridge any more: end without a word, as if killed.
    pub(super) abandoned: bool,
}

#[derive(Default)]
struct Queue {
    offered: VecDeque<Offered>,
    /// Of those, with QoS 0: they have room of their own, since they go on while a full store takes nothing in.
    unstored: usize,
    bytes: usize,
    dropped: u64,
    refused: u64,
    refusal: Option<NotAccepted>,
    /// How many that nobody waits for may lie here before the bell rings. Not zero only while the engine is to wake up soon by itself.
    patience: usize,
}

impl Shared {
    pub(super) fn new(settings: Arc<Settings>, clock: Arc<dyn Clock>) -> Self {
        Self {
            bridge: settings.id.clone(),
            peer: RwLock::default(),
            rules: RwLock::new(Arc::new(OutRules::new(&settings))),
            settings: RwLock::new(settings),
            queue: Mutex::default(),
            orders: Mutex::default(),
            clock,
            circle_told: AtomicBool::new(false),
            held: Held::default(),
            bell: Notify::new(),
        }
    }

    /// The bridge's id.
    pub(super) fn name(&self) -> &str {
        self.bridge.as_str()
    }

    /// What holds at the moment.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on these hold, for what is offered too.
    pub(super) fn set_settings(&self, settings: Arc<Settings>) {
        let rules = Arc::new(OutRules::new(&settings));
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// From here on this gateway's broker is the cloud, or no gateway's.
    pub(super) fn set_peer(&self, peer: Option<&GatewayId>) {
        if self.peer.read().unwrap_or_else(PoisonError::into_inner).as_ref() != peer {
            *self.peer.write().unwrap_or_else(PoisonError::into_inner) = peer.cloned();
        }
    }

    /// Whether nobody holds the bridge any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).abandoned
    }

    pub(super) fn order(&self, give: impl FnOnce(&mut Orders)) {
        give(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }

    pub(super) fn take_orders(&self) -> Orders {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let abandoned = orders.abandoned;
        // Abandoned once is abandoned for good: there is nobody to say it again.
        std::mem::replace(&mut *orders, Orders { abandoned, ..Orders::default() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on nothing is taken in, or (`None`) everything again.
    pub(super) fn refuse(&self, refusal: Option<NotAccepted>) {
        self.queue().refusal = refusal;
    }

    /// Hands over at most `limit` messages, oldest first, and the number of those dropped since the last call.
    pub(super) fn take(&self, limit: usize, mut each: impl FnMut(Offered)) -> u64 {
        let mut queue = self.queue();
        let count = limit.min(queue.offered.len());
        let taken: Drain<'_, Offered> = queue.offered.drain(..count);
        let mut bytes = 0;
        let mut unstored = 0;
        for offered in taken {
            bytes += offered.message.weight();
            unstored += usize::from(offered.qos == Qos::AtMostOnce);
            each(offered);
        }
        queue.bytes -= bytes;
        queue.unstored -= unstored;
        std::mem::take(&mut queue.dropped)
    }

    /// The same with QoS 0 alone, all of it; what is to be stored stays.
    pub(super) fn take_unstored(&self, mut each: impl FnMut(Offered)) -> u64 {
        let mut queue = self.queue();
        if queue.unstored > 0 {
            let (unstored, stays): (Vec<_>, Vec<_>) =
                queue.offered.drain(..).partition(|offered| offered.qos == Qos::AtMostOnce);
            queue.offered = stays.into();
            queue.unstored = 0;
            queue.bytes -= unstored.iter().map(|offered| offered.message.weight()).sum::<usize>();
            unstored.into_iter().for_each(&mut each);
        }
        std::mem::take(&mut queue.dropped)
    }

    /// How many of clients were refused since the last call.
    pub(super) fn take_refused(&self) -> u64 {
        std::mem::take(&mut self.queue().refused)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue().offered.is_empty()
    }

    /// The engine commits soon anyway: until then so many need not wake it, unless someone waits for them.
    pub(super) fn be_patient(&self, patience: usize) {
        self.queue().patience = patience;
    }

    pub(super) fn accept(&self, message: &Arc<Message>) -> Option<Acceptance> {
        self.take_in(message, false)
    }

    /// Waits for the commit of a message that was accepted before, when nobody waited for it.
    pub(super) fn settled(&self, message: &Arc<Message>) -> Option<Acceptance> {
        self.take_in(message, true)
    }

    fn take_in(&self, message: &Arc<Message>, is_here: bool) -> Option<Acceptance> {
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let up = rules.route(message)?;
        if let Some(peer) = &*self.peer.read().unwrap_or_else(PoisonError::into_inner)
            && marks::went_through(message.properties.as_deref(), peer.as_str())
        {
            if message.origin == Origin::Client && !self.circle_told.swap(true, Ordering::Relaxed) {
                let (bridge, topic, cloud) = (self.name(), message.topic.as_str(), peer.as_str());
                tracing::info!(
                    bridge,
                    topic,
                    cloud,
                    "a message whose `tg-via` names the cloud's gateway does not go up"
                );
            }
            return None;
        }
        // An acknowledgement hangs on the commit only where there is both: a client that gets one, and a record.
        let waits = message.origin == Origin::Client && message.qos > Qos::AtMostOnce && up.qos > Qos::AtMostOnce;
        if is_here && !waits {
            return None;
        }
        let (answer, committed) = if waits { Some(oneshot::channel()).unzip() } else { (None, None) };
        let at = self.clock.wall();
        let mut message = Arc::clone(message);
        if message.stamp.is_some() && at.synced {
            // The clock was set between the telling and here. From here on a record with a stamp is one by a clock that was not set.
            restamp::message(Arc::make_mut(&mut message), at);
        }
        let Upward { topic, qos, retain, priority, rule } = up;
        if message.origin == Origin::Client && message.properties.is_some() {
            Arc::make_mut(&mut message).properties.as_mut().map(marks::without_id);
        }
        let offered = Offered { topic, qos, retain, priority, rule: Some(rule), message, at, is_here, answer };
        // Known before it can be committed, and so before its publisher can free its packet id.
        let exchange = offered.message.exchange.filter(|_| waits).filter(|exchange| self.held.offer(*exchange));
        let pushed = self.push(offered, waits);
        if let Some(exchange) = exchange.filter(|_| pushed.is_err()) {
            self.held.take_back(exchange);
        }
        match (pushed, committed) {
            (Err(refusal), _) => Some(Box::pin(std::future::ready(Err(refusal)))),
            (Ok(()), None) => Some(Box::pin(std::future::ready(Ok(())))),
            (Ok(()), Some(committed)) => {
                let bridge = self.bridge.to_string();
                Some(Box::pin(async move { committed.await.unwrap_or(Err(NotAccepted::Stopping { bridge })) }))
            }
        }
    }

    /// As [`crate::ports::Uplink::release`].
    pub(super) fn release(&self, exchange: ExchangeId) -> Option<Acceptance> {
        let freed = match self.held.release(exchange, self.name())? {
            Ok(freed) => freed,
            Err(refusal) => return Some(Box::pin(std::future::ready(Err(refusal)))),
        };
        self.bell.notify_one();
        let bridge = self.bridge.to_string();
        Some(Box::pin(async move { freed.await.unwrap_or(Err(NotAccepted::Stopping { bridge })) }))
    }

    fn push(&self, offered: Offered, waits: bool) -> Result<(), NotAccepted> {
        let mut queue = self.queue();
        queue.refused += u64::from(waits && queue.refusal.is_some());
        let limit = if waits { INTAKE_QUEUE_CLIENTS } else { INTAKE_QUEUE };
        let bytes = offered.message.weight();
        if waits && let Some(refusal) = &queue.refusal {
            return Err(refusal.clone());
        }
        let is_stored = offered.qos > Qos::AtMostOnce;
        let before = if is_stored { queue.offered.len() - queue.unstored } else { queue.unstored };
        let full = before >= limit || (queue.bytes + bytes > INTAKE_BYTES && !queue.offered.is_empty());
        if full {
            if waits {
                let reason = "too many messages wait for it".to_owned();
                return Err(NotAccepted::Store { bridge: self.bridge.to_string(), reason });
            }
            queue.dropped += 1;
            return Ok(());
        }
        queue.bytes += bytes;
        queue.unstored += usize::from(!is_stored);
        // QoS 0 is not stored: it goes now or never.
        let at_once = waits || !is_stored || queue.bytes > INTAKE_BYTES / 2;
        queue.offered.push_back(offered);
        let ring = at_once || queue.offered.len() > queue.patience;
        drop(queue);
        if ring {
            self.bell.notify_one();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::core::tests::settings;
    use crate::clock::FakeClock;
    use crate::model::Properties;

    fn shared() -> Shared {
        let settings = settings(std::path::Path::new("/nowhere"));
        Shared::new(Arc::new(settings), Arc::new(FakeClock::new(0)))
    }

    fn message(topic: &str, origin: Origin, qos: Qos) -> Arc<Message> {
        Arc::new(Message::new(TopicName::parse(topic).unwrap(), b"1".as_slice(), qos, false, origin))
    }

    fn ready(acceptance: Acceptance) -> Option<Result<(), NotAccepted>> {
        let mut acceptance = acceptance;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match acceptance.as_mut().poll(&mut context) {
            std::task::Poll::Ready(outcome) => Some(outcome),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn what_no_rule_wants_is_not_taken() {
        assert!(shared().accept(&message("$SYS/x", Origin::Client, Qos::AtLeastOnce)).is_none());
    }

    #[test]
    fn only_a_client_s_acknowledgement_waits_for_the_commit() {
        let shared = shared();
        let accept = |origin, qos| ready(shared.accept(&message("a", origin, qos)).unwrap());
        assert_eq!(accept(Origin::Sensor, Qos::ExactlyOnce), Some(Ok(())));
        assert_eq!(accept(Origin::Client, Qos::AtMostOnce), Some(Ok(())));
        let mut waiting = shared.accept(&message("a", Origin::Client, Qos::AtLeastOnce)).unwrap();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        shared.take(10, |offered| {
            offered.answer.map(|answer| answer.send(Ok(())));
        });
        assert_eq!(ready(waiting), Some(Ok(())));
    }

    #[test]
    fn what_is_offered_when_the_clock_has_been_set_waits_with_its_true_time() {
        let settings = settings(std::path::Path::new("/nowhere"));
        let clock = FakeClock::new(1_795_396_500_000);
        let shared = Shared::new(Arc::new(settings), Arc::new(clock.clone()));
        let before = Timestamp { unix_ms: 0, synced: false, ..clock.wall() };
        let text = restamp::object(before, serde_json::Map::new());
        let message =
            Message::new(TopicName::parse("a").unwrap(), text.as_bytes(), Qos::AtLeastOnce, false, Origin::Sensor);
        clock.advance(std::time::Duration::from_secs(60));
        let _ = shared.accept(&Arc::new(message.stamped(before)));
        let mut queued = Vec::new();
        shared.take(1, |offered| queued.push((offered.message.payload.to_vec(), offered.message.stamp)));
        assert_eq!(queued, [(br#"{"ts":"2026-11-23T01:15:00.000Z"}"#.to_vec(), None)]);
    }

    #[test]
    fn a_full_queue_drops_and_counts_for_a_sensor_and_waits_for_a_client() {
        let shared = shared();
        for _ in 0..INTAKE_QUEUE + 3 {
            let _ = shared.accept(&message("a", Origin::Sensor, Qos::AtLeastOnce));
        }
        assert_eq!(ready(shared.accept(&message("b", Origin::Client, Qos::AtLeastOnce)).unwrap()), None);
        let mut last = None;
        let dropped = shared.take(usize::MAX, |offered| last = Some(offered.topic.to_string()));
        assert_eq!((dropped, last.as_deref()), (3, Some("b")));
        assert!(shared.is_empty());
    }

    #[test]
    fn properties_fill_the_queue_as_payloads_do() {
        let shared = shared();
        let properties = Properties { correlation_data: Some(vec![0; 60_000].into()), ..Properties::default() };
        let mut large = Arc::unwrap_or_clone(message("a", Origin::Sensor, Qos::AtLeastOnce));
        large.properties = Some(Arc::new(properties));
        let large = Arc::new(large);
        for _ in 0..INTAKE_QUEUE {
            let _ = shared.accept(&large);
        }
        let mut taken = 0;
        let dropped = shared.take(usize::MAX, |_| taken += 1);
        assert!(taken > 0 && taken * 60_000 <= INTAKE_BYTES && dropped > 0, "{taken} taken, {dropped} dropped");
    }

    #[test]
    fn an_engine_that_wakes_up_soon_is_not_woken_for_what_nobody_waits_for() {
        let shared = shared();
        let offer = |origin, qos| drop(shared.accept(&message("a", origin, qos)));
        let rung = || std::pin::pin!(shared.bell.notified()).enable();
        shared.be_patient(2);
        offer(Origin::Sensor, Qos::AtLeastOnce);
        offer(Origin::Sensor, Qos::ExactlyOnce);
        assert!(!rung());
        offer(Origin::Sensor, Qos::AtLeastOnce);
        assert!(rung(), "more than it has patience for");
        shared.take(usize::MAX, drop);
        offer(Origin::Client, Qos::AtLeastOnce);
        assert!(rung(), "a client waits");
        shared.take(usize::MAX, drop);
        offer(Origin::Sensor, Qos::AtMostOnce);
        assert!(rung(), "it is not stored");
        shared.be_patient(0);
        shared.take(usize::MAX, drop);
        offer(Origin::Sensor, Qos::AtLeastOnce);
        assert!(rung());
    }

    #[test]
    fn what_is_here_already_is_waited_for_where_it_is_stored() {
        let shared = shared();
        let first = message("a", Origin::Gateway, Qos::AtLeastOnce);
        assert_eq!(ready(shared.accept(&first).unwrap()), Some(Ok(())));
        let again = |qos| shared.settled(&message("a", Origin::Client, qos));
        assert!(again(Qos::AtMostOnce).is_none());
        let settled = again(Qos::AtLeastOnce).unwrap();
        let mut answers = Vec::new();
        shared.take(10, |offered| answers.push((offered.is_here, offered.answer)));
        assert_eq!(answers.iter().map(|(is_here, _)| *is_here).collect::<Vec<_>>(), [false, true]);
        answers.pop().and_then(|(_, answer)| answer).unwrap().send(Ok(())).unwrap();
        assert_eq!(ready(settled), Some(Ok(())));
        let refusal = NotAccepted::Store { bridge: "cloud".into(), reason: "disk full".into() };
        shared.refuse(Some(refusal.clone()));
        assert_eq!(ready(again(Qos::ExactlyOnce).unwrap()), Some(Err(refusal)));
    }

    #[test]
    fn a_store_that_cannot_write_refuses_clients_at_once() {
        let shared = shared();
        let refusal = NotAccepted::Store { bridge: "cloud".into(), reason: "disk full".into() };
        shared.refuse(Some(refusal.clone()));
        let answer = ready(shared.accept(&message("a", Origin::Client, Qos::AtLeastOnce)).unwrap());
        assert_eq!(answer, Some(Err(refusal)));
    }
}

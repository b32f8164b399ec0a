//! What the local broker says of its clients' open QoS 2 messages, on its way to the engine: which packet ids become free, which sessions are over, and
//! which era it is.
//!
//! Most clients' messages go to no bridge, or to one of several. So that a packet id which no record knows costs no look into the store, every id that
//! may be in it is kept here: those that the engine found there, and those that were offered since.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::limits::EXCHANGES_MAX;
use crate::model::{Era, ExchangeId};
use crate::ports::NotAccepted;

/// Who waits until a packet id is free, and what was offered under it last when it was given up.
pub(super) struct Waiter {
    offer: Option<u64>,
    tell: oneshot::Sender<Result<(), NotAccepted>>,
}

impl Waiter {
    /// One, and what it waits on.
    pub(super) fn new(offer: Option<u64>) -> (Self, oneshot::Receiver<Result<(), NotAccepted>>) {
        let (tell, freed) = oneshot::channel();
        (Self { offer, tell }, freed)
    }

    /// The packet id is free.
    pub(super) fn answer(self) {
        // Whoever asked may have gone.
        let _ = self.tell.send(Ok(()));
    }

    /// Whether nobody waits any longer.
    pub(super) fn is_closed(&self) -> bool {
        self.tell.is_closed()
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Held(Mutex<State>);

#[derive(Default)]
struct State {
    /// The engine has said what the store knows.
    is_known: bool,
    /// All that the store may know, each with the number of the offer that was its last; what was found in the store has number 0.
    ids: BTreeMap<ExchangeId, u64>,
    /// Of the last offer.
    offers: u64,
    released: Vec<(ExchangeId, Waiter)>,
    over: Vec<i64>,
    era: Option<Era>,
    /// Whether the engine that runs knows of it.
    is_told: bool,
    /// Who waits until it does, and has written it down or cannot.
    begun: Option<oneshot::Sender<()>>,
    /// No engine will come any more.
    has_ended: bool,
}

/// What the engine has not heard of yet.
pub(super) struct News {
    pub(super) era: Option<Era>,
    pub(super) released: Vec<(ExchangeId, Waiter)>,
    pub(super) over: Vec<i64>,
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message is going to be offered. Returns whether that is news.
    pub(super) fn offer(&self, exchange: ExchangeId) -> bool {
        let mut state = self.state();
        state.offers += 1;
        let offer = state.offers;
        state.ids.insert(exchange, offer).is_none()
    }

    /// It was not taken in.
    pub(super) fn take_back(&self, exchange: ExchangeId) {
        self.state().ids.remove(&exchange);
    }

    /// A packet id becomes free: what to wait for, if the store may know it. Returns whether the engine has something to do.
    pub(super) fn release(
        &self,
        exchange: ExchangeId,
        bridge: &str,
    ) -> Option<Result<oneshot::Receiver<Result<(), NotAccepted>>, NotAccepted>> {
        let mut state = self.state();
        if state.is_known && !state.ids.contains_key(&exchange) {
            return None;
        }
        if state.has_ended {
            return Some(Err(NotAccepted::Stopping { bridge: bridge.to_owned() }));
        }
        if state.released.len() >= EXCHANGES_MAX {
            state.released.retain(|(_, waiter)| !waiter.is_closed());
            if state.released.len() >= EXCHANGES_MAX {
                let reason = "too many packet ids wait for it".to_owned();
                return Some(Err(NotAccepted::Store { bridge: bridge.to_owned(), reason }));
            }
        }
        let (waiter, freed) = Waiter::new(state.ids.get(&exchange).copied());
        state.released.push((exchange, waiter));
        Some(Ok(freed))
    }

    /// A session is over.
    pub(super) fn session_over(&self, session: i64) {
        let mut state = self.state();
        let first = ExchangeId { session, packet_id: 0 };
        let last = ExchangeId { session, packet_id: u16::MAX };
        let of_it: Vec<ExchangeId> = state.ids.range(first..=last).map(|(exchange, _)| *exchange).collect();
        // Until the engine has said what the store knows, it may know something of any. One too many stays in it until the next start, which tells
        // the sessions that there are.
        if of_it.is_empty() && (state.is_known || state.over.len() >= EXCHANGES_MAX) {
            return;
        }
        for exchange in of_it {
            state.ids.remove(&exchange);
        }
        state.over.push(session);
    }

    /// Another era begins. Ready once the engine knows, and has written it down or cannot.
    pub(super) fn begin_era(&self, era: Era) -> oneshot::Receiver<()> {
        let (tell, begun) = oneshot::channel();
        let mut state = self.state();
        (state.era, state.is_told, state.begun) = (Some(era), false, Some(tell));
        begun
    }

    /// An engine begins that knows nothing.
    pub(super) fn tell_again(&self) {
        self.state().is_told = false;
    }

    /// What is new. Sessions that are over come once nothing of theirs is on its way: `is_empty` says that what was offered before has been taken.
    pub(super) fn take(&self, is_empty: impl FnOnce() -> bool) -> News {
        let mut state = self.state();
        let era = state.era.clone().filter(|_| !state.is_told);
        state.is_told |= era.is_some();
        let released = std::mem::take(&mut state.released);
        let over = if !state.over.is_empty() && is_empty() { std::mem::take(&mut state.over) } else { Vec::new() };
        News { era, released, over }
    }

    /// The era `now` is written down, or nothing that the store has counts in it; `known` is what does.
    pub(super) fn begun(&self, now: Option<i64>, known: impl Iterator<Item = ExchangeId>) {
        let mut state = self.state();
        for exchange in known {
            state.ids.entry(exchange).or_insert(0);
        }
        state.is_known = true;
        if state.era.as_ref().map(|era| era.now) != now {
            // The next one has begun meanwhile, which the engine has yet to hear of.
            return;
        }
        if let Some(era) = &mut state.era {
            // An engine that is made anew judges by what this one wrote.
            (era.before, era.sessions) = (None, None);
        }
        if let Some(begun) = state.begun.take() {
            // Whoever asked may have gone.
            let _ = begun.send(());
        }
    }

    /// The store knows it no more: before the publisher hears of it, who may use it again at once. One who gave it up twice may have used it in between:
    /// then the store is going to know it again.
    pub(super) fn freed(&self, exchange: ExchangeId, waiters: Vec<Waiter>) {
        let mut state = self.state();
        let newest = waiters.iter().filter_map(|waiter| waiter.offer).max();
        if newest.is_some() && state.ids.get(&exchange).copied() == newest {
            state.ids.remove(&exchange);
        }
        drop(state);
        waiters.into_iter().for_each(Waiter::answer);
    }

    /// Nobody takes anything any more.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        (state.released, state.begun) = (Vec::new(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ExchangeId = ExchangeId { session: 1, packet_id: 7 };

    fn known(ids: &[ExchangeId]) -> Held {
        let held = Held::default();
        held.begun(None, ids.iter().copied());
        held
    }

    /// As an engine whose store knows none of them any more.
    fn free_all(held: &Held) {
        for (exchange, waiter) in held.take(|| true).released {
            held.freed(exchange, vec![waiter]);
        }
    }

    #[test]
    fn an_id_that_is_given_up_twice_and_used_in_between_is_looked_for_in_the_store() {
        let held = known(&[]);
        held.offer(ONE);
        assert!(held.release(ONE, "b").is_some());
        let first = held.take(|| true).released;
        assert!(held.release(ONE, "b").is_some(), "again, before the first was answered");
        for (exchange, waiter) in first {
            held.freed(exchange, vec![waiter]);
        }
        held.offer(ONE);
        free_all(&held);
        assert!(held.release(ONE, "b").is_some(), "the second message lies in the store");
        free_all(&held);
        assert!(held.release(ONE, "b").is_none());
    }

    #[test]
    fn an_era_that_begins_while_the_one_before_is_written_waits_for_its_own_turn() {
        let held = Held::default();
        let mut first = held.begin_era(Era { before: None, now: 1, sessions: None });
        assert!(held.take(|| true).era.is_some());
        let mut second = held.begin_era(Era { before: Some(1), now: 2, sessions: None });
        held.begun(Some(1), std::iter::empty());
        assert!(first.try_recv().is_err() && second.try_recv().is_err());
        assert_eq!(held.take(|| true).era.map(|era| (era.before, era.now)), Some((Some(1), 2)));
        held.begun(Some(2), std::iter::empty());
        assert_eq!(second.try_recv(), Ok(()));
    }

    #[test]
    fn a_session_that_ends_before_the_store_was_looked_into_is_told() {
        let held = Held::default();
        held.session_over(1);
        assert_eq!(held.take(|| true).over, [1]);
        for session in 0..=EXCHANGES_MAX {
            held.session_over(i64::try_from(session).unwrap());
        }
        assert_eq!(held.take(|| true).over.len(), EXCHANGES_MAX, "and no more than so many");
    }

    #[test]
    fn only_an_id_that_the_store_may_know_costs_a_look_into_it() {
        let held = known(&[ONE]);
        assert!(held.release(ONE, "b").is_some());
        let other = ExchangeId { packet_id: 8, ..ONE };
        assert!(held.release(other, "b").is_none());
        held.offer(other);
        assert!(held.release(other, "b").is_some());
        free_all(&held);
        assert!(held.release(other, "b").is_none());
        assert!(Held::default().release(other, "b").is_some(), "nobody has looked yet");
    }

    #[test]
    fn a_session_that_is_over_is_told_when_nothing_of_it_is_on_its_way() {
        let held = known(&[ONE]);
        held.session_over(2);
        held.session_over(1);
        assert!(held.release(ONE, "b").is_none());
        assert_eq!(held.take(|| false).over, [0; 0]);
        assert_eq!(held.take(|| true).over, [1]);
    }

    #[test]
    fn an_engine_that_is_made_anew_hears_of_the_era_and_not_of_the_one_before() {
        let held = Held::default();
        let mut begun = held.begin_era(Era { before: Some(1), now: 2, sessions: None });
        assert_eq!(held.take(|| true).era.map(|era| (era.before, era.now)), Some((Some(1), 2)));
        assert!(held.take(|| true).era.is_none(), "once");
        assert!(begun.try_recv().is_err());
        held.begun(Some(2), std::iter::empty());
        assert_eq!(begun.try_recv(), Ok(()));
        held.tell_again();
        assert_eq!(held.take(|| true).era.map(|era| (era.before, era.now)), Some((None, 2)));
    }

    #[test]
    fn who_waits_when_the_bridge_ends_is_told_that_nothing_comes_of_it() {
        let held = known(&[ONE]);
        let Some(Ok(mut waits)) = held.release(ONE, "b") else { panic!("it is known") };
        held.end();
        assert!(matches!(waits.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(held.release(ONE, "b"), Some(Err(NotAccepted::Stopping { .. }))));
    }
}

//! The crossing in the middle of the house: what comes from inside goes to the local broker and to every bridge that wants it; what local clients
//! publish is offered to the bridges.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::bridge::Intake;
use crate::model::Message;
use crate::ports::{Acceptance, LocalBus, Publish, Uplink};

/// The crossing. It exists before the rooms it joins, since each of them is given it at start.
pub struct Hub {
    local: RwLock<Option<Arc<dyn LocalBus>>>,
    /// `None` until the bridges have joined: until then nobody knows whether a message must be stored.
    intakes: watch::Sender<Option<Arc<[Intake]>>>,
}

impl Hub {
    /// A crossing that leads nowhere yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { local: RwLock::new(None), intakes: watch::Sender::new(None) })
    }

    /// Joins the local broker.
    pub fn join_broker(&self, local: Arc<dyn LocalBus>) {
        *self.local.write().unwrap_or_else(PoisonError::into_inner) = Some(local);
    }

    /// Joins these bridges, in place of those before.
    pub fn join_bridges(&self, intakes: impl IntoIterator<Item = Intake>) {
        self.intakes.send_replace(Some(intakes.into_iter().collect()));
    }
}

impl Publish for Hub {
    fn publish(&self, message: Message) {
        let message = Arc::new(message);
        if let Some(local) = &*self.local.read().unwrap_or_else(PoisonError::into_inner) {
            local.deliver(Arc::clone(&message));
        }
        for intake in self.intakes.borrow().iter().flat_map(|intakes| intakes.iter()) {
            // Nobody inside waits for the commit: the record is queued by the call, and the bridge counts what it cannot take.
            drop(intake.accept(&message));
        }
    }
}

impl Uplink for Hub {
    fn accept(&self, message: &Arc<Message>) -> Option<Acceptance> {
        if let Some(intakes) = &*self.intakes.borrow() {
            return offer(intakes, message);
        }
        // The broker may listen before the bridges are there. A client that comes so early waits: acknowledged and not stored would be lost.
        let mut joined = self.intakes.subscribe();
        let message = Arc::clone(message);
        Some(Box::pin(async move {
            let offered = match joined.wait_for(Option::is_some).await {
                Ok(intakes) => intakes.as_ref().and_then(|intakes| offer(intakes, &message)),
                // The crossing is gone, and with it everyone who could have answered.
                Err(_) => None,
            };
            match offered {
                Some(acceptance) => acceptance.await,
                None => Ok(()),
            }
        }))
    }
}

fn offer(intakes: &[Intake], message: &Arc<Message>) -> Option<Acceptance> {
    let mut waiting: Vec<Acceptance> = intakes.iter().filter_map(|intake| intake.accept(message)).collect();
    if waiting.len() <= 1 {
        return waiting.pop();
    }
    Some(Box::pin(async move {
        // All of them, also after one refused: a future dropped half way might take its record back.
        let mut outcome = Ok(());
        for acceptance in waiting {
            outcome = outcome.and(acceptance.await);
        }
        outcome
    }))
}

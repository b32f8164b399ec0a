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
    frees: watch::Sender<Frees>,
}

enum Bridges {
    /// Nobody knows yet whether a message must be stored: what clients publish waits here, in its order, and what they free.
    Awaited(Vec<Early>),
    /// They are there.
    Joined(Arc<[Arc<dyn Uplink>]>),
}

/// Whether clients may hear that packet ids are free, and how often that was held back.
#[derive(Debug, Clone, Copy)]
struct Frees {
    held: u64,
    are_told: bool,
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
            frees: watch::Sender::new(Frees { held: 0, are_told: true }),
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

    /// No client hears that a packet id is free until [`Self::let_free`] is told what this returns.
    pub fn hold_free(&self) -> u64 {
        let mut held = 0;
        self.frees.send_modify(|frees| {
            (frees.held, frees.are_told) = (frees.held + 1, false);
            held = frees.held;
        });
        held
    }

    /// Clients hear of them again, unless they were held back once more since.
    pub fn let_free(&self, held: u64) {
        self.frees.send_if_modified(|frees| {
            let is_last = frees.held == held;
            frees.are_told |= is_last;
            is_last
        });
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
        if released.is_none() && frees.borrow().are_told {
            return None;
        }
        Some(Box::pin(async move {
            if let Some(released) = released {
                released.await?;
            }
            if frees.wait_for(|frees| frees.are_told).await.is_err() {
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
mod tests;

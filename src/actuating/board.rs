//! Where commands come in: by topic or by id, each to the queue of its actuator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};

use super::task::refuse_all;
use crate::clock::Clock;
use crate::limits::COMMAND_QUEUE;
use crate::logic::command;
use crate::model::{
    Ack, ActuatorId, ActuatorView, Command, CommandId, CommandOrigin, Message, Origin, Outcome, TopicName,
};
use crate::plan::ActuatorPlan;
use crate::ports::{Acceptance, Answer, Commands, NotAccepted, Publish};
use crate::store::StateDesk;
use crate::store::state::Number;

/// A command on its way to its actuator.
pub(super) struct Request {
    pub(super) command: Command,
    /// Rings when it is noted or answered.
    pub(super) noted: Option<oneshot::Sender<()>>,
    pub(super) reply: Option<oneshot::Sender<Ack>>,
}

/// One actuator's way in and out.
pub(super) struct Door {
    plan: RwLock<Arc<ActuatorPlan>>,
    queue: mpsc::Sender<Request>,
    /// The other end: of its task, and of the one that follows it when it panics.
    pub(super) requests: tokio::sync::Mutex<mpsc::Receiver<Request>>,
    view: Mutex<ActuatorView>,
    publish: Arc<dyn Publish>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) desk: StateDesk,
}

impl Door {
    /// What holds at the moment.
    pub(super) fn plan(&self) -> Arc<ActuatorPlan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn view(&self) -> MutexGuard<'_, ActuatorView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, message: Message) {
        self.publish.publish(message);
    }

    /// Tells an answer to everyone whom it concerns.
    pub(super) fn answer(&self, ack: Ack, reply: Option<oneshot::Sender<Ack>>) {
        let at = self.clock.wall();
        self.view().last_ack = Some((ack.clone(), at));
        self.publish.publish(self.plan().topics.ack(&ack, at));
        if let Some(reply) = reply {
            // Whoever asked may have gone.
            let _ = reply.send(ack);
        }
    }

    /// Notes the answer to a command that was taken, and tells it then. An answer that cannot be noted is told all the same.
    pub(super) fn answer_noted(self: &Arc<Self>, number: Number, ack: Ack, reply: Option<oneshot::Sender<Ack>>) {
        let (door, noted) = (Arc::clone(self), ack.clone());
        self.desk.write(
            move |state| state.answer(number, noted.outcome, noted.reason.as_deref()),
            move |_| door.answer(ack, reply),
        );
    }

    fn push(&self, request: Request) {
        if let Err(error) = self.queue.try_send(request) {
            let (request, reason) = match error {
                mpsc::error::TrySendError::Full(request) => (request, "too many commands wait for it"),
                mpsc::error::TrySendError::Closed(request) => (request, "it is being stopped"),
            };
            let id = command::id_of(&request.command, &self.plan().rules);
            self.answer(Ack::because(id, Outcome::Refused, reason), request.reply);
            if let Some(noted) = request.noted {
                let _ = noted.send(());
            }
        }
    }

    /// From here on it is another actuator's plan.
    pub(super) fn set_plan(&self, plan: &ActuatorPlan) {
        let mut view = self.view();
        let fresh = view_of(plan);
        view.safe = fresh.safe;
        view.words = fresh.words;
        drop(view);
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan.clone());
    }
}

/// All actuators.
#[derive(Default)]
pub struct Board(RwLock<Directory>);

#[derive(Default)]
struct Directory {
    by_topic: HashMap<TopicName, Arc<Door>>,
    by_id: HashMap<ActuatorId, Arc<Door>>,
    order: Vec<ActuatorId>,
}

impl Board {
    /// Opens a door for an actuator.
    pub(super) fn door(
        &self,
        plan: &ActuatorPlan,
        publish: Arc<dyn Publish>,
        clock: Arc<dyn Clock>,
        desk: StateDesk,
    ) -> Arc<Door> {
        let (queue, requests) = mpsc::channel(COMMAND_QUEUE);
        let door = Arc::new(Door {
            plan: RwLock::new(Arc::new(plan.clone())),
            queue,
            requests: tokio::sync::Mutex::new(requests),
            view: Mutex::new(view_of(plan)),
            publish,
            clock,
            desk,
        });
        self.write(|directory| directory.by_id.insert(plan.id.clone(), Arc::clone(&door)));
        door
    }

    /// Closes the doors of all others.
    pub(super) fn keep<'a>(&self, ids: impl Iterator<Item = &'a ActuatorId>) {
        let ids: Vec<&ActuatorId> = ids.collect();
        self.write(|directory| {
            directory.by_id.retain(|id, _| ids.contains(&id));
            directory.by_topic.retain(|_, door| ids.contains(&&door.plan().id));
        });
    }

    /// Takes no command any more. The doors stay: while the broker lets commands in they are told so, and none is kept.
    pub(super) async fn close(&self) {
        let doors: Vec<Arc<Door>> = self.read().by_id.values().cloned().collect();
        for door in doors {
            // A task that has ended has refused what waited for it; one that was cut off has not.
            refuse_all(&door, &mut *door.requests.lock().await);
        }
    }

    /// Puts them in the order of the plan, under the topics of the plan.
    pub(super) fn set_order(&self, plans: &[ActuatorPlan]) {
        self.write(|directory| {
            directory.order = plans.iter().map(|plan| plan.id.clone()).collect();
            directory.by_topic = plans
                .iter()
                .filter_map(|plan| Some((plan.topics.set.clone(), Arc::clone(directory.by_id.get(&plan.id)?))))
                .collect();
        });
    }

    /// Tells the answer to a command of an earlier process.
    pub(super) fn tell_left(&self, id: &ActuatorId, ack: Ack) {
        // Let go of before it answers: whoever hears the answer may look in here as well.
        let door = self.read().by_id.get(id).cloned();
        if let Some(door) = door {
            door.answer(ack, None);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Directory> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&mut Directory) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Commands for Board {
    fn offer(&self, message: &Arc<Message>) -> Option<Acceptance> {
        let door = self.read().by_topic.get(&message.topic).cloned()?;
        let origin = match &message.origin {
            Origin::Client => CommandOrigin::Local,
            Origin::Bridge(id) => CommandOrigin::Cloud(id.clone()),
            Origin::Sensor | Origin::Gateway | Origin::Seed => return None,
        };
        // What clears a retained message is no command.
        if message.retain && message.payload.is_empty() {
            return Some(Box::pin(std::future::ready(Ok(()))));
        }
        let life = message.properties.as_ref().and_then(|properties| properties.expiry_s);
        let life = life.map(|seconds| std::time::Duration::from_secs(seconds.into()));
        let command = Command {
            payload: message.payload.clone(),
            origin,
            qos: message.qos,
            retained: message.retain,
            expires: life.map(|life| door.clock.now() + life),
        };
        let (noted, told) = oneshot::channel();
        door.push(Request { command, noted: Some(noted), reply: None });
        Some(Box::pin(
            async move { told.await.map_err(|_| NotAccepted::Actuator { actuator: door.plan().id.to_string() }) },
        ))
    }

    fn command(&self, actuator: &ActuatorId, command: Command) -> Option<Answer> {
        let door = self.read().by_id.get(actuator).cloned()?;
        let id: Option<CommandId> = command::id_of(&command, &door.plan().rules);
        let (reply, told) = oneshot::channel();
        door.push(Request { command, noted: None, reply: Some(reply) });
        Some(Box::pin(async move {
            told.await.unwrap_or_else(|_| Ack::because(id, Outcome::Refused, "it is being stopped"))
        }))
    }

    fn takes(&self, topic: &TopicName) -> bool {
        self.read().by_topic.contains_key(topic)
    }

    fn actuators(&self) -> Vec<ActuatorView> {
        let directory = self.read();
        directory.order.iter().filter_map(|id| Some(directory.by_id.get(id)?.view().clone())).collect()
    }
}

fn view_of(plan: &ActuatorPlan) -> ActuatorView {
    use crate::actuators::Means;
    use crate::logic::command::Vocabulary;

    let words = match &plan.rules.vocabulary {
        Vocabulary::Switch => vec!["on".into(), "off".into()],
        Vocabulary::Pulse => vec!["press".into()],
        Vocabulary::Words(words, _) => words.clone(),
    };
    let at = match (plan.factory.means(), &plan.bus) {
        (Means::Line(line), _) => line.to_string(),
        (_, Some(bus)) => bus.id().to_string(),
        (_, None) => String::new(),
    };
    ActuatorView {
        id: plan.id.clone(),
        driver: plan.driver,
        at,
        words,
        value: None,
        since: None,
        safe: plan.output.safe.clone(),
        online: None,
        last_ack: None,
    }
}

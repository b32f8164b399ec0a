//! The task of one actuator, and the one that starts it again when it panics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::board::{Door, Request};
use super::hands::{Done, Hands, Job, Work};
use crate::clock::Clock;
use crate::health::Pulse;
use crate::limits::{BUS_RESTART_MAX, BUS_RESTART_MIN, COMMAND_LAST_COMMIT, PULSE_EVERY};
use crate::logic::command::{self, Wish};
use crate::logic::output::{Action, Fall, Input, Output};
use crate::logic::retry::Backoff;
use crate::logic::tell::Certainty;
use crate::model::{Ack, CommandId, Message, Moment, Outcome};
use crate::plan::ActuatorPlan;
use crate::store::NotWritten;
use crate::store::state::{Number, Taken};

/// What an actuator's task needs, and needs again when it is started again.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) door: Arc<Door>,
    /// Beats in each turn of the task, whatever its device does.
    pub(super) pulse: Pulse,
    pub(super) plans: watch::Receiver<ActuatorPlan>,
    pub(super) device: Hands,
    pub(super) link: watch::Receiver<bool>,
    pub(super) open: watch::Receiver<bool>,
    /// Tells that the output has reached its safe state once, or that it could not.
    pub(super) settled: Arc<watch::Sender<bool>>,
    pub(super) stop: CancellationToken,
    pub(super) orders: Orders,
}

/// Commands that were noted, and are on their way.
#[derive(Clone, Default)]
pub(super) struct Orders(Arc<Mutex<BTreeMap<u64, Order>>>);

struct Order {
    number: Number,
    id: Option<CommandId>,
    reply: Option<oneshot::Sender<Ack>>,
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Order>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers all of them alike.
    fn give_up(&self, door: &Arc<Door>, outcome: Outcome, reason: &str) {
        for (_, order) in std::mem::take(&mut *self.lock()) {
            door.answer_noted(order.number, Ack::because(order.id, outcome, reason), order.reply);
        }
    }
}

/// Runs the actuator until it is stopped. A panic ends this actuator's task alone, and is followed by a new start, in the safe state, after a
/// back-off.
pub(super) async fn supervise(context: Context) {
    let mut backoff = Backoff::new(BUS_RESTART_MIN, BUS_RESTART_MAX);
    let mut panics: u32 = 0;
    loop {
        let started = context.door.clock.now();
        // Stopped after a panic, it is begun once more: it must not let go before its output is safe.
        let last = context.stop.is_cancelled();
        let task = AbortOnDropHandle::new(tokio::spawn(run(context.clone())));
        match task.await {
            Err(ended) if ended.is_panic() && !last => {}
            Ok(()) | Err(_) => break,
        }
        panics = panics.saturating_add(1);
        context.orders.give_up(&context.door, Outcome::Failed, "the actuator's task failed");
        if context.door.clock.now().since(started) > BUS_RESTART_MAX {
            backoff.reset();
        }
        let wait = backoff.next_wait(fastrand::f64());
        let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        error!(actuator = %context.door.plan().id, panics, delay_ms, "task of the actuator panicked; it is started again");
        let clock = &context.door.clock;
        let again = clock.now() + wait;
        while !context.stop.is_cancelled() && clock.now() < again {
            context.pulse.beat(clock.now());
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = until(Some(again), clock.as_ref()) => {}
            }
        }
    }
    context.device.release();
}

async fn run(context: Context) {
    let door = Arc::clone(&context.door);
    let requests = Arc::clone(&door);
    let mut requests = requests.requests.lock().await;
    Task::new(context).live(&mut requests).await;
    refuse_all(&door, &mut requests);
}

/// A command whose commit is under way.
struct Committing {
    wish: Wish,
    /// The answer it is noted with, where it is not to be done.
    verdict: Option<Ack>,
    noted: Option<oneshot::Sender<()>>,
    reply: Option<oneshot::Sender<Ack>>,
    taken: oneshot::Receiver<Result<Taken, NotWritten>>,
}

struct Task {
    door: Arc<Door>,
    clock: Arc<dyn Clock>,
    plan: Arc<ActuatorPlan>,
    context: Context,
    output: Output,
    work: Work,
    orders: u64,
    committing: Option<Committing>,
    /// What was to be told before there was anybody to hear.
    early: Vec<Message>,
    is_open: bool,
    is_stopped: bool,
}

impl Task {
    fn new(mut context: Context) -> Self {
        let door = Arc::clone(&context.door);
        let clock = Arc::clone(&door.clock);
        context.plans.mark_unchanged();
        let plan = door.plan();
        let mut output = Output::new(plan.output.clone(), clock.now());
        output.handle(Input::Link(*context.link.borrow_and_update()), clock.now());
        let is_open = *context.open.borrow_and_update();
        let work = context.device.at_work();
        Self {
            door,
            clock,
            plan,
            context,
            output,
            work,
            orders: 0,
            committing: None,
            early: Vec::new(),
            is_open,
            is_stopped: false,
        }
    }

    async fn live(mut self, requests: &mut mpsc::Receiver<Request>) {
        let mut stopping = false;
        loop {
            self.act();
            if self.is_stopped {
                break;
            }
            self.context.pulse.beat(self.clock.now());
            let timeout = self.output.poll_timeout();
            tokio::select! {
                biased;
                () = self.context.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.handle(Input::Stop);
                }
                done = self.work.next(self.clock.as_ref()) => self.handle(match done {
                    Done::Made(Ok(read)) => Input::Moved { read },
                    Done::Made(Err(reason)) => Input::Failed { reason: reason.into(), random: fastrand::f64() },
                    Done::Back => Input::Back,
                }),
                () = until(timeout, self.clock.as_ref()) => self.handle(Input::Tick),
                Ok(()) = self.context.link.changed() => {
                    let up = *self.context.link.borrow_and_update();
                    self.handle(Input::Link(up));
                }
                Ok(()) = self.context.plans.changed(), if !stopping => self.adopt(),
                Ok(()) = self.context.open.changed(), if !self.is_open => self.open(),
                taken = taken(&mut self.committing) => self.taken(taken),
                Some(request) = requests.recv(), if self.is_open && self.committing.is_none() => self.judge(request),
            }
        }
        if let Some(committing) = &mut self.committing
            && let Ok(Ok(outcome)) = tokio::time::timeout(COMMAND_LAST_COMMIT, &mut committing.taken).await
        {
            self.taken(outcome);
            self.act();
        }
        self.context.orders.give_up(&self.door, Outcome::Interrupted, "the output was stopped");
        self.tell(self.plan.topics.availability(false));
        self.door.view().online = Some(false);
    }

    fn handle(&mut self, input: Input) {
        self.output.handle(input, self.clock.now());
    }

    fn tell(&mut self, message: Message) {
        if self.is_open {
            self.door.tell(message);
        } else {
            // Of each topic the last counts: all of them are states.
            self.early.retain(|early| early.topic != message.topic);
            self.early.push(message);
        }
    }

    fn open(&mut self) {
        self.is_open = *self.context.open.borrow_and_update();
        if self.is_open {
            for message in std::mem::take(&mut self.early) {
                self.door.tell(message);
            }
        }
    }

    /// The config was changed, and the device is the same.
    fn adopt(&mut self) {
        let plan = self.context.plans.borrow_and_update().clone();
        self.context.orders.give_up(&self.door, Outcome::Interrupted, "the config was changed");
        self.work.give_up();
        if plan.topics.availability != self.plan.topics.availability {
            self.tell(self.plan.topics.availability(false));
        }
        self.door.set_plan(&plan);
        self.plan = self.door.plan();
        self.output = Output::new(plan.output, self.clock.now());
        let up = *self.context.link.borrow_and_update();
        self.handle(Input::Link(up));
    }

    /// Judges a command, and has it noted if it has an id or is to be done.
    fn judge(&mut self, request: Request) {
        let Request { command, noted, reply } = request;
        let (wall, now) = (self.clock.wall(), self.clock.now());
        let wish = match command::judge(&command, &self.plan.rules, wall, now) {
            Ok(wish) => wish,
            Err(ack) => return self.answer(ack, noted, reply),
        };
        let verdict = self.output.may(&wish.setting, now).err();
        let verdict = verdict.map(|(outcome, reason)| Ack::because(wish.id.clone(), outcome, reason));
        if wish.id.is_none()
            && let Some(verdict) = verdict
        {
            return self.answer(verdict, noted, reply);
        }
        let (tell, taken) = oneshot::channel();
        let (actuator, id, answer) = (self.plan.id.clone(), wish.id.clone(), verdict.clone());
        self.door.desk.write(
            move |state| state.take(&actuator, id.as_ref(), answer.as_ref(), wall),
            // Nobody listens any more when the task has panicked: the next process answers.
            |outcome| drop(tell.send(outcome)),
        );
        self.committing = Some(Committing { wish, verdict, noted, reply, taken });
    }

    /// The commit has returned: what it noted may be done.
    fn taken(&mut self, outcome: Result<Taken, NotWritten>) {
        let Some(Committing { wish, verdict, noted, reply, .. }) = self.committing.take() else { return };
        let number = match outcome {
            Err(NotWritten(reason)) => {
                return self.answer(Ack { id: wish.id, outcome: Outcome::Failed, reason: Some(reason) }, noted, reply);
            }
            Ok(Taken::Known(before)) => return self.answer(command::duplicate(wish.id, before), noted, reply),
            Ok(Taken::New(number)) => number,
        };
        if let Some(verdict) = verdict {
            return self.answer(verdict, noted, reply);
        }
        ring(noted);
        if let Some(late) = wish.late(self.clock.wall(), self.clock.now()) {
            return self.door.answer_noted(number, late, reply);
        }
        self.orders += 1;
        let order = self.orders;
        self.context.orders.lock().insert(order, Order { number, id: wish.id, reply });
        self.handle(Input::Order { order, setting: wish.setting });
    }

    fn answer(&self, ack: Ack, noted: Option<oneshot::Sender<()>>, reply: Option<oneshot::Sender<Ack>>) {
        self.door.answer(ack, reply);
        ring(noted);
    }

    fn act(&mut self) {
        while let Some(action) = self.output.poll_action() {
            match action {
                Action::Move(setting) => self.work.begin(Job::Set(setting), self.clock.as_ref()),
                Action::Check => self.work.begin(Job::Check, self.clock.as_ref()),
                Action::Answer { order, outcome, reason } => {
                    if let Some(Order { number, id, reply }) = self.context.orders.lock().remove(&order) {
                        self.door.answer_noted(number, Ack { id, outcome, reason }, reply);
                    }
                }
                Action::Told { value, sound } => {
                    let certainty = match (sound, self.plan.output.readable) {
                        (false, _) => Certainty::Lost,
                        (true, true) => Certainty::Read,
                        (true, false) => Certainty::Assumed,
                    };
                    let at = self.clock.wall();
                    self.tell(self.plan.topics.state(&value, certainty, at));
                    let mut view = self.door.view();
                    if view.value.as_ref() != Some(&value) {
                        view.value = Some(value);
                        view.since = Some(at);
                    }
                }
                Action::Online { failed, outage } => {
                    if failed > 0 {
                        let outage_ms = u64::try_from(outage.as_millis()).unwrap_or(u64::MAX);
                        info!(actuator = %self.plan.id, failed, outage_ms, "actuator answers again");
                    }
                    self.available(true);
                }
                Action::Offline(error) => {
                    warn!(actuator = %self.plan.id, driver = self.plan.driver, %error, "actuator does not do as it is told");
                    self.available(false);
                }
                Action::Fell(fall) => {
                    let cause = match fall {
                        Fall::MaxOn => "max_on",
                        Fall::LinkLoss => "link_loss",
                    };
                    info!(actuator = %self.plan.id, cause, "actuator goes off by itself");
                }
                Action::Stopped => self.is_stopped = true,
            }
        }
    }

    fn available(&mut self, online: bool) {
        self.door.view().online = Some(online);
        self.tell(self.plan.topics.availability(online));
        self.context.settled.send_replace(true);
    }
}

/// What waits in the queue when the actuator is stopped is answered, and what comes later is refused.
pub(super) fn refuse_all(door: &Arc<Door>, requests: &mut mpsc::Receiver<Request>) {
    requests.close();
    while let Ok(Request { command, noted, reply }) = requests.try_recv() {
        let id = command::id_of(&command, &door.plan().rules);
        door.answer(Ack::because(id, Outcome::Refused, "it is being stopped"), reply);
        ring(noted);
    }
}

fn ring(noted: Option<oneshot::Sender<()>>) {
    if let Some(noted) = noted {
        // The client may have gone.
        let _ = noted.send(());
    }
}

async fn taken(committing: &mut Option<Committing>) -> Result<Taken, NotWritten> {
    match committing {
        Some(committing) => {
            let outcome = (&mut committing.taken).await;
            outcome.unwrap_or_else(|_| Err(NotWritten("the store has ended".into())))
        }
        None => std::future::pending().await,
    }
}

/// Waits for a point in time, or until the pulse is due.
async fn until(moment: Option<Moment>, clock: &dyn Clock) {
    let wait = moment.map_or(PULSE_EVERY, |moment| moment.since(clock.now())).min(PULSE_EVERY);
    // At least a millisecond, the resolution of the timer: a deadline that is there already must not become a spin.
    tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
}

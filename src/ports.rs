//! The joints between rooms: what one room offers another without either knowing the other. `app` joins them.
//!
//! - [`Publish`]: whoever has a message to tell (sensors, bridges, the gateway itself) tells it here. `app::hub` implements it: the message goes
//!   to the local broker, and to every bridge that forwards it.
//! - [`Uplink`]: where the local broker offers what its clients published. The acknowledgement to the client waits for the [`Acceptance`].
//! - [`Commands`]: where a command for an actuator is handed in, whoever gives it.
//! - [`Watch`]: what there is to see of the gateway, for the page, the metrics and the command line; [`Stage`] is what the demo adds.
//! - [`LocalBus`]: the local broker's in-process door.
//! - [`Totals`]: where a counter's total outlives a restart.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::model::chore::{Chore, ChoreReport};
use crate::model::clients::{ClientsOverview, Kick, KickRefusal, KickReport};
use crate::model::overview::{Event, HealthReport, Overview, StageOverview};
use crate::model::{
    Ack, ActuatorId, ActuatorView, Command, ExchangeId, LineTotals, Message, Moment, SensorId, TopicName,
};

/// Takes messages that come from inside the process. Never blocks and never waits.
pub trait Publish: Send + Sync + 'static {
    /// Tells the message to everyone it concerns. What a full queue does is that queue's own, documented policy.
    fn publish(&self, message: Message);

    /// The same for what came from a cloud, which is acknowledged once the future is ready: a command has then been noted, and will have its
    /// answer. `None` where there is nothing to wait for.
    fn publish_from_cloud(&self, message: Message) -> Option<Acceptance> {
        self.publish(message);
        None
    }
}

/// The local broker, as seen from inside the process.
pub trait LocalBus: Send + Sync + 'static {
    /// Delivers to the local subscribers and keeps it if it is retained. Never blocks.
    fn deliver(&self, message: Arc<Message>);
}

/// Resolves once every bridge that takes the message has committed it, or one of them refused.
pub type Acceptance = Pin<Box<dyn Future<Output = Result<(), NotAccepted>> + Send>>;

/// Why a message that had to be stored was not: its publisher must not be told that it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The store cannot commit (disk full, I/O error).
    #[error("bridge `{bridge}`: the store cannot take messages: {reason}")]
    Store {
        /// The bridge's id.
        bridge: String,
        /// What the store said.
        reason: String,
    },
    /// The actuator is stopping, and had not noted the command.
    #[error("actuator `{actuator}`: is stopping")]
    Actuator {
        /// The actuator's id.
        actuator: String,
    },
    /// Some have committed it and others could not. Offered again as if nothing had happened, it would be doubled at those who have.
    #[error("{because}")]
    InPart {
        /// Names of those who have it.
        by: Arc<[String]>,
        /// Why not all.
        because: Box<NotAccepted>,
    },
    /// The bridge is stopping.
    #[error("bridge `{bridge}`: is stopping")]
    Stopping {
        /// The bridge's id.
        bridge: String,
    },
}

/// Takes messages that may have to go to the cloud.
pub trait Uplink: Send + Sync + 'static {
    /// Offers a message. `None` when no bridge forwards it, which costs a look at the rules and nothing else.
    ///
    /// With QoS 0 upstream there is nothing to wait for: the future is ready once the message is queued.
    fn accept(&self, message: &Arc<Message>) -> Option<Acceptance>;

    /// Offers a message again that was refused in part: to those alone who have not committed it.
    fn accept_rest(&self, message: &Arc<Message>, before: &NotAccepted) -> Option<Acceptance> {
        let _ = before;
        self.accept(message)
    }

    /// For a message that was fetched before ([`Uplink::told_in_order`]): resolves once those copies of it that were offered and that nobody waited for are
    /// committed, and fails where they may not be. `None` when there is nothing to wait for.
    fn settled(&self, message: &Arc<Message>) -> Option<Acceptance> {
        let _ = message;
        None
    }

    /// The publisher of a QoS 2 message frees its packet id: what was noted of it goes. Resolves once that is on disk; the publisher must not be told before,
    /// since the next message under that packet id would be taken for this one and be lost. `None` when there is nothing to wait for.
    fn release(&self, exchange: ExchangeId) -> Option<Acceptance> {
        let _ = exchange;
        None
    }

    /// A session is over: none of its packet ids comes again.
    fn session_over(&self, session: i64) {
        let _ = session;
    }

    /// What it is called, where it is one of several.
    #[allow(clippy::unnecessary_literal_bound)] // an implementation's name is its own
    fn name(&self) -> &str {
        ""
    }

    /// Has a message told that another gateway's bridge brings. Calls `tell` once, with the moment at which it was fetched from that gateway, if
    /// it was before. What is fetched meanwhile is told afterwards: two ways that bring the same messages keep one order.
    fn told_in_order(&self, message: &Message, tell: &mut dyn FnMut(Option<Moment>)) {
        let _ = message;
        tell(None);
    }

    /// Whether a retained message may be kept under this topic. A command may not: it would be done again, and again.
    fn keeps(&self, _topic: &TopicName) -> bool {
        true
    }
}

/// Resolves with what was remembered, if anything was; or why that cannot be read.
pub type Recall = Pin<Box<dyn Future<Output = Result<Option<LineTotals>, Arc<str>>> + Send>>;

/// Resolves when something is on disk, or is not; whether it is.
pub type Remembered = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Remembers what counters have counted, over restarts.
pub trait Totals: Send + Sync + 'static {
    /// Reads what a sensor had counted.
    fn recall(&self, sensor: &SensorId) -> Recall;

    /// Writes what a sensor has counted in all. That it fails is told by whoever owns the file.
    fn remember(&self, sensor: &SensorId, totals: LineTotals) -> Remembered;
}

/// Resolves with the answer to a command.
pub type Answer = Pin<Box<dyn Future<Output = Ack> + Send>>;

/// Takes commands for actuators.
pub trait Commands: Send + Sync + 'static {
    /// Takes a message if its topic is one that takes commands. The future is ready once the command is committed or answered: what was
    /// acknowledged is then never done twice, and never without an answer. It is judged in the order of these calls, whoever polls.
    fn offer(&self, message: &Arc<Message>) -> Option<Acceptance>;

    /// Gives one actuator a command. `None` when there is no such actuator. The command is on its way when this returns.
    fn command(&self, actuator: &ActuatorId, command: Command) -> Option<Answer>;

    /// Whether a topic is one that takes commands: no broker of ours keeps what is published there.
    fn takes(&self, topic: &TopicName) -> bool;

    /// What a screen shows of the actuators, in the order of the config.
    fn actuators(&self) -> Vec<ActuatorView>;
}

/// Resolves when a piece of work on a store is committed; or with why it is not.
pub type ChoreDone = Pin<Box<dyn Future<Output = Result<ChoreReport, String>> + Send>>;

/// What there is to see of the gateway. Never blocks for long: nothing here waits for a disk or a peer.
pub trait Watch: Send + Sync + 'static {
    /// All of it, as it is.
    fn overview(&self) -> Overview;

    /// What happened after the event of this number, oldest first.
    fn events_after(&self, number: u64) -> Vec<Event>;

    /// Whether the gateway lives: every supervised part makes progress.
    fn alive(&self) -> HealthReport;

    /// Whether local clients are served. An unreachable cloud is no reason why not.
    fn ready(&self) -> HealthReport;

    /// Makes a bridge try at once. `false` when there is none of that id.
    fn reconnect(&self, bridge: &str) -> bool;

    /// Has one piece of work done on a bridge's store. `None` when there is no bridge of that id.
    fn chore(&self, bridge: &str, chore: Chore) -> Option<ChoreDone>;

    /// The local broker's clients whose id fits a pattern; `None` where the gateway runs no broker.
    fn clients(&self, pattern: &str) -> Option<ClientsOverview>;

    /// Ends a client's connection, or its session.
    ///
    /// # Errors
    /// Why it is not done.
    fn kick(&self, kick: &Kick) -> Result<KickReport, KickRefusal>;

    /// Who takes commands for actuators.
    fn commands(&self) -> Option<Arc<dyn Commands>>;

    /// The demo's stage, where there is one.
    fn stage(&self) -> Option<Arc<dyn Stage>>;
}

/// The demo's stage: a link that can be cut, and what is counted beyond it.
pub trait Stage: Send + Sync + 'static {
    /// What there is to see of it.
    fn view(&self) -> StageOverview;

    /// Cuts (`false`) or mends (`true`) the link.
    fn set_link(&self, whole: bool);
}

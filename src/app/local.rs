//! The local broker: the gateway's own, or one that is there already.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::warn;

use crate::broker::external::{Client, View};
use crate::broker::{Broker, BrokerError, Clients, Counters};
use crate::clock::Clock;
use crate::health::Health;
use crate::limits::COMMAND_NOTED;
use crate::model::Era;
use crate::model::overview::BrokerOverview;
use crate::plan::Plan;
use crate::ports::{LocalBus, Uplink};
use crate::store::StateDesk;

/// See the module.
pub(super) enum Local {
    /// The gateway's own.
    Embedded(Broker),
    /// One that is there already, and the gateway its client.
    External(Client),
}

/// What there is to see of it.
pub(super) enum LocalView {
    Embedded(Counters, Vec<SocketAddr>),
    External(View),
}

impl Local {
    /// # Errors
    /// [`BrokerError`] when the gateway's own cannot start. That another is out of reach is no error.
    pub(super) async fn start(
        plan: &Plan,
        uplink: Arc<dyn Uplink>,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
        desk: StateDesk,
    ) -> Result<Self, BrokerError> {
        Ok(match &plan.external {
            Some(external) => {
                let noted = recall(&desk).await;
                let notes = Box::new(move |text: String| {
                    // What cannot be noted costs at most a message twice, after another config: that `state.db` fails is told by its owner.
                    desk.write(move |state| state.note(SUBSCRIPTIONS, &text), drop);
                });
                Self::External(Client::start(external.clone(), uplink, clock, health, &noted, notes))
            }
            None => Self::Embedded(Broker::start(plan.broker.clone(), uplink, clock, health).await?),
        })
    }

    pub(super) fn link(&self) -> Arc<dyn LocalBus> {
        match self {
            Self::Embedded(broker) => broker.link(),
            Self::External(client) => client.link(),
        }
    }

    /// The first era of this life, where packet ids are kept over restarts.
    pub(super) fn first_era(&self) -> Option<Era> {
        match self {
            Self::Embedded(broker) => broker.first_era(),
            Self::External(_) => None,
        }
    }

    /// The one after that.
    pub(super) fn next_era(&self, now: i64) -> Option<Era> {
        match self {
            Self::Embedded(broker) => Some(broker.next_era(now)),
            Self::External(_) => None,
        }
    }

    /// Resolves with true once it is on disk that it is this one.
    pub(super) fn note_era(&self, era: i64) -> Option<impl Future<Output = bool> + Send + use<>> {
        match self {
            Self::Embedded(broker) => Some(broker.note_era(era)),
            Self::External(_) => None,
        }
    }

    /// Where it listens; empty where it is another's.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Embedded(broker) => broker.addresses(),
            Self::External(_) => Vec::new(),
        }
    }

    /// Its clients, for a person who asks; those of another's broker are not ours to tell.
    pub(super) fn clients(&self) -> Option<Clients> {
        match self {
            Self::Embedded(broker) => Some(broker.clients()),
            Self::External(_) => None,
        }
    }

    pub(super) fn view(&self) -> LocalView {
        match self {
            Self::Embedded(broker) => LocalView::Embedded(broker.counters(), broker.addresses()),
            Self::External(client) => LocalView::External(client.view()),
        }
    }

    /// Makes it what the plan says, as far as that can be done while it runs.
    ///
    /// # Errors
    /// [`BrokerError`] when something of the gateway's own cannot be had; then everything stays as it was.
    pub(super) async fn apply(&mut self, before: &Plan, plan: &Plan) -> Result<(), BrokerError> {
        match (self, &plan.external) {
            (Self::Embedded(broker), None) if plan.broker != before.broker || before.external.is_some() => {
                broker.apply(plan.broker.clone()).await
            }
            (Self::External(client), Some(external)) => {
                client.apply(external.clone());
                Ok(())
            }
            (Self::Embedded(_), None) => Ok(()),
            _ => {
                warn!(
                    "a change of `[broker] engine` takes effect at the next start; local clients stay where they are"
                );
                Ok(())
            }
        }
    }

    pub(super) async fn stop(self, budget: Duration) {
        match self {
            Self::Embedded(broker) => broker.stop(budget).await,
            Self::External(client) => client.stop(budget).await,
        }
    }
}

/// The name of the note.
const SUBSCRIPTIONS: &str = "external subscriptions";

/// What the gateway had subscribed to at a broker that is there already, as it was noted. A disk that hangs keeps nothing from starting.
async fn recall(desk: &StateDesk) -> String {
    let (tell, told) = oneshot::channel();
    desk.write(|state| state.noted(SUBSCRIPTIONS), move |outcome| drop(tell.send(outcome)));
    match tokio::time::timeout(COMMAND_NOTED, told).await {
        Ok(Ok(Ok(noted))) => noted.unwrap_or_default(),
        _ => String::new(),
    }
}

impl LocalView {
    pub(super) fn overview(&self) -> BrokerOverview {
        match self {
            Self::Embedded(counters, addresses) => {
                BrokerOverview { listen: addresses.iter().map(ToString::to_string).collect(), ..counters.read() }
            }
            Self::External(view) => view.read(),
        }
    }

    /// Why local clients are not served; `None` when they are.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Embedded(_, addresses) if addresses.is_empty() => Some("the local broker does not listen".into()),
            Self::Embedded(..) => None,
            Self::External(view) => view.trouble(),
        }
    }

    /// What needs a person although they are.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Embedded(..) => None,
            Self::External(view) => view.warning(),
        }
    }
}

//! What a bridge says of itself: its [`Status`], and the retained topic `bridge/<id>` (docs/topics.md).

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::core::Core;
use super::settings::Settings;
use super::{LinkState, Status};
use crate::limits::{STATE_TOLD, STATUS_EVERY};
use crate::model::time::rfc3339;
use crate::model::{Message, Moment, Origin, Qos, Timestamp};
use crate::ports::Publish;

/// Tells changes of state at once, and mere numbers now and then.
pub(super) struct Teller {
    status: watch::Sender<Status>,
    state: LinkState,
    since: Option<Timestamp>,
    reason: Option<String>,
    fault: Option<String>,
    /// State and reason as they were told last, and the number of records.
    told: Option<(LinkState, Option<String>, u64)>,
    told_at: Moment,
    counted_at: Moment,
}

impl Teller {
    pub(super) fn new(status: watch::Sender<Status>) -> Self {
        Self {
            status,
            state: LinkState::Connecting,
            since: None,
            reason: None,
            fault: None,
            told: None,
            told_at: Moment::ZERO,
            counted_at: Moment::ZERO,
        }
    }

    /// The link changed. A repeated failure keeps the time of the first.
    pub(super) fn link(&mut self, state: LinkState, reason: Option<String>, wall: Timestamp) {
        if state != self.state {
            self.since = Some(wall);
        }
        self.state = state;
        self.reason = reason;
    }

    /// Notes the store's fault; true when it is another than before.
    pub(super) fn fault_changed(&mut self, fault: Option<&str>) -> bool {
        let changed = self.fault.as_deref() != fault;
        self.fault = fault.map(str::to_owned);
        changed
    }

    /// When numbers that changed are due to be told.
    pub(super) fn due(&self, now: Moment) -> Option<Moment> {
        let told = self.told.as_ref().map(|(_, _, queued)| *queued);
        let counted = self.status.borrow().queued;
        (told != Some(counted) || now < self.counted_at + STATUS_EVERY)
            .then(|| if told == Some(counted) { self.counted_at + STATUS_EVERY } else { self.told_at + STATE_TOLD })
    }

    /// Tells what is due.
    pub(super) fn tell(
        &mut self,
        core: &Core,
        settings: &Settings,
        publish: &dyn Publish,
        now: Moment,
        wall: Timestamp,
    ) {
        let reason = match (&self.fault, &self.reason) {
            (Some(fault), None) => Some(format!("store: {fault}")),
            (Some(fault), Some(reason)) => Some(format!("{reason}; store: {fault}")),
            (None, reason) => reason.clone(),
        };
        let since = *self.since.get_or_insert(wall);
        let news = self.told.as_ref().is_none_or(|(state, told, _)| *state != self.state || *told != reason);
        if news || now >= self.counted_at + STATUS_EVERY {
            self.counted_at = now;
            let status = Status {
                state: self.state,
                since,
                reason: reason.clone(),
                queued: core.queued(),
                bytes: core.bytes(),
                delivered: core.delivered(),
                dropped: core.drops.total(),
            };
            self.status.send_if_modified(|current| {
                let changed = *current != status;
                *current = status;
                changed
            });
        }
        let queued = core.queued();
        let moved = self.told.as_ref().is_some_and(|(_, _, told)| *told != queued);
        if news || (moved && now >= self.told_at + STATE_TOLD) {
            self.told = Some((self.state, reason.clone(), queued));
            self.told_at = now;
            publish.publish(state_message(settings, self.state, since, reason, queued));
        }
    }
}

fn state_message(
    settings: &Settings,
    state: LinkState,
    since: Timestamp,
    reason: Option<String>,
    queued: u64,
) -> Message {
    let word = match state {
        LinkState::Offline => "offline",
        LinkState::Connecting => "connecting",
        LinkState::Online => "online",
    };
    let mut object = Map::new();
    object.insert("state".into(), word.into());
    object.insert("since".into(), rfc3339(since.unix_ms).into());
    if !since.synced {
        object.insert("tq".into(), "unsynced".into());
    }
    if let Some(reason) = reason {
        object.insert("reason".into(), reason.into());
    }
    object.insert("queued".into(), queued.into());
    let payload = Value::Object(object).to_string().into_bytes();
    Message::new(settings.state_topic.clone(), payload, Qos::AtLeastOnce, true, Origin::Gateway)
}

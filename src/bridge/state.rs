//! What a bridge says of itself: its [`Status`], and the retained topic `bridge/<id>` (docs/topics.md).

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::core::Core;
use super::settings::Settings;
use super::{LinkState, Status};
use crate::limits::{STATE_TOLD, STATUS_EVERY};
use crate::logic::drain::Drain;
use crate::logic::restamp;
use crate::model::time::rfc3339;
use crate::model::{Message, Moment, Origin, Qos, Timestamp};
use crate::ports::Publish;
use crate::store::Condition;

/// Tells changes of state at once, and mere numbers now and then.
pub(super) struct Teller {
    status: Arc<watch::Sender<Status>>,
    state: LinkState,
    since: Option<Timestamp>,
    reason: Option<String>,
    fault: Option<String>,
    /// State, reason and the store's condition as they were told last, and the number of records.
    told: Option<(LinkState, Option<String>, Condition, u64)>,
    told_at: Moment,
    counted_at: Moment,
    drain: Drain,
}

impl Teller {
    pub(super) fn new(status: Arc<watch::Sender<Status>>) -> Self {
        Self {
            status,
            state: LinkState::Connecting,
            since: None,
            reason: None,
            fault: None,
            told: None,
            told_at: Moment::ZERO,
            counted_at: Moment::ZERO,
            drain: Drain::default(),
        }
    }

    /// The link changed. A repeated failure keeps the time of the first.
    pub(super) fn link(&mut self, state: LinkState, reason: Option<String>, wall: Timestamp) {
        if state != self.state {
            self.since = Some(wall);
            self.drain.start_anew();
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

    /// When numbers that changed are due to be told; `None` while all that is known has been told.
    pub(super) fn due(&self, core: &Core) -> Option<Moment> {
        let counted = {
            let status = self.status.borrow();
            (status.queued, status.delivered, status.dropped, status.dead)
        };
        let status = (counted != (core.queued(), core.delivered(), core.drops.total(), core.dead()))
            .then(|| self.counted_at + STATUS_EVERY);
        let told = self.told.as_ref().is_some_and(|(_, _, _, queued)| *queued == core.queued());
        let topic = (!told).then(|| self.told_at + STATE_TOLD);
        [status, topic].into_iter().flatten().min()
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
        let link_reason = match (&self.reason, core.complaint()) {
            (None, complaint) => complaint,
            (Some(reason), _) => Some(reason.clone()),
        };
        let reason = match (&self.fault, &link_reason) {
            (Some(fault), None) => Some(format!("store: {fault}")),
            (Some(fault), Some(reason)) => Some(format!("{reason}; store: {fault}")),
            (None, reason) => reason.clone(),
        };
        let before = *self.since.get_or_insert(wall);
        let since = restamp::mended(before, wall);
        self.since = Some(since);
        // A time that has become known is news too.
        let condition = core.condition();
        let same = |(state, told, was, _): &(LinkState, Option<String>, Condition, u64)| {
            *state == self.state && *told == reason && *was == condition
        };
        let news = !self.told.as_ref().is_some_and(same) || since.synced != before.synced;
        if news || now >= self.counted_at + STATUS_EVERY {
            self.counted_at = now;
            let queued = core.queued();
            // While it is counted a queue grows without anything coming in.
            if self.state == LinkState::Online && core.is_counted() {
                self.drain.saw(queued, now);
            }
            let status = Status {
                state: self.state,
                since,
                reason: reason.clone(),
                queued,
                counting: !core.is_counted(),
                dead: core.dead(),
                bytes: core.bytes(),
                delivered: core.delivered(),
                dropped: core.drops.total(),
                causes: core.drops.by_cause(),
                oldest: if queued == 0 { None } else { core.oldest() },
                drain: self.drain.estimate(queued, now),
                condition,
                store: core.store(),
            };
            self.status.send_if_modified(|current| {
                let changed = *current != status;
                *current = status;
                changed
            });
        }
        let queued = core.queued();
        let moved = self.told.as_ref().is_some_and(|(_, _, _, told)| *told != queued);
        if news || (moved && now >= self.told_at + STATE_TOLD) {
            self.told = Some((self.state, reason.clone(), condition, queued));
            self.told_at = now;
            publish.publish(state_message(settings, self.state, since, reason, condition, core));
        }
    }
}

fn state_message(
    settings: &Settings,
    state: LinkState,
    since: Timestamp,
    reason: Option<String>,
    condition: Condition,
    core: &Core,
) -> Message {
    let mut object = Map::new();
    object.insert("state".into(), state.word().into());
    object.insert("since".into(), rfc3339(since.unix_ms).into());
    if !since.synced {
        object.insert("tq".into(), "unsynced".into());
    }
    if let Some(reason) = reason {
        object.insert("reason".into(), reason.into());
    }
    if condition != Condition::Ok {
        object.insert("store".into(), condition.word().into());
    }
    object.insert("queued".into(), core.queued().into());
    if !core.is_counted() {
        object.insert("counting".into(), true.into());
    }
    if core.dead() > 0 {
        object.insert("dead".into(), core.dead().into());
    }
    let payload = Value::Object(object).to_string().into_bytes();
    Message::new(settings.state_topic.clone(), payload, Qos::AtLeastOnce, true, Origin::Gateway)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::bridge::StoreFigures;
    use crate::bridge::core::tests::settings;
    use crate::clock::{Clock, FakeClock};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Publish for Heard {
        fn publish(&self, message: Message) {
            self.0.lock().unwrap().push(String::from_utf8(message.payload.to_vec()).unwrap());
        }
    }

    /// A teller with everything it looks at.
    struct Scene {
        _dir: tempfile::TempDir,
        clock: FakeClock,
        settings: Arc<Settings>,
        core: Core,
        teller: Teller,
        heard: Heard,
        status: watch::Receiver<Status>,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (settings, clock) = (Arc::new(settings(dir.path())), FakeClock::new(1_795_396_500_000));
            let core = Core::open(&settings, &clock).unwrap();
            let (state, reason) = (LinkState::Connecting, None);
            let start = Status {
                state,
                since: clock.wall(),
                reason,
                queued: 0,
                counting: false,
                dead: 0,
                bytes: 0,
                delivered: 0,
                dropped: 0,
                causes: Vec::new(),
                oldest: None,
                drain: None,
                condition: Condition::Ok,
                store: StoreFigures::default(),
            };
            let (sender, status) = watch::channel(start);
            let teller = Teller::new(Arc::new(sender));
            Self { _dir: dir, clock, settings, core, teller, heard: Heard::default(), status }
        }

        fn tell(&mut self) {
            let (now, wall) = (self.clock.now(), self.clock.wall());
            self.teller.tell(&self.core, &self.settings, &self.heard, now, wall);
        }
    }

    #[test]
    fn a_change_is_told_at_once_and_nothing_is_due_while_nothing_changes() {
        let mut scene = Scene::new();
        scene.tell();
        scene.teller.link(LinkState::Offline, Some("connection refused".into()), scene.clock.wall());
        scene.tell();
        assert_eq!(scene.teller.due(&scene.core), None);
        scene.tell();
        assert_eq!(
            *scene.heard.0.lock().unwrap(),
            [
                r#"{"state":"connecting","since":"2026-11-23T01:15:00.000Z","queued":0}"#,
                r#"{"state":"offline","since":"2026-11-23T01:15:00.000Z","reason":"connection refused","queued":0}"#
            ]
        );
        assert_eq!(scene.status.borrow().reason.as_deref(), Some("connection refused"));
    }

    #[test]
    fn a_state_from_before_the_clock_was_set_is_told_again_with_its_true_time_once() {
        let mut scene = Scene::new();
        scene.clock.set_wall(Timestamp { unix_ms: 20_000, synced: false, at: None });
        scene.tell();
        scene.clock.advance(std::time::Duration::from_secs(60));
        scene.clock.set_wall(Timestamp { unix_ms: 1_795_396_500_000, synced: true, at: None });
        scene.tell();
        scene.tell();
        assert_eq!(
            *scene.heard.0.lock().unwrap(),
            [
                r#"{"state":"connecting","since":"1970-01-01T00:00:20.000Z","tq":"unsynced","queued":0}"#,
                r#"{"state":"connecting","since":"2026-11-23T01:14:00.000Z","queued":0}"#
            ]
        );
    }
}

//! What there is to see of the running gateway, gathered where each part keeps it. Nothing is copied until somebody asks.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::bridge::{Nudge, Status};
use crate::broker::Clients;
use crate::clock::Clock;
use crate::health::Health;
use crate::logic::chronicle::Watched;
use crate::model::chore::Chore;
use crate::model::clients::{ClientsOverview, Kick, KickRefusal, KickReport};
use crate::model::overview::{
    BridgeOverview, BusOverview, DropOverview, Event, HealthReport, Overview, SensorOverview, ValueOverview,
};
use crate::model::{Moment, Timestamp, TopicName};
use crate::plan::Plan;
use crate::ports::{ChoreDone, Commands, Stage, Watch};
use crate::sensing::{Gallery, SensorView};
use crate::store::Condition;

use super::hub::Hub;
use super::local::LocalView;

/// See the module. The gateway hangs up new parts when it starts and with each reload.
pub(super) struct Board {
    clock: Arc<dyn Clock>,
    start: Moment,
    hub: Arc<Hub>,
    health: Arc<Health>,
    parts: RwLock<Parts>,
    stage: OnceLock<Arc<dyn Stage>>,
}

/// What hangs on the board.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) frame: Frame,
    pub(super) gallery: Gallery,
    pub(super) local: Option<LocalView>,
    pub(super) clients: Option<Clients>,
    pub(super) bridges: Vec<BridgePart>,
    pub(super) commands: Option<Arc<dyn Commands>>,
}

/// One bridge.
pub(super) struct BridgePart {
    pub(super) id: String,
    pub(super) url: String,
    pub(super) status: watch::Receiver<Status>,
    pub(super) nudge: Nudge,
}

/// What a plan says and the parts do not know themselves.
#[derive(Default)]
pub(super) struct Frame {
    gateway: String,
    /// Buses with their devices, in the order of the config.
    buses: Vec<(String, String)>,
}

impl Frame {
    pub(super) fn of(plan: &Plan) -> Self {
        let buses = plan.buses.iter().map(|bus| (bus.id().to_string(), bus.to_string()));
        Self { gateway: plan.gateway.to_string(), buses: buses.collect() }
    }

    /// The sensors by bus; a bus that nobody is on is not shown.
    fn buses(&self, views: &[SensorView], now: Moment) -> Vec<BusOverview> {
        let bus = |(id, device): &(String, String)| BusOverview {
            id: id.clone(),
            device: device.clone(),
            sensors: Vec::new(),
        };
        let mut buses: Vec<BusOverview> = self.buses.iter().map(bus).collect();
        for view in views {
            match buses.iter_mut().find(|bus| bus.id == view.bus.as_str()) {
                Some(bus) => bus.sensors.push(sensor(view, now)),
                None => buses.push(BusOverview {
                    id: view.bus.to_string(),
                    device: String::new(),
                    sensors: vec![sensor(view, now)],
                }),
            }
        }
        buses.retain(|bus| !bus.sensors.is_empty());
        buses
    }
}

fn sensor(view: &SensorView, now: Moment) -> SensorOverview {
    let unit = |name: &str| view.units.iter().find(|(value, _)| **value == *name).map(|(_, unit)| &**unit);
    SensorOverview {
        id: view.id.to_string(),
        driver: view.driver.to_owned(),
        values: view.values.iter().map(|sample| ValueOverview::of(sample, unit(&sample.name))).collect(),
        quality: SensorOverview::word(view.quality, view.at.is_some()).to_owned(),
        online: view.online,
        age_ms: view.at.map(|at| ms(now.since(at))),
        good: view.frames.good,
        bad: view.frames.bad,
        ignored: view.frames.ignored,
    }
}

impl BridgePart {
    /// What a person should know of its store. A restart would not help, so it is none of the reasons for one.
    fn warning(&self) -> Option<String> {
        let status = self.status.borrow();
        let Status { condition, reason, .. } = &*status;
        let because = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        (*condition != Condition::Ok)
            .then(|| format!("the store of bridge `{}` is {}{because}", self.id, condition.word()))
    }

    fn overview(&self, wall: Timestamp) -> BridgeOverview {
        let status = self.status.borrow().clone();
        // Between a clock that was set and one that was not there is no time that could be told.
        let oldest = status.oldest.filter(|oldest| oldest.synced == wall.synced);
        BridgeOverview {
            id: self.id.clone(),
            url: self.url.clone(),
            state: status.state.word().to_owned(),
            since_ms: status.since.unix_ms,
            reason: status.reason,
            queued: status.queued,
            counting: status.counting,
            dead: status.dead,
            bytes: status.bytes,
            oldest_ms: oldest.map(|oldest| u64::try_from(wall.unix_ms - oldest.unix_ms).unwrap_or(0)),
            drain_ms: status.drain.map(ms),
            delivered: status.delivered,
            dropped: status.causes.into_iter().map(|(cause, count)| DropOverview { cause, count }).collect(),
            store: status.condition.word().to_owned(),
            commits: status.store.commits,
            faults: status.store.faults,
            quarantined: status.store.quarantined,
            salvaged: status.store.salvaged,
            sessions_lost: status.store.sessions_lost,
        }
    }
}

impl Board {
    pub(super) fn new(hub: Arc<Hub>, health: Arc<Health>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let start = clock.now();
        Arc::new(Self { clock, start, hub, health, parts: RwLock::default(), stage: OnceLock::new() })
    }

    /// Hangs up other parts.
    pub(super) fn hang(&self, parts: Parts) {
        *self.parts.write().unwrap_or_else(PoisonError::into_inner) = parts;
    }

    /// The demo is on.
    pub(super) fn join_stage(&self, stage: Arc<dyn Stage>) {
        // There is one stage a process, and it is set before anybody looks.
        let _ = self.stage.set(stage);
    }

    fn parts(&self) -> std::sync::RwLockReadGuard<'_, Parts> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The topics whose messages are news for a person.
pub(super) fn watched(plan: &Plan) -> Vec<(TopicName, Watched)> {
    let mut topics = vec![(plan.event_topic.clone(), Watched::Events)];
    topics
        .extend(plan.bridges.iter().map(|bridge| (bridge.state_topic.clone(), Watched::Bridge(bridge.id.to_string()))));
    topics.extend(plan.sensors.iter().map(|sensor| {
        (sensor.publish.availability_topic.clone(), Watched::Availability(format!("sensor {}", sensor.id)))
    }));
    for actuator in &plan.actuators {
        let subject = format!("actuator {}", actuator.id);
        topics.extend([
            (actuator.topics.availability.clone(), Watched::Availability(subject.clone())),
            (actuator.topics.ack.clone(), Watched::Answers(subject.clone())),
            (actuator.topics.state.clone(), Watched::State(subject)),
        ]);
    }
    topics
}

impl Watch for Board {
    fn overview(&self) -> Overview {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let parts = self.parts();
        let broker = parts.local.as_ref().map(LocalView::overview).unwrap_or_default();
        let commands = parts.commands.as_ref();
        Overview {
            gateway: parts.frame.gateway.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_ms: wall.unix_ms,
            synced: wall.synced,
            uptime_ms: ms(now.since(self.start)),
            buses: parts.frame.buses(&parts.gallery.views(), now),
            actuators: commands
                .map(|commands| commands.actuators().iter().map(Into::into).collect())
                .unwrap_or_default(),
            bridges: parts.bridges.iter().map(|bridge| bridge.overview(wall)).collect(),
            broker,
            disk_written: disk_written(),
            stage: self.stage.get().map(|stage| stage.view()),
            events: self.hub.chronicle().after(0),
        }
    }

    fn events_after(&self, number: u64) -> Vec<Event> {
        self.hub.chronicle().after(number)
    }

    fn alive(&self) -> HealthReport {
        let verdict = self.health.verdict(self.clock.now());
        let late = verdict
            .late
            .iter()
            .map(|late| format!("`{}` has made no progress for {:.0} s", late.name, late.silent.as_secs_f64()));
        let parts = self.parts();
        let local = parts.local.as_ref().and_then(LocalView::warning);
        let warnings = parts.bridges.iter().filter_map(BridgePart::warning).chain(local).collect();
        HealthReport::of(&parts.frame.gateway, late.collect()).warning(warnings)
    }

    fn ready(&self) -> HealthReport {
        let parts = self.parts();
        let mut reasons = Vec::new();
        if !self.health.is_ready() {
            reasons.push("the gateway is starting or stopping".to_owned());
        }
        match &parts.local {
            Some(local) => reasons.extend(local.trouble()),
            None => reasons.push("the local broker does not listen".to_owned()),
        }
        HealthReport::of(&parts.frame.gateway, reasons)
    }

    fn reconnect(&self, bridge: &str) -> bool {
        let parts = self.parts();
        let found = parts.bridges.iter().find(|part| part.id == bridge);
        found.inspect(|part| part.nudge.reconnect_now()).is_some()
    }

    fn chore(&self, bridge: &str, chore: Chore) -> Option<ChoreDone> {
        let parts = self.parts();
        let found = parts.bridges.iter().find(|part| part.id == bridge)?;
        Some(found.nudge.chore(chore))
    }

    fn clients(&self, pattern: &str) -> Option<ClientsOverview> {
        // Nothing is locked while it is gathered: a reload must not wait for it.
        let clients = self.parts().clients.clone()?;
        Some(clients.list(pattern))
    }

    fn kick(&self, kick: &Kick) -> Result<KickReport, KickRefusal> {
        let clients = self.parts().clients.clone().ok_or(KickRefusal::NoBroker)?;
        clients.kick(kick)
    }

    fn commands(&self) -> Option<Arc<dyn Commands>> {
        self.parts().commands.clone()
    }

    fn stage(&self) -> Option<Arc<dyn Stage>> {
        self.stage.get().cloned()
    }
}

/// `write_bytes` of proc_pid_io(5): what this process has caused to be sent to disks, whoever keeps it in memory on the way.
fn disk_written() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

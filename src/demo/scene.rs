//! The stage: cloud, cable, gateway, and the two counters; what a person may do to them, and what there is to see.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::{Gateway, StartError};
use crate::bridge::{LinkState, Status};
use crate::clock::{Clock, SystemClock};
use crate::limits::{DEMO_DRAIN, DEMO_SEAT};
use crate::model::{Moment, TopicFilter};
use crate::mqtt::subscriber::Subscriber;
use crate::plan::{self, Environment, Plan};
use crate::ports::Stage;
use crate::sensing::SensorView;

use super::cloud::Cloud;
use super::count::{Tally, Totals};
use super::link::Link;
use super::props::Props;
use super::{DemoError, io};

/// The gateway's config, but for the two places that only a start knows.
const CONFIG: &str = include_str!("demo.toml");

/// The bridge's id in it.
pub(super) const BRIDGE: &str = "cloud";

/// Everything that runs.
pub(super) struct Scene {
    clock: Arc<dyn Clock>,
    start: Moment,
    cloud: Cloud,
    gateway: Gateway,
    bridge: watch::Receiver<Status>,
    props: Arc<Props>,
    below: Counter,
    listeners: JoinSet<()>,
    link: Link,
    // Last, so that it is removed after those who have files in it.
    dir: TempDir,
}

/// A tally that a subscriber fills.
#[derive(Clone)]
pub(super) struct Counter {
    tally: Arc<Mutex<Tally>>,
    seated: watch::Receiver<bool>,
}

/// What there is to see.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Time since the start.
    pub elapsed: Duration,
    /// The monotonic clock, to tell ages by.
    pub clock: Moment,
    /// Sensors, in the order of the config.
    pub sensors: Vec<SensorView>,
    /// What the bridge says of itself.
    pub bridge: Status,
    /// Whether the cable is whole.
    pub mended: bool,
    /// Whether the cloud runs.
    pub cloud_up: bool,
    /// Counted at the cloud.
    pub above: Totals,
    /// Counted at the local broker.
    pub below: Totals,
    /// Where the local broker listens.
    pub local: SocketAddr,
    /// Where the page is.
    pub page: Option<SocketAddr>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    told: u64,
    arrived: u64,
    missing: u64,
    doubled: u64,
    repeated: u64,
}

impl Verdict {
    /// Whether the promises held: nothing lost, no QoS 2 message twice.
    pub(super) fn is_clean(&self) -> bool {
        self.missing == 0 && self.doubled == 0 && self.told > 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, arrived, missing, doubled, repeated } = self;
        write!(
            f,
            "told below {told}, arrived at the cloud {arrived}: lost {missing}, QoS 2 doubled {doubled}, QoS 1 repeated {repeated}"
        )
    }
}

impl Scene {
    /// Sets the stage: the counter at the cloud sits before the gateway speaks.
    pub(super) async fn set() -> Result<Self, DemoError> {
        let clock = SystemClock::shared();
        let start = clock.now();
        let dir = tempfile::Builder::new()
            .prefix("tidegate-demo-")
            .tempdir()
            .map_err(io("make a directory for the store"))?;
        let cloud = Cloud::start(Arc::clone(&clock)).await?;
        let link = Link::lay(cloud.address()).await.map_err(io("lay the cable"))?;

        let mut listeners = JoinSet::new();
        let above = Counter::seat(&mut listeners, cloud.address(), "plants/demo/+");
        above.wait(true).await;

        let file = dir.path().join("tidegate.toml");
        let text = CONFIG
            .replace("@state@", &dir.path().join("state").display().to_string())
            .replace("@cloud@", &link.address().to_string());
        std::fs::write(&file, text).map_err(io("write the config"))?;
        let read = plan::read(&file, &Environment::of_process());
        let (mut plan, _) = read.map_err(|report| DemoError::Config(Box::new(report)))?;
        // The sensors begin once the counter below sits too.
        let (buses, sensors) = (std::mem::take(&mut plan.buses), std::mem::take(&mut plan.sensors));
        let mut gateway = start_gateway(&mut plan, &clock).await?;
        let props = Props::new(link.switch(), above);
        props.join(&gateway.watch());
        gateway.join_stage(Arc::clone(&props) as Arc<dyn Stage>);
        let below = Counter::seat(&mut listeners, gateway.addresses()[0], "tidegate/demo/+");
        below.wait(true).await;
        // Set once, here.
        let _ = props.below.set(below.clone());
        gateway.apply(Plan { buses, sensors, ..plan }).await?;

        let bridge = gateway.bridge_status().remove(0).1;
        Ok(Self { clock, start, cloud, gateway, bridge, props, below, listeners, link, dir })
    }

    /// What there is to see.
    pub(super) fn view(&self) -> View {
        let clock = self.clock.now();
        View {
            elapsed: clock.since(self.start),
            clock,
            sensors: self.gateway.sensor_views(),
            bridge: self.bridge.borrow().clone(),
            mended: self.is_mended(),
            cloud_up: self.cloud.is_up(),
            above: self.props.above.totals(),
            below: self.below.totals(),
            local: self.gateway.addresses()[0],
            page: self.gateway.page(),
        }
    }

    /// Cuts or mends the cable. A mended cable is tried at once, as when a network comes up.
    pub(super) fn set_link(&self, mended: bool) {
        self.props.set_link(mended);
    }

    /// Whether the cable is whole.
    pub(super) fn is_mended(&self) -> bool {
        self.props.view().link
    }

    /// Kills the cloud, or starts it again. Its counter takes its seat before the gateway may come back, or it would miss the first.
    pub(super) async fn toggle_cloud(&mut self) -> Result<(), DemoError> {
        if self.cloud.is_up() {
            self.cloud.kill().await;
            self.props.above.wait(false).await;
        } else {
            self.props.hold(true);
            self.cloud.restart().await?;
            self.props.above.wait(true).await;
            self.props.hold(false);
        }
        self.props.set_cloud(self.cloud.is_up());
        Ok(())
    }

    /// Stops the sensors, sees to it that the way is free, and waits until everything told below has arrived above, or for no longer than the limit.
    pub(super) async fn finish(&mut self) -> Result<Verdict, DemoError> {
        self.gateway.stop_sensors().await;
        if !self.cloud.is_up() {
            self.toggle_cloud().await?;
        }
        if !self.is_mended() {
            self.set_link(true);
        }
        let arrived = async {
            while self.missing() > 0 || self.bridge.borrow().queued > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // Past the limit, what is missing is called lost.
        let _ = tokio::time::timeout(DEMO_DRAIN, arrived).await;
        let (above, below) = (self.props.above.totals(), self.below.totals());
        Ok(Verdict {
            told: below.arrived,
            arrived: above.arrived,
            missing: self.missing(),
            doubled: above.doubled,
            repeated: above.repeated,
        })
    }

    fn missing(&self) -> u64 {
        let below = self.below.tally.lock().unwrap_or_else(PoisonError::into_inner);
        self.props.above.tally.lock().unwrap_or_else(PoisonError::into_inner).missing_of(&below)
    }

    /// Takes the stage down.
    pub(super) async fn strike(self) {
        let Self { gateway, mut cloud, mut listeners, link, dir, .. } = self;
        gateway.stop(std::future::pending()).await;
        listeners.shutdown().await;
        cloud.kill().await;
        drop((link, dir));
    }
}

/// Starts the gateway with its page at the usual port, or, where that is taken, at any.
async fn start_gateway(plan: &mut Plan, clock: &Arc<dyn Clock>) -> Result<Gateway, StartError> {
    match Gateway::start(plan.clone(), Arc::clone(clock)).await {
        Err(StartError::Http(_)) => {
            if let Some(page) = &mut plan.http {
                page.listen.set_port(0);
            }
            Gateway::start(plan.clone(), Arc::clone(clock)).await
        }
        outcome => outcome,
    }
}

/// Whether the bridge is connected, as one asks of a view.
impl View {
    pub(super) fn is_online(&self) -> bool {
        self.bridge.state == LinkState::Online
    }
}

impl Counter {
    /// Starts a subscriber at a broker, and with it the count.
    fn seat(listeners: &mut JoinSet<()>, address: SocketAddr, filter: &str) -> Self {
        #[derive(Deserialize)]
        struct Numbered {
            seq: u64,
        }

        let tally = Arc::new(Mutex::new(Tally::default()));
        let filter = TopicFilter::parse(filter).expect("the demo's filters are constants, and valid");
        let subscriber = Subscriber { address, client_id: "demo-counter".into(), filters: vec![filter] };
        let (seat, seated) = watch::channel(false);
        let count = Arc::clone(&tally);
        listeners.spawn(async move {
            subscriber
                .listen(&seat, |arrival| {
                    // What a broker kept from before is not an arrival.
                    if arrival.retained {
                        return;
                    }
                    if let Ok(Numbered { seq }) = serde_json::from_slice(arrival.payload) {
                        count.lock().unwrap_or_else(PoisonError::into_inner).take(arrival.topic, seq, arrival.qos);
                    }
                })
                .await;
        });
        Self { tally, seated }
    }

    /// Waits until the subscriber is (not) connected and subscribed.
    async fn wait(&self, seated: bool) {
        let mut state = self.seated.clone();
        // The limit is for a broker that never answers; the count then starts late, and shows it.
        let _ = tokio::time::timeout(DEMO_SEAT, state.wait_for(|now| *now == seated)).await;
    }

    /// Counted so far.
    pub(super) fn totals(&self) -> Totals {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).totals()
    }
}

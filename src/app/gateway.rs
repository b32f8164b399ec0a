//! The rooms, joined and running: start, reload and stop, in the order that loses nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::actuating::Actuating;
use crate::bridge::{self, Bridge, BridgeError, Status};
use crate::broker::BrokerError;
use crate::bus::gpio::Gpio;
use crate::clock::Clock;
use crate::health::{Health, Supervised};
use crate::http::{HttpError, Server};
use crate::limits::{
    PULSE_LIMIT_DISK, STOP_ACTUATORS, STOP_BRIDGES, STOP_BROKER, STOP_HTTP, STOP_PORTS, STOP_SENSORS, STOP_STATE,
};
use crate::logic::status;
use crate::model::BridgeId;
use crate::plan::Plan;
use crate::ports::{Commands, Publish, Stage, Uplink, Watch};
use crate::sensing::{Sensing, SensorView};
use crate::store::{StateFile, StoreError};

use super::board::{self, Board, BridgePart, Frame, Parts};
use super::eras::Eras;
use super::hub::Hub;
use super::link;
use super::local::Local;
use super::totals::KeptTotals;

/// Why the gateway cannot start, or cannot become what the new plan says.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The local broker.
    #[error("local broker: {0}")]
    Broker(#[from] BrokerError),
    /// A bridge.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The page.
    #[error("page: {0}")]
    Http(#[from] HttpError),
    /// What the gateway remembers.
    #[error("open `state.db`: {0}")]
    State(StoreError),
    /// The state directory.
    #[error("state directory `{path}`: {error}; set `[gateway] state_dir` to one that can be written")]
    StateDir {
        /// The directory.
        path: String,
        /// What the kernel said.
        error: std::io::Error,
    },
}

/// A running gateway.
pub struct Gateway {
    plan: Plan,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    hub: Arc<Hub>,
    local: Local,
    bridges: Vec<Running>,
    eras: Eras,
    links: Option<tokio::task::JoinHandle<()>>,
    sensing: Sensing,
    actuating: Actuating,
    state: StateFile,
    /// The place of the state's thread in the book.
    _state_supervised: Supervised,
    board: Arc<Board>,
    server: Server,
}

/// A bridge and what it was last told to be.
pub(super) struct Running {
    settings: bridge::Settings,
    pub(super) bridge: Bridge,
}

impl Gateway {
    /// Starts outputs, broker, bridges and sensors, in this order: an output is in its safe state before anybody can ask it for another, and a
    /// reading has somewhere to go before there is one.
    ///
    /// # Errors
    /// [`StartError`] when a port is taken or a store cannot be opened. What had started is stopped again.
    pub async fn start(plan: Plan, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        Self::begin(plan, clock, None).await
    }

    /// The same with inputs that are not the board's but on lines that the caller moves: what is timed from the edge on needs to make it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_lines(plan: Plan, clock: Arc<dyn Clock>, lines: Arc<dyn Gpio>) -> Result<Self, StartError> {
        Self::begin(plan, clock, Some(lines)).await
    }

    async fn begin(plan: Plan, clock: Arc<dyn Clock>, lines: Option<Arc<dyn Gpio>>) -> Result<Self, StartError> {
        make_state_dir(&plan)?;
        // First, and locked: a second process with the same directory must not come as far as the outputs.
        let health = Health::new();
        let state_supervised = health.enter("state", PULSE_LIMIT_DISK, clock.now());
        let (pulse, beats_by) = (state_supervised.pulse(), Arc::clone(&clock));
        let state = StateFile::open(&plan.state_dir, move || pulse.beat(beats_by.now())).map_err(StartError::State)?;
        let hub = Hub::new(Arc::clone(&clock));
        let publish = Arc::clone(&hub) as Arc<dyn Publish>;
        let mut sensing = Sensing::start(&[], &[], Arc::clone(&publish), Arc::clone(&clock), &health);
        if let Some(lines) = lines {
            sensing.use_lines(lines);
        }
        sensing.keep_totals(Arc::new(KeptTotals(state.desk())));
        let writes = sensing.writes();
        let mut actuating = Actuating::new(publish, Arc::clone(&clock), state.desk(), &health)
            .with_ports(move |bus| writes.writer(bus));
        // A port with an actuator is open before that is told its safe state.
        sensing.set_written(plan.written_ports());
        sensing.apply(&plan.buses, &[]).await;
        actuating.apply(&plan.actuators).await;
        hub.join_commands(actuating.commands());
        let uplink = Arc::clone(&hub) as Arc<dyn Uplink>;
        // Until the bridges are there.
        hub.hold_free();
        let local = match Local::start(&plan, uplink, Arc::clone(&clock), &health, state.desk()).await {
            Ok(local) => local,
            Err(error) => {
                actuating.stop(STOP_ACTUATORS).await;
                sensing.stop(STOP_PORTS).await;
                hub.leave_commands();
                close(state).await;
                return Err(error.into());
            }
        };
        hub.join_broker(local.link());
        hub.publish(status::status(&plan.status_topic, true));

        hub.chronicle().watch(board::watched(&plan));
        let board = Board::new(Arc::clone(&hub), Arc::clone(&health), Arc::clone(&clock));
        board.hang(Parts { frame: Frame::of(&plan), ..Parts::default() });
        let watch = Arc::clone(&board) as Arc<dyn Watch>;
        let served = Server::start(plan.http.clone(), &plan.control_socket, watch, Arc::clone(&clock), &health).await;
        let server = match served {
            Ok(server) => server,
            Err(error) => {
                actuating.stop(STOP_ACTUATORS).await;
                sensing.stop(STOP_PORTS).await;
                local.stop(STOP_BROKER).await;
                hub.leave_commands();
                close(state).await;
                return Err(error.into());
            }
        };

        let (bridges, links) = (Vec::new(), None);
        let mut gateway = Self {
            plan,
            clock,
            health,
            hub,
            local,
            bridges,
            eras: Eras::default(),
            links,
            sensing,
            actuating,
            state,
            _state_supervised: state_supervised,
            board,
            server,
        };
        let plan = gateway.plan.clone();
        if let Err(error) = gateway.apply_bridges(&plan).await {
            gateway.actuating.stop(STOP_ACTUATORS).await;
            gateway.sensing.stop(STOP_PORTS).await;
            gateway.server.stop(STOP_HTTP).await;
            gateway.local.stop(STOP_BROKER).await;
            gateway.hub.leave_commands();
            close(gateway.state).await;
            return Err(error);
        }
        gateway.actuating.open();
        gateway.sensing.apply(&plan.buses, &plan.sensors).await;
        gateway.show();
        info!(
            gateway = %plan.gateway,
            listen = ?gateway.local.addresses(),
            broker = plan.external.as_ref().map(|external| external.url.to_string()),
            page = gateway.page().map(|page| format!("http://{page}/")),
            sensors = plan.sensors.len(),
            actuators = plan.actuators.len(),
            bridges = plan.bridges.len(),
            "gateway is up"
        );
        gateway.health.set_ready(true);
        Ok(gateway)
    }

    /// Makes what runs equal to `plan`, touching only what differs.
    ///
    /// # Errors
    /// [`StartError`] when something new cannot be started; what ran before goes on.
    pub async fn apply(&mut self, plan: Plan) -> Result<(), StartError> {
        let outcome = self.follow(plan).await;
        self.show();
        outcome
    }

    async fn follow(&mut self, plan: Plan) -> Result<(), StartError> {
        make_state_dir(&plan)?;
        // What can fail comes first, and is taken back if something after it fails.
        self.local.apply(&self.plan, &plan).await?;
        let outcome = match self.server.apply(plan.http.clone()).await {
            Ok(()) => self.apply_bridges(&plan).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = outcome {
            self.take_back(&plan).await;
            return Err(error);
        }
        self.hub.chronicle().watch(board::watched(&plan));
        // An output that goes is told its safe state while its port is as it was; one that comes finds its port open, and its line free.
        self.actuating.leave(&plan.actuators).await;
        self.sensing.set_written(plan.written_ports());
        self.sensing.apply(&plan.buses, &plan.sensors).await;
        self.actuating.apply(&plan.actuators).await;
        if plan.state_dir != self.plan.state_dir {
            warn!("a change of the state directory takes effect for `state.db` at the next start");
        }
        if plan.status_topic != self.plan.status_topic {
            self.hub.publish(status::status(&self.plan.status_topic, false));
            self.hub.publish(status::status(&plan.status_topic, true));
        }
        if plan.control_socket != self.plan.control_socket {
            warn!("a change of the control socket's place takes effect at the next start");
        }
        self.plan = plan;
        Ok(())
    }

    /// Broker and page as they were before a reload that failed.
    async fn take_back(&mut self, plan: &Plan) {
        if let Err(error) = self.server.apply(self.plan.http.clone()).await {
            warn!(%error, "the page's settings of before cannot be put back");
        }
        if let Err(error) = self.local.apply(plan, &self.plan).await {
            warn!(%error, "the broker's settings of before cannot be put back");
        }
    }

    /// Hangs up what there is to see.
    fn show(&self) {
        let bridges = self.bridges.iter().map(|running| BridgePart {
            id: running.settings.id.to_string(),
            url: running.settings.url.to_string(),
            status: running.bridge.status(),
            nudge: running.bridge.nudge(),
        });
        self.board.hang(Parts {
            frame: Frame::of(&self.plan),
            gallery: self.sensing.gallery(),
            local: Some(self.local.view()),
            clients: self.local.clients(),
            bridges: bridges.collect(),
            commands: Some(self.commands()),
        });
    }

    /// New bridges are started before any running one is touched, since only a start can fail. One whose store moves is a new one.
    async fn apply_bridges(&mut self, plan: &Plan) -> Result<(), StartError> {
        fn same(a: &bridge::Settings, b: &bridge::Settings) -> bool {
            a.id == b.id && a.outbox.dir == b.outbox.dir
        }

        let mut started = Vec::new();
        for settings in &plan.bridges {
            if self.bridges.iter().any(|running| same(&running.settings, settings)) {
                continue;
            }
            match self.start_bridge(settings) {
                Ok(bridge) => started.push(bridge),
                Err(error) => {
                    stop_bridges(started).await;
                    return Err(error.into());
                }
            }
        }
        let mut gone = Vec::new();
        for mut running in std::mem::take(&mut self.bridges) {
            match plan.bridges.iter().find(|settings| same(&running.settings, settings)) {
                Some(settings) => {
                    if *settings != running.settings {
                        running.bridge.apply(settings.clone());
                        running.settings = settings.clone();
                    }
                    self.bridges.push(running);
                }
                None => gone.push(running),
            }
        }
        if !started.is_empty() || !gone.is_empty() || self.eras.is_none() {
            self.eras.begin(&self.local, &self.hub, &self.bridges, &started);
        }
        self.bridges.extend(started);
        self.hub.join_bridges(self.bridges.iter().map(|running| Arc::new(running.bridge.intake()) as Arc<dyn Uplink>));
        self.watch_links();
        stop_bridges(gone).await;
        Ok(())
    }

    /// Tells the actuators whether any bridge is online.
    fn watch_links(&mut self) {
        if let Some(before) = self.links.take() {
            before.abort();
        }
        let links = self.bridges.iter().map(|running| running.bridge.status()).collect();
        self.links = Some(tokio::spawn(link::watch(links, self.actuating.link())));
    }

    fn start_bridge(&self, settings: &bridge::Settings) -> Result<Running, BridgeError> {
        let publish = Arc::clone(&self.hub) as Arc<dyn Publish>;
        let bridge = Bridge::start(settings.clone(), publish, Arc::clone(&self.clock), &self.health)?;
        Ok(Running { settings: settings.clone(), bridge })
    }

    /// The plan it runs by.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where the local broker listens; empty where it is not the gateway's own.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.local.addresses()
    }

    /// Which parts there are, and whether each makes progress.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Where the page is; `None` where there is none.
    pub fn page(&self) -> Option<SocketAddr> {
        self.server.address()
    }

    /// What there is to see of it, for somebody who does not own it.
    pub fn watch(&self) -> Arc<dyn Watch> {
        Arc::clone(&self.board) as Arc<dyn Watch>
    }

    /// The demo's stage is set: the page shows it from here on.
    pub fn join_stage(&self, stage: Arc<dyn Stage>) {
        self.board.join_stage(stage);
    }

    /// Where messages from inside go in.
    pub fn publisher(&self) -> Arc<dyn Publish> {
        Arc::clone(&self.hub) as Arc<dyn Publish>
    }

    /// What each bridge says of itself.
    pub fn bridge_status(&self) -> Vec<(BridgeId, watch::Receiver<Status>)> {
        self.bridges.iter().map(|running| (running.settings.id.clone(), running.bridge.status())).collect()
    }

    /// Makes every bridge try at once: a person asked, or the network came up.
    pub fn reconnect_now(&self) {
        for running in &self.bridges {
            running.bridge.reconnect_now();
        }
    }

    /// Where commands are handed in.
    pub fn commands(&self) -> Arc<dyn Commands> {
        self.actuating.commands()
    }

    /// What each sensor said last.
    pub fn sensor_views(&self) -> Vec<SensorView> {
        self.sensing.views()
    }

    /// Stops the sensors and nothing else: what they have told goes on to the cloud.
    pub async fn stop_sensors(&mut self) {
        self.sensing.apply(&[], &[]).await;
        self.show();
    }

    /// Stops in stages, each with its budget (docs/house.md). When `hurry` resolves, the rest is cut short: what is committed stays committed.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        self.health.set_ready(false);
        let Self { plan, hub, local, bridges, links, mut sensing, actuating, state, server, mut eras, .. } = self;
        tokio::pin!(hurry);
        let hurried = tokio::select! {
            // The ports with actuators stay open: those are told their safe states next.
            _ = tokio::time::timeout(STOP_SENSORS, sensing.apply(&plan.buses, &[])) => false,
            () = &mut hurry => true,
        };
        // Whatever the hurry: an output that is let go of before it is safe may stay on for days.
        actuating.stop(STOP_ACTUATORS).await;
        sensing.stop(STOP_PORTS).await;
        if let Some(links) = links {
            links.abort();
        }
        eras.end();
        let stages = async {
            hub.publish(status::status(&plan.status_topic, false));
            stop_bridges(bridges).await;
        };
        let hurry = async {
            if !hurried {
                hurry.await;
            }
        };
        tokio::select! {
            () = stages => {}
            () = hurry => warn!("asked to stop a second time: what is waiting stays in the store"),
        }
        // The crossing keeps the stopped bridges: they refuse, and what they refuse is not acknowledged to its publisher.
        local.stop(STOP_BROKER).await;
        hub.leave_commands();
        close(state).await;
        server.stop(STOP_HTTP).await;
        info!("stopped");
    }
}

/// Closes what the gateway remembers. Whoever opens it next, in this process or another, finds it free.
async fn close(state: StateFile) {
    let closed = tokio::task::spawn_blocking(move || state.close());
    if tokio::time::timeout(STOP_STATE, closed).await.is_err() {
        warn!("the state was not closed in time");
    }
}

/// All at once, so that the budget is spent once however many bridges there are.
async fn stop_bridges(bridges: Vec<Running>) {
    let mut stopping = tokio::task::JoinSet::new();
    for running in bridges {
        stopping.spawn(running.bridge.stop(STOP_BRIDGES));
    }
    while stopping.join_next().await.is_some() {}
}

fn make_state_dir(plan: &Plan) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;

    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&plan.state_dir)
        .map_err(|error| StartError::StateDir { path: plan.state_dir.display().to_string(), error })
}

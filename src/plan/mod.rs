//! The plan: what the config says, resolved against the registries and checked as a whole. Nothing is opened to make one.

use std::path::PathBuf;
use std::sync::Arc;

use crate::bridge;
use crate::broker;
use crate::bus::SerialSettings;
use crate::drivers::StreamFactory;
use crate::logic::pipeline::SensorSettings;
use crate::logic::route::PublishSettings;
use crate::model::{BusId, GatewayId, SensorId, TopicName};
use crate::telemetry::LogSettings;

/// Everything the gateway is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Who this gateway is.
    pub gateway: GatewayId,
    /// `tidegate/<gateway>/status`.
    pub status_topic: TopicName,
    /// `tidegate/<gateway>/event`.
    pub event_topic: TopicName,
    /// Where the databases live: `[gateway] state_dir`, else systemd's `$STATE_DIRECTORY`, else `/var/lib/tidegate`.
    pub state_dir: PathBuf,
    /// The log.
    pub log: LogSettings,
    /// Serial ports.
    pub buses: Vec<SerialSettings>,
    /// Sensors.
    pub sensors: Vec<SensorPlan>,
    /// The local broker.
    pub broker: broker::Settings,
    /// The bridges.
    pub bridges: Vec<bridge::Settings>,
}

/// One sensor.
#[derive(Clone)]
pub struct SensorPlan {
    /// Who it is.
    pub id: SensorId,
    /// The bus it hangs on.
    pub bus: BusId,
    /// Name of its driver.
    pub driver: &'static str,
    /// The driver's own keys as canonical text: two equal texts make equal drivers.
    pub options: String,
    /// Makes its driver.
    pub factory: Arc<dyn StreamFactory>,
    /// What is done to its values.
    pub pipeline: SensorSettings,
    /// How it is published.
    pub publish: PublishSettings,
}

/// Whether a reload may leave the sensor running. The factory follows from driver and options.
impl PartialEq for SensorPlan {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.bus == other.bus
            && self.driver == other.driver
            && self.options == other.options
            && self.pipeline == other.pipeline
            && self.publish == other.publish
    }
}

impl std::fmt::Debug for SensorPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SensorPlan")
            .field("id", &self.id)
            .field("bus", &self.bus)
            .field("driver", &self.driver)
            .field("options", &self.options)
            .field("pipeline", &self.pipeline)
            .field("publish", &self.publish)
            .finish_non_exhaustive()
    }
}

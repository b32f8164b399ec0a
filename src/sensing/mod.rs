//! Joins buses, drivers and pipelines: one supervised task a bus, which turns what arrives into messages.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::SerialSettings;
use crate::clock::Clock;
use crate::model::{Moment, Quality, Sample, SensorId};
use crate::plan::SensorPlan;
use crate::ports::Publish;

/// The running sensors.
pub struct Sensing {}

/// What a screen shows of a sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorView {
    /// Who it is.
    pub id: SensorId,
    /// Values last told, processed.
    pub values: Vec<Sample>,
    /// Their quality.
    pub quality: Quality,
    /// When they were measured; `None` before the first.
    pub at: Option<Moment>,
    /// Availability; `None` before it is known.
    pub online: Option<bool>,
}

impl Sensing {
    /// Starts one task a bus. A port that is not there is no error: it is opened when it comes.
    pub fn start(
        _buses: &[SerialSettings],
        _sensors: &[SensorPlan],
        _publish: Arc<dyn Publish>,
        _clock: Arc<dyn Clock>,
    ) -> Self {
        Self {}
    }

    /// Makes what runs equal to the plan: a changed sensor restarts, an unchanged one on the same port does not miss a byte.
    pub async fn apply(&mut self, _buses: &[SerialSettings], _sensors: &[SensorPlan]) {}

    /// What each sensor said last, in the order of the plan.
    pub fn views(&self) -> Vec<SensorView> {
        Vec::new()
    }

    /// Stops reading and flushes; what has not ended after `budget` is cut off.
    pub async fn stop(self, _budget: Duration) {}
}

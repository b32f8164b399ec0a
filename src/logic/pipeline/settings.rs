//! What is done to a sensor's values.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::SENSOR_FIRST_READING;

/// Processing of one sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorSettings {
    /// What is done to each value that is named in the config; others pass as they are.
    pub values: Vec<ValueSettings>,
    /// Age from which the last reading is told again as `stale` and the sensor's availability becomes `offline`; `None`: never.
    pub max_age: Option<Duration>,
    /// How long the first good frame after the start may take before the sensor counts as offline.
    pub patience: Duration,
}

impl Default for SensorSettings {
    fn default() -> Self {
        Self { values: Vec::new(), max_age: None, patience: SENSOR_FIRST_READING }
    }
}

/// Processing of one value. The order is that of the fields: scale, offset, range, median, round, deadband.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ValueSettings {
    /// Name of the value, as the driver gives it.
    pub name: Arc<str>,
    /// Name it is published under; `None`: its own.
    pub rename: Option<Arc<str>>,
    /// Unit it is in, for people and for discovery; nothing is converted.
    pub unit: Option<Arc<str>>,
    /// Factor, applied first.
    pub scale: Option<f64>,
    /// Sum, applied after the factor.
    pub offset: Option<f64>,
    /// Where a good value lies. Outside, the quality is `range`, and the value enters no median.
    pub range: Option<Range>,
    /// Median over this many good values, odd, 3 to 31.
    pub median: Option<usize>,
    /// Digits after the decimal point, -9 to 9.
    pub round: Option<i32>,
    /// A change no larger than this since the value last told is not told. A reading is told whole, when any of its values is due, and a
    /// value without a deadband always is.
    pub deadband: Option<f64>,
    /// Told at least this often, deadband or not, as long as the device speaks.
    pub heartbeat: Option<Duration>,
}

impl ValueSettings {
    /// The name in payloads.
    pub fn published_name(&self) -> &Arc<str> {
        self.rename.as_ref().unwrap_or(&self.name)
    }

    /// Whether something is done to the value that only a number can bear.
    pub fn expects_a_number(&self) -> bool {
        self.scale.is_some()
            || self.offset.is_some()
            || self.range.is_some()
            || self.median.is_some()
            || self.round.is_some()
    }
}

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Least good value.
    pub min: f64,
    /// Greatest good value.
    pub max: f64,
}

//! A GPIO line that is on for a while and off by itself: a door opener, a latching relay, a reset button.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;

use super::line::{KEYS as LINE_KEYS, LinePlan};
use super::options::{duration, missing};
use super::{ActuatorFactory, ActuatorSpec, Device, Means, Way};
use crate::drivers::options::Fields;
use crate::limits::{PULSE_MAX, PULSE_MIN};
use crate::logic::command::Vocabulary;

/// The row in the table of actuators.
pub(super) const SPEC: ActuatorSpec = ActuatorSpec {
    name: "gpio-pulse",
    summary: "A GPIO line that is on for a set time and off by itself",
    example: "line = \"GPIO24\"\nlength = \"500ms\"\n",
    schema: || schemars::schema_for!(Options),
    build: |table| {
        let mut fields = Fields::new(table, &KEYS);
        let plan = LinePlan::decode(&mut fields);
        let is_written = fields.has("length");
        let length = duration(&mut fields, "length", PULSE_MIN, PULSE_MAX);
        if !is_written {
            missing(&mut fields, "length", "length = \"500ms\", how long it is on");
        }
        let mistakes = fields.finish();
        match (plan, length) {
            (Some(line), Some(length)) if mistakes.is_empty() => {
                Ok(Arc::new(GpioPulse { line, length }) as Arc<dyn ActuatorFactory>)
            }
            _ => Err(mistakes),
        }
    },
};

/// Keys of an actuator with `driver = "gpio-pulse"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// How long it is on, `10ms` to `60s`.
    length: String,
    /// The line by its name, such as `GPIO24`. Or `chip` and `offset`.
    line: Option<String>,
    /// Label of the line's chip; goes with `offset`.
    chip: Option<String>,
    /// The line's offset in its chip, from 0.
    offset: Option<u32>,
    /// Whether the actuator is on while the line's voltage is low. Default false.
    active_low: Option<bool>,
    /// `push-pull`, `open-drain` or `open-source`. Default `push-pull`.
    drive: Option<String>,
    /// What pulls at the line while nothing drives it: `as-is`, `disabled`, `pull-up`, `pull-down`. Default `as-is`.
    bias: Option<String>,
}

const KEYS: [&str; 7] = [LINE_KEYS[0], LINE_KEYS[1], LINE_KEYS[2], LINE_KEYS[3], LINE_KEYS[4], LINE_KEYS[5], "length"];

#[derive(Debug)]
struct GpioPulse {
    line: LinePlan,
    length: Duration,
}

impl ActuatorFactory for GpioPulse {
    fn means(&self) -> Means {
        Means::Line(self.line.line.clone())
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Pulse
    }

    fn repeatable(&self) -> bool {
        false
    }

    fn pulse(&self) -> Option<Duration> {
        Some(self.length)
    }

    fn make(&self, way: Way) -> Option<Box<dyn Device>> {
        self.line.make(way)
    }
}

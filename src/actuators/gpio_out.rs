//! A GPIO line that is on or off: a relay, a valve, a lamp.

use std::sync::Arc;

use super::line::{KEYS, LineOptions, LinePlan};
use super::{ActuatorFactory, ActuatorSpec, Device, Means, Way};
use crate::drivers::options::Fields;
use crate::logic::command::Vocabulary;

/// The row in the table of actuators.
pub(super) const SPEC: ActuatorSpec = ActuatorSpec {
    name: "gpio-out",
    summary: "A GPIO line that is on or off",
    example: "line = \"GPIO23\"\nactive_low = true\n",
    schema: || schemars::schema_for!(LineOptions),
    build: |table| {
        let mut fields = Fields::new(table, &KEYS);
        let plan = LinePlan::decode(&mut fields);
        let mistakes = fields.finish();
        match plan {
            Some(plan) if mistakes.is_empty() => Ok(Arc::new(GpioOut(plan)) as Arc<dyn ActuatorFactory>),
            _ => Err(mistakes),
        }
    },
};

#[derive(Debug)]
struct GpioOut(LinePlan);

impl ActuatorFactory for GpioOut {
    fn means(&self) -> Means {
        Means::Line(self.0.line.clone())
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Switch
    }

    fn make(&self, way: Way) -> Option<Box<dyn Device>> {
        self.0.make(way)
    }
}

//! A kernel device made of software: values that wander around where such a device's would be.

use std::sync::Arc;

use crate::drivers::{PolledDriver, SampleError};
use crate::model::{Sample, Value};

/// Wanders for each of its values.
pub(super) struct Wandering {
    values: Vec<(Arc<str>, f64, f64)>,
    random: fastrand::Rng,
}

impl Wandering {
    /// Values by name, each with where it starts.
    pub(super) fn new(values: impl IntoIterator<Item = (Arc<str>, f64)>, seed: u64) -> Self {
        let values = values.into_iter().map(|(name, middle)| (name, middle, 0.0)).collect();
        Self { values, random: fastrand::Rng::with_seed(seed) }
    }
}

impl PolledDriver for Wandering {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let mut samples = Vec::new();
        for (name, middle, drift) in &mut self.values {
            // Pulled back to the middle, so that it stays where such a value may be.
            *drift += (self.random.f64() - 0.5) * 0.02 - *drift * 0.05;
            let value = (*middle * (1.0 + *drift) * 1000.0).round() / 1000.0;
            samples.push(Sample { name: Arc::clone(name), value: Value::Number(value) });
        }
        Ok(samples)
    }

    fn reset(&mut self) {}
}

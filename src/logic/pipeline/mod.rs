//! From sample to reading: what is done to a value, in which order.

pub mod settings;

pub use settings::{Range, SensorSettings, ValueSettings};

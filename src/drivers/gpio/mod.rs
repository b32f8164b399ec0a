//! Lines of GPIO chips: inputs, and counters of their pulses.

pub mod counter;
pub mod input;
pub(crate) mod line;

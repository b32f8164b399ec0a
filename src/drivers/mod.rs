//! One file per kind of sensor, and the table of them all in `registry`.
//!
//! A driver is sans-I/O: it is fed what its bus received and answers with samples. It opens nothing and reads no clock.

pub mod framing;
mod options;
pub mod registry;
pub mod spec;
pub mod uart;

pub use spec::{DriverSpec, OptionsError, Outcome, StreamDriver, StreamFactory};

//! One file per kind of sensor, and the table of them all in `registry`.
//!
//! A driver opens nothing and reads no clock: it is fed what its bus received, or is handed a way to its bus, and answers with samples.

pub mod ads1115;
pub mod bme280;
pub mod framing;
pub mod gpio;
mod i2c;
pub mod i2c_map;
pub mod ina219;
pub mod kernel;
pub(crate) mod options;
pub mod presets;
pub mod registry;
pub mod sht3x;
pub mod spec;
pub mod uart;

pub use spec::{
    Build, Built, BusKind, Channel, DriverSpec, Factory, FilesFactory, I2cFactory, LineDriver, LineFactory,
    LineOutcome, OptionsError, Outcome, PolledDriver, SampleError, StreamDriver, StreamFactory,
};

//! One file per kind of actuator, and the table of them all in `registry`.
//!
//! An actuator opens nothing by itself and reads no clock: it is handed a way to its hardware, and sets and reads it when it is told.

mod gpio_out;
mod gpio_pulse;
mod i2c_write;
mod line;
mod options;
pub mod registry;
pub mod spec;
mod uart_write;

pub use i2c_write::{Chip, ChipKind};
pub use spec::{ActuatorFactory, ActuatorSpec, Built, Device, Means, Way};

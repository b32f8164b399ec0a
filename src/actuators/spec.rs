//! What a kind of actuator tells of itself, and what is asked of it.

use std::sync::Arc;
use std::time::Duration;

use super::i2c_write::Chip;
use crate::bus::SerialWriter;
use crate::bus::gpio::{Gpio, LineRef};
use crate::bus::i2c::{I2cHandle, Target};
use crate::drivers::OptionsError;
use crate::logic::command::Vocabulary;
use crate::model::Setting;

/// A row of the table of actuators.
pub struct ActuatorSpec {
    /// Name in `driver = "…"`.
    pub name: &'static str,
    /// One line for lists.
    pub summary: &'static str,
    /// An `[[actuator]]` block's own keys, as TOML, that build.
    pub example: &'static str,
    /// Schema of the kind's own keys.
    pub schema: fn() -> schemars::Schema,
    /// Decodes the kind's own keys. The table's positions survive, so an error is told at its place.
    pub build: fn(toml::de::DeTable<'_>) -> Built,
}

/// A factory, or every mistake in the keys.
pub type Built = Result<Arc<dyn ActuatorFactory>, Vec<OptionsError>>;

/// What an actuator hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// A GPIO line.
    Line(LineRef),
    /// One output of a chip on an I²C bus, declared under `[bus]`.
    I2c {
        /// The chip's 7-bit address.
        address: u8,
        /// The chip.
        chip: super::ChipKind,
        /// Number of the output, from 0.
        output: u8,
    },
    /// A serial port, declared under `[bus]`.
    Serial,
}

/// The way to what it hangs on.
pub enum Way {
    /// To GPIO lines, and under which name it holds one.
    Gpio(Arc<dyn Gpio>, String),
    /// To an I²C bus, and the chip that its other outputs share.
    I2c(I2cHandle, Arc<Chip>),
    /// To a serial port.
    Serial(SerialWriter),
}

/// Makes the devices of one actuator from checked options.
pub trait ActuatorFactory: Send + Sync + std::fmt::Debug {
    /// What it hangs on.
    fn means(&self) -> Means;
    /// The words it takes.
    fn vocabulary(&self) -> Vocabulary;
    /// Whether a command done twice is no more than done once.
    fn repeatable(&self) -> bool {
        true
    }
    /// How long its pulse is; `None` for one that stays as it is set.
    fn pulse(&self) -> Option<Duration> {
        None
    }
    /// Whether it can be asked what it is set to.
    fn readable(&self) -> bool {
        true
    }
    /// A fresh device; it touches nothing before it is told. `None` for a way of another kind.
    fn make(&self, way: Way) -> Option<Box<dyn Device>>;
    /// For an I²C chip: one made of software.
    fn simulated(&self) -> Option<Box<dyn Target>> {
        None
    }
}

/// An actuator's hardware. Its methods block for as long as that takes.
pub trait Device: Send {
    /// Sets it, taking hold of it first where that is still to do, and reads back what it is set to; `None` where that cannot be asked.
    ///
    /// # Errors
    /// Why that failed, in words; what it is set to is then unknown.
    fn set(&mut self, setting: &Setting) -> Result<Option<Setting>, String>;

    /// Reads back what it is set to, without changing it.
    ///
    /// # Errors
    /// As [`Self::set`].
    fn check(&mut self) -> Result<Option<Setting>, String>;
}

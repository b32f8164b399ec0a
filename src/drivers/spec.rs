//! What a driver tells of itself, and what is asked of it.
//!
//! There are as many kinds of driver as there are ways for a device to be heard: [`StreamDriver`] is fed what a serial port received,
//! [`PolledDriver`] is asked for a sample when one is due, [`LineDriver`] is told the edges of a line.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::gpio::{InputRequest, LineEdge};
use crate::bus::i2c::{I2cHandle, Pause, Target};
use crate::model::{LineTotals, Moment, Sample};

/// A row of the table of drivers (docs/house.md).
pub struct DriverSpec {
    /// Name in `driver = "…"`.
    pub name: &'static str,
    /// One line for lists.
    pub summary: &'static str,
    /// The values it always gives, with unit and range; empty where only its options tell.
    pub channels: &'static [Channel],
    /// A `[[sensor]]` block's own keys, as TOML, that build.
    pub example: &'static str,
    /// Schema of the driver's own keys.
    pub schema: fn() -> schemars::Schema,
    /// Decodes the driver's own keys. The table's positions survive, so an error is told at its place.
    pub build: Build,
}

impl DriverSpec {
    /// What it hangs on.
    pub fn bus(&self) -> BusKind {
        match self.build {
            Build::Stream(_) => BusKind::Serial,
            Build::I2c(_) => BusKind::I2c,
            Build::Files(_) => BusKind::Files,
            Build::Line(_) => BusKind::Line,
        }
    }

    /// A factory, or every mistake in the keys.
    ///
    /// # Errors
    /// Every mistake at its place.
    pub fn build(&self, options: toml::de::DeTable<'_>) -> Result<Factory, Vec<OptionsError>> {
        match self.build {
            Build::Stream(build) => build(options).map(Factory::Stream),
            Build::I2c(build) => build(options).map(Factory::I2c),
            Build::Files(build) => build(options).map(Factory::Files),
            Build::Line(build) => build(options).map(Factory::Line),
        }
    }
}

/// What a driver hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusKind {
    /// A serial port, declared under `[bus]`.
    Serial,
    /// An I²C bus, declared under `[bus]`.
    I2c,
    /// Files of the kernel's own drivers, below `/sys`.
    Files,
    /// A line of a GPIO chip.
    Line,
}

impl BusKind {
    /// What people call it.
    pub fn word(self) -> &'static str {
        match self {
            BusKind::Serial => "serial port",
            BusKind::I2c => "I²C bus",
            BusKind::Files => "kernel driver",
            BusKind::Line => "GPIO line",
        }
    }

    /// Whether a sensor names its bus: `bus = "…"`.
    pub fn is_declared(self) -> bool {
        matches!(self, BusKind::Serial | BusKind::I2c)
    }

    /// Whether its devices are asked, so that `every` says how often.
    pub fn is_polled(self) -> bool {
        matches!(self, BusKind::I2c | BusKind::Files)
    }
}

/// A value that a driver gives: name, unit as people write it, and what the device can measure at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Channel {
    /// Name of the value.
    pub name: &'static str,
    /// Unit (`°C`, `%`, `hPa`); empty where there is none.
    pub unit: &'static str,
    /// Least and greatest value by the device's datasheet. Outside, a value's quality is `range` unless the config says otherwise.
    pub range: (f64, f64),
}

impl Channel {
    /// A value from `min` to `max`, both included.
    pub const fn new(name: &'static str, unit: &'static str, min: f64, max: f64) -> Self {
        Self { name, unit, range: (min, max) }
    }
}

/// Decodes a driver's own keys, by what it hangs on.
pub enum Build {
    /// A serial port.
    Stream(fn(toml::de::DeTable<'_>) -> Built<dyn StreamFactory>),
    /// An I²C bus.
    I2c(fn(toml::de::DeTable<'_>) -> Built<dyn I2cFactory>),
    /// Files of the kernel.
    Files(fn(toml::de::DeTable<'_>) -> Built<dyn FilesFactory>),
    /// A GPIO line.
    Line(fn(toml::de::DeTable<'_>) -> Built<dyn LineFactory>),
}

/// A factory, or every mistake in the keys.
pub type Built<F> = Result<Arc<F>, Vec<OptionsError>>;

/// Makes drivers of one sensor.
#[derive(Clone)]
pub enum Factory {
    /// On a serial port.
    Stream(Arc<dyn StreamFactory>),
    /// On an I²C bus.
    I2c(Arc<dyn I2cFactory>),
    /// On files of the kernel.
    Files(Arc<dyn FilesFactory>),
    /// On a GPIO line.
    Line(Arc<dyn LineFactory>),
}

impl Factory {
    /// Names of the values the driver can yield, where the options tell; empty when only the wire does (JSON, key=value).
    pub fn channels(&self) -> Vec<Arc<str>> {
        match self {
            Factory::Stream(factory) => factory.channels(),
            Factory::I2c(factory) => factory.channels(),
            Factory::Files(factory) => factory.channels(),
            Factory::Line(factory) => factory.channels(),
        }
    }

    /// Units of those values, where the driver knows them.
    pub fn units(&self) -> Vec<(Arc<str>, Arc<str>)> {
        match self {
            Factory::Stream(_) | Factory::Line(_) => Vec::new(),
            Factory::I2c(factory) => factory.units(),
            Factory::Files(factory) => factory.units(),
        }
    }
}

/// A mistake in a driver's own keys: where (byte range in the source text), what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionsError {
    /// Byte range in the text the table was parsed from; `0..0` where nothing is written to point at (a missing key).
    pub span: std::ops::Range<usize>,
    /// A lower-case sentence without full stop.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

/// Makes drivers from checked options: one at start and one more at each restart of the sensor.
pub trait StreamFactory: Send + Sync {
    /// A fresh driver.
    fn make(&self) -> Box<dyn StreamDriver>;
    /// As [`Factory::channels`].
    fn channels(&self) -> Vec<Arc<str>>;
    /// A line that this driver takes, without its end, with `%` for each number; `None` where that cannot be told from the options.
    fn template(&self) -> Option<String>;
}

/// A driver of a bus that speaks by itself (UART): fed with bytes in the order they came, in pieces of any size.
pub trait StreamDriver: Send {
    /// Takes the next bytes; pushes what they complete.
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Outcome>);
    /// The port was closed or reopened: what was half received is gone.
    fn reset(&mut self);
    /// The bytes that follow may begin in the middle of a frame: the port was opened while its device was speaking.
    fn join_midway(&mut self);
}

/// What some bytes turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A frame that this driver takes, with its values.
    Samples(Vec<Sample>),
    /// A frame for somebody else: well formed, not matched. Counted, no fault.
    Ignored,
    /// Bytes that are no frame, or a frame whose values cannot be read. Counted, told once.
    Bad(String),
}

/// Makes drivers of an I²C device from checked options.
pub trait I2cFactory: Send + Sync {
    /// A fresh driver, which owns its way to the bus. It talks to nobody before the first sample.
    fn make(&self, i2c: I2cHandle, pause: Pause) -> Box<dyn PolledDriver>;
    /// The device's 7-bit address.
    fn address(&self) -> u8;
    /// As [`Factory::channels`].
    fn channels(&self) -> Vec<Arc<str>>;
    /// As [`Factory::units`].
    fn units(&self) -> Vec<(Arc<str>, Arc<str>)>;
    /// A device of this kind made of software: it answers as the real one would, with values that move as `seed` has it.
    fn simulated(&self, seed: u64) -> Box<dyn Target>;
}

/// Makes drivers that read what the kernel's own drivers show below `/sys`.
pub trait FilesFactory: Send + Sync {
    /// A fresh driver; `sys` is `/sys`, or a copy of it in a test.
    fn make(&self, sys: &Path) -> Box<dyn PolledDriver>;
    /// Devices whose reads may wait for each other: `w1`, `hwmon` or `iio`. Each has a thread of its own.
    fn group(&self) -> &'static str;
    /// As [`Factory::channels`].
    fn channels(&self) -> Vec<Arc<str>>;
    /// As [`Factory::units`].
    fn units(&self) -> Vec<(Arc<str>, Arc<str>)>;
    /// A driver without a device, with values that move as `seed` has it.
    fn simulated(&self, seed: u64) -> Box<dyn PolledDriver>;
}

/// A driver that measures when it is asked. It runs on its bus's own thread.
pub trait PolledDriver: Send {
    /// Measures once. Blocks for as long as the device takes.
    ///
    /// # Errors
    /// [`SampleError`]; half a measurement is none.
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError>;
    /// Something failed: the next sample sets the device up anew.
    fn reset(&mut self);
}

/// Makes drivers of a GPIO line from checked options.
pub trait LineFactory: Send + Sync {
    /// A fresh driver.
    fn make(&self) -> Box<dyn LineDriver>;
    /// As [`Factory::channels`].
    fn channels(&self) -> Vec<Arc<str>>;
    /// The line, and how it is wanted. Whoever asks for it fills in who they are.
    fn request(&self) -> InputRequest;
    /// How often its values are told when nothing happens, unless the config says otherwise.
    fn every(&self) -> Duration;
    /// Whether it counts something whose total outlives restarts.
    fn counts(&self) -> bool;
}

/// A driver of a line: told each edge, and the level whenever it asks for it.
pub trait LineDriver: Send {
    /// The line was taken, and is active or not.
    fn opened(&mut self, active: bool, now: Moment, out: &mut Vec<LineOutcome>);
    /// An edge.
    fn edge(&mut self, edge: &LineEdge, now: Moment, out: &mut Vec<LineOutcome>);
    /// The line was looked at: because the time came that [`Self::timeout`] had told, or just to be sure.
    fn level(&mut self, active: bool, now: Moment, out: &mut Vec<LineOutcome>);
    /// It is time to tell the values again.
    fn tell(&mut self, now: Moment, out: &mut Vec<LineOutcome>);
    /// When the line is to be looked at.
    fn timeout(&self) -> Option<Moment>;
    /// What it has counted.
    fn totals(&self) -> LineTotals;
    /// What earlier processes had counted is added.
    fn restore(&mut self, totals: LineTotals);
}

/// What a line turned out to say.
#[derive(Debug, Clone, PartialEq)]
pub enum LineOutcome {
    /// Values.
    Samples {
        /// The values.
        samples: Vec<Sample>,
        /// When they became true.
        at: Moment,
    },
    /// There are none, and why.
    Unread(String),
}

/// Why there is no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The bus itself is not there: none of its devices can be read.
    #[error("{0}")]
    Away(String),
    /// The device does not answer, or answers what cannot be.
    #[error("{0}")]
    Device(String),
}

impl From<crate::bus::i2c::I2cFault> for SampleError {
    fn from(fault: crate::bus::i2c::I2cFault) -> Self {
        if fault.is_away() { SampleError::Away(fault.to_string()) } else { SampleError::Device(fault.to_string()) }
    }
}

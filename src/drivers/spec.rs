//! What a driver tells of itself, and what is asked of it.

use std::sync::Arc;

use crate::model::Sample;

/// A row of the table of drivers (docs/house.md).
pub struct DriverSpec {
    /// Name in `driver = "…"`.
    pub name: &'static str,
    /// One line for lists.
    pub summary: &'static str,
    /// A `[[sensor]]` block's own keys, as TOML, that build.
    pub example: &'static str,
    /// Schema of the driver's own keys.
    pub schema: fn() -> schemars::Schema,
    /// Decodes the driver's own keys. The table's positions survive, so an error is told at its place.
    pub build: fn(toml::de::DeTable<'_>) -> Built,
}

/// A factory, or every mistake in the keys.
pub type Built = Result<Arc<dyn StreamFactory>, Vec<OptionsError>>;

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
    /// Names of the values the driver can yield, where the options tell; empty when only the wire does (JSON, key=value).
    fn channels(&self) -> Vec<Arc<str>>;
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

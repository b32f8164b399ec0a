//! What a driver measured, and what is made of it.

use std::sync::Arc;

use super::{SensorId, Timestamp};

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, kept exact (a counter beyond 2^53 must not lose its last digits).
    Integer(i64),
    /// A number. Never NaN and never infinite: a driver that meets those reports a failed read.
    Number(f64),
    /// A text.
    Text(Arc<str>),
    /// On or off, true or false.
    Flag(bool),
}

impl Value {
    /// The value as a number, where it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            // Lossy beyond 2^53 by nature of f64; arithmetic on such a counter is the user's choice.
            #[allow(clippy::cast_precision_loss)]
            Value::Integer(i) => Some(*i as f64),
            Value::Number(x) => Some(*x),
            Value::Text(_) | Value::Flag(_) => None,
        }
    }
}

/// Names in a payload that are the gateway's own beside the values. A device's value of that name is published with `_` behind it.
pub const OWN_NAMES: [&str; 4] = ["ts", "q", "tq", "seq"];

/// Levels below a sensor's topic that are the gateway's own: its availability, its commands and their answers. Where each value has a level,
/// they are as reserved as [`OWN_NAMES`].
pub const OWN_LEVELS: [&str; 3] = ["availability", "set", "ack"];

/// What a driver measured: one named value, before any processing.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the value within its sensor (`temperature`).
    pub name: Arc<str>,
    /// The value as measured.
    pub value: Value,
}

/// What a pulse counter has counted since it was first set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineTotals {
    /// Pulses.
    pub count: u64,
    /// Edges that happened and could not be told apart: they came faster than they could be kept.
    pub missed: u64,
}

/// Whether a value may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Quality {
    /// Fresh and in range.
    #[default]
    Good,
    /// Outside the range that was declared for it.
    Range,
    /// Older than its max age.
    Stale,
    /// The device does not answer or cannot be read.
    Fault,
}

impl Quality {
    /// The word in a payload's `q` (docs/topics.md); good is not said.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Quality::Good => None,
            Quality::Range => Some("range"),
            Quality::Stale => Some("stale"),
            Quality::Fault => Some("fault"),
        }
    }
}

/// Processed values of one sensor at one time, ready to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The sensor they are from.
    pub sensor: SensorId,
    /// When they were measured (not when they were sent).
    pub time: Timestamp,
    /// The values, in the order of the driver.
    pub values: Vec<Sample>,
    /// The worst quality among them.
    pub quality: Quality,
}

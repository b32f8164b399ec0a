//! Bytes to frames: how the pieces that a port delivers become whole frames again.

pub mod line;
pub mod nmea;

pub use line::{Frame, LineFramer, LineSettings};

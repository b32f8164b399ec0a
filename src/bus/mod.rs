//! Owns the file descriptors of the sensors' side.

pub mod settings;

pub use settings::{Device, Parity, SerialSettings};

//! How the gateway speaks of itself: its log, and its word to the service manager.

pub mod log;
pub mod notify;

pub use log::{LogFormat, LogSettings};

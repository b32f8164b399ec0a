//! How the gateway speaks of itself: its log, its word to the service manager, its own topics.

pub mod log;
pub mod notify;
pub mod status;

pub use log::{LogFormat, LogSettings};

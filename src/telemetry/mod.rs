//! How the gateway speaks of itself: its log, and its word to the service manager.

pub mod log;
pub mod notify;

pub use log::{LogFormat, LogSettings};

/// Whether standard error is to be coloured: where a person reads it and has not asked for none (no-color.org).
pub fn colours() -> bool {
    use std::io::IsTerminal as _;

    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

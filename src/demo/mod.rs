//! The gateway without hardware.

use std::process::ExitCode;
use std::time::Duration;

/// What the demo is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Ends by itself after this long; `None`: when told to.
    pub for_: Option<Duration>,
}

/// Runs the demo.
pub fn run(_options: Options) -> ExitCode {
    eprintln!("error: `demo` is not in this build");
    ExitCode::from(70)
}

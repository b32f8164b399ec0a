//! Parses the command line, runs it, turns the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    std::panic::catch_unwind(tidegate::cli::main).unwrap_or_else(|_| ExitCode::from(tidegate::exit::BUG))
}

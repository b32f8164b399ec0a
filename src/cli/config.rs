//! `tidegate config`: the config as it works, and what may be in one.

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::code::Code;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print every error number with its meaning (docs/errors.md)
    #[command(hide = true)]
    Errors,
}

impl Command {
    pub(super) fn run(&self) -> ExitCode {
        match self {
            Self::Errors => super::print(&Code::page()),
        }
    }
}

//! `tidegate outbox`: what waits for each cloud, record by record, and what a person may do about it.
//!
//! Looking is reading the store files, beside the running gateway or without one. What changes something is done by the file's owner: the
//! running gateway, asked piece by piece by its control socket, or, while none runs, this process.

mod look;
mod work;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::control::ControlError;
use super::{ConfigFile, duration};
use crate::bridge::Settings;
use crate::exit;
use crate::model::chore::Choice;
use crate::plan::{self, Environment, Plan, Secrets};
use crate::store::StoreError;
use crate::store::browse::Shelf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what waits for each cloud; from the store files while no gateway is running
    Status {
        #[command(flatten)]
        file: ConfigFile,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the records that wait for a cloud, oldest first
    List {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        shelf: ShelfArg,
        /// No more than so many
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: usize,
        /// With their payloads
        #[arg(long)]
        payload: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the records that wait for a cloud to a file, with their payloads, one JSON object a line; they stay in the store
    Export {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        shelf: ShelfArg,
        /// A new file, readable by its owner alone; else the standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Tell what was written as JSON; goes with --output
        #[arg(long, requires = "output")]
        json: bool,
    },
    /// Remove records from a store, never one that is in flight
    Purge {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        shelf: ShelfArg,
        /// Every one of them, where nothing else says which
        #[arg(long)]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Send dead letters again, which the cloud had refused for good
    Retry {
        #[command(flatten)]
        which: Which,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A bridge, and which of its records.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Id of the bridge; may be left out where there is one alone
    bridge: Option<String>,
    /// Numbers of records
    #[arg(long, value_name = "NUMBER", num_args = 1.., value_delimiter = ',')]
    seq: Vec<u64>,
    /// Topics at the cloud that this filter matches
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Accepted longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Args)]
pub(super) struct ShelfArg {
    /// Of the dead letters, which the cloud refused for good
    #[arg(long)]
    dead: bool,
}

impl ShelfArg {
    fn shelf(&self) -> Shelf {
        if self.dead { Shelf::Dead } else { Shelf::Waiting }
    }
}

/// Why a command ends early; told already, or to be told.
enum Failure {
    Told(ExitCode),
    Usage(String),
    Control(ControlError),
    Store { path: PathBuf, error: StoreError },
    Refused(String),
    Write(io::Error),
}

impl Failure {
    fn tell(self) -> ExitCode {
        let (text, code) = match self {
            Self::Told(code) => return code,
            Self::Control(error) => return error.tell(),
            Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe => return exit::code(exit::OK),
            Self::Write(error) => (format!("cannot write: {error}"), exit::IO),
            Self::Usage(text) => (text, exit::USAGE),
            Self::Store { path, error } => {
                let code = if error.is_in_use() { exit::UNAVAILABLE } else { exit::IO };
                (format!("`{}` cannot be worked on: {error}", path.display()), code)
            }
            Self::Refused(reason) => (reason, exit::FAILED),
        };
        eprintln!("error: {text}");
        exit::code(code)
    }
}

impl Command {
    pub(super) fn run(&self) -> ExitCode {
        let outcome = match self {
            Self::Status { file, json } => return look::status(&file.path, *json),
            Self::List { which, shelf, limit, payload, json } => {
                look::list(which, shelf.shelf(), *limit, *payload, *json)
            }
            Self::Export { which, shelf, output, json } => look::export(which, shelf.shelf(), output.as_deref(), *json),
            Self::Purge { which, shelf, all, yes, json } => work::purge(which, shelf.shelf(), *all, *yes, *json),
            Self::Retry { which, json } => work::retry(which, *json),
        };
        outcome.unwrap_or_else(Failure::tell)
    }
}

/// Which bridge is meant, and what the config says of it.
fn bridge_of(plan: Plan, which: &Which) -> Result<Settings, Failure> {
    super::bridge_of(plan.bridges, which.bridge.as_deref()).map_err(Failure::Usage)
}

fn plan_of(which: &Which) -> Result<Plan, Failure> {
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    plan::read(&which.file.path, &environment).map(|(plan, _)| plan).map_err(|report| {
        super::tell(&report);
        Failure::Told(exit::code(exit::CONFIG))
    })
}

fn choice(which: &Which) -> Choice {
    Choice {
        seqs: which.seq.clone(),
        topic: which.topic.clone(),
        older_ms: which.older_than.map(|older| u64::try_from(older.as_millis()).unwrap_or(u64::MAX)),
    }
}

//! What changes a store: purge and retry, done by the file's owner, piece by piece.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{Failure, Which, bridge_of, choice, plan_of};
use crate::cli::control::{ControlError, Daemon};
use crate::clock::{Clock as _, SystemClock};
use crate::exit;
use crate::limits::{CHORE_ROWS, CHORE_SEQS};
use crate::model::chore::{Choice, Chore, ChoreReport, Errand, Selection};
use crate::plan::Plan;
use crate::store::Outbox;
use crate::store::browse::{Browse, Shelf};

pub(super) fn purge(which: &Which, shelf: Shelf, all: bool, yes: bool, json: bool) -> Result<ExitCode, Failure> {
    let plan = plan_of(which)?;
    let chosen = choice(which);
    if (chosen == Choice::default()) != all {
        let text = if all {
            "--all goes with nothing that says which"
        } else {
            "which records? --seq, --topic, --older-than, or --all"
        };
        return Err(Failure::Usage(text.into()));
    }
    let errand = if shelf == Shelf::Dead { Errand::PurgeDead } else { Errand::Purge };
    if !yes {
        let (bridge, count) = work(plan_of(which)?, which, errand, true)?;
        let what = if shelf == Shelf::Dead { "dead letters" } else { "waiting records" };
        confirm(&format!("remove {count} {what} of `{bridge}`, which the cloud will then never get?"))?;
    }
    let (bridge, done) = work(plan, which, errand, false)?;
    if json {
        return Ok(crate::cli::print(&format!("{}\n", json!({ "bridge": bridge, "purged": done }))));
    }
    Ok(crate::cli::print(&format!("{done} records removed from `{bridge}`\n")))
}

pub(super) fn retry(which: &Which, json: bool) -> Result<ExitCode, Failure> {
    let (bridge, done) = work(plan_of(which)?, which, Errand::Retry, false)?;
    if json {
        return Ok(crate::cli::print(&format!("{}\n", json!({ "bridge": bridge, "retried": done }))));
    }
    Ok(crate::cli::print(&format!("{done} dead letters of `{bridge}` wait again\n")))
}

/// Asks a person; without one there must be `--yes`.
fn confirm(question: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{question} Say --yes")));
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(Failure::Write)?;
    if matches!(line.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::Told(exit::code(exit::FAILED))) }
}

/// Has an errand done to its end by whoever owns the store. Returns the bridge, and with how many records it was done.
fn work(plan: Plan, which: &Which, errand: Errand, dry_run: bool) -> Result<(String, u64), Failure> {
    if which.seq.len() > CHORE_SEQS {
        return Err(Failure::Usage(format!("at most {CHORE_SEQS} numbers at a time")));
    }
    let choice = choice(which);
    Selection::of(&choice).map_err(Failure::Usage)?;
    let found = Daemon::find(Some(&plan));
    let bridge = bridge_of(plan, which)?;
    let mut owner = match found {
        Ok(daemon) => Owner::Daemon(daemon, format!("/api/bridges/{}/outbox", bridge.id)),
        Err(ControlError::Nobody(_)) => match Owner::here(&bridge.store_path(), bridge.outbox.max_bytes)? {
            Some(owner) => owner,
            None => return Ok((bridge.id.to_string(), 0)),
        },
        Err(error) => return Err(Failure::Control(error)),
    };
    let mut chore = Chore { errand, choice, after: 0, dry_run };
    let mut done = 0;
    loop {
        let report = owner.ask(&chore)?;
        done += report.done;
        match report.next {
            // A piece that gets nowhere would be asked for without end.
            Some(next) if next > chore.after => chore.after = next,
            _ => break,
        }
    }
    owner.close()?;
    Ok((bridge.id.to_string(), done))
}

/// Who owns a store.
enum Owner {
    Daemon(Daemon, String),
    Here(PathBuf, Box<Outbox>),
}

impl Owner {
    /// This process, while no gateway runs; `None` when there is no store.
    fn here(path: &Path, max_bytes: u64) -> Result<Option<Self>, Failure> {
        let broken = |error| Failure::Store { path: path.to_owned(), error };
        // Only what there is, and is in order: what is damaged is the gateway's to set aside, which makes its new files as its own user.
        if Browse::open(path).map_err(broken)?.is_none() {
            return Ok(None);
        }
        let mut outbox = Outbox::open_sound(path, SystemClock.boot()).map_err(broken)?;
        outbox.keep_within(max_bytes).map_err(broken)?;
        Ok(Some(Self::Here(path.to_owned(), Box::new(outbox))))
    }

    fn ask(&mut self, chore: &Chore) -> Result<ChoreReport, Failure> {
        match self {
            Self::Daemon(daemon, path) => daemon.post(path, &json!(chore)).map_err(Failure::Control),
            Self::Here(_, outbox) => {
                let done = outbox.chore(chore, CHORE_ROWS, SystemClock.wall());
                done.map(|(report, _)| report).map_err(Failure::Refused)
            }
        }
    }

    fn close(self) -> Result<(), Failure> {
        match self {
            Self::Daemon(..) => Ok(()),
            Self::Here(path, outbox) => outbox.close().map_err(|error| Failure::Store { path, error }),
        }
    }
}

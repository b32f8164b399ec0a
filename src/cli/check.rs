//! `tidegate check`: every mistake at once, without starting anything.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, acl};
use crate::exit;
use crate::plan::{self, Environment, Plan, Secrets};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// Leave secrets, certificates and keys unread, for a machine that has none
    #[arg(long)]
    no_secrets: bool,
    #[command(flatten)]
    acl: acl::Acl,
    /// Tell it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Check) -> ExitCode {
    let path = &options.file.path;
    match options.acl.question() {
        Some(question) => acl::run(path, &question, options.json),
        None => check(path, options.no_secrets, options.json),
    }
}

fn check(path: &Path, no_secrets: bool, json: bool) -> ExitCode {
    let secrets = if no_secrets { Secrets::Ignored } else { Secrets::Checked };
    let environment = Environment { secrets, ..Environment::of_process() };
    let (plan, report) = match plan::read(path, &environment) {
        Ok((plan, report)) => (Some(plan), report),
        Err(report) => (None, report),
    };
    if json {
        let mut answer = report.to_json();
        answer["ok"] = plan.is_some().into();
        let printed = super::print(&format!("{answer:#}\n"));
        return if plan.is_some() { printed } else { exit::code(exit::CONFIG) };
    }
    super::tell(&report);
    match plan {
        Some(plan) => super::print(&format!("{}: {}\n", path.display(), summary(&plan))),
        None => exit::code(exit::CONFIG),
    }
}

fn summary(plan: &Plan) -> String {
    let count = |number: usize, what: &str, many: &str| format!("{number} {}", if number == 1 { what } else { many });
    format!(
        "ok; gateway `{}`, {}, {}, {}{}",
        plan.gateway,
        count(plan.buses.len(), "bus", "buses"),
        count(plan.sensors.len(), "sensor", "sensors"),
        count(plan.bridges.len(), "bridge", "bridges"),
        plan.external.as_ref().map_or_else(String::new, |external| format!("; local clients are at {}", external.url)),
    )
}

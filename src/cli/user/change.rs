//! `tidegate user add` and `passwd`: a change of the config file that is seen to be right before it is written.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::ask::{self, Times, Unanswered};
use super::replace::replace;
use super::{ConfigFile, hash};
use crate::cli::control::{ControlError, Daemon};
use crate::cli::{no_user, place};
use crate::config::edit::{self, Edit, UserText};
use crate::config::file::{Anonymous, User};
use crate::config::{self, Loaded, Report};
use crate::exit;
use crate::plan::{self, Environment, Plan, Secrets};

#[derive(Debug, Args)]
pub(in crate::cli) struct Add {
    /// User name, as clients give it
    name: String,
    /// A topic filter the user may publish to; may be given several times. The levels {user} and {client} stand for the connection's own
    /// names, {gateway} for this gateway
    #[arg(long, value_name = "FILTER")]
    publish: Vec<String>,
    /// A topic filter the user may subscribe to, likewise
    #[arg(long, value_name = "FILTER")]
    subscribe: Vec<String>,
    /// A topic filter the user may not publish to, though a wider one allows it, likewise
    #[arg(long, value_name = "FILTER")]
    deny_publish: Vec<String>,
    /// A topic filter whose messages the user is not sent, though a wider one allows it, likewise
    #[arg(long, value_name = "FILTER")]
    deny_subscribe: Vec<String>,
    /// Change no file: print the block to paste
    #[arg(long, conflicts_with = "reload")]
    print: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Passwd {
    /// User name
    name: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Have the running gateway read its config again; else it goes on by the old one until it is told
    #[arg(long)]
    reload: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{}", .0.render_with(crate::telemetry::colours(), "nothing was changed"))]
    Config(Report),
    #[error(
        "`{}` is laid out so that it cannot be changed without risk: write the user into it by hand (`tidegate user add --print`, `tidegate user hash`)",
        .0.display()
    )]
    Layout(PathBuf),
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    #[error("{0}")]
    Hash(String),
    #[error("`{}` cannot be replaced: {error}", .path.display())]
    Write { path: PathBuf, error: std::io::Error },
}

impl Failure {
    fn tell(&self) -> ExitCode {
        let code = match self {
            Self::Unanswered(unanswered) => return unanswered.tell(),
            Self::Usage(_) => exit::USAGE,
            Self::Config(_) => exit::CONFIG,
            Self::Layout(_) => exit::FAILED,
            Self::Hash(_) => exit::UNAVAILABLE,
            Self::Write { .. } => exit::IO,
        };
        // A report brings its own words and lines.
        if let Self::Config(_) = self {
            eprint!("{self}");
        } else {
            eprintln!("error: {self}");
        }
        exit::code(code)
    }
}

/// A hash to see with whether a change would be right, before anybody is asked for a password.
const STAND_IN: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$uAhhaZt1E7HF4yDVfS+Vpw$yLP/x9CYh6K8zT0g9SNpe/ZlbUIkzCGaNewkjMNajx8";

pub(super) fn add(add: &Add) -> ExitCode {
    added(add).unwrap_or_else(|failure| failure.tell())
}

pub(super) fn passwd(passwd: &Passwd) -> ExitCode {
    changed(passwd).unwrap_or_else(|failure| failure.tell())
}

fn added(add: &Add) -> Result<ExitCode, Failure> {
    sound(&add.name)?;
    let user = |hash: &str| UserText {
        name: add.name.clone(),
        hash: hash.to_owned(),
        publish: add.publish.clone(),
        subscribe: add.subscribe.clone(),
        deny_publish: add.deny_publish.clone(),
        deny_subscribe: add.deny_subscribe.clone(),
    };
    if add.print {
        check(config::load_text(Path::new("the block"), &user(STAND_IN).block()))?;
        return Ok(crate::cli::print(&user(&new_hash()?).block()));
    }
    let change = |before: &Loaded, hash: &str| {
        if let Some(there) = find(before, &add.name) {
            let text = format!(
                "user `{}` is there already, at {}; `tidegate user passwd` gives another password",
                add.name,
                place(&before.sources, there).unwrap_or_default()
            );
            return Err(Failure::Usage(text));
        }
        edit::add_user(before, &user(hash)).ok_or_else(|| Failure::Layout(add.how.file.path.clone()))
    };
    let done = make(&add.how.file.path, change)?;
    let mut told = format!("user `{}` is written to {}\n", add.name, done.place(&add.name));
    if add.publish.is_empty() && add.subscribe.is_empty() {
        told.push_str("it may do nothing yet: give it `publish` and `subscribe` there\n");
    }
    let broker = &done.before.file.broker;
    if broker.users.is_empty() && broker.anonymous.value == Anonymous::WithoutUsers {
        told.push_str("it is the first one: clients without a user name are not let in any more\n");
    }
    Ok(tell(&told, &done.plan, add.how.reload))
}

fn changed(passwd: &Passwd) -> Result<ExitCode, Failure> {
    let change = |before: &Loaded, hash: &str| {
        if find(before, &passwd.name).is_none() {
            let users = before.file.broker.users.iter();
            let known = users.filter_map(|user| user.name.as_ref()).map(|name| name.value.0.as_str());
            return Err(Failure::Usage(no_user(&passwd.name, known)));
        }
        let is_named = |user: &User| user.name.as_ref().is_some_and(|name| name.value.0 == passwd.name);
        if before.file.broker.users.iter().any(|user| is_named(&user.value) && user.hash.is_none()) {
            return Err(Failure::Usage(format!(
                "user `{}` has no password: who it is, a certificate says; for one as well, write a `hash` into its block (`tidegate user hash`)",
                passwd.name
            )));
        }
        edit::set_hash(before, &passwd.name, hash).ok_or_else(|| Failure::Layout(passwd.how.file.path.clone()))
    };
    let done = make(&passwd.how.file.path, change)?;
    let told = format!("the password of `{}` is changed in {}\n", passwd.name, done.place(&passwd.name));
    Ok(tell(&told, &done.plan, passwd.how.reload))
}

/// What was changed.
struct Done {
    before: Loaded,
    after: Loaded,
    plan: Plan,
}

impl Done {
    fn place(&self, name: &str) -> String {
        find(&self.after, name).and_then(|span| place(&self.after.sources, span)).unwrap_or_default()
    }
}

/// Sees whether the change would be right, asks for the password, makes the change.
fn make(config: &Path, change: impl Fn(&Loaded, &str) -> Result<Edit, Failure>) -> Result<Done, Failure> {
    proposed(config, |before| change(before, STAND_IN))?;
    let hash = new_hash()?;
    // Read anew: a person may take minutes to answer.
    let (edit, done) = proposed(config, |before| change(before, &hash))?;
    match replace(&edit.path, &edit.before, &edit.text) {
        Ok(None) => {}
        Ok(Some(error)) => eprintln!(
            "warning: `{}` is changed, and a power cut in the next moments may undo it: {error}",
            edit.path.display()
        ),
        Err(error) => return Err(Failure::Write { path: edit.path, error }),
    }
    Ok(done)
}

fn proposed(config: &Path, change: impl FnOnce(&Loaded) -> Result<Edit, Failure>) -> Result<(Edit, Done), Failure> {
    let before = config::load(config);
    if !before.is_readable() {
        return Err(Failure::Config(Report { sources: before.sources, problems: before.problems }));
    }
    let edit = change(&before)?;
    let after = config::load_with(config, &edit.path, &edit.text);
    if !edit.is_what_was_meant(&before, &after) {
        return Err(Failure::Layout(edit.path));
    }
    let plan = check(after.clone())?;
    Ok((edit, Done { before, after, plan }))
}

/// The whole config is judged, but for its secrets: a user hangs on none of them.
fn check(loaded: Loaded) -> Result<Plan, Failure> {
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    plan::plan(loaded, &environment).map(|(plan, _)| plan).map_err(Failure::Config)
}

fn new_hash() -> Result<String, Failure> {
    hash(&ask::password(Times::Twice)?).map_err(Failure::Hash)
}

fn sound(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Failure::Usage("a user name is not empty and has no control characters".into()));
    }
    Ok(())
}

fn find(loaded: &Loaded, name: &str) -> Option<config::Span> {
    let is_named = |user: &User| user.name.as_ref().is_some_and(|known| known.value.0 == name);
    // Where its block begins, as `user list` tells it.
    loaded.file.broker.users.iter().find(|user| is_named(&user.value)).map(|user| user.span)
}

/// Tells what was done, and takes it to the running gateway if that is wanted.
fn tell(told: &str, plan: &Plan, reload: bool) -> ExitCode {
    if !reload {
        return crate::cli::print(&format!(
            "{told}a running gateway learns of it by `systemctl reload tidegate`, or with `--reload`\n"
        ));
    }
    match Daemon::find(Some(plan)).and_then(|daemon| daemon.reload()) {
        Ok(process) => crate::cli::print(&format!("{told}the gateway, process {process}, was told to read it\n")),
        Err(error) => {
            crate::cli::print(told);
            match error {
                // It is not there to be told, and will read the file when it starts.
                ControlError::Nobody(_) => eprintln!("the file is changed, but {error}"),
                _ => eprintln!("the file is changed, and the gateway was not told: {error}"),
            }
            error.code()
        }
    }
}

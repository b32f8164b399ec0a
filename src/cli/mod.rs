//! The command line.

// Commands answer on the terminal: that is what they are for.
#![allow(clippy::print_stdout)]

mod acl;
mod bridge;
mod check;
mod clients;
pub mod config;
mod control;
mod drivers;
mod outbox;
pub mod presets;
mod read;
mod scan;
mod status;
pub mod systemd;
mod table;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::bridge::Settings;
use crate::config::diagnostic::help_of_names;
use crate::config::{Report, Sources, Span};
use crate::exit;

/// Where the config is unless told otherwise.
const DEFAULT_CONFIG: &str = "/etc/tidegate/tidegate.toml";

/// The command line as a whole.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about = "An MQTT edge gateway: sensors, a local broker, and a bridge that loses nothing while the link is down"
)]
#[command(after_help = exit_codes(), disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// With software in the place of every bus: no hardware is touched, and the readings are made up
        #[arg(long)]
        simulate: bool,
    },
    /// Try it without hardware, config or network
    Demo {
        /// Stop by itself after this long, and tell what arrived
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        for_: Option<Duration>,
        /// Plain lines, also on a terminal
        #[arg(long)]
        plain: bool,
    },
    /// Check the config and tell every mistake, or what it allows a client of the local broker; nothing is started
    Check(check::Check),
    /// What can be read, and how a sensor of each kind is configured
    Drivers {
        /// One of them, whole
        name: Option<String>,
        /// Tell it as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the clouds that are known, or what one takes
    Presets {
        /// Only this one, with its limits and an example
        name: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look what is there to be read, each with a block of config to paste
    Scan {
        /// Where to look
        what: scan::What,
        /// Tell it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read one sensor once, without the rest of the gateway
    Read {
        /// Id of the sensor
        sensor: String,
        #[command(flatten)]
        file: ConfigFile,
        /// Longest to wait for a sensor that speaks by itself
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "15s")]
        wait: Duration,
        /// Tell it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the config as it works, or what may be in one
    #[command(subcommand)]
    Config(config::Command),
    /// Show what the running gateway reads, holds and does
    Status {
        #[command(flatten)]
        file: ConfigFile,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show who is connected to the running gateway's local broker, and which sessions wait; show one out
    Clients(clients::Clients),
    /// Give an actuator of the running gateway a command, and tell its answer
    Set {
        /// The actuator's id
        actuator: String,
        /// What to set it to, such as `on`; or a whole command as JSON
        value: String,
        #[command(flatten)]
        file: ConfigFile,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What waits for the clouds: look, export, remove, send again
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// The way to a cloud
    #[command(subcommand)]
    Bridge(bridge::Command),
    /// Users of the local broker
    #[command(subcommand)]
    User(user::Command),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The config file
    #[arg(long = "config", short = 'c', value_name = "FILE", env = "TIDEGATE_CONFIG", default_value = DEFAULT_CONFIG)]
    path: PathBuf,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => {
            // `--help` and `--version` come this way too, and are no mistakes.
            let mistake = error.use_stderr();
            if error.print().is_err() {
                return exit::code(exit::IO);
            }
            exit::code(if mistake { exit::USAGE } else { exit::OK })
        }
    }
}

impl Cli {
    fn run(self) -> ExitCode {
        match self.command {
            Command::Run { file, simulate } => crate::app::run(&crate::app::Options { config: file.path, simulate }),
            Command::Demo { for_, plain } => crate::demo::run(crate::demo::Options { for_, plain }),
            Command::Check(options) => check::run(&options),
            Command::Drivers { name, json } => drivers::run(name.as_deref(), json),
            Command::Presets { name, json } => presets::run(name.as_deref(), json),
            Command::Scan { what, json } => scan::run(what, json),
            Command::Read { sensor, file, wait, json } => read::run(&file.path, &sensor, wait, json),
            Command::Config(command) => command.run(),
            Command::Status { file, json } => status::status(&file, json),
            Command::Clients(options) => clients::run(&options),
            Command::Set { actuator, value, file, json } => status::set(&file, &actuator, &value, json),
            Command::Outbox(command) => command.run(),
            Command::Bridge(command) => command.run(),
            Command::User(command) => command.run(),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::kinds::duration(text)
}

fn exit_codes() -> String {
    let lines = exit::TABLE.iter().map(|(code, meaning)| format!("  {code:>3}  {meaning}"));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// The bridge that is meant: by its id, or the only one; or what is wrong with that.
fn bridge_of(bridges: Vec<Settings>, id: Option<&str>) -> Result<Settings, String> {
    let names: Vec<String> = bridges.iter().map(|bridge| format!("`{}`", bridge.id)).collect();
    let (count, names) = (names.len(), names.join(", "));
    let found = bridges.into_iter().find(|bridge| id.map_or(count == 1, |id| bridge.id.as_str() == id));
    found.ok_or_else(|| match id {
        Some(id) => format!("there is no bridge `{}`; declared: {names}", id.escape_debug()),
        None if count == 0 => "the config declares no bridge".into(),
        None => format!("which bridge? Declared: {names}"),
    })
}

/// That there is no such user, and who there is.
fn no_user<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let known = help_of_names(name, known).unwrap_or_else(|| "the config declares none".into());
    format!("there is no user `{}`; {known}", name.escape_debug())
}

/// File and line of a place in the config.
fn place(sources: &Sources, span: Span) -> Option<String> {
    let source = sources.find(span)?;
    Some(format!("{}:{}", source.path.display(), source.line_column(span.start).0))
}

/// That users and their rights are not the gateway's to tell, since its local clients are at another's broker.
fn elsewhere(url: &str) -> String {
    format!("who may do what at `{url}` is said in that broker's own configuration")
}

/// Tells what is wrong with a config.
fn tell(report: &Report) {
    eprint!("{}", report.render(crate::telemetry::colours()));
}

/// Prints a text that may be long to a pipe that may be closed (`| head`): that is the reader's choice, not a failure.
fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => exit::code(exit::IO),
        _ => exit::code(exit::OK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_demo_takes_a_duration_with_unit() {
        assert!(Cli::try_parse_from(["tidegate", "demo", "--for", "30s"]).is_ok());
        assert!(Cli::try_parse_from(["tidegate", "demo", "--for", "30"]).is_err());
    }
}

//! `tidegate demo`: the whole chain without hardware, root or a config file.
//!
//! Simulated sensors on simulated ports, the gateway as it is, a second local broker as the cloud, and between the two a cable that can be cut.
//! A subscriber at the cloud counts what is lost and what comes twice.

mod cloud;
mod count;
mod link;
mod plain;
mod props;
mod scene;
mod screen;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use crate::exit;
use crate::limits::RUNTIME_THREADS;

/// How to show it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// How long; `None`: until a key or a signal ends it.
    pub for_: Option<Duration>,
    /// Plain lines also on a terminal.
    pub plain: bool,
}

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file, a port or the terminal.
    #[error("{what}: {error}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// The gateway or the cloud.
    #[error(transparent)]
    Start(#[from] crate::app::StartError),
    /// The log.
    #[error(transparent)]
    Log(#[from] crate::telemetry::log::LogError),
    /// The built-in config does not pass the gateway's own check.
    #[error("the demo's own config has mistakes")]
    Config(Box<crate::config::Report>),
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> DemoError {
    move |error| DemoError::Io { what, error }
}

/// A serial console is a terminal too, and its size is that of no screen: 0 by 0.
fn can_show_a_screen() -> bool {
    std::io::stdout().is_terminal()
        && std::io::stdin().is_terminal()
        && ratatui::crossterm::terminal::size().is_ok_and(|(columns, rows)| columns > 0 && rows > 0)
}

/// Shows the demo, on standard output. The exit status says whether anything was lost or doubled.
#[allow(clippy::print_stdout)]
pub fn run(options: Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let outcome = runtime.map_err(io("start threads")).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            if !options.plain && can_show_a_screen() {
                Box::pin(screen::show(options.for_)).await
            } else {
                Box::pin(plain::show(options.for_)).await
            }
        });
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(verdict) => {
            println!("{verdict}");
            exit::code(if verdict.is_clean() { exit::OK } else { exit::FAILED })
        }
        Err(error) => {
            if let DemoError::Config(report) = &error {
                eprint!("{}", report.render(false));
            }
            eprintln!("tidegate demo: {error}");
            exit::code(exit::UNAVAILABLE)
        }
    }
}

//! `tidegate bridge test`: the way to a cloud, walked once, beside the running gateway or without one.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::control::{ControlError, Daemon};
use super::{ConfigFile, table};
use crate::bridge::Settings;
use crate::bridge::probe::{self, Outcome, Step, TEST_SUFFIX, Who};
use crate::clock::SystemClock;
use crate::exit;
use crate::model::TopicName;
use crate::model::time::rfc3339;
use crate::plan::{self, Environment};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Walk the way to a cloud: name, TCP, TLS, WebSocket, CONNECT, subscriptions, an empty message; the first failure ends it
    Test(Test),
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Id of the bridge; may be left out where there is one alone
    bridge: Option<String>,
    /// Under the bridge's own client id, for a cloud that lets in no other; the gateway must not be running
    #[arg(long)]
    as_bridge: bool,
    /// Topic at the cloud for the empty message, instead of `test` beside the gateway's status
    #[arg(long, value_name = "TOPIC", conflicts_with = "as_bridge")]
    topic: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn run(&self) -> ExitCode {
        let Self::Test(test) = self;
        test.run().unwrap_or_else(|code| code)
    }
}

impl Test {
    fn run(&self) -> Result<ExitCode, ExitCode> {
        let refused = |code: u8, text: &str| {
            eprintln!("error: {text}");
            exit::code(code)
        };
        let topic = self.topic.as_deref().map(TopicName::parse).transpose();
        let topic = topic.map_err(|error| refused(exit::USAGE, &format!("--topic: {error}")))?;
        let (plan, _) = plan::read(&self.file.path, &Environment::of_process()).map_err(|report| {
            super::tell(&report);
            exit::code(exit::CONFIG)
        })?;
        if self.as_bridge {
            match Daemon::find(Some(&plan)) {
                Ok(_) => {
                    let text = "the gateway is running: under its client id, each would end the other's connection; stop it first";
                    return Err(refused(exit::UNAVAILABLE, text));
                }
                Err(ControlError::Nobody(_)) => {}
                // Whether one is running is not known.
                Err(error) => return Err(error.tell()),
            }
        }
        let bridges = plan.bridges;
        let settings = super::bridge_of(bridges, self.bridge.as_deref()).map_err(|text| refused(exit::USAGE, &text))?;
        if settings.limits.fixed_client_id && !self.as_bridge {
            let text = format!(
                "this cloud knows a device by its client id, and would take `{}{TEST_SUFFIX}` for another: stop the gateway and say --as-bridge",
                settings.client_id
            );
            return Err(refused(exit::USAGE, &text));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| refused(exit::UNAVAILABLE, &format!("cannot start: {error}")))?;
        let who = if self.as_bridge { Who::Bridge } else { Who::Test };
        if !self.json {
            super::print(&head(&settings, who));
        }
        let mut steps = Vec::new();
        let mut told = |step: Step| {
            if self.json {
                steps.push(to_json(&step));
            } else {
                super::print(&line(&step));
            }
        };
        let well = runtime.block_on(probe::walk(&settings, who, topic, &SystemClock, &mut told));
        // A thread may still be waiting for a name server.
        runtime.shutdown_background();
        if self.json {
            let (bridge, url) = (settings.id.as_str(), settings.url.to_string());
            super::print(&format!("{:#}\n", json!({ "bridge": bridge, "url": url, "ok": well, "stages": steps })));
        }
        Ok(exit::code(if well { exit::OK } else { exit::FAILED }))
    }
}

fn head(settings: &Settings, who: Who) -> String {
    let Settings { id, url, client_id, .. } = settings;
    let as_whom = match who {
        Who::Test => format!("`{client_id}{TEST_SUFFIX}`, beside the bridge"),
        Who::Bridge => format!("`{client_id}`, in the bridge's place"),
    };
    format!("bridge {id}: {url}, as {as_whom}\n")
}

fn line(step: &Step) -> String {
    let (word, what) = match &step.outcome {
        Outcome::Done(what) => ("ok", what),
        Outcome::Skipped(why) => ("-", why),
        Outcome::Failed(failure) => ("FAILED", &failure.reason),
    };
    let took_ms = step.took.as_secs_f64() * 1_000.0;
    let mut text = format!("{:<9}  {word:<6}  {took_ms:>8.1} ms  {}\n", step.stage.word(), table::plain(what));
    if let Outcome::Failed(failure) = &step.outcome
        && !failure.hint.is_empty()
    {
        let _ = writeln!(text, "{:>30}  {}", "hint:", table::plain(&failure.hint));
    }
    text
}

fn to_json(step: &Step) -> Value {
    let (outcome, what) = match &step.outcome {
        Outcome::Done(what) => ("ok", what),
        Outcome::Skipped(why) => ("skipped", why),
        Outcome::Failed(failure) => ("failed", &failure.reason),
    };
    let took_ms = (step.took.as_secs_f64() * 10_000.0).round() / 10.0;
    let mut told = json!({ "stage": step.stage.word(), "outcome": outcome, "took_ms": took_ms, "what": what });
    if let Outcome::Failed(failure) = &step.outcome {
        told["hint"] = failure.hint.as_str().into();
        if let Some(certificate) = &failure.certificate {
            told["certificate"] = json!({
                "subject": certificate.subject,
                "issuer": certificate.issuer,
                "not_before": rfc3339(certificate.not_before_ms),
                "not_after": rfc3339(certificate.not_after_ms),
                "names": certificate.names,
            });
        }
    }
    if !step.codes.is_empty() {
        let codes = step.codes.iter().map(|(filter, code)| json!({ "filter": filter.as_str(), "code": code }));
        told["subscriptions"] = codes.collect();
    }
    told
}

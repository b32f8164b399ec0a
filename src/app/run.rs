//! `tidegate run`: from a config file to an exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Map, Value};
use tracing::{error, info, warn};

use crate::clock::{self, Clock, SystemClock};
use crate::config::Report;
use crate::exit;
use crate::limits::{PULSE_EVERY, PULSE_LIMIT_DISK, RUNTIME_THREADS};
use crate::logic::daily::Daily;
use crate::logic::status;
use crate::model::Timestamp;
use crate::plan::{self, Dated, Environment, Plan};
use crate::telemetry::notify::Standing;
use crate::telemetry::{self, LogSettings, log, notify};

use super::gateway::{Gateway, StartError};
use super::signals::{Signals, Wish};
use super::watchdog;

/// What is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The config file.
    pub config: PathBuf,
    /// Whether every bus is made of software.
    pub simulate: bool,
}

impl Options {
    /// Puts software in the place of every bus, where that is asked for.
    fn adapt(&self, plan: &mut Plan) {
        if self.simulate {
            for sensor in plan.simulate() {
                warn!(%sensor, "sensor stays silent: no line can be made up for a regular expression or a checksum");
            }
        }
    }
}

/// Runs the gateway until it is asked to stop.
pub fn run(options: &Options) -> ExitCode {
    let mut plan = match plan::read(&options.config, &Environment::of_process()) {
        Ok((plan, warnings)) => {
            tell(&warnings, "");
            plan
        }
        Err(report) => {
            tell(&report, "nothing was started");
            return exit::code(exit::CONFIG);
        }
    };
    if let Err(error) = log::init(&plan.log) {
        eprintln!("tidegate: {error}");
        return exit::code(exit::UNAVAILABLE);
    }
    options.adapt(&mut plan);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("tidegate")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(live(options, plan));
            // A name look-up that hangs cannot be ended; it must not hold the process either.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => {
            error!(%error, "cannot start threads");
            exit::code(exit::UNAVAILABLE)
        }
    }
}

async fn live(options: &Options, plan: Plan) -> ExitCode {
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "cannot catch signals");
            return exit::code(exit::UNAVAILABLE);
        }
    };
    let clock = SystemClock::shared();
    let mut gateway = tokio::select! {
        started = Gateway::start(plan, Arc::clone(&clock)) => match started {
            Ok(gateway) => gateway,
            Err(error) => {
                error!(%error, "cannot start");
                return exit_of(&error);
            }
        },
        () = signals.stop() => return exit::code(exit::OK),
    };
    // A reload reads files and opens stores, which a slow card may hold up.
    let supervised = gateway.health().enter("reload", PULSE_LIMIT_DISK, clock.now());
    if let Err(error) = watchdog::start(gateway.health(), Arc::clone(&clock)) {
        error!(%error, "cannot start a thread");
        gateway.stop(signals.stop()).await;
        return exit::code(exit::UNAVAILABLE);
    }
    let mut told = standing(&gateway, None);
    let mut certificates = Daily::seen(clock.now());
    notify::ready(&told.to_string());
    loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::Stop => break,
                Wish::Reload => {
                    told = reload(&mut gateway, options, clock.as_ref()).await;
                    certificates = Daily::seen(clock.now());
                }
            },
            () = tokio::time::sleep(PULSE_EVERY) => {
                let now = standing(&gateway, told.note);
                if now != told {
                    notify::status(&now.to_string());
                    told = now;
                }
                if certificates.is_due(clock.now()) {
                    tell_certificates(gateway.plan().certificates.clone(), clock.wall());
                }
            }
        }
        supervised.pulse().beat(clock.now());
    }
    drop(supervised);
    info!("stopping");
    notify::stopping();
    gateway.stop(signals.stop()).await;
    exit::code(exit::OK)
}

/// Reads and checks the whole config before anything is touched; a mistake changes nothing (README.md, P10). Returns what was told of it.
async fn reload(gateway: &mut Gateway, options: &Options, clock: &dyn Clock) -> Standing {
    notify::reloading(clock::monotonic());
    let path = options.config.clone();
    // Reading files may block on a slow card.
    let read = tokio::task::spawn_blocking(move || plan::read(&path, &Environment::of_process())).await;
    let outcome = match read {
        Ok(Ok((mut plan, warnings))) => {
            tell(&warnings, "");
            options.adapt(&mut plan);
            let before = gateway.plan().log.clone();
            let outcome = gateway.apply(plan).await.map_err(|error| error.to_string());
            if outcome.is_ok() {
                follow(&before, &gateway.plan().log);
            }
            outcome
        }
        Ok(Err(report)) => {
            tell(&report, "what ran goes on");
            Err(report.count().unwrap_or_else(|| "the config has errors".into()))
        }
        Err(panic) => Err(panic.to_string()),
    };
    let told = match outcome {
        Ok(()) => {
            info!(sensors = gateway.plan().sensors.len(), bridges = gateway.plan().bridges.len(), "config reloaded");
            standing(gateway, None)
        }
        Err(reason) => {
            error!(%reason, "config not reloaded: what ran goes on");
            let mut particulars = Map::new();
            particulars.insert("reason".into(), Value::from(reason));
            let topic = &gateway.plan().event_topic;
            gateway.publisher().publish(status::event(topic, "reload-failed", clock.wall(), particulars));
            standing(gateway, Some("the config was not reloaded, see the log; what ran goes on"))
        }
    };
    notify::ready(&told.to_string());
    told
}

/// Makes the log what a new config says, as far as that can be done while it runs.
fn follow(before: &LogSettings, now: &LogSettings) {
    if let Err(error) = log::set_level(&now.level) {
        warn!(%error, "the log level stays as it was");
    }
    if now.format != before.format {
        warn!("a change of the log's format takes effect at the next start");
    }
}

/// Prints mistakes and warnings whole, on standard error: a log line cannot show a place in a file.
fn tell(report: &Report, consequence: &str) {
    eprint!("{}", report.render_with(telemetry::colours(), consequence));
}

/// Tells of certificates that expire soon; nobody waits for it.
fn tell_certificates(certificates: Vec<Dated>, wall: Timestamp) {
    // A slow card holds up a thread that may wait.
    tokio::task::spawn_blocking(move || {
        for told in certificates.iter().filter_map(|dated| dated.look(wall)) {
            warn!(certificate = %told, "a certificate is to be renewed");
        }
    });
}

/// How things stand; the note stays until the next reload.
fn standing(gateway: &Gateway, note: Option<&'static str>) -> Standing {
    let views = gateway.sensor_views();
    let bridges = gateway.bridge_status().into_iter().map(|(id, status)| {
        let status = status.borrow();
        (id.to_string(), status.state.word(), status.reason.clone())
    });
    Standing {
        note,
        sensors: views.len(),
        sensors_online: views.iter().filter(|view| view.online == Some(true)).count(),
        bridges: bridges.collect(),
    }
}

fn exit_of(error: &StartError) -> ExitCode {
    let io = match error {
        StartError::Broker(error) => error.is_io(),
        StartError::Bridge(error) => error.is_io(),
        StartError::State(error) => !error.is_in_use(),
        StartError::StateDir { .. } => true,
        StartError::Http(_) => false,
    };
    exit::code(if io { exit::IO } else { exit::UNAVAILABLE })
}

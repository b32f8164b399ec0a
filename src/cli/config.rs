//! `tidegate config`: the config as it works, and what may be in one.

use std::process::ExitCode;

use clap::Subcommand;

use super::ConfigFile;
use crate::actuators::registry::ACTUATORS;
use crate::bridge::{Settings, presets};
use crate::config::code::Code;
use crate::config::show::Resolved;
use crate::config::{self, reference, schema, show};
use crate::drivers::registry::DRIVERS;
use crate::exit;
use crate::plan::{self, Environment, Secrets};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the config as it works: defaults filled in and marked, password hashes masked
    Show {
        #[command(flatten)]
        file: ConfigFile,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a drop-in for the systemd unit: the devices, groups and credentials that this config needs, and no others
    Systemd {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Print a JSON Schema of the config, for editors
    Schema,
    /// Print the reference page (docs/config.md)
    #[command(hide = true)]
    Reference,
    /// Print every error number with its meaning (docs/errors.md)
    #[command(hide = true)]
    Errors,
}

impl Command {
    pub(super) fn run(&self) -> ExitCode {
        match self {
            Self::Show { file, json } => show(file, *json),
            Self::Systemd { file } => super::systemd::run(file),
            Self::Schema => super::print(&format!("{:#}\n", schema_of_all())),
            Self::Reference => super::print(&reference_page()),
            Self::Errors => super::print(&Code::page()),
        }
    }
}

/// `docs/config.md`.
pub fn reference_page() -> String {
    let drivers: Vec<_> = DRIVERS.iter().map(|spec| (spec.name, spec.summary, spec.example)).collect();
    reference::page(&drivers)
}

/// The JSON Schema of the config, drivers included.
pub fn schema_of_all() -> serde_json::Value {
    let sensors = DRIVERS.iter().map(|spec| (spec.name, (spec.schema)().to_value())).collect();
    let actuators = ACTUATORS.iter().map(|spec| (spec.name, (spec.schema)().to_value())).collect();
    schema::schema(&[("sensor", sensors), ("actuator", actuators)])
}

fn show(file: &ConfigFile, json: bool) -> ExitCode {
    let loaded = config::load(&file.path);
    let root = loaded.root.clone();
    let presets: Vec<String> = loaded.file.bridge.iter().map(|bridge| bridge.preset.value.0.clone()).collect();
    // What a config says does not hang on whether its secrets are at hand.
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    match plan::plan(loaded, &environment) {
        Ok((plan, report)) => {
            super::tell(&report);
            let in_service = std::env::var_os("STATE_DIRECTORY").is_some();
            let state_dir = plan.state_dir.display().to_string();
            let state_from = if in_service { "from $STATE_DIRECTORY" } else { "default" };
            let mut resolved = vec![
                Resolved::text("gateway.id", plan.gateway.as_str(), "from the host name"),
                Resolved::text("gateway.state_dir", &state_dir, state_from),
            ];
            // A plan has all the bridges of its file, in their order.
            for (nth, (preset, bridge)) in presets.iter().zip(&plan.bridges).enumerate() {
                resolved.extend(of_preset(nth, preset, bridge));
            }
            if json {
                super::print(&format!("{:#}\n", show::to_json(&root, &resolved)))
            } else {
                super::print(&show::to_toml(&root, &resolved))
            }
        }
        Err(report) => {
            super::tell(&report);
            exit::code(exit::CONFIG)
        }
    }
}

/// What stands in for keys of a bridge that the config leaves out, because of its preset.
fn of_preset(nth: usize, preset: &str, bridge: &Settings) -> Vec<Resolved> {
    let Some(preset) = presets::find(preset).filter(|preset| preset.name != presets::GENERIC) else {
        return Vec::new();
    };
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let version = preset.caps.versions.iter().find(|version| version.choice() == bridge.version);
    let alpn: Vec<String> = bridge.tls.iter().flat_map(|tls| &tls.alpn).map(|protocol| quoted(protocol)).collect();
    let values = [
        ("version", version.map(|version| quoted(version.word()))),
        ("window", preset.defaults.window.map(|_| bridge.window.to_string())),
        ("tls.alpn", (!alpn.is_empty()).then(|| format!("[{}]", alpn.join(", ")))),
        ("outbox.rate", bridge.outbox.rate.map(|rate| quoted(&rate.to_string()))),
    ];
    let told = values.into_iter().filter_map(|(key, value)| {
        let (path, reason) = (format!("bridge[{nth}].{key}"), format!("from preset {}", preset.name));
        value.map(|value| Resolved { path, value, reason })
    });
    told.collect()
}

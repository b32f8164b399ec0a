//! `tidegate config systemd`: a drop-in for the unit, which gives the service what this config needs of the machine and nothing more.
//!
//! systemd looks a device node up once, when the service starts, and skips one that is not there. So a bus that is part of the board is named
//! by the numbers that the kernel has for it for good (`/dev/char/89:1` is `/dev/i2c-1`), which needs no node, and what may be plugged in
//! later by its kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use super::{ConfigFile, DEFAULT_CONFIG};
use crate::bus::gpio::{Backend, LineRef};
use crate::bus::settings::{BusSettings, Device, I2cDevice};
use crate::exit;
use crate::plan::{self, Environment, Plan, Secrets};

/// Where `LoadCredential=` finds a secret, as the page about operating has it.
const SECRETS: &str = "/etc/tidegate/secrets";

/// What the unit hides from it (`ProtectHome=`, `PrivateTmp=`).
const CLOSED: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// The first port that any user may listen at, as the kernel comes (ip(7), `ip_unprivileged_port_start`).
const FREE_PORT: u16 = 1024;

/// Kinds of a USB adapter; its ids do not say which one it is.
const USB: [&str; 2] = ["char-ttyUSB", "char-ttyACM"];

/// Kinds of a port that is part of the board, where a name does not say which one.
const BOARD: [&str; 2] = ["char-ttyS", "char-ttyAMA"];

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    // What it needs does not hang on whether its secrets are there yet.
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    match plan::read(&file.path, &environment) {
        Ok((plan, report)) => {
            super::tell(&report);
            super::print(&drop_in(&plan, &file.path))
        }
        Err(report) => {
            super::tell(&report);
            exit::code(exit::CONFIG)
        }
    }
}

/// The drop-in of a plan that was made from this file.
pub fn drop_in(plan: &Plan, config: &Path) -> String {
    let needs = Needs::of(plan);
    let other =
        if config == Path::new(DEFAULT_CONFIG) { String::new() } else { format!(" --config {}", config.display()) };
    let mut text = format!(
        "# What this config needs of the machine, and nothing more. Another bus, line, secret, low port or state_dir in it: make this anew. As root:\n\
         #   mkdir -p /etc/systemd/system/tidegate.service.d\n\
         #   tidegate config systemd{other} >/etc/systemd/system/tidegate.service.d/50-config.conf\n\
         #   systemctl daemon-reload && systemctl restart tidegate\n\
         [Service]\n\
         # In place of the kinds that the unit itself opens.\n\
         DeviceAllow=\n"
    );
    for (device, told) in &needs.devices {
        let told: Vec<_> = told.iter().map(|told| told.escape_debug().to_string()).collect();
        let _ = writeln!(text, "# {}\nDeviceAllow={} rw", told.join(", "), in_unit(device));
    }
    text.push_str("# In place of the groups that the unit itself joins.\nSupplementaryGroups=\n");
    if !needs.groups.is_empty() {
        let groups: Vec<_> = needs.groups.iter().copied().collect();
        let _ = writeln!(text, "SupplementaryGroups={}", groups.join(" "));
    }
    let low: Vec<_> =
        listeners(plan).filter(|address| (1..FREE_PORT).contains(&address.port())).map(|low| low.to_string()).collect();
    if !low.is_empty() {
        let _ = writeln!(
            text,
            "# {}: below port {FREE_PORT}.\n\
             CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n\
             AmbientCapabilities=CAP_NET_BIND_SERVICE",
            low.join(", ")
        );
    }
    text.push_str(&state_elsewhere(&plan.state_dir));
    for name in plan.credentials.iter().map(|name| in_unit(name)) {
        let _ = writeln!(text, "LoadCredential={name}:{SECRETS}/{name}");
    }
    text
}

/// The right to write to the state directory, where that is not the unit's own.
fn state_elsewhere(state: &Path) -> String {
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    if state.starts_with(plan::STATE_DIR) && !state.components().any(|part| part == Component::ParentDir) {
        return String::new();
    }
    let path = state.display().to_string();
    let told = path.escape_debug();
    if CLOSED.iter().any(|closed| state.starts_with(closed)) {
        return format!(
            "# [gateway] state_dir, {told}, is where the unit lets the service see nothing: choose another place.\n"
        );
    }
    // systemd takes quotes and backslashes of a path otherwise than it takes those of a device.
    if path.contains(['"', '\'', '\\']) || path.contains(char::is_control) {
        return format!("# [gateway] state_dir, {told}, has characters that a unit cannot name: choose another one.\n");
    }
    format!(
        "# [gateway] state_dir, which has to be there and belong to the user tidegate.\nReadWritePaths=\"-{}\"\n",
        path.replace('%', "%%")
    )
}

/// Where the gateway listens.
fn listeners(plan: &Plan) -> impl Iterator<Item = SocketAddr> {
    // Where the broker is another program, its listeners are not ours.
    let broker = plan.external.is_none().then_some(&plan.broker);
    let plain = broker.into_iter().flat_map(|broker| broker.listen.iter().chain(&broker.websocket_listen));
    let tls = broker.and_then(|broker| broker.tls.as_ref());
    let tls = tls.into_iter().flat_map(|tls| tls.listen.iter().chain(&tls.websocket_listen));
    plain.chain(tls).copied().chain(plan.http.as_ref().map(|page| page.listen))
}

/// A text as a value in a unit: on one line, and no `%` of it means more than itself.
fn in_unit(text: &str) -> String {
    text.escape_debug().to_string().replace('%', "%%")
}

/// What a plan needs.
#[derive(Default)]
struct Needs {
    /// By what `DeviceAllow=` calls it: what of the config it is for.
    devices: BTreeMap<String, BTreeSet<String>>,
    /// Groups that own the devices, on Debian and Raspberry Pi OS.
    groups: BTreeSet<&'static str>,
}

impl Needs {
    fn of(plan: &Plan) -> Self {
        let mut needs = Self::default();
        for bus in &plan.buses {
            match bus {
                BusSettings::Serial(settings) => {
                    let devices = match &settings.device {
                        Device::Path(path) => of_port(path),
                        Device::Usb { .. } => USB.map(str::to_owned).into(),
                        Device::Simulated(_) | Device::Replay { .. } | Device::Templates(_) => continue,
                    };
                    needs.add(devices, "dialout", &format!("[bus.{}] {bus}", settings.id));
                }
                BusSettings::I2c(settings) => {
                    let I2cDevice::Path(path) = &settings.device else { continue };
                    needs.add(vec![of_i2c(path)], "i2c", &format!("[bus.{}] {bus}", settings.id));
                }
                // Lines are told below, those of outputs too; files are the kernel's, in /sys.
                BusSettings::Files(_) | BusSettings::Lines(_) => {}
            }
        }
        let simulated = plan
            .buses
            .iter()
            .any(|bus| matches!(bus, BusSettings::Lines(lines) if lines.gpio.backend == Backend::Simulated));
        for line in &plan.lines {
            if !simulated && !matches!(line, LineRef::Simulated(_)) {
                needs.add(vec!["char-gpiochip".into()], "gpio", &format!("line {line}"));
            }
        }
        needs
    }

    fn add(&mut self, devices: Vec<String>, group: &'static str, told: &str) {
        for device in devices {
            self.devices.entry(device).or_default().insert(told.to_owned());
        }
        self.groups.insert(group);
    }
}

/// The devices that a port's path may lead to.
fn of_port(path: &Path) -> Vec<String> {
    // A name that a rule of udev's made for one machine: what it leads to is seen only there.
    known_port(path)
        .or_else(|| known_port(&std::fs::canonicalize(path).ok()?))
        .unwrap_or_else(|| vec![path.display().to_string()])
}

/// The same for names that the kernel and systemd's own rules of udev give.
fn known_port(path: &Path) -> Option<Vec<String>> {
    let text = path.to_str()?;
    let owned = |kinds: &[&str]| Some(kinds.iter().map(|kind| (*kind).to_owned()).collect());
    if let Some(name) = text.strip_prefix("/dev/serial/") {
        // The port of an adapter is in the name only where it is made by one of the kernel's drivers for serial adapters.
        return match name {
            _ if !name.contains("usb-") => owned(&BOARD),
            _ if name.contains("-port") => owned(&USB[..1]),
            _ => owned(&USB[1..]),
        };
    }
    let name = text.strip_prefix("/dev/")?;
    let (kind, number) = name.split_at(name.find(|c: char| c.is_ascii_digit())?);
    let number: u32 = number.parse().ok()?;
    match kind {
        // The kernel's list of numbers that are given away for good, Documentation/admin-guide/devices.txt.
        "ttyS" if number < 192 => Some(vec![character(4, 64 + number)]),
        "ttyAMA" if number < 16 => Some(vec![character(204, 64 + number)]),
        "ttyUSB" => owned(&USB[..1]),
        "ttyACM" => owned(&USB[1..]),
        // What Raspberry Pi OS calls the ports of its header, wherever they lead to.
        "serial" => owned(&BOARD),
        _ if kind.starts_with("tty") => Some(vec![text.to_owned()]),
        _ => None,
    }
}

fn of_i2c(path: &Path) -> String {
    let number = |path: &Path| path.to_str()?.strip_prefix("/dev/i2c-")?.parse::<u32>().ok();
    let found: Option<u32> =
        number(path).or_else(|| number(&std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::new())));
    found.map_or_else(|| path.display().to_string(), |number| character(89, number))
}

/// How systemd writes a character device by its numbers.
fn character(major: u32, minor: u32) -> String {
    format!("/dev/char/{major}:{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(path: &str) -> String {
        of_port(Path::new(path)).join(" ")
    }

    #[test]
    fn a_port_of_the_board_is_told_by_its_numbers_and_an_adapter_by_its_kind() {
        assert_eq!(port("/dev/ttyS1"), "/dev/char/4:65");
        assert_eq!(port("/dev/ttyAMA0"), "/dev/char/204:64");
        assert_eq!(port("/dev/ttyAMA10"), "/dev/char/204:74");
        assert_eq!(port("/dev/ttyUSB3"), "char-ttyUSB");
        assert_eq!(port("/dev/ttyACM0"), "char-ttyACM");
        assert_eq!(port("/dev/serial0"), "char-ttyS char-ttyAMA");
        assert_eq!(port("/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"), "char-ttyUSB");
        assert_eq!(port("/dev/serial/by-id/usb-Arduino_Uno_7563-if00"), "char-ttyACM");
        assert_eq!(port("/dev/serial/by-path/platform-3f980000.usb-usb-0:1.2:1.0"), "char-ttyACM");
        assert_eq!(port("/dev/serial/by-path/platform-fe201000.serial"), "char-ttyS char-ttyAMA");
    }

    #[test]
    fn a_port_of_another_kind_is_told_by_its_path() {
        assert_eq!(port("/dev/ttymxc2"), "/dev/ttymxc2");
        assert_eq!(port("/dev/ttyS192"), "/dev/ttyS192");
        assert_eq!(port("/dev/meter-that-is-nowhere"), "/dev/meter-that-is-nowhere");
    }

    #[test]
    fn no_name_of_a_config_is_more_in_a_unit_than_a_name() {
        assert_eq!(in_unit("/dev/a\nExecStartPre=/b%n"), "/dev/a\\nExecStartPre=/b%%n");
    }

    #[test]
    fn a_link_that_leads_to_no_port_is_told_by_its_own_path() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("meter");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert_eq!(of_port(&link), [link.display().to_string()]);
        assert_eq!(of_i2c(Path::new("/dev/i2c-7")), "/dev/char/89:7");
    }
}

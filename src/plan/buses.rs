//! Buses.

use std::path::{Path, PathBuf};

use super::Planner;
use crate::bus::settings::{BusSettings, Device, I2cDevice, I2cSettings, Parity, Rs485Settings, Rts, SerialSettings};
use crate::bus::simulated::{self, Simulated};
use crate::config::code::Code;
use crate::config::file;
use crate::config::kinds::{SerialLine, Text};
use crate::config::{At, Problems, Span};
use crate::limits::SIMULATED_RATE_MAX;
use crate::model::BusId;

/// Buses that are there without being declared.
const OWN: [&str; 4] = ["gpio", "hwmon", "iio", "w1"];

/// The name of an I²C bus whose devices are made of software.
const SIMULATED_I2C: &str = "sim:i2c";

impl Planner<'_> {
    /// The declared buses.
    pub(super) fn buses(&mut self) -> Vec<BusSettings> {
        let mut buses = Vec::new();
        let mut devices: Vec<(String, Span)> = Vec::new();
        for (name, bus) in &self.file.bus.0 {
            let id = match BusId::parse(name) {
                Ok(id) => id,
                Err(error) => {
                    self.problems.error(Code::BadId, name.span, format!("the bus name `{}` {error}", name.value));
                    continue;
                }
            };
            if OWN.contains(&id.as_str()) {
                self.problems
                    .error(Code::ReservedId, name.span, format!("no bus can be named `{id}`"))
                    .label("a bus of the gateway itself");
                continue;
            }
            let Some(written) = &bus.device else { continue };
            let text = written.value.0.as_str();
            let is_i2c = match bus.kind.value {
                file::BusKind::Auto => text.starts_with("/dev/i2c-") || text == SIMULATED_I2C,
                file::BusKind::Serial => false,
                file::BusKind::I2c => true,
            };
            let settings = if is_i2c { self.i2c(id, bus, written) } else { self.serial(id, bus, written) };
            let Some(settings) = settings else { continue };
            let device = device_of(&settings);
            if let Some((_, first)) = devices.iter().find(|(known, _)| *known == device && !text.starts_with("sim:")) {
                self.problems
                    .error(Code::DeviceTwice, written.span, format!("`{text}` is on two buses"))
                    .label("used again here")
                    .and(*first, "used here first")
                    .help(if is_i2c {
                        "several sensors can share one bus: each has its address"
                    } else {
                        "several sensors can share one bus: each takes the lines that match it"
                    });
            }
            devices.push((device, written.span));
            buses.push(settings);
        }
        buses
    }

    fn serial(&mut self, id: BusId, bus: &file::Bus, written: &At<Text>) -> Option<BusSettings> {
        let folder = self.sources.directory(written.span).to_path_buf();
        let device = device(written, &folder, self.problems)?;
        let SerialLine { baud, data_bits, parity, stop_bits } = bus.serial.value;
        let parity = match parity {
            'E' => Parity::Even,
            'O' => Parity::Odd,
            _ => Parity::None,
        };
        let rs485 = bus.rs485.as_ref().map(|written| Rs485Settings {
            rts: match written.rts.value {
                file::Rts::OnSend => Rts::OnSend,
                file::Rts::AfterSend => Rts::AfterSend,
            },
            delay_before: written.delay_before.value.0,
            delay_after: written.delay_after.value.0,
        });
        Some(BusSettings::Serial(SerialSettings { id, device, baud, data_bits, parity, stop_bits, rs485 }))
    }

    fn i2c(&mut self, id: BusId, bus: &file::Bus, written: &At<Text>) -> Option<BusSettings> {
        // A default stands at its block's place.
        if bus.serial.span != bus.span {
            self.problems
                .error(Code::WrongBus, bus.serial.span, "an I²C bus has no `serial`")
                .label("for serial ports alone");
        }
        if let Some(rs485) = &bus.rs485 {
            self.problems
                .error(Code::WrongBus, rs485.span, "an I²C bus has no `rs485`")
                .label("for serial ports alone");
        }
        let text = written.value.0.as_str();
        if text == SIMULATED_I2C {
            return Some(BusSettings::I2c(I2cSettings { id, device: I2cDevice::Simulated }));
        }
        if text.starts_with('/') && !text.contains('\0') {
            return Some(BusSettings::I2c(I2cSettings { id, device: I2cDevice::Path(PathBuf::from(text)) }));
        }
        self.problems
            .error(Code::Malformed, written.span, format!("`{text}` names no I²C bus"))
            .label("expected a path such as /dev/i2c-1, or sim:i2c");
        None
    }
}

/// What must not be on two buses.
fn device_of(settings: &BusSettings) -> String {
    match settings {
        BusSettings::Serial(settings) => settings.device.to_string(),
        BusSettings::I2c(settings) => settings.device.to_string(),
        BusSettings::Files(settings) => settings.id.to_string(),
        BusSettings::Lines(settings) => settings.id.to_string(),
    }
}

/// Reads `device`.
fn device(text: &At<Text>, folder: &Path, problems: &mut Problems) -> Option<Device> {
    let written = text.value.0.as_str();
    if let Some(file) = written.strip_prefix("replay:") {
        return replay(text, file, folder, problems);
    }
    if let Some(name) = written.strip_prefix("sim:") {
        return match Simulated::new(name) {
            Ok(_) => Some(Device::Simulated(name.to_owned())),
            Err(error) => {
                let known = simulated::NAMES.iter().map(|(name, _)| *name);
                problems.error(Code::Malformed, text.span, error.to_string()).suggest(name, known);
                None
            }
        };
    }
    if let Some(ids) = written.strip_prefix("usb:") {
        let mut parts = ids.splitn(3, ':');
        let mut hex = || parts.next().filter(|id| id.len() == 4).and_then(|id| u16::from_str_radix(id, 16).ok());
        if let (Some(vendor), Some(product)) = (hex(), hex()) {
            let serial = parts.next().filter(|serial| !serial.is_empty()).map(str::to_owned);
            return Some(Device::Usb { vendor, product, serial });
        }
        problems
            .error(Code::Malformed, text.span, format!("`{written}` names no USB adapter"))
            .label("expected usb:VENDOR:PRODUCT[:SERIAL], each id four hexadecimal digits as `lsusb` prints them");
        return None;
    }
    if written.starts_with('/') && !written.contains('\0') {
        return Some(Device::Path(PathBuf::from(written)));
    }
    problems
        .error(Code::Malformed, text.span, format!("`{written}` names no port"))
        .label("expected a path such as /dev/serial/by-id/…, usb:VENDOR:PRODUCT[:SERIAL], sim:NAME or replay:FILE");
    None
}

/// Reads what stands behind `replay:`.
fn replay(text: &At<Text>, file: &str, folder: &Path, problems: &mut Problems) -> Option<Device> {
    let (file, option) = file.split_once('?').map_or((file, None), |(file, option)| (file, Some(option)));
    let rate = match option.map(|option| option.strip_prefix("rate=").and_then(|rate| rate.parse().ok())) {
        None => Some(1),
        Some(rate) => rate.filter(|rate| (1..=SIMULATED_RATE_MAX).contains(rate)),
    };
    match rate {
        Some(rate) if !file.is_empty() && !file.contains('\0') => {
            Some(Device::Replay { path: folder.join(file), rate })
        }
        _ => {
            problems.error(Code::Malformed, text.span, format!("`{}` names no recording", text.value.0)).label(
                format!("expected replay:FILE, or replay:FILE?rate=N with 1 to {SIMULATED_RATE_MAX} lines a second"),
            );
            None
        }
    }
}

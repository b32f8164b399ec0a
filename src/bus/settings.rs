//! What a bus is told to be.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::gpio::{Backend, GpioSettings};
use crate::model::BusId;

/// Settings of one bus. Two equal values mean that a reload need not reopen it.
#[derive(Debug, Clone, PartialEq)]
pub enum BusSettings {
    /// A serial port.
    Serial(SerialSettings),
    /// An I²C bus.
    I2c(I2cSettings),
    /// Files of the kernel's own drivers.
    Files(FilesSettings),
    /// Lines of GPIO chips.
    Lines(LinesSettings),
}

impl BusSettings {
    /// Name of the bus.
    pub fn id(&self) -> &BusId {
        match self {
            BusSettings::Serial(settings) => &settings.id,
            BusSettings::I2c(settings) => &settings.id,
            BusSettings::Files(settings) => &settings.id,
            BusSettings::Lines(settings) => &settings.id,
        }
    }
}

/// What it leads to, as it is written in the config; of files, where they are.
impl fmt::Display for BusSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BusSettings::Serial(settings) => settings.device.fmt(f),
            BusSettings::I2c(settings) => settings.device.fmt(f),
            BusSettings::Files(settings) => settings.sys.as_ref().map_or(Ok(()), |sys| sys.display().fmt(f)),
            BusSettings::Lines(settings) => match settings.gpio.backend {
                Backend::Simulated => Ok(()),
                Backend::Auto | Backend::V2 | Backend::V1 => f.write_str("/dev/gpiochip*"),
            },
        }
    }
}

/// Settings of one I²C bus.
#[derive(Debug, Clone, PartialEq)]
pub struct I2cSettings {
    /// Name of the bus.
    pub id: BusId,
    /// Which bus.
    pub device: I2cDevice,
}

/// How an I²C bus is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum I2cDevice {
    /// A path such as `/dev/i2c-1`.
    Path(PathBuf),
    /// No bus: every sensor on it is made of software.
    Simulated,
}

/// As it is written in the config.
impl fmt::Display for I2cDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            I2cDevice::Path(path) => path.display().fmt(f),
            I2cDevice::Simulated => f.write_str("sim:i2c"),
        }
    }
}

/// Settings of a group of files whose reads may wait for each other.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesSettings {
    /// Name of the group, which is its bus's: `w1`, `hwmon` or `iio`.
    pub id: BusId,
    /// Where the kernel shows its devices: `/sys`. `None`: every sensor is made of software.
    pub sys: Option<PathBuf>,
}

/// Settings of the lines of GPIO chips.
#[derive(Debug, Clone, PartialEq)]
pub struct LinesSettings {
    /// Name of the bus that all of them share: `gpio`.
    pub id: BusId,
    /// How they are spoken to.
    pub gpio: GpioSettings,
}

/// Settings of one serial port. Two equal values mean that a reload need not reopen it.
#[derive(Debug, Clone, PartialEq)]
pub struct SerialSettings {
    /// Name of the bus.
    pub id: BusId,
    /// Which port.
    pub device: Device,
    /// Baud, 50 to 4,000,000.
    pub baud: u32,
    /// 5 to 8.
    pub data_bits: u8,
    /// Parity bit.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// How its driver switches between sending and listening; `None`: it is left as it is.
    pub rs485: Option<Rs485Settings>,
}

/// How the driver of a port switches an RS-485 transceiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rs485Settings {
    /// When RTS is active.
    pub rts: Rts,
    /// From RTS to the first bit, whole milliseconds.
    pub delay_before: Duration,
    /// From the last bit to RTS, whole milliseconds.
    pub delay_after: Duration,
}

/// When RTS is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rts {
    /// While it sends.
    OnSend,
    /// While it does not.
    AfterSend,
}

/// How a port is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A path, which may be a link such as `/dev/serial/by-id/…`.
    Path(PathBuf),
    /// A USB adapter, whatever name it gets: `usb:0403:6001` or `usb:0403:6001:SERIAL`.
    Usb {
        /// Vendor id.
        vendor: u16,
        /// Product id.
        product: u16,
        /// Serial number, needed when two adapters of the same kind are plugged in.
        serial: Option<String>,
    },
    /// A simulated port: a generator of lines inside the process, by name (demo and tests).
    Simulated(String),
    /// A file of recorded lines, played over and over.
    Replay {
        /// The file.
        path: PathBuf,
        /// Lines a second.
        rate: u32,
    },
    /// A simulated port that makes lines by these templates: what a config's sensors would take (`tidegate run --simulate`).
    Templates(Vec<String>),
}

/// As it is written in the config.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Path(path) => path.display().fmt(f),
            Device::Usb { vendor, product, serial: None } => write!(f, "usb:{vendor:04x}:{product:04x}"),
            Device::Usb { vendor, product, serial: Some(serial) } => {
                write!(f, "usb:{vendor:04x}:{product:04x}:{serial}")
            }
            Device::Simulated(name) => write!(f, "sim:{name}"),
            Device::Replay { path, rate } => write!(f, "replay:{}?rate={rate}", path.display()),
            Device::Templates(lines) => write!(f, "simulated, {} templates", lines.len()),
        }
    }
}

/// Parity bit of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parity {
    /// No parity bit.
    #[default]
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

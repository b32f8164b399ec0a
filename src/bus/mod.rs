//! Owns the file descriptors of the sensors' side.

pub mod discovery;
pub mod gpio;
pub mod i2c;
mod line_errors;
mod open;
mod rs485;
pub mod serial;
pub mod settings;
pub mod simulated;
mod watch;
pub mod worker;

use std::sync::Arc;

pub use self::open::OpenError;
pub use self::serial::SerialPort;
pub use self::serial::writer::{SerialWriter, WriteQueue, write_path};
pub use self::settings::{
    BusSettings, Device, FilesSettings, I2cDevice, I2cSettings, Parity, Rs485Settings, Rts, SerialSettings,
};
use self::simulated::Simulated;
pub use self::simulated::SimulatedPort;
use crate::clock::Clock;

/// What EPERM means where a device is opened, in words: the modes of files and their groups make it EACCES.
const NOT_ALLOWED: &str = "operation not permitted; under systemd the service's list of devices leaves it out (`DeviceAllow=`), and \
                           `tidegate config systemd` prints the drop-in for the config as it is now";

/// What a port has to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum PortEvent<'a> {
    /// It is open; nothing was received yet.
    Opened,
    /// Bytes came.
    Bytes {
        /// In the order they came, at most [`crate::limits::PORT_READ_BYTES`].
        bytes: &'a [u8],
        /// Whether the first of them may stand in the middle of a frame.
        midway: bool,
    },
    /// It is not there or cannot be opened. Told once; it is tried again until it is.
    Away,
}

/// A port of any kind.
pub enum Port {
    /// A real one.
    Serial(Box<SerialPort>),
    /// A generator of lines.
    Simulated(SimulatedPort),
}

impl Port {
    /// The port of a bus. Nothing is opened before [`Self::next`].
    pub fn new(settings: &SerialSettings, clock: Arc<dyn Clock>) -> Self {
        match &settings.device {
            Device::Simulated(name) => Self::Simulated(SimulatedPort::new(settings.id.clone(), name)),
            Device::Replay { path, rate } => {
                Self::Simulated(SimulatedPort::replaying(settings.id.clone(), path, *rate))
            }
            Device::Templates(lines) => {
                let lines = Simulated::templates(lines.clone(), 1);
                Self::Simulated(SimulatedPort::playing(settings.id.clone(), Ok(lines)))
            }
            Device::Path(_) | Device::Usb { .. } => Self::Serial(Box::new(SerialPort::new(settings.clone(), clock))),
        }
    }

    /// Waits for what comes next, opening the port as often as that takes. Cancel safe: no byte and no event is lost.
    pub async fn next(&mut self) -> PortEvent<'_> {
        match self {
            Self::Serial(port) => port.next().await,
            Self::Simulated(port) => port.next().await,
        }
    }

    /// Writes the bytes. A simulated port takes them and does nothing.
    ///
    /// # Errors
    /// In words, when the port is away or does not take them.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Serial(port) => port.write(bytes).await,
            Self::Simulated(_) => Ok(()),
        }
    }
}

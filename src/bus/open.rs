//! Opens a serial port, and says in words why it cannot.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use super::discovery::{Roots, locate};
use super::rs485::{Rs485Error, switch};
use super::{NOT_ALLOWED, Parity, SerialSettings};

/// Why a port cannot be opened. Every one of these is worth another try: a person may plug, unlock or free the port at any time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No such path, or no such adapter.
    #[error("there is no such port")]
    NotThere,
    /// Several adapters answer to the same USB ids.
    #[error(
        "`{first}` and `{second}` are adapters of the same kind; add the serial number to the device, `usb:VID:PID:SERIAL`"
    )]
    Ambiguous {
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// The file's mode says no.
    #[error("permission denied; the user must be in the group of the port, which is `dialout` on Debian")]
    Denied,
    /// The list of devices that the service may open says no.
    #[error("{NOT_ALLOWED}")]
    NotAllowed,
    /// Another process holds the port.
    #[error("port is in use by another process")]
    InUse,
    /// The path leads to something else.
    #[error("is no serial port")]
    NoPort,
    /// The kernel or the adapter refused.
    #[error("{0}")]
    Refused(String),
}

/// An open port.
#[derive(Debug)]
pub(super) struct OpenPort {
    /// The port.
    pub(super) stream: SerialStream,
    /// Whether it can be opened while its device is in the middle of a line. A pseudo terminal keeps what was written before it was
    /// opened; a UART begins to listen when it is.
    pub(super) live: bool,
    /// Why it does not switch an RS-485 line as it was told to.
    pub(super) rs485: Option<Rs485Error>,
}

/// Opens the port, exclusively, without a change to DTR and RTS beyond what the kernel does by itself. Blocks for as long as the driver does.
pub(super) fn open(settings: &SerialSettings, roots: &Roots) -> Result<OpenPort, OpenError> {
    let path = locate(&settings.device, roots)?;
    let metadata = fs::metadata(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenError::NotThere,
        io::ErrorKind::PermissionDenied => OpenError::Denied,
        _ => OpenError::Refused(error.to_string()),
    })?;
    if !metadata.file_type().is_char_device() {
        return Err(OpenError::NoPort);
    }
    let builder = tokio_serial::new(path.to_string_lossy(), settings.baud)
        .data_bits(match settings.data_bits {
            5 => DataBits::Five,
            6 => DataBits::Six,
            7 => DataBits::Seven,
            _ => DataBits::Eight,
        })
        .parity(match settings.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        })
        .stop_bits(if settings.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .flow_control(FlowControl::None);
    let stream = SerialStream::open(&builder).map_err(|error| explain(&error))?;
    // SAFETY: the stream is borrowed for longer, and keeps its descriptor open.
    let port = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let rs485 = settings.rs485.and_then(|asked| switch(port, asked).err());
    Ok(OpenPort { stream, live: !is_pty(metadata.rdev()), rs485 })
}

/// UNIX 98 pseudo terminals have the majors 136 to 143 (Documentation/admin-guide/devices.txt).
fn is_pty(rdev: u64) -> bool {
    (136..=143).contains(&libc::major(rdev))
}

fn explain(error: &tokio_serial::Error) -> OpenError {
    use tokio_serial::ErrorKind;
    match error.kind {
        ErrorKind::Io(io::ErrorKind::NotFound) => OpenError::NotThere,
        // EACCES; EPERM is of no kind.
        ErrorKind::Io(io::ErrorKind::PermissionDenied) => OpenError::Denied,
        // serialport says NoDevice for EBUSY and for a lock that another process holds, and for nothing else.
        ErrorKind::NoDevice => OpenError::InUse,
        // It keeps no errno of the others, only their words.
        _ if error.description == "Inappropriate ioctl for device" || error.description == "Not a typewriter" => {
            OpenError::NoPort
        }
        _ if error.description == "Operation not permitted" => OpenError::NotAllowed,
        _ => OpenError::Refused(error.description.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use tokio_serial::{Error, ErrorKind};

    use super::*;

    #[test]
    fn the_group_and_the_list_of_devices_are_told_apart() {
        let of = |kind, words: &str| explain(&Error::new(kind, words));
        assert_eq!(of(ErrorKind::Io(io::ErrorKind::PermissionDenied), "Permission denied"), OpenError::Denied);
        assert_eq!(of(ErrorKind::Unknown, "Operation not permitted"), OpenError::NotAllowed);
        assert_eq!(of(ErrorKind::Unknown, "Input/output error"), OpenError::Refused("input/output error".to_owned()));
    }
}

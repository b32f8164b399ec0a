//! Why a transaction failed, in words.
//!
//! Kernel drivers of adapters disagree about error numbers; Documentation/i2c/fault-codes says what each should mean. The Raspberry Pi's reports a
//! NACK as EREMOTEIO, most others as ENXIO.

use std::fmt;

use embedded_hal::i2c::{Error, ErrorKind, NoAcknowledgeSource};

/// A failed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct I2cFault {
    address: u8,
    cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// What the kernel said.
    Errno(i32),
    /// A kernel driver has the target, by name where it is known.
    Held(Option<String>),
    /// The bus cannot be opened.
    Bus(String),
    /// Something else than the bus.
    Other(String),
}

impl I2cFault {
    /// What the kernel said to a transaction with the target at `address`.
    pub fn errno(address: u8, errno: i32) -> Self {
        Self { address, cause: Cause::Errno(errno) }
    }

    /// Nobody answers at `address`.
    pub fn nack(address: u8) -> Self {
        Self::errno(address, libc::ENXIO)
    }

    /// A kernel driver has the target at `address`.
    pub fn held(address: u8, driver: Option<String>) -> Self {
        Self { address, cause: Cause::Held(driver) }
    }

    /// The bus itself is not there, or may not be used.
    pub fn away(address: u8, reason: impl Into<String>) -> Self {
        Self { address, cause: Cause::Bus(reason.into()) }
    }

    /// Neither bus nor kernel.
    pub fn other(address: u8, reason: impl Into<String>) -> Self {
        Self { address, cause: Cause::Other(reason.into()) }
    }

    /// Whether no device of this bus can be reached.
    pub fn is_away(&self) -> bool {
        match self.cause {
            Cause::Bus(_) => true,
            Cause::Errno(errno) => matches!(errno, libc::ENODEV | libc::ESHUTDOWN),
            Cause::Held(_) | Cause::Other(_) => false,
        }
    }
}

impl fmt::Display for I2cFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.address;
        match &self.cause {
            Cause::Errno(libc::ENXIO | libc::EREMOTEIO) => write!(f, "no answer at {at:#04x} (NACK)"),
            Cause::Held(driver) => {
                write!(f, "{at:#04x} is held by a kernel driver")?;
                if let Some(driver) = driver {
                    write!(f, ", `{driver}`")?;
                }
                f.write_str(": read it with `driver = \"iio\"` or `\"hwmon\"`, or take its overlay out")
            }
            Cause::Errno(libc::EBUSY) => write!(f, "the bus was not free to ask {at:#04x} (busy)"),
            Cause::Errno(libc::ETIMEDOUT) => write!(f, "{at:#04x} holds the clock too long (timed out)"),
            Cause::Errno(libc::EAGAIN) => write!(f, "lost the bus to another controller while talking to {at:#04x}"),
            Cause::Errno(libc::EIO) => {
                write!(f, "bus error at {at:#04x}: a line may be stuck, or the pull-ups too weak")
            }
            Cause::Errno(libc::EOPNOTSUPP) => write!(f, "the adapter cannot do what {at:#04x} needs"),
            Cause::Errno(errno) => {
                write!(f, "transaction with {at:#04x}: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Cause::Bus(reason) => f.write_str(reason),
            Cause::Other(reason) => write!(f, "{at:#04x}: {reason}"),
        }
    }
}

impl std::error::Error for I2cFault {}

impl Error for I2cFault {
    fn kind(&self) -> ErrorKind {
        match self.cause {
            Cause::Errno(libc::ENXIO | libc::EREMOTEIO) => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
            Cause::Errno(libc::EAGAIN) => ErrorKind::ArbitrationLoss,
            Cause::Errno(libc::EIO) => ErrorKind::Bus,
            _ => ErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_in_words_what_the_kernel_said_in_numbers() {
        let words = |errno| I2cFault::errno(0x76, errno).to_string();
        assert_eq!(words(libc::ENXIO), "no answer at 0x76 (NACK)");
        assert_eq!(words(libc::EREMOTEIO), "no answer at 0x76 (NACK)", "as a Raspberry Pi says it");
        assert_eq!(words(libc::EBUSY), "the bus was not free to ask 0x76 (busy)");
        let held = I2cFault::held(0x76, Some("bmp280".into())).to_string();
        assert!(held.starts_with("0x76 is held by a kernel driver, `bmp280`: read it with"), "{held}");
        assert!(words(libc::EPERM).contains("not permitted"));
    }
}

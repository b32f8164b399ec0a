//! What may be wrong with a line, in words.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::LineRef;
use crate::bus::NOT_ALLOWED;

/// A version of the kernel's GPIO interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Since Linux 4.8; newer kernels may be built without it.
    V1,
    /// Since Linux 5.10.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::V1 => f.write_str("version 1 of the GPIO interface, which newer kernels leave out"),
            Version::V2 => f.write_str("version 2 of the GPIO interface, which Linux has since 5.10"),
        }
    }
}

/// Why a line cannot be had, read or set. Every one of these is worth another try: a chip may be plugged in, a line given back, a right granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpioError {
    /// No chip at all.
    #[error("there is no GPIO chip: no /dev/gpiochip*")]
    NoChips,
    /// No chip with that label.
    #[error("no chip is labelled `{label}`; there {}", are(known))]
    NoChip {
        /// The label wanted.
        label: String,
        /// The labels there are.
        known: Vec<String>,
    },
    /// Several chips with that label.
    #[error("{} are all labelled `{label}`; name the line instead", join(paths))]
    SeveralChips {
        /// The label wanted.
        label: String,
        /// Their devices.
        paths: Vec<String>,
    },
    /// No line with that name.
    #[error("no line is named `{name}`{}", nearest(near))]
    NoLine {
        /// The name wanted.
        name: String,
        /// The names nearest to it.
        near: Vec<String>,
    },
    /// Lines of that name on several chips.
    #[error("{} each have a line named `{name}`; give `chip` and `offset` instead", join(chips))]
    SeveralLines {
        /// The name wanted.
        name: String,
        /// Labels of the chips.
        chips: Vec<String>,
    },
    /// The chip has fewer lines.
    #[error("chip `{chip}` has {lines} lines, 0 to {}", lines.saturating_sub(1))]
    NoOffset {
        /// Label of the chip.
        chip: String,
        /// How many lines it has.
        lines: u32,
    },
    /// Somebody else holds the line.
    #[error("line is held by {}", holder(consumer))]
    Held {
        /// Who, as they called themselves.
        consumer: String,
    },
    /// The device's mode says no.
    #[error("permission denied on {}; the user must be in the group of the device, which is `gpio` on Raspberry Pi OS", path.display())]
    Denied {
        /// The chip's device.
        path: PathBuf,
    },
    /// The list of devices that the service may open says no.
    #[error("{}: {NOT_ALLOWED}", path.display())]
    NotAllowed {
        /// The chip's device.
        path: PathBuf,
    },
    /// The kernel does not speak it.
    #[error(
        "the kernel does not offer {0}; leave `[gpio] backend` out, or set it to `auto`: then what the kernel has is used"
    )]
    NotOffered(Version),
    /// The chip can be asked, and cannot do it.
    #[error("the chip cannot do this: {0}")]
    Unable(&'static str),
    /// The chip was removed.
    #[error("the chip went away")]
    Gone,
    /// Anything else the kernel said.
    #[error("{0}")]
    Refused(String),
}

impl GpioError {
    /// What an error of the kernel means for a line that is held.
    pub(super) fn of_held_line(error: &io::Error) -> Self {
        match error.raw_os_error() {
            // ENODEV since the chip is gone; ENXIO where its driver is.
            Some(libc::ENODEV | libc::ENXIO) => Self::Gone,
            _ => Self::Refused(error.to_string()),
        }
    }

    /// What an error of the kernel means when a chip is opened.
    pub(super) fn of_chip(error: &io::Error, path: &std::path::Path) -> Self {
        match error.raw_os_error() {
            Some(libc::EACCES) => Self::Denied { path: path.to_owned() },
            Some(libc::EPERM) => Self::NotAllowed { path: path.to_owned() },
            Some(libc::ENODEV | libc::ENXIO | libc::ENOENT) => Self::Gone,
            _ => Self::Refused(error.to_string()),
        }
    }

    /// What an error of the kernel means when a line is asked for. `consumer` says who holds it.
    pub(super) fn of_request(error: &io::Error, consumer: impl FnOnce() -> String) -> Self {
        match error.raw_os_error() {
            Some(libc::EBUSY) => Self::Held { consumer: consumer() },
            Some(libc::ENODEV) => Self::Gone,
            // gpiod_to_irq() of a line without an interrupt.
            Some(libc::ENXIO) => Self::Unable("it has no edge events on this line"),
            // The second is ENOTSUPP, which the kernel has for itself and drivers return all the same (include/linux/errno.h).
            Some(libc::EOPNOTSUPP | 524) => Self::Unable("bias or drive are not its own to set"),
            _ => Self::Refused(error.to_string()),
        }
    }

    /// Names the line, where the words alone do not.
    pub fn about(&self, line: &LineRef) -> String {
        match self {
            Self::NoLine { .. } | Self::SeveralLines { .. } | Self::NoChip { .. } | Self::SeveralChips { .. } => {
                self.to_string()
            }
            _ => format!("line `{line}`: {self}"),
        }
    }
}

fn holder(consumer: &str) -> String {
    if consumer.is_empty() { "a program or driver that gives no name".to_owned() } else { format!("`{consumer}`") }
}

fn nearest(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", join(near)) }
}

fn are(known: &[String]) -> String {
    if known.is_empty() { "are none".to_owned() } else { format!("are {}", join(known)) }
}

fn join(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

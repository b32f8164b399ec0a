//! RS-485 by the port's own driver: it drives the line while it sends and lets go of it to listen (TIOCSRS485,
//! Documentation/driver-api/serial/serial-rs485.rst).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::settings::{Rs485Settings, Rts};

/// `SER_RS485_ENABLED`.
const ENABLED: u32 = 1 << 0;
/// `SER_RS485_RTS_ON_SEND`: RTS is active while it sends.
const RTS_ON_SEND: u32 = 1 << 1;
/// `SER_RS485_RTS_AFTER_SEND`: RTS is active while it does not.
const RTS_AFTER_SEND: u32 = 1 << 2;
/// The flags that are ours: a driver may add others of its own.
const OURS: u32 = ENABLED | RTS_ON_SEND | RTS_AFTER_SEND;

/// The kernel's `struct serial_rs485` (linux/serial.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SerialRs485 {
    flags: u32,
    /// Milliseconds.
    delay_rts_before_send: u32,
    /// Milliseconds.
    delay_rts_after_send: u32,
    padding: [u32; 5],
}

/// Why the port does not switch as it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rs485Error {
    /// Most USB adapters, and most ports without such a transceiver.
    #[error(
        "the port's driver does not know RS-485; an adapter that switches by itself does not need `rs485`, another one cannot send"
    )]
    Unknown,
    /// It took the call and does something else.
    #[error("the port's driver cannot do it as it is written: it took RTS {rts}, delays {before} ms and {after} ms")]
    Otherwise {
        /// When RTS is active.
        rts: &'static str,
        /// Milliseconds.
        before: u32,
        /// Milliseconds.
        after: u32,
    },
    /// It took the call and switched nothing on.
    #[error("the port's driver did not switch it on")]
    Off,
    /// What the kernel says.
    #[error("{0}")]
    Refused(io::ErrorKind),
}

/// Switches it on.
pub(super) fn switch(port: BorrowedFd<'_>, settings: Rs485Settings) -> Result<(), Rs485Error> {
    let asked = wire(settings);
    let mut taken = asked;
    // SAFETY: the descriptor is open, and the kernel reads and writes one struct that is laid out as its own.
    let outcome = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSRS485, &raw mut taken) };
    if outcome < 0 {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP) => Rs485Error::Unknown,
            _ => Rs485Error::Refused(error.kind()),
        });
    }
    judge(asked, taken)
}

fn wire(settings: Rs485Settings) -> SerialRs485 {
    let rts = match settings.rts {
        Rts::OnSend => RTS_ON_SEND,
        Rts::AfterSend => RTS_AFTER_SEND,
    };
    SerialRs485 {
        flags: ENABLED | rts,
        delay_rts_before_send: millis(settings.delay_before),
        delay_rts_after_send: millis(settings.delay_after),
        padding: [0; 5],
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The kernel gives back what its driver made of it: without what that cannot do.
fn judge(asked: SerialRs485, taken: SerialRs485) -> Result<(), Rs485Error> {
    let delays = |of: SerialRs485| (of.delay_rts_before_send, of.delay_rts_after_send);
    if taken.flags & ENABLED == 0 {
        return Err(Rs485Error::Off);
    }
    if asked.flags == taken.flags & OURS && delays(asked) == delays(taken) {
        return Ok(());
    }
    let (before, after) = delays(taken);
    let rts = match (taken.flags & RTS_ON_SEND != 0, taken.flags & RTS_AFTER_SEND != 0) {
        (true, false) => "on-send",
        (false, true) => "after-send",
        _ => "neither way",
    };
    Err(Rs485Error::Otherwise { rts, before, after })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    fn settings(rts: Rts) -> Rs485Settings {
        Rs485Settings { rts, delay_before: Duration::from_millis(2), delay_after: Duration::from_millis(1) }
    }

    #[test]
    fn what_is_asked_is_laid_out_as_the_kernel_reads_it() {
        assert_eq!(size_of::<SerialRs485>(), 32, "include/uapi/linux/serial.h");
        let asked = wire(settings(Rts::OnSend));
        assert_eq!((asked.flags, asked.delay_rts_before_send, asked.delay_rts_after_send), (0b011, 2, 1));
        assert_eq!(wire(settings(Rts::AfterSend)).flags, 0b101);
    }

    #[test]
    fn what_a_driver_made_of_it_is_compared_with_what_was_asked() {
        let asked = wire(settings(Rts::OnSend));
        assert_eq!(judge(asked, asked), Ok(()));
        assert_eq!(judge(asked, SerialRs485 { flags: asked.flags | 1 << 4, ..asked }), Ok(()), "a flag of its own");
        assert_eq!(judge(asked, SerialRs485::default()), Err(Rs485Error::Off));
        let other = judge(asked, SerialRs485 { flags: ENABLED | RTS_AFTER_SEND, delay_rts_before_send: 0, ..asked });
        assert_eq!(
            other.unwrap_err().to_string(),
            "the port's driver cannot do it as it is written: it took RTS after-send, delays 0 ms and 1 ms"
        );
    }

    #[test]
    fn what_is_no_port_with_rs485_is_told_in_words() {
        let null = File::open("/dev/null").unwrap();
        let error = switch(null.as_fd(), settings(Rts::OnSend)).unwrap_err();
        assert_eq!(error, Rs485Error::Unknown);
        assert!(error.to_string().contains("does not know RS-485"), "{error}");
    }
}

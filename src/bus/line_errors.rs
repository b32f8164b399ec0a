//! What the kernel counts of a UART's troubles: bytes it had no room for, and characters that came garbled (TIOCGICOUNT, ioctl_tty(2)).
//!
//! Looked at while bytes come, and not more often than needed: a port at rest causes no work. Drivers without these counters (pseudo
//! terminals, some USB adapters) are asked once.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::limits::PORT_ERRORS_LOOK;
use crate::model::Moment;

/// The kernel's `struct serial_icounter_struct` (linux/serial.h). The counters only rise, and wrap.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    modem: [i32; 4],
    bytes: [i32; 2],
    frame: i32,
    overrun: i32,
    parity: i32,
    brk: i32,
    buf_overrun: i32,
    reserved: [i32; 9],
}

/// How many of each there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Troubles {
    /// Characters lost, in the UART or in the kernel's buffer.
    pub(super) lost: u64,
    /// Characters without a stop bit where one belongs: the baud is wrong, or the line is noisy.
    pub(super) framing: u64,
    /// Characters whose parity bit is wrong.
    pub(super) parity: u64,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// There were none before, and these now.
    Began(Troubles),
    /// A while passed without any; these there were since they began, and then.
    Ended(Troubles, Moment),
}

/// Follows the counters of one open port.
#[derive(Debug, Default)]
pub(super) struct LineErrors {
    last: Option<Counters>,
    looked: Option<Moment>,
    unsupported: bool,
    since: Option<(Moment, Troubles)>,
}

impl LineErrors {
    /// Looks at the counters if it is time to.
    pub(super) fn look(&mut self, port: BorrowedFd<'_>, now: Moment) -> Option<Edge> {
        if self.unsupported || self.looked.is_some_and(|at| now.since(at) < PORT_ERRORS_LOOK) {
            return None;
        }
        self.looked = Some(now);
        let counters = read(port);
        self.unsupported = counters.is_none();
        self.observe(counters?, now)
    }

    fn observe(&mut self, counters: Counters, now: Moment) -> Option<Edge> {
        let before = self.last.replace(counters)?;
        let new = Troubles {
            lost: rise(before.overrun, counters.overrun) + rise(before.buf_overrun, counters.buf_overrun),
            framing: rise(before.frame, counters.frame),
            parity: rise(before.parity, counters.parity),
        };
        if new == Troubles::default() {
            return self.since.take().map(|(since, all)| Edge::Ended(all, since));
        }
        if let Some((_, all)) = &mut self.since {
            all.lost += new.lost;
            all.framing += new.framing;
            all.parity += new.parity;
            return None;
        }
        self.since = Some((now, new));
        Some(Edge::Began(new))
    }
}

fn rise(before: i32, after: i32) -> u64 {
    u64::from(after.wrapping_sub(before).cast_unsigned())
}

fn read(port: BorrowedFd<'_>) -> Option<Counters> {
    let mut counters = Counters::default();
    // SAFETY: the descriptor is open; the kernel writes one serial_icounter_struct, which `counters` is laid out as.
    let outcome = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCGICOUNT, &raw mut counters) };
    (outcome == 0).then_some(counters)
}

const _: () = assert!(size_of::<Counters>() == 80, "the kernel writes 20 integers");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn counters(frame: i32, overrun: i32, buf_overrun: i32) -> Counters {
        Counters { frame, overrun, buf_overrun, ..Counters::default() }
    }

    #[test]
    fn troubles_are_told_when_they_begin_and_when_they_end() {
        let mut errors = LineErrors::default();
        assert_eq!(errors.observe(counters(100, 7, 7), at(0)), None, "what was before the port was opened is not ours");
        assert_eq!(errors.observe(counters(100, 7, 7), at(10)), None);
        let began = Troubles { lost: 3, framing: 2, parity: 0 };
        assert_eq!(errors.observe(counters(102, 8, 9), at(20)), Some(Edge::Began(began)));
        assert_eq!(errors.observe(counters(103, 8, 9), at(30)), None, "one of many");
        let all = Troubles { lost: 3, framing: 3, parity: 0 };
        assert_eq!(errors.observe(counters(103, 8, 9), at(40)), Some(Edge::Ended(all, at(20))));
        assert_eq!(errors.observe(counters(103, 8, 9), at(50)), None);
    }

    #[test]
    fn a_counter_may_wrap() {
        assert_eq!(rise(i32::MAX, i32::MIN), 1);
        assert_eq!(rise(-1, 1), 2);
    }
}

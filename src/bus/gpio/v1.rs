//! Version 1 of the kernel's interface, by `gpio-cdev`, for kernels before 5.10 (Documentation/userspace-api/gpio/chardev_v1.rst).

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use gpio_cdev::{Chip, EventRequestFlags, EventType, Line, LineDirection, LineEventHandle, LineHandle};
use gpio_cdev::{LineEvent, LineRequestFlags};
use tokio::io::unix::AsyncFd;

use super::kernel::watched;
use super::{
    Bias, ChipInfo, Drive, Edges, EdgesComing, GpioError, InputLine, InputRequest, LineEdge, LineInfo, OutputLine,
    OutputRequest, Version,
};
use crate::clock::Clock;
use crate::limits::GPIO_EDGES_AT_ONCE;

/// GPIOHANDLE_REQUEST_BIAS_PULL_UP, _PULL_DOWN and _DISABLE (linux/gpio.h, since Linux 5.5), which the crate has no names for.
const BIAS_PULL_UP: u32 = 1 << 5;
const BIAS_PULL_DOWN: u32 = 1 << 6;
const BIAS_DISABLE: u32 = 1 << 7;

/// Edges of a line that the kernel keeps (DECLARE_KFIFO in drivers/gpio/gpiolib-cdev.c); what comes when they are there is dropped.
const KERNEL_EDGES: usize = 16;

/// The chip and its lines.
pub(super) fn chip(path: &Path) -> Result<ChipInfo, GpioError> {
    let chip = Chip::new(path).map_err(|error| GpioError::of_chip(&io_error(&error), path))?;
    let mut lines = Vec::new();
    for line in chip.lines() {
        let info = line.info().map_err(|error| match io_error(&error).raw_os_error() {
            // Where version 1 was left out, the question itself is unknown.
            Some(libc::EINVAL | libc::ENOTTY) if line.offset() == 0 => GpioError::NotOffered(Version::V1),
            _ => GpioError::of_chip(&io_error(&error), path),
        })?;
        lines.push(LineInfo {
            offset: line.offset(),
            name: info.name().unwrap_or_default().to_owned(),
            consumer: info.consumer().unwrap_or_default().to_owned(),
            used: info.is_kernel(),
            output: info.direction() == LineDirection::Out,
        });
    }
    Ok(ChipInfo { path: path.to_owned(), label: chip.label().to_owned(), lines })
}

fn line(path: &Path, offset: u32) -> Result<Line, GpioError> {
    let mut chip = Chip::new(path).map_err(|error| GpioError::of_chip(&io_error(&error), path))?;
    chip.get_line(offset).map_err(|error| GpioError::Refused(error.to_string()))
}

/// Takes a line as an input.
pub(super) fn input(
    path: &Path,
    offset: u32,
    wanted: &InputRequest,
    clock: Arc<dyn Clock>,
) -> Result<Box<dyn InputLine>, GpioError> {
    let line = line(path, offset)?;
    let flags = LineRequestFlags::INPUT | common(wanted.active_low, wanted.bias);
    let edges = match wanted.edges {
        Edges::Rising => EventRequestFlags::RISING_EDGE,
        Edges::Falling => EventRequestFlags::FALLING_EDGE,
        Edges::Both => EventRequestFlags::BOTH_EDGES,
    };
    let handle = line.events(flags, edges, &wanted.consumer).map_err(|error| refused(&error, &line, wanted.bias))?;
    let handle = watched(handle)?;
    Ok(Box::new(Input { handle, clock, both: wanted.edges == Edges::Both, last: None, taken: 0 }))
}

/// Takes a line as an output.
pub(super) fn output(path: &Path, offset: u32, wanted: &OutputRequest) -> Result<Box<dyn OutputLine>, GpioError> {
    let line = line(path, offset)?;
    let drive = match wanted.drive {
        Drive::PushPull => LineRequestFlags::empty(),
        Drive::OpenDrain => LineRequestFlags::OPEN_DRAIN,
        Drive::OpenSource => LineRequestFlags::OPEN_SOURCE,
    };
    let flags = LineRequestFlags::OUTPUT | drive | common(wanted.active_low, wanted.bias);
    let handle = line.request(flags, u8::from(wanted.initial), &wanted.consumer);
    Ok(Box::new(Output(handle.map_err(|error| refused(&error, &line, wanted.bias))?)))
}

fn common(active_low: bool, bias: Bias) -> LineRequestFlags {
    let active_low = if active_low { LineRequestFlags::ACTIVE_LOW } else { LineRequestFlags::empty() };
    let bias = match bias {
        Bias::AsIs => 0,
        Bias::Disabled => BIAS_DISABLE,
        Bias::PullUp => BIAS_PULL_UP,
        Bias::PullDown => BIAS_PULL_DOWN,
    };
    active_low | LineRequestFlags::from_bits_retain(bias)
}

fn refused(error: &gpio_cdev::Error, line: &Line, bias: Bias) -> GpioError {
    let error = io_error(error);
    if error.raw_os_error() == Some(libc::EINVAL) && bias != Bias::AsIs {
        return GpioError::Unable("bias is not its own to set, or the kernel is older than 5.5");
    }
    GpioError::of_request(&error, || {
        line.info().ok().and_then(|info| info.consumer().map(str::to_owned)).unwrap_or_default()
    })
}

struct Input {
    handle: AsyncFd<LineEventHandle>,
    clock: Arc<dyn Clock>,
    /// Whether both edges are told, so that two in a row of the same way show a loss.
    both: bool,
    /// Whether the line was active after the edge told last.
    last: Option<bool>,
    /// Edges taken in the read before: with a full buffer, some may be lost behind them.
    taken: usize,
}

impl Input {
    fn edge(&mut self, event: &LineEvent) -> LineEdge {
        let active = event.event_type() == EventType::RisingEdge;
        // Version 1 does not number its edges. After a full buffer two of the same way are what is left to see a loss by; without one they
        // are a pulse that was too short to be read.
        let full = self.taken >= KERNEL_EDGES;
        let lost = u32::from(full && self.both && self.last == Some(active));
        self.last = Some(active);
        LineEdge { active, at: self.clock.moment_of_stamp(event.timestamp()), lost }
    }
}

impl InputLine for Input {
    fn active(&self) -> Result<bool, GpioError> {
        match self.handle.get_ref().get_value() {
            Ok(value) => Ok(value != 0),
            Err(error) => Err(GpioError::of_held_line(&io_error(&error))),
        }
    }

    fn edges<'a>(&'a mut self, out: &'a mut Vec<LineEdge>) -> EdgesComing<'a> {
        Box::pin(async move {
            loop {
                let mut ready = self.handle.readable_mut().await.map_err(|error| GpioError::of_held_line(&error))?;
                let read = ready.try_io(|handle| take(handle.get_mut()));
                let Ok(read) = read else { continue };
                let events = read.map_err(|error| GpioError::of_held_line(&error))?;
                for event in &events {
                    let edge = self.edge(event);
                    out.push(edge);
                    self.taken = 0;
                }
                self.taken = events.len();
                return Ok(());
            }
        })
    }
}

/// What is there to read, up to a limit.
fn take(handle: &mut LineEventHandle) -> io::Result<Vec<LineEvent>> {
    let mut events = Vec::new();
    while events.len() < GPIO_EDGES_AT_ONCE {
        match handle.get_event().map_err(|error| io_error(&error)) {
            Ok(event) => events.push(event),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !events.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(events)
}

struct Output(LineHandle);

impl OutputLine for Output {
    fn set(&mut self, active: bool) -> Result<(), GpioError> {
        self.0.set_value(u8::from(active)).map_err(|error| GpioError::of_held_line(&io_error(&error)))
    }

    fn active(&self) -> Result<bool, GpioError> {
        match self.0.get_value() {
            Ok(value) => Ok(value != 0),
            Err(error) => Err(GpioError::of_held_line(&io_error(&error))),
        }
    }
}

/// The crate's error as the system's, where it is one.
fn io_error(error: &gpio_cdev::Error) -> io::Error {
    let Some(source) = error.source() else { return io::Error::other(error.to_string()) };
    if let Some(system) = source.downcast_ref::<io::Error>() {
        return system.raw_os_error().map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
    }
    // Of an ioctl it keeps the number in a type of a crate below it, whose words begin with the number's name.
    let words = source.to_string();
    let name = words.split(':').next().unwrap_or_default();
    match NUMBERS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => io::Error::from_raw_os_error(*number),
        None => io::Error::other(words),
    }
}

/// Errors of an ioctl that mean something to us. ENOTSUPP, 524, is none of the C library's and has no name there.
const NUMBERS: [(&str, i32); 11] = [
    ("EACCES", libc::EACCES),
    ("EBUSY", libc::EBUSY),
    ("EINVAL", libc::EINVAL),
    ("EIO", libc::EIO),
    ("ENODEV", libc::ENODEV),
    ("ENOTTY", libc::ENOTTY),
    ("ENXIO", libc::ENXIO),
    ("EOPNOTSUPP", libc::EOPNOTSUPP),
    ("EPERM", libc::EPERM),
    ("ETIMEDOUT", libc::ETIMEDOUT),
    ("UnknownErrno", 524),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_system_error_is_found_whether_it_came_of_opening_or_of_asking() {
        assert_eq!(io_error(&Chip::new("/dev/none").unwrap_err()).raw_os_error(), Some(libc::ENOENT));
        assert_eq!(io_error(&Chip::new("/dev/null").unwrap_err()).raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn bias_and_active_low_are_the_bits_of_the_kernel() {
        assert_eq!(common(true, Bias::PullUp).bits(), 0b10_0100);
        assert_eq!(common(false, Bias::PullDown).bits(), 0b100_0000);
        assert_eq!(common(false, Bias::Disabled).bits(), 0b1000_0000);
        assert_eq!(common(false, Bias::AsIs).bits(), 0);
    }
}

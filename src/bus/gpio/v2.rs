//! Version 2 of the kernel's interface, by `gpiocdev` (Documentation/userspace-api/gpio/chardev.rst).

use std::io;
use std::path::Path;
use std::sync::Arc;

use gpiocdev::line::{self, Direction, EdgeDetection, EdgeKind, Offset, Value};
use gpiocdev::{Chip, Request};
use tokio::io::unix::AsyncFd;

use super::kernel::watched;
use super::{
    Bias, ChipInfo, Drive, Edges, EdgesComing, GpioError, InputLine, InputRequest, LineEdge, LineInfo, OutputLine,
    OutputRequest, Version,
};
use crate::clock::Clock;
use crate::limits::{GPIO_EDGES_AT_ONCE, GPIO_KERNEL_EDGES};

/// The chip and its lines.
pub(super) fn chip(path: &Path) -> Result<ChipInfo, GpioError> {
    let (chip, info) = open(path)?;
    let mut lines = Vec::new();
    for offset in 0..info.num_lines {
        let line = chip.line_info(offset).map_err(|error| match errno(&error) {
            // Before 5.10 the question itself is unknown.
            Some(libc::EINVAL | libc::ENOTTY) if offset == 0 => GpioError::NotOffered(Version::V2),
            _ => GpioError::of_chip(&io_error(&error), path),
        })?;
        lines.push(LineInfo {
            offset,
            name: line.name,
            consumer: line.consumer,
            used: line.used,
            output: line.direction == Direction::Output,
        });
    }
    Ok(ChipInfo { path: path.to_owned(), label: info.label, lines })
}

fn open(path: &Path) -> Result<(Chip, gpiocdev::chip::Info), GpioError> {
    let chip = Chip::from_path(path).map_err(|error| GpioError::of_chip(&io_error(&error), path))?;
    let info = chip.info().map_err(|error| GpioError::of_chip(&io_error(&error), path))?;
    Ok((chip, info))
}

/// Takes a line as an input.
pub(super) fn input(
    path: &Path,
    offset: u32,
    wanted: &InputRequest,
    clock: Arc<dyn Clock>,
) -> Result<Box<dyn InputLine>, GpioError> {
    let mut builder = Request::builder();
    builder
        .on_chip(path)
        .with_consumer(wanted.consumer.as_str())
        .with_kernel_event_buffer_size(GPIO_KERNEL_EDGES)
        .with_line(offset)
        .as_input()
        .with_bias(bias(wanted.bias))
        .with_edge_detection(match wanted.edges {
            Edges::Rising => EdgeDetection::RisingEdge,
            Edges::Falling => EdgeDetection::FallingEdge,
            Edges::Both => EdgeDetection::BothEdges,
        });
    if wanted.active_low {
        builder.as_active_low();
    }
    let request = builder.request().map_err(|error| refused(&error, path, offset))?;
    let request = watched(request)?;
    let words = request.get_ref().edge_event_u64_size();
    Ok(Box::new(Input { request, offset, clock, last: 0, words, buffer: vec![0; words * GPIO_EDGES_AT_ONCE] }))
}

/// Takes a line as an output.
pub(super) fn output(path: &Path, offset: u32, wanted: &OutputRequest) -> Result<Box<dyn OutputLine>, GpioError> {
    let mut builder = Request::builder();
    builder
        .on_chip(path)
        .with_consumer(wanted.consumer.as_str())
        .with_line(offset)
        .as_output(Value::from(wanted.initial))
        .with_bias(bias(wanted.bias))
        .with_drive(match wanted.drive {
            Drive::PushPull => line::Drive::PushPull,
            Drive::OpenDrain => line::Drive::OpenDrain,
            Drive::OpenSource => line::Drive::OpenSource,
        });
    if wanted.active_low {
        builder.as_active_low();
    }
    let request = builder.request().map_err(|error| refused(&error, path, offset))?;
    Ok(Box::new(Output { request, offset }))
}

fn bias(bias: Bias) -> Option<line::Bias> {
    match bias {
        Bias::AsIs => None,
        Bias::Disabled => Some(line::Bias::Disabled),
        Bias::PullUp => Some(line::Bias::PullUp),
        Bias::PullDown => Some(line::Bias::PullDown),
    }
}

fn refused(error: &gpiocdev::Error, path: &Path, offset: Offset) -> GpioError {
    GpioError::of_request(&io_error(error), || {
        open(path).ok().and_then(|(chip, _)| chip.line_info(offset).ok()).map_or_else(String::new, |line| line.consumer)
    })
}

struct Input {
    request: AsyncFd<Request>,
    offset: Offset,
    clock: Arc<dyn Clock>,
    /// Sequence number of the edge told last; the kernel numbers the edges of a line from 1.
    last: u32,
    /// Words of 64 bits an event.
    words: usize,
    buffer: Vec<u64>,
}

impl InputLine for Input {
    fn active(&self) -> Result<bool, GpioError> {
        value(self.request.get_ref(), self.offset)
    }

    fn edges<'a>(&'a mut self, out: &'a mut Vec<LineEdge>) -> EdgesComing<'a> {
        Box::pin(async move {
            let Self { request, clock, last, words, buffer, .. } = self;
            loop {
                let mut ready = request.readable().await.map_err(|error| GpioError::of_held_line(&error))?;
                // Events are read by hand: the crate's own single read takes eight of them and returns the first.
                let read = ready.try_io(|request| {
                    request.get_ref().read_edge_events_into_slice(buffer).map_err(|error| io_error(&error))
                });
                let Ok(read) = read else { continue };
                let filled = read.map_err(|error| GpioError::of_held_line(&error))?;
                for event in buffer[..filled].chunks_exact(*words) {
                    let event = request.get_ref().edge_event_from_slice(event);
                    let event = event.map_err(|error| GpioError::Refused(error.to_string()))?;
                    let lost = event.line_seqno.wrapping_sub(*last).wrapping_sub(1);
                    *last = event.line_seqno;
                    let active = event.kind == EdgeKind::Rising;
                    out.push(LineEdge { active, at: clock.moment_of_stamp(event.timestamp_ns), lost });
                }
                return Ok(());
            }
        })
    }
}

struct Output {
    request: Request,
    offset: Offset,
}

impl OutputLine for Output {
    fn set(&mut self, active: bool) -> Result<(), GpioError> {
        let set = self.request.set_value(self.offset, Value::from(active));
        set.map_err(|error| GpioError::of_held_line(&io_error(&error)))
    }

    fn active(&self) -> Result<bool, GpioError> {
        value(&self.request, self.offset)
    }
}

fn value(request: &Request, offset: Offset) -> Result<bool, GpioError> {
    match request.value(offset) {
        Ok(value) => Ok(value == Value::Active),
        Err(error) => Err(GpioError::of_held_line(&io_error(&error))),
    }
}

/// The crate's error as the system's, where it is one.
fn io_error(error: &gpiocdev::Error) -> io::Error {
    errno(error).map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

/// The crate keeps the number in a type of a crate below it, and tells it in its words as the standard library does.
fn errno(error: &gpiocdev::Error) -> Option<i32> {
    let words = error.to_string();
    let (_, number) = words.rsplit_once("(os error ")?;
    number.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_system_error_is_found() {
        let missing = Chip::from_path("/dev/gpiochip-that-is-none").unwrap_err();
        assert_eq!(errno(&missing), Some(libc::ENOENT));
        let null = Chip::from_path("/dev/null").unwrap_err();
        assert_eq!(errno(&null), None);
    }
}

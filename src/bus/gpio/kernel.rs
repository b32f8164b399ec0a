//! The kernel's chips, in the version of its interface that it offers.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::lookup::find;
use super::{
    Backend, ChipInfo, Gpio, GpioError, GpioSettings, InputLine, InputRequest, LineRef, OutputLine, OutputRequest,
    SimulatedGpio, Version, v1, v2,
};
use crate::clock::Clock;

/// The board's lines, and beside them the simulated ones that a config may name (`sim:NAME`).
pub struct BoardGpio {
    /// `None`: all lines are simulated.
    kernel: Option<KernelGpio>,
    simulated: SimulatedGpio,
}

impl BoardGpio {
    /// Lines as the settings want them.
    pub fn new(settings: GpioSettings, clock: Arc<dyn Clock>) -> Self {
        let real = settings.backend != Backend::Simulated;
        let kernel = real.then(|| KernelGpio::new(settings.backend, clock.clone()));
        let simulated = SimulatedGpio::new(clock);
        Self { simulated: if real { simulated } else { simulated.lively() }, kernel }
    }

    fn of(&self, line: &LineRef) -> &dyn Gpio {
        match (line, &self.kernel) {
            (LineRef::Named(_) | LineRef::Offset { .. }, Some(kernel)) => kernel,
            (LineRef::Simulated(_), _) | (_, None) => &self.simulated,
        }
    }
}

impl Gpio for BoardGpio {
    fn input(&self, request: &InputRequest) -> Result<Box<dyn InputLine>, GpioError> {
        self.of(&request.line).input(request)
    }

    fn output(&self, request: &OutputRequest) -> Result<Box<dyn OutputLine>, GpioError> {
        self.of(&request.line).output(request)
    }

    fn list(&self) -> Result<Vec<ChipInfo>, GpioError> {
        match &self.kernel {
            Some(kernel) => kernel.list(),
            None => self.simulated.list(),
        }
    }
}

/// The kernel's chips.
pub struct KernelGpio {
    backend: Backend,
    clock: Arc<dyn Clock>,
}

/// A chip that was asked, and in which version.
struct Asked {
    chips: Vec<ChipInfo>,
    versions: Vec<Version>,
    /// What the first chip that could not be asked said.
    failed: Option<GpioError>,
}

impl KernelGpio {
    /// Lines by that backend. The clock places the kernel's stamps.
    pub fn new(backend: Backend, clock: Arc<dyn Clock>) -> Self {
        Self { backend, clock }
    }

    fn ask(&self) -> Result<Asked, GpioError> {
        let mut asked = Asked { chips: Vec::new(), versions: Vec::new(), failed: None };
        for path in devices()? {
            let answer = match self.backend {
                Backend::V2 => v2::chip(&path).map(|chip| (chip, Version::V2)),
                Backend::V1 => v1::chip(&path).map(|chip| (chip, Version::V1)),
                Backend::Auto | Backend::Simulated => match v2::chip(&path) {
                    Err(GpioError::NotOffered(_)) => v1::chip(&path).map(|chip| (chip, Version::V1)),
                    answer => answer.map(|chip| (chip, Version::V2)),
                },
            };
            match answer {
                Ok((chip, version)) => {
                    asked.chips.push(chip);
                    asked.versions.push(version);
                }
                Err(error) => asked.failed = asked.failed.or(Some(error)),
            }
        }
        Ok(asked)
    }

    /// Device, offset, and the version to speak.
    fn locate(&self, line: &LineRef) -> Result<(PathBuf, u32, Version), GpioError> {
        let asked = self.ask()?;
        match find(&asked.chips, line) {
            Ok((chip, offset)) => {
                let version = asked.chips.iter().zip(&asked.versions).find(|(known, _)| known.path == chip.path);
                let version = version.map_or(Version::V2, |(_, version)| *version);
                Ok((chip.path.clone(), offset, version))
            }
            // The line may well be on the chip that could not be asked: that is what must be mended.
            Err(error @ (GpioError::NoChips | GpioError::NoChip { .. } | GpioError::NoLine { .. })) => {
                Err(asked.failed.unwrap_or(error))
            }
            Err(error) => Err(error),
        }
    }
}

impl Gpio for KernelGpio {
    fn input(&self, request: &InputRequest) -> Result<Box<dyn InputLine>, GpioError> {
        let (path, offset, version) = self.locate(&request.line)?;
        match version {
            Version::V2 => v2::input(&path, offset, request, self.clock.clone()),
            Version::V1 => v1::input(&path, offset, request, self.clock.clone()),
        }
    }

    fn output(&self, request: &OutputRequest) -> Result<Box<dyn OutputLine>, GpioError> {
        let (path, offset, version) = self.locate(&request.line)?;
        match version {
            Version::V2 => v2::output(&path, offset, request),
            Version::V1 => v1::output(&path, offset, request),
        }
    }

    fn list(&self) -> Result<Vec<ChipInfo>, GpioError> {
        let asked = self.ask()?;
        match asked.failed {
            Some(error) if asked.chips.is_empty() => Err(error),
            _ => Ok(asked.chips),
        }
    }
}

/// The chips' devices, in the order of their numbers. Links are left out: some systems link old numbers to the new ones, and a chip must not
/// be there twice.
fn devices() -> Result<Vec<PathBuf>, GpioError> {
    let entries = fs::read_dir("/dev").map_err(|error| GpioError::Refused(error.to_string()))?;
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_char_device()))
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("gpiochip")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// A line's descriptor as the runtime watches it: reads return when there is nothing to read.
pub(super) fn watched<T: AsRawFd>(line: T) -> Result<AsyncFd<T>, GpioError> {
    let descriptor = line.as_raw_fd();
    // SAFETY: the descriptor is open, since `line` owns it; both commands take and return integers.
    let outcome = unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        if flags < 0 { flags } else { libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) }
    };
    if outcome < 0 {
        return Err(GpioError::Refused(io::Error::last_os_error().to_string()));
    }
    // SAFETY: both kinds of line own one file, which they neither close nor replace before they are dropped.
    let watched = unsafe { AsyncFd::register_with_interest(line, Interest::READABLE) };
    watched.map_err(|error| GpioError::Refused(error.to_string()))
}

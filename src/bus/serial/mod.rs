//! A serial port and its life: opening, open, away, and opening again for ever.
//!
//! A port that is away is tried at once when something changes in the folders where it would appear, and else with a back-off. An end of file or
//! an error ends in `Away`, never in another read: an unplugged adapter reads as nothing, without end and without waiting.

pub mod writer;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_serial::SerialStream;
use tracing::{debug, info, warn};

use super::discovery::Roots;
use super::line_errors::{Edge, LineErrors, Troubles};
use super::open::{OpenPort, open};
use super::rs485::Rs485Error;
use super::watch::DeviceWatch;
use super::{OpenError, PortEvent, SerialSettings};
use crate::clock::Clock;
use crate::limits::{
    PORT_JOIN, PORT_READ_BYTES, PORT_RETRY_MAX, PORT_RETRY_MIN, PORT_STABLE, PORT_WATCH_GAP, SERIAL_WRITE_PATIENCE,
};
use crate::logic::retry::Backoff;
use crate::model::{BusId, Moment};

/// A serial port.
pub struct SerialPort {
    settings: SerialSettings,
    roots: Roots,
    clock: Arc<dyn Clock>,
    state: State,
    backoff: Backoff,
    /// Since when the port is away, and how many tries failed since. `None` while it is open.
    outage: Option<Outage>,
    /// Why the port that was opened last does not switch an RS-485 line.
    rs485: Option<Rs485Error>,
    buffer: Box<[u8]>,
}

enum State {
    /// A blocking thread opens the port. The watch was there before, so that no change falls between.
    Opening { task: JoinHandle<Result<OpenPort, OpenError>>, watch: Option<DeviceWatch>, began: Moment },
    /// Bytes come.
    Open { stream: SerialStream, since: Moment, live: bool, silent: bool, errors: LineErrors },
    /// Waiting for the time or a change.
    Away { watch: Option<DeviceWatch>, began: Moment, retry_at: Moment },
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Moment,
    failed: u32,
}

impl SerialPort {
    /// A port that is not yet open.
    pub fn new(settings: SerialSettings, clock: Arc<dyn Clock>) -> Self {
        Self::with_roots(settings, clock, Roots::default())
    }

    pub(super) fn with_roots(settings: SerialSettings, clock: Arc<dyn Clock>, roots: Roots) -> Self {
        let now = clock.now();
        Self {
            settings,
            roots,
            clock,
            state: State::Away { watch: None, began: now, retry_at: now },
            backoff: Backoff::new(PORT_RETRY_MIN, PORT_RETRY_MAX),
            outage: None,
            rs485: None,
            buffer: vec![0; PORT_READ_BYTES].into_boxed_slice(),
        }
    }

    /// Waits for what comes next. Cancel safe.
    pub async fn next(&mut self) -> PortEvent<'_> {
        loop {
            match &mut self.state {
                State::Away { watch, began, retry_at } => {
                    let wait = retry_at.since(self.clock.now());
                    if let Some(changes) = watch {
                        tokio::select! {
                            () = tokio::time::sleep(wait) => self.begin(),
                            () = changes.changed() => {
                                *watch = None;
                                *retry_at = self.clock.now().max(*began + PORT_WATCH_GAP);
                                self.backoff.reset();
                            }
                        }
                    } else {
                        tokio::time::sleep(wait).await;
                        self.begin();
                    }
                }
                State::Opening { task, watch, began } => {
                    let outcome = task.await;
                    let (watch, began) = (watch.take(), *began);
                    match outcome.unwrap_or_else(|error| Err(OpenError::Refused(error.to_string()))) {
                        Ok(port) => {
                            self.opened(port);
                            return PortEvent::Opened;
                        }
                        Err(error) => {
                            if self.failed(&error, watch, began) {
                                return PortEvent::Away;
                            }
                        }
                    }
                }
                State::Open { stream, since, live, silent, errors } => match stream.read(&mut self.buffer).await {
                    Ok(count) if count > 0 => {
                        let now = self.clock.now();
                        let midway = *live && *silent && now.since(*since) < PORT_JOIN;
                        *silent = false;
                        // SAFETY: the stream is borrowed for longer, and keeps its descriptor open.
                        let port = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
                        if let Some(edge) = errors.look(port, now) {
                            tell_line_errors(&self.settings.id, edge, now);
                        }
                        return PortEvent::Bytes { bytes: &self.buffer[..count], midway };
                    }
                    Ok(_) => {
                        self.lost("end of file");
                        return PortEvent::Away;
                    }
                    Err(error) => {
                        self.lost(&error.to_string());
                        return PortEvent::Away;
                    }
                },
            }
        }
    }

    /// Writes the bytes, all of them or an error. What is read meanwhile waits with the kernel.
    ///
    /// # Errors
    /// In words: the port is away, or does not take them in time.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let State::Open { stream, .. } = &mut self.state else { return Err("its port is away".to_owned()) };
        match tokio::time::timeout(SERIAL_WRITE_PATIENCE, stream.write_all(bytes)).await {
            Ok(outcome) => outcome.map_err(|error| format!("its port refuses: {error}")),
            Err(_) => Err("its port takes nothing".to_owned()),
        }
    }

    fn begin(&mut self) {
        let watch = DeviceWatch::new(&self.settings.device, &self.roots);
        let (settings, roots) = (self.settings.clone(), self.roots.clone());
        let task = tokio::task::spawn_blocking(move || open(&settings, &roots));
        self.state = State::Opening { task, watch, began: self.clock.now() };
    }

    fn opened(&mut self, port: OpenPort) {
        let now = self.clock.now();
        let OpenPort { stream, live, rs485 } = port;
        // An adapter that comes back is no news; another one in its place may be.
        if let Some(error) = rs485.filter(|error| self.rs485 != Some(*error)) {
            warn!(bus = %self.settings.id, device = %self.settings.device, error = %error, "RS-485 is not switched by the port");
        }
        self.rs485 = rs485;
        self.state = State::Open { stream, since: now, live, silent: true, errors: LineErrors::default() };
        if let Some(Outage { since, failed }) = self.outage.take() {
            let outage_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            info!(bus = %self.settings.id, failed, outage_ms, "port is open again");
        } else {
            debug!(bus = %self.settings.id, "port is open");
        }
    }

    /// A try failed. Whether this is the first of an outage, which is told.
    fn failed(&mut self, error: &OpenError, watch: Option<DeviceWatch>, began: Moment) -> bool {
        let wait = self.backoff.next_wait(fastrand::f64());
        let now = self.clock.now();
        self.state = State::Away { watch, began, retry_at: now + wait };
        let first = self.outage.is_none();
        let outage = self.outage.get_or_insert(Outage { since: now, failed: 0 });
        outage.failed = outage.failed.saturating_add(1);
        if first {
            warn!(bus = %self.settings.id, device = %self.settings.device, error = %error, "port cannot be opened");
        } else {
            let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            debug!(bus = %self.settings.id, attempt = outage.failed, delay_ms, error = %error, "port cannot be opened");
        }
        first
    }

    /// The open port is gone.
    fn lost(&mut self, reason: &str) {
        let now = self.clock.now();
        if let State::Open { since, .. } = &self.state
            && now.since(*since) >= PORT_STABLE
        {
            self.backoff.reset();
        }
        let wait = self.backoff.next_wait(fastrand::f64());
        let watch = DeviceWatch::new(&self.settings.device, &self.roots);
        // The old stream is closed here, before the port is opened again.
        self.state = State::Away { watch, began: now, retry_at: now + wait };
        self.outage = Some(Outage { since: now, failed: 0 });
        warn!(bus = %self.settings.id, device = %self.settings.device, error = reason, "port went away");
    }
}

fn tell_line_errors(bus: &BusId, edge: Edge, now: Moment) {
    match edge {
        Edge::Began(Troubles { lost, framing, parity }) => {
            let hint =
                if framing + parity > 0 { "check baud, parity and wiring" } else { "the machine is too slow or busy" };
            warn!(%bus, lost, framing, parity, hint, "characters are lost or garbled on the line");
        }
        Edge::Ended(Troubles { lost, framing, parity }, since) => {
            let outage_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            info!(%bus, lost, framing, parity, outage_ms, "the line is clean again");
        }
    }
}

#[cfg(test)]
mod tests;

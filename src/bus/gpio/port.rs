//! An input and its life: being taken, held, away, and taken again for ever.
//!
//! What may wait for a chip (taking a line, looking at it) is done on a blocking thread, and the line goes there with it: a chip behind a bus
//! that hangs holds up its own lines alone.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::{Gpio, GpioError, InputLine, InputRequest, LineEdge};
use crate::clock::Clock;
use crate::limits::{GPIO_EDGES_AT_ONCE, GPIO_EDGES_PAUSE, GPIO_LOOK, PORT_RETRY_MAX, PORT_RETRY_MIN, PORT_STABLE};
use crate::logic::retry::Backoff;
use crate::model::{Moment, SensorId};

/// What a line has to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum LineEvent<'a> {
    /// It is held; and is active or not.
    Opened {
        /// Whether it is active.
        active: bool,
    },
    /// There were edges.
    Edges(&'a [LineEdge]),
    /// It was looked at.
    Level {
        /// Whether it is active.
        active: bool,
    },
    /// It is not there, or somebody else holds it. Told once; it is tried again until it can be had.
    Away,
}

/// An input.
pub struct LinePort {
    gpio: Arc<dyn Gpio>,
    request: InputRequest,
    sensor: SensorId,
    clock: Arc<dyn Clock>,
    state: State,
    backoff: Backoff,
    /// Since when the line is away, and how many tries failed since. `None` while it is held.
    outage: Option<Outage>,
    edges: Vec<LineEdge>,
}

type Taken = (Box<dyn InputLine>, bool);

enum State {
    /// A blocking thread takes the line.
    Opening(JoinHandle<Result<Taken, GpioError>>),
    /// Edges come.
    Open {
        line: Box<dyn InputLine>,
        since: Moment,
        /// When it is looked at next, whatever happens.
        look_at: Moment,
        /// It storms: nothing is read before this.
        resume_at: Option<Moment>,
    },
    /// A blocking thread looks at it.
    Looking { task: JoinHandle<Result<Taken, GpioError>>, since: Moment },
    /// Waiting for the time.
    Away { retry_at: Moment },
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Moment,
    failed: u32,
}

impl LinePort {
    /// A line that is not yet taken, for a sensor.
    pub fn new(gpio: Arc<dyn Gpio>, request: InputRequest, sensor: SensorId, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self {
            gpio,
            request,
            sensor,
            clock,
            state: State::Away { retry_at: now },
            backoff: Backoff::new(PORT_RETRY_MIN, PORT_RETRY_MAX),
            outage: None,
            edges: Vec::with_capacity(GPIO_EDGES_AT_ONCE),
        }
    }

    /// Waits for what comes next; at `look_at` the line is looked at. Cancel safe.
    pub async fn next(&mut self, look_at: Option<Moment>) -> LineEvent<'_> {
        self.edges.clear();
        loop {
            let now = self.clock.now();
            match &mut self.state {
                State::Away { retry_at } => {
                    tokio::time::sleep(retry_at.since(now)).await;
                    self.begin();
                }
                State::Opening(task) => {
                    let outcome = task.await.unwrap_or_else(|error| Err(GpioError::Refused(error.to_string())));
                    match outcome {
                        Ok((line, active)) => {
                            self.opened(line);
                            return LineEvent::Opened { active };
                        }
                        Err(error) => {
                            if self.failed(&error) {
                                return LineEvent::Away;
                            }
                        }
                    }
                }
                State::Looking { task, since } => {
                    let since = *since;
                    let outcome = task.await.unwrap_or_else(|error| Err(GpioError::Refused(error.to_string())));
                    match outcome {
                        Ok((line, active)) => {
                            let look_at = self.clock.now() + GPIO_LOOK;
                            self.state = State::Open { line, since, look_at, resume_at: None };
                            return LineEvent::Level { active };
                        }
                        Err(error) => {
                            self.lost(&error, since);
                            return LineEvent::Away;
                        }
                    }
                }
                State::Open { line, look_at: own, resume_at, .. } => {
                    if let Some(at) = *resume_at {
                        tokio::time::sleep(at.since(now)).await;
                        *resume_at = None;
                    }
                    let look_at = look_at.unwrap_or(*own).min(*own);
                    tokio::select! {
                        biased;
                        came = line.edges(&mut self.edges) => match came {
                            Ok(()) => {
                                if self.edges.len() >= GPIO_EDGES_AT_ONCE {
                                    *resume_at = Some(now + GPIO_EDGES_PAUSE);
                                }
                                return LineEvent::Edges(&self.edges);
                            }
                            Err(error) => {
                                let since = self.held_since(now);
                                self.lost(&error, since);
                                return LineEvent::Away;
                            }
                        },
                        () = tokio::time::sleep(look_at.since(now)) => self.look(),
                    }
                }
            }
        }
    }

    /// Gives the line back. A thread that is taking it or looking at it is waited for: the line is free when this returns.
    pub async fn close(self) {
        match self.state {
            State::Opening(task) | State::Looking { task, .. } => drop(task.await),
            State::Open { .. } | State::Away { .. } => {}
        }
    }

    fn begin(&mut self) {
        let (gpio, request) = (self.gpio.clone(), self.request.clone());
        self.state = State::Opening(tokio::task::spawn_blocking(move || {
            let line = gpio.input(&request)?;
            let active = line.active()?;
            Ok((line, active))
        }));
    }

    fn look(&mut self) {
        let now = self.clock.now();
        let since = self.held_since(now);
        match std::mem::replace(&mut self.state, State::Away { retry_at: now }) {
            State::Open { line, .. } => {
                let task = tokio::task::spawn_blocking(move || {
                    let active = line.active()?;
                    Ok((line, active))
                });
                self.state = State::Looking { task, since };
            }
            other => self.state = other,
        }
    }

    fn held_since(&self, now: Moment) -> Moment {
        match self.state {
            State::Open { since, .. } | State::Looking { since, .. } => since,
            State::Opening(_) | State::Away { .. } => now,
        }
    }

    fn opened(&mut self, line: Box<dyn InputLine>) {
        let now = self.clock.now();
        self.state = State::Open { line, since: now, look_at: now + GPIO_LOOK, resume_at: None };
        if let Some(Outage { since, failed }) = self.outage.take() {
            let outage_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            info!(sensor = %self.sensor, line = %self.request.line, failed, outage_ms, "line is there again");
        } else {
            debug!(sensor = %self.sensor, line = %self.request.line, "line is held");
        }
    }

    /// A try failed. Whether this is the first of an outage, which is told.
    fn failed(&mut self, error: &GpioError) -> bool {
        let wait = self.backoff.next_wait(fastrand::f64());
        let now = self.clock.now();
        self.state = State::Away { retry_at: now + wait };
        let first = self.outage.is_none();
        let outage = self.outage.get_or_insert(Outage { since: now, failed: 0 });
        outage.failed = outage.failed.saturating_add(1);
        let (sensor, line) = (&self.sensor, &self.request.line);
        if first {
            warn!(%sensor, %line, %error, "line cannot be taken");
        } else {
            let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            debug!(%sensor, %line, attempt = outage.failed, delay_ms, %error, "line cannot be taken");
        }
        first
    }

    /// The line that was held is gone.
    fn lost(&mut self, error: &GpioError, held_since: Moment) {
        let now = self.clock.now();
        if now.since(held_since) >= PORT_STABLE {
            self.backoff.reset();
        }
        let wait = self.backoff.next_wait(fastrand::f64());
        // The old line is given back here, before it is taken again.
        self.state = State::Away { retry_at: now + wait };
        self.outage = Some(Outage { since: now, failed: 0 });
        warn!(sensor = %self.sensor, line = %self.request.line, %error, "line went away");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Bias, Edges, LineRef, SimulatedGpio};
    use super::*;
    use crate::clock::SystemClock;

    fn bench() -> (SimulatedGpio, LinePort) {
        let gpio = SimulatedGpio::new(SystemClock::shared());
        let request = InputRequest {
            line: LineRef::Named("DOOR".into()),
            active_low: false,
            bias: Bias::AsIs,
            edges: Edges::Both,
            consumer: "tidegate:door".into(),
        };
        let sensor = SensorId::parse("door").unwrap();
        let port = LinePort::new(Arc::new(gpio.clone()), request, sensor, SystemClock::shared());
        (gpio, port)
    }

    async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), future)
            .await
            .unwrap_or_else(|_| panic!("awaited in vain: {what}"))
    }

    #[tokio::test]
    async fn a_line_tells_that_it_is_held_its_edges_and_its_level_when_asked() {
        let (gpio, mut port) = bench();
        gpio.drive("DOOR", true);
        assert_eq!(within("the line", port.next(None)).await, LineEvent::Opened { active: true });
        gpio.drive("DOOR", false);
        let LineEvent::Edges(edges) = within("an edge", port.next(None)).await else { panic!("no edges") };
        assert_eq!(edges.iter().map(|edge| edge.active).collect::<Vec<_>>(), [false]);
        let now = SystemClock.now();
        assert_eq!(within("a look", port.next(Some(now))).await, LineEvent::Level { active: false });
    }

    #[tokio::test]
    async fn a_line_that_somebody_holds_is_told_once_and_taken_when_it_is_free() {
        let (gpio, mut port) = bench();
        gpio.fail("DOOR", Some(GpioError::Held { consumer: "gpio-fan".into() }));
        assert_eq!(within("the refusal", port.next(None)).await, LineEvent::Away);
        let outcome = tokio::time::timeout(Duration::from_millis(300), port.next(None)).await;
        assert!(outcome.is_err(), "told twice: {outcome:?}");
        gpio.fail("DOOR", None);
        assert_eq!(within("the line", port.next(None)).await, LineEvent::Opened { active: false });
    }

    #[tokio::test]
    async fn a_chip_that_goes_away_while_nothing_moves_is_noticed_and_the_line_taken_again() {
        let (gpio, mut port) = bench();
        within("the line", port.next(None)).await;
        gpio.fail("DOOR", Some(GpioError::Gone));
        assert_eq!(within("the loss", port.next(None)).await, LineEvent::Away);
        gpio.fail("DOOR", None);
        assert_eq!(within("the line", port.next(None)).await, LineEvent::Opened { active: false });
    }

    #[tokio::test]
    async fn a_closed_line_is_free_for_others() {
        let (gpio, mut port) = bench();
        // Its thread is just taking it.
        let _ = tokio::time::timeout(Duration::ZERO, port.next(None)).await;
        port.close().await;
        assert!(!gpio.list().unwrap()[0].lines.iter().any(|line| line.used));
    }
}

//! A chip inside the process: for the demo, for tests, and to try a config before the wires are there.
//!
//! A line is there as soon as somebody asks for it, by any name. What a name begins with says what an input does by itself:
//!
//! | name | what it does |
//! |---|---|
//! | `square` | changes at an even pace; `rate` is how often a second it becomes active |
//! | `pulses` | short pulses at random times, `rate` a second on average |
//! | `button` | held down for a random while, now and then; `rate` is how often a second on average |
//! | anything else | nothing: it is for outputs, and for tests that drive it |
//!
//! with `?rate=NUMBER` and `&seed=NUMBER` behind it. The same name and seed make the same pulses; only their pace is the clock's. A line with
//! a pull-up rests high, and its pulses are low, as those of a switch to ground are.
//!
//! Of an output the level is kept, and every change of it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::generator::Generator;
pub use super::generator::{NAMES, SimulatedLineError, check};
use super::{
    Bias, ChipInfo, Edges, EdgesComing, Gpio, GpioError, InputLine, InputRequest, LineEdge, LineInfo, LineRef,
    OutputLine, OutputRequest,
};
use crate::clock::Clock;
use crate::limits::{GPIO_EDGES_AT_ONCE, SIMULATED_EDGES};
use crate::model::Moment;

/// A chip inside the process. Its clones are the same chip.
#[derive(Clone)]
pub struct SimulatedGpio {
    clock: Arc<dyn Clock>,
    /// What no generator's name is, is a button all the same.
    lively: bool,
    lines: Arc<Mutex<BTreeMap<String, Line>>>,
}

#[derive(Default)]
struct Line {
    /// Its voltage.
    high: bool,
    /// Whether somebody put a voltage on it: until then its pull does.
    driven: bool,
    /// Who holds it.
    holder: Option<Holder>,
    /// Every change of an output's voltage, the request's first: when, and to what.
    trace: VecDeque<(Moment, bool)>,
    /// What every request and reading of it is answered with.
    fault: Option<GpioError>,
}

struct Holder {
    consumer: String,
    output: bool,
    active_low: bool,
    edges: Edges,
    /// Edges not yet taken, numbered as the kernel does.
    waiting: VecDeque<(u32, LineEdge)>,
    count: u32,
    wake: Arc<Notify>,
}

impl SimulatedGpio {
    /// A chip whose lines are low.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, lively: false, lines: Arc::default() }
    }

    /// The same chip, with somebody who presses what does nothing by itself: each line as a button of its own.
    #[must_use]
    pub fn lively(self) -> Self {
        Self { lively: true, ..self }
    }

    /// Puts a voltage on a line, as the world outside does.
    pub fn drive(&self, name: &str, high: bool) {
        let now = self.clock.now();
        self.lines().entry(name.to_owned()).or_default().drive(high, now);
    }

    /// Loses edges of a line, as a kernel whose buffer is full does: they are numbered and not told. An odd number leaves the voltage changed.
    pub fn lose(&self, name: &str, edges: u32) {
        let mut lines = self.lines();
        let line = lines.entry(name.to_owned()).or_default();
        line.high ^= edges % 2 == 1;
        if let Some(holder) = &mut line.holder {
            holder.count = holder.count.wrapping_add(edges);
        }
    }

    /// The voltage of a line; `None` for one that nobody asked for.
    pub fn high(&self, name: &str) -> Option<bool> {
        self.lines().get(name).map(|line| line.high)
    }

    /// What an output did since it was first taken: when its voltage was set, and to what. The newest [`SIMULATED_EDGES`] are kept.
    pub fn trace(&self, name: &str) -> Vec<(Moment, bool)> {
        self.lines().get(name).map(|line| line.trace.iter().copied().collect()).unwrap_or_default()
    }

    /// Makes every request and reading of a line fail, as a chip that is gone or a line that somebody holds does; `None` mends it.
    pub fn fail(&self, name: &str, fault: Option<GpioError>) {
        let mut lines = self.lines();
        let line = lines.entry(name.to_owned()).or_default();
        line.fault = fault;
        if let Some(holder) = &line.holder {
            holder.wake.notify_one();
        }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, name: &str, holder: Holder) -> Result<(), GpioError> {
        let mut lines = self.lines();
        let line = lines.entry(name.to_owned()).or_default();
        if let Some(fault) = &line.fault {
            return Err(fault.clone());
        }
        if let Some(holder) = &line.holder {
            return Err(GpioError::Held { consumer: holder.consumer.clone() });
        }
        line.holder = Some(holder);
        Ok(())
    }

    fn held(&self, name: &str) -> Held {
        Held { gpio: self.clone(), name: name.to_owned() }
    }
}

impl Line {
    fn drive(&mut self, high: bool, now: Moment) {
        self.driven = true;
        if self.high == high {
            return;
        }
        self.high = high;
        let Some(holder) = &mut self.holder else { return };
        let active = high != holder.active_low;
        let told = match holder.edges {
            Edges::Both => true,
            Edges::Rising => active,
            Edges::Falling => !active,
        };
        if holder.output || !told {
            return;
        }
        holder.count = holder.count.wrapping_add(1);
        if holder.waiting.len() >= SIMULATED_EDGES {
            holder.waiting.pop_front();
        }
        holder.waiting.push_back((holder.count, LineEdge { active, at: now, lost: 0 }));
        holder.wake.notify_one();
    }
}

impl Gpio for SimulatedGpio {
    fn input(&self, request: &InputRequest) -> Result<Box<dyn InputLine>, GpioError> {
        let name = name_of(&request.line);
        let mut generator = Generator::new(&name).map_err(|error| GpioError::Refused(error.to_string()))?;
        if self.lively && generator.is_none() {
            generator = Some(Generator::button(&name));
        }
        let wake = Arc::new(Notify::new());
        self.hold(
            &name,
            Holder {
                consumer: request.consumer.clone(),
                output: false,
                active_low: request.active_low,
                edges: request.edges,
                waiting: VecDeque::new(),
                count: 0,
                wake: wake.clone(),
            },
        )?;
        let held = self.held(&name);
        let rests_high = request.bias == Bias::PullUp;
        held.with(|line| {
            if !line.driven {
                line.high = rests_high;
            }
        })?;
        let now = self.clock.now();
        let generator = generator.map(|mut generator| {
            let first = now + generator.next_change().1;
            (generator, first)
        });
        Ok(Box::new(Input { held, active_low: request.active_low, rests_high, wake, generator, last: 0 }))
    }

    fn output(&self, request: &OutputRequest) -> Result<Box<dyn OutputLine>, GpioError> {
        let name = name_of(&request.line);
        self.hold(
            &name,
            Holder {
                consumer: request.consumer.clone(),
                output: true,
                active_low: request.active_low,
                edges: Edges::Both,
                waiting: VecDeque::new(),
                count: 0,
                wake: Arc::default(),
            },
        )?;
        let mut output = Output { held: self.held(&name), active_low: request.active_low };
        output.set(request.initial)?;
        Ok(Box::new(output))
    }

    fn list(&self) -> Result<Vec<ChipInfo>, GpioError> {
        let lines = self.lines();
        let lines = lines.iter().zip(0..).map(|((name, line), offset)| LineInfo {
            offset,
            name: name.clone(),
            consumer: line.holder.as_ref().map(|holder| holder.consumer.clone()).unwrap_or_default(),
            used: line.holder.is_some(),
            output: line.holder.as_ref().is_some_and(|holder| holder.output),
        });
        Ok(vec![ChipInfo { path: PathBuf::from("simulated"), label: "simulated".into(), lines: lines.collect() }])
    }
}

/// Any line has its place here.
fn name_of(line: &LineRef) -> String {
    match line {
        LineRef::Named(name) | LineRef::Simulated(name) => name.clone(),
        LineRef::Offset { chip, offset } => format!("{chip} {offset}"),
    }
}

/// A line that is held; given back when dropped.
struct Held {
    gpio: SimulatedGpio,
    name: String,
}

impl Held {
    fn with<T>(&self, act: impl FnOnce(&mut Line) -> T) -> Result<T, GpioError> {
        let mut lines = self.gpio.lines();
        let line = lines.entry(self.name.clone()).or_default();
        match &line.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(act(line)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(line) = self.gpio.lines().get_mut(&self.name) {
            line.holder = None;
        }
    }
}

struct Input {
    held: Held,
    active_low: bool,
    wake: Arc<Notify>,
    /// What it does by itself, and when it does that next.
    generator: Option<(Generator, Moment)>,
    rests_high: bool,
    /// Number of the edge told last.
    last: u32,
}

impl InputLine for Input {
    fn active(&self) -> Result<bool, GpioError> {
        let high = self.held.with(|line| line.high)?;
        Ok(high != self.active_low)
    }

    fn edges<'a>(&'a mut self, out: &'a mut Vec<LineEdge>) -> EdgesComing<'a> {
        Box::pin(async move {
            loop {
                let mut last = self.last;
                let taken = self.held.with(|line| {
                    let Some(holder) = &mut line.holder else { return 0 };
                    let count = holder.waiting.len().min(GPIO_EDGES_AT_ONCE);
                    for (number, mut edge) in holder.waiting.drain(..count) {
                        edge.lost = number.wrapping_sub(last).wrapping_sub(1);
                        last = number;
                        out.push(edge);
                    }
                    count
                })?;
                self.last = last;
                if taken > 0 {
                    return Ok(());
                }
                let Some((generator, next)) = &mut self.generator else {
                    self.wake.notified().await;
                    continue;
                };
                let clock = &self.held.gpio.clock;
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(next.since(clock.now())) => {
                        let (acts, span) = generator.next_change();
                        *next = *next + span;
                        let high = acts != self.rests_high;
                        self.held.with(|line| line.drive(high, clock.now()))?;
                    }
                }
            }
        })
    }
}

struct Output {
    held: Held,
    active_low: bool,
}

impl OutputLine for Output {
    fn set(&mut self, active: bool) -> Result<(), GpioError> {
        let high = active != self.active_low;
        let now = self.held.gpio.clock.now();
        self.held.with(|line| {
            line.high = high;
            if line.trace.len() >= SIMULATED_EDGES {
                line.trace.pop_front();
            }
            line.trace.push_back((now, high));
        })
    }

    fn active(&self) -> Result<bool, GpioError> {
        let high = self.held.with(|line| line.high)?;
        Ok(high != self.active_low)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Drive;
    use super::*;
    use crate::clock::{FakeClock, SystemClock};

    fn request(name: &str, active_low: bool, bias: Bias) -> InputRequest {
        let line = LineRef::Named(name.into());
        InputRequest { line, active_low, bias, edges: Edges::Both, consumer: "test".into() }
    }

    fn output(name: &str, active_low: bool, initial: bool) -> OutputRequest {
        let line = LineRef::Simulated(name.into());
        OutputRequest { line, active_low, drive: Drive::PushPull, bias: Bias::AsIs, initial, consumer: "pump".into() }
    }

    #[tokio::test]
    async fn edges_are_told_in_the_lines_own_logic_and_lost_ones_are_counted() {
        let gpio = SimulatedGpio::new(Arc::new(FakeClock::new(0)));
        let mut line = gpio.input(&request("door", true, Bias::PullUp)).unwrap();
        assert!(!line.active().unwrap(), "at rest, pulled up");
        gpio.drive("door", false);
        gpio.lose("door", 3);
        gpio.drive("door", false);
        let mut edges = Vec::new();
        line.edges(&mut edges).await.unwrap();
        let told: Vec<_> = edges.iter().map(|edge| (edge.active, edge.lost)).collect();
        assert_eq!(told, [(true, 0), (true, 3)]);
        assert!(line.active().unwrap());
    }

    #[test]
    fn an_output_has_its_level_from_the_request_on_and_remembers_what_it_did() {
        let gpio = SimulatedGpio::new(Arc::new(FakeClock::new(0)));
        let mut relay = gpio.output(&output("relay", true, false)).unwrap();
        assert_eq!(gpio.high("relay"), Some(true), "inactive is high");
        relay.set(true).unwrap();
        assert!(relay.active().unwrap());
        let trace: Vec<_> = gpio.trace("relay").into_iter().map(|(_, high)| high).collect();
        assert_eq!(trace, [true, false]);
    }

    #[test]
    fn a_line_has_one_holder_until_it_is_given_back() {
        let gpio = SimulatedGpio::new(Arc::new(FakeClock::new(0)));
        let relay = gpio.output(&output("relay", false, false)).unwrap();
        let error = gpio.input(&request("relay", false, Bias::AsIs)).err().unwrap();
        assert_eq!(error.to_string(), "line is held by `pump`");
        drop(relay);
        assert!(gpio.input(&request("relay", false, Bias::AsIs)).is_ok());
    }

    #[tokio::test]
    async fn a_square_wave_alternates_and_a_failing_line_says_so() {
        let gpio = SimulatedGpio::new(SystemClock::shared());
        let mut line = gpio.input(&request("square?rate=100", false, Bias::AsIs)).unwrap();
        let mut edges = Vec::new();
        while edges.len() < 4 {
            line.edges(&mut edges).await.unwrap();
        }
        let levels: Vec<_> = edges.iter().map(|edge| edge.active).collect();
        assert_eq!(levels, [true, false, true, false]);
        gpio.fail("square?rate=100", Some(GpioError::Gone));
        assert_eq!(line.edges(&mut edges).await, Err(GpioError::Gone));
        assert_eq!(line.active(), Err(GpioError::Gone));
    }
}

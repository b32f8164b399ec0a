//! Counts the pulses of a line: a rain gauge, a water or electricity meter, an anemometer.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use toml::de::DeTable;

use super::super::options::Fields;
use super::super::{Build, Built, DriverSpec, LineDriver, LineFactory, LineOutcome};
use super::input::restless;
use super::line;
use crate::bus::gpio::{Edges, InputRequest, LineEdge};
use crate::limits::{COUNTER_DEBOUNCE, COUNTER_EVERY};
use crate::logic::counter::{CountedEdge, Counter};
use crate::logic::debounce::Input;
use crate::model::{LineTotals, Moment, Sample, Value};

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "gpio-counter",
    summary: "Pulses of a GPIO line, counted; the total outlives restarts",
    channels: &[],
    example: "line = \"GPIO17\"\nbias = \"pull-up\"\nedge = \"falling\"\n",
    schema: || schemars::schema_for!(Options),
    build: Build::Line(decode),
};

const KEYS: &[&str] = &["active_low", "bias", "chip", "debounce", "edge", "line", "offset"];

/// Keys of a sensor with `driver = "gpio-counter"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand (see `options`).
struct Options {
    /// Name of the line, as the board's firmware gave it (`GPIO17`), or a simulated one (`sim:pulses`).
    line: Option<String>,
    /// Instead of `line`: label of the chip (`pinctrl-rp1`). Never its number, which changes from kernel to kernel.
    chip: Option<String>,
    /// Instead of `line`: offset of the line in that chip.
    offset: Option<u32>,
    /// What counts: `rising`, `falling` or `both`. With `active_low`, rising is the voltage falling. Default `rising`.
    edge: Option<String>,
    /// Whether the line is active while its voltage is low. Default false.
    active_low: Option<bool>,
    /// Resistor inside the chip: `pull-up`, `pull-down`, `disabled`; `as-is` leaves what is set. Default `as-is`.
    bias: Option<String>,
    /// How long a level must hold to count, up to 10s: shorter than the shortest pulse and the shortest pause. `0s` counts each edge that the
    /// kernel tells, for a signal that does not bounce. Default `5ms`.
    debounce: Option<String>,
}

struct CounterFactory {
    request: InputRequest,
    debounce: Duration,
    edge: CountedEdge,
}

fn decode(table: DeTable<'_>) -> Built<dyn LineFactory> {
    let mut fields = Fields::new(table, KEYS);
    let line = line::line(&mut fields);
    let bias = line::bias(&mut fields);
    let active_low = line::active_low(&mut fields);
    let debounce = line::debounce(&mut fields, COUNTER_DEBOUNCE);
    let edge = match fields.text("edge") {
        Some(word) => line::choice(
            &mut fields,
            "edge",
            &word,
            &[("rising", CountedEdge::Rising), ("falling", CountedEdge::Falling), ("both", CountedEdge::Both)],
        ),
        None => Some(CountedEdge::Rising),
    };
    let errors = fields.finish();
    match (line, bias, edge) {
        (Some(line), Some(bias), Some(edge)) if errors.is_empty() => {
            // A debounce has to see both levels. Without one the kernel tells only what counts, which is half the work and no guess: it need
            // not look at the line to know which edge it was.
            let edges = match edge {
                CountedEdge::Rising if debounce.is_zero() => Edges::Rising,
                CountedEdge::Falling if debounce.is_zero() => Edges::Falling,
                _ => Edges::Both,
            };
            let request = InputRequest { line, active_low, bias, edges, consumer: String::new() };
            Ok(Arc::new(CounterFactory { request, debounce, edge }))
        }
        _ => Err(errors),
    }
}

impl LineFactory for CounterFactory {
    fn make(&self) -> Box<dyn LineDriver> {
        Box::new(CounterDriver { counter: Counter::new(self.edge, self.debounce), quiet: self.debounce })
    }

    fn channels(&self) -> Vec<Arc<str>> {
        vec![COUNT.into(), RATE.into(), MISSED.into()]
    }

    fn request(&self) -> InputRequest {
        self.request.clone()
    }

    fn every(&self) -> Duration {
        COUNTER_EVERY
    }

    fn counts(&self) -> bool {
        true
    }
}

const COUNT: &str = "count";
const RATE: &str = "rate";
const MISSED: &str = "missed";

struct CounterDriver {
    counter: Counter,
    quiet: Duration,
}

impl LineDriver for CounterDriver {
    fn opened(&mut self, active: bool, now: Moment, out: &mut Vec<LineOutcome>) {
        self.counter.opened(active, now);
        self.tell(now, out);
    }

    fn edge(&mut self, edge: &LineEdge, now: Moment, out: &mut Vec<LineOutcome>) {
        self.handle(Input::Edge { active: edge.active, at: edge.at, lost: edge.lost }, now, out);
    }

    fn level(&mut self, active: bool, now: Moment, out: &mut Vec<LineOutcome>) {
        self.handle(Input::Level { active }, now, out);
    }

    fn tell(&mut self, now: Moment, out: &mut Vec<LineOutcome>) {
        if let Some(edges) = self.counter.restless() {
            out.push(LineOutcome::Unread(restless(edges, self.quiet)));
            return;
        }
        let LineTotals { count, missed } = self.counter.totals();
        let integer = |total: u64| Value::Integer(i64::try_from(total).unwrap_or(i64::MAX));
        let mut samples = vec![Sample { name: COUNT.into(), value: integer(count) }];
        samples
            .extend(self.counter.take_rate(now).map(|rate| Sample { name: RATE.into(), value: Value::Number(rate) }));
        samples.push(Sample { name: MISSED.into(), value: integer(missed) });
        out.push(LineOutcome::Samples { samples, at: now });
    }

    fn timeout(&self) -> Option<Moment> {
        self.counter.poll_timeout()
    }

    fn totals(&self) -> LineTotals {
        self.counter.totals()
    }

    fn restore(&mut self, totals: LineTotals) {
        self.counter.restore(totals);
    }
}

impl CounterDriver {
    fn handle(&mut self, input: Input, now: Moment, out: &mut Vec<LineOutcome>) {
        let before = self.counter.restless();
        self.counter.handle(input, now);
        if before != self.counter.restless() {
            self.tell(now, out);
        }
    }
}

//! The state of a line: a switch, a contact, the output of another device.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use toml::de::DeTable;

use super::super::options::Fields;
use super::super::{Build, Built, DriverSpec, LineDriver, LineFactory, LineOutcome};
use super::line;
use crate::bus::gpio::{Edges, InputRequest, LineEdge};
use crate::limits::{INPUT_DEBOUNCE, INPUT_EVERY};
use crate::logic::debounce::{Action, Debounce, Input};
use crate::model::{LineTotals, Moment, Sample, Value};

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "gpio-input",
    summary: "State of a GPIO line, told when it changes",
    channels: &[],
    example: "line = \"GPIO27\"\nbias = \"pull-up\"\nactive_low = true\n",
    schema: || schemars::schema_for!(Options),
    build: Build::Line(decode),
};

const KEYS: &[&str] = &["active_low", "bias", "chip", "debounce", "line", "offset", "off", "on"];

/// Keys of a sensor with `driver = "gpio-input"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand (see `options`).
struct Options {
    /// Name of the line, as the board's firmware gave it (`GPIO17`), or a simulated one (`sim:button`).
    line: Option<String>,
    /// Instead of `line`: label of the chip (`pinctrl-rp1`). Never its number, which changes from kernel to kernel.
    chip: Option<String>,
    /// Instead of `line`: offset of the line in that chip.
    offset: Option<u32>,
    /// Whether the line is active while its voltage is low, as that of a switch to ground is. Default false.
    active_low: Option<bool>,
    /// Resistor inside the chip: `pull-up`, `pull-down`, `disabled`; `as-is` leaves what is set. Default `as-is`.
    bias: Option<String>,
    /// How long a level must hold to count, up to 10s; `0s` takes each edge as it comes. Default `20ms`.
    debounce: Option<String>,
    /// Text told for an active line, with `off`. Default: true.
    on: Option<String>,
    /// Text told for an inactive line, with `on`. Default: false.
    off: Option<String>,
}

struct InputFactory {
    request: InputRequest,
    debounce: Duration,
    /// What is told of an inactive and of an active line.
    words: [Value; 2],
}

fn decode(table: DeTable<'_>) -> Built<dyn LineFactory> {
    let mut fields = Fields::new(table, KEYS);
    let line = line::line(&mut fields);
    let bias = line::bias(&mut fields);
    let active_low = line::active_low(&mut fields);
    let debounce = line::debounce(&mut fields, INPUT_DEBOUNCE);
    let alone = match (fields.span("on"), fields.span("off")) {
        (Some(span), None) => Some((span, "`on` needs `off`")),
        (None, Some(span)) => Some((span, "`off` needs `on`")),
        _ => None,
    };
    if let Some((span, message)) = alone {
        fields.error(span, message, None);
    }
    let words = match (fields.text("off"), fields.text("on")) {
        (Some(off), Some(on)) => {
            if off.content == on.content {
                fields.error(on.span, "`on` and `off` are the same text", None);
            }
            [Value::Text(off.content.into()), Value::Text(on.content.into())]
        }
        _ => [Value::Flag(false), Value::Flag(true)],
    };
    let errors = fields.finish();
    match (line, bias) {
        (Some(line), Some(bias)) if errors.is_empty() => {
            let request = InputRequest { line, active_low, bias, edges: Edges::Both, consumer: String::new() };
            Ok(Arc::new(InputFactory { request, debounce, words }))
        }
        _ => Err(errors),
    }
}

impl LineFactory for InputFactory {
    fn make(&self) -> Box<dyn LineDriver> {
        let words = self.words.clone();
        Box::new(InputDriver { quiet: self.debounce, debounce: None, restless: None, words })
    }

    fn channels(&self) -> Vec<Arc<str>> {
        vec![STATE.into()]
    }

    fn request(&self) -> InputRequest {
        self.request.clone()
    }

    fn every(&self) -> Duration {
        INPUT_EVERY
    }

    fn counts(&self) -> bool {
        false
    }
}

const STATE: &str = "state";

struct InputDriver {
    quiet: Duration,
    /// `None` while the line is away.
    debounce: Option<Debounce>,
    restless: Option<u64>,
    words: [Value; 2],
}

impl LineDriver for InputDriver {
    fn opened(&mut self, active: bool, now: Moment, out: &mut Vec<LineOutcome>) {
        self.debounce = Some(Debounce::new(self.quiet, active));
        self.restless = None;
        self.tell(now, out);
    }

    fn edge(&mut self, edge: &LineEdge, now: Moment, out: &mut Vec<LineOutcome>) {
        self.handle(Input::Edge { active: edge.active, at: edge.at, lost: edge.lost }, now, out);
    }

    fn level(&mut self, active: bool, now: Moment, out: &mut Vec<LineOutcome>) {
        self.handle(Input::Level { active }, now, out);
    }

    fn tell(&mut self, now: Moment, out: &mut Vec<LineOutcome>) {
        if let Some(edges) = self.restless {
            out.push(LineOutcome::Unread(restless(edges, self.quiet)));
        } else if let Some(debounce) = &self.debounce {
            out.push(self.state(debounce.active(), now));
        }
    }

    fn timeout(&self) -> Option<Moment> {
        self.debounce.as_ref().and_then(Debounce::poll_timeout)
    }

    fn totals(&self) -> LineTotals {
        LineTotals::default()
    }

    fn restore(&mut self, _totals: LineTotals) {}
}

impl InputDriver {
    fn handle(&mut self, input: Input, now: Moment, out: &mut Vec<LineOutcome>) {
        if let Some(debounce) = &mut self.debounce {
            debounce.handle(input, now);
        }
        while let Some(action) = self.debounce.as_mut().and_then(Debounce::poll_action) {
            match action {
                Action::Changed { active, at } => {
                    self.restless = None;
                    out.push(self.state(active, at));
                }
                Action::Calm => {
                    self.restless = None;
                    self.tell(now, out);
                }
                Action::Restless(edges) => {
                    self.restless = Some(edges);
                    self.tell(now, out);
                }
                // The state follows the level all the same; a pulse between two looks is what a counter is for.
                Action::Missed(_) => {}
            }
        }
    }

    fn state(&self, active: bool, at: Moment) -> LineOutcome {
        let value = self.words[usize::from(active)].clone();
        LineOutcome::Samples { samples: vec![Sample { name: STATE.into(), value }], at }
    }
}

/// Why there is no state.
pub(super) fn restless(edges: u64, quiet: Duration) -> String {
    format!("the line does not come to rest: of {edges} edges none held its level for {} ms", quiet.as_millis())
}

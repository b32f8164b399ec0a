//! A device on a serial port that is told what to do in words: each word of the actuator is a text on the wire.
//!
//! It cannot be asked what it is set to, so its state is what it was told last, and says so (`"assumed":true`).

use std::sync::Arc;

use schemars::JsonSchema;
use toml::de::DeValue;

use super::options::{flag, missing};
use super::{ActuatorFactory, ActuatorSpec, Device, Means, Way};
use crate::bus::SerialWriter;
use crate::drivers::options::{Fields, kind};
use crate::limits::{UART_WORD_BYTES_MAX, UART_WORDS_MAX};
use crate::logic::command::Vocabulary;
use crate::model::{Moment, Setting};

/// The row in the table of actuators.
pub(super) const SPEC: ActuatorSpec = ActuatorSpec {
    name: "uart-write",
    summary: "Words for a device on a serial port, each a text on the wire",
    example: "words = { on = \"PWR ON\", off = \"PWR OFF\" }\nend = \"\\r\\n\"\nrepeatable = true\n",
    schema: || schemars::schema_for!(Options),
    build: |table| {
        let mut fields = Fields::new(table, &KEYS);
        let plan = decode(&mut fields);
        let mistakes = fields.finish();
        match plan {
            Some(plan) if mistakes.is_empty() => Ok(Arc::new(plan) as Arc<dyn ActuatorFactory>),
            _ => Err(mistakes),
        }
    },
};

/// Keys of an actuator with `driver = "uart-write"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// The words it takes, and what each is on the wire: `{ on = "PWR ON", off = "PWR OFF" }`.
    words: Option<std::collections::BTreeMap<String, String>>,
    /// For numbers: the text on the wire, with `{value}` where the number goes. Goes with `range`.
    format: Option<String>,
    /// Least and greatest number that is taken: `[0, 100]`.
    range: Option<[f64; 2]>,
    /// What follows each text on the wire. Default `"\n"`.
    end: Option<String>,
    /// Whether a word that arrives twice does no more than once, as `PWR ON` does and `TOGGLE` does not. Default false: a command of QoS 1
    /// then needs an id.
    repeatable: Option<bool>,
}

const KEYS: [&str; 5] = ["words", "format", "range", "end", "repeatable"];

#[derive(Debug, Clone)]
struct UartWrite {
    words: Vec<(Arc<str>, String)>,
    format: Option<(String, (f64, f64))>,
    end: String,
    repeatable: bool,
}

fn decode(fields: &mut Fields<'_>) -> Option<UartWrite> {
    let is_told_nothing = !KEYS[..3].iter().any(|key| fields.has(key));
    let repeatable = flag(fields, "repeatable");
    let end = fields.text("end").map_or_else(|| "\n".to_owned(), |end| end.content);
    let mut words: Vec<(Arc<str>, String)> = Vec::new();
    if let Some((table, span)) = fields.table("words") {
        if table.len() > UART_WORDS_MAX {
            fields.error(span, format!("at most {UART_WORDS_MAX} words"), None);
        }
        for (name, value) in table {
            let word = name.get_ref().as_ref().to_owned();
            let is_word = !word.trim().is_empty() && word.trim().len() == word.len() && !word.starts_with('{');
            if !is_word || words.iter().any(|(known, _)| known.eq_ignore_ascii_case(&word)) {
                fields.error(name.span(), format!("`{word}` cannot be a word of its own"), None);
                continue;
            }
            let at = value.span();
            if let Some(text) = fields.as_text(&format!("words.{word}"), value) {
                if text.content.len() > UART_WORD_BYTES_MAX {
                    fields.error(at, format!("longer than {UART_WORD_BYTES_MAX} bytes"), None);
                }
                words.push((word.into(), text.content));
            }
        }
        // A table of TOML has no order of its own; what is told is.
        words.sort();
    }
    let (format_at, range_at) = (fields.span("format"), fields.span("range"));
    let format = fields.text("format");
    let range = fields.take("range").and_then(|value| {
        let bounds = bounds(value.get_ref());
        if bounds.is_none() {
            let found = kind(value.get_ref());
            fields.error(value.span(), format!("`range` must be two numbers, the lesser first, not {found}"), None);
        }
        bounds
    });
    let format = match (format, range) {
        (Some(format), Some(range)) => {
            if format.content.matches("{value}").count() != 1 || format.content.len() > UART_WORD_BYTES_MAX {
                fields.error(format.span, "`format` needs `{value}` once", None);
                return None;
            }
            Some((format.content, range))
        }
        (Some(_), None) if range_at.is_none() => {
            fields.error(format_at?, "`format` without `range`", Some("add `range = [0, 100]`".to_owned()));
            return None;
        }
        (None, Some(_)) => {
            fields.error(range_at?, "`range` without `format`", Some("add `format = \"SET {value}\"`".to_owned()));
            return None;
        }
        _ => None,
    };
    if is_told_nothing {
        missing(fields, "words", "words = { on = \"…\", off = \"…\" }, or `format` and `range`");
        return None;
    }
    Some(UartWrite { words, format, end, repeatable })
}

fn bounds(value: &DeValue<'_>) -> Option<(f64, f64)> {
    let number = |value: &DeValue<'_>| match value {
        DeValue::Integer(integer) => i32::from_str_radix(integer.as_str(), integer.radix()).ok().map(f64::from),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    };
    let DeValue::Array(items) = value else { return None };
    let mut items = items.iter();
    let (Some(low), Some(high), None) = (items.next(), items.next(), items.next()) else { return None };
    let (low, high) = (number(low.get_ref())?, number(high.get_ref())?);
    (low.is_finite() && high.is_finite() && low < high).then_some((low, high))
}

impl UartWrite {
    /// What a setting is on the wire.
    fn bytes(&self, setting: &Setting) -> Option<Vec<u8>> {
        let word = setting.word();
        let known = self.words.iter().find(|(known, _)| known.as_ref() == word).map(|(_, text)| text.clone());
        let text = known.or_else(|| self.format.as_ref().map(|(format, _)| format.replace("{value}", word)))?;
        Some((text + &self.end).into_bytes())
    }
}

impl ActuatorFactory for UartWrite {
    fn means(&self) -> Means {
        Means::Serial
    }

    fn vocabulary(&self) -> Vocabulary {
        let words = self.words.iter().map(|(word, _)| word.clone()).collect();
        Vocabulary::Words(words, self.format.as_ref().map(|(_, range)| *range))
    }

    fn repeatable(&self) -> bool {
        self.repeatable
    }

    fn readable(&self) -> bool {
        false
    }

    fn make(&self, way: Way) -> Option<Box<dyn Device>> {
        let Way::Serial(port) = way else { return None };
        Some(Box::new(Writer { plan: self.clone(), port, opened: None }))
    }
}

struct Writer {
    plan: UartWrite,
    port: SerialWriter,
    /// Since when its port was open when it was heard of last.
    opened: Option<Moment>,
}

impl Device for Writer {
    fn set(&mut self, setting: &Setting) -> Result<Option<Setting>, String> {
        let bytes = self.plan.bytes(setting).ok_or_else(|| format!("`{}` is no word of its own", setting.word()))?;
        self.opened = Some(self.port.write(&bytes)?);
        Ok(None)
    }

    fn check(&mut self) -> Result<Option<Setting>, String> {
        let opened = self.port.check()?;
        match self.opened.replace(opened) {
            Some(before) if before != opened => {
                Err("its port was away: what the device was told before, it may have forgotten".to_owned())
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::write_path;

    fn build(text: &str) -> Result<Arc<dyn ActuatorFactory>, Vec<String>> {
        let table = toml::de::DeTable::parse(text).unwrap().into_inner();
        (SPEC.build)(table).map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
    }

    #[test]
    fn each_word_is_its_text_and_a_number_stands_where_the_format_has_it() {
        let factory =
            build("words = { on = 'PWR ON', off = 'PWR OFF' }\nformat = 'DIM {value} %'\nrange = [0, 100]").unwrap();
        let (writer, queue) = write_path();
        let mut device = factory.make(Way::Serial(writer)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (setting, text) in
            [(Setting::On, "PWR ON\n"), (Setting::Off, "PWR OFF\n"), (Setting::Word("55".into()), "DIM 55 %\n")]
        {
            std::thread::scope(|scope| {
                let set = scope.spawn(|| device.set(&setting));
                let job = runtime.block_on(queue.next());
                assert_eq!(String::from_utf8_lossy(&job.bytes), text);
                job.end(Ok(Moment::ZERO));
                assert_eq!(set.join().unwrap(), Ok(None));
            });
        }
        let words = vec!["off".into(), "on".into()];
        assert_eq!(factory.vocabulary(), Vocabulary::Words(words, Some((0.0, 100.0))));
    }

    #[test]
    fn a_port_that_was_away_meanwhile_is_told_once() {
        let factory = build("words = { on = 'ON' }").unwrap();
        let (writer, queue) = write_path();
        let mut device = factory.make(Way::Serial(writer)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut check = |opened_s: u64| {
            std::thread::scope(|scope| {
                let check = scope.spawn(|| device.check());
                let opened = Moment::at(std::time::Duration::from_secs(opened_s));
                runtime.block_on(queue.next()).end(Ok(opened));
                check.join().unwrap()
            })
        };
        assert_eq!(check(1), Ok(None));
        assert_eq!(check(1), Ok(None));
        assert!(check(2).unwrap_err().contains("was away"));
        assert_eq!(check(2), Ok(None));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "`words` is missing"),
            ("words = { on = 1 }", "`words.on` must be a text, not a whole number"),
            ("words = { '' = 'x', on = 'y' }", "`` cannot be a word of its own"),
            ("words = { on = 'x', On = 'y' }", "`on` cannot be a word of its own"),
            ("format = 'SET'\nrange = [0, 1]", "`format` needs `{value}` once"),
            ("format = 'SET {value}'", "`format` without `range`"),
            ("range = [0, 1]", "`range` without `format`"),
            ("format = 'SET {value}'\nrange = [1, 0]", "`range` must be two numbers, the lesser first, not a list"),
        ] {
            assert_eq!(build(text).map(|_| ()).unwrap_err()[0], reason, "{text}");
        }
    }
}

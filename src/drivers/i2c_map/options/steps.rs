//! `init` and `steps`.

use std::ops::Range;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::{Act, Check, Fields, OptionsError, Step, bytes, whole};
use crate::config::kinds::duration;
use crate::limits::{MAP_BYTES_MAX, MAP_STEPS_MAX, MAP_WAIT_MAX};

/// Default pause between two looks of a poll, and its default end.
const POLL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Where reads put what they bring.
pub(super) struct Buffers {
    check: Option<Check>,
    /// Name and bytes without checksums.
    known: Vec<(String, usize)>,
}

impl Buffers {
    pub(super) fn new(check: Option<Check>) -> Self {
        Self { check, known: Vec::new() }
    }

    pub(super) fn lens(&self) -> Vec<usize> {
        self.known.iter().map(|(_, len)| *len).collect()
    }

    /// The names, for people.
    pub(super) fn names(&self) -> Vec<&str> {
        self.known.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Index and bytes of a buffer; without a name, of the only one.
    pub(super) fn find(&self, name: Option<&str>) -> Option<(usize, usize)> {
        match (name, self.known.as_slice()) {
            (None, [(_, len)]) => Some((0, *len)),
            (None, _) => None,
            (Some(name), known) => {
                known.iter().enumerate().find(|(_, (known, _))| known == name).map(|(index, (_, len))| (index, *len))
            }
        }
    }

    fn add(&mut self, name: &str, frame: usize) -> Result<usize, String> {
        if self.known.iter().any(|(known, _)| known == name) {
            return Err(match name {
                "" => "a second read needs `into`, and so does the first".to_owned(),
                name => format!("buffer `{name}` is read twice"),
            });
        }
        let len = match &self.check {
            Some(check) if !frame.is_multiple_of(check.every + check.len()) => {
                let group = check.every + check.len();
                return Err(format!("{frame} bytes are no whole number of groups of {group} with their checksums"));
            }
            Some(check) => frame / (check.every + check.len()) * check.every,
            None => frame,
        };
        self.known.push((name.to_owned(), len));
        Ok(self.known.len() - 1)
    }
}

/// Reads a list of steps.
pub(super) fn decode(
    fields: &mut Fields<'_>,
    key: &'static str,
    buffers: &mut Buffers,
    errors: &mut Vec<OptionsError>,
) -> Vec<Step> {
    let Some(at) = fields.span(key) else { return Vec::new() };
    let Some(tables) = fields.tables(key) else { return Vec::new() };
    if tables.is_empty() || tables.len() > MAP_STEPS_MAX {
        fields.error(at, format!("`{key}` must hold 1 to {MAP_STEPS_MAX} steps"), None);
        return Vec::new();
    }
    let steps: Vec<Step> = tables
        .into_iter()
        .filter_map(|(table, span)| {
            let mut fields = Fields::new(table, &["write", "read", "reg", "into", "poll", "expect", "delay"]);
            let step = step(&mut fields, span, buffers, errors);
            errors.extend(fields.finish());
            step
        })
        .collect();
    let waits = |step: &Step| match step.act {
        Act::Poll { every, times, .. } => step.delay + every * times,
        _ => step.delay,
    };
    let sum: Duration = steps.iter().map(waits).sum();
    if sum > MAP_WAIT_MAX {
        let what =
            format!("`{key}` waits {} ms in all; at most {} are allowed", sum.as_millis(), MAP_WAIT_MAX.as_millis());
        errors.push(OptionsError { span: at, message: what, help: None });
    }
    steps
}

fn step(
    fields: &mut Fields<'_>,
    span: Range<usize>,
    buffers: &mut Buffers,
    errors: &mut Vec<OptionsError>,
) -> Option<Step> {
    let waits = fields.has("delay");
    let delay = wait(fields, "delay").unwrap_or_default();
    let kinds = ["write", "read", "poll", "expect"];
    let chosen: Vec<&str> = kinds.into_iter().filter(|key| fields.has(key)).collect();
    if let [_, second, ..] = chosen[..]
        && let Some(at) = fields.span(second)
    {
        fields.error(at, format!("a step does one thing; `{}` is there already", chosen[0]), None);
        return None;
    }
    let act = match chosen.first().copied() {
        Some("write") => {
            let word = fields.text("write")?;
            Act::Write(bytes(fields, "write", &word)?)
        }
        Some("read") => {
            let at = fields.span("read")?;
            let ask = register(fields);
            let name = fields.text("into");
            let most = i64::try_from(MAP_BYTES_MAX).unwrap_or(i64::MAX);
            let len = fields.integer("read", 1..=most).and_then(|len| usize::try_from(len).ok())?;
            match buffers.add(name.as_ref().map_or("", |name| name.content.as_str()), len) {
                Ok(buffer) => Act::Read { ask: ask?, len, buffer },
                Err(what) => {
                    fields.error(name.map_or(at, |name| name.span), what, None);
                    return None;
                }
            }
        }
        Some("poll") => {
            let (table, span) = fields.table("poll")?;
            poll(table, span, errors)?
        }
        Some(_) => {
            let (table, span) = fields.table("expect")?;
            expect(table, span, errors)?
        }
        None if !waits => {
            fields.error(span, "a step does something: `write`, `read`, `poll`, `expect` or `delay`", None);
            return None;
        }
        None => Act::Wait,
    };
    if !matches!(act, Act::Read { .. }) {
        for key in ["reg", "into"] {
            if let Some(at) = fields.span(key) {
                fields.take(key);
                fields.error(at, format!("`{key}` belongs to a `read`"), None);
            }
        }
    }
    Some(Step { act, delay })
}

fn poll(table: DeTable<'_>, span: Range<usize>, errors: &mut Vec<OptionsError>) -> Option<Act> {
    let mut fields = Fields::new(table, &["reg", "mask", "equals", "every", "timeout"]);
    if !fields.has("equals") {
        fields.error(span, "a poll needs `equals`", None);
    }
    let ask = register(&mut fields);
    let byte = |fields: &mut Fields<'_>, key| fields.integer(key, 0..=0xff).and_then(|byte| u8::try_from(byte).ok());
    let mask = byte(&mut fields, "mask").unwrap_or(0xff);
    let at = fields.span("equals");
    let equals = byte(&mut fields, "equals");
    if let (Some(at), Some(equals)) = (at, equals)
        && equals & !mask != 0
    {
        fields.error(at, "`equals` has bits that `mask` takes away: it would never come", None);
    }
    let every = wait(&mut fields, "every").filter(|every| !every.is_zero()).unwrap_or(POLL.0);
    let timeout = wait(&mut fields, "timeout").unwrap_or(POLL.1);
    let times = u32::try_from(timeout.as_micros() / every.as_micros().max(1)).unwrap_or(u32::MAX).max(1);
    errors.extend(fields.finish());
    Some(Act::Poll { ask: ask?, mask, equals: equals?, every, times })
}

fn expect(table: DeTable<'_>, span: Range<usize>, errors: &mut Vec<OptionsError>) -> Option<Act> {
    let mut fields = Fields::new(table, &["reg", "equals", "mask"]);
    if !fields.has("equals") {
        fields.error(span, "an expectation needs `equals`", None);
    }
    let ask = register(&mut fields);
    let equals = fields.text("equals").and_then(|word| bytes(&mut fields, "equals", &word));
    let mask = match fields.text("mask") {
        None => equals.as_ref().map(|equals| vec![0xff; equals.len()]),
        Some(word) => bytes(&mut fields, "mask", &word).filter(|mask| {
            let fits = equals.as_ref().is_none_or(|equals| equals.len() == mask.len());
            if !fits {
                fields.error(word.span.clone(), "`mask` must be as long as `equals`", None);
            }
            fits
        }),
    };
    errors.extend(fields.finish());
    Some(Act::Expect { ask: ask?, equals: equals?, mask: mask? })
}

/// Takes `reg`: nothing to write where it is left out, `None` where it is wrong.
fn register(fields: &mut Fields<'_>) -> Option<Vec<u8>> {
    let Some(value) = fields.take("reg") else { return Some(Vec::new()) };
    let span = value.span();
    if let DeValue::String(_) = value.get_ref() {
        let word = fields.as_text("reg", value)?;
        return bytes(fields, "reg", &word);
    }
    let register = whole(value.get_ref()).and_then(|register| u8::try_from(register).ok());
    if register.is_none() {
        fields.error(span, "`reg` must be 0 to 0xff, or bytes in hexadecimal such as \"0f10\"", None);
    }
    register.map(|register| vec![register])
}

fn wait(fields: &mut Fields<'_>, key: &'static str) -> Option<Duration> {
    let word = fields.text(key)?;
    match duration(&word.content) {
        Ok(wait) if wait <= MAP_WAIT_MAX => Some(wait),
        Ok(_) => {
            fields.error(word.span, format!("`{key}` is longer than {} ms", MAP_WAIT_MAX.as_millis()), None);
            None
        }
        Err(why) => {
            fields.error(word.span, format!("`{key}` {why}"), None);
            None
        }
    }
}

//! `decode`.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::super::field::{Field, KINDS, Kind, ones};
use super::steps::Buffers;
use super::{Fields, OptionsError, whole};
use crate::config::diagnostic::nearest;
use crate::drivers::options::{as_number, list};
use crate::limits::MAP_VALUES_MAX;
use crate::logic::formula::Formula;

const KEYS: &[&str] = &[
    "from",
    "at",
    "type",
    "mask",
    "bits",
    "shift",
    "scale",
    "offset",
    "formula",
    "precision",
    "unit",
    "invalid",
    "simulate",
];

/// Reads the values, in the order they stand in.
pub(super) fn decode(
    table: DeTable<'_>,
    span: Range<usize>,
    buffers: &Buffers,
    errors: &mut Vec<OptionsError>,
) -> Vec<Field> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    if entries.is_empty() || entries.len() > MAP_VALUES_MAX {
        let message = format!("`decode` must hold 1 to {MAP_VALUES_MAX} values");
        errors.push(OptionsError { span, message, help: None });
        return Vec::new();
    }
    let mut values: Vec<Field> = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let at = name.span().start..value.span().end;
        let name: Arc<str> = name.get_ref().as_ref().into();
        let DeValue::Table(table) = value.into_inner() else {
            let message = format!("`decode.{name}` must be a table");
            let help = Some("such as `{ type = \"u16be\", scale = 0.1 }`".to_owned());
            errors.push(OptionsError { span: at, message, help });
            continue;
        };
        let mut fields = Fields::new(table, KEYS);
        let field = field(&mut fields, &name, at, &values, buffers);
        errors.extend(fields.finish());
        values.extend(field);
    }
    values
}

fn field(
    fields: &mut Fields<'_>,
    name: &Arc<str>,
    span: Range<usize>,
    before: &[Field],
    buffers: &Buffers,
) -> Option<Field> {
    let kind = value_kind(fields, span.clone());
    let at_span = fields.span("at");
    let at = fields.integer("at", 0..=255).and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
    let buffer = buffer(fields, span.clone(), buffers);
    if let (Some((_, len)), Some(kind)) = (buffer, kind)
        && at + kind.len > len
    {
        let what = format!("`{name}` needs bytes {at} to {} of a buffer of {len}", at + kind.len - 1);
        fields.error(at_span.unwrap_or(span), what, None);
    }
    let width = kind.map_or(32, Kind::width);
    let taken_apart = fields.span("mask").or_else(|| fields.span("bits"));
    let mask = fields.integer("mask", 0..=i64::from(ones(width))).and_then(|mask| u32::try_from(mask).ok());
    let bits = bits(fields, width);
    let shift = fields.integer("shift", 0..=i64::from(width) - 1).and_then(|shift| u32::try_from(shift).ok());
    if kind.is_some_and(|kind| !kind.has_bits())
        && let Some(at) = taken_apart
    {
        fields.error(at, "the bits of an `f32` cannot be taken apart", None);
    }
    let scale = fields.number("scale", -1e12..=1e12);
    let offset = fields.number("offset", -1e12..=1e12);
    let formula = formula(fields, before, scale.is_some() || offset.is_some());
    let precision = fields.integer("precision", 0..=9).and_then(|digits| i32::try_from(digits).ok());
    let unit = fields.text("unit").map(|unit| unit.content.as_str().into());
    let invalid = invalid(fields, width);
    let cut = bits.map_or(width, |(high, low)| high - low + 1).saturating_sub(shift.unwrap_or(0)).max(1);
    let simulate = simulate(fields, cut);
    let (kind, (buffer, _)) = (kind?, buffer?);
    Some(Field {
        name: name.clone(),
        buffer,
        at,
        kind,
        mask: mask.unwrap_or(u32::MAX),
        bits,
        shift: shift.unwrap_or(0),
        scale: scale.unwrap_or(1.0),
        offset: offset.unwrap_or(0.0),
        formula,
        precision,
        unit,
        invalid,
        simulate,
    })
}

fn value_kind(fields: &mut Fields<'_>, span: Range<usize>) -> Option<Kind> {
    if !fields.has("type") {
        fields.error(span, "a value needs `type`", Some("such as `type = \"u16be\"`".into()));
    }
    let word = fields.text("type")?;
    let kind = KINDS.iter().find(|kind| kind.name == word.content);
    if kind.is_none() {
        let names = || KINDS.iter().map(|kind| kind.name);
        let help = match nearest(&word.content, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", list(&names().collect::<Vec<_>>())),
        };
        fields.error(word.span, format!("unknown type `{}`", word.content), Some(help));
    }
    kind.copied()
}

/// Index and length of the buffer.
fn buffer(fields: &mut Fields<'_>, span: Range<usize>, buffers: &Buffers) -> Option<(usize, usize)> {
    let word = fields.text("from");
    let found = buffers.find(word.as_ref().map(|word| word.content.as_str()));
    if found.is_none() {
        let names = buffers.names();
        let (at, what) = match word {
            Some(word) => (word.span, format!("nothing is read into `{}`", word.content)),
            None if names.is_empty() => (span, "nothing is read".to_owned()),
            None => (span, "a value needs `from`, as there are several buffers".to_owned()),
        };
        let named: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        fields.error(at, what, (!named.is_empty()).then(|| format!("known: {}", list(&named))));
    }
    found
}

/// Two whole numbers.
fn pair(
    fields: &mut Fields<'_>,
    key: &'static str,
    what: &str,
    read: impl Fn(&DeValue<'_>) -> Option<f64>,
) -> Option<(f64, f64)> {
    let value = fields.take(key)?;
    let two = match value.get_ref() {
        DeValue::Array(items) if items.len() == 2 => read(items[0].get_ref()).zip(read(items[1].get_ref())),
        _ => None,
    };
    if two.is_none() {
        fields.error(value.span(), format!("`{key}` must be {what}"), None);
    }
    two
}

fn bits(fields: &mut Fields<'_>, width: u32) -> Option<(u32, u32)> {
    let span = fields.span("bits")?;
    let (high, low) = pair(fields, "bits", "the highest and the lowest bit, such as [11, 4]", as_number)?;
    let whole = [high, low].iter().all(|bit| bit.fract().abs() <= 0.0 && *bit >= 0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` keeps a float within the type
    let (high, low) = (high as u32, low as u32);
    if !whole || low > high || high >= width {
        fields.error(span, format!("`bits` must be two of {} to 0, the higher first", width - 1), None);
        return None;
    }
    Some((high, low))
}

fn formula(fields: &mut Fields<'_>, before: &[Field], is_scaled: bool) -> Option<Formula> {
    let word = fields.text("formula")?;
    if is_scaled {
        fields.error(word.span.clone(), "a formula takes the place of `scale` and `offset`", None);
    }
    let names: Vec<&str> = std::iter::once("x").chain(before.iter().map(|field| &*field.name)).collect();
    match Formula::compile(&word.content, &names) {
        Ok(formula) => Some(formula),
        Err(error) => {
            // What is missing at the end has no width to point at.
            let end = word.content.len();
            let at = if error.at.is_empty() { error.at.start.min(end)..error.at.start.min(end) + 1 } else { error.at };
            fields.error(word.part(at), error.message, error.help);
            None
        }
    }
}

fn invalid(fields: &mut Fields<'_>, width: u32) -> Vec<u32> {
    let Some(value) = fields.take("invalid") else { return Vec::new() };
    let raw =
        |value: &DeValue<'_>| whole(value).and_then(|raw| u32::try_from(raw).ok()).filter(|raw| *raw <= ones(width));
    let all: Option<Vec<u32>> = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(|item| raw(item.get_ref())).collect(),
        _ => None,
    };
    all.unwrap_or_else(|| {
        let what = format!("`invalid` must be a list of raw numbers, each 0 to {:#x}", ones(width));
        fields.error(value.span(), what, None);
        Vec::new()
    })
}

/// Between which raw numbers a simulated chip moves.
fn simulate(fields: &mut Fields<'_>, width: u32) -> (f64, f64) {
    let middle = f64::from(ones(width.saturating_sub(1).max(1)));
    pair(fields, "simulate", "two raw numbers, the lower first", as_number).unwrap_or((middle * 0.4, middle * 0.6))
}

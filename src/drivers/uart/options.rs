//! The driver's own keys: their description for the schema, and their decoding with every mistake at its place.

use std::ops::Range;
use std::sync::Arc;

use regex::RegexBuilder;
use schemars::JsonSchema;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::OptionsError;
use super::super::framing::LineSettings;
use super::super::options::{Fields, Text, kind, list};
use super::UartPlan;
use super::json::Selection;
use super::matching::{MatchKind, Matcher};
use crate::limits::{LINE_BYTES, LINE_BYTES_MAX, LINE_END_BYTES_MAX, REGEX_BYTES_MAX};
use crate::model::OWN_NAMES;

/// Keys of a sensor with `driver = "uart"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand (see `options`).
pub(super) struct Options {
    /// How lines are told apart. Default: `{ kind = "line" }`.
    frame: Option<FrameOptions>,
    /// How values are found in a line: exactly one of `regex`, `json`, `csv` and `kv`.
    r#match: MatchOptions,
    /// Names of values that stay texts though they read as numbers, such as serial numbers.
    text: Option<Vec<String>>,
}

/// How lines are told apart.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct FrameOptions {
    /// `line`, the only kind so far. Default `line`.
    kind: Option<String>,
    /// Longest line in bytes, its end not counted, 1 to 65536. Default 512. A longer line is bad.
    max: Option<u32>,
    /// What ends a line, 1 to 8 bytes. Default `"\n"`, with which a `\r` before it is dropped; `"\r\n"` means the same.
    end: Option<String>,
    /// `nmea`: the line must carry a true NMEA 0183 checksum, which is removed before the match. Default: no check.
    check: Option<String>,
}

/// How values are found in a line.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct MatchOptions {
    /// Regular expression; each named group `(?P<name>…)` is a value. A line that does not match is ignored.
    regex: Option<String>,
    /// `true`: each line is a JSON document and all in it are values, nested ones named by their path (`a.b`, `list.0`). A table takes
    /// some values by JSON pointer: `{ temperature = "/data/t" }`.
    json: Option<serde_json::Value>,
    /// Names of the columns, in order; an empty name for a column that is not wanted.
    csv: Option<Vec<String>>,
    /// What stands between name and value in lines of pairs, such as `"="`.
    kv: Option<String>,
    /// With `csv`, what stands between columns, default `","`; with `kv`, what stands between pairs, default `" "` (any white space).
    separator: Option<String>,
}

pub(super) const KEYS: &[&str] = &["frame", "match", "text"];
pub(super) const FRAME_KEYS: &[&str] = &["kind", "max", "end", "check"];
pub(super) const MATCH_KEYS: &[&str] = &["regex", "json", "csv", "kv", "separator"];
const MATCH_KINDS: &[&str] = &["regex", "json", "csv", "kv"];
const MATCH_HELP: &str = "write one of `{ regex = '…' }`, `{ json = true }`, `{ csv = [\"…\"] }`, `{ kv = \"=\" }`";

/// Decodes the keys.
pub(super) fn decode(table: DeTable<'_>) -> Result<UartPlan, Vec<OptionsError>> {
    let mut fields = Fields::new(table, KEYS);
    let mut errors = Vec::new();
    let (line, nmea) = match fields.table("frame") {
        Some((table, _)) => decode_frame(table, &mut errors),
        None => (LineSettings { bytes_max: LINE_BYTES, end: b"\n".to_vec() }, false),
    };
    let matched = if fields.has("match") {
        fields.table("match").and_then(|(table, span)| decode_match(table, span, &mut errors))
    } else {
        let help = format!("a uart sensor needs `match`: {MATCH_HELP}");
        fields.error(0..0, "missing key `match`", Some(help));
        None
    };
    let text = fields.texts("text").unwrap_or_default();
    let matcher = matched.map(|kind| {
        let mut matcher = Matcher { kind, text: Vec::new() };
        let names = matcher.names();
        for word in text {
            let name: Arc<str> = word.content.as_str().into();
            if !names.is_empty() && !names.contains(&name) {
                let known: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
                let help = format!("values of this sensor: {}", list(&known));
                fields.error(word.span, format!("no value is named `{name}`"), Some(help));
            }
            matcher.text.push(name);
        }
        matcher
    });
    errors.extend(fields.finish());
    errors.sort_by_key(|error| error.span.start);
    match matcher {
        Some(matcher) if errors.is_empty() => Ok(UartPlan { line, nmea, matcher }),
        _ => Err(errors),
    }
}

fn decode_frame(table: DeTable<'_>, errors: &mut Vec<OptionsError>) -> (LineSettings, bool) {
    let mut fields = Fields::new(table, FRAME_KEYS);
    if let Some(word) = fields.text("kind")
        && word.content != "line"
    {
        fields.error(word.span, format!("unknown frame kind `{}`", word.content), Some("known: `line`".into()));
    }
    let longest = i64::try_from(LINE_BYTES_MAX).unwrap_or(i64::MAX);
    let bytes_max = fields.integer("max", 1..=longest).and_then(|max| usize::try_from(max).ok()).unwrap_or(LINE_BYTES);
    let mut end = b"\n".to_vec();
    if let Some(word) = fields.text("end") {
        if word.content.is_empty() || word.content.len() > LINE_END_BYTES_MAX {
            fields.error(word.span, format!("`end` must be 1 to {LINE_END_BYTES_MAX} bytes long"), None);
        } else if word.content == "\r\n" {
            // `\n` tolerates the `\r`, and goes on to work when a firmware update drops it.
        } else {
            end = word.content.into_bytes();
        }
    }
    let mut nmea = false;
    if let Some(word) = fields.text("check") {
        nmea = word.content == "nmea";
        if !nmea {
            fields.error(word.span, format!("unknown check `{}`", word.content), Some("known: `nmea`".into()));
        }
    }
    errors.extend(fields.finish());
    (LineSettings { bytes_max, end }, nmea)
}

fn decode_match(table: DeTable<'_>, span: Range<usize>, errors: &mut Vec<OptionsError>) -> Option<MatchKind> {
    let mut fields = Fields::new(table, MATCH_KEYS);
    let mut chosen: Vec<(&str, Range<usize>)> =
        MATCH_KINDS.iter().filter_map(|kind| fields.span(kind).map(|span| (*kind, span))).collect();
    chosen.sort_by_key(|(_, span)| span.start);
    if chosen.is_empty() {
        fields.error(span, "`match` says no way to find values", Some(MATCH_HELP.into()));
    }
    if let Some((extra, span)) = chosen.get(1) {
        let message = format!("`match` takes one of {}; `{}` is there already", list(MATCH_KINDS), chosen[0].0);
        let help =
            format!("remove `{}` or `{extra}`; a second sensor on the same bus can match otherwise", chosen[0].0);
        fields.error(span.clone(), message, Some(help));
    }
    let separator_span = fields.span("separator");
    let separator = fields.text("separator").and_then(|word| separator(&mut fields, word));
    let mut found = None;
    for (kind, _) in &chosen {
        let decoded = match *kind {
            "regex" => fields.text("regex").and_then(|word| regex(&mut fields, &word)).map(MatchKind::Regex),
            "json" => fields.take("json").and_then(|value| json(&mut fields, value)).map(MatchKind::Json),
            "csv" => csv(&mut fields).map(|names| MatchKind::Csv { names, separator: separator.unwrap_or(',') }),
            _ => sign(&mut fields).map(|sign| MatchKind::KeyValue { sign, separator: separator.unwrap_or(' ') }),
        };
        found = found.or(decoded);
    }
    if let (Some(span), Some((kind @ ("regex" | "json"), _))) = (separator_span, chosen.first()) {
        fields.error(span, format!("`separator` has no meaning with `{kind}`"), None);
    }
    errors.extend(fields.finish());
    found
}

fn separator(fields: &mut Fields<'_>, word: Text) -> Option<char> {
    let mut characters = word.content.chars();
    let (first, second) = (characters.next(), characters.next());
    if first.is_none() || second.is_some() {
        fields.error(word.span, "`separator` must be one character", None);
        return None;
    }
    first
}

fn sign(fields: &mut Fields<'_>) -> Option<String> {
    let word = fields.text("kv")?;
    if word.content.trim().is_empty() {
        fields.error(word.span, "`kv` must be what stands between name and value", Some("such as `\"=\"`".into()));
        return None;
    }
    Some(word.content)
}

fn csv(fields: &mut Fields<'_>) -> Option<Vec<Option<Arc<str>>>> {
    let span = fields.span("csv")?;
    let words = fields.texts("csv")?;
    let mut names: Vec<Option<Arc<str>>> = Vec::with_capacity(words.len());
    for word in words {
        if word.content.is_empty() {
            names.push(None);
            continue;
        }
        check_name(fields, &word.content, word.span.clone());
        let name = Some(word.content.as_str().into());
        if names.contains(&name) {
            fields.error(word.span, format!("column `{}` is there twice", word.content), None);
        }
        names.push(name);
    }
    if names.iter().all(Option::is_none) {
        fields.error(span, "`csv` names no column", None);
        return None;
    }
    Some(names)
}

fn json(fields: &mut Fields<'_>, value: Spanned<DeValue<'_>>) -> Option<Selection> {
    let span = value.span();
    let table = match value.into_inner() {
        DeValue::Boolean(true) => return Some(Selection::All),
        DeValue::Table(table) if !table.is_empty() => table,
        DeValue::Table(_) | DeValue::Boolean(false) => {
            fields.error(span, "`json` takes no value", Some("write `true` to take all".into()));
            return None;
        }
        other => {
            fields.error(span, format!("`json` must be true or a table of JSON pointers, not {}", kind(&other)), None);
            return None;
        }
    };
    let mut entries: Vec<_> = table.into_iter().collect();
    // The parser sorts by key; people mean the order they wrote.
    entries.sort_by_key(|(name, _)| name.span().start);
    let mut pointers = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        check_name(fields, name.get_ref(), name.span());
        let at = value.span();
        let pointer = match value.into_inner() {
            DeValue::String(text) => text.into_owned(),
            other => {
                fields.error(at, format!("a JSON pointer must be a text, not {}", kind(&other)), None);
                continue;
            }
        };
        if !pointer.starts_with('/') {
            let help = format!("did you mean `/{}`?", pointer.replace('.', "/"));
            fields.error(at, format!("`{pointer}` is no JSON pointer: it does not begin with `/`"), Some(help));
        }
        pointers.push((name.get_ref().as_ref().into(), pointer));
    }
    Some(Selection::Pointers(pointers))
}

fn regex(fields: &mut Fields<'_>, word: &Text) -> Option<regex::Regex> {
    match RegexBuilder::new(&word.content).size_limit(REGEX_BYTES_MAX).build() {
        Ok(regex) => {
            let names: Vec<String> = regex.capture_names().flatten().map(str::to_owned).collect();
            if names.is_empty() {
                let help = "name a group for each value: `(?P<temperature>[-\\d.]+)`".to_owned();
                fields.error(word.span.clone(), "the regular expression has no named group", Some(help));
            }
            for name in names {
                check_name(fields, &name, word.span.clone());
            }
            Some(regex)
        }
        Err(regex::Error::CompiledTooBig(bytes)) => {
            fields.error(word.span.clone(), format!("the regular expression needs more than {bytes} bytes"), None);
            None
        }
        Err(error) => {
            let (at, reason) = syntax_error(&error.to_string(), &word.content);
            let span = at.map_or(word.span.clone(), |at| word.part(at));
            fields.error(span, format!("regular expression: {reason}"), None);
            None
        }
    }
}

/// The place and the reason out of the drawing that the regex crate makes of a syntax error: the pattern indented by four, a line of carets
/// below it, and `error: …`. Without a place when the pattern has several lines, whose drawing is another.
fn syntax_error(drawing: &str, pattern: &str) -> (Option<Range<usize>>, String) {
    let reason = drawing.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("cannot be read");
    let carets = drawing.lines().find(|line| line.contains('^') && line.chars().all(|c| c == ' ' || c == '^'));
    let at = carets.filter(|_| !pattern.contains('\n')).and_then(|line| {
        let first = line.find('^')?.checked_sub(4)?;
        let count = line.chars().filter(|c| *c == '^').count();
        let mut places = pattern.char_indices().map(|(at, _)| at).chain(std::iter::repeat(pattern.len()));
        let start = places.by_ref().nth(first)?;
        let end = places.nth(count.checked_sub(1)?)?;
        Some(start..end)
    });
    (at, reason.to_owned())
}

/// A name becomes a key of a payload, and a topic level where values are published one by one.
fn check_name(fields: &mut Fields<'_>, name: &str, span: Range<usize>) {
    if OWN_NAMES.contains(&name) {
        let help = format!("a payload's `{name}` is the gateway's; choose another name");
        fields.error(span, format!("a value cannot be named `{name}`"), Some(help));
    } else if let Some(bad) = name.chars().find(|c| "/+#".contains(*c) || c.is_control()) {
        fields.error(span, format!("a value's name cannot contain `{}`", bad.escape_default()), None);
    }
}

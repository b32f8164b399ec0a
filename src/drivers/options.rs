//! Takes a driver's own keys apart, key by key, and gathers every mistake with its place.
//!
//! By hand rather than by derive: serde stops at the first mistake of a table, and a person wants to hear of all of them at once.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::OptionsError;
use crate::config::diagnostic::nearest;
use crate::config::kinds::duration;

/// A text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// The text, escapes resolved.
    pub(crate) content: String,
    /// Where the value stands, quotes included.
    pub(crate) span: Range<usize>,
    /// Whether the source shows the very same bytes between the quotes, so that a place inside the text can be pointed at.
    pub(crate) verbatim: bool,
}

impl Text {
    /// The place of some bytes of the text; of the whole text where escapes hide the way back.
    pub(crate) fn part(&self, bytes: Range<usize>) -> Range<usize> {
        if self.verbatim {
            let start = self.span.start + 1;
            start + bytes.start..start + bytes.end
        } else {
            self.span.clone()
        }
    }
}

/// A table of options that is being taken apart.
pub(crate) struct Fields<'i> {
    entries: Vec<(Spanned<DeString<'i>>, Spanned<DeValue<'i>>)>,
    known: &'static [&'static str],
    errors: Vec<OptionsError>,
}

impl<'i> Fields<'i> {
    /// The table, and the keys that may be in it.
    pub(crate) fn new(table: DeTable<'i>, known: &'static [&'static str]) -> Self {
        Self { entries: table.into_iter().collect(), known, errors: Vec::new() }
    }

    /// Notes a mistake.
    pub(crate) fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.errors.push(OptionsError { span, message: message.into(), help });
    }

    /// Where a key and its value stand.
    pub(crate) fn span(&self, key: &str) -> Option<Range<usize>> {
        self.entries
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(name, value)| name.span().start..value.span().end)
    }

    /// Whether the key is written and not yet taken.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name.get_ref() == key)
    }

    /// Takes the value of a key, whatever it is.
    pub(crate) fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'i>>> {
        debug_assert!(self.known.contains(&key), "`{key}` is not among the known keys");
        let index = self.entries.iter().position(|(name, _)| name.get_ref() == key)?;
        Some(self.entries.swap_remove(index).1)
    }

    /// Takes a text.
    pub(crate) fn text(&mut self, key: &str) -> Option<Text> {
        let value = self.take(key)?;
        self.as_text(key, value)
    }

    /// Takes a whole number within a range.
    pub(crate) fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.take(key)?;
        let span = value.span();
        let number = match value.get_ref() {
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            other => {
                self.error(span, format!("`{key}` must be a whole number, not {}", kind(other)), None);
                return None;
            }
        };
        if let Some(number) = number
            && range.contains(&number)
        {
            return Some(number);
        }
        self.error(span, format!("`{key}` must be {} to {}", range.start(), range.end()), None);
        None
    }

    /// Takes a number, whole or not, within a range.
    pub(crate) fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.take(key)?;
        let span = value.span();
        let Some(number) = as_number(value.get_ref()) else {
            self.error(span, format!("`{key}` must be a number, not {}", kind(value.get_ref())), None);
            return None;
        };
        if range.contains(&number) {
            return Some(number);
        }
        self.error(span, format!("`{key}` must be {} to {}", range.start(), range.end()), None);
        None
    }

    /// Takes a list of tables, each with its place.
    pub(crate) fn tables(&mut self, key: &str) -> Option<Vec<(DeTable<'i>, Range<usize>)>> {
        let value = self.take(key)?;
        let span = value.span();
        let DeValue::Array(items) = value.into_inner() else {
            self.error(span, format!("`{key}` must be a list of tables"), None);
            return None;
        };
        let mut tables = Vec::new();
        for item in items {
            let span = item.span();
            match item.into_inner() {
                DeValue::Table(table) => tables.push((table, span)),
                other => self.error(span, format!("`{key}[]` must be a table, not {}", kind(&other)), None),
            }
        }
        Some(tables)
    }

    /// Takes true or false.
    pub(crate) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                let message = format!("`{key}` must be true or false, not {}", kind(other));
                self.error(value.span(), message, None);
                None
            }
        }
    }

    /// Takes a duration within a range.
    pub(crate) fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.text(key)?;
        match duration(&text.content) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(_) => {
                let message = format!("`{key}` must be {} to {}", told(*range.start()), told(*range.end()));
                self.error(text.span, message, None);
                None
            }
            Err(reason) => {
                self.error(text.span, format!("`{key}` {reason}"), None);
                None
            }
        }
    }

    /// Takes a list of texts.
    pub(crate) fn texts(&mut self, key: &str) -> Option<Vec<Text>> {
        let value = self.take(key)?;
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(items) => {
                Some(items.into_iter().filter_map(|item| self.as_text(&format!("{key}[]"), item)).collect())
            }
            other => {
                self.error(span, format!("`{key}` must be a list of texts, not {}", kind(&other)), None);
                None
            }
        }
    }

    /// Takes a table, with the place of the whole of it.
    pub(crate) fn table(&mut self, key: &str) -> Option<(DeTable<'i>, Range<usize>)> {
        let value = self.take(key)?;
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some((table, span)),
            other => {
                self.error(span, format!("`{key}` must be a table, not {}", kind(&other)), None);
                None
            }
        }
    }

    /// Reads a value as a text.
    pub(crate) fn as_text(&mut self, key: &str, value: Spanned<DeValue<'i>>) -> Option<Text> {
        let span = value.span();
        match value.into_inner() {
            DeValue::String(text) => {
                // Every escape is longer than what it stands for, and so are the quotes of a text of several lines.
                let verbatim = text.len() + 2 == span.len();
                Some(Text { content: text.into_owned(), span, verbatim })
            }
            other => {
                self.error(span, format!("`{key}` must be a text, not {}", kind(&other)), None);
                None
            }
        }
    }

    /// Ends with every mistake that was noted, each unknown key among them. A known key that is left stands beside a mistake that was told.
    pub(crate) fn finish(mut self) -> Vec<OptionsError> {
        for (name, _) in std::mem::take(&mut self.entries) {
            let word = name.get_ref().as_ref();
            if self.known.contains(&word) {
                continue;
            }
            let help = match nearest(word, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", list(self.known)),
            };
            self.error(name.span(), format!("unknown key `{word}`"), Some(help));
        }
        self.errors.sort_by_key(|error| error.span.start);
        self.errors
    }
}

/// A value as a number, where it is one.
pub(crate) fn as_number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().parse().ok().filter(|number: &f64| number.is_finite()),
        DeValue::Integer(integer) => {
            #[allow(clippy::cast_precision_loss)] // a number of a config, not a count
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number as f64)
        }
        _ => None,
    }
}

/// What a value is, for people.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A duration as the config writes it.
fn told(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// Words in back quotes, joined by commas.
pub(crate) fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

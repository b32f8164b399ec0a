//! Values that several kinds of actuator are told.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::kinds;
use crate::drivers::options::{Fields, kind};

/// Takes a flag; false when it is left out.
pub(super) fn flag(fields: &mut Fields<'_>, key: &str) -> bool {
    let Some(value) = fields.take(key) else { return false };
    match value.get_ref() {
        DeValue::Boolean(flag) => *flag,
        other => {
            let found = kind(other);
            fields.error(value.span(), format!("`{key}` must be true or false, not {found}"), None);
            false
        }
    }
}

/// Takes a duration within bounds.
pub(super) fn duration(fields: &mut Fields<'_>, key: &str, least: Duration, greatest: Duration) -> Option<Duration> {
    let text = fields.text(key)?;
    match kinds::duration(&text.content) {
        Ok(duration) if (least..=greatest).contains(&duration) => Some(duration),
        Ok(_) => {
            let (least, greatest) = (least.as_millis(), greatest.as_secs());
            fields.error(text.span, format!("`{key}` must be {least} ms to {greatest} s"), None);
            None
        }
        Err(reason) => {
            fields.error(text.span, format!("`{key}` {reason}"), Some("write it with its unit: \"500ms\"".to_owned()));
            None
        }
    }
}

/// Takes one of a few words.
pub(super) fn choice<T: Copy>(fields: &mut Fields<'_>, key: &str, words: &[(&'static str, T)]) -> Option<T> {
    let text = fields.text(key)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.content) {
        return Some(*value);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let help = match crate::config::diagnostic::nearest(&text.content, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", crate::drivers::options::list(&names)),
    };
    fields.error(text.span, format!("`{key}` cannot be `{}`", text.content), Some(help));
    None
}

/// Notes that a key is missing.
pub(super) fn missing(fields: &mut Fields<'_>, key: &str, example: &str) {
    fields.error(0..0, format!("`{key}` is missing"), Some(format!("write {example}")));
}

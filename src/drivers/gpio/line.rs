//! The keys that say which line is meant and how it is taken. Sensors and actuators share them.

use std::time::Duration;

use super::super::options::{Fields, Text};
use crate::bus::gpio::{Bias, LineRef, simulated};
use crate::limits::{LINE_DEBOUNCE_MAX, LINE_NAME_BYTES_MAX, LINE_OFFSET_MAX};

/// Which line: `line`, or `chip` and `offset`. A mistake is noted.
pub(crate) fn line(fields: &mut Fields<'_>) -> Option<LineRef> {
    let chip_span = fields.span("chip").or_else(|| fields.span("offset"));
    let is_named = fields.has("line");
    let has_chip = fields.has("chip");
    let name = fields.text("line");
    let chip = fields.text("chip");
    let has_offset = fields.has("offset");
    let offset = fields.integer("offset", 0..=LINE_OFFSET_MAX);
    if let Some(span) = chip_span.clone().filter(|_| is_named) {
        fields.error(span, "`line` says already which line is meant", Some("leave `chip` and `offset` out".into()));
        return None;
    }
    if let Some(name) = name {
        return named(fields, &name);
    }
    if is_named {
        return None;
    }
    match (has_chip, has_offset) {
        (false, false) => {
            let help =
                "`line = \"GPIO17\"`, or `chip = \"pinctrl-rp1\"` and `offset = 17`; `tidegate scan gpio` lists them";
            fields.error(0..0, "`line` is missing", Some(help.into()));
            None
        }
        (true, false) => {
            let span = chip.map_or(0..0, |chip| chip.span);
            fields.error(span, "`chip` needs `offset`: which of its lines", None);
            None
        }
        (false, true) => {
            fields.error(chip_span.unwrap_or(0..0), "`offset` needs `chip`: whose line", None);
            None
        }
        (true, true) => {
            let chip = chip?;
            if let Some(help) = number(&chip.content) {
                fields.error(chip.span, format!("`{}` is no label of a chip", chip.content), Some(help.into()));
                return None;
            }
            in_bounds(fields, "chip", &chip)?;
            Some(LineRef::Offset { chip: chip.content, offset: u32::try_from(offset?).ok()? })
        }
    }
}

fn named(fields: &mut Fields<'_>, name: &Text) -> Option<LineRef> {
    if let Some(simulated_name) = name.content.strip_prefix("sim:") {
        if let Err(error) = simulated::check(simulated_name) {
            fields.error(name.span.clone(), error.to_string(), None);
            return None;
        }
        return Some(LineRef::Simulated(simulated_name.to_owned()));
    }
    if let Some(help) = number(&name.content) {
        fields.error(name.span.clone(), format!("`{}` is no name of a line", name.content), Some(help.into()));
        return None;
    }
    in_bounds(fields, "line", name)?;
    Some(LineRef::Named(name.content.clone()))
}

/// Whether this is a number, of a line or of a chip, and what to write instead.
fn number(text: &str) -> Option<&'static str> {
    let chip = text.strip_prefix("/dev/").unwrap_or(text).strip_prefix("gpiochip");
    if let Some(number) = chip
        && number.starts_with(|c: char| c.is_ascii_digit())
    {
        return Some(
            "the numbers of chips change from kernel to kernel: give the chip's label, as `tidegate scan gpio` lists it",
        );
    }
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(
        "bare numbers mean other lines on other boards: give the line's name, such as `GPIO17`, or `chip` and `offset`",
    )
}

fn in_bounds(fields: &mut Fields<'_>, key: &str, text: &Text) -> Option<()> {
    let content = &text.content;
    if !content.is_empty() && content.len() <= LINE_NAME_BYTES_MAX && !content.contains(char::is_control) {
        return Some(());
    }
    fields.error(text.span.clone(), format!("`{key}` must be 1 to {LINE_NAME_BYTES_MAX} bytes of text"), None);
    None
}

/// What pulls at the line.
pub(crate) fn bias(fields: &mut Fields<'_>) -> Option<Bias> {
    let Some(word) = fields.text("bias") else { return Some(Bias::AsIs) };
    choice(
        fields,
        "bias",
        &word,
        &[
            ("as-is", Bias::AsIs),
            ("pull-up", Bias::PullUp),
            ("pull-down", Bias::PullDown),
            ("disabled", Bias::Disabled),
        ],
    )
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(fields: &mut Fields<'_>, key: &str, word: &Text, words: &[(&str, T)]) -> Option<T> {
    let found = words.iter().find(|(known, _)| *known == word.content);
    if found.is_none() {
        let known: Vec<_> = words.iter().map(|(known, _)| *known).collect();
        let known = super::super::options::list(&known);
        fields.error(word.span.clone(), format!("`{key}` must be one of {known}"), None);
    }
    found.map(|(_, value)| *value)
}

/// Whether the line is active while its voltage is low.
pub(crate) fn active_low(fields: &mut Fields<'_>) -> bool {
    fields.flag("active_low").unwrap_or(false)
}

/// How long a level must hold.
pub(super) fn debounce(fields: &mut Fields<'_>, default: Duration) -> Duration {
    fields.duration("debounce", Duration::ZERO..=LINE_DEBOUNCE_MAX).unwrap_or(default)
}

//! GPIO lines, and who has them.

use super::Planner;
use crate::bus::gpio::{Backend, GpioSettings, LineRef};
use crate::config::Span;
use crate::config::code::Code;
use crate::config::file;
use crate::config::tree::Table;

impl Planner<'_> {
    /// How lines are spoken to.
    pub(super) fn gpio(&self) -> GpioSettings {
        GpioSettings {
            backend: match self.file.gpio.value.backend.value {
                file::GpioBackend::Auto => Backend::Auto,
                file::GpioBackend::V2 => Backend::V2,
                file::GpioBackend::V1 => Backend::V1,
            },
        }
    }

    /// Notes who has a line: a sensor or an actuator, and one of them. Two names of one line are met when it is taken, not here.
    pub(super) fn has_line(&mut self, line: LineRef, span: Span) {
        let told = line.to_string();
        if let Some(first) = self.lines.insert(line, span) {
            self.problems
                .error(Code::LineTwice, span, format!("line `{told}` is used twice"))
                .label("used again here")
                .and(first, "used here first");
        }
    }
}

/// Where the keys of a block say which line they mean.
pub(super) fn place(options: &Table) -> Option<Span> {
    ["line", "chip", "offset"]
        .iter()
        .find_map(|key| options.0.get(*key))
        .map(|(key, value)| Span { end: value.span.end, ..*key })
}

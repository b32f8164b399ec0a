//! A driver's own keys: which of a block's keys they are, and every mistake in them at its place.

use super::Planner;
use crate::config::code::Code;
use crate::config::decode::Key;
use crate::config::{Span, tree};
use crate::drivers::OptionsError;

/// A block with keys of its driver.
pub(super) struct Block<'a> {
    /// What it is, for people: `a sensor`.
    pub(super) what: &'static str,
    /// The driver's name.
    pub(super) driver: &'static str,
    /// Schema of the driver's own keys.
    pub(super) schema: schemars::Schema,
    /// The keys that are ours.
    pub(super) ours: &'static [Key],
    /// The keys that are not.
    pub(super) options: &'a tree::Table,
    /// Where the block stands.
    pub(super) span: Span,
}

impl Planner<'_> {
    /// What the driver makes of its keys; `None` when there is a mistake, which has been noted.
    pub(super) fn own_keys<T>(
        &mut self,
        block: &Block<'_>,
        build: impl FnOnce(toml::de::DeTable<'_>) -> Result<T, Vec<OptionsError>>,
    ) -> Option<T> {
        // Keys that neither we nor the driver know are told here, with both lists at hand; the driver judges the rest.
        let known = block.schema.get("properties").and_then(serde_json::Value::as_object);
        let mut options = block.options.clone();
        let mut clean = true;
        if let Some(known) = known.filter(|known| !known.is_empty()) {
            options.0.retain(|name, (span, _)| {
                let is_known = known.contains_key(name.as_str());
                if !is_known {
                    clean = false;
                    let names = known.keys().map(String::as_str).chain(block.ours.iter().map(|key| key.name));
                    self.problems
                        .error(Code::UnknownKey, *span, format!("unknown key `{name}`"))
                        .label(format!("known to neither {} nor driver `{}`", block.what, block.driver))
                        .suggest(name, names);
                }
                is_known
            });
        }
        let mistakes = match build(options.to_toml()) {
            Ok(built) => return clean.then_some(built),
            Err(mistakes) => mistakes,
        };
        if mistakes.is_empty() {
            let message = format!("driver `{}` cannot be used like this", block.driver);
            self.problems.error(Code::DriverOption, block.span, message);
        }
        for mistake in mistakes {
            let mut span = Span::from(mistake.span);
            if span.end <= span.start && span.start == 0 {
                // What is missing has no place but the block's.
                span = block.span;
            }
            let told = self.problems.error(Code::DriverOption, span, mistake.message);
            if let Some(help) = mistake.help {
                told.help(help);
            }
        }
        None
    }
}

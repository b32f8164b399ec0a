//! Topics and filters with holes in braces: filled and checked.

use crate::config::code::Code;
use crate::config::{At, Problems, Span};
use crate::model::{TopicFilter, TopicName};

/// What the holes of a template may be.
pub(super) struct Holes<'a> {
    /// Holes with a known filling.
    pub filled: &'a [(&'a str, &'a str)],
    /// Holes that are left for later, without braces; `{1}` to this number.
    pub numbered: usize,
    /// Holes that are left for later, by name.
    pub later: &'a [&'a str],
}

/// Fills the holes. Notes a hole that cannot be filled.
pub(super) fn fill(key: &str, text: &str, span: Span, holes: &Holes<'_>, problems: &mut Problems) -> Option<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        filled.push_str(before);
        let Some(close) = after.find('}') else {
            problems.error(Code::BadHole, span, format!("`{key}` has a `{{` without its `}}`"));
            return None;
        };
        let hole = &after[1..close];
        if let Some((_, value)) = holes.filled.iter().find(|(name, _)| *name == hole) {
            filled.push_str(value);
        } else if is_left(hole, holes) {
            filled.push_str(&after[..=close]);
        } else {
            problems
                .error(Code::BadHole, span, format!("`{key}` has a hole that nothing fills: `{{{hole}}}`"))
                .help(known(holes));
            return None;
        }
        rest = &after[close + 1..];
    }
    filled.push_str(rest);
    Some(filled)
}

fn is_left(hole: &str, holes: &Holes<'_>) -> bool {
    // Holes are single digits: a tenth wildcard has no name.
    let number = (hole.len() == 1).then(|| hole.parse::<usize>().ok()).flatten();
    holes.later.contains(&hole) || number.is_some_and(|number| (1..=holes.numbered).contains(&number))
}

fn known(holes: &Holes<'_>) -> String {
    let named = holes
        .filled
        .iter()
        .map(|(name, _)| *name)
        .chain(holes.later.iter().copied())
        .map(|name| format!("`{{{name}}}`"));
    let numbered = (1..=holes.numbered.min(9)).map(|number| format!("`{{{number}}}`"));
    format!("known here: {}", named.chain(numbered).collect::<Vec<_>>().join(", "))
}

/// Makes the text a topic name, or notes why it is none.
pub(super) fn name(key: &str, text: &str, span: Span, problems: &mut Problems) -> Option<TopicName> {
    let checked = TopicName::parse(text).map_err(|error| error.to_string()).and_then(|topic| {
        if topic.is_dollar() { Err("starts with `$`, which is the broker's own".to_owned()) } else { Ok(topic) }
    });
    checked.map_err(|reason| problems.error(Code::BadTopic, span, format!("`{key}` {reason}"))).ok()
}

/// Makes the text a topic filter, or notes why it is none.
pub(super) fn filter(key: &str, text: &str, span: Span, problems: &mut Problems) -> Option<TopicFilter> {
    TopicFilter::parse(text)
        .map_err(|error| problems.error(Code::BadTopic, span, format!("`{key}` {error}: `{text}`")))
        .ok()
}

/// A filter with `{gateway}` as its only hole.
pub(super) fn gateway_filter(
    key: &str,
    text: &At<impl std::ops::Deref<Target = String>>,
    gateway: &str,
    problems: &mut Problems,
) -> Option<TopicFilter> {
    let holes = Holes { filled: &[("gateway", gateway)], numbered: 0, later: &[] };
    let text_filled = fill(key, &text.value, text.span, &holes, problems)?;
    filter(key, &text_filled, text.span, problems)
}

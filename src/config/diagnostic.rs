//! A mistake in the config: collected while reading, told together at the end.

use super::code::Code;
use super::source::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is started.
    Error,
    /// Told, and no more.
    Warning,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind.
    pub code: Code,
    /// A lower-case fragment that names the offending word.
    pub message: String,
    /// Where; `None` when it is in no file (the main file itself is missing).
    pub span: Option<Span>,
    /// What to write beside the place.
    pub label: Option<String>,
    /// Other places that belong to it, each with its words.
    pub related: Vec<(Span, String)>,
    /// How to mend it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Adds words beside the place.
    pub fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.label = Some(text.into());
        self
    }

    /// Adds another place.
    pub fn and(&mut self, span: Span, text: impl Into<String>) -> &mut Self {
        self.related.push((span, text.into()));
        self
    }

    /// Adds how to mend it.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }

    /// Adds the known names, and the one that was probably meant.
    pub fn suggest<'n>(&mut self, given: &str, known: impl IntoIterator<Item = &'n str>) -> &mut Self {
        self.help = help_of_names(given, known);
        self
    }
}

/// The mistakes found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Diagnostic>,
    hidden: Vec<Span>,
}

impl Problems {
    /// Notes an error.
    pub fn error(&mut self, code: Code, span: impl Into<Option<Span>>, message: impl Into<String>) -> &mut Diagnostic {
        self.note(Severity::Error, code, span.into(), message.into())
    }

    /// Notes a warning.
    pub fn warning(
        &mut self,
        code: Code,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.note(Severity::Warning, code, span.into(), message.into())
    }

    fn note(&mut self, severity: Severity, code: Code, span: Option<Span>, message: String) -> &mut Diagnostic {
        let at = self.list.len();
        self.list.push(Diagnostic { severity, code, message, span, label: None, related: Vec::new(), help: None });
        &mut self.list[at]
    }

    /// Keeps a stretch of the text out of every report: it may be a secret.
    pub fn hide(&mut self, span: Span) {
        self.hidden.push(span);
    }

    /// The stretches that no report shows.
    pub fn hidden(&self) -> &[Span] {
        &self.hidden
    }

    /// All of them, in the order of files and lines.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut all: Vec<_> = self.list.iter().collect();
        all.sort_by_key(|diagnostic| diagnostic.span);
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// Whether a mistake of this kind was noted.
    pub fn any(&self, code: Code) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.code == code)
    }

    /// Whether nothing was noted as an error yet.
    pub fn no_error(&self) -> bool {
        self.errors() == 0
    }

    /// Forgets what was noted within the stretches, mistakes of the kind apart.
    pub fn forget_within(&mut self, stretches: &[Span], apart_from: Code) {
        let within = |span: Span| stretches.iter().any(|s| s.start <= span.end && span.start <= s.end);
        self.list.retain(|diagnostic| diagnostic.code == apart_from || !diagnostic.span.is_some_and(within));
    }

    /// Where mistakes of a kind were noted.
    pub fn places(&self, code: Code) -> Vec<Span> {
        self.list.iter().filter(|diagnostic| diagnostic.code == code).filter_map(|diagnostic| diagnostic.span).collect()
    }

    /// Forgets the mistakes of a kind.
    pub fn forget(&mut self, code: Code) {
        self.list.retain(|diagnostic| diagnostic.code != code);
    }
}

/// Most names a help line lists: a line that is not read helps nobody.
const NAMES_LISTED_MAX: usize = 12;

/// The known names in words, the one that was probably meant first; `None` when none is known.
pub fn help_of_names<'n>(given: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = nearest(given, known.iter().copied());
    let list = known.iter().take(NAMES_LISTED_MAX).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let more = if known.len() > NAMES_LISTED_MAX { ", …" } else { "" };
    match (nearest, known.is_empty()) {
        (_, true) => None,
        (Some(name), false) => Some(format!("did you mean `{name}`? known: {list}{more}")),
        (None, false) => Some(format!("known: {list}{more}")),
    }
}

/// The known name that was probably meant: at most a third of it mistyped.
pub fn nearest<'n>(given: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| {
            let longer = name.chars().count().max(given.chars().count());
            *distance <= (longer / 3).max(1) && *distance < longer
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_found_and_none_is_made_up() {
        assert_eq!(nearest("adress", ["baud", "address"]), Some("address"));
        assert_eq!(nearest("Retian", ["retain", "topic"]), Some("retain"));
        assert_eq!(nearest("i2c-7", ["i2c-1", "rs485-0"]), Some("i2c-1"));
        assert_eq!(nearest("colour", ["qos", "retain"]), None);
        assert_eq!(nearest("x", ["t", "h"]), None);
    }

    #[test]
    fn mistakes_are_told_in_the_order_of_the_file() {
        let mut problems = Problems::default();
        problems.error(Code::UnknownKey, Span { start: 9, end: 10 }, "second");
        problems.warning(Code::Unused, Span { start: 2, end: 3 }, "first");
        let order: Vec<_> = problems.sorted().iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        assert_eq!(order, ["first", "second"]);
        assert_eq!((problems.errors(), problems.warnings()), (1, 1));
    }
}

//! Mistakes as people and programs read them.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::diagnostic::{Diagnostic, Problems, Severity};
use super::source::{Source, Sources, Span};

/// What was found wrong in a config, with the text it was found in.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The files.
    pub sources: Sources,
    /// The mistakes.
    pub problems: Problems,
}

impl Report {
    /// Whether nothing may be started.
    pub fn is_fatal(&self) -> bool {
        self.problems.errors() > 0
    }

    /// All mistakes in the order of the files, and a last line that counts them. Empty when there are none.
    pub fn render(&self, colour: bool) -> String {
        self.render_with(colour, "nothing was started")
    }

    /// The same, with other words for what follows from an error.
    pub fn render_with(&self, colour: bool, consequence: &str) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for diagnostic in self.problems.sorted() {
            text.push_str(&renderer.render(&[self.group(diagnostic)]));
            text.push_str("\n\n");
        }
        match self.count() {
            Some(count) if self.is_fatal() => text.push_str(&format!("{count}; {consequence}\n")),
            Some(count) => text.push_str(&format!("{count}\n")),
            None => {}
        }
        text
    }

    /// How many mistakes there are, in words; `None` when there are none.
    pub fn count(&self) -> Option<String> {
        let counts = [(self.problems.errors(), "error"), (self.problems.warnings(), "warning")];
        let counts: Vec<String> =
            counts.into_iter().filter(|(number, _)| *number > 0).map(|(number, what)| count(number, what)).collect();
        (!counts.is_empty()).then(|| counts.join(", "))
    }

    /// The mistakes for programs: one object each, places as file, line and column from 1.
    pub fn to_json(&self) -> Value {
        let mistakes: Vec<Value> =
            self.problems.sorted().into_iter().map(|diagnostic| self.entry(diagnostic)).collect();
        json!({
            "errors": self.problems.errors(),
            "warnings": self.problems.warnings(),
            "diagnostics": mistakes,
        })
    }

    fn entry(&self, diagnostic: &Diagnostic) -> Value {
        let related: Vec<Value> = diagnostic
            .related
            .iter()
            .map(|(span, text)| {
                let mut place = self.place(*span);
                place["message"] = json!(text);
                place
            })
            .collect();
        let mut entry = diagnostic.span.map_or_else(|| json!({}), |span| self.place(span));
        entry["severity"] = json!(match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        });
        entry["code"] = json!(diagnostic.code.number());
        entry["message"] = json!(diagnostic.message);
        entry["label"] = json!(diagnostic.label);
        entry["help"] = json!(diagnostic.help);
        entry["related"] = json!(related);
        entry
    }

    fn place(&self, span: Span) -> Value {
        let Some(source) = self.sources.find(span) else { return json!({}) };
        let (line, column) = source.line_column(span.start);
        let (end_line, end_column) = source.line_column(span.end);
        json!({
            "file": source.path.display().to_string(),
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
        })
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&diagnostic.message).id(diagnostic.code.number()));
        let mut places = vec![];
        if let Some(span) = diagnostic.span {
            places.push((span, diagnostic.label.as_deref(), AnnotationKind::Primary));
        }
        for (span, text) in &diagnostic.related {
            places.push((*span, Some(text.as_str()), AnnotationKind::Context));
        }
        for (span, label, kind) in places {
            let Some(source) = self.sources.find(span) else { continue };
            group = if source.text.is_empty() {
                group.element(Origin::path(source.path.display().to_string()))
            } else {
                group.element(snippet(source, span, label, kind, self.problems.hidden()))
            };
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help));
        }
        group
    }
}

/// The lines of the place alone: with the whole text the cost of a report would grow with the square of the file.
fn snippet<'a>(
    source: &Source,
    span: Span,
    label: Option<&'a str>,
    kind: AnnotationKind,
    hidden: &[Span],
) -> Snippet<'a, Annotation<'a>> {
    let local = source.local(span);
    let first = source.text[..local.start].rfind('\n').map_or(0, |newline| newline + 1);
    let last = source.text[local.end..].find('\n').map_or(source.text.len(), |newline| local.end + newline);
    let (line, _) = source.line_column(span.start);
    let annotation = kind.span(local.start - first..local.end - first).label(label);
    let lines = masked(&source.text[first..last], first, source, hidden);
    Snippet::source(lines).line_start(line).path(source.path.display().to_string()).annotation(annotation)
}

/// The lines with asterisks over what may be a secret; every byte keeps its place.
fn masked(lines: &str, first: usize, source: &Source, hidden: &[Span]) -> String {
    let inside: Vec<_> = hidden.iter().filter(|span| source.holds(**span)).map(|span| source.local(*span)).collect();
    let mut text = String::with_capacity(lines.len());
    for (index, c) in lines.char_indices() {
        if c != '\n' && inside.iter().any(|range| range.contains(&(first + index))) {
            text.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            text.push(c);
        }
    }
    text
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

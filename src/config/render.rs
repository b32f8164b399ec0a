//! Mistakes as people and programs read them.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::diagnostic::{Diagnostic, Problems, Severity};
use super::source::{Source, Sources, Span};
use crate::limits::DIAGNOSTICS_TOLD_MAX;

/// Longest text shown around a place: a line of 4 KiB is no line to read, and its number and column are told all the same.
const SNIPPET_BYTES_MAX: usize = 4096;

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
        let mut paragraphs: Vec<String> =
            self.told().map(|diagnostic| renderer.render(&[self.group(diagnostic)]) + "\n").collect();
        let told = paragraphs.len();
        if self.problems.len() > told {
            paragraphs.push(format!("… and {} more\n", self.problems.len() - told));
        }
        match self.count() {
            Some(count) if self.is_fatal() => paragraphs.push(format!("{count}; {consequence}\n")),
            Some(count) => paragraphs.push(format!("{count}\n")),
            None => {}
        }
        paragraphs.join("\n")
    }

    /// Those that are shown: the first ones, in the order of the files.
    fn told(&self) -> impl Iterator<Item = &Diagnostic> {
        self.problems.sorted().into_iter().take(DIAGNOSTICS_TOLD_MAX)
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
        let mistakes: Vec<Value> = self.told().map(|diagnostic| self.entry(diagnostic)).collect();
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
            let local = source.local(span);
            let lines = source.lines_of(&local);
            let (line, column) = source.line_column(span.start);
            let path = source.path.display().to_string();
            group = if lines.len() > SNIPPET_BYTES_MAX {
                group.element(Origin::path(path).line(line).char_column(column))
            } else {
                let text = self.masked(source, lines.clone());
                let place = kind.span(local.start - lines.start..local.end - lines.start).label(label);
                // The lines of the place alone: with the whole text the cost of a report would grow with the square of the file.
                group.element(Snippet::source(text).line_start(line).path(path).annotation(place))
            };
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help));
        }
        group
    }

    /// Some of a file's text, with asterisks over what may be a secret; every byte keeps its place.
    fn masked(&self, source: &Source, stretch: Range<usize>) -> String {
        let hidden = self.problems.hidden().iter().filter(|span| source.holds(**span)).map(|span| source.local(*span));
        let hidden: Vec<_> = hidden.filter(|hidden| hidden.start < stretch.end && stretch.start < hidden.end).collect();
        let mut text = String::with_capacity(stretch.len());
        for (index, c) in source.text[stretch.clone()].char_indices() {
            let at = stretch.start + index;
            if c == '\r' {
                // Of a line that ends as on Windows; it is no character to see.
                text.push(' ');
            } else if c != '\n' && hidden.iter().any(|hidden| hidden.contains(&at)) {
                text.extend(std::iter::repeat_n('*', c.len_utf8()));
            } else {
                text.push(c);
            }
        }
        text
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

//! Where a value stands. All files of one config share one space of positions, file after file, so that a position alone tells its file.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A stretch of config text, as positions in the common space of [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
}

impl Span {
    /// The length as a range, for the TOML crate.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A value and where it stands in the config.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands; of a default, where its block stands.
    pub span: Span,
    /// Whether it is a default in the place of a value that was refused: what is judged by it would be judged wrongly.
    pub refused: bool,
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// One file of the config.
#[derive(Debug, Clone)]
pub struct Source {
    /// As it was asked for: shown to people.
    pub path: PathBuf,
    /// Its text; empty when it could not be read as text.
    pub text: String,
    /// Where it starts in the common space.
    base: usize,
    /// Where each line starts in the text.
    lines: Vec<usize>,
}

impl Source {
    /// Line and column of a position in this file, both from 1; the column counts characters.
    pub fn line_column(&self, position: usize) -> (usize, usize) {
        let position = position.saturating_sub(self.base).min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= position);
        let line_start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(line_start..position).unwrap_or_default();
        (line, 1 + before.chars().count())
    }

    /// The whole lines that a stretch of the text lies on.
    pub fn lines_of(&self, local: &Range<usize>) -> Range<usize> {
        let first = self.text[..local.start].rfind('\n').map_or(0, |newline| newline + 1);
        let last = self.text[local.end..].find('\n').map_or(self.text.len(), |newline| local.end + newline);
        first..last
    }

    /// Whether the position lies in this file.
    pub fn holds(&self, span: Span) -> bool {
        (self.base..=self.base + self.text.len()).contains(&span.start)
    }

    /// The stretch within this file's own text, at most to its end.
    pub fn local(&self, span: Span) -> Range<usize> {
        // A place that a driver tells may fall within a character.
        let boundary = |mut at: usize| {
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = boundary(span.start.saturating_sub(self.base).min(self.text.len()));
        start..boundary(span.end.saturating_sub(self.base).clamp(start, self.text.len()))
    }
}

/// The files of one config, in the order they were read.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a file and tells where it starts in the common space.
    pub fn add(&mut self, path: PathBuf, text: String) -> usize {
        // One position stays free between two files: the end of one is not the start of the next.
        let base = self.0.last().map_or(0, |last| last.base + last.text.len() + 1);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        self.0.push(Source { path, text, base, lines });
        base
    }

    /// The file that holds the position.
    pub fn find(&self, span: Span) -> Option<&Source> {
        let after = self.0.partition_point(|source| source.base <= span.start);
        self.0.get(after.checked_sub(1)?)
    }

    /// The directory that a relative path at this place is relative to: that of its file.
    pub fn directory(&self, span: Span) -> &Path {
        self.find(span).and_then(|source| source.path.parent()).unwrap_or(Path::new(""))
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no file was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_tells_its_file_line_and_column() {
        let mut sources = Sources::default();
        assert_eq!(sources.add("a.toml".into(), "x = 1\n".into()), 0);
        let base = sources.add("b/b.toml".into(), "ü = 2\nyy = 3".into());
        let span = Span { start: base + 7, end: base + 9 };
        let source = sources.find(span).unwrap();
        assert_eq!(source.path, Path::new("b/b.toml"));
        assert_eq!(&source.text[source.local(span)], "yy");
        assert_eq!(source.line_column(span.start), (2, 1));
        assert_eq!(source.line_column(base + 2), (1, 2));
        assert_eq!(sources.directory(span), Path::new("b"));
        assert_eq!(sources.find(Span { start: 6, end: 6 }).unwrap().path, Path::new("a.toml"));
    }
}

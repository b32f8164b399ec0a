//! Files to one tree: reads, parses, follows `include`, joins.

use std::collections::btree_map::Entry;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::code::Code;
use super::diagnostic::Problems;
use super::pattern;
use super::source::{Sources, Span};
use super::tree::{Table, Value};
use crate::limits::{CONFIG_FILE_BYTES_MAX, CONFIG_FILES_MAX};

/// The text of a config, in all its files, and the tree they make together.
pub(super) struct Tree {
    pub sources: Sources,
    pub problems: Problems,
    pub root: Table,
}

/// Reads the file and all it includes; with `changed`, as if that file (canonical path) had this text.
pub(super) fn read(path: &Path, changed: Option<(&Path, &str)>) -> Tree {
    let mut reader = Reader { tree: Tree::empty(), seen: Vec::new(), changed };
    reader.file(path, None);
    reader.tree
}

/// Takes a text that is in memory already, as if it were the file `path`.
pub(super) fn read_text(path: &Path, text: &str) -> Tree {
    let mut reader = Reader { tree: Tree::empty(), seen: Vec::new(), changed: None };
    reader.text(path, text.as_bytes().to_vec());
    reader.tree
}

impl Tree {
    fn empty() -> Self {
        Self { sources: Sources::default(), problems: Problems::default(), root: Table::default() }
    }
}

struct Reader<'a> {
    tree: Tree,
    /// Canonical paths read so far, each with the place that asked for it.
    seen: Vec<(PathBuf, Option<Span>)>,
    /// The file that is not read, and its text.
    changed: Option<(&'a Path, &'a str)>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, asked_at: Option<Span>) {
        // Two names of one file (a link, a detour by `..`) are one file.
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if let Some((_, first)) = self.seen.iter().find(|(seen, _)| *seen == canonical) {
            let first = *first;
            let twice = self.tree.problems.error(
                Code::IncludeTwice,
                asked_at,
                format!("`{}` is included twice", path.display()),
            );
            match first {
                Some(first) => twice.and(first, "first included here"),
                None => twice.help("it is the file that everything starts from"),
            };
            return;
        }
        if self.seen.len() >= CONFIG_FILES_MAX {
            // Told once: the pattern that brought this one brings hundreds more.
            if !self.tree.problems.any(Code::TooMuch) {
                self.tree.problems.error(
                    Code::TooMuch,
                    asked_at,
                    format!("more than {CONFIG_FILES_MAX} files are included"),
                );
            }
            return;
        }
        let bytes = match self.changed {
            Some((changed, text)) if changed == canonical => within_limit(path, text.as_bytes().to_vec()),
            _ => load_bytes(path, asked_at.is_some()),
        };
        self.seen.push((canonical, asked_at));
        match bytes {
            Ok(bytes) => self.text(path, bytes),
            Err((code, reason)) => {
                self.tree.problems.error(code, asked_at, reason);
            }
        }
    }

    fn text(&mut self, path: &Path, bytes: Vec<u8>) {
        let (text, broken_at) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(at))
            }
        };
        let base = self.tree.sources.add(path.to_path_buf(), text.clone());
        if let Some(at) = broken_at {
            let span = Span { start: base + at, end: base + at + char::REPLACEMENT_CHARACTER.len_utf8() };
            self.tree
                .problems
                .error(Code::NotText, span, format!("`{}` is no text in UTF-8", path.display()))
                .label("the first byte that is none");
            return;
        }
        let (document, mistakes) = DeTable::parse_recoverable(&text);
        for mistake in mistakes {
            let span = mistake.span().unwrap_or(0..0);
            let span = Span { start: base + span.start, end: base + span.end };
            let told = match (mistake.message(), text.get(mistake.span().unwrap_or(0..0))) {
                ("duplicate key", Some(key)) => format!("`{key}` is given twice"),
                (message, _) => message.to_owned(),
            };
            self.tree.problems.error(Code::Syntax, span, told);
        }
        let table = Table::from_toml(document.get_ref(), base);
        let includes = include_list(&table);
        join(&mut self.tree.root, table, &mut self.tree.problems);
        let directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
        for (include, span) in includes {
            self.include(&directory, &include, span);
        }
    }

    fn include(&mut self, directory: &Path, text: &str, span: Span) {
        if !pattern::is_pattern(text) {
            self.file(&directory.join(text), Some(span));
            return;
        }
        match pattern::expand(directory, text) {
            Ok(paths) => {
                for path in paths {
                    self.file(&path, Some(span));
                }
            }
            Err(error) => {
                self.tree.problems.error(Code::IncludeMissing, span, format!("`{text}` cannot be listed: {error}"));
            }
        }
    }
}

fn load_bytes(path: &Path, included: bool) -> Result<Vec<u8>, (Code, String)> {
    let unreadable = |error: io::Error| {
        let missing = included && error.kind() == io::ErrorKind::NotFound;
        let code = if missing { Code::IncludeMissing } else { Code::FileUnreadable };
        (code, format!("`{}` cannot be read: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // The limit is held while reading: a device or a pipe has no size that could be asked for.
    file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    within_limit(path, bytes)
}

fn within_limit(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, (Code, String)> {
    if bytes.len() as u64 > CONFIG_FILE_BYTES_MAX {
        let most = CONFIG_FILE_BYTES_MAX >> 20;
        return Err((Code::TooMuch, format!("`{}` is larger than {most} MiB", path.display())));
    }
    Ok(bytes)
}

/// What `include` names; a value of another type is the decoder's to tell.
fn include_list(table: &Table) -> Vec<(String, Span)> {
    let Some(Value::List(items)) = table.get("include").map(|node| &node.value) else { return Vec::new() };
    let texts = items.iter().filter_map(|item| match &item.value {
        Value::Text(text) => Some((text.clone(), item.span)),
        _ => None,
    });
    texts.collect()
}

/// Joins a later file's table into an earlier one's.
fn join(into: &mut Table, from: Table, problems: &mut Problems) {
    for (name, (key_span, node)) in from.0 {
        match into.0.entry(name) {
            Entry::Vacant(free) => {
                free.insert((key_span, node));
            }
            Entry::Occupied(mut taken) => {
                let name = taken.key().clone();
                let (first_span, first) = taken.get_mut();
                match (&mut first.value, node.value) {
                    (Value::Table(first), Value::Table(second)) => join(first, second, problems),
                    (Value::List(first), Value::List(second)) => first.extend(second),
                    _ => {
                        problems
                            .error(Code::GivenTwice, key_span, format!("`{name}` is given in two files"))
                            .label("given again here")
                            .and(*first_span, "given here first");
                    }
                }
            }
        }
    }
}

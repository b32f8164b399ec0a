//! Text to file: reads a config with its includes, and keeps the place of every value, so that whatever is wrong with one is
//! told at its line. Knows nothing of drivers, broker or bridge: what fits together is `plan`'s to say.

mod block;
pub mod code;
pub mod decode;
pub mod diagnostic;
pub mod edit;
pub mod fields;
pub mod file;
pub mod kinds;
mod load;
mod pattern;
pub mod reference;
pub mod render;
pub mod schema;
pub mod secret;
pub mod show;
pub mod source;
pub mod tree;

use std::path::Path;

use code::Code;
use decode::{Decode, Key, Presence};
pub use diagnostic::Problems;
pub use file::File;
pub use render::Report;
pub use source::{At, Sources, Span};
use tree::{Node, Table, Value};

/// A config as it was read, mistakes included.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The files' texts.
    pub sources: Sources,
    /// What is wrong so far.
    pub problems: Problems,
    /// All files joined, as TOML.
    pub root: Table,
    /// The same, typed; what was refused is left out of it.
    pub file: File,
}

impl Loaded {
    /// Whether every file could be read as TOML: what stands on a text that could not is not judged, nor changed.
    pub fn is_readable(&self) -> bool {
        let broken = [Code::Syntax, Code::NotText, Code::FileUnreadable, Code::IncludeMissing, Code::TooMuch];
        !broken.into_iter().any(|code| self.problems.any(code))
    }
}

/// Reads a config file and all it includes. Mistakes are in the outcome, not in the way of it.
pub fn load(path: &Path) -> Loaded {
    decode(load::read(path, None))
}

/// Reads a config file and all it includes as they would be if one of these files had another text: `changed` is its path as in [`Sources`].
pub fn load_with(path: &Path, changed: &Path, text: &str) -> Loaded {
    let canonical = changed.canonicalize().unwrap_or_else(|_| changed.to_path_buf());
    decode(load::read(path, Some((&canonical, text))))
}

/// Reads a config from a text, as if it were the file `path`.
pub fn load_text(path: &Path, text: &str) -> Loaded {
    decode(load::read_text(path, text))
}

fn decode(tree: load::Tree) -> Loaded {
    let load::Tree { sources, mut problems, root } = tree;
    // A half-read block lacks keys that its text has: until the text can be read, what is missing is not judged.
    let broken = [Code::Syntax, Code::NotText].into_iter().any(|code| problems.any(code)) || sources.is_empty();
    let start = Span { start: 0, end: 0 };
    let node = Node { value: Value::Table(root.clone()), span: start };
    let file = File::decode(&node, &ROOT, &mut problems);
    if broken {
        problems.forget(Code::MissingKey);
        let unread = problems.places(Code::Syntax);
        problems.forget_within(&unread, Code::Syntax);
    }
    Loaded {
        sources,
        problems,
        root,
        file: file.expect("the root of a TOML document is a table, and blocks refuse nothing else"),
    }
}

/// The document as a value.
const ROOT: Key = Key { name: "the file", doc: &[], presence: Presence::Optional, bounds: None, shape: File::shape };

#[cfg(test)]
mod tests;

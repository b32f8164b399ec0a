//! A table, read key by key.

use super::code::Code;
use super::decode::{Block, Decode, Key, Presence, decode_at, wrong_type};
use super::diagnostic::Problems;
use super::source::{At, Span};
use super::tree::{Node, Table, Value};

/// A key with one of these in its name may hold a secret, known or not.
const SECRET_WORDS: [&str; 4] = ["pass", "secret", "token", "pwd"];

/// A table being read. The block says which keys it may have; what else is in it is unknown, or somebody else's.
pub struct Fields<'a> {
    block: &'static Block,
    span: Span,
    table: &'a Table,
    problems: &'a mut Problems,
}

impl<'a> Fields<'a> {
    /// Opens a table; `None`, and a note, when the value is none.
    pub fn open(node: &'a Node, name: &str, block: &'static Block, problems: &'a mut Problems) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            wrong_type(node, name, "a table", problems);
            return None;
        };
        Some(Self { block, span: node.span, table, problems })
    }

    /// Where the block stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// A key that may be left out.
    pub fn optional<T: Decode>(&mut self, name: &str) -> Option<At<T>> {
        decode_at(self.table.get(name)?, self.key(name), self.problems)
    }

    /// A key that may not be left out.
    pub fn required<T: Decode>(&mut self, name: &str) -> Option<At<T>> {
        if self.table.get(name).is_none() {
            self.problems
                .error(Code::MissingKey, self.span, format!("`{name}` is missing"))
                .label(format!("this block needs `{name}`"));
        }
        self.optional(name)
    }

    /// A key that has a default, which also stands in for a value that was refused.
    pub fn default<T: Decode>(&mut self, name: &str) -> At<T> {
        if let Some(given) = self.optional(name) {
            return given;
        }
        let key = self.key(name);
        let Presence::Default(text) = key.presence else {
            unreachable!("the `block!` macro calls `default` for keys with a default alone");
        };
        let value = T::decode(&Node::literal(text, self.span), key, &mut Problems::default());
        At {
            value: value.expect("every default is read by a test of `reference`"),
            span: self.span,
            refused: self.table.get(name).is_some(),
        }
    }

    /// Notes the unknown keys.
    pub fn close(self) {
        let known = || self.block.keys.iter().map(|key| key.name);
        for (name, (span, node)) in &self.table.0 {
            if known().any(|key| key == name) {
                continue;
            }
            if SECRET_WORDS.iter().any(|word| name.to_lowercase().contains(word)) {
                self.problems.hide(node.span);
            }
            self.problems.error(Code::UnknownKey, *span, format!("unknown key `{name}`")).suggest(name, known());
        }
    }

    /// The keys that are not the block's: somebody else's.
    pub fn rest(self) -> Table {
        let is_ours = |name: &str| self.block.keys.iter().any(|key| key.name == name);
        let rest = self.table.0.iter().filter(|(name, _)| !is_ours(name));
        Table(rest.map(|(name, entry)| (name.clone(), entry.clone())).collect())
    }

    fn key(&self, name: &str) -> &'static Key {
        let key = self.block.keys.iter().find(|key| key.name == name);
        key.expect("the `block!` macro makes the list of keys and the calls with their names from the same lines")
    }
}

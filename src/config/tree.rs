//! TOML values with their places, owned, in the common space of all files.

use std::borrow::Cow;
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::source::Span;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands; of a table, its header.
    pub span: Span,
}

/// A TOML value.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number as it is written, radix included: how large it may be is the reader's to say.
    Integer(String),
    /// A number as it is written.
    Float(String),
    /// True or false.
    Flag(bool),
    /// A date, a time or both.
    Date(toml::value::Datetime),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// A table: each key with its place and its value.
#[derive(Debug, Clone, Default)]
pub struct Table(pub BTreeMap<String, (Span, Node)>);

impl Node {
    /// Takes a parsed value over, moving its places by `base`.
    pub(super) fn from_toml(node: &Spanned<DeValue<'_>>, base: usize) -> Self {
        let value = match node.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => Value::Integer(integer.to_string()),
            DeValue::Float(float) => Value::Float(float.to_string()),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(date) => Value::Date(*date),
            DeValue::Array(items) => Value::List(items.iter().map(|item| Self::from_toml(item, base)).collect()),
            DeValue::Table(table) => Value::Table(Table::from_toml(table, base)),
        };
        Self { value, span: moved(node, base) }
    }

    /// Reads one of our own literals (a default, a bound); every one of them is read by a test of `reference`.
    pub(super) fn literal(text: &str, span: Span) -> Self {
        let node = DeValue::parse(text).expect("a literal of the block macros is TOML, as a test makes sure");
        let mut node = Self::from_toml(&node, 0);
        node.stand_at(span);
        node
    }

    /// Gives the value, and all within it, another place.
    fn stand_at(&mut self, span: Span) {
        self.span = span;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.stand_at(span)),
            Value::Table(table) => table.0.values_mut().for_each(|(_, node)| node.stand_at(span)),
            _ => {}
        }
    }

    fn canonical(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(literal) | Value::Float(literal) => literal.clone(),
            Value::Flag(flag) => flag.to_string(),
            Value::Date(date) => date.to_string(),
            Value::List(items) => format!("[{}]", items.iter().map(Self::canonical).collect::<Vec<_>>().join(", ")),
            Value::Table(table) => table.canonical(),
        }
    }

    fn to_toml(&self) -> Spanned<DeValue<'_>> {
        let value = match &self.value {
            Value::Text(text) => DeValue::String(Cow::Borrowed(text)),
            Value::Integer(literal) | Value::Float(literal) => {
                DeValue::parse(literal).map_or_else(|_| DeValue::String(Cow::Borrowed(literal)), Spanned::into_inner)
            }
            Value::Flag(flag) => DeValue::Boolean(*flag),
            Value::Date(date) => DeValue::Datetime(*date),
            Value::List(items) => DeValue::Array(items.iter().map(Self::to_toml).collect::<DeArray<'_>>()),
            Value::Table(table) => DeValue::Table(table.to_toml()),
        };
        Spanned::new(self.span.range(), value)
    }
}

impl Table {
    /// Takes a parsed table over, moving its places by `base`.
    pub(super) fn from_toml(table: &DeTable<'_>, base: usize) -> Self {
        let entries = table
            .iter()
            .map(|(key, node)| (key.get_ref().to_string(), (moved(key, base), Node::from_toml(node, base))));
        Self(entries.collect())
    }

    /// The table as the TOML crate has it: what a driver decodes. Places stay those of the common space.
    pub fn to_toml(&self) -> DeTable<'_> {
        let entries = self
            .0
            .iter()
            .map(|(key, (span, node))| (Spanned::new(span.range(), Cow::Borrowed(key.as_str())), node.to_toml()));
        entries.collect()
    }

    /// The table as one line of text: equal for equal values, wherever they stand.
    pub fn canonical(&self) -> String {
        let entries = self.0.iter().map(|(key, (_, node))| format!("{key:?} = {}", node.canonical()));
        format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.get(key).map(|(_, node)| node)
    }
}

fn moved<T>(node: &Spanned<T>, base: usize) -> Span {
    let span = node.span();
    Span { start: span.start + base, end: span.end + base }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_gets_the_values_and_places_that_were_written() {
        let text = "a = 0x76\nb = { c = [1.5, true, 'x'] }\n";
        let table = Table::from_toml(DeTable::parse(text).unwrap().get_ref(), 100);
        let back = table.to_toml();
        let address = &back["a"];
        assert_eq!(address.span(), 104..108);
        assert_eq!(address.get_ref().as_integer().map(ToString::to_string), Some("0x76".into()));
        let list = back["b"].get_ref().get("c").unwrap();
        assert_eq!(list.span(), 119..135);
        assert_eq!(list.get_ref().as_array().unwrap().len(), 3);
    }
}

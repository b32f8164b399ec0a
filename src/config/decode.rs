//! From TOML values to typed ones, without stopping at the first mistake.
//!
//! serde gives up at the first error of a struct. Here every key is taken by itself: what is wrong with it is noted at its
//! place, and the next key is read. What a block may hold is said once, by its [`Key`]s: the reader, the list of known
//! names in an error, the reference and the schema all come from them.

use serde_json::{Value as Json, json};

use super::code::Code;
use super::diagnostic::Problems;
use super::source::{At, Span};
use super::tree::{Node, Value};

/// What a key is for and what it may hold.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static [&'static str],
    /// What happens when it is left out.
    pub presence: Presence,
    /// Least and greatest value, as TOML.
    pub bounds: Option<(&'static str, &'static str)>,
    /// What it may hold.
    pub shape: fn() -> Shape,
}

/// What happens when a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is an error.
    Required,
    /// Nothing: the doc comment says what it means.
    Optional,
    /// This TOML value stands in for it.
    Default(&'static str),
}

/// What a block holds.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// What it is for.
    pub doc: &'static [&'static str],
    /// Its keys, in the order of the reference.
    pub keys: &'static [Key],
    /// Whether it has keys of its driver beside these.
    pub open: bool,
}

/// What a value may be.
#[derive(Debug, Clone)]
pub enum Shape {
    /// One value: its name for people, and its JSON Schema.
    Scalar(&'static str, Json),
    /// One of these words, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// A table.
    Block(&'static Block),
    /// Any number of values in an array.
    List(Box<Shape>),
    /// One value, or an array of them.
    OneOrMore(Box<Shape>),
    /// A table of tables, each under a name the user gives.
    Named(&'static Block),
}

/// A type that a TOML value can be read as.
pub trait Decode: Sized {
    /// What a value of this type may be.
    fn shape() -> Shape;

    /// Reads the value. Notes every mistake at its place; `None` when nothing useful is left.
    fn decode(node: &Node, key: &Key, problems: &mut Problems) -> Option<Self>;
}

/// Why a single value was refused.
pub enum Refusal {
    /// It is of another TOML type.
    Type,
    /// It has the type and not the form; the text completes "`key` …".
    Form(String),
    /// The same, and the value may hold a secret: no report may show it.
    Secret(String),
}

/// A type that is read from one TOML value without a look at anything else.
pub trait Scalar: Sized + PartialOrd {
    /// What people call it, with an example: completes "expected …".
    const EXPECTED: &'static str;
    /// What it is in the reference.
    const NAME: &'static str;
    /// What kind of mistake a wrong form is.
    const CODE: Code = Code::Malformed;

    /// Its JSON Schema.
    fn schema() -> Json;

    /// Reads the value.
    ///
    /// # Errors
    /// [`Refusal`] says whether the type or the form is wrong.
    fn read(value: &Value) -> Result<Self, Refusal>;
}

impl<T: Scalar> Decode for T {
    fn shape() -> Shape {
        Shape::Scalar(T::NAME, T::schema())
    }

    fn decode(node: &Node, key: &Key, problems: &mut Problems) -> Option<Self> {
        let span = node.span;
        let read = T::read(&node.value);
        if matches!(read, Err(Refusal::Secret(_))) {
            problems.hide(span);
        }
        match read {
            Ok(value) => {
                if let Some((least, greatest)) = key.bounds
                    && let (Some(low), Some(high)) = (literal::<T>(least), literal::<T>(greatest))
                    && !(low <= value && value <= high)
                {
                    problems.error(Code::OutOfRange, span, format!("`{}` is out of range", key.name)).label(format!(
                        "allowed: {} to {}",
                        bare(least),
                        bare(greatest)
                    ));
                    return None;
                }
                Some(value)
            }
            Err(Refusal::Type) => {
                wrong_type(node, key.name, T::EXPECTED, problems);
                None
            }
            Err(Refusal::Form(reason) | Refusal::Secret(reason)) => {
                problems
                    .error(T::CODE, span, format!("`{}` {reason}", key.name))
                    .label(format!("expected {}", T::EXPECTED));
                None
            }
        }
    }
}

/// Reads one of our own literals: a default or a bound.
fn literal<T: Scalar>(text: &str) -> Option<T> {
    T::read(&Node::literal(text, Span { start: 0, end: 0 }).value).ok()
}

/// A literal as people write it in a sentence.
pub fn bare(literal: &str) -> &str {
    literal.trim_matches('"')
}

/// Notes that a value is of the wrong type.
pub fn wrong_type(node: &Node, key: &str, expected: &str, problems: &mut Problems) {
    problems
        .error(Code::WrongType, node.span, format!("`{key}` is {}", article(&node.value)))
        .label(format!("expected {expected}"));
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Flag(_) => "true or false",
        Value::Date(_) => "a date",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
    }
}

impl<T: Decode> Decode for Vec<At<T>> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn decode(node: &Node, key: &Key, problems: &mut Problems) -> Option<Self> {
        let Value::List(items) = &node.value else {
            // `[bridge]` for `[[bridge]]` is the likeliest slip, and worth its own words.
            if matches!((&node.value, T::shape()), (Value::Table(_), Shape::Block(_))) {
                wrong_type(node, key.name, &format!("a list: write `[[{}]]`", key.name), problems);
            } else {
                wrong_type(node, key.name, "a list, in brackets", problems);
            }
            return None;
        };
        Some(items.iter().filter_map(|item| decode_at(item, key, problems)).collect())
    }
}

pub(super) fn decode_at<T: Decode>(node: &Node, key: &Key, problems: &mut Problems) -> Option<At<T>> {
    T::decode(node, key, problems).map(|value| At { value, span: node.span, refused: false })
}

/// One value or a list of them: `listen = "…"` and `listen = ["…", "…"]`.
#[derive(Debug, Clone, PartialEq)]
pub struct OneOrMore<T>(pub Vec<At<T>>);

impl<T: Decode> Decode for OneOrMore<T> {
    fn shape() -> Shape {
        Shape::OneOrMore(Box::new(T::shape()))
    }

    fn decode(node: &Node, key: &Key, problems: &mut Problems) -> Option<Self> {
        if matches!(node.value, Value::List(_)) {
            return Vec::<At<T>>::decode(node, key, problems).map(Self);
        }
        decode_at(node, key, problems).map(|one| Self(vec![one]))
    }
}

/// Tables under names the user gives: `[bus.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<T>(pub Vec<(At<String>, T)>);

impl<T: Decode> Decode for Named<T> {
    fn shape() -> Shape {
        match T::shape() {
            Shape::Block(block) => Shape::Named(block),
            other => other,
        }
    }

    fn decode(node: &Node, key: &Key, problems: &mut Problems) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            wrong_type(node, key.name, &format!("tables: `[{}.NAME]`", key.name), problems);
            return None;
        };
        let mut named = Vec::new();
        for (name, (span, value)) in &table.0 {
            if let Some(block) = T::decode(value, key, problems) {
                named.push((At { value: name.clone(), span: *span, refused: false }, block));
            }
        }
        // First is what stands first, not what comes first in the alphabet.
        named.sort_by_key(|(name, _)| name.span);
        Some(Self(named))
    }
}

/// JSON Schema of a text with an example.
pub fn text_schema(example: &str) -> Json {
    json!({ "type": "string", "examples": [example] })
}

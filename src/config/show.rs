//! The config as it works: every key with its value, the defaults included and marked.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::decode::{Block, Presence, Shape};
use super::file::File;
use super::tree::{Node, Table, Value};

/// Stands in for what nobody is to read over a shoulder.
const MASK: &str = "***";
/// Keys whose values are masked. References to secrets are no secrets, and are shown.
const MASKED: [&str; 1] = ["hash"];

/// What it named is part of what is shown.
const JOINED: &str = "include";

/// A value that stands in for a key that was left out, where that is not the default of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Where: `gateway.id`; in a list, with the place in it: `bridge[0].window`.
    pub path: String,
    /// The value, as TOML.
    pub value: String,
    /// Where it is from, in words.
    pub reason: String,
}

impl Resolved {
    /// A text.
    pub fn text(path: impl Into<String>, value: &str, reason: impl Into<String>) -> Self {
        let value = toml::Value::String(value.to_owned()).to_string();
        Self { path: path.into(), value, reason: reason.into() }
    }
}

fn resolved_at<'a>(resolved: &'a [Resolved], place: &str) -> Option<&'a Resolved> {
    resolved.iter().find(|resolved| resolved.path == place)
}

/// The config as TOML.
pub fn to_toml(root: &Table, resolved: &[Resolved]) -> String {
    let mut text = String::new();
    emit(&File::BLOCK, root, ("", ""), resolved, &mut text);
    text.trim_start().to_owned()
}

/// `path` is the header that TOML has for it, `place` the same with the places in lists.
fn emit(block: &Block, table: &Table, (path, place): (&str, &str), resolved: &[Resolved], text: &mut String) {
    for key in block.keys.iter().filter(|key| !is_nested(&(key.shape)())) {
        if join(path, key.name) == JOINED {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = match (table.get(key.name), key.presence, resolved_at(resolved, &join(place, key.name))) {
            (Some(_), ..) if MASKED.contains(&key.name) => writeln!(text, "{} = \"{MASK}\"", key.name),
            (Some(node), ..) => writeln!(text, "{} = {}", key.name, literal(node)),
            (None, _, Some(Resolved { value, reason, .. })) => writeln!(text, "{} = {value}  # {reason}", key.name),
            (None, Presence::Default(default), _) => writeln!(text, "{} = {default}  # default", key.name),
            (None, ..) => Ok(()),
        };
    }
    if block.open {
        for (name, (_, node)) in
            table.0.iter().filter(|(name, _)| !block.keys.iter().any(|key| key.name == name.as_str()))
        {
            let _ = writeln!(text, "{} = {}", key_text(name), literal(node));
        }
    }
    for key in block.keys {
        let (full, place) = (join(path, key.name), join(place, key.name));
        let node = table.get(key.name);
        match (key.shape)() {
            // A block that is there or not has no defaults while it is not.
            Shape::Block(_) if node.is_none() && key.presence == Presence::Optional => {}
            Shape::Block(inner) => {
                let empty = Table::default();
                let inner_table = node.and_then(as_table).unwrap_or(&empty);
                let _ = writeln!(text, "\n[{full}]");
                emit(inner, inner_table, (&full, &place), resolved, text);
            }
            Shape::Named(inner) => {
                for (name, (_, node)) in node.and_then(as_table).into_iter().flat_map(|table| &table.0) {
                    let (full, place) = (format!("{full}.{}", key_text(name)), format!("{place}.{name}"));
                    let _ = writeln!(text, "\n[{full}]");
                    emit(inner, as_table(node).unwrap_or(&Table::default()), (&full, &place), resolved, text);
                }
            }
            Shape::List(item) => {
                let Shape::Block(inner) = *item else { continue };
                let Some(Value::List(items)) = node.map(|node| &node.value) else { continue };
                for (nth, item) in items.iter().enumerate() {
                    let _ = writeln!(text, "\n[[{full}]]");
                    let place = format!("{place}[{nth}]");
                    emit(inner, as_table(item).unwrap_or(&Table::default()), (&full, &place), resolved, text);
                }
            }
            _ => {}
        }
    }
}

/// The config as JSON, defaults filled in.
pub fn to_json(root: &Table, resolved: &[Resolved]) -> Json {
    json_block(&File::BLOCK, root, "", resolved)
}

fn json_block(block: &Block, table: &Table, path: &str, resolved: &[Resolved]) -> Json {
    let mut object = Map::new();
    for key in block.keys {
        let full = join(path, key.name);
        if full == JOINED {
            continue;
        }
        let node = table.get(key.name);
        let empty = Table::default();
        let value = match ((key.shape)(), node) {
            (Shape::Block(_), None) if key.presence == Presence::Optional => None,
            (Shape::Block(inner), node) => {
                Some(json_block(inner, node.and_then(as_table).unwrap_or(&empty), &full, resolved))
            }
            (Shape::Named(inner), node) => {
                let tables = node.and_then(as_table).into_iter().flat_map(|table| &table.0);
                let tables = tables.map(|(name, (_, node))| {
                    (name.clone(), json_block(inner, as_table(node).unwrap_or(&empty), &full, resolved))
                });
                Some(Json::Object(tables.collect()))
            }
            (Shape::List(item), Some(Node { value: Value::List(items), .. })) => match *item {
                Shape::Block(inner) => Some(
                    items
                        .iter()
                        .enumerate()
                        .map(|(nth, item)| {
                            json_block(inner, as_table(item).unwrap_or(&empty), &format!("{full}[{nth}]"), resolved)
                        })
                        .collect(),
                ),
                _ => node.map(json_value),
            },
            (_, Some(_)) if MASKED.contains(&key.name) => Some(json!(MASK)),
            (_, Some(node)) => Some(json_value(node)),
            (_, None) => {
                let value = match (resolved_at(resolved, &full), key.presence) {
                    (Some(Resolved { value, .. }), _) => Some(value.as_str()),
                    (None, Presence::Default(default)) => Some(default),
                    (None, _) => None,
                };
                value.map(|value| json_value(&Node::literal(value, super::Span { start: 0, end: 0 })))
            }
        };
        if let Some(value) = value {
            object.insert(key.name.to_owned(), value);
        }
    }
    if block.open {
        for (name, (_, node)) in &table.0 {
            object.entry(name.as_str()).or_insert_with(|| json_value(node));
        }
    }
    Json::Object(object)
}

fn is_nested(shape: &Shape) -> bool {
    match shape {
        Shape::Block(_) | Shape::Named(_) => true,
        Shape::List(inner) => is_nested(inner),
        _ => false,
    }
}

fn as_table(node: &Node) -> Option<&Table> {
    match &node.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A key as TOML: bare where that is allowed.
fn key_text(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { toml::Value::String(name.to_owned()).to_string() }
}

/// A value as TOML on one line; numbers as they were written.
fn literal(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => toml::Value::String(text.clone()).to_string(),
        Value::Integer(text) | Value::Float(text) => text.clone(),
        Value::Flag(flag) => flag.to_string(),
        Value::Date(date) => date.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let entries = table.0.iter().map(|(name, (_, node))| format!("{} = {}", key_text(name), literal(node)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn json_value(node: &Node) -> Json {
    match &node.value {
        Value::Text(text) => json!(text),
        Value::Integer(_) | Value::Float(_) => number(node),
        Value::Flag(flag) => json!(flag),
        Value::Date(date) => json!(date.to_string()),
        Value::List(items) => items.iter().map(json_value).collect(),
        Value::Table(table) => {
            Json::Object(table.0.iter().map(|(name, (_, node))| (name.clone(), json_value(node))).collect())
        }
    }
}

fn number(node: &Node) -> Json {
    use super::decode::Scalar as _;
    use super::kinds::{Decimal, Whole};
    match (Whole::read(&node.value), Decimal::read(&node.value)) {
        (Ok(whole), _) => json!(whole.0),
        (_, Ok(decimal)) => json!(decimal.0),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let loaded = crate::config::load_text(std::path::Path::new("t.toml"), text);
        to_toml(&loaded.root, &[Resolved::text("gateway.id", "pump-house", "from the host name")])
    }

    #[test]
    fn what_is_shown_is_a_config_that_means_the_same() {
        let text = "[bus.p]\ndevice = \"sim:x\"\n[[sensor]]\nid = \"a\"\ndriver = \"uart\"\nbus = \"p\"\nmatch = { json = true }\n\
                    [sensor.values.\"t x\"]\nround = 2\n[[bridge]]\nid = \"c\"\nurl = \"mqtt://h\"\nout = [{ from = \"#\" }]\n";
        let first = show(text);
        let again = crate::config::load_text(std::path::Path::new("t.toml"), &first);
        assert_eq!(again.problems, crate::config::Problems::default(), "{first}");
        assert!(!first.contains("[http]"), "there is no page, and what is shown would make one: {first}");
        // The marks go, since all is given then; the values stay.
        assert_eq!(
            to_json(&again.root, &[]),
            to_json(
                &crate::config::load_text(std::path::Path::new("t.toml"), text).root,
                &[Resolved::text("gateway.id", "pump-house", "")]
            )
        );
    }

    #[test]
    fn hashes_are_masked_and_defaults_are_marked() {
        let shown = show("[[broker.users]]\nname = \"ha\"\nhash = \"$argon2id$secret\"\n");
        assert!(shown.contains("hash = \"***\"\n") && !shown.contains("argon2"), "{shown}");
        assert!(shown.contains("max_packet = \"1MiB\"  # default\n"), "{shown}");
        assert!(shown.contains("id = \"pump-house\"  # from the host name\n"), "{shown}");
    }
}

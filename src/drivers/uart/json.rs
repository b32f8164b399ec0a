//! One JSON document a line. Values keep their order; `{"a":{"b":1},"c":[2,3]}` yields `a.b`, `c.0` and `c.1`.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::value::{Samples, TextNames, finite};
use crate::model::{Sample, Value};

/// What is taken out of a document.
#[derive(Debug)]
pub(super) enum Selection {
    /// Everything that is a value.
    All,
    /// Values by name and JSON pointer (RFC 6901), all of them required.
    Pointers(Vec<(Arc<str>, String)>),
}

impl Selection {
    /// Reads a line. `None` when it is no document of ours: not an object or a list, or without any of the pointers.
    ///
    /// # Errors
    /// When it is no JSON, or a value cannot be read.
    pub(super) fn read(&self, line: &str, text: &TextNames) -> Result<Option<Vec<Sample>>, String> {
        let line = line.trim();
        if !line.starts_with(['{', '[']) {
            return Ok(None);
        }
        match self {
            Selection::All => all(line, text).map(Some),
            Selection::Pointers(pointers) => some(line, pointers, text),
        }
    }
}

fn some(line: &str, pointers: &[(Arc<str>, String)], text: &TextNames) -> Result<Option<Vec<Sample>>, String> {
    let document: serde_json::Value = serde_json::from_str(line).map_err(|error| broken(&error))?;
    let found: Vec<_> = pointers.iter().map(|(_, pointer)| document.pointer(pointer)).collect();
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut samples = Samples::default();
    for ((name, pointer), value) in pointers.iter().zip(found) {
        let value = match value {
            None => return Err(format!("`{pointer}` is missing")),
            Some(serde_json::Value::Null) => continue,
            Some(serde_json::Value::Bool(flag)) => Value::Flag(*flag),
            Some(serde_json::Value::String(string)) => Value::Text(string.as_str().into()),
            Some(serde_json::Value::Number(number)) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => number
                    .as_f64()
                    .ok_or("is too large")
                    .and_then(finite)
                    .map_err(|reason| format!("`{pointer}` {reason}"))?,
            },
            Some(_) => return Err(format!("`{pointer}` is no single value")),
        };
        samples.push(name.clone(), as_told(name, value, text))?;
    }
    Ok(Some(samples.into_vec()))
}

fn all(line: &str, text: &TextNames) -> Result<Vec<Sample>, String> {
    let mut samples = Samples::default();
    let mut path = String::new();
    let mut document = serde_json::Deserializer::from_str(line);
    Node { path: &mut path, samples: &mut samples, text }
        .deserialize(&mut document)
        .and_then(|()| document.end())
        .map_err(|error| broken(&error))?;
    Ok(samples.into_vec())
}

/// A document that has a number at each of these pointers, with `%` for the numbers. `None` where two of them cannot be in one document.
pub(super) fn template(pointers: &[(Arc<str>, String)]) -> Option<String> {
    const HOLE: &str = "\u{1}";
    let mut document = serde_json::Value::Null;
    for (_, pointer) in pointers {
        let mut place = &mut document;
        for step in pointer.split('/').skip(1) {
            // RFC 6901, section 4.
            let step = step.replace("~1", "/").replace("~0", "~");
            if place.is_null() {
                *place = serde_json::Value::Object(serde_json::Map::new());
            }
            place = place.as_object_mut()?.entry(step).or_insert(serde_json::Value::Null);
        }
        if !place.is_null() {
            return None;
        }
        *place = HOLE.into();
    }
    let text = document.to_string();
    (!text.contains('%')).then(|| text.replace("\"\\u0001\"", "%"))
}

/// What is wrong with a document, without the line number (a document is one line) and without its content.
fn broken(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or("broken");
    format!("JSON: {reason} at column {}", error.column())
}

fn as_told(name: &Arc<str>, value: Value, text: &TextNames) -> Value {
    if !text.contains(name) {
        return value;
    }
    match value {
        Value::Integer(integer) => Value::Text(integer.to_string().into()),
        Value::Number(number) => Value::Text(number.to_string().into()),
        other => other,
    }
}

/// A place in the document, on the way down. serde_json limits the depth to 128.
struct Node<'a> {
    path: &'a mut String,
    samples: &'a mut Samples,
    text: &'a TextNames,
}

impl Node<'_> {
    fn tell<E: Error>(self, value: Value) -> Result<(), E> {
        let name: Arc<str> = self.path.as_str().into();
        let value = as_told(&name, value, self.text);
        self.samples.push(name, value).map_err(E::custom)
    }

    /// The place below this one.
    fn child(&mut self, key: fmt::Arguments<'_>, visit: impl FnOnce(Node<'_>) -> bool) -> bool {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        // Writing to a String cannot fail.
        let _ = fmt::Write::write_fmt(self.path, key);
        let more = visit(Node { path: self.path, samples: self.samples, text: self.text });
        self.path.truncate(length);
        more
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.tell(Value::Flag(flag))
    }

    fn visit_i64<E: Error>(self, integer: i64) -> Result<(), E> {
        self.tell(Value::Integer(integer))
    }

    fn visit_u64<E: Error>(self, integer: u64) -> Result<(), E> {
        // Beyond i64 there is only the nearest f64.
        #[allow(clippy::cast_precision_loss)]
        let value = i64::try_from(integer).map_or(Value::Number(integer as f64), Value::Integer);
        self.tell(value)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        let value = finite(number).map_err(E::custom)?;
        self.tell(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.tell(Value::Text(text.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let mut outcome = Ok(());
            self.child(format_args!("{key}"), |node| {
                outcome = map.next_value_seed(node);
                outcome.is_ok()
            });
            outcome?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for index in 0usize.. {
            let mut outcome = Ok(None);
            let more = self.child(format_args!("{index}"), |node| {
                outcome = list.next_element_seed(node);
                matches!(outcome, Ok(Some(())))
            });
            outcome?;
            if !more {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Vec<Sample>>, String> {
        Selection::All.read(line, &TextNames::new())
    }

    fn samples(values: &[(&str, Value)]) -> Vec<Sample> {
        values.iter().map(|(name, value)| Sample { name: (*name).into(), value: value.clone() }).collect()
    }

    #[test]
    fn values_keep_their_order_and_nested_ones_are_named_by_their_path() {
        assert_eq!(
            read(r#"{"z":1,"a":{"b":2.5,"c":[true,"x"]},"big":9007199254740993}"#),
            Ok(Some(samples(&[
                ("z", Value::Integer(1)),
                ("a.b", Value::Number(2.5)),
                ("a.c.0", Value::Flag(true)),
                ("a.c.1", Value::Text("x".into())),
                ("big", Value::Integer(9_007_199_254_740_993)),
            ])))
        );
    }

    #[test]
    fn null_leaves_a_value_out() {
        assert_eq!(read(r#"{"a":null,"b":1}"#), Ok(Some(samples(&[("b", Value::Integer(1))]))));
    }

    #[test]
    fn a_line_that_is_no_document_is_somebody_elses_and_a_broken_document_is_bad() {
        assert_eq!(read("rst:0x1 (POWERON)"), Ok(None));
        assert_eq!(read(r#"{"a":1"#), Err("JSON: EOF while parsing an object at column 6".into()));
        assert_eq!(read(r#"{"a":1}{"a":2}"#), Err("JSON: trailing characters at column 8".into()));
        assert_eq!(read(r#"{"a":1,"a":2}"#), Err("JSON: `a` is there twice at column 12".into()));
        assert_eq!(read(r#"{"a":1e999}"#), Err("JSON: number out of range at column 10".into()));
    }

    #[test]
    fn pointers_take_what_they_name_and_need_all_of_it() {
        let selection = Selection::Pointers(vec![("t".into(), "/d/t".into()), ("h".into(), "/d/1".into())]);
        let none = TextNames::new();
        assert_eq!(
            selection.read(r#"{"d":{"1":48,"t":21.5}}"#, &none),
            Ok(Some(samples(&[("t", Value::Number(21.5)), ("h", Value::Integer(48))])))
        );
        assert_eq!(selection.read(r#"{"e":1}"#, &none), Ok(None));
        assert_eq!(selection.read(r#"{"d":{"t":1}}"#, &none), Err("`/d/1` is missing".into()));
        assert_eq!(selection.read(r#"{"d":{"t":{},"1":2}}"#, &none), Err("`/d/t` is no single value".into()));
    }

    #[test]
    fn a_number_that_is_asked_for_as_text_is_one() {
        assert_eq!(
            Selection::All.read(r#"{"id":7}"#, &vec!["id".into()]),
            Ok(Some(samples(&[("id", Value::Text("7".into()))])))
        );
    }
}

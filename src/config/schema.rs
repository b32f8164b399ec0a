//! A JSON Schema of the config, for editors that complete and check TOML.

use serde_json::{Map, Value, json};

use super::decode::{Block, Key, Presence, Shape, bare};
use super::file::File;
use super::reference::prose;

/// The names of the drivers of a block, each with the schema of its own keys.
pub type Drivers<'a> = Vec<(&'a str, Value)>;

/// The schema. `kinds` are the blocks that name a driver, by their key: `sensor`, `actuator`.
pub fn schema(kinds: &[(&str, Drivers<'_>)]) -> Value {
    let mut definitions = Map::new();
    let mut own = |drivers: &Drivers<'_>| -> Vec<(String, Value)> {
        let hoisted = |(name, own): &(&str, Value)| ((*name).to_owned(), hoisted(name, own.clone(), &mut definitions));
        drivers.iter().map(hoisted).collect()
    };
    let kinds: Vec<Kind> = kinds.iter().map(|(block, drivers)| ((*block).to_owned(), own(drivers))).collect();
    let mut schema = block(&File::BLOCK, &kinds, &[]);
    schema["$defs"] = Value::Object(definitions);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Tidegate config");
    schema
}

type Kind = (String, Vec<(String, Value)>);

/// A driver's schema with its definitions taken out to the root, where `#/$defs/…` points: `X` becomes `driver.X`.
fn hoisted(driver: &str, mut own: Value, definitions: &mut Map<String, Value>) -> Value {
    if let Some(Value::Object(defs)) = own.as_object_mut().and_then(|own| own.remove("$defs")) {
        for (name, mut definition) in defs {
            rename_references(driver, &mut definition);
            definitions.insert(format!("{driver}.{name}"), definition);
        }
    }
    rename_references(driver, &mut own);
    own
}

fn rename_references(driver: &str, value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/$defs/{driver}.{name}");
                        }
                    }
                    other => rename_references(driver, other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(driver, item)),
        _ => {}
    }
}

/// A block, with the drivers that it may name.
fn block(block: &Block, kinds: &[Kind], drivers: &[(String, Value)]) -> Value {
    let properties: Map<String, Value> =
        block.keys.iter().map(|key| (key.name.to_owned(), property(key, kinds))).collect();
    let required: Vec<&str> =
        block.keys.iter().filter(|key| key.presence == Presence::Required).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "description": prose(block.doc), "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if block.open {
        open(&mut schema, drivers);
    } else {
        schema["additionalProperties"] = json!(false);
    }
    schema
}

/// A block with keys of its driver: which they are hangs on `driver`.
fn open(schema: &mut Value, drivers: &[(String, Value)]) {
    let names: Vec<&String> = drivers.iter().map(|(name, _)| name).collect();
    schema["properties"]["driver"]["enum"] = json!(names);
    let cases: Vec<Value> = drivers
        .iter()
        .map(|(name, own)| {
            let mut own = own.clone();
            if let Some(own) = own.as_object_mut() {
                // Our keys stand in the same table: which are too many, the outer schema says.
                own.remove("additionalProperties");
                own.remove("$schema");
            }
            json!({ "if": { "properties": { "driver": { "const": name } }, "required": ["driver"] }, "then": own })
        })
        .collect();
    schema["allOf"] = json!(cases);
    schema["unevaluatedProperties"] = json!(false);
}

fn property(key: &Key, kinds: &[Kind]) -> Value {
    let drivers = kinds.iter().find(|(block, _)| block == key.name).map_or(&[][..], |(_, drivers)| drivers);
    let mut property = shape(&(key.shape)(), kinds, drivers);
    property["description"] = json!(prose(key.doc));
    if let Presence::Default(text) = key.presence
        && let Some(value) = literal(text)
    {
        property["default"] = value;
    }
    if let Some((low, high)) = key.bounds {
        match (literal(low), literal(high)) {
            (Some(low), Some(high)) if low.is_number() && high.is_number() => {
                property["minimum"] = low;
                property["maximum"] = high;
            }
            // A schema has no words for bounds of a text with unit.
            _ => property["description"] = json!(format!("{} From {} to {}.", prose(key.doc), bare(low), bare(high))),
        }
    }
    property
}

fn shape(shape_: &Shape, kinds: &[Kind], drivers: &[(String, Value)]) -> Value {
    match shape_ {
        Shape::Scalar(_, schema) => schema.clone(),
        Shape::Choice(words) => json!({ "enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>() }),
        Shape::Block(inner) => block(inner, kinds, drivers),
        Shape::List(inner) => json!({ "type": "array", "items": shape(inner, kinds, drivers) }),
        Shape::OneOrMore(inner) => {
            let one = shape(inner, kinds, drivers);
            json!({ "anyOf": [one, { "type": "array", "items": one }] })
        }
        Shape::Named(inner) => json!({ "type": "object", "additionalProperties": block(inner, kinds, drivers) }),
    }
}

/// One of our own literals as JSON.
fn literal(text: &str) -> Option<Value> {
    let document: toml::Table = format!("value = {text}").parse().ok()?;
    serde_json::to_value(document.get("value")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` below a value.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_of_a_driver_leads_somewhere() {
        let own = json!({ "properties": { "match": { "$ref": "#/$defs/Match" } }, "$defs": { "Match": { "items": { "$ref": "#/$defs/Match" } } } });
        let schema = schema(&[("sensor", vec![("a", own.clone()), ("b", own)])]);
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert_eq!(found.len(), 4);
        for reference in found {
            assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_schema_says_what_the_reader_does() {
        let keys = |key: &str| json!({ "type": "object", "properties": { key: {} }, "additionalProperties": false });
        let schema =
            schema(&[("sensor", vec![("uart", keys("match"))]), ("actuator", vec![("gpio-out", keys("line"))])]);
        let bridge = &schema["properties"]["bridge"]["items"];
        assert_eq!(bridge["required"], json!(["id", "url"]));
        assert_eq!(bridge["properties"]["window"]["maximum"], json!(1000));
        assert_eq!(bridge["properties"]["outbox"]["properties"]["max_messages"]["default"], json!(1_000_000));
        assert_eq!(bridge["additionalProperties"], json!(false));
        let sensor = &schema["properties"]["sensor"]["items"];
        assert_eq!(sensor["properties"]["driver"]["enum"], json!(["uart"]));
        assert_eq!(sensor["allOf"][0]["then"]["properties"], json!({ "match": {} }));
        let actuator = &schema["properties"]["actuator"]["items"];
        assert_eq!(actuator["properties"]["driver"]["enum"], json!(["gpio-out"]));
        assert_eq!(actuator["allOf"][0]["then"]["properties"], json!({ "line": {} }));
    }
}

//! The table of actuators, sorted by name. A new kind is one file and one line here.

use super::ActuatorSpec;

/// All kinds.
pub const ACTUATORS: &[ActuatorSpec] =
    &[super::gpio_out::SPEC, super::gpio_pulse::SPEC, super::i2c_write::SPEC, super::uart_write::SPEC];

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static ActuatorSpec> {
    ACTUATORS.iter().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_every_example_builds() {
        assert!(ACTUATORS.is_sorted_by(|one, other| one.name < other.name));
        for spec in ACTUATORS {
            let table = toml::de::DeTable::parse(spec.example).unwrap().into_inner();
            let built = (spec.build)(table);
            assert!(built.is_ok(), "{}: {:?}", spec.name, built.err());
        }
    }

    #[test]
    fn every_key_of_an_example_is_in_the_schema() {
        for spec in ACTUATORS {
            let schema = (spec.schema)();
            let known = schema.get("properties").and_then(serde_json::Value::as_object).unwrap();
            let table = toml::de::DeTable::parse(spec.example).unwrap().into_inner();
            for key in table.keys() {
                assert!(known.contains_key(key.get_ref().as_ref()), "{}: {}", spec.name, key.get_ref());
            }
        }
    }
}

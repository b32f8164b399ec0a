//! Values with a unit: durations and sizes.

use serde_json::{Value as Json, json};

use super::{form, text};
use crate::config::code::Code;
use crate::config::decode::{Refusal, Scalar};
use crate::config::tree::Value;

newtype!(
    /// A span of time with unit.
    Duration(std::time::Duration), "duration", "a duration with unit, such as \"500ms\", \"30s\" or \"1h30m\"", Code::Malformed,
    json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "examples": ["500ms", "30s", "1h30m", "14d"] }),
    |value| with_unit(value, &TIME_UNITS).and_then(|ms| {
        u64::try_from(ms).map(std::time::Duration::from_millis).map_err(|_| form("is too long"))
    })
);
/// How old something may get: a duration, or `never` too old, which is beyond all durations.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub enum Age {
    /// Too old after so long.
    After(std::time::Duration),
    /// Never too old.
    Never,
}

impl Age {
    /// The duration, if there is one.
    pub fn duration(self) -> Option<std::time::Duration> {
        match self {
            Age::After(duration) => Some(duration),
            Age::Never => None,
        }
    }
}

impl Scalar for Age {
    const EXPECTED: &'static str = "a duration with unit, such as \"30s\" or \"1h30m\", or \"never\"";
    const NAME: &'static str = "age";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(never|([0-9]+(ms|s|m|h|d))+)$", "examples": ["30s", "1h30m", "never"] })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        match value {
            Value::Text(text) if text == "never" => Ok(Age::Never),
            other => Duration::read(other).map(|duration| Age::After(duration.0)),
        }
    }
}

newtype!(
    /// A number of bytes with unit.
    Size(u64), "size", "a size with unit, such as \"64kB\" or \"256MiB\"", Code::Malformed,
    json!({ "type": "string", "pattern": "^[0-9]+(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$", "examples": ["64kB", "256MiB"] }),
    |value| with_unit(value, &SIZE_UNITS).and_then(|bytes| u64::try_from(bytes).map_err(|_| form("is too large")))
);
/// Reads a duration from the command line.
///
/// # Errors
/// What is wrong with it, as a fragment that follows the name of the option.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    Duration::read(&Value::Text(text.to_owned())).map(|duration| duration.0).map_err(|refusal| match refusal {
        Refusal::Form(reason) | Refusal::Secret(reason) => reason,
        Refusal::Type => format!("expected {}", Duration::EXPECTED),
    })
}

/// The bytes of a size within a longer text.
pub(super) fn bytes(text: &str) -> Result<u64, Refusal> {
    Size::read(&Value::Text(text.to_owned())).map(|size| size.0)
}

/// Milliseconds of each unit.
const TIME_UNITS: [(&str, u128); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Bytes of each unit.
const SIZE_UNITS: [(&str, u128); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Sums up `1h30m`: whole numbers, each with its unit.
fn with_unit(value: &Value, units: &[(&str, u128)]) -> Result<u128, Refusal> {
    let known = || units.iter().map(|(unit, _)| *unit).collect::<Vec<_>>().join(", ");
    if let Value::Integer(number) = value {
        return Err(form(format!("has no unit: `{number}`; known: {}", known())));
    }
    let text = text(value)?;
    let mut rest = text;
    let mut sum: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() && !number.is_empty() {
            return Err(form(format!("has no unit: `{text}`; known: {}", known())));
        }
        let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
            return Err(form(format!("has an unknown unit: `{text}`; known: {}", known())));
        };
        let Ok(number) = number.parse::<u64>() else {
            return Err(form(format!("is not whole numbers with units: `{text}`")));
        };
        sum = sum.saturating_add(u128::from(number).saturating_mul(*factor));
        rest = after;
    }
    if text.is_empty() { Err(form("is empty")) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::super::test::read;
    use super::*;

    #[test]
    fn durations_are_sums_of_whole_numbers_with_units() {
        let ms = |toml| read::<Duration>(toml).map(|duration| duration.0.as_millis());
        assert_eq!(ms("\"500ms\""), Ok(500));
        assert_eq!(ms("\"1h30m\""), Ok(5_400_000));
        assert_eq!(ms("\"14d\""), Ok(1_209_600_000));
        assert_eq!(ms("\"0s\""), Ok(0));
        assert_eq!(ms("\"30\""), Err("has no unit: `30`; known: ms, s, m, h, d".into()));
        assert_eq!(ms("30"), Err("has no unit: `30`; known: ms, s, m, h, d".into()));
        assert_eq!(ms("\"30 s\""), Err("has an unknown unit: `30 s`; known: ms, s, m, h, d".into()));
        assert_eq!(ms("\"s\""), Err("is not whole numbers with units: `s`".into()));
        assert_eq!(ms("\"\""), Err("is empty".into()));
        assert_eq!(ms("\"18446744073709551615d\""), Err("is too long".into()));
        assert_eq!(ms("true"), Err("type".into()));
    }

    #[test]
    fn never_is_an_age_beyond_every_duration() {
        let age = |text: &str| read::<Age>(&format!("\"{text}\""));
        assert_eq!(age("1h"), Ok(Age::After(std::time::Duration::from_secs(3600))));
        assert_eq!(age("never"), Ok(Age::Never));
        assert!(age("never") > age("36500d"));
        assert_eq!(age("nevr"), Err("has an unknown unit: `nevr`; known: ms, s, m, h, d".into()));
    }

    #[test]
    fn sizes_tell_thousands_from_powers_of_two() {
        assert_eq!(read::<Size>("\"64kB\"").unwrap().0, 64_000);
        assert_eq!(read::<Size>("\"256MiB\"").unwrap().0, 256 << 20);
        assert!(read::<Size>("\"1kb\"").is_err());
    }
}

//! Text to value: what reads as a number is a number, exactly.

use std::sync::Arc;

use crate::limits::FRAME_VALUES_MAX;
use crate::model::{Sample, Value};

/// The value of a text. Whole numbers that fit 64 bits stay exact, larger ones become the nearest `f64`.
///
/// # Errors
/// When it is written as a number that is none: NaN, infinite, or beyond what an `f64` holds. Devices write so when a measurement failed.
pub(super) fn read(text: &str) -> Result<Value, &'static str> {
    let word = text.trim();
    if let Ok(integer) = word.parse::<i64>() {
        return Ok(Value::Integer(integer));
    }
    match word.parse::<f64>() {
        Ok(number) => finite(number),
        Err(_) => Ok(Value::Text(text.into())),
    }
}

/// A number as a value.
///
/// # Errors
/// When it is not finite.
pub(super) fn finite(number: f64) -> Result<Value, &'static str> {
    if number.is_nan() {
        Err("is not a number (NaN)")
    } else if number.is_infinite() {
        Err("is infinite or too large")
    } else {
        Ok(Value::Number(number))
    }
}

/// Names of values that stay texts though they read as numbers.
pub(super) type TextNames = Vec<Arc<str>>;

/// The samples of one frame: each name once, and not too many.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    /// Adds a value.
    ///
    /// # Errors
    /// When the name is there already, or the frame has too many values.
    pub(super) fn push(&mut self, name: Arc<str>, value: Value) -> Result<(), String> {
        if self.0.iter().any(|sample| sample.name == name) {
            return Err(format!("`{name}` is there twice"));
        }
        if self.0.len() == FRAME_VALUES_MAX {
            return Err(format!("line holds more than {FRAME_VALUES_MAX} values"));
        }
        self.0.push(Sample { name, value });
        Ok(())
    }

    /// Adds what a text says; nothing for an empty text, which is how a device leaves a value out.
    ///
    /// # Errors
    /// As [`Self::push`], and when the text is a number that is none.
    pub(super) fn push_text(&mut self, name: Arc<str>, text: &str, kept: &TextNames) -> Result<(), String> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let value = if kept.contains(&name) {
            Value::Text(text.into())
        } else {
            read(text).map_err(|reason| format!("`{name}` {reason}"))?
        };
        self.push(name, value)
    }

    /// The samples, in the order they were added.
    pub(super) fn into_vec(self) -> Vec<Sample> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_as_a_number_is_one() {
        assert_eq!(read("42"), Ok(Value::Integer(42)));
        assert_eq!(read(" -7 "), Ok(Value::Integer(-7)));
        assert_eq!(read("084"), Ok(Value::Integer(84)));
        assert_eq!(read("9007199254740993"), Ok(Value::Integer(9_007_199_254_740_993)));
        assert_eq!(read("21.50"), Ok(Value::Number(21.5)));
        assert_eq!(read("1e3"), Ok(Value::Number(1000.0)));
        assert_eq!(read("18446744073709551615"), Ok(Value::Number(18_446_744_073_709_551_615.0)));
    }

    #[test]
    fn what_does_not_is_a_text() {
        for text in ["ok", "0x1F", "1_000", "12:30", "21,5", "-"] {
            assert_eq!(read(text), Ok(Value::Text(text.into())));
        }
    }

    #[test]
    fn a_number_that_is_none_is_a_failed_read() {
        for text in ["nan", "NaN", "inf", "-inf", "Infinity", "1e400"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}

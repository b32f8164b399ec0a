//! Digits after the decimal point.

use crate::model::Value;

/// The value rounded to so many digits, half away from zero; negative digits round to tens, hundreds, and so on.
pub(super) fn round(value: Value, digits: Option<i32>) -> Value {
    let Some(digits) = digits else { return value };
    match value {
        Value::Integer(integer) if digits < 0 => Value::Integer(round_integer(integer, digits.unsigned_abs())),
        Value::Number(number) => {
            let unit = 10f64.powi(digits.abs());
            let rounded = if digits < 0 { (number / unit).round() * unit } else { (number * unit).round() / unit };
            // Beyond 2^53 there are no digits to round, and the product may be infinite.
            Value::Number(if rounded.is_finite() { rounded } else { number })
        }
        other => other,
    }
}

fn round_integer(integer: i64, digits: u32) -> i64 {
    let unit = 10i128.pow(digits.min(18));
    let half = if integer < 0 { -unit / 2 } else { unit / 2 };
    let rounded = (i128::from(integer) + half) / unit * unit;
    i64::try_from(rounded).unwrap_or(integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_digits() {
        assert_eq!(round(Value::Number(21.499_999), Some(2)), Value::Number(21.5));
        assert_eq!(round(Value::Number(-0.06), Some(1)), Value::Number(-0.1));
        assert_eq!(round(Value::Number(1234.5), Some(-2)), Value::Number(1200.0));
        assert_eq!(round(Value::Number(1e300), Some(9)), Value::Number(1e300));
        assert_eq!(round(Value::Number(21.499_999), None), Value::Number(21.499_999));
    }

    #[test]
    fn whole_numbers_stay_whole_and_exact() {
        assert_eq!(round(Value::Integer(9_007_199_254_740_993), Some(2)), Value::Integer(9_007_199_254_740_993));
        assert_eq!(round(Value::Integer(1_250), Some(-2)), Value::Integer(1_300));
        assert_eq!(round(Value::Integer(-1_250), Some(-2)), Value::Integer(-1_300));
        assert_eq!(round(Value::Integer(i64::MAX), Some(-9)), Value::Integer(i64::MAX));
    }

    #[test]
    fn a_text_is_no_number() {
        assert_eq!(round(Value::Text("x".into()), Some(1)), Value::Text("x".into()));
    }
}

//! Scale, then offset: `value * scale + offset`.

use crate::model::Value;

/// Significant digits that are kept of a calculated value: more than any sensor measures, and few enough to drop what binary fractions add
/// (0.1 * 3 is 0.30000000000000004).
const DIGITS: usize = 12;

/// The calibrated value. A value that is not calculated with passes exactly as it is; `None` when the result is beyond all numbers.
pub(super) fn calibrate(value: Value, scale: Option<f64>, offset: Option<f64>) -> Option<Value> {
    if scale.is_none() && offset.is_none() {
        return Some(value);
    }
    let Some(number) = value.as_f64() else { return Some(value) };
    let result = number * scale.unwrap_or(1.0) + offset.unwrap_or(0.0);
    if !result.is_finite() {
        return None;
    }
    let digits = DIGITS - 1;
    // A finite number in scientific notation is always read back.
    Some(Value::Number(format!("{result:.digits$e}").parse().unwrap_or(result)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_comes_before_the_sum() {
        assert_eq!(calibrate(Value::Integer(10), Some(2.0), Some(-1.0)), Some(Value::Number(19.0)));
    }

    #[test]
    fn no_binary_dust_is_left() {
        assert_eq!(calibrate(Value::Integer(3), Some(0.1), None), Some(Value::Number(0.3)));
        assert_eq!(calibrate(Value::Number(1000.1), None, Some(-1000.0)), Some(Value::Number(0.1)));
    }

    #[test]
    fn without_a_factor_or_a_sum_a_value_stays_exact() {
        let counter = Value::Integer(9_007_199_254_740_993);
        assert_eq!(calibrate(counter.clone(), None, None), Some(counter));
    }

    #[test]
    fn what_is_beyond_all_numbers_is_none() {
        assert_eq!(calibrate(Value::Number(1e308), Some(1e9), None), None);
    }
}

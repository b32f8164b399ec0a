//! Where a good value lies.

use super::Range;
use crate::model::{Quality, Value};

/// `Range` for a number outside, else `Good`.
pub(super) fn judge(value: &Value, range: Option<Range>) -> Quality {
    match (value.as_f64(), range) {
        (Some(number), Some(Range { min, max })) if !(min..=max).contains(&number) => Quality::Range,
        _ => Quality::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_good() {
        let range = Some(Range { min: -40.0, max: 85.0 });
        assert_eq!(judge(&Value::Number(-40.0), range), Quality::Good);
        assert_eq!(judge(&Value::Integer(85), range), Quality::Good);
        assert_eq!(judge(&Value::Number(85.1), range), Quality::Range);
        assert_eq!(judge(&Value::Number(-40.1), range), Quality::Range);
        assert_eq!(judge(&Value::Number(1e9), None), Quality::Good);
    }
}

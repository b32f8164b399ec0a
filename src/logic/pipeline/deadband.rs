//! Which changes are worth telling.

use std::time::Duration;

use crate::model::{Moment, Value};

/// The value told last, and what the next one is compared with.
#[derive(Debug)]
pub(super) struct Deadband {
    width: Option<f64>,
    heartbeat: Option<Duration>,
    told: Option<(Value, Moment)>,
}

impl Deadband {
    /// Without a width every value is due.
    pub(super) fn new(width: Option<f64>, heartbeat: Option<Duration>) -> Self {
        Self { width, heartbeat, told: None }
    }

    /// Whether a value must be told.
    pub(super) fn is_due(&self, value: &Value, now: Moment) -> bool {
        let (Some(width), Some((told, _))) = (self.width, &self.told) else { return true };
        let changed = match (told.as_f64(), value.as_f64()) {
            (Some(old), Some(new)) => (new - old).abs() > width + tolerance(old, new),
            _ => told != value,
        };
        changed || self.heartbeat().is_some_and(|at| now >= at)
    }

    /// The value was told.
    pub(super) fn told(&mut self, value: Value, now: Moment) {
        self.told = Some((value, now));
    }

    /// When a value must be told however little it changed.
    pub(super) fn heartbeat(&self) -> Option<Moment> {
        let (_, at) = self.told.as_ref()?;
        self.width.and(self.heartbeat).map(|span| *at + span)
    }
}

/// What subtraction of two decimal fractions adds: 21.55 - 21.5 is a little more than 0.05.
fn tolerance(old: f64, new: f64) -> f64 {
    4.0 * f64::EPSILON * old.abs().max(new.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn only_a_change_beyond_the_width_is_due() {
        let mut deadband = Deadband::new(Some(0.05), None);
        assert!(deadband.is_due(&Value::Number(21.5), at(0)), "the first");
        deadband.told(Value::Number(21.5), at(0));
        assert!(!deadband.is_due(&Value::Number(21.55), at(1)), "no larger than the width");
        assert!(deadband.is_due(&Value::Number(21.56), at(1)));
        assert!(deadband.is_due(&Value::Number(21.44), at(1)));
    }

    #[test]
    fn a_width_of_zero_tells_every_change_and_nothing_else() {
        let mut deadband = Deadband::new(Some(0.0), None);
        deadband.told(Value::Integer(5), at(0));
        assert!(!deadband.is_due(&Value::Integer(5), at(1)));
        assert!(deadband.is_due(&Value::Integer(6), at(1)));
    }

    #[test]
    fn a_text_is_due_when_it_differs() {
        let mut deadband = Deadband::new(Some(1.0), None);
        deadband.told(Value::Text("open".into()), at(0));
        assert!(!deadband.is_due(&Value::Text("open".into()), at(1)));
        assert!(deadband.is_due(&Value::Text("shut".into()), at(1)));
        assert!(deadband.is_due(&Value::Integer(1), at(1)));
    }

    #[test]
    fn the_heartbeat_makes_any_value_due() {
        let mut deadband = Deadband::new(Some(1.0), Some(Duration::from_secs(60)));
        deadband.told(Value::Integer(5), at(0));
        assert!(!deadband.is_due(&Value::Integer(5), at(59)));
        assert!(deadband.is_due(&Value::Integer(5), at(60)));
        assert_eq!(deadband.heartbeat(), Some(at(60)));
    }
}

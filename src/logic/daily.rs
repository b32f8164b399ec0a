//! What is looked at once a day, however often it is asked.

use crate::limits::DAILY;
use crate::model::Moment;

/// When it was looked at last.
#[derive(Debug, Clone, Copy)]
pub struct Daily(Moment);

impl Daily {
    /// Looked at now, with everything else that is.
    pub fn seen(now: Moment) -> Self {
        Self(now)
    }

    /// Whether a day has passed; the next one begins then.
    pub fn is_due(&mut self, now: Moment) -> bool {
        let is_due = now.since(self.0) >= DAILY;
        if is_due {
            self.0 = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_due_once_a_day_and_not_right_after_the_start() {
        let start = Moment::at(Duration::from_secs(1_000));
        let mut daily = Daily::seen(start);
        let looks = (0..10 * 24 * 12).map(|n| start + Duration::from_secs(300) * n);
        let due: Vec<u64> =
            looks.filter(|now| daily.is_due(*now)).map(|now| now.since(start).as_secs() / 3_600).collect();
        assert_eq!(due, [24, 48, 72, 96, 120, 144, 168, 192, 216]);
    }
}

//! Whether a sensor is there: online at its first good frame, offline when its port is away or its last good frame is too old.

use std::time::Duration;

use crate::model::Moment;

/// Why a sensor is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// No good frame came within the max age of the last one, or within the patience after the start.
    Silent,
    /// Its port is away.
    Port,
    /// It was asked and did not answer.
    Unread,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A good frame came, and the sensor was not known to be there.
    Online,
    /// The sensor is not there.
    Offline(Absence),
}

/// The availability of one sensor. Unknown at first, so that a restart of the gateway alone makes nobody believe a sensor was gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    max_age: Option<Duration>,
    online: Option<bool>,
    deadline: Option<Moment>,
}

impl Availability {
    /// Unknown, since `now`. `patience` is how long the first good frame may take.
    pub fn new(max_age: Option<Duration>, patience: Duration, now: Moment) -> Self {
        Self { max_age, online: None, deadline: Some(now + patience) }
    }

    /// Whether the sensor is there; `None` while that is not known.
    pub fn online(&self) -> Option<bool> {
        self.online
    }

    /// A good frame came.
    pub fn frame(&mut self, now: Moment) -> Option<Change> {
        self.deadline = self.max_age.map(|age| now + age);
        (self.online.replace(true) != Some(true)).then_some(Change::Online)
    }

    /// The port went away.
    pub fn port_away(&mut self) -> Option<Change> {
        self.deadline = None;
        (self.online.replace(false) != Some(false)).then_some(Change::Offline(Absence::Port))
    }

    /// It was asked and did not answer.
    pub fn unread(&mut self) -> Option<Change> {
        self.deadline = None;
        (self.online.replace(false) != Some(false)).then_some(Change::Offline(Absence::Unread))
    }

    /// Looks whether the deadline has passed.
    pub fn tick(&mut self, now: Moment) -> Option<Change> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.deadline = None;
        (self.online.replace(false) != Some(false)).then_some(Change::Offline(Absence::Silent))
    }

    /// When to look again.
    pub fn deadline(&self) -> Option<Moment> {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(5);
    const PATIENCE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_good_frame_is_told_once_as_online() {
        let mut availability = Availability::new(Some(AGE), PATIENCE, at(0));
        assert_eq!(availability.online(), None);
        assert_eq!(availability.frame(at(1)), Some(Change::Online));
        assert_eq!(availability.frame(at(2)), None);
        assert_eq!(availability.online(), Some(true));
    }

    #[test]
    fn silence_past_the_max_age_is_told_once_and_ends_with_the_next_frame() {
        let mut availability = Availability::new(Some(AGE), PATIENCE, at(0));
        availability.frame(at(1));
        assert_eq!(availability.deadline(), Some(at(6)));
        assert_eq!(availability.tick(at(5)), None);
        assert_eq!(availability.tick(at(6)), Some(Change::Offline(Absence::Silent)));
        assert_eq!(availability.tick(at(7)), None);
        assert_eq!(availability.deadline(), None);
        assert_eq!(availability.frame(at(8)), Some(Change::Online));
    }

    #[test]
    fn a_port_that_goes_away_is_told_once_and_waits_for_no_deadline() {
        let mut availability = Availability::new(Some(AGE), PATIENCE, at(0));
        availability.frame(at(1));
        assert_eq!(availability.port_away(), Some(Change::Offline(Absence::Port)));
        assert_eq!(availability.port_away(), None);
        assert_eq!(availability.deadline(), None);
        assert_eq!(availability.tick(at(100)), None);
    }

    #[test]
    fn a_device_that_does_not_answer_is_offline_at_once_and_told_once() {
        let mut availability = Availability::new(Some(AGE), PATIENCE, at(0));
        assert_eq!(availability.unread(), Some(Change::Offline(Absence::Unread)));
        assert_eq!(availability.unread(), None);
        assert_eq!(availability.deadline(), None);
        assert_eq!(availability.frame(at(1)), Some(Change::Online));
    }

    #[test]
    fn without_a_max_age_only_the_first_frame_has_a_deadline() {
        let mut silent = Availability::new(None, PATIENCE, at(0));
        assert_eq!(silent.tick(at(10)), Some(Change::Offline(Absence::Silent)));

        let mut heard = Availability::new(None, PATIENCE, at(0));
        heard.frame(at(1));
        assert_eq!(heard.deadline(), None);
        assert_eq!(heard.tick(at(1_000_000)), None);
    }
}

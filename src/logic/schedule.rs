//! Which sensor of a bus is asked next. One at a time; a missed slot is skipped, never made up for; a device that does not answer is asked less
//! and less often, so that it costs its neighbours next to nothing.

use std::time::Duration;

use crate::model::{Moment, SensorId};

/// The timetable of one bus.
///
/// Contract: [`Schedule::start`] names the sensor to ask; [`Schedule::done`] follows before it names another. Sleep until
/// [`Schedule::poll_timeout`].
/// Guarantees: a sensor that answers is asked at its first start plus whole multiples of its interval; of several that are due, the one that is
/// due longest goes first.
#[derive(Debug)]
pub struct Schedule {
    entries: Vec<Entry>,
    running: Option<SensorId>,
    retry_max: Duration,
}

#[derive(Debug)]
struct Entry {
    id: SensorId,
    every: Duration,
    due: Moment,
    /// Whether it was asked before: its grid begins where it was first asked, so that sensors of one interval spread by themselves.
    begun: bool,
    /// Failures in a row.
    failed: u32,
}

impl Schedule {
    /// An empty one. A device that does not answer is asked at least once in `retry_max`, or in its interval where that is longer.
    pub fn new(retry_max: Duration) -> Self {
        Self { entries: Vec::new(), running: None, retry_max }
    }

    /// Makes it hold just these sensors. One that stays with its interval keeps its slot; the others are due at once.
    pub fn set(&mut self, wanted: impl IntoIterator<Item = (SensorId, Duration)>, now: Moment) {
        let mut before = std::mem::take(&mut self.entries);
        for (id, every) in wanted {
            let kept = before.iter().position(|entry| entry.id == id && entry.every == every);
            self.entries.push(match kept {
                Some(at) => before.swap_remove(at),
                None => Entry { id, every, due: now, begun: false, failed: 0 },
            });
        }
    }

    /// Has this sensor asked as soon as the bus is free.
    pub fn now(&mut self, id: &SensorId, now: Moment) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == *id) {
            entry.due = now;
            entry.begun = false;
        }
    }

    /// The sensor to ask, if one is due and none is being asked.
    pub fn start(&mut self, now: Moment) -> Option<SensorId> {
        if self.running.is_some() {
            return None;
        }
        let entry = self.entries.iter_mut().filter(|entry| entry.due <= now).min_by_key(|entry| entry.due)?;
        if !entry.begun {
            entry.begun = true;
            entry.due = now;
        }
        self.running = Some(entry.id.clone());
        self.running.clone()
    }

    /// The sensor that was asked has answered, or has not.
    pub fn done(&mut self, answered: bool, now: Moment) {
        let Some(id) = self.running.take() else { return };
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return };
        entry.failed = if answered { 0 } else { entry.failed.saturating_add(1) };
        let slots = 1_u32.checked_shl(entry.failed.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = entry.every.saturating_mul(slots).min(self.retry_max.max(entry.every));
        // Kept to the grid: a sensor that answers again is in step with its past.
        let mut due = entry.due + pause;
        if due <= now {
            let every = entry.every.as_nanos().max(1);
            let missed = now.since(due).as_nanos() / every + 1;
            let skip = u64::try_from(missed.saturating_mul(every)).unwrap_or(u64::MAX);
            due = due + Duration::from_nanos(skip);
        }
        entry.due = due;
    }

    /// When [`Schedule::start`] has something to say; `None` while a sensor is being asked, and when there is none.
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.running.is_some() {
            return None;
        }
        self.entries.iter().map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn id(name: &str) -> SensorId {
        SensorId::parse(name).unwrap()
    }

    fn schedule(sensors: &[(&str, u64)]) -> Schedule {
        let mut schedule = Schedule::new(Duration::from_secs(60));
        schedule.set(sensors.iter().map(|(name, ms)| (id(name), Duration::from_millis(*ms))), at(0));
        schedule
    }

    /// Asks until `end`, each question taking `ms`; who was asked when.
    fn run(schedule: &mut Schedule, ms: u64, end: u64, answers: impl Fn(&str, u64) -> bool) -> Vec<(String, u64)> {
        let (mut now, mut asked) = (0, Vec::new());
        while now <= end {
            if let Some(id) = schedule.start(at(now)) {
                asked.push((id.to_string(), now));
                let answered = answers(id.as_str(), now);
                now += ms;
                schedule.done(answered, at(now));
            }
            let due = u64::try_from(schedule.poll_timeout().unwrap().since_start().as_millis()).unwrap();
            now = now.max(due);
        }
        asked
    }

    fn times(asked: &[(String, u64)], who: &str) -> Vec<u64> {
        asked.iter().filter(|(name, _)| name == who).map(|(_, at)| *at).collect()
    }

    #[test]
    fn sensors_of_one_interval_go_one_after_the_other_and_keep_their_grid() {
        let mut schedule = schedule(&[("a", 1000), ("b", 1000)]);
        let asked = run(&mut schedule, 30, 3_500, |_, _| true);
        assert_eq!(times(&asked, "a"), [0, 1000, 2000, 3000]);
        assert_eq!(times(&asked, "b"), [30, 1030, 2030, 3030]);
    }

    #[test]
    fn a_slot_that_was_missed_is_skipped() {
        let mut schedule = schedule(&[("a", 100)]);
        let asked = run(&mut schedule, 250, 1_000, |_, _| true);
        assert_eq!(times(&asked, "a"), [0, 300, 600, 900]);
    }

    #[test]
    fn a_device_that_does_not_answer_is_asked_less_often_and_comes_back_into_step() {
        let mut schedule = schedule(&[("a", 1000)]);
        let asked = run(&mut schedule, 0, 20_000, |_, now| now >= 15_000);
        assert_eq!(times(&asked, "a"), [0, 1000, 3000, 7000, 15_000, 16_000, 17_000, 18_000, 19_000, 20_000]);
    }

    #[test]
    fn a_dead_device_is_asked_at_least_once_a_minute_or_once_an_interval() {
        for (every, longest) in [(1_000, 60_000), (300_000, 300_000)] {
            let mut schedule = schedule(&[("a", every)]);
            let asked = times(&run(&mut schedule, 0, 3_600_000, |_, _| false), "a");
            assert_eq!(asked.windows(2).map(|pair| pair[1] - pair[0]).max(), Some(longest));
        }
    }

    #[test]
    fn a_dead_device_that_takes_long_leaves_its_neighbour_its_grid_but_for_the_slots_it_fills() {
        let mut schedule = schedule(&[("dead", 1000), ("b", 1000)]);
        let mut now = 0;
        let mut late = 0;
        while now < 600_000 {
            if let Some(who) = schedule.start(at(now)) {
                let dead = who == id("dead");
                late += u32::from(!dead && now % 1000 > 600);
                now += if dead { 500 } else { 10 };
                schedule.done(!dead, at(now));
            }
            now = now.max(u64::try_from(schedule.poll_timeout().unwrap().since_start().as_millis()).unwrap());
        }
        assert!(late <= 15, "late {late} of 600 times");
    }

    #[test]
    fn a_sensor_that_stays_keeps_its_slot_and_a_new_one_is_due_at_once() {
        let mut schedule = schedule(&[("a", 1000)]);
        schedule.start(at(0));
        schedule.done(true, at(10));
        schedule.set([(id("a"), Duration::from_secs(1)), (id("b"), Duration::from_secs(1))], at(500));
        assert_eq!(schedule.start(at(500)), Some(id("b")));
        schedule.done(true, at(510));
        assert_eq!(schedule.start(at(999)), None);
        assert_eq!(schedule.start(at(1000)), Some(id("a")));
    }

    #[test]
    fn a_sensor_that_leaves_while_it_is_asked_is_forgotten() {
        let mut schedule = schedule(&[("a", 1000)]);
        schedule.start(at(0));
        schedule.set([], at(1));
        schedule.done(true, at(2));
        assert_eq!(schedule.poll_timeout(), None);
    }
}

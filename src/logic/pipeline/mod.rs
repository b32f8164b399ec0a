//! From sample to reading: what is done to a value, in which order. One step a file.
//!
//! Each value goes through scale and offset (`calibrate`), `range`, `median`, `round`, in this order. Then the reading as a whole is told when it
//! is due: when any of its values is (`deadband`), when its quality changed, or when the sensor was away before. A reading is told whole or not
//! at all, because its values belong to one moment.

mod calibrate;
mod deadband;
mod median;
mod range;
mod round;
pub mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::deadband::Deadband;
use self::median::Median;
pub use self::settings::{Range, SensorSettings, ValueSettings};
use super::availability::{Absence, Availability, Change};
use crate::model::{Moment, Quality, Reading, Sample, SensorId, Timestamp};

/// What happened to a sensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A frame was read.
    Samples {
        /// Its values, in the order of the driver.
        samples: Vec<Sample>,
        /// When its last byte came.
        time: Timestamp,
    },
    /// The sensor's port went away.
    PortAway,
    /// The sensor was asked and did not answer.
    Unread,
    /// Time passed.
    Tick,
    /// Nothing will follow: what is held back is told.
    End,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Publish the reading.
    Tell(Reading),
    /// Publish that the sensor is there.
    Online,
    /// Publish that it is not.
    Offline(Absence),
}

/// Makes readings of one sensor's samples, and says whether the sensor is there.
///
/// Contract: after every `handle`, call `poll_action` until `None`, then sleep until `poll_timeout`.
/// Guarantees: a reading that is too old, out of range or from a port that is away is told so, once; `online` follows the reading that proves
/// it, and `offline` goes before the reading that is no longer good, so that nobody who follows both takes an old value for a fresh one.
#[derive(Debug)]
pub struct Pipeline {
    sensor: SensorId,
    values: Vec<ValueState>,
    availability: Availability,
    /// The reading told last, with the quality it was told with.
    told: Option<Reading>,
    /// The latest reading since then that was not due, and when it will be.
    held: Option<(Reading, Option<Moment>)>,
    actions: VecDeque<Action>,
}

/// A value's settings, and what its steps remember.
#[derive(Debug)]
struct ValueState {
    settings: ValueSettings,
    median: Median,
    deadband: Deadband,
}

impl Pipeline {
    /// A sensor of which nothing is known yet.
    pub fn new(sensor: SensorId, settings: SensorSettings, now: Moment) -> Self {
        let values = settings
            .values
            .into_iter()
            .map(|settings| ValueState {
                median: Median::new(settings.median),
                deadband: Deadband::new(settings.deadband, settings.heartbeat),
                settings,
            })
            .collect();
        let availability = Availability::new(settings.max_age, settings.patience, now);
        Self { sensor, values, availability, told: None, held: None, actions: VecDeque::new() }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Moment) {
        match input {
            Input::Samples { samples, time } => self.samples(samples, time, now),
            Input::PortAway => {
                let change = self.availability.port_away();
                self.changed(change);
            }
            Input::Unread => {
                let change = self.availability.unread();
                self.changed(change);
            }
            Input::Tick => {
                let change = self.availability.tick(now);
                self.changed(change);
                if let Some((reading, _)) = self.held.take_if(|(_, due)| due.is_some_and(|at| now >= at)) {
                    self.tell(reading, now);
                }
            }
            Input::End => {
                if let Some((reading, _)) = self.held.take() {
                    self.tell(reading, now);
                }
            }
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call `handle` with [`Input::Tick`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        let heartbeat = self.held.as_ref().and_then(|(_, due)| *due);
        [self.availability.deadline(), heartbeat].into_iter().flatten().min()
    }

    /// Whether the sensor is there; `None` while that is not known.
    pub fn online(&self) -> Option<bool> {
        self.availability.online()
    }

    /// The name a driver's value has in readings.
    pub fn renamed<'a>(&'a self, name: &'a str) -> &'a str {
        let state = self.values.iter().find(|state| *state.settings.name == *name);
        state.map_or(name, |state| state.settings.published_name())
    }

    fn samples(&mut self, samples: Vec<Sample>, time: Timestamp, now: Moment) {
        let mut reading = Reading { sensor: self.sensor.clone(), time, values: Vec::new(), quality: Quality::Good };
        let mut due = false;
        for sample in samples {
            let (processed, quality, value_due) = self.process(sample, now);
            reading.values.extend(processed);
            reading.quality = reading.quality.max(quality);
            due |= value_due;
        }
        let change = self.availability.frame(now);
        due |= change.is_some() || self.told.as_ref().is_none_or(|told| told.quality != reading.quality);
        if due {
            self.tell(reading, now);
        } else {
            let at = self.heartbeat(&reading);
            self.held = Some((reading, at));
        }
        self.changed(change);
    }

    /// Leads one value through its steps. `None` for the value when no number is left of it.
    fn process(&mut self, sample: Sample, now: Moment) -> (Option<Sample>, Quality, bool) {
        let Some(state) = self.values.iter_mut().find(|state| state.settings.name == sample.name) else {
            return (Some(sample), Quality::Good, true);
        };
        let settings = &state.settings;
        let name = settings.rename.clone().unwrap_or(sample.name);
        if sample.value.as_f64().is_none() {
            // Where a number is expected, a text such as `ERR` is a measurement that failed.
            let quality = if settings.expects_a_number() { Quality::Fault } else { Quality::Good };
            let due = state.deadband.is_due(&sample.value, now);
            return (Some(Sample { name, value: sample.value }), quality, due);
        }
        let Some(calibrated) = calibrate::calibrate(sample.value, settings.scale, settings.offset) else {
            return (None, Quality::Fault, false);
        };
        let quality = range::judge(&calibrated, settings.range);
        let filtered = if quality == Quality::Good { state.median.push(calibrated) } else { calibrated };
        let value = round::round(filtered, settings.round);
        let due = state.deadband.is_due(&value, now);
        (Some(Sample { name, value }), quality, due)
    }

    fn tell(&mut self, reading: Reading, now: Moment) {
        for state in &mut self.values {
            let name = state.settings.published_name();
            if let Some(sample) = reading.values.iter().find(|sample| sample.name == *name) {
                state.deadband.told(sample.value.clone(), now);
            }
        }
        self.held = None;
        self.told = Some(reading.clone());
        self.actions.push_back(Action::Tell(reading));
    }

    fn changed(&mut self, change: Option<Change>) {
        match change {
            None => {}
            Some(Change::Online) => self.actions.push_back(Action::Online),
            Some(Change::Offline(absence)) => {
                self.actions.push_back(Action::Offline(absence));
                self.held = None;
                for state in &mut self.values {
                    // What was measured before a gap says nothing of what is measured after it.
                    state.median.clear();
                }
                let quality = match absence {
                    Absence::Silent => Quality::Stale,
                    Absence::Port | Absence::Unread => Quality::Fault,
                };
                if let Some(told) = &mut self.told {
                    told.quality = quality;
                    self.actions.push_back(Action::Tell(told.clone()));
                }
            }
        }
    }

    /// When the first heartbeat of a reading's values is due.
    fn heartbeat(&self, reading: &Reading) -> Option<Moment> {
        let of_reading =
            |state: &&ValueState| reading.values.iter().any(|sample| sample.name == *state.settings.published_name());
        self.values.iter().filter(of_reading).filter_map(|state| state.deadband.heartbeat()).min()
    }
}

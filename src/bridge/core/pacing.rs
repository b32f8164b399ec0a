//! How fast records and QoS 0 go up: one pace for both, of which QoS 0 may take a part while records wait.

use crate::limits::RATE_QOS0_PART;
use crate::logic::pace::Pace;
use crate::model::{Moment, Rate};

/// The pace of a bridge, and what waits for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pacing {
    /// What all that goes up is taken from.
    pub(super) records: Pace,
    /// What QoS 0 may take of it while records wait.
    qos0: Pace,
    /// When the records that found it empty may go: a handful of them, so that they share a commit.
    until: Option<Moment>,
}

impl Pacing {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { records: Pace::new(rate), qos0: Pace::part(rate, RATE_QOS0_PART), until: None }
    }

    /// Another rate. What was sent counts.
    pub(super) fn configure(&mut self, rate: Option<Rate>) {
        self.records.configure(Pace::new(rate));
        self.qos0.configure(Pace::part(rate, RATE_QOS0_PART));
        self.until = None;
    }

    /// Whether records wait.
    pub(super) fn waits(&self) -> bool {
        self.until.is_some()
    }

    /// When they are due.
    pub(super) fn due(&self) -> Option<Moment> {
        self.until
    }

    /// They are, if they are.
    pub(super) fn look(&mut self, now: Moment) {
        self.until = self.until.filter(|until| now < *until);
    }

    /// So many records wait; the first is this large.
    pub(super) fn wait(&mut self, records: u64, bytes: usize) {
        let together = bytes.saturating_mul(usize::try_from(records.max(1)).unwrap_or(usize::MAX));
        self.until = Some(self.records.ready_at(records.max(1), together));
    }

    pub(super) fn admits_qos0(&self, bytes: usize, records_wait: bool, now: Moment) -> bool {
        self.records.admits(bytes, now) && (!records_wait || self.qos0.admits(bytes, now))
    }

    pub(super) fn take_qos0(&mut self, bytes: usize, now: Moment) {
        self.records.take(bytes, now);
        self.qos0.take(bytes, now);
    }
}

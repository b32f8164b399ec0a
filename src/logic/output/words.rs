//! What an output is told, and what it has to say.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Outcome, Setting};

/// How an output is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSettings {
    /// Its state at start, at stop and when in doubt. Without one it is left as it is.
    pub safe: Option<Setting>,
    /// How long the link to the cloud may be down before the output goes to its safe state.
    pub link_loss: Option<Duration>,
    /// How long it may be on at a stretch; a repeated `on` does not prolong it.
    pub max_on: Option<Duration>,
    /// How long it is off before it may be on again.
    pub min_off: Option<Duration>,
    /// It is on for this long, and off by itself.
    pub pulse: Option<Duration>,
    /// Whether its device can be asked what it is set to; else it counts as set to what it was told last.
    pub readable: bool,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A command that was committed. [`Output::may`] has said yes to it.
    Order {
        /// To be named in its answer.
        order: u64,
        /// What is wanted.
        setting: Setting,
    },
    /// What was under way has ended well.
    Moved {
        /// What the device reads back as; `None` when it cannot be asked.
        read: Option<Setting>,
    },
    /// What was under way has failed.
    Failed {
        /// Why.
        reason: Arc<str>,
        /// In 0..=1, to draw the wait from.
        random: f64,
    },
    /// Its device is at hand again after a move that took too long: what it made of that is unknown, so it is not waited for any longer.
    Back,
    /// The link to the cloud is up, or down.
    Link(bool),
    /// The output is given up: to its safe state, and no further.
    Stop,
    /// Time passed.
    Tick,
}

/// What is to be done for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Set the device, opening it first where it is not, and read it back.
    Move(Setting),
    /// Read it back, opening it first where it is not.
    Check,
    /// The answer to an order.
    Answer {
        /// The order.
        order: u64,
        /// What became of it.
        outcome: Outcome,
        /// Why, where it was not done.
        reason: Option<Arc<str>>,
    },
    /// Its state is another than was told before.
    Told {
        /// What it is set to.
        value: Setting,
        /// Whether its device says so; else nobody knows what it is by now.
        sound: bool,
    },
    /// Its device answers.
    Online {
        /// How often it had failed.
        failed: u64,
        /// For how long.
        outage: Duration,
    },
    /// Its device does not answer, or does not do as it is told.
    Offline(Arc<str>),
    /// It went to its safe state by itself, and why.
    Fell(Fall),
    /// It is given up.
    Stopped,
}

/// Why an output went off or to its safe state without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fall {
    /// It was on for `max_on`.
    MaxOn,
    /// The link was down for `link_loss`.
    LinkLoss,
}

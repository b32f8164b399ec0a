//! Keeps the retained messages on disk.

use std::sync::Arc;

use super::promise::Pending;
use super::retained::Outcome;
use crate::model::Message;

/// How soon a change of the retained set must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// An acknowledgement waits for it.
    Now,
    /// A client's, not acknowledged.
    Soon,
    /// Our own: written when there is time.
    Lazy,
    /// Not to be written.
    Never,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keeper {}

impl Keeper {
    /// Notes a change. Returns what an acknowledgement has to wait for.
    pub(super) fn note(&self, _message: &Arc<Message>, _outcome: Outcome, _urgency: Urgency) -> Option<Pending> {
        None
    }
}

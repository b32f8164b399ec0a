//! In which era the local broker and the bridges are: in each the same bridges hear of every packet id that becomes free.
//!
//! An era is written down by every bridge, then by the broker, and only then clients hear that packet ids are free. So a bridge that was not there when they
//! did is found out by its own file, whatever was cut short.

use std::sync::Arc;

use super::gateway::Running;
use super::hub::Hub;
use super::local::Local;
use crate::model::Era;

/// See the module.
#[derive(Default)]
pub(super) struct Eras {
    now: Option<Era>,
    /// Writes it down.
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Eras {
    /// Before bridges come or go: tells those that stay and those that come. What a bridge that comes later knows is out of date.
    pub(super) fn begin(&mut self, local: &Local, hub: &Arc<Hub>, stay: &[Running], come: &[Running]) {
        let is_first = self.now.is_none();
        let era = match &self.now {
            None => local.first_era(),
            Some(now) => local.next_era(now.now),
        };
        if let Some(before) = self.task.take() {
            before.abort();
        }
        let held = hub.hold_free();
        let Some(era) = era else { return hub.let_free(held) };
        let late = Era { before: None, ..era.clone() };
        let come = come.iter().map(|running| (running, if is_first { &era } else { &late }));
        let all = stay.iter().map(|running| (running, &era)).chain(come);
        let begun: Vec<_> = all.map(|(running, era)| running.bridge.begin_era(era.clone())).collect();
        let (noted, hub) = (local.note_era(era.now), Arc::clone(hub));
        self.now = Some(era);
        self.task = Some(tokio::spawn(async move {
            for begun in begun {
                // One that has ended knows nothing that counts: its file names the era before.
                let _ = begun.await;
            }
            if let Some(noted) = noted
                && noted.await
            {
                hub.let_free(held);
            }
        }));
    }

    /// Whether there was none yet.
    pub(super) fn is_none(&self) -> bool {
        self.now.is_none()
    }

    pub(super) fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

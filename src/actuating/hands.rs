//! A device, lent to a thread that may block while it is set or read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::actuators::Device;
use crate::clock::Clock;
use crate::limits::OUTPUT_DEADLINE;
use crate::model::{Moment, Setting};

/// What is to be done with the device.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Job {
    Set(Setting),
    Check,
}

/// What came of it.
pub(super) type Made = Result<Option<Setting>, String>;

/// What [`Hands::next`] tells.
#[derive(Debug, PartialEq)]
pub(super) enum Done {
    /// The job has ended.
    Made(Made),
    /// A job that was given up has ended: the device is at hand again.
    Back,
}

type Home = Arc<Mutex<Option<Box<dyn Device>>>>;

/// The device and who has it. Lives as long as the actuator, over a panic of its task.
#[derive(Clone)]
pub(super) struct Hands {
    home: Home,
}

impl Hands {
    pub(super) fn new(device: Box<dyn Device>) -> Self {
        Self { home: Arc::new(Mutex::new(Some(device))) }
    }

    /// Begins to work with it.
    pub(super) fn at_work(&self) -> Work {
        Work { hands: self.clone(), lent: None, waiting: None }
    }

    fn take(&self) -> Option<Box<dyn Device>> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, device: Box<dyn Device>) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
    }

    /// Lets go of it: what it holds is released.
    pub(super) fn release(&self) {
        drop(self.take());
    }
}

/// One task's work with the device.
pub(super) struct Work {
    hands: Hands,
    lent: Option<JoinHandle<Made>>,
    /// The job whose end is waited for, whether it has been begun, and until when.
    waiting: Option<(Job, bool, Moment)>,
}

impl Work {
    /// Has a job done. One at a time; one before it that has not ended is waited for within the same deadline.
    pub(super) fn begin(&mut self, job: Job, clock: &dyn Clock) {
        self.waiting = Some((job, false, clock.now() + OUTPUT_DEADLINE));
        self.lend();
    }

    /// Nobody waits any longer for what is being done.
    pub(super) fn give_up(&mut self) {
        self.waiting = None;
    }

    fn lend(&mut self) {
        let Some((job, begun, _)) = &mut self.waiting else { return };
        if *begun || self.lent.is_some() {
            return;
        }
        let Some(mut device) = self.hands.take() else { return };
        *begun = true;
        let (job, hands) = (job.clone(), self.hands.clone());
        self.lent = Some(tokio::task::spawn_blocking(move || {
            let made = catch_unwind(AssertUnwindSafe(|| match &job {
                Job::Set(setting) => device.set(setting),
                Job::Check => device.check(),
            }));
            // Also after a panic: what it holds is brought to its safe state by the next job.
            hands.put(device);
            made.unwrap_or_else(|_| Err("its driver panicked".to_owned()))
        }));
    }

    /// Waits for the end of a job, or of the patience with it. Never resolves when there is nothing to wait for. Cancel safe.
    pub(super) async fn next(&mut self, clock: &dyn Clock) -> Done {
        loop {
            let deadline = self.waiting.as_ref().map(|(_, _, deadline)| *deadline);
            let patience = async {
                match deadline {
                    Some(at) => tokio::time::sleep(at.since(clock.now()).max(Duration::from_millis(1))).await,
                    None => std::future::pending().await,
                }
            };
            let ended = async {
                match &mut self.lent {
                    Some(lent) => lent.await,
                    None => std::future::pending().await,
                }
            };
            let made = tokio::select! {
                biased;
                made = ended => Some(made),
                () = patience => None,
            };
            let Some(made) = made else {
                if deadline.is_some_and(|at| clock.now() < at) {
                    continue;
                }
                self.waiting = None;
                let seconds = OUTPUT_DEADLINE.as_secs();
                return Done::Made(Err(format!("no answer within {seconds} s")));
            };
            self.lent = None;
            let made = made.unwrap_or_else(|error| Err(format!("its driver failed: {error}")));
            if matches!(self.waiting, Some((_, true, _))) {
                self.waiting = None;
                return Done::Made(made);
            }
            // It had been given up. Whoever waits behind it is next.
            self.lend();
            if self.waiting.is_none() {
                return Done::Back;
            }
        }
    }
}

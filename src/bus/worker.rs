//! A thread for what blocks: kernel calls that wait for a device cannot be given up, so they have a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tracing::error;

/// Something to do on the thread. Whoever waits for its outcome is told by what the job holds; a job that panics takes that with it.
pub type Job = Box<dyn FnOnce() + Send>;

/// The thread of one bus. It ends when the worker is dropped, after the job it is at.
#[derive(Debug)]
pub struct Worker(SyncSender<Job>);

/// The thread is at another job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("still waits for the job before")]
pub struct Busy;

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the kernel says when it cannot have another thread.
    pub fn start(name: &str) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(1);
        // The kernel keeps 15 bytes of a thread's name (pthread_setname_np(3)); NUL cannot be in an id.
        let thread = std::thread::Builder::new().name(name.chars().take(15).collect());
        thread.spawn(move || {
            while let Ok(job) = waiting.recv() {
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    error!("a job of this bus's thread panicked");
                }
            }
        })?;
        Ok(Self(jobs))
    }

    /// Gives it a job.
    ///
    /// # Errors
    /// [`Busy`] while one waits already.
    pub fn run(&self, job: Job) -> Result<(), Busy> {
        match self.0.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_job_that_panics_does_not_end_the_thread() {
        let worker = Worker::start("test").unwrap();
        let (done, outcome) = sync_channel(1);
        worker.run(Box::new(|| panic!("on purpose"))).unwrap();
        while worker.run(Box::new({
            let done = done.clone();
            move || done.send(7).unwrap()
        })) == Err(Busy)
        {
            std::thread::yield_now();
        }
        assert_eq!(outcome.recv(), Ok(7));
    }

    #[test]
    fn a_thread_that_is_stuck_takes_one_more_job_and_then_no_other() {
        let worker = Worker::start("test").unwrap();
        let (release, held) = sync_channel::<()>(0);
        let (begun, started) = sync_channel(0);
        worker
            .run(Box::new(move || {
                begun.send(()).unwrap();
                let _ = held.recv();
            }))
            .unwrap();
        started.recv().unwrap();
        assert_eq!(worker.run(Box::new(|| {})), Ok(()));
        assert_eq!(worker.run(Box::new(|| {})), Err(Busy));
        drop(release);
    }
}

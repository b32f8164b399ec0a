//! The thread that owns `state.db`: what several rooms write there passes over one desk, and what waits together is one commit.
//!
//! A file that cannot be opened or written is tried again with each piece of work; whoever asked is told that it failed, and why. So a command
//! that cannot be noted is answered `failed` and moves nothing. A damaged file is moved aside, and a new one begun.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::{Opened, State, StoreError};
use crate::limits::{PULSE_EVERY, STATE_COMMIT_WORK, STATE_QUEUE};

/// Why something was not written, in words for an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotWritten(pub Arc<str>);

/// Where work for `state.db` is handed in. Cheap to clone; the thread ends with [`StateFile::close`].
#[derive(Clone)]
pub struct StateDesk(SyncSender<Order>);

/// The open file, or the hope of one.
pub struct StateFile {
    desk: StateDesk,
    thread: JoinHandle<()>,
}

enum Order {
    Work(Box<dyn Job>),
    Close,
}

/// A piece of work with its outcome, whatever type that has.
trait Job: Send {
    fn run(&mut self, state: &mut State) -> Result<(), StoreError>;
    fn end(self: Box<Self>, outcome: Result<(), NotWritten>);
}

struct Piece<T, W, D> {
    work: W,
    made: Option<T>,
    done: D,
}

impl<T, W, D> Job for Piece<T, W, D>
where
    T: Send,
    W: FnMut(&mut State) -> Result<T, StoreError> + Send,
    D: FnOnce(Result<T, NotWritten>) + Send,
{
    fn run(&mut self, state: &mut State) -> Result<(), StoreError> {
        self.made = Some((self.work)(state)?);
        Ok(())
    }

    fn end(self: Box<Self>, outcome: Result<(), NotWritten>) {
        let Self { made, done, .. } = *self;
        let lost = || NotWritten("the work was not done".into());
        done(outcome.and_then(|()| made.ok_or_else(lost)));
    }
}

impl StateDesk {
    /// Has something read or written in a transaction. `done` is called, on another thread, when the commit has returned or failed; at once
    /// when too much waits. Never blocks.
    pub fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut State) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, NotWritten>) + Send + 'static,
    ) {
        let job = Box::new(Piece { work, made: None, done });
        let (order, reason) = match self.0.try_send(Order::Work(job)) {
            Ok(()) => return,
            Err(TrySendError::Full(order)) => (order, "too much waits for the disk"),
            Err(TrySendError::Disconnected(order)) => (order, "the gateway is stopping"),
        };
        if let Order::Work(job) = order {
            job.end(Err(NotWritten(reason.into())));
        }
    }
}

impl StateFile {
    /// Opens `state.db` in the directory. Its thread calls `beat` in each turn, every few seconds at the latest. A file that cannot be used is no
    /// error: what is to be written fails until it can.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has the file; [`StoreError::File`] when there is no thread.
    pub fn open(directory: &Path, beat: impl Fn() + Send + 'static) -> Result<Self, StoreError> {
        let path = directory.join("state.db");
        let state = match open(&path) {
            Ok(state) => Some(state),
            Err(error) if error.is_in_use() => return Err(error),
            Err(error) => {
                let condition = error.condition().word();
                tracing::error!(%error, condition, "the state cannot be opened: commands fail until it can");
                None
            }
        };
        let (sender, orders) = sync_channel(STATE_QUEUE);
        let file = path.clone();
        let thread = std::thread::Builder::new()
            .name("state".into())
            .spawn(move || Owner { path: file, failing: state.is_none(), state }.work(&orders, beat))
            .map_err(|error| StoreError::File { what: "start the thread for", path, error })?;
        Ok(Self { desk: StateDesk(sender), thread })
    }

    /// Where work is handed in.
    pub fn desk(&self) -> StateDesk {
        self.desk.clone()
    }

    /// Does what waits and closes the file. Blocks.
    pub fn close(self) {
        // Sent in the queue's order; if the thread is gone there is nothing to close.
        let _ = self.desk.0.send(Order::Close);
        let _ = self.thread.join();
    }
}

fn open(path: &Path) -> Result<State, StoreError> {
    let (state, opened) = State::open(path)?;
    tell_quarantine(&opened, path);
    Ok(state)
}

fn tell_quarantine(opened: &Opened, path: &Path) {
    if let Opened::Quarantined { moved_to, reason } = opened {
        let (file, moved_to) = (path.display(), moved_to.display());
        tracing::error!(%file, reason, %moved_to, "what the gateway remembered is damaged and set aside: a command of before may be taken again");
    }
}

struct Owner {
    path: PathBuf,
    state: Option<State>,
    failing: bool,
}

impl Owner {
    fn work(mut self, orders: &Receiver<Order>, beat: impl Fn()) {
        loop {
            beat();
            let order = match orders.recv_timeout(PULSE_EVERY) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut jobs = Vec::new();
            let mut closing = false;
            for order in std::iter::once(order).chain(orders.try_iter()) {
                match order {
                    Order::Work(job) => jobs.push(job),
                    Order::Close => closing = true,
                }
                if closing || jobs.len() >= STATE_COMMIT_WORK {
                    break;
                }
            }
            if !jobs.is_empty() {
                let outcome = self.transact(&mut jobs).map_err(|error| self.failed(&error));
                if outcome.is_ok() && std::mem::take(&mut self.failing) {
                    tracing::info!("the state can be written again");
                }
                for job in jobs {
                    job.end(outcome.clone());
                }
            }
            if closing {
                break;
            }
        }
        if let Some(state) = self.state
            && let Err(error) = state.close()
        {
            tracing::warn!(%error, "the state was not closed in order");
        }
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        if self.state.is_none() {
            self.state = Some(open(&self.path)?);
        }
        let Some(state) = &mut self.state else { return Ok(()) };
        if !state.is_there() {
            // What is written to a file without a name is gone with the process.
            self.state = None;
            return Err(StoreError::Removed(self.path.clone()));
        }
        state.begin()?;
        let outcome = jobs.iter_mut().try_for_each(|job| job.run(state)).and_then(|()| state.commit());
        if outcome.is_err() {
            state.roll_back();
        }
        outcome
    }

    fn failed(&mut self, error: &StoreError) -> NotWritten {
        let reason = NotWritten(format!("the store cannot take it: {error}").into());
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "the state cannot be written");
        }
        if error.is_damage()
            && let Some(state) = self.state.take()
        {
            // What cannot be moved aside now is tried again when it is opened.
            match state.quarantine(error.to_string()) {
                Ok((state, opened)) => {
                    tell_quarantine(&opened, &self.path);
                    self.state = Some(state);
                }
                Err(error) => tracing::error!(%error, "the damaged state cannot be set aside"),
            }
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::state::Taken;
    use super::*;
    use crate::model::{ActuatorId, CommandId, Timestamp};

    fn take(desk: &StateDesk, id: &str) -> Result<Taken, NotWritten> {
        let (tell, told) = mpsc::sync_channel(1);
        let (pump, id) = (ActuatorId::parse("pump").unwrap(), CommandId::parse(id));
        let at = Timestamp { unix_ms: 0, synced: true, at: None };
        desk.write(move |state| state.take(&pump, id.as_ref(), None, at), move |outcome| tell.send(outcome).unwrap());
        told.recv().unwrap()
    }

    #[test]
    fn work_is_answered_when_it_is_committed_and_none_after_the_close() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::open(directory.path(), || ()).unwrap();
        let desk = file.desk();
        assert!(matches!(take(&desk, "1"), Ok(Taken::New(_))));
        assert_eq!(take(&desk, "1"), Ok(Taken::Known(None)));
        file.close();
        assert_eq!(take(&desk, "1"), Err(NotWritten("the gateway is stopping".into())));
        let file = StateFile::open(directory.path(), || ()).unwrap();
        assert_eq!(take(&file.desk(), "1"), Ok(Taken::Known(None)));
        file.close();
    }

    #[test]
    fn a_second_process_is_told_that_the_file_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let _first = StateFile::open(directory.path(), || ()).unwrap();
        assert!(StateFile::open(directory.path(), || ()).is_err_and(|error| error.is_in_use()));
    }

    #[test]
    fn work_that_fails_is_told_so_and_the_next_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::open(directory.path(), || ()).unwrap();
        let (tell, told) = mpsc::sync_channel(1);
        let full = || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        file.desk().write(move |_| Err::<(), _>(full().into()), move |outcome| tell.send(outcome).unwrap());
        assert!(told.recv().unwrap().is_err_and(|reason| reason.to_string().contains("full")), "not told why");
        assert!(matches!(take(&file.desk(), "1"), Ok(Taken::New(_))));
        file.close();
    }

    #[test]
    fn a_file_of_a_later_version_fails_commands_with_the_reason_until_it_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        StateFile::open(directory.path(), || ()).unwrap().close();
        let later = rusqlite::Connection::open(&path).unwrap();
        later.pragma_update(None, "user_version", 99).unwrap();
        drop(later);
        let file = StateFile::open(directory.path(), || ()).unwrap();
        let refused = take(&file.desk(), "1").unwrap_err().to_string();
        assert!(refused.contains("version 99"), "{refused}");
        let earlier = rusqlite::Connection::open(&path).unwrap();
        earlier.pragma_update(None, "user_version", 3).unwrap();
        drop(earlier);
        assert!(matches!(take(&file.desk(), "2"), Ok(Taken::New(_))));
        file.close();
    }

    #[test]
    fn a_file_that_vanishes_fails_one_command_and_the_next_is_noted_in_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::open(directory.path(), || ()).unwrap();
        assert!(matches!(take(&file.desk(), "1"), Ok(Taken::New(_))));
        std::fs::remove_file(directory.path().join("state.db")).unwrap();
        let refused = take(&file.desk(), "2").unwrap_err().to_string();
        assert!(refused.contains("was removed"), "{refused}");
        assert!(matches!(take(&file.desk(), "2"), Ok(Taken::New(_))));
        assert_eq!(take(&file.desk(), "2"), Ok(Taken::Known(None)));
        file.close();
        assert!(directory.path().join("state.db").exists());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_new_one_takes_commands() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::open(directory.path(), || ()).unwrap();
        let damaged = StoreError::Damaged { path: directory.path().join("state.db"), reason: "test".into() };
        let (tell, told) = mpsc::sync_channel(1);
        let mut damaged = Some(damaged);
        file.desk().write(move |_| damaged.take().map_or(Ok(()), Err), move |outcome| tell.send(outcome).unwrap());
        assert!(told.recv().unwrap().is_err());
        assert!(matches!(take(&file.desk(), "1"), Ok(Taken::New(_))));
        assert!(directory.path().join("quarantine/state.db.1/state.db").exists());
        file.close();
    }
}

//! Keeps on disk what the broker has to remember: one thread owns `sessions.db`, and writes what has gathered in one commit.
//!
//! **Sessions** that outlive their connection note what changes ([`journal`](super::journal)) and lay it on the `desk`; a commit takes all that lies
//! there, whatever it is that had to be written. An acknowledgement waits for the commit that makes it true; what was queued for a client that has
//! acknowledged it by then is not written at all.
//!
//! **Retained messages**: a client's message of QoS 1 or 2 is acknowledged after its commit; one of QoS 0 is written within
//! [`limits::RETAINED_SOON`]. What a cloud sends down is in the next commit, which its acknowledgement does not wait for: a crash in between loses
//! it. What the gateway itself says is written every [`limits::RETAINED_LAZY`] at most, the last message of each topic only, which spares the card;
//! a crash loses at most that much of it, and the sensors say it anew.

mod desk;
mod gather;
mod restore;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::BrokerError;
use super::promise::{Broken, Pending};
use super::retained::Outcome;
use crate::clock::Clock;
use crate::health::{Health, Pulse, Supervised};
use crate::limits;
use crate::model::{Message, Moment, TopicName};
use crate::mqtt::properties;
use crate::store::{Condition, Opened, Sessions, StoreError};
use desk::{Batch, Look};
pub(super) use desk::{Desk, Hold};
use gather::wall_at;
pub(super) use restore::Past;
use restore::Stale;

/// How soon a change must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// An acknowledgement waits for it.
    Now,
    /// A cloud's, acknowledged without waiting: in the next commit.
    Next,
    /// Not acknowledged.
    Soon,
    /// Our own: written when there is time.
    Lazy,
    /// Not to be written.
    Never,
}

/// Whose the file is: asked when another file is in its place.
pub(super) trait Home: Send + Sync {
    /// The file holds sessions of a life before. Those that are not there come back, the others do not.
    fn adopt(&self, past: Past);

    /// The file knows nothing of what lives: all of it is noted anew.
    fn say_again(&self);
}

/// The change of one topic; `None` when it has no retained message any more.
type Change = Option<Kept>;
type Waiter = oneshot::Sender<Result<(), Broken>>;

#[derive(Debug)]
struct Kept {
    message: Arc<Message>,
    expires_ms: Option<i64>,
    properties: Option<bytes::Bytes>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Keeper {
    desk: Option<Arc<Desk>>,
    /// Set once, when it is there.
    home: Arc<OnceLock<Box<dyn Home>>>,
    /// The thread, and its place in the book.
    thread: Mutex<Option<(JoinHandle<()>, Supervised)>>,
}

impl Keeper {
    /// Opens `sessions.db` in the directory and reads it. A damaged file is moved away, and a new one begun. One that cannot be used is tried again:
    /// until then everything lives in memory alone, and whoever wants it acknowledged is refused.
    ///
    /// # Errors
    /// [`BrokerError::Store`] when another process has the file.
    pub(super) async fn open(
        directory: &Path,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
    ) -> Result<(Self, Past), BrokerError> {
        let path = directory.join("sessions.db");
        let desk = Desk::new(clock, new_id());
        let home = Arc::<OnceLock<Box<dyn Home>>>::default();
        let (tell, told) = oneshot::channel();
        let supervised = health.enter("sessions", limits::PULSE_LIMIT_DISK, desk.clock.now());
        let pulse = supervised.pulse();
        let wrong = |error: StoreError| BrokerError::Store { path: path.clone(), error };
        let thread_failed = |error| wrong(StoreError::File { what: "start the thread for", path: path.clone(), error });
        let mut thread = Work {
            desk: desk.clone(),
            home: home.clone(),
            store: None,
            path: path.clone(),
            had_one: false,
            stale: Stale::default(),
            era: None,
            failed: 0,
        };
        let thread = std::thread::Builder::new()
            .name("sessions".into())
            .spawn(move || {
                let past = match thread.read(&pulse) {
                    Err(error) if error.is_in_use() => {
                        // Whoever asked has gone: then nobody needs the answer.
                        let _ = tell.send(Err(error));
                        return;
                    }
                    Ok((store, mut past)) => {
                        (thread.store, thread.had_one) = (Some(store), true);
                        thread.stale = std::mem::take(&mut past.stale);
                        past
                    }
                    Err(error) => {
                        tell_failure(&thread.path, &error);
                        thread.failed = 1;
                        Past::default()
                    }
                };
                if tell.send(Ok(past)).is_ok() {
                    thread.work(&pulse);
                }
            })
            .map_err(thread_failed)?;
        let past = told.await.map_err(|_| thread_failed(std::io::Error::other("it ended")))?.map_err(wrong)?;
        Ok((Self { desk: Some(desk), home, thread: Mutex::new(Some((thread, supervised))) }, past))
    }

    /// Whose the file is.
    pub(super) fn belongs_to(&self, home: Box<dyn Home>) {
        // Set once, at start.
        let _ = self.home.set(home);
    }

    /// Where sessions lay down what they note; `None` where nothing is kept.
    pub(super) fn desk(&self) -> Option<&Arc<Desk>> {
        self.desk.as_ref()
    }

    /// What is laid down until this is dropped is in one commit.
    pub(super) fn hold(&self) -> Hold<'_> {
        Desk::hold(self.desk.as_deref())
    }

    /// Notes a change. Returns what an acknowledgement has to wait for.
    pub(super) fn note(&self, message: &Arc<Message>, outcome: Outcome, urgency: Urgency) -> Option<Pending> {
        let desk = self.desk.as_ref().filter(|_| urgency != Urgency::Never && !message.topic.is_sys())?;
        let mut tray = desk.tray();
        let now = desk.clock.now();
        if outcome != Outcome::Nothing {
            let change = (outcome == Outcome::Kept).then(|| {
                let life_s = message.properties.as_ref().and_then(|properties| properties.expiry_s);
                let expires = life_s.map(|s| now + Duration::from_secs(s.into()));
                Kept {
                    message: message.clone(),
                    expires_ms: expires.and_then(|expires| wall_at(expires, desk.clock.as_ref())),
                    properties: message.properties.as_deref().map(properties::to_block),
                }
            });
            let topic = message.topic.clone();
            // A change that is due stays due, with the newer message.
            if urgency == Urgency::Lazy && !tray.due.contains_key(&topic) {
                tray.lazy.insert(topic, change);
                if tray.lazy_at.is_none() {
                    tray.lazy_at = Some(now + limits::RETAINED_LAZY);
                    desk.changed.notify_one();
                }
            } else {
                tray.lazy.remove(&topic);
                tray.due.insert(topic, change);
            }
        }
        match urgency {
            // Also when there is nothing to change: what made it so may be in the commit under way.
            Urgency::Now => {
                let (tell, told) = oneshot::channel();
                tray.waiters.push(tell);
                tray.due_at = Some(now);
                desk.changed.notify_one();
                Some(Box::pin(async move { told.await.unwrap_or(Err(Broken::Stopping)) }))
            }
            Urgency::Next | Urgency::Soon if tray.due_at.is_none() && !tray.due.is_empty() => {
                let is_next = urgency == Urgency::Next;
                tray.due_at = Some(if is_next { now } else { now + limits::RETAINED_SOON });
                desk.changed.notify_one();
                None
            }
            _ => None,
        }
    }

    /// Whether a change of this topic waits to be written.
    pub(super) fn is_noted(&self, topic: &TopicName) -> bool {
        let Some(desk) = &self.desk else { return false };
        let tray = desk.tray();
        tray.due.contains_key(topic) || tray.lazy.contains_key(topic)
    }

    /// Notes a retained message for a file that does not know it.
    pub(super) fn remind(&self, message: &Arc<Message>, expires: Option<Moment>) {
        let Some(desk) = self.desk.as_ref().filter(|_| !message.topic.is_sys()) else { return };
        let now = desk.clock.now();
        let kept = Kept {
            message: message.clone(),
            expires_ms: expires.and_then(|expires| wall_at(expires, desk.clock.as_ref())),
            properties: message.properties.as_deref().map(properties::to_block),
        };
        let mut tray = desk.tray();
        if !tray.lazy.contains_key(&message.topic) {
            tray.due.entry(message.topic.clone()).or_insert(Some(kept));
            tray.due_at = Some(now);
        }
    }

    /// Resolves once all that was noted so far is on disk. `None` where nothing is kept.
    pub(super) fn flushed(&self) -> Option<Pending> {
        Some(self.desk.as_ref()?.flushed())
    }

    /// Resolves with whether it is on disk that it is this era. `None` where nothing is kept.
    pub(super) fn note_era(&self, era: i64) -> Option<Pending> {
        self.desk.as_ref()?.note_era(era);
        self.flushed()
    }

    /// Writes what is left and closes the file.
    pub(super) async fn stop(&self) {
        self.end(|tray| tray.is_stopping = true).await;
    }

    /// Leaves the file as a crash would.
    pub(super) async fn kill(&self) {
        self.end(|tray| tray.is_killed = true).await;
    }

    async fn end(&self, say: impl FnOnce(&mut desk::Tray)) {
        let Some(desk) = &self.desk else { return };
        say(&mut desk.tray());
        desk.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((thread, _supervised)) = thread {
            // The thread does not panic on its own account; if SQLite made it, there is nothing left to close.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// A number that no other session or message has, on this disk or another.
pub(super) fn new_id() -> i64 {
    i64::try_from(uuid::Uuid::new_v4().as_u64_pair().0 >> 2).unwrap_or(0)
}

fn tell_quarantine(opened: &Opened, path: &Path) {
    if let Opened::Quarantined { moved_to, reason } = opened {
        tracing::error!(
            path = %path.display(), moved_to = %moved_to.display(), reason,
            "the store of the local broker was damaged and is set aside, what it held and is not in memory is lost"
        );
    }
}

fn tell_failure(path: &Path, error: &StoreError) {
    let condition = error.condition().word();
    tracing::error!(
        path = %path.display(), %error, condition,
        "sessions and retained messages cannot be written, publishers whose messages they are to hold are not acknowledged"
    );
}

/// The thread.
struct Work {
    desk: Arc<Desk>,
    home: Arc<OnceLock<Box<dyn Home>>>,
    store: Option<Sessions>,
    path: PathBuf,
    /// Whether there ever was a file.
    had_one: bool,
    /// What could not be taken out of the file when it was read: the next commit does.
    stale: Stale,
    /// The era that the file names.
    era: Option<i64>,
    /// Commits that failed in a row.
    failed: u64,
}

impl Work {
    /// Waits until something is due, takes all that lies there, commits, answers.
    fn work(mut self, pulse: &Pulse) {
        let mut began_anew = false;
        loop {
            let Some(batch) = self.wait(pulse) else { return };
            let is_last = batch.is_last;
            match self.write(&batch, pulse) {
                Ok(Written::NotYet) => {
                    self.desk.postpone(batch);
                    continue;
                }
                Ok(Written::All) => {
                    if self.failed > 0 {
                        tracing::info!(failed = self.failed, "sessions and retained messages are written again");
                        self.failed = 0;
                    }
                    self.desk.done(batch);
                }
                Err(error) => {
                    if self.failed == 0 {
                        tell_failure(&self.path, &error);
                    }
                    self.failed += 1;
                    let is_certain =
                        matches!(error.condition(), Condition::Full | Condition::ReadOnly | Condition::Inaccessible);
                    self.desk.failed(batch, &Broken::Store(error.to_string()), is_certain);
                    if error.is_damage() && self.begin_anew(error.to_string()) && is_last && !began_anew {
                        // All of it lies there again, for the new file.
                        began_anew = true;
                        continue;
                    }
                }
            }
            if is_last {
                break;
            }
        }
        if let Some(Err(error)) = self.store.map(Sessions::close) {
            tracing::warn!(path = %self.path.display(), %error, "the store of the local broker was not closed in order");
        }
    }

    /// `None` when the file is to be left as it is.
    fn wait(&self, pulse: &Pulse) -> Option<Batch> {
        let mut tray = self.desk.tray();
        loop {
            let now = self.desk.clock.now();
            pulse.beat(now);
            let next = match self.desk.look(&mut tray) {
                Look::Killed => return None,
                Look::Batch(batch) => return Some(batch),
                Look::Wait(next) => next,
            };
            let wait = next.map_or(limits::PULSE_EVERY, |at| at.since(now)).min(limits::PULSE_EVERY);
            let (back, waited) = self.desk.changed.wait_timeout(tray, wait).unwrap_or_else(PoisonError::into_inner);
            tray = back;
            if waited.timed_out() && wait == limits::PULSE_EVERY {
                drop(tray);
                self.tidy_up();
                tray = self.desk.tray();
            }
        }
    }

    /// Gives back to the disk what a queue needed that is short again.
    fn tidy_up(&self) {
        if let Some(store) = &self.store {
            // What fails here fails at the next commit too, and is told there.
            let _ = store.shrink(limits::SESSIONS_SHRINK_PAGES);
        }
    }

    /// Writes a batch to a file that is where it should be; one that is missing is opened.
    fn write(&mut self, batch: &Batch, pulse: &Pulse) -> Result<Written, StoreError> {
        if self.store.as_ref().is_some_and(|store| !store.is_there()) {
            // What is written to a file without a name is gone with the process.
            self.store = None;
        }
        if let Some(store) = &mut self.store {
            let era = self.desk.era().filter(|era| self.era != Some(*era));
            if !batch.retained.is_empty() || !batch.sessions.is_empty() || era.is_some() {
                rows::write(store, &self.stale, batch, era)?;
                self.stale = Stale::default();
                self.era = era.or(self.era);
            }
            return Ok(Written::All);
        }
        let (store, mut past) = self.read(pulse)?;
        (self.store, self.era) = (Some(store), None);
        self.stale = std::mem::take(&mut past.stale);
        past.retained.retain(|found| !batch.retained.contains_key(&found.message.topic));
        let had_one = std::mem::replace(&mut self.had_one, true);
        if let Some(home) = self.home.get() {
            home.adopt(past);
            if had_one {
                // What is in memory was in another file.
                home.say_again();
            }
        }
        // What the file loses by that is in one commit with what takes its place.
        Ok(Written::NotYet)
    }

    /// Opens the file and takes in what waits in it.
    fn read(&self, pulse: &Pulse) -> Result<(Sessions, Past), StoreError> {
        let (store, past) = restore::read(&self.path, &*self.desk.clock, pulse)?;
        let mut tray = self.desk.tray();
        for (id, message, queues) in &past.bodies {
            tray.bodies.restore(*id, message, *queues);
        }
        Ok((store, past))
    }

    /// Sets a damaged file aside. What is in memory goes to the new one. Returns whether there is a new one.
    fn begin_anew(&mut self, reason: String) -> bool {
        let Some(damaged) = self.store.take() else { return false };
        match damaged.quarantine(reason) {
            Ok((store, how)) => {
                tell_quarantine(&how, &self.path);
                (self.store, self.era) = (Some(store), None);
                if let Some(home) = self.home.get() {
                    home.say_again();
                    self.desk.hurry();
                }
                true
            }
            Err(error) => {
                tell_failure(&self.path, &error);
                false
            }
        }
    }
}

/// What became of a batch that did not fail.
enum Written {
    All,
    /// There is more to be written with it.
    NotYet,
}

#[cfg(test)]
mod tests;

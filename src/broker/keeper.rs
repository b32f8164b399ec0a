//! Keeps the retained messages on disk: one thread owns `sessions.db`, and writes what has gathered in one commit.
//!
//! A client's message of QoS 1 or 2 is acknowledged after its commit; one of QoS 0 is written within [`limits::RETAINED_SOON`]. What a cloud
//! sends down is in the next commit, which its acknowledgement does not wait for: a crash in between loses it. What the gateway itself says
//! is written every [`limits::RETAINED_LAZY`] at most, the last message of each topic only, which spares the card; a crash loses at most
//! that much of it, and the sensors say it anew.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::BrokerError;
use super::promise::{Broken, Pending};
use super::retained::Outcome;
use crate::clock::Clock;
use crate::health::{Health, Pulse, Supervised};
use crate::limits;
use crate::model::{Message, Moment, Origin, TopicName};
use crate::mqtt::properties;
use crate::store::{Opened, RetainedChange, RetainedRow, Sessions, StoreError};

/// How soon a change of the retained set must be on disk.
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

/// A retained message as it was found on disk.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) message: Arc<Message>,
    pub(super) expires: Option<Moment>,
}

/// The change of one topic; `None` when it has no retained message any more.
type Change = Option<Kept>;
type Changes = HashMap<TopicName, Change>;
type Waiter = oneshot::Sender<Result<(), Broken>>;

#[derive(Debug)]
struct Kept {
    message: Arc<Message>,
    expires_ms: Option<i64>,
    properties: Option<bytes::Bytes>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    desk: Option<Arc<Desk>>,
    /// The thread, and its place in the book.
    thread: Mutex<Option<(JoinHandle<()>, Supervised)>>,
}

#[derive(Debug, Default)]
struct Tray {
    due: Changes,
    lazy: Changes,
    due_at: Option<Moment>,
    lazy_at: Option<Moment>,
    waiters: Vec<Waiter>,
    stopping: bool,
    killed: bool,
}

/// Where changes are laid down for the thread.
struct Desk {
    tray: Mutex<Tray>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

impl Desk {
    fn tray(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Opens `sessions.db` in the directory and reads what is retained. A damaged file is moved away, and a new one begun. One that cannot be used
    /// is tried again: until then what is retained lives in memory alone, and whoever wants it acknowledged is refused.
    ///
    /// # Errors
    /// [`BrokerError::Store`] when another process has the file.
    pub(super) async fn open(
        directory: &Path,
        clock: Arc<dyn Clock>,
        health: &Arc<Health>,
    ) -> Result<(Self, Vec<Found>), BrokerError> {
        let path = directory.join("sessions.db");
        let desk = Arc::new(Desk { tray: Mutex::default(), changed: Condvar::new(), clock });
        let (tell, told) = oneshot::channel();
        let supervised = health.enter("retained", limits::PULSE_LIMIT_DISK, desk.clock.now());
        let pulse = supervised.pulse();
        let at_work = desk.clone();
        let wrong = |error: StoreError| BrokerError::Store { path: path.clone(), error };
        let thread_failed = |error| wrong(StoreError::File { what: "start the thread for", path: path.clone(), error });
        let file = path.clone();
        let thread = std::thread::Builder::new()
            .name("retained".into())
            .spawn(move || match read(&file, &*at_work.clock) {
                Err(error) if error.is_in_use() => {
                    // Whoever asked has gone: then nobody needs the answer.
                    let _ = tell.send(Err(error));
                }
                outcome => {
                    let (sessions, found) = match outcome {
                        Ok((sessions, found)) => (Some(sessions), found),
                        Err(error) => {
                            tell_failure(&file, &error);
                            (None, Vec::new())
                        }
                    };
                    if tell.send(Ok(found)).is_ok() {
                        work(&at_work, sessions, &file, &pulse);
                    }
                }
            })
            .map_err(thread_failed)?;
        let found = told.await.map_err(|_| thread_failed(std::io::Error::other("it ended")))?.map_err(wrong)?;
        Ok((Self { desk: Some(desk), thread: Mutex::new(Some((thread, supervised))) }, found))
    }

    /// Notes a change. Returns what an acknowledgement has to wait for.
    pub(super) fn note(&self, message: &Arc<Message>, outcome: Outcome, urgency: Urgency) -> Option<Pending> {
        let desk = self.desk.as_ref().filter(|_| urgency != Urgency::Never && !message.topic.is_sys())?;
        let mut tray = desk.tray();
        let now = desk.clock.now();
        if outcome != Outcome::Nothing {
            let change = (outcome == Outcome::Kept).then(|| {
                let life_s = message.properties.as_ref().and_then(|properties| properties.expiry_s);
                Kept {
                    message: message.clone(),
                    expires_ms: life_s.map(|s| desk.clock.wall().unix_ms.saturating_add(i64::from(s) * 1_000)),
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

    /// Writes what is left and closes the file.
    pub(super) async fn stop(&self) {
        self.end(|tray| tray.stopping = true).await;
    }

    /// Leaves the file as a crash would.
    pub(super) async fn kill(&self) {
        self.end(|tray| tray.killed = true).await;
    }

    async fn end(&self, say: impl FnOnce(&mut Tray)) {
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

fn read(path: &Path, clock: &dyn Clock) -> Result<(Sessions, Vec<Found>), StoreError> {
    let (mut sessions, opened) = Sessions::open(path)?;
    tell_quarantine(&opened, path);
    let mut found = Vec::new();
    let mut expired = Vec::new();
    let outcome = sessions.each_retained(|row| match restore(&row, clock) {
        Some(message) => found.push(message),
        None => expired.push(row.topic.to_owned()),
    });
    match outcome {
        Ok(()) => {
            if !expired.is_empty() {
                sessions.write(expired.iter().map(|topic| RetainedChange::Clear(topic)))?;
            }
            Ok((sessions, found))
        }
        Err(error) if error.is_damage() => {
            let (sessions, opened) = sessions.quarantine(error.to_string())?;
            tell_quarantine(&opened, path);
            Ok((sessions, Vec::new()))
        }
        Err(error) => Err(error),
    }
}

fn tell_quarantine(opened: &Opened, path: &Path) {
    if let Opened::Quarantined { moved_to, reason } = opened {
        tracing::error!(
            path = %path.display(), moved_to = %moved_to.display(), reason,
            "the store of the local broker was damaged and is set aside, retained messages are lost"
        );
    }
}

/// `None` for a message that has expired, or that no broker could have written.
fn restore(row: &RetainedRow<'_>, clock: &dyn Clock) -> Option<Found> {
    let topic = TopicName::parse(row.topic).ok()?;
    let properties = match row.properties {
        Some(block) => Some(Arc::new(properties::decode(block).ok()?.0.message)),
        None => None,
    };
    let life = properties.as_ref().and_then(|properties| properties.expiry_s).map(|s| Duration::from_secs(s.into()));
    let expires = match (row.expires_ms, life) {
        (Some(expires_ms), Some(life)) => {
            // A clock that was not set when it should have been shows more time left than there ever was.
            let left_ms = u64::try_from(expires_ms.saturating_sub(clock.wall().unix_ms)).ok().filter(|ms| *ms > 0)?;
            Some(clock.now() + Duration::from_millis(left_ms).min(life))
        }
        _ => None,
    };
    let message = Message { properties, ..Message::new(topic, row.payload, row.qos, true, Origin::Seed) };
    Some(Found { message: Arc::new(message), expires })
}

/// The thread: waits until something is due, takes all that is due, commits, answers.
fn work(desk: &Desk, mut sessions: Option<Sessions>, path: &Path, pulse: &Pulse) {
    let mut failed = u64::from(sessions.is_none());
    let mut is_last = false;
    while !is_last {
        let (changes, waiters) = {
            let mut tray = desk.tray();
            loop {
                if tray.killed {
                    return;
                }
                let now = desk.clock.now();
                pulse.beat(now);
                let is_due = tray.due_at.is_some_and(|at| at <= now);
                let is_lazy = tray.lazy_at.is_some_and(|at| at <= now);
                if is_due || is_lazy || tray.stopping {
                    is_last = tray.stopping;
                    break (take(&mut tray, is_lazy || is_last), std::mem::take(&mut tray.waiters));
                }
                let next = [tray.due_at, tray.lazy_at].into_iter().flatten().min();
                let wait = next.map_or(limits::PULSE_EVERY, |at| at.since(now)).min(limits::PULSE_EVERY);
                tray = desk.changed.wait_timeout(tray, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        let outcome = if changes.is_empty() { Ok(()) } else { write(&mut sessions, path, &changes) };
        match &outcome {
            Ok(()) if failed > 0 => {
                tracing::info!(failed, "retained messages are written again");
                failed = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if failed == 0 {
                    tell_failure(path, error);
                }
                failed += 1;
                put_back(desk, changes);
            }
        }
        let answer = outcome.map_err(|error| Broken::Retained(error.to_string()));
        for waiter in waiters {
            // A publisher that has gone does not wait any more.
            let _ = waiter.send(answer.clone());
        }
    }
    if let Some(Err(error)) = sessions.map(Sessions::close) {
        tracing::warn!(path = %path.display(), %error, "the store of the local broker was not closed in order");
    }
}

/// Writes the changes to a file that is where it should be; a damaged one is set aside, one that is missing is opened. What the file held when
/// it could not be read at start comes back at the next one.
fn write(sessions: &mut Option<Sessions>, path: &Path, changes: &Changes) -> Result<(), StoreError> {
    if sessions.as_ref().is_some_and(|sessions| !sessions.is_there()) {
        // What is written to a file without a name is gone with the process.
        *sessions = None;
    }
    let open = if let Some(open) = sessions {
        open
    } else {
        let (opened, how) = Sessions::open(path)?;
        tell_quarantine(&how, path);
        sessions.insert(opened)
    };
    let outcome = open.write(rows(changes));
    if let Err(error) = &outcome
        && error.is_damage()
        && let Some(damaged) = sessions.take()
    {
        let (opened, how) = damaged.quarantine(error.to_string())?;
        tell_quarantine(&how, path);
        *sessions = Some(opened);
    }
    outcome
}

fn tell_failure(path: &Path, error: &StoreError) {
    let condition = error.condition().word();
    tracing::error!(path = %path.display(), %error, condition, "retained messages cannot be written, their publishers are not acknowledged");
}

fn take(tray: &mut Tray, with_lazy: bool) -> Changes {
    let mut changes = std::mem::take(&mut tray.due);
    tray.due_at = None;
    if with_lazy {
        changes.extend(tray.lazy.drain());
        tray.lazy_at = None;
    }
    changes
}

/// What could not be written waits for the next attempt, unless something newer was said in the meantime.
fn put_back(desk: &Desk, changes: Changes) {
    let mut tray = desk.tray();
    for (topic, change) in changes {
        if !tray.lazy.contains_key(&topic) {
            tray.due.entry(topic).or_insert(change);
        }
    }
    tray.due_at.get_or_insert(desk.clock.now() + limits::RETAINED_RETRY);
}

fn rows(changes: &Changes) -> impl Iterator<Item = RetainedChange<'_>> {
    changes.iter().map(|(topic, change)| match change {
        None => RetainedChange::Clear(topic.as_str()),
        Some(kept) => RetainedChange::Keep(RetainedRow {
            topic: topic.as_str(),
            qos: kept.message.qos,
            expires_ms: kept.expires_ms,
            properties: kept.properties.as_deref(),
            payload: &kept.message.payload,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{FakeClock, SystemClock};
    use crate::model::{Properties, Qos};

    fn message(topic: &str, payload: &str) -> Arc<Message> {
        let topic = TopicName::parse(topic).unwrap();
        Arc::new(Message::new(topic, payload.as_bytes(), Qos::AtLeastOnce, true, Origin::Client))
    }

    async fn open(directory: &Path) -> (Keeper, Vec<String>) {
        let (keeper, found) = Keeper::open(directory, SystemClock::shared(), &Health::new()).await.unwrap();
        let mut found: Vec<_> = found
            .iter()
            .map(|found| format!("{}={}", found.message.topic, String::from_utf8_lossy(&found.message.payload)))
            .collect();
        found.sort();
        (keeper, found)
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_kill_and_what_had_time_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (keeper, found) = open(directory.path()).await;
        assert!(found.is_empty());
        assert!(keeper.note(&message("lazy", "1"), Outcome::Kept, Urgency::Lazy).is_none());
        keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
        keeper.note(&message("b", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
        keeper.note(&message("a", ""), Outcome::Cleared, Urgency::Now).unwrap().await.unwrap();
        keeper.kill().await;
        let (keeper, found) = open(directory.path()).await;
        assert_eq!(found, ["b=1"]);
        keeper.stop().await;
    }

    #[tokio::test]
    async fn a_stop_writes_what_had_time() {
        let directory = tempfile::tempdir().unwrap();
        let (keeper, _) = open(directory.path()).await;
        keeper.note(&message("lazy", "1"), Outcome::Kept, Urgency::Lazy);
        keeper.note(&message("lazy", "2"), Outcome::Kept, Urgency::Lazy);
        keeper.note(&message("never", "1"), Outcome::Kept, Urgency::Never);
        keeper.note(&message("$SYS/x", "1"), Outcome::Kept, Urgency::Lazy);
        keeper.note(&message("$x/y", "1"), Outcome::Kept, Urgency::Lazy);
        keeper.stop().await;
        let (keeper, found) = open(directory.path()).await;
        assert_eq!(found, ["$x/y=1", "lazy=2"]);
        keeper.stop().await;
    }

    #[tokio::test]
    async fn a_clear_of_what_is_cleared_waits_for_the_commit_that_clears_it() {
        let directory = tempfile::tempdir().unwrap();
        let (keeper, _) = open(directory.path()).await;
        keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
        keeper.note(&message("a", ""), Outcome::Cleared, Urgency::Lazy);
        assert!(keeper.note(&message("a", ""), Outcome::Nothing, Urgency::Now).is_some());
        keeper.stop().await;
    }

    #[tokio::test]
    async fn a_damaged_file_is_set_aside_and_the_broker_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("sessions.db"), [0x55; 9_000]).unwrap();
        let (keeper, found) = open(directory.path()).await;
        assert!(found.is_empty());
        keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
        keeper.stop().await;
        assert_eq!(open(directory.path()).await.1, ["a=1"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_does_not_keep_the_broker_from_starting_and_is_used_once_it_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.db");
        let (keeper, _) = open(directory.path()).await;
        keeper.note(&message("kept", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
        keeper.stop().await;
        std::fs::rename(&path, directory.path().join("before.db")).unwrap();
        std::fs::create_dir(&path).unwrap();
        let (keeper, found) = open(directory.path()).await;
        assert!(found.is_empty());
        let refused = keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await;
        assert!(matches!(refused, Err(Broken::Retained(_))), "{refused:?}");
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(directory.path().join("before.db"), &path).unwrap();
        keeper.note(&message("b", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
        keeper.stop().await;
        assert_eq!(open(directory.path()).await.1, ["a=1", "b=1", "kept=1"]);
    }

    #[test]
    fn what_is_left_of_a_life_is_never_more_than_it_had() {
        let block = properties::to_block(&Properties { expiry_s: Some(60), ..Properties::default() });
        let row = RetainedRow {
            topic: "a",
            qos: Qos::AtMostOnce,
            expires_ms: Some(1_000_000),
            properties: Some(&block),
            payload: b"1",
        };
        let left = |now_ms| {
            let clock = FakeClock::new(now_ms);
            restore(&row, &clock).map(|found| found.expires.unwrap() - clock.now())
        };
        assert_eq!(left(990_000), Some(Duration::from_secs(10)));
        assert_eq!(left(0), Some(Duration::from_secs(60)));
        assert_eq!(left(1_000_000), None);
    }
}

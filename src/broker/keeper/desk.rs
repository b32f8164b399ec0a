//! Where changes are laid down for the thread that commits them, and when it has to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::gather::{Bodies, Gathered};
use super::{Change, Waiter};
use crate::broker::journal::{Due, Entry};
use crate::broker::promise::{Broken, Pending};
use crate::clock::Clock;
use crate::limits;
use crate::model::{Message, Moment, TopicName};

pub(super) type Changes = HashMap<TopicName, Change>;

#[derive(Debug)]
pub(super) struct Tray {
    /// Retained messages that are due, and those that are written when there is time.
    pub(super) due: Changes,
    pub(super) lazy: Changes,
    pub(super) due_at: Option<Moment>,
    pub(super) lazy_at: Option<Moment>,
    pub(super) waiters: Vec<Waiter>,
    sessions: Gathered,
    pub(super) bodies: Bodies,
    /// Something of a session waits to be written.
    is_urgent: bool,
    /// The same, if anybody still waits then.
    linger_at: Option<Moment>,
    /// The same, though nobody waits.
    soon_at: Option<Moment>,
    /// So many hold what is laid down together and is not complete: nothing may be taken.
    holds: u32,
    /// The thread wants what lies here as soon as it is complete.
    is_wanted: bool,
    ready: Option<Batch>,
    /// After a commit that failed: nothing that nobody waits for is tried before.
    not_before: Option<Moment>,
    /// A commit failed of which parts may be found in the file after a crash; none has succeeded since.
    is_uncertain: bool,
    /// The number of the commit that what lies here will be in.
    commit: u64,
    pub(super) is_stopping: bool,
    pub(super) is_killed: bool,
}

/// What one commit writes, and who waits for it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) retained: Changes,
    pub(super) waiters: Vec<Waiter>,
    pub(super) sessions: Gathered,
    pub(super) commit: u64,
    pub(super) is_last: bool,
}

/// See the module.
pub(in crate::broker) struct Desk {
    tray: Mutex<Tray>,
    pub(super) changed: Condvar,
    pub(super) clock: Arc<dyn Clock>,
    /// The last commit that succeeded. What could not be written before is in it.
    committed: AtomicU64,
    /// The era that is to be in the file; 0 for none.
    era: AtomicI64,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

/// While it is there, nothing that is laid down is taken: what one publication changes is in one commit, or the end of one session. Held under the
/// core's lock; one within another lasts as long as that.
pub(in crate::broker) struct Hold<'a>(Option<&'a Desk>);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let Some(desk) = self.0 else { return };
        let mut tray = desk.tray();
        tray.holds = tray.holds.saturating_sub(1);
        // Taken here, not by the thread: with one publication after another it might never find the desk free.
        if tray.holds == 0 && std::mem::take(&mut tray.is_wanted) {
            let batch = tray.take(desk.clock.now());
            tray.ready = Some(batch);
            desk.changed.notify_one();
        }
    }
}

/// What the thread finds when it looks.
#[expect(clippy::large_enum_variant, reason = "made once for a commit, and taken apart at once")]
pub(super) enum Look {
    Killed,
    Batch(Batch),
    /// Nothing is due before.
    Wait(Option<Moment>),
}

impl Desk {
    pub(super) fn new(clock: Arc<dyn Clock>, first_body: i64) -> Arc<Self> {
        let tray = Tray {
            due: Changes::new(),
            lazy: Changes::new(),
            due_at: None,
            lazy_at: None,
            waiters: Vec::new(),
            sessions: Gathered::default(),
            bodies: Bodies::from(first_body),
            is_urgent: false,
            linger_at: None,
            soon_at: None,
            holds: 0,
            not_before: None,
            is_uncertain: false,
            is_wanted: false,
            ready: None,
            commit: 1,
            is_stopping: false,
            is_killed: false,
        };
        let (committed, era) = (AtomicU64::new(0), AtomicI64::new(0));
        Arc::new(Self { tray: Mutex::new(tray), changed: Condvar::new(), clock, committed, era })
    }

    pub(super) fn tray(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is laid down together. See [`Hold`].
    pub(in crate::broker) fn hold(desk: Option<&Self>) -> Hold<'_> {
        if let Some(desk) = desk {
            desk.tray().holds += 1;
        }
        Hold(desk)
    }

    /// The last commit that is on disk. While the store takes none, what has to be there before it is sent waits: of QoS 2 a message's packet id, and
    /// that the client has it.
    pub(in crate::broker) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Whether the wall clock is set, so that what is written has a date.
    pub(in crate::broker) fn knows_the_time(&self) -> bool {
        self.clock.wall().synced
    }

    /// Lays down what a session noted; `waker` is told when it is on disk. Returns the commit that it will be in.
    pub(in crate::broker) fn lay(&self, session: i64, entries: Vec<Entry>, waker: Option<Arc<Notify>>) -> u64 {
        let mut guard = self.tray();
        let tray = &mut *guard;
        let mut soonest = Due::Lazy;
        for entry in entries {
            soonest = soonest.min(entry.due);
            tray.sessions.lay(session, entry, &mut tray.bodies, &*self.clock);
        }
        tray.sessions.wakes.extend(waker);
        let now = self.clock.now();
        let is_sooner = match soonest {
            Due::Now => !std::mem::replace(&mut tray.is_urgent, true),
            Due::Linger => {
                tray.linger_at.is_none() && {
                    tray.linger_at = Some(now + limits::SESSION_LINGER);
                    true
                }
            }
            Due::Lazy => {
                tray.soon_at.is_none() && {
                    tray.soon_at = Some(now + limits::SESSION_LAZY);
                    true
                }
            }
        };
        if is_sooner {
            self.changed.notify_one();
        }
        tray.commit
    }

    /// Nothing that the file tells of a session is to be there any more: it is said anew. `waited` are the messages that waited in it there.
    pub(in crate::broker) fn wipe<'m>(&self, session: i64, waited: impl IntoIterator<Item = &'m Arc<Message>>) {
        let mut guard = self.tray();
        let tray = &mut *guard;
        tray.sessions.wiped.insert(session);
        for message in waited {
            tray.sessions.let_go(Some(message), &mut tray.bodies);
        }
    }

    /// From here on it is this era. See [`Self::flushed`].
    pub(super) fn note_era(&self, era: i64) {
        self.era.store(era, Ordering::Release);
    }

    /// The era that is to be in the file.
    pub(super) fn era(&self) -> Option<i64> {
        Some(self.era.load(Ordering::Acquire)).filter(|era| *era != 0)
    }

    /// Resolves when all that lies here is on disk.
    pub(in crate::broker) fn flushed(&self) -> Pending {
        let (tell, told) = oneshot::channel();
        let mut tray = self.tray();
        tray.waiters.push(tell);
        tray.is_urgent = true;
        self.changed.notify_one();
        Box::pin(async move { told.await.unwrap_or(Err(Broken::Stopping)) })
    }

    /// What there is to do for the thread.
    pub(super) fn look(&self, tray: &mut Tray) -> Look {
        if tray.is_killed {
            return Look::Killed;
        }
        if let Some(batch) = tray.ready.take() {
            return Look::Batch(batch);
        }
        let now = self.clock.now();
        match tray.due(now) {
            Some(at) if at <= now && tray.holds > 0 => {
                tray.is_wanted = true;
                Look::Wait(None)
            }
            Some(at) if at <= now => Look::Batch(tray.take(now)),
            other => Look::Wait(other),
        }
    }

    /// The batch is on disk.
    pub(super) fn done(&self, batch: Batch) {
        self.committed.store(batch.commit, Ordering::Release);
        let mut tray = self.tray();
        (tray.not_before, tray.is_uncertain) = (None, false);
        drop(tray);
        let Batch { waiters, sessions, .. } = batch;
        for waiter in waiters {
            // A publisher that has gone does not wait any more.
            let _ = waiter.send(Ok(()));
        }
        sessions.written();
    }

    /// The batch could not be written: it waits for the next attempt, unless something newer was said in the meantime. `is_certain`: nothing of it
    /// is in the file, whatever happens.
    pub(super) fn failed(&self, batch: Batch, broken: &Broken, is_certain: bool) {
        let Batch { retained, waiters, mut sessions, .. } = batch;
        for waiter in waiters {
            let _ = waiter.send(Err(broken.clone()));
        }
        sessions.break_promises(broken);
        let again = self.clock.now() + limits::RETAINED_RETRY;
        let mut tray = self.tray();
        tray.not_before = Some(again);
        tray.is_uncertain |= !is_certain;
        if !retained.is_empty() {
            tray.due_at.get_or_insert(again);
        }
        if !sessions.is_empty() {
            tray.soon_at = Some(again);
        }
        tray.put_back(retained, sessions);
    }

    /// The batch is to be in the next commit, with what was laid down since.
    pub(super) fn postpone(&self, batch: Batch) {
        let Batch { retained, waiters, sessions, is_last, .. } = batch;
        let mut tray = self.tray();
        tray.put_back(retained, sessions);
        tray.waiters.extend(waiters);
        (tray.is_urgent, tray.not_before) = (true, None);
        tray.is_stopping |= is_last;
    }

    /// What lies here is to be written at once.
    pub(in crate::broker) fn hurry(&self) {
        let mut tray = self.tray();
        (tray.is_urgent, tray.not_before) = (true, None);
        drop(tray);
        self.changed.notify_one();
    }
}

impl Tray {
    /// When something has to be written.
    fn due(&mut self, now: Moment) -> Option<Moment> {
        let is_waited_for = self.sessions.waiting > 0 || !self.waiters.is_empty();
        if let Some(at) = self.not_before.filter(|at| *at > now && !is_waited_for && !self.is_stopping) {
            return Some(at);
        }
        if self.is_stopping || self.is_urgent {
            return Some(now);
        }
        if self.linger_at.is_some_and(|at| at <= now) && self.sessions.waiting == 0 {
            // It has come to nothing meanwhile.
            self.linger_at = None;
        }
        if self.soon_at.is_some_and(|at| at <= now) && self.sessions.is_empty() {
            self.soon_at = None;
        }
        [self.due_at, self.lazy_at, self.linger_at, self.soon_at].into_iter().flatten().min()
    }

    fn put_back(&mut self, retained: Changes, sessions: Gathered) {
        let newer = std::mem::replace(&mut self.due, retained);
        self.due.extend(newer);
        for topic in self.lazy.keys() {
            self.due.remove(topic);
        }
        self.sessions.put_back(sessions, !self.is_uncertain);
    }

    fn take(&mut self, now: Moment) -> Batch {
        let mut retained = std::mem::take(&mut self.due);
        self.due_at = None;
        if self.is_stopping || self.lazy_at.is_some_and(|at| at <= now) {
            retained.extend(self.lazy.drain());
            self.lazy_at = None;
        }
        (self.is_urgent, self.linger_at, self.soon_at) = (false, None, None);
        let mut sessions = std::mem::take(&mut self.sessions);
        sessions.waiting = 0;
        let commit = self.commit;
        self.commit += 1;
        let waiters = std::mem::take(&mut self.waiters);
        Batch { retained, waiters, sessions, commit, is_last: self.is_stopping }
    }
}

#[cfg(test)]
mod bequests;
#[cfg(test)]
mod tests;

//! What of a session has to be on disk: its changes, in their order, and who waits for them.
//!
//! A session that lives in memory alone writes none. One that outlives its connection notes each change in its [`Diary`] while it is locked;
//! whoever unlocks it lays them on the keeper's desk before anybody else sees the session. So the order on disk is the order in memory, and a
//! commit, which takes all that lies there, is a state in which the session once was.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::keeper::Urgency;
use super::promise::{Broken, Pending};
use super::session::{Delivery, Hunger, Subscription};
use crate::model::{GatewayId, Message, TopicFilter};

/// A change of one session.
#[derive(Debug)]
pub(super) enum Op {
    /// It is there; `left`: without a connection, from now on.
    Session { about: About, left: bool },
    /// It is over. What waited in it has been told to be gone before.
    End,
    /// It has this subscription; `hungry` while its retained messages are not all on their way.
    Subscribed { asked: TopicFilter, subscription: Subscription, hungry: Option<Hunger> },
    /// It has not.
    Unsubscribed(TopicFilter),
    /// A message waits; its row is the delivery's. What lies on the desk weighs nothing: it may lie there longer than in the queue.
    Queued(Delivery),
    /// The same, said again for a file that has forgotten everything.
    Again { row: i64, delivery: Option<Delivery>, sent: Option<Sent> },
    /// It is sent under this packet id, or about to be.
    Sent(i64, Sent),
    /// The client has it, and only the PUBREL is left.
    Released(i64, Sent, Option<Arc<Message>>),
    /// It does not wait any more.
    Gone(i64, Option<Arc<Message>>),
    /// It does not wait here any more: another member of its shared subscription has it, in the same commit, and whoever waits for it waits for
    /// that.
    Left(i64, Arc<Message>),
    /// The client has sent a QoS 2 message under this packet id.
    Received(u16),
    /// It has released it.
    Forgotten(u16),
}

/// Packet id, and the place in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) packet_id: u16,
    pub(super) turn: i64,
}

/// What a session is on disk beside its rows.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) client: Arc<str>,
    pub(super) user: Option<String>,
    pub(super) peer: Option<GatewayId>,
    pub(super) expiry_s: u32,
}

/// How soon a change must be committed. Whatever the answer, it is in the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Something waits for it.
    Now,
    /// Something waits for it, but it may come to nothing within [`limits::SESSION_LINGER`](crate::limits::SESSION_LINGER).
    Linger,
    /// Nothing waits for it: within [`limits::SESSION_LAZY`](crate::limits::SESSION_LAZY).
    Lazy,
}

/// A change, how soon it is due, and who waits for it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) op: Op,
    pub(super) due: Due,
    pub(super) stub: Option<Stub>,
}

/// What one acknowledgement waits for: several changes, of several sessions maybe.
#[derive(Debug, Default)]
struct Ticket {
    left: AtomicUsize,
    state: Mutex<TicketState>,
}

#[derive(Debug, Default)]
struct TicketState {
    broken: Option<Broken>,
    tell: Option<oneshot::Sender<Result<(), Broken>>>,
}

/// One change's part of a ticket.
#[derive(Debug)]
pub(super) struct Stub(Arc<Ticket>);

impl Stub {
    /// The change is on disk or has come to nothing, or could not be written.
    pub(super) fn settle(self, outcome: Result<(), Broken>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(broken) = outcome {
            state.broken.get_or_insert(broken);
        }
        // Under the lock: whoever sets `tell` counts under it too.
        if self.0.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(tell) = state.tell.take()
        {
            let outcome = state.broken.clone().map_or(Ok(()), Err);
            // A publisher that has gone does not wait any more.
            let _ = tell.send(outcome);
        }
    }
}

/// Gathers what one acknowledgement waits for.
#[derive(Debug)]
pub(super) struct Receipt {
    /// How soon what nobody waits for is due; `Now` where somebody does.
    urgency: Urgency,
    ticket: Option<Arc<Ticket>>,
}

impl Receipt {
    pub(super) fn new(urgency: Urgency) -> Self {
        Self { urgency, ticket: None }
    }

    /// For what nobody waits for.
    #[cfg(test)]
    pub(super) fn lazy() -> Self {
        Self::new(Urgency::Lazy)
    }

    fn is_waited_for(&self) -> bool {
        self.urgency == Urgency::Now
    }

    /// How soon a change is due that need not be before `at_best`.
    fn due(&self, at_best: Due) -> Due {
        match self.urgency {
            Urgency::Now => at_best,
            Urgency::Next => Due::Now,
            Urgency::Soon | Urgency::Lazy | Urgency::Never => Due::Lazy,
        }
    }

    pub(super) fn stub(&mut self) -> Option<Stub> {
        if !self.is_waited_for() {
            return None;
        }
        let ticket = self.ticket.get_or_insert_default();
        ticket.left.fetch_add(1, Ordering::AcqRel);
        Some(Stub(ticket.clone()))
    }

    /// What has to be waited for, once all that belongs to it is laid down; `None` where nothing is left to wait for.
    pub(super) fn pending(self) -> Option<Pending> {
        let ticket = self.ticket?;
        let mut state = ticket.state.lock().unwrap_or_else(PoisonError::into_inner);
        if ticket.left.load(Ordering::Acquire) == 0 {
            let broken = state.broken.clone()?;
            return Some(Box::pin(std::future::ready(Err(broken))));
        }
        let (tell, told) = oneshot::channel();
        state.tell = Some(tell);
        Some(Box::pin(async move { told.await.unwrap_or(Err(Broken::Stopping)) }))
    }
}

/// The notes of one session. See the module.
#[derive(Debug, Default)]
pub(super) struct Diary {
    /// Whether anything is noted at all.
    is_kept: bool,
    entries: Vec<Entry>,
    /// Changes noted so far.
    noted: u64,
    /// Up to which of them all is on disk.
    safe: u64,
    /// Changes noted, and the commit they are in.
    laid: VecDeque<(u64, u64)>,
    /// Whether the session itself waits for what is noted.
    is_awaited: bool,
}

impl Diary {
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Nothing more is noted.
    pub(super) fn close(&mut self) {
        self.is_kept = false;
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Notes a change. With a receipt it is waited for as that says.
    pub(super) fn note(&mut self, op: Op, at_best: Due, receipt: Option<&mut Receipt>) {
        if !self.is_kept {
            return;
        }
        self.noted += 1;
        let (due, stub) = match receipt {
            Some(receipt) => (receipt.due(at_best), receipt.stub()),
            None => (at_best, None),
        };
        self.entries.push(Entry { op, due, stub });
    }

    /// Notes a change that nobody waits for.
    pub(super) fn note_lazily(&mut self, op: Op) {
        self.note(op, Due::Lazy, None);
    }

    /// Notes that a message does not wait any more, if it is on disk.
    pub(super) fn gone(&mut self, row: i64, delivery: Option<&Delivery>) {
        if row != 0 {
            self.note_lazily(Op::Gone(row, delivery.map(|delivery| delivery.message.clone())));
        }
    }

    /// Notes that a message does not wait here any more, now that the session ends.
    pub(super) fn left(&mut self, delivery: &Delivery) {
        match delivery.row {
            row if row != 0 && delivery.by_group.is_some() => {
                self.note_lazily(Op::Left(row, delivery.message.clone()));
            }
            row => self.gone(row, Some(delivery)),
        }
    }

    /// Notes a message anew, if it is on disk.
    pub(super) fn again(&mut self, row: i64, delivery: Option<&Delivery>, sent: Option<Sent>) {
        if row != 0 {
            let delivery = delivery.map(|delivery| Delivery { weight: None, ..delivery.clone() });
            self.note_lazily(Op::Again { row, delivery, sent });
        }
    }

    /// Notes a change that the session waits for. Returns what to compare with [`Self::is_safe`].
    pub(super) fn note_awaited(&mut self, op: Op) -> u64 {
        if !self.is_kept {
            return 0;
        }
        self.note(op, Due::Now, None);
        self.is_awaited = true;
        self.noted
    }

    /// Whether what was noted up to there is on disk.
    pub(super) fn is_safe(&self, mark: u64) -> bool {
        mark <= self.safe
    }

    /// Whether all that was noted is on disk.
    pub(super) fn is_all_safe(&self) -> bool {
        self.is_safe(self.noted)
    }

    /// What was noted since, to be laid down; whether the session wants to know when it is on disk.
    pub(super) fn take(&mut self) -> Option<(Vec<Entry>, bool)> {
        let entries = std::mem::take(&mut self.entries);
        (!entries.is_empty()).then(|| (entries, std::mem::take(&mut self.is_awaited)))
    }

    /// What was taken is in this commit.
    pub(super) fn laid(&mut self, commit: u64) {
        match self.laid.back_mut() {
            Some((noted, of)) if *of == commit => *noted = self.noted,
            _ => self.laid.push_back((self.noted, commit)),
        }
    }

    /// Everything up to this commit is on disk.
    pub(super) fn committed(&mut self, commit: u64) {
        while self.laid.front().is_some_and(|(_, of)| *of <= commit) {
            if let Some((noted, _)) = self.laid.pop_front() {
                self.safe = noted;
            }
        }
    }
}

//! What the broker owes a publisher before it may acknowledge: the commit of every bridge that takes the message, and of its own store.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

use crate::ports::NotAccepted;

/// Why a message cannot be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// A bridge could not take it.
    #[error(transparent)]
    Bridge(#[from] NotAccepted),
    /// A bridge could not commit the copy of it that was fetched, and that it has all the same.
    #[error("{0}")]
    Fetched(NotAccepted),
    /// What has to be kept of it here could not be written.
    #[error("the store of the local broker cannot take it: {0}")]
    Store(String),
    /// The runtime is going away.
    #[error("the broker is stopping")]
    Stopping,
}

/// Resolves when the message may be acknowledged, or not.
pub(super) type Pending = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send>>;

/// A pending outcome that outlives the connection it was given on: a client that comes back with the same packet id waits for the same one.
#[derive(Debug, Clone)]
pub(super) enum Promise {
    /// Nothing is owed.
    Kept,
    /// Owed by a life before: its subscribers have it, and what was promised beyond them has to be promised anew.
    Before,
    /// Owed, or decided.
    Owed(watch::Receiver<Option<Result<(), Broken>>>),
}

impl Promise {
    /// One whose outcome the teller drives to its end, whatever becomes of the connection.
    pub(super) fn open() -> (Self, Teller) {
        let (tell, told) = watch::channel(None);
        (Self::Owed(told), Teller(Some(tell)))
    }

    /// Whether the outcome is known, and bad.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Self::Kept => false,
            Self::Before => true,
            Self::Owed(told) => matches!(&*told.borrow(), Some(Err(_))),
        }
    }

    /// Whether it was broken after every bridge had kept its part: theirs comes first, and is told first when it fails.
    pub(super) fn is_with_bridges(&self) -> bool {
        match self {
            Self::Kept => true,
            Self::Before => false,
            Self::Owed(told) => matches!(&*told.borrow(), Some(Err(Broken::Store(_)))),
        }
    }

    /// Whether it was given for a message whose copy was fetched before, and broken by a bridge that has that copy.
    pub(super) fn is_for_a_copy(&self) -> bool {
        match self {
            Self::Kept | Self::Before => false,
            Self::Owed(told) => matches!(&*told.borrow(), Some(Err(Broken::Fetched(_)))),
        }
    }

    /// Why the bridges could not keep it, if that is known.
    pub(super) fn refusal(&self) -> Option<NotAccepted> {
        match self {
            Self::Kept | Self::Before => None,
            Self::Owed(told) => match &*told.borrow() {
                Some(Err(Broken::Bridge(refusal))) => Some(refusal.clone()),
                _ => None,
            },
        }
    }

    /// The outcome, as something to wait for; `None` when there is nothing to wait for.
    pub(super) fn wait(&self) -> Option<Pending> {
        let Self::Owed(told) = self else { return None };
        let mut told = told.clone();
        Some(Box::pin(async move {
            let outcome = told.wait_for(Option::is_some).await.map_err(|_| Broken::Stopping)?;
            outcome.clone().unwrap_or(Err(Broken::Stopping))
        }))
    }
}

/// Whoever has to tell the outcome of a promise that was given before it was known what it waits for.
#[derive(Debug)]
pub(super) struct Teller(Option<watch::Sender<Option<Result<(), Broken>>>>);

impl Teller {
    /// The promise waits for this; `None` for nothing.
    pub(super) fn owe(mut self, pending: Option<Pending>) {
        let Some(tell) = self.0.take() else { return };
        match pending {
            None => drop(tell.send_replace(Some(Ok(())))),
            Some(pending) => drop(tokio::spawn(async move {
                let outcome = pending.await;
                tell.send_replace(Some(outcome));
            })),
        }
    }
}

/// A fault came before it was said what the promise waits for: whoever asks again has it made again.
impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell.send_replace(Some(Err(Broken::Stopping)));
        }
    }
}

/// Both, where there are two.
pub(super) fn both(one: Option<Pending>, other: Option<Pending>) -> Option<Pending> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Box::pin(async move {
            let (one, other) = tokio::join!(one, other);
            one.and(other)
        })),
        (one, other) => one.or(other),
    }
}

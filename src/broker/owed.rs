//! The acknowledgements owed to a publisher, in the order of its publications [MQTT-4.6.0-2].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use super::promise::{Broken, Pending};
use crate::mqtt::reason::Reason;

/// One acknowledgement.
pub(super) struct Owed {
    /// Type byte of the acknowledgement; `None` when the publication gets none.
    pub(super) first: Option<u8>,
    pub(super) packet_id: u16,
    pub(super) reason: Reason,
    pub(super) pending: Option<Pending>,
}

/// See the module. Only the oldest is waited for: the others cannot leave before it.
#[derive(Default)]
pub(super) struct Ledger(VecDeque<Owed>);

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many acknowledgements of this type are owed.
    pub(super) fn count(&self, first: u8) -> usize {
        self.0.iter().filter(|owed| owed.first == Some(first)).count()
    }

    pub(super) fn push(&mut self, owed: Owed) {
        self.0.push_back(owed);
    }

    /// Waits for the oldest; returns it and those behind it that wait for nothing else. Waits for ever when nothing is owed. May be dropped
    /// and asked anew at any time.
    pub(super) async fn settle(&mut self) -> Result<Vec<Owed>, Broken> {
        let outcome = poll_fn(|context| match self.0.front_mut().map(|owed| &mut owed.pending) {
            Some(Some(pending)) => pending.as_mut().poll(context),
            Some(None) => Poll::Ready(Ok(())),
            None => Poll::Pending,
        })
        .await;
        let mut settled = Vec::new();
        if let Some(oldest) = self.0.pop_front() {
            // A QoS 0 message that was not taken is the bridge's to count: its publisher asked for no promise.
            if oldest.first.is_some() {
                outcome?;
            }
            settled.push(oldest);
        }
        while self.0.front().is_some_and(|next| next.pending.is_none()) {
            settled.extend(self.0.pop_front());
        }
        Ok(settled)
    }
}

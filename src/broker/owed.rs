//! The acknowledgements owed to a publisher, in the order of its publications [MQTT-4.6.0-2].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use bytes::BytesMut;

use super::promise::{Broken, Pending};
use crate::mqtt::reason::Reason;

/// What is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing: QoS 0.
    None,
    /// An acknowledgement with this type byte.
    Acknowledgement(u8, u16, Reason),
    /// SUBACK or UNSUBACK, as it goes out.
    Whole(BytesMut),
}

/// One acknowledgement.
pub(super) struct Owed {
    pub(super) answer: Answer,
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
        let is_one = |owed: &&Owed| matches!(owed.answer, Answer::Acknowledgement(of, ..) if of == first);
        self.0.iter().filter(is_one).count()
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
            // A QoS 0 message that was not taken is the bridge's to count: its publisher asked for no promise. A subscription that the disk
            // does not take is there all the same.
            if matches!(oldest.answer, Answer::Acknowledgement(..)) {
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

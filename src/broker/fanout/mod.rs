//! How a message finds the filters that mean it. Two ways behind one trait; `[broker] routing` chooses (docs/decisions/0002).

#[cfg(feature = "rumqttd")]
mod rumqttd;
mod trie;

use std::sync::Arc;

#[cfg(feature = "rumqttd")]
pub(super) use self::rumqttd::{Alive, Rumqttd};
use crate::model::{Message, Moment, TopicFilter};
pub(super) use trie::Trie;

/// Number of a filter in use. Never given to another filter.
pub(super) type FilterId = u32;

/// A message on its way through the broker.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    /// Rises with every message.
    pub(super) number: u64,
    /// Who published it; 0 for the gateway itself.
    pub(super) sender: u64,
    /// When it came.
    pub(super) received: Moment,
    pub(super) message: Arc<Message>,
}

/// The router cannot take more at this moment; the message reaches no subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Finds the filters a message is meant for.
pub(super) trait Fanout: Send {
    /// Puts a filter in use under its number. Told once for a filter, however many subscribe to it.
    fn subscribe(&mut self, filter: &TopicFilter, id: FilterId);
    /// Takes it out of use.
    fn unsubscribe(&mut self, filter: &TopicFilter, id: FilterId);
    /// Adds the filters that mean the message to `found`; or finds them later, and tells the broker by its own way.
    fn publish(&mut self, envelope: &Envelope, found: &mut Vec<FilterId>) -> Result<(), Full>;
    /// Stops what runs beside the broker.
    fn stop(&mut self);
}

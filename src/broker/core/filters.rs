//! The filters in use: entering and leaving them, and what they may weigh.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Core;
use crate::broker::session::Subscription;
use crate::broker::subscribers::Slot;
use crate::limits;

impl Core {
    /// Whether a session may have one more filter, by what they weigh.
    pub(in crate::broker) fn has_room_for(&self, slot: &Slot, subscription: &Subscription) -> bool {
        let more = subscription.weight();
        slot.filter_bytes.load(Ordering::Relaxed) + more <= limits::SESSION_FILTERS_BYTES_MAX
            && self.filter_bytes + more <= limits::FILTERS_BYTES_MAX
    }

    pub(super) fn enter(&mut self, slot: &Arc<Slot>, subscription: &Subscription) {
        let filter = &subscription.filter;
        let id = *self.by_filter.entry(filter.clone()).or_insert_with(|| {
            self.next_filter += 1;
            self.fanout.subscribe(filter, self.next_filter);
            self.next_filter
        });
        self.filters.entry(id).or_default().join(slot, subscription.clone());
        let bytes = subscription.weight();
        self.filter_bytes += bytes;
        slot.filter_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.subscriptions += 1;
        self.shared_subscriptions += usize::from(subscription.group.is_some());
    }

    pub(super) fn leave(&mut self, slot: &Arc<Slot>, subscription: &Subscription) {
        let Some(&id) = self.by_filter.get(&subscription.filter) else { return };
        let Some(entry) = self.filters.get_mut(&id) else { return };
        let bytes = subscription.weight();
        self.filter_bytes -= bytes;
        slot.filter_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.subscriptions -= 1;
        self.shared_subscriptions -= usize::from(subscription.group.is_some());
        entry.leave(slot, subscription.group.as_ref());
        if entry.is_empty() {
            self.filters.remove(&id);
            self.by_filter.remove(&subscription.filter);
            self.fanout.unsubscribe(&subscription.filter, id);
        }
    }
}

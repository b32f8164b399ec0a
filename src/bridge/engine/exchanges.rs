//! What the local broker says of its clients' open QoS 2 messages, and what it is answered.

use super::Engine;

impl Engine {
    /// After what was offered has been taken, so that the era it was offered in is known.
    pub(super) fn hear_of_exchanges(&mut self) {
        let news = self.shared.held.take(|| self.shared.is_empty());
        self.era_begins |= news.era.is_some();
        if let Some(era) = news.era {
            self.core.begin_era(era);
        }
        let now = self.clock.now();
        for (exchange, waiter) in news.released {
            self.core.release_exchange(exchange, waiter, now);
        }
        self.core.sessions_over(news.over);
    }

    /// After the turn.
    pub(super) fn answer_for_exchanges(&mut self) {
        if std::mem::take(&mut self.era_begins) {
            self.shared.held.begun(self.core.era(), self.core.exchanges());
        }
        for (exchange, waiters) in self.core.take_freed() {
            self.shared.held.freed(exchange, waiters);
        }
    }
}

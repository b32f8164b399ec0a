//! QoS 2 messages of local clients go up once, also when the gateway dies before their publishers know that they were taken in.
//!
//! Two files are committed, the broker's and this store, and either may be on disk without the other. So the store notes with the record what the publisher
//! would say it again under, and knows it then. The note goes when the publisher frees the packet id, and *before* it hears that this is done: a note that
//! stays behind would have the next message under that id taken for the old one, and lost. Whatever makes a note doubtful therefore drops it, at worst for a
//! message that goes up twice:
//!
//! - notes count while the store was there in every era, that is whenever packet ids may have become free ([`Era`]); one that was not in the config for a
//!   while has missed some;
//! - they do not count after a power cut that may have taken commits, nor in a store that replaces a damaged one, whose records come without them;
//! - the mark of the message has to be the same.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Core;
use crate::bridge::held::Waiter;
use crate::bridge::intake::Offered;
use crate::limits::{COMMIT_ROWS_MAX, EXCHANGES_MAX, RELEASE_LINGER};
use crate::logic::echo::Echoes;
use crate::model::{Era, ExchangeId, Moment};
use crate::store::{Outbox, StoreError};

/// See the module.
#[derive(Default)]
pub(super) struct Exchanges {
    /// `None` until the broker has said which it is: nothing counts before.
    era: Option<Era>,
    /// It is to be written down with the turn that comes, or given up.
    begins: bool,
    /// The eras that the file names.
    noted: [Option<i64>; 2],
    /// Whether the file has to learn which era it is.
    is_unwritten: bool,
    /// What the file knows does not count, and goes with its next commit.
    wipe: bool,
    /// What the file knows, with its marks.
    held: HashMap<ExchangeId, u64>,
    /// Packet ids that become free with the next commit.
    released: BTreeMap<ExchangeId, Vec<Waiter>>,
    released_since: Option<Moment>,
    /// Those that are.
    freed: Vec<(ExchangeId, Vec<Waiter>)>,
    /// Sessions of which nothing is to stay.
    over: HashSet<i64>,
    /// That there are too many was told.
    is_full: bool,
}

/// What a transaction did with them.
#[derive(Default)]
pub(super) struct Noted {
    held: HashMap<ExchangeId, u64>,
    released: usize,
    ended: bool,
    unheld: u64,
}

impl Exchanges {
    /// The store is open. `lacks_commits`: the last ones may be gone.
    pub(super) fn load(&mut self, outbox: &Outbox, lacks_commits: bool) -> Result<(), StoreError> {
        (self.noted, self.held) = ([None; 2], HashMap::new());
        if !lacks_commits {
            (self.noted, self.held) = (outbox.eras()?, outbox.exchanges()?);
        }
        self.judge();
        Ok(())
    }

    /// Whether what the file knows counts.
    fn judge(&mut self) {
        let Some(era) = &mut self.era else { return };
        let was_there = |of: i64| self.noted.contains(&Some(of));
        self.is_unwritten = self.noted[0] != Some(era.now);
        self.wipe = !was_there(era.now) && !era.before.is_some_and(was_there);
        if self.wipe {
            self.held.clear();
        }
        if let Some(sessions) = era.sessions.take() {
            let gone = self.held.keys().map(|exchange| exchange.session).filter(|session| !sessions.contains(session));
            self.over.extend(gone);
            self.held.retain(|exchange, _| !self.over.contains(&exchange.session));
        }
    }

    /// What a message is known by.
    pub(super) fn key(&self, offered: &Offered) -> Option<(ExchangeId, u64)> {
        // One that is being freed is a client's that does not wait for it.
        let exchange = offered.message.exchange.filter(|id| self.era.is_some() && !self.released.contains_key(id))?;
        Some((exchange, Echoes::mark(offered.message.topic.as_str(), &offered.message.payload)))
    }

    /// Whether the message is here, or comes with this transaction.
    pub(super) fn knows(&self, key: (ExchangeId, u64), noted: &Noted) -> bool {
        noted.held.get(&key.0).or_else(|| self.held.get(&key.0)) == Some(&key.1)
    }

    /// Notes it in the transaction that has its record.
    pub(super) fn hold(
        &self,
        outbox: &mut Outbox,
        noted: &mut Noted,
        key: (ExchangeId, u64),
    ) -> Result<(), StoreError> {
        if self.held.len() + noted.held.len() >= EXCHANGES_MAX && !self.held.contains_key(&key.0) {
            noted.unheld += 1;
            return Ok(());
        }
        outbox.hold_exchange(key.0, key.1)?;
        noted.held.insert(key.0, key.1);
        Ok(())
    }

    /// What goes before anything comes in.
    pub(super) fn write_first(&self, outbox: &mut Outbox, noted: &mut Noted) -> Result<(), StoreError> {
        if let Some(era) = self.era.as_ref().filter(|_| self.is_unwritten) {
            if self.wipe {
                outbox.forget_exchanges()?;
            }
            outbox.note_era(era.now, era.before)?;
        }
        for exchange in self.released.keys().take(COMMIT_ROWS_MAX) {
            outbox.release_exchange(*exchange)?;
            noted.released += 1;
        }
        Ok(())
    }

    /// What goes after it, if all that waited came in.
    pub(super) fn write_last(&self, outbox: &mut Outbox, noted: &mut Noted) -> Result<(), StoreError> {
        for session in &self.over {
            outbox.end_exchanges(*session)?;
        }
        noted.ended = true;
        Ok(())
    }

    pub(super) fn committed(&mut self, noted: Noted) -> bool {
        if let Some(era) = self.era.as_ref().filter(|_| self.is_unwritten) {
            self.noted = [Some(era.now), era.before];
            (self.is_unwritten, self.wipe) = (false, false);
        }
        for _ in 0..noted.released {
            let Some((exchange, waiters)) = self.released.pop_first() else { break };
            self.held.remove(&exchange);
            self.freed.push((exchange, waiters));
        }
        self.released_since = (!self.released.is_empty()).then_some(Moment::ZERO);
        self.held.extend(noted.held);
        if noted.ended && !self.over.is_empty() {
            let over = std::mem::take(&mut self.over);
            self.held.retain(|exchange, _| !over.contains(&exchange.session));
        }
        let is_news = noted.unheld > 0 && !self.is_full;
        self.is_full = noted.unheld > 0 || (self.is_full && self.held.len() > EXCHANGES_MAX / 2);
        is_news
    }

    /// Whether something of this waits for a commit.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.begins || self.due().is_some_and(|due| now >= due)
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.released_since.map(|since| since + RELEASE_LINGER)
    }

    /// The turn is over that was to write down which era it is. Where it could not, nothing that is in the file counts: nobody waits for that.
    pub(super) fn begun(&mut self) {
        if !std::mem::take(&mut self.begins) {
            return;
        }
        if self.is_unwritten {
            self.wipe = true;
            self.held.clear();
        }
        if let Some(era) = &mut self.era {
            era.before = None;
        }
    }
}

impl Core {
    /// The broker says which era it is.
    pub(in crate::bridge) fn begin_era(&mut self, era: Era) {
        let exchanges = &mut self.exchanges;
        (exchanges.era, exchanges.begins) = (Some(era), true);
        exchanges.judge();
    }

    /// The era that the broker told last.
    pub(in crate::bridge) fn era(&self) -> Option<i64> {
        self.exchanges.era.as_ref().map(|era| era.now)
    }

    /// A packet id becomes free.
    pub(in crate::bridge) fn release_exchange(&mut self, exchange: ExchangeId, waiter: Waiter, now: Moment) {
        let exchanges = &mut self.exchanges;
        let is_on_its_way = || self.waiting.iter().any(|offered| offered.message.exchange == Some(exchange));
        if self.outbox.is_some() && !exchanges.held.contains_key(&exchange) && !is_on_its_way() {
            exchanges.freed.push((exchange, vec![waiter]));
            return;
        }
        exchanges.released_since.get_or_insert(now);
        let waiters = exchanges.released.entry(exchange).or_default();
        waiters.retain(|before| !before.is_closed());
        waiters.push(waiter);
    }

    /// These sessions are over, and nothing of theirs comes after this.
    pub(in crate::bridge) fn sessions_over(&mut self, over: Vec<i64>) {
        let exchanges = &mut self.exchanges;
        exchanges.over.extend(over);
        exchanges.held.retain(|exchange, _| !exchanges.over.contains(&exchange.session));
    }

    /// Packet ids that are free by now, and who waits for that.
    pub(in crate::bridge) fn take_freed(&mut self) -> Vec<(ExchangeId, Vec<Waiter>)> {
        std::mem::take(&mut self.exchanges.freed)
    }

    /// Tells those who wait, where no engine does that any more.
    pub(super) fn answer_freed(&mut self) {
        self.take_freed().into_iter().flat_map(|(_, waiters)| waiters).for_each(Waiter::answer);
    }

    /// What the store knows.
    pub(in crate::bridge) fn exchanges(&self) -> impl Iterator<Item = ExchangeId> {
        self.exchanges.held.keys().copied()
    }

    pub(super) fn committed_exchanges(&mut self, noted: Noted) {
        if self.exchanges.committed(noted) {
            let (bridge, most) = (self.settings.id.as_str(), EXCHANGES_MAX);
            tracing::warn!(
                bridge,
                most,
                "so many QoS 2 messages of local clients are half handed over that one more may go up twice after a crash"
            );
        }
    }
}

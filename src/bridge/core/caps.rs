//! What comes in, and what goes when the store is at a limit (docs/bridge.md, "The store").

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;

use super::turn::Attempt;
use super::{Cause, Core, event};
use crate::bridge::intake::Offered;
use crate::bridge::settings::{Full, OutRule, Settings};
use crate::limits::{BLOCK_SLACK, COMMIT_ROWS_MAX, DROP_ROUNDS, DROP_ROWS, SHRINK_PAGES};
use crate::logic::thin::Thin;
use crate::model::{Moment, Priority, RuleId, Seq, Timestamp};
use crate::mqtt::properties;
use crate::store::{Dropped, NewRecord, Outbox, StoreError, Waiting, footprint};

/// What the limits remember between turns.
#[derive(Debug, Default)]
pub(super) struct Caps {
    /// The pass of `full = "thin"`, and the class it is in.
    thin: Thin,
    thin_class: Priority,
    /// Why nothing of QoS 1 and 2 is taken in.
    pub(super) blocked: Option<String>,
    /// Bytes of the message that found no room then: until they fit nothing is taken in.
    blocked_by: u64,
    /// The rules with limits of their own.
    pub(super) rules: BTreeMap<RuleId, OutRule>,
    /// Up to where each of them has been looked through: before it nothing of the rule waits.
    pub(super) looked: BTreeMap<(RuleId, Priority), Seq>,
    /// A rule, or the store, has more than it may: that goes on with the next turn.
    pub(super) behind: bool,
    /// The store has more than it may, and nothing that could go: all of it is in flight.
    immovable: bool,
}

impl Caps {
    pub(super) fn new(settings: &Settings) -> Self {
        let limited = settings.out.iter().filter(|rule| rule.share != crate::bridge::settings::Share::default());
        // Of two rules with one filter the first takes everything.
        let rules = limited.rev().map(|rule| (rule.id(), rule.clone())).collect();
        Self { thin_class: Priority::Low, rules, ..Self::default() }
    }

    /// How old a record may be.
    pub(super) fn age_max(&self, rule: Option<RuleId>, store: Option<Duration>) -> (Option<Duration>, Cause) {
        let own = rule.and_then(|rule| self.rules.get(&rule)).and_then(|rule| rule.share.max_age);
        match (own, store) {
            (Some(own), store) if store.is_none_or(|store| own < store) => (Some(own), Cause::RuleAge),
            (_, store) => (store, Cause::Age),
        }
    }

    /// Whether a rule sets an age.
    fn has_ages(&self) -> bool {
        self.rules.values().any(|rule| rule.share.max_age.is_some())
    }

    /// What was in flight waits again, before what has been looked through.
    pub(super) fn look_anew(&mut self) {
        self.looked.clear();
    }
}

impl Core {
    /// New settings. What was found out under the old ones is found out anew.
    pub(super) fn apply_caps(&mut self) {
        let (blocked, blocked_by) = (self.caps.blocked.take(), self.caps.blocked_by);
        self.caps = Caps { blocked, blocked_by, ..Caps::new(&self.settings) };
        self.keep_within();
        self.count_rules();
    }

    /// Has the store share its bytes out anew.
    pub(super) fn keep_within(&mut self) {
        let kept = self.outbox.as_mut().map_or(Ok(()), |outbox| outbox.keep_within(self.settings.outbox.max_bytes));
        if let Err(error) = kept {
            tracing::warn!(bridge = self.settings.id.as_str(), %error, "the log of the store may become larger than it should");
        }
    }

    /// Has the store count the rules that have limits which are kept by counting.
    pub(super) fn count_rules(&mut self) {
        let counted = self.caps.rules.iter().filter(|(_, rule)| rule.share.is_counted()).map(|(id, _)| *id);
        if let Some(outbox) = &mut self.outbox {
            outbox.count_rules(counted);
        }
    }

    /// Whether records are looked through for their age now and then.
    pub(super) fn sweeps(&self) -> bool {
        self.settings.outbox.max_age.is_some() || self.caps.has_ages()
    }

    /// Stores what waits for it, as far as `full` lets it in.
    pub(super) fn take_in(&mut self, outbox: &mut Outbox, attempt: &mut Attempt) -> Result<(), StoreError> {
        let limits = &self.settings.outbox;
        let keeps_out = matches!(limits.full, Full::DropNewest | Full::Block);
        if self.waiting.is_empty() || self.caps.blocked.is_some() {
            return Ok(());
        }
        let most = limits.max_messages.saturating_add(if keeps_out { 0 } else { COMMIT_ROWS_MAX as u64 });
        let mut bytes = outbox.bytes()?;
        let mut left = outbox.intake_max().min(outbox.log_left());
        let (mut newest, mut too_large) = (Dropped::default(), Dropped::default());
        for offered in self.waiting.iter().take(COMMIT_ROWS_MAX) {
            let key = self.exchanges.key(offered);
            if key.is_some_and(|key| self.exchanges.knows(key, &attempt.noted)) {
                // Its publisher says it again after a crash.
                attempt.taken += 1;
                continue;
            }
            if offered.is_here {
                // It lies before this one, or in the file.
                attempt.taken += 1;
                if let Some(key) = key {
                    self.exchanges.hold(outbox, &mut attempt.noted, key)?;
                }
                continue;
            }
            let travelling = offered.message.properties.as_deref();
            let block = travelling.map(properties::to_block);
            let size = size_of(offered);
            let full = outbox.count() >= most || bytes + size > outbox.room_for(size);
            // What no queue can be emptied for is not waited for, and nothing is given up for it.
            if !outbox.could_hold(size) || (full && outbox.count() == 0) {
                too_large = too_large.and(Dropped::one(Seq(0), offered.at));
                attempt.taken += 1;
                continue;
            }
            if full {
                if limits.full == Full::Block {
                    attempt.blocked = Some(size);
                    break;
                }
                if limits.full != Full::DropNewest && !self.caps.immovable {
                    // Room is made for it, and it comes in with the next turn.
                    attempt.is_behind = true;
                    break;
                }
                newest = newest.and(Dropped::one(Seq(0), offered.at));
                attempt.taken += 1;
                continue;
            }
            if size > left && (attempt.pushed > 0 || size <= outbox.intake_max()) {
                attempt.is_behind = true;
                break;
            }
            // What the log has no room for takes it beside its share, and the file has to be as short as what is in it.
            if size > outbox.intake_max() && outbox.shorten(outbox.room_for(size), SHRINK_PAGES)? {
                (attempt.is_behind, attempt.shortened) = (true, true);
                break;
            }
            left = left.saturating_sub(size);
            bytes += size;
            let life_ms = travelling.and_then(|travelling| travelling.expiry_s).map(|life_s| i64::from(life_s) * 1_000);
            outbox.push(NewRecord {
                priority: offered.priority,
                rule: offered.rule,
                topic: offered.topic.as_str(),
                payload: &offered.message.payload,
                qos: offered.qos,
                retain: offered.retain,
                accepted: offered.at,
                expires_ms: life_ms.map(|life_ms| offered.at.unix_ms.saturating_add(life_ms)),
                properties: block.as_deref(),
                stamp: offered.message.stamp,
            })?;
            if let Some(key) = key {
                self.exchanges.hold(outbox, &mut attempt.noted, key)?;
            }
            self.lanes.added(offered.priority);
            attempt.taken += 1;
            attempt.pushed += 1;
        }
        attempt.drops.extend([(Cause::Newest, newest), (Cause::TooLarge, too_large)]);
        Ok(())
    }

    /// Gives up what is too much, a bounded part of it in one turn.
    pub(super) fn keep_within_caps(&mut self, outbox: &mut Outbox, attempt: &mut Attempt) -> Result<(), StoreError> {
        self.keep_shares(outbox, attempt)?;
        let limits = &self.settings.outbox;
        if limits.full == Full::Block {
            return Ok(());
        }
        let count_max = limits.max_messages;
        // So that what the next commit takes in has its room already: pages that are freed behind it would come too late, the file would have grown.
        let bytes_max = match limits.full {
            Full::DropNewest => outbox.file_max(),
            _ => self.room_wanted(outbox, attempt.taken),
        };
        let share = usize::try_from(count_max / 16).unwrap_or(usize::MAX).clamp(1, DROP_ROWS);
        let excess = usize::try_from(outbox.count().saturating_sub(count_max)).unwrap_or(usize::MAX);
        let stuck = excess > 0 && self.give_up(outbox, attempt, excess.max(share))? == 0;
        self.caps.immovable = stuck && outbox.log_left() > 0;
        self.caps.behind |= outbox.count() > count_max && outbox.log_left() == 0;
        for round in 0.. {
            let (bytes, count) = (outbox.bytes()?, outbox.count());
            if bytes <= bytes_max {
                break;
            }
            if round == DROP_ROUNDS || outbox.log_left() == 0 {
                self.caps.behind = true;
                break;
            }
            if count == 0 {
                self.caps.immovable = true;
                break;
            }
            // Large records: no more of them than brings the file below its cap; small ones: enough to be worth the transaction.
            let row = (bytes / count).max(1);
            let excess = usize::try_from((bytes - bytes_max) / row + 1).unwrap_or(DROP_ROWS);
            let share = usize::try_from(count / 16).unwrap_or(DROP_ROWS).clamp(1, DROP_ROWS);
            if self.give_up(outbox, attempt, excess.min(DROP_ROWS).max(share))? == 0 && outbox.log_left() > 0 {
                self.caps.immovable = true;
                break;
            }
        }
        Ok(())
    }

    /// Whether records are to go that nobody has looked for yet.
    pub(super) fn is_too_large(&self) -> bool {
        let wanted = self.outbox.as_ref().map_or(u64::MAX, |outbox| self.room_wanted(outbox, 0));
        self.settings.outbox.full != Full::Block && !self.caps.immovable && self.bytes() > wanted
    }

    /// Most bytes that may stay in use, for what comes next to find its room.
    fn room_wanted(&self, outbox: &Outbox, taken: usize) -> u64 {
        let next = self.waiting.get(taken).map_or(0, size_of);
        if outbox.could_hold(next) {
            outbox.room_for(next).saturating_sub(next.max(outbox.intake_max()))
        } else {
            outbox.file_max()
        }
    }

    /// Gives up so many records, by `full`. Returns how many it could.
    fn give_up(&mut self, outbox: &mut Outbox, attempt: &mut Attempt, count: usize) -> Result<u64, StoreError> {
        let thinned = match self.settings.outbox.full {
            Full::Thin => self.thin_out(outbox, attempt, count as u64)?,
            Full::DropOldest | Full::DropNewest | Full::Block => Dropped::default(),
        };
        let left = count.saturating_sub(usize::try_from(thinned.count).unwrap_or(usize::MAX));
        let oldest = drop_oldest(outbox, left)?;
        attempt.drops.push((Cause::Thinned, thinned));
        attempt.drops.push((Cause::StoreFull, oldest));
        Ok(thinned.count + oldest.count)
    }

    /// Thins the least urgent class that has something waiting.
    fn thin_out(&mut self, outbox: &mut Outbox, attempt: &mut Attempt, enough: u64) -> Result<Dropped, StoreError> {
        let mut gone = Dropped::default();
        let flying = self.flight.in_order();
        let waits = |outbox: &Outbox, priority: Priority| {
            let flying = flying.iter().filter(|claim| claim.priority == priority).count() as u64;
            outbox.count_of(priority).saturating_sub(flying)
        };
        let newest = Seq(outbox.next().0.saturating_sub(1));
        while gone.count < enough && attempt.looks > 0 && outbox.log_left() > 0 {
            let Some(priority) = Priority::ALL.into_iter().rev().find(|priority| waits(outbox, *priority) > 0) else {
                break;
            };
            if priority != self.caps.thin_class {
                (self.caps.thin, self.caps.thin_class) = (Thin::default(), priority);
            }
            let (after, most) = self.caps.thin.next_step(waits(outbox, priority), attempt.looks.min(DROP_ROWS));
            let rows = outbox.waiting_after(priority, after, most)?;
            attempt.looks -= rows.len().clamp(1, attempt.looks);
            for row in &rows {
                if outbox.log_left() == 0 {
                    break;
                }
                let Some(goes) = self.caps.thin.look(row.record.seq, &row.topic, newest) else { continue };
                // It may have been sent since it was looked at.
                if !self.flight.holds(goes)
                    && let Some(record) = outbox.record(priority, goes)?
                {
                    outbox.remove(priority, goes)?;
                    gone = gone.and(Dropped::one(goes, outbox.boots().mended(goes, record.accepted)));
                }
            }
            if !self.caps.thin.goes_on(rows.is_empty()) {
                break;
            }
        }
        Ok(gone)
    }

    /// Of the oldest records, those that are older than they may be.
    pub(super) fn drop_aged(&self, outbox: &mut Outbox, wall: Timestamp) -> Result<Dropped, StoreError> {
        let Some(age_max) = self.settings.outbox.max_age else { return Ok(Dropped::default()) };
        let mut dropped = Dropped::default();
        for priority in Priority::ALL {
            let mut rows = outbox.waiting(priority, DROP_ROWS)?;
            rows.retain(|row| outbox.boots().age(row.seq, row.accepted, wall).is_some_and(|age| age > age_max));
            dropped = dropped.and(drop_all(outbox, &rows)?);
        }
        Ok(dropped)
    }

    /// The store is full, and `full = "block"`: who waits for a commit is told that there is none, the others wait.
    pub(super) fn block(&mut self, size: u64, wall: Timestamp) {
        if self.caps.blocked.is_some() {
            return;
        }
        self.caps.blocked_by = size;
        let limits = &self.settings.outbox;
        let reason = if self.stored() >= limits.max_messages {
            format!("full: {} messages wait (max_messages)", self.stored())
        } else {
            format!("full: {} bytes (max_bytes)", limits.max_bytes)
        };
        let bridge = self.settings.id.as_str();
        tracing::warn!(bridge, reason, "the store is full: nothing is taken in");
        let mut more = Map::new();
        more.insert("reason".into(), reason.clone().into());
        self.publish.push(event(bridge, &self.settings.event_topic, "store-blocked", wall, more));
        let missed = self.missed.refused;
        self.refuse_waiting(&reason);
        // Those are no fault's.
        self.missed.refused = missed;
        self.caps.blocked = Some(reason);
    }

    /// Takes in again once there is room, or another policy.
    pub(super) fn unblock_when_there_is_room(&mut self, wall: Timestamp) {
        if self.caps.blocked.is_none() || !self.has_slack() {
            return;
        }
        self.caps.blocked = None;
        let bridge = self.settings.id.as_str();
        tracing::info!(bridge, "the store has room again");
        self.publish.push(event(bridge, &self.settings.event_topic, "store-unblocked", wall, Map::new()));
        // It has waited long enough.
        self.waiting_since = (!self.waiting.is_empty()).then_some(Moment::ZERO);
    }

    /// Whether the removal of what the cloud has acknowledged would let a blocked store take in: then it does not wait for company.
    pub(super) fn makes_room(&self) -> bool {
        let finished = self.ended() as u64;
        self.caps.blocked.is_some() && finished > 0 && finished * BLOCK_SLACK >= self.stored()
    }

    fn has_slack(&self) -> bool {
        let (limits, Some(outbox)) = (&self.settings.outbox, &self.outbox) else { return true };
        let below = |most: u64| most - (most / BLOCK_SLACK).clamp(1, most);
        if limits.full != Full::Block || self.stored() == 0 {
            return true;
        }
        let next = self.caps.blocked_by;
        let room = below(outbox.file_max()).min(outbox.room_for(next).saturating_sub(next));
        self.stored() <= below(limits.max_messages) && self.bytes() <= room
    }

    /// Why nothing of QoS 1 and 2 is taken in though the store can be written.
    pub(in crate::bridge) fn blocked(&self) -> Option<&str> {
        self.caps.blocked.as_deref()
    }

    /// The transaction was undone. A pass that lost its place begins anew, and so does what was looked through.
    pub(super) fn undo_caps(&mut self) {
        self.caps.thin = Thin::default();
        self.caps.look_anew();
    }

    /// The transaction is on disk.
    pub(super) fn committed_caps(&mut self) {
        if self.stored() == 0 {
            // The next outage has a shape of its own.
            self.caps.thin = Thin::default();
        }
    }
}

/// What a message takes in the store.
fn size_of(offered: &Offered) -> u64 {
    let properties = offered.message.properties.as_deref().map_or(0, |found| properties::to_block(found).len());
    footprint(offered.topic.as_str().len() + offered.message.payload.len() + properties)
}

/// Drops the oldest that are not in flight, those of the least urgent class first, at most `limit`, in pieces that fit into memory.
fn drop_oldest(outbox: &mut Outbox, limit: usize) -> Result<Dropped, StoreError> {
    let mut dropped = Dropped::default();
    let mut left = limit;
    for priority in Priority::ALL.into_iter().rev() {
        while left > 0 && outbox.log_left() > 0 {
            let rows = outbox.waiting(priority, left.min(DROP_ROWS))?;
            if rows.is_empty() {
                break;
            }
            left -= rows.len();
            dropped = dropped.and(drop_all(outbox, &rows)?);
        }
    }
    Ok(dropped)
}

/// Those that the transaction has room for, in their order.
pub(super) fn drop_all(outbox: &mut Outbox, rows: &[Waiting]) -> Result<Dropped, StoreError> {
    let mut dropped = Dropped::default();
    for row in rows {
        if outbox.log_left() == 0 {
            break;
        }
        outbox.remove(row.priority, row.seq)?;
        dropped = dropped.and(Dropped::one(row.seq, outbox.boots().mended(row.seq, row.accepted)));
    }
    Ok(dropped)
}

//! Limits of single rules. A rule is looked through from its oldest record on, and never twice: what lies behind the place that was reached is
//! gone, in flight, or another rule's. So a limit costs a look at each record and rule, however long the queue is.

use super::turn::Attempt;
use super::{Cause, Core};
use crate::bridge::settings::OutRule;
use crate::limits::{DROP_ROWS, TALLY_ROWS};
use crate::model::{Moment, Priority, RuleId, Timestamp};
use crate::store::{Dropped, Outbox, Seen, StoreError};

impl Core {
    /// Whether the file holds records that have not been counted for the limits of their rules.
    pub(super) fn is_tallying(&self) -> bool {
        self.fault.is_none() && self.outbox.as_ref().is_some_and(Outbox::is_tallying)
    }

    pub(super) fn tally_on(&mut self, now: Moment, wall: Timestamp) {
        if !self.is_tallying() {
            return;
        }
        if let Some(Err(error)) = self.outbox.as_mut().map(|outbox| outbox.tally_on(TALLY_ROWS)) {
            self.failed(&error, now, wall, true);
        }
    }

    /// Gives up the oldest of each rule that has more than it may.
    pub(super) fn keep_shares(&mut self, outbox: &mut Outbox, attempt: &mut Attempt) -> Result<(), StoreError> {
        self.caps.behind = false;
        let rules: Vec<(RuleId, OutRule)> = self
            .caps
            .rules
            .iter()
            .filter(|(_, rule)| rule.share.is_counted())
            .map(|(id, rule)| (*id, rule.clone()))
            .collect();
        for (id, rule) in rules {
            let is_over = |outbox: &Outbox| {
                let kept = outbox.kept(id);
                rule.share.max_messages.is_some_and(|most| kept.count > most)
                    || rule.share.max_bytes.is_some_and(|most| kept.bytes > most)
            };
            let mut dropped = Dropped::default();
            self.look_through(
                outbox,
                attempt,
                id,
                |outbox, row| {
                    if !is_over(outbox) {
                        return Ok(false);
                    }
                    outbox.remove(row.record.priority, row.record.seq)?;
                    let accepted = outbox.boots().mended(row.record.seq, row.record.accepted);
                    dropped = dropped.and(Dropped::one(row.record.seq, accepted));
                    Ok(true)
                },
                is_over,
            )?;
            attempt.drops.push((Cause::RuleFull, dropped));
            // What is not to be had with this look, and is there, is had with the next.
            self.caps.behind |= is_over(outbox) && (attempt.looks == 0 || outbox.log_left() == 0);
        }
        Ok(())
    }

    /// Of the rules with ages of their own, what is older. False: there was more to look at than one turn may.
    pub(super) fn drop_aged_of_rules(
        &mut self,
        outbox: &mut Outbox,
        attempt: &mut Attempt,
        wall: Timestamp,
    ) -> Result<bool, StoreError> {
        let rules: Vec<(RuleId, OutRule)> = self.caps.rules.iter().map(|(id, rule)| (*id, rule.clone())).collect();
        for (id, rule) in rules {
            let Some(age_max) = rule.share.max_age else { continue };
            let mut dropped = Dropped::default();
            self.look_through(
                outbox,
                attempt,
                id,
                |outbox, row| {
                    let record = row.record;
                    if outbox.boots().age(record.seq, record.accepted, wall).is_none_or(|age| age <= age_max) {
                        return Ok(false);
                    }
                    outbox.remove(record.priority, record.seq)?;
                    dropped = dropped.and(Dropped::one(record.seq, outbox.boots().mended(record.seq, record.accepted)));
                    Ok(true)
                },
                |_| true,
            )?;
            attempt.drops.push((Cause::RuleAge, dropped));
        }
        Ok(attempt.looks > 0 && outbox.log_left() > 0)
    }

    /// Hands over the records of a rule that wait, oldest first, while `wanted`, until one stays (`false`): the next look begins with it.
    fn look_through(
        &mut self,
        outbox: &mut Outbox,
        attempt: &mut Attempt,
        id: RuleId,
        mut goes: impl FnMut(&mut Outbox, &Seen) -> Result<bool, StoreError>,
        wanted: impl Fn(&Outbox) -> bool,
    ) -> Result<(), StoreError> {
        // Of an earlier priority of the rule something may be left.
        'class: for priority in Priority::ALL.into_iter().rev() {
            let at = self.caps.looked.entry((id, priority)).or_default();
            while attempt.looks > 0 && outbox.log_left() > 0 && wanted(outbox) {
                let rows = outbox.waiting_after(priority, *at, attempt.looks.min(DROP_ROWS))?;
                if rows.is_empty() {
                    continue 'class;
                }
                for row in &rows {
                    if outbox.log_left() == 0 {
                        return Ok(());
                    }
                    if row.rule == Some(id) && !goes(outbox, row)? {
                        continue 'class;
                    }
                    attempt.looks -= 1;
                    *at = row.record.seq;
                }
            }
        }
        Ok(())
    }
}

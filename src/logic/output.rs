//! One output: what it is set to, when it must go to its safe state, and what its device makes of it.
//!
//! Contract: after every `handle`, call `poll_action` until `None`, then sleep until `poll_timeout`. One [`Action::Move`] or [`Action::Check`]
//! is under way at a time; its end is told as [`Input::Moved`] or [`Input::Failed`].
//! Guarantees: an order moves the output once or not at all, and has one answer; an order that failed is not done later. The output begins and
//! ends in its safe state, goes there when its device comes back, and when the link has been down for `link_loss`, once for each time it is down.

mod words;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use self::words::{Action, Fall, Input, OutputSettings};
use super::command::seconds;
use super::retry::Backoff;
use crate::limits::{OUTPUT_CHECK, OUTPUT_RETRY_MAX, OUTPUT_RETRY_MIN};
use crate::model::{Moment, Outcome, Setting};

#[derive(Debug, Clone, PartialEq)]
enum Work {
    Move(Setting),
    Check,
}

/// An order that is not answered yet.
#[derive(Debug, Clone, PartialEq)]
struct Active {
    order: u64,
    setting: Setting,
    /// Its move has ended well, and its pulse lasts.
    moved: bool,
}

/// One output. See the module.
#[derive(Debug, Clone)]
pub struct Output {
    settings: OutputSettings,
    /// What it should be set to; `None` where that is nobody's wish.
    wanted: Option<Setting>,
    /// What it was set to by the last move that ended well.
    set: Option<Setting>,
    /// It has to be moved whatever it was set to.
    must_move: bool,
    under_way: Option<(Work, Moment)>,
    active: Option<Active>,
    told: Option<(Setting, bool)>,
    online: Option<bool>,
    failed: u64,
    failed_since: Moment,
    backoff: Backoff,
    /// Not tried before.
    retry_at: Option<Moment>,
    check_at: Option<Moment>,
    on_since: Option<Moment>,
    off_since: Option<Moment>,
    pulse_ends: Option<Moment>,
    link_falls: Option<Moment>,
    link_up: bool,
    stopping: bool,
    /// The last move before the end was begun.
    stop_tried: bool,
    stopped: bool,
    /// What was wrong last, while it is.
    fault: Option<Arc<str>>,
    actions: VecDeque<Action>,
}

impl Output {
    /// An output of which nothing is known. Its first action brings it to its safe state, or opens it where it has none.
    pub fn new(settings: OutputSettings, now: Moment) -> Self {
        let mut output = Self {
            wanted: settings.safe.clone(),
            set: None,
            must_move: true,
            under_way: None,
            active: None,
            told: None,
            online: None,
            failed: 0,
            failed_since: now,
            backoff: Backoff::new(OUTPUT_RETRY_MIN, OUTPUT_RETRY_MAX),
            retry_at: None,
            check_at: Some(now),
            on_since: None,
            off_since: None,
            pulse_ends: None,
            link_falls: settings.link_loss.map(|grace| now + grace),
            link_up: false,
            stopping: false,
            stop_tried: false,
            stopped: false,
            fault: None,
            actions: VecDeque::new(),
            settings,
        };
        output.go_on(now);
        output
    }

    /// What its device says it is set to, and whether that is so at this moment.
    pub fn told(&self) -> Option<&(Setting, bool)> {
        self.told.as_ref()
    }

    /// Whether its device answers; `None` before it was asked.
    pub fn online(&self) -> Option<bool> {
        self.online
    }

    /// Whether an order would be taken at this moment.
    ///
    /// # Errors
    /// The answer to an order that is not.
    pub fn may(&self, setting: &Setting, now: Moment) -> Result<(), (Outcome, String)> {
        if self.stopping {
            return Err((Outcome::Refused, "it is being stopped".to_owned()));
        }
        if self.online != Some(true) {
            let fault = self.fault.as_deref().unwrap_or("its device has not answered yet");
            return Err((Outcome::Failed, fault.to_owned()));
        }
        if *setting == Setting::On {
            if let Some(ends) = self.pulse_ends {
                let left = seconds(ends.since(now));
                return Err((Outcome::Refused, format!("a pulse is under way, for another {left}")));
            }
            if let (Some(off_since), Some(min_off)) = (self.off_since, self.settings.min_off)
                && now < off_since + min_off
            {
                let left = seconds((off_since + min_off).since(now));
                return Err((Outcome::Refused, format!("it has to be off for {}: {left} to go", seconds(min_off))));
            }
        }
        Ok(())
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Moment) {
        match input {
            Input::Order { order, setting } => self.order(order, setting, now),
            Input::Moved { read } => self.moved(read, now),
            Input::Failed { reason, random } => self.work_failed(&reason, random, now),
            Input::Back => self.retry_at = self.retry_at.map(|_| now),
            Input::Link(up) => self.link(up, now),
            Input::Stop => {
                self.stopping = true;
                self.wanted = self.settings.safe.clone();
                self.must_move = true;
                // Once more, whatever it waits for: there is no later.
                self.retry_at = None;
            }
            Input::Tick => {}
        }
        self.fall(now);
        self.go_on(now);
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Tick`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.stopping {
            return None;
        }
        // While a move is under way nothing else begins; its end is told in time, whatever the device does.
        let idle = if self.under_way.is_none() { self.retry_at.or(self.check_due_at()) } else { None };
        [idle, self.falls_off_at(), self.pulse_ends, self.link_falls].into_iter().flatten().min()
    }

    fn order(&mut self, order: u64, setting: Setting, now: Moment) {
        if let Err((outcome, reason)) = self.may(&setting, now) {
            // Between the look before the commit and the commit's return, something changed.
            self.answer(order, outcome, Some(reason.into()));
            return;
        }
        if let Some(earlier) = self.active.take() {
            self.answer(earlier.order, Outcome::Interrupted, Some("a later command ended it".into()));
        }
        self.pulse_ends = None;
        self.wanted = Some(setting.clone());
        self.must_move = true;
        self.active = Some(Active { order, setting, moved: false });
    }

    fn moved(&mut self, read: Option<Setting>, now: Moment) {
        let Some((work, since)) = self.under_way.take() else { return };
        let set = match work {
            Work::Move(setting) => Some(setting),
            Work::Check => None,
        };
        let expected = set.clone().or_else(|| self.set.clone());
        let value = if self.settings.readable { read.or_else(|| expected.clone()) } else { expected.clone() };
        let obeys = value == expected || expected.is_none();
        if let Some(set) = set.filter(|_| obeys) {
            self.set = Some(set);
        }
        if let Some(value) = &value {
            self.note(value, since, now);
        }
        if obeys {
            // The state goes before the word that it can be believed.
            if let Some(value) = value {
                self.tell(value, true);
            }
            self.recovered(now);
            self.order_moved(since, now);
        } else {
            // `expected` and `value` differ, so both are there.
            let (expected, value) = (expected.unwrap_or(Setting::Off), value.unwrap_or(Setting::Off));
            let reason: Arc<str> = format!("set to `{}`, it reads `{}`", expected.word(), value.word()).into();
            self.tell(value, true);
            self.fault(&reason, 0.5, now);
        }
        self.check_at = Some(now + OUTPUT_CHECK);
    }

    fn work_failed(&mut self, reason: &Arc<str>, random: f64, now: Moment) {
        if self.under_way.take().is_none() {
            return;
        }
        self.fault(reason, random, now);
        if let Some((value, true)) = self.told.clone() {
            self.tell(value, false);
        }
    }

    /// The device does not do as it is told. What it was doing for an order is given up; the safe state is tried until it is reached.
    fn fault(&mut self, reason: &Arc<str>, random: f64, now: Moment) {
        if self.failed == 0 {
            self.failed_since = now;
        }
        self.failed += 1;
        self.fault = Some(reason.clone());
        // What it is set to by now is anybody's guess.
        self.on_since = None;
        self.off_since = None;
        if self.online != Some(false) {
            self.online = Some(false);
            self.actions.push_back(Action::Offline(reason.clone()));
        }
        if let Some(active) = self.active.take() {
            self.answer(active.order, Outcome::Failed, Some(reason.clone()));
        }
        self.set = None;
        self.must_move = true;
        self.pulse_ends = None;
        self.wanted = self.settings.safe.clone();
        self.retry_at = Some(now + self.backoff.next_wait(random));
    }

    fn recovered(&mut self, now: Moment) {
        self.retry_at = None;
        self.fault = None;
        self.backoff.reset();
        let failed = std::mem::take(&mut self.failed);
        if self.online != Some(true) {
            self.online = Some(true);
            let outage = if failed == 0 { Duration::ZERO } else { now.since(self.failed_since) };
            self.actions.push_back(Action::Online { failed, outage });
        }
    }

    /// The move that was under way may have been an order's.
    fn order_moved(&mut self, since: Moment, now: Moment) {
        let set = self.set.clone();
        let pulse = self.settings.pulse;
        let Some(active) = &mut self.active else { return };
        if active.moved || set.as_ref() != Some(&active.setting) || self.must_move {
            return;
        }
        match pulse {
            Some(length) if active.setting == Setting::On => {
                active.moved = true;
                self.pulse_ends = Some((since + length).max(now));
            }
            _ => {
                let order = active.order;
                self.active = None;
                self.answer(order, Outcome::Done, None);
            }
        }
    }

    /// Since when it is on or off: on from when it was told, off from when it was seen. Both err on the careful side.
    fn note(&mut self, value: &Setting, told: Moment, now: Moment) {
        self.on_since = (*value == Setting::On).then(|| self.on_since.unwrap_or(told));
        self.off_since = (*value == Setting::Off).then(|| self.off_since.unwrap_or(now));
    }

    fn link(&mut self, up: bool, now: Moment) {
        if up == self.link_up {
            return;
        }
        self.link_up = up;
        self.link_falls = self.settings.link_loss.filter(|_| !up).map(|grace| now + grace);
    }

    /// A pulse is not made longer by a look at its device.
    fn check_due_at(&self) -> Option<Moment> {
        self.check_at.filter(|_| self.pulse_ends.is_none())
    }

    fn falls_off_at(&self) -> Option<Moment> {
        // Asked to be off already, it falls by its retries.
        if self.wanted == Some(Setting::On) {
            self.on_since.zip(self.settings.max_on).map(|(on, max)| on + max)
        } else {
            None
        }
    }

    /// What time alone does to it.
    fn fall(&mut self, now: Moment) {
        if self.stopping {
            return;
        }
        if self.pulse_ends.is_some_and(|ends| ends <= now) {
            self.pulse_ends = None;
            self.wanted = Some(Setting::Off);
            self.must_move = true;
            if let Some(active) = &mut self.active {
                active.setting = Setting::Off;
                active.moved = false;
            }
        }
        if self.falls_off_at().is_some_and(|at| at <= now) {
            self.actions.push_back(Action::Fell(Fall::MaxOn));
            self.give_up_order("it was on for as long as `max_on` allows");
            self.wanted = Some(Setting::Off);
            self.must_move = true;
        }
        if self.link_falls.is_some_and(|at| at <= now) {
            self.link_falls = None;
            if self.wanted != self.settings.safe {
                self.actions.push_back(Action::Fell(Fall::LinkLoss));
                self.give_up_order("the link to the cloud was lost");
                self.pulse_ends = None;
                self.wanted = self.settings.safe.clone();
                self.must_move = true;
            }
        }
    }

    fn give_up_order(&mut self, reason: &str) {
        if let Some(active) = self.active.take() {
            self.answer(active.order, Outcome::Interrupted, Some(reason.into()));
        }
    }

    /// Begins what is to be done next, if nothing is under way.
    fn go_on(&mut self, now: Moment) {
        if self.under_way.is_some() || self.stopped {
            return;
        }
        if self.stopping {
            self.give_up_order("the output was stopped");
            match &self.wanted {
                Some(safe) if self.must_move && !self.stop_tried => {
                    self.stop_tried = true;
                    let safe = safe.clone();
                    self.begin(Work::Move(safe), now);
                }
                _ => {
                    self.stopped = true;
                    self.actions.push_back(Action::Stopped);
                }
            }
            return;
        }
        if self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        if self.must_move
            && let Some(wanted) = self.wanted.clone()
        {
            self.begin(Work::Move(wanted), now);
        } else if self.retry_at.is_some() || self.check_due_at().is_some_and(|at| at <= now) {
            self.begin(Work::Check, now);
        }
    }

    fn begin(&mut self, work: Work, now: Moment) {
        self.retry_at = None;
        self.actions.push_back(match &work {
            Work::Move(setting) => {
                self.must_move = false;
                Action::Move(setting.clone())
            }
            Work::Check => {
                self.check_at = None;
                Action::Check
            }
        });
        self.under_way = Some((work, now));
    }

    fn tell(&mut self, value: Setting, sound: bool) {
        let told = (value, sound);
        if self.told.as_ref() != Some(&told) {
            self.actions.push_back(Action::Told { value: told.0.clone(), sound });
            self.told = Some(told);
        }
    }

    fn answer(&mut self, order: u64, outcome: Outcome, reason: Option<Arc<str>>) {
        self.actions.push_back(Action::Answer { order, outcome, reason });
    }
}

#[cfg(test)]
mod tests;

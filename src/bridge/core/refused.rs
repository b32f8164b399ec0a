//! What becomes of a message that the cloud does not take, and what holds the others back meanwhile.

use serde_json::Map;

use super::{Cause, Core, event};
use crate::bridge::words;
use crate::logic::flight::Claim;
use crate::model::{Moment, Timestamp};

impl Core {
    /// The cloud refused a message for a reason that may pass: it is said anew after a pause, or ends as one that was refused for good.
    pub(super) fn refused_for_now(&mut self, claim: Claim, reason: u8, now: Moment, wall: Timestamp) {
        if self.link.as_ref().is_none_or(|link| !link.has_said(claim.pkid)) {
            // Said once before: it waits already.
            return;
        }
        let first = self.refusals.reason().is_none();
        if !self.refusals.refused(claim.seq, reason, now) {
            self.flight.remove(claim.pkid);
            self.refused(claim, reason);
        } else if let Some(link) = &mut self.link {
            link.say_anew(claim);
        }
        self.window.probe(true);
        if first {
            let (bridge, code) = (self.settings.id.as_str(), format!("0x{reason:02x}"));
            let reason = words::reason(reason);
            tracing::warn!(bridge, code, reason, "the cloud refuses messages: they are offered again");
            let mut more = Map::new();
            more.insert("code".into(), code.into());
            more.insert("reason".into(), reason.into());
            self.publish.push(event(bridge, &self.settings.event_topic, "refused", wall, more));
        }
    }

    /// The cloud will never take it.
    pub(super) fn refused(&mut self, claim: Claim, reason: u8) {
        self.end_as_dead(claim, Cause::Refused(reason));
    }

    /// The cloud took one.
    pub(super) fn taken(&mut self, claim: Claim, now: Moment) {
        if self.refusals.taken(claim.seq, now) {
            self.window.probe(false);
            tracing::info!(bridge = self.settings.id.as_str(), "the cloud takes messages again");
        }
    }

    /// When something that holds the store back is over: a moment to come.
    pub(super) fn held_until(&self) -> Option<Moment> {
        let subscribing = self.link.as_ref().and_then(|link| link.subscribing);
        subscribing.into_iter().chain(self.pause).min()
    }

    /// Looks whether something holds the store back; and gives up waiting for an answer that does not come.
    pub(super) fn hold(&mut self, now: Moment, wall: Timestamp) {
        if let Some(link) = &mut self.link
            && link.subscribing.is_some_and(|until| now >= until)
        {
            link.subscribing = None;
            self.tell_subscription(None, "unanswered", wall);
        }
        let subscribing = self.link.as_ref().is_some_and(|link| link.subscribing.is_some());
        let mut renewing = false;
        if let Some(link) = &mut self.link {
            link.renewing |= link.renew_at.is_some_and(|at| now >= at);
            renewing = link.renewing;
        }
        self.pause = self.refusals.pause().filter(|until| now < *until);
        self.held = subscribing || renewing || self.salvage_holds(now) || self.pause.is_some();
    }

    /// What is wrong although the link is up, in words.
    pub(in crate::bridge) fn complaint(&self) -> Option<String> {
        let refusal =
            self.refusals.reason().map(|code| format!("the cloud refuses: 0x{code:02x} {}", words::reason(code)));
        let filters = self.link.iter().flat_map(|link| &link.refused);
        let filters = filters.map(|(filter, code)| {
            format!("the cloud refused the subscription `{filter}`: 0x{code:02x} {}", words::reason(*code))
        });
        let all: Vec<String> = refusal.into_iter().chain(filters).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

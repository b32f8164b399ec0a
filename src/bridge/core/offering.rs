//! What is handed in: QoS 0 goes at once or never, the rest waits for its commit.

use super::{Cause, Core};
use crate::bridge::intake::Offered;
use crate::limits::{COMMIT_ROWS, OUT_BYTES};
use crate::logic::echo::Echoes;
use crate::logic::marks;
use crate::model::{Moment, Qos};
use crate::mqtt::client;

impl Core {
    /// Takes a message in. `unsent` as in [`Core::turn`].
    pub(in crate::bridge) fn offer(&mut self, offered: Offered, now: Moment, unsent: usize) {
        if offered.qos == Qos::AtMostOnce {
            return self.offer_qos0(&offered, now, unsent);
        }
        self.waiting_answers += usize::from(offered.answer.is_some());
        self.waiting_since.get_or_insert(now);
        self.waiting.push_back(offered);
    }

    /// QoS 0 is not stored: it goes now or never, also while the store cannot commit. Ahead of the acknowledged messages of the same turn, which
    /// does not matter: order is kept for each QoS.
    fn offer_qos0(&mut self, offered: &Offered, now: Moment, unsent: usize) {
        let bytes = offered.topic.as_str().len() + offered.message.payload.len();
        let records_wait = self.backlog() > 0 || self.link.as_ref().is_some_and(|link| !link.resend.is_empty());
        if self.is_online() && !self.pacing.admits_qos0(bytes, records_wait, now) {
            return self.drops.add_unstored(Cause::Rate, 1, offered.at);
        }
        let travelling = offered.message.properties.as_deref().cloned().unwrap_or_default();
        let travelling = marks::put(travelling, self.settings.gateway.as_str(), None);
        let fits = offered.message.payload.len() <= self.settings.limits.max_payload;
        let sent = match &mut self.link {
            Some(link) if fits && link.is_online() && unsent + link.replies.len() + link.unstored.len() < OUT_BYTES => {
                let publish = client::Outgoing {
                    topic: offered.topic.as_str(),
                    alias: None,
                    payload: &offered.message.payload,
                    qos: Qos::AtMostOnce,
                    retain: offered.retain && link.retain,
                    dup: false,
                    pkid: 0,
                    properties: Some(&travelling),
                };
                if self.peer.is_none() && link.comes_back(&self.settings.inward, &offered.topic) {
                    self.echoes.sent(Echoes::mark(offered.topic.as_str(), &offered.message.payload), now);
                }
                // It leaves ahead of the replies that wait for a commit, and so of the numbers that these give out.
                if link.replies.is_empty() {
                    link.aliases.put(&mut link.unstored, link.version, &publish, link.max_packet)
                } else {
                    client::put_publish(&mut link.unstored, link.version, &publish, link.max_packet)
                }
            }
            _ => false,
        };
        if sent {
            self.pacing.take_qos0(bytes, now);
        } else {
            self.drops.add_unstored(Cause::Qos0, 1, offered.at);
        }
    }

    /// Whether the intake is worth emptying into [`Core::offer`], and by how many.
    pub(in crate::bridge) fn room_for_intake(&self) -> usize {
        if self.caps.blocked.is_some() {
            return 0;
        }
        crate::limits::COMMIT_ROWS_MAX.saturating_sub(self.waiting.len())
    }

    /// How many messages may wait for the commit that is due after the linger; 0 when none is.
    pub(in crate::bridge) fn patience(&self) -> usize {
        if self.caps.blocked.is_some() {
            return usize::MAX;
        }
        let lingers = self.waiting_since.is_some() && self.fault.is_none();
        if lingers { COMMIT_ROWS.saturating_sub(self.waiting.len()) } else { 0 }
    }

    pub(super) fn intake_due(&self, now: Moment) -> bool {
        if self.caps.blocked.is_some() {
            return false;
        }
        self.waiting_answers > 0
            || self.waiting.len() >= COMMIT_ROWS
            || self.waiting_since.is_some_and(|since| now >= since + self.settings.outbox.linger)
    }
}

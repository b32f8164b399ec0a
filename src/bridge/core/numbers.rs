//! Whether the cloud gets topics by number. Aliases spare bytes, and are worth no connection.

use super::Core;
use crate::limits::ALIAS_ENDS;

/// What is known of a cloud and its topic aliases.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    off: bool,
    /// It has taken a message by number: whatever it closes for, that is not it.
    proven: bool,
    /// Connections that ended without its having taken the message that went by number.
    ends: u32,
}

impl Numbers {
    pub(super) fn are_off(&self) -> bool {
        self.off
    }
}

impl Core {
    /// The cloud said DISCONNECT with this reason.
    pub(super) fn dismissed_over_aliases(&mut self, reason: u8) {
        let used = self.link.as_ref().is_some_and(|link| link.aliases.given() > 0);
        if used && [PROTOCOL_ERROR, TOPIC_ALIAS_INVALID].contains(&reason) {
            self.no_more_aliases(&format!("0x{reason:02x}"));
        }
    }

    /// The connection ended without a word. A cloud that closes over bytes it has not read looks like a line that breaks.
    pub(super) fn ended_over_aliases(&mut self) {
        let by_number = self.link.as_ref().and_then(|link| link.aliases.first_by_number());
        if by_number.is_none() || self.aliases.proven {
            return;
        }
        self.aliases.ends += 1;
        if self.aliases.ends >= ALIAS_ENDS {
            self.no_more_aliases("none");
        }
    }

    /// The cloud took this message further.
    pub(super) fn took_number(&mut self, pkid: u16) {
        if !self.aliases.proven && self.link.as_ref().is_some_and(|link| link.aliases.first_by_number() == Some(pkid)) {
            self.aliases.proven = true;
        }
    }

    fn no_more_aliases(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.aliases.off, true) {
            let bridge = self.settings.id.as_str();
            tracing::info!(bridge, reason, "the cloud may have tripped over a topic alias: it gets none any more");
        }
    }
}

/// Reasons of DISCONNECT (MQTT 5 §3.14.2.1) that a topic alias may be behind.
const PROTOCOL_ERROR: u8 = 0x82;
const TOPIC_ALIAS_INVALID: u8 = 0x94;

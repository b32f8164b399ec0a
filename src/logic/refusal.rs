//! What a cloud refuses and may take later: when it is asked again, and when its refusal is final.
//!
//! MQTT 5 ends a handshake with a reason of 0x80 or above and has no word for "not now". Which of the reasons pass by themselves is
//! therefore ours to say ([`lasts`]). After one that may, nothing new is said until a pause is over; then one message is tried alone, and
//! the window opens when it is taken. So a cloud that refuses everything is asked once a pause, whatever the window.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::{REFUSED_PAUSE_MAX, REFUSED_PAUSE_MIN, REFUSED_TRIES};
use crate::model::{Moment, Seq};

/// How long a reason holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// The same message would be refused again, however often it is said.
    Forever,
    /// It says nothing of the cause, which may be the message or the moment: tried again, [`REFUSED_TRIES`] times in all.
    Perhaps,
    /// It is about the moment: tried again until the cloud takes it, or a limit of the store ends it.
    AWhile,
}

/// What a reason of PUBACK or PUBREC of 0x80 or above means for the message [MQTT-3.4.2.1, MQTT-3.5.2.1].
///
/// 0x87 not authorized, 0x90 topic name invalid, 0x95 packet too large, 0x99 payload format invalid and codes that nobody knows are final.
pub fn lasts(reason: u8) -> Lasts {
    match reason {
        // Unspecified; implementation specific: clouds say these of an internal failure as well as of a rule of theirs.
        0x80 | 0x83 => Lasts::Perhaps,
        // Quota exceeded. The others have no place here and are said all the same by clouds that shed load.
        0x97 | 0x88 | 0x89 | 0x8b | 0x96 | 0x9f => Lasts::AWhile,
        _ => Lasts::Forever,
    }
}

/// Whether the cloud takes what it is given, and when to try again if not.
#[derive(Debug, Default)]
pub struct Refusals {
    /// The reason that is waited out.
    reason: Option<u8>,
    until: Option<Moment>,
    span: Duration,
    /// How often each message was refused that waits for another try: no more of them than fit into a window.
    tries: BTreeMap<Seq, u32>,
}

impl Refusals {
    /// The cloud refused a message with a reason that [`Lasts::Perhaps`] or [`Lasts::AWhile`]. Returns whether it is to be tried again.
    pub fn refused(&mut self, seq: Seq, reason: u8, now: Moment) -> bool {
        let tries = self.tries.entry(seq).or_default();
        *tries += 1;
        let again = lasts(reason) == Lasts::AWhile || *tries < REFUSED_TRIES;
        if !again {
            self.tries.remove(&seq);
        }
        self.reason = Some(reason);
        // What comes in the pause was said before it: the same refusal, told by several messages of one window.
        if self.until.is_none_or(|until| now >= until) {
            let span = self.span.clamp(REFUSED_PAUSE_MIN, REFUSED_PAUSE_MAX);
            self.until = Some(now + span);
            self.span = span * 2;
        }
        again
    }

    /// The cloud took a message. Returns whether it takes messages again after a time in which it did not.
    pub fn taken(&mut self, seq: Seq, now: Moment) -> bool {
        self.tries.remove(&seq);
        // Said before the pause began, it tells nothing.
        if self.until.is_none_or(|until| now < until) {
            return false;
        }
        (self.until, self.span, self.reason) = (None, Duration::ZERO, None);
        true
    }

    /// A message is over for another reason.
    pub fn forget(&mut self, seq: Seq) {
        self.tries.remove(&seq);
    }

    /// All messages wait anew, or are others: each is counted from its first refusal on.
    pub fn forget_all(&mut self) {
        self.tries.clear();
    }

    /// Until when nothing is to be said; `None` while the cloud takes what it is given.
    pub fn pause(&self) -> Option<Moment> {
        self.until
    }

    /// Whether messages go one at a time.
    pub fn is_probing(&self) -> bool {
        self.until.is_some()
    }

    /// The reason that is waited out.
    pub fn reason(&self) -> Option<u8> {
        self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn the_pause_doubles_with_every_try_and_not_with_every_message_of_one_window() {
        let mut refusals = Refusals::default();
        for seq in 1..=50 {
            assert!(refusals.refused(Seq(seq), 0x97, at(0)));
        }
        assert_eq!((refusals.pause(), refusals.reason()), (Some(at(1)), Some(0x97)));
        refusals.refused(Seq(1), 0x97, at(1));
        assert_eq!(refusals.pause(), Some(at(3)));
        let mut now = at(3);
        for _ in 0..20 {
            refusals.refused(Seq(1), 0x97, now);
            now = refusals.pause().unwrap();
        }
        refusals.refused(Seq(1), 0x97, now);
        assert_eq!(refusals.pause(), Some(now + REFUSED_PAUSE_MAX), "and no further");
    }

    #[test]
    fn a_message_that_is_taken_after_the_pause_ends_it_and_one_said_before_it_does_not() {
        let mut refusals = Refusals::default();
        refusals.refused(Seq(2), 0x97, at(10));
        assert!(!refusals.taken(Seq(1), at(10)));
        assert!(refusals.is_probing());
        assert!(refusals.taken(Seq(2), at(11)));
        assert_eq!((refusals.pause(), refusals.reason(), refusals.is_probing()), (None, None, false));
        assert!(!refusals.taken(Seq(3), at(12)), "told once");
        refusals.refused(Seq(4), 0x97, at(20));
        assert_eq!(refusals.pause(), Some(at(21)), "the next refusal starts anew");
    }

    #[test]
    fn a_reason_without_a_cause_is_final_after_some_tries_and_a_quota_never() {
        let mut refusals = Refusals::default();
        let tries = |refusals: &mut Refusals, reason| (1..100).find(|_| !refusals.refused(Seq(1), reason, at(0)));
        assert_eq!(tries(&mut refusals, 0x80), usize::try_from(REFUSED_TRIES).ok());
        assert_eq!(tries(&mut refusals, 0x83), usize::try_from(REFUSED_TRIES).ok(), "counted anew");
        assert_eq!(tries(&mut refusals, 0x97), None);
    }

    #[test]
    fn what_is_wrong_with_the_message_is_final() {
        for reason in [0x87, 0x90, 0x95, 0x99, 0x9b, 0xff] {
            assert_eq!(lasts(reason), Lasts::Forever, "0x{reason:02x}");
        }
    }
}

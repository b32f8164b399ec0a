//! What a 3.1.1 cloud sends back to whom it came from.
//!
//! Only MQTT 5 has "no local". Where our own `in` rules match what we publish, a 3.1.1 cloud sends us each of our messages once
//! [MQTT-3.3.5-1]. Nothing in it says so; it is known by topic and payload, each message sent for one that comes.

use std::collections::VecDeque;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::limits::{ECHO_WAIT, ECHOES_MAX};
use crate::model::Moment;

/// What was sent and has not come back.
#[derive(Debug, Default)]
pub struct Echoes {
    sent: VecDeque<(u64, Moment)>,
}

impl Echoes {
    /// What a message is known by: SipHash-1-3 of topic, 0xff (which no UTF-8 has), the payload's length (64 bits, little endian) and payload.
    ///
    /// Bridges keep it on disk for handshakes that are half done (docs/decisions/0023). So it is the same on each processor and in each
    /// release of Rust, which the standard library's hasher does not promise; on 64 bits little endian it is what that made until now.
    pub fn mark(topic: &str, payload: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write(topic.as_bytes());
        hasher.write(&[0xff]);
        hasher.write(&(payload.len() as u64).to_le_bytes());
        hasher.write(payload);
        hasher.finish()
    }

    /// A message was sent that our own subscriptions match. Beyond [`ECHOES_MAX`] the oldest is forgotten.
    pub fn sent(&mut self, mark: u64, now: Moment) {
        if self.sent.len() >= ECHOES_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((mark, now));
    }

    /// A message came. Returns when it was sent, if it is one that was.
    pub fn came(&mut self, mark: u64, now: Moment) -> Option<Moment> {
        while self.sent.front().is_some_and(|(_, at)| now.since(*at) > ECHO_WAIT) {
            self.sent.pop_front();
        }
        let found = self.sent.iter().position(|(sent, _)| *sent == mark);
        found.and_then(|index| self.sent.remove(index)).map(|(_, at)| at)
    }
}

/// Messages that one gateway may hand us in two ways: its bridge pushes them here, and ours fetches them there.
///
/// Nothing that the two copies have in common names them: what was fetched was never stored. They are told by gateway, topic and payload, each
/// that came by one way for one that comes by the other. So as many are told as came by the way that brought more of them, and a message
/// that is missing on one way is made up for by the other.
#[derive(Debug, Default)]
pub struct Doubles([Echoes; 2]);

impl Doubles {
    /// When the message has come by the other way, if it has.
    pub fn came_before(&mut self, mark: u64, pushed: bool, now: Moment) -> Option<Moment> {
        let [mine, other] = &mut self.0;
        let (mine, other) = if pushed { (mine, other) } else { (other, mine) };
        let before = other.came(mark, now);
        if before.is_none() {
            mine.sent(mark, now);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn each_message_that_was_sent_comes_back_once() {
        let mut echoes = Echoes::default();
        let (on, off) = (Echoes::mark("a", b"on"), Echoes::mark("a", b"off"));
        assert_ne!(on, Echoes::mark("b", b"on"));
        echoes.sent(on, at(0));
        echoes.sent(on, at(1));
        let came = [on, off, on, on].map(|mark| echoes.came(mark, at(2)));
        assert_eq!(came, [Some(at(0)), None, Some(at(1)), None], "the fourth is somebody else's");
    }

    #[test]
    fn a_mark_in_a_file_is_known_to_each_build() {
        assert_eq!(Echoes::mark("site/door", b"{\"value\":1}"), 785_269_132_020_225_778);
    }

    #[test]
    fn of_two_ways_the_one_that_brings_more_is_heard() {
        let mut doubles = Doubles::default();
        let mut told =
            |ways: &[bool]| ways.iter().filter(|pushed| doubles.came_before(7, **pushed, at(0)).is_none()).count();
        assert_eq!(told(&[true, false]), 1);
        assert_eq!(told(&[false, false, true, true]), 2);
        assert_eq!(told(&[true, true, true, false, false, true, false]), 4, "one was lost on the other way");
    }

    #[test]
    fn what_does_not_come_back_is_forgotten() {
        let mut echoes = Echoes::default();
        echoes.sent(1, at(0));
        assert_eq!(echoes.came(1, at(61)), None);
        for mark in 0..=u64::try_from(ECHOES_MAX).unwrap() {
            echoes.sent(mark, at(100));
        }
        assert_eq!([echoes.came(0, at(100)), echoes.came(1, at(100))], [None, Some(at(100))]);
    }
}

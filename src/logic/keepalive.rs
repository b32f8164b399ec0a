//! When to ask the cloud whether it is still there, and when to give it up.

use std::time::Duration;

use crate::limits::ANSWER_WAIT;
use crate::model::Moment;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send a PINGREQ and say so.
    Ping,
    /// A PINGRESP did not come: the link is dead.
    Dead,
}

/// Keep alive of one connection.
///
/// A ping goes out when nothing was sent for the interval [MQTT-3.1.2-22], and also when nothing was *received* for as long: a gateway
/// that publishes QoS 0 all day into a black hole would otherwise never notice.
#[derive(Debug, Clone, Copy)]
pub struct KeepAlive {
    interval: Duration,
    answer_within: Duration,
    sent: Moment,
    received: Moment,
    asked: Option<Moment>,
    /// Since when the cloud owes an answer and has said nothing.
    owed: Option<Moment>,
}

impl KeepAlive {
    /// Starts with a connection. An interval of zero turns it off.
    pub fn new(interval: Duration, answer_within: Duration, now: Moment) -> Self {
        Self { interval, answer_within, sent: now, received: now, asked: None, owed: None }
    }

    /// Bytes went out.
    pub fn sent(&mut self, now: Moment) {
        self.sent = now;
    }

    /// Bytes came in. Any packet is a sign of life, not only PINGRESP.
    pub fn received(&mut self, now: Moment) {
        self.received = now;
        self.asked = None;
        self.owed = self.owed.map(|_| now);
    }

    /// Whether the cloud owes us an answer to something that was sent: then its silence counts from here, not from the keep alive alone.
    pub fn awaits(&mut self, owed: bool, now: Moment) {
        self.owed = if owed { self.owed.or(Some(now)) } else { None };
    }

    /// A PINGREQ went out.
    pub fn asked(&mut self, now: Moment) {
        self.sent = now;
        self.asked.get_or_insert(now);
    }

    /// The PINGREQ still waits behind other bytes: the time for its answer has not begun.
    pub fn not_asked_yet(&mut self, now: Moment) {
        if let Some(asked) = &mut self.asked {
            *asked = now;
        }
    }

    /// The cloud wants another interval than we asked for.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// When something will be due, if nothing is sent or received until then; `None`: keep alive is off, and nothing is owed.
    pub fn next(&self) -> Option<Moment> {
        if let Some(asked) = self.asked {
            return Some(asked + self.answer_within);
        }
        let idle = (!self.interval.is_zero()).then(|| self.sent.min(self.received) + self.interval);
        [idle, self.owed.map(|owed| owed + ANSWER_WAIT)].into_iter().flatten().min()
    }

    /// What is due.
    pub fn due(&self, now: Moment) -> Due {
        match (self.next(), self.asked) {
            (Some(next), Some(_)) if now >= next => Due::Dead,
            (Some(next), None) if now >= next => Due::Ping,
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn keep_alive() -> KeepAlive {
        KeepAlive::new(Duration::from_secs(30), Duration::from_secs(10), at(0))
    }

    #[test]
    fn an_idle_link_is_asked_and_given_up_when_it_does_not_answer() {
        let mut link = keep_alive();
        assert_eq!((link.due(at(29)), link.next()), (Due::Nothing, Some(at(30))));
        assert_eq!(link.due(at(30)), Due::Ping);
        link.asked(at(30));
        assert_eq!((link.due(at(39)), link.next()), (Due::Nothing, Some(at(40))));
        assert_eq!(link.due(at(40)), Due::Dead);
    }

    #[test]
    fn any_packet_is_an_answer() {
        let mut link = keep_alive();
        link.asked(at(30));
        link.received(at(35));
        assert_eq!((link.due(at(59)), link.next()), (Due::Nothing, Some(at(60))));
    }

    #[test]
    fn a_busy_sender_still_asks_a_silent_cloud() {
        let mut link = keep_alive();
        for second in 1..=30 {
            link.sent(at(second));
        }
        assert_eq!(link.due(at(30)), Due::Ping);
    }

    #[test]
    fn a_cloud_that_owes_an_answer_is_asked_before_a_long_keep_alive_is_over() {
        let mut link = KeepAlive::new(Duration::from_secs(600), Duration::from_secs(10), at(0));
        link.awaits(true, at(100));
        link.awaits(true, at(110));
        assert_eq!((link.due(at(119)), link.next()), (Due::Nothing, Some(at(120))));
        assert_eq!(link.due(at(120)), Due::Ping);
        link.asked(at(120));
        assert_eq!(link.due(at(130)), Due::Dead);
        link.received(at(130));
        assert_eq!(link.next(), Some(at(150)), "alive, and it owes the answer still");
        link.awaits(false, at(131));
        assert_eq!(link.next(), Some(at(720)), "nothing was sent since the ping");
    }

    #[test]
    fn an_interval_of_zero_never_asks() {
        let link = KeepAlive::new(Duration::ZERO, Duration::from_secs(10), at(0));
        assert_eq!((link.due(at(1_000_000)), link.next()), (Due::Nothing, None));
    }
}

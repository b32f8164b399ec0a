//! How many messages may be on the wire to the cloud at once.

use crate::limits::{QOS2_REFUSALS, WINDOW_GROWS_AFTER, WINDOW_UNSTATED_QOS2};
use crate::model::Qos;

/// The window, from what was configured and what the cloud says of itself.
///
/// MQTT 5 clouds state their limit (Receive Maximum). On 3.1.1 nobody does, and some, a stock Mosquitto among them, hang up on a client
/// that has more QoS 2 messages in flight than they allow (20): a window above it is a livelock. There QoS 2 starts at
/// [`WINDOW_UNSTATED_QOS2`], just below, and is halved, down to 1, whenever the cloud hangs up on it.
#[derive(Debug, Clone)]
pub struct Window {
    configured: u16,
    stated: Option<u16>,
    unstated_qos2: u16,
    /// Times in a row that the cloud hung up on QoS 2 messages without having taken one further.
    strikes: u8,
    /// Times that it closed on a single one, in order, since it last took one further.
    refusals: u8,
    /// QoS 2 messages it has taken further since it hung up last, or since the window grew.
    taken: u32,
    /// One message at a time: the cloud has refused what it may take later.
    probing: bool,
    /// Whether it has ever answered one as QoS 2.
    knows_qos2: bool,
    /// Whether it is held to have no QoS 2.
    refuses_qos2: bool,
}

/// What was learnt from being hung up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learnt {
    /// The QoS 2 window is this from now on.
    Smaller(u16),
    /// The cloud has no QoS 2: it gets QoS 1 instead.
    NoQos2,
}

impl Window {
    /// A window of `configured` messages.
    pub fn new(configured: u16) -> Self {
        Self {
            configured: configured.max(1),
            stated: None,
            unstated_qos2: WINDOW_UNSTATED_QOS2,
            strikes: 0,
            refusals: 0,
            taken: 0,
            probing: false,
            knows_qos2: false,
            refuses_qos2: false,
        }
    }

    /// A reload may change the configured size; what was learnt about the cloud stays.
    pub fn configure(&mut self, configured: u16) {
        self.configured = configured.max(1);
    }

    /// The cloud accepted us. `stated` is its Receive Maximum, 65,535 where MQTT 5 leaves it out, `None` on 3.1.1.
    pub fn connected(&mut self, stated: Option<u16>) {
        self.stated = stated;
    }

    /// Whether messages go one at a time.
    pub fn probe(&mut self, probing: bool) {
        self.probing = probing;
    }

    /// Most QoS 1 and 2 messages in flight together.
    pub fn total(&self) -> usize {
        if self.probing { 1 } else { self.unprobed() }
    }

    fn unprobed(&self) -> usize {
        usize::from(self.stated.map_or(self.configured, |stated| self.configured.min(stated).max(1)))
    }

    /// Most QoS 2 messages in flight.
    pub fn qos2(&self) -> usize {
        match self.stated {
            Some(_) => self.total(),
            None => self.total().min(usize::from(self.unstated_qos2)),
        }
    }

    /// The highest QoS that the cloud takes, as far as hanging up tells.
    pub fn max_qos(&self) -> Qos {
        if self.refuses_qos2 { Qos::AtLeastOnce } else { Qos::ExactlyOnce }
    }

    /// Whether one more of this QoS may go, with so many in flight.
    pub fn admits(&self, qos: Qos, in_flight: usize, in_flight_qos2: usize) -> bool {
        in_flight < self.total() && (qos != Qos::ExactlyOnce || in_flight_qos2 < self.qos2())
    }

    /// The cloud said PUBREC or PUBCOMP, now or to an earlier process: it has QoS 2, however often it hangs up. Returns whether that is news.
    pub fn knows_qos2(&mut self) -> bool {
        self.refuses_qos2 = false;
        !std::mem::replace(&mut self.knows_qos2, true)
    }

    /// Whether the cloud is known to have QoS 2.
    pub fn has_qos2(&self) -> bool {
        self.knows_qos2
    }

    /// The cloud has taken a QoS 2 message further. A window that was made smaller grows by one for every [`WINDOW_GROWS_AFTER`] of them:
    /// the cloud that hung up may only have been restarted.
    pub fn took_qos2(&mut self) {
        if self.stated.is_some() || self.unstated_qos2 >= WINDOW_UNSTATED_QOS2 {
            return;
        }
        self.taken += 1;
        if self.taken >= WINDOW_GROWS_AFTER {
            self.taken = 0;
            self.unstated_qos2 += 1;
        }
    }

    /// The connection ended with so many QoS 2 messages in flight; `progressed` when the cloud had taken at least one further on it; `closed` when
    /// the cloud closed it in order. Returns what was learnt, where something was.
    ///
    /// A full window is to blame at once. A part of one may be too much as well, but a cloud that restarts hangs up just so: there it
    /// takes a second time in a row without any progress. A cloud that has never answered one as QoS 2, and closes on a single one
    /// [`QOS2_REFUSALS`] times, has no QoS 2: MQTT 3.1.1 gives it no other way to say so (NATS does this). A line that breaks says nothing of that,
    /// and a message that may be at the cloud must not be made another for it.
    pub fn hung_up(&mut self, in_flight_qos2: usize, progressed: bool, closed: bool) -> Option<Learnt> {
        if self.stated.is_some() || in_flight_qos2 < 1 {
            return None;
        }
        if progressed {
            (self.strikes, self.refusals) = (0, 0);
        }
        if in_flight_qos2 < 2 {
            if self.knows_qos2 || progressed || !closed {
                return None;
            }
            self.refusals = self.refusals.saturating_add(1);
            self.refuses_qos2 = self.refusals >= QOS2_REFUSALS;
            return self.refuses_qos2.then_some(Learnt::NoQos2);
        }
        self.strikes = self.strikes.saturating_add(u8::from(!progressed));
        if in_flight_qos2 < self.qos2() && self.strikes < 2 {
            return None;
        }
        (self.strikes, self.taken) = (0, 0);
        self.unstated_qos2 = u16::try_from(in_flight_qos2.min(self.qos2()) / 2).unwrap_or(1).max(1);
        Some(Learnt::Smaller(self.unstated_qos2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloud_s_own_word_caps_the_window() {
        let mut window = Window::new(100);
        window.connected(Some(10));
        assert_eq!((window.total(), window.qos2()), (10, 10));
        window.connected(Some(65_535));
        assert_eq!((window.total(), window.qos2()), (100, 100));
        assert!(window.admits(Qos::ExactlyOnce, 99, 99));
        assert!(!window.admits(Qos::AtLeastOnce, 100, 0));
    }

    #[test]
    fn unstated_qos_2_starts_below_twenty_and_is_halved_when_the_cloud_hangs_up_on_it() {
        let mut window = Window::new(100);
        window.connected(None);
        assert_eq!((window.total(), window.qos2()), (100, 19));
        assert_eq!(window.hung_up(18, true, true), None, "the window was not full: it is not to blame");
        let halved: Vec<_> = (0..5).map(|_| window.hung_up(window.qos2(), true, true)).collect();
        assert_eq!(halved, [Some(9), Some(4), Some(2), Some(1), None].map(|to| to.map(Learnt::Smaller)));
        assert!(window.admits(Qos::AtLeastOnce, 50, 1), "QoS 1 is not held back by it");
        assert!(!window.admits(Qos::ExactlyOnce, 50, 1));
    }

    #[test]
    fn less_than_a_window_is_to_blame_when_it_is_hung_up_on_twice_without_progress() {
        let mut window = Window::new(100);
        window.connected(None);
        assert_eq!(
            [window.hung_up(8, false, true), window.hung_up(8, true, true), window.hung_up(8, false, true)],
            [None; 3]
        );
        assert_eq!(window.hung_up(8, false, true), Some(Learnt::Smaller(4)));
        assert_eq!(window.hung_up(1, false, true), None, "one message at a time is all that can be offered");
    }

    #[test]
    fn a_cloud_that_hangs_up_on_a_single_qos_2_message_again_and_again_has_none() {
        let mut window = Window::new(100);
        window.connected(None);
        let learnt: Vec<_> = (0..3).map(|_| window.hung_up(1, false, true)).collect();
        assert_eq!((learnt, window.max_qos()), (vec![None, None, Some(Learnt::NoQos2)], Qos::AtLeastOnce));
    }

    #[test]
    fn a_cloud_that_has_taken_qos_2_is_never_held_to_have_none() {
        let mut window = Window::new(100);
        window.connected(None);
        assert_eq!([window.knows_qos2(), window.knows_qos2()], [true, false], "news once");
        assert!((0..100).all(|_| window.hung_up(1, false, true).is_none()));
        assert_eq!(window.max_qos(), Qos::ExactlyOnce);
    }

    #[test]
    fn a_line_that_breaks_on_a_single_message_says_nothing_of_qos_2() {
        let mut window = Window::new(100);
        window.connected(None);
        assert!((0..100).all(|_| window.hung_up(1, false, false).is_none()));
        let learnt: Vec<_> = (0..5).map(|n| window.hung_up(1, false, n % 2 == 0)).collect();
        assert_eq!(learnt, [None, None, None, None, Some(Learnt::NoQos2)], "three times in order");
        window.knows_qos2();
        assert_eq!(window.max_qos(), Qos::ExactlyOnce, "it has it after all");
    }

    #[test]
    fn a_window_made_smaller_grows_again_slowly() {
        let mut window = Window::new(100);
        window.connected(None);
        window.hung_up(window.qos2(), true, true);
        let small = window.qos2();
        for _ in 0..WINDOW_GROWS_AFTER {
            assert_eq!(window.qos2(), small);
            window.took_qos2();
        }
        assert_eq!(window.qos2(), small + 1);
        for _ in 0..100 * WINDOW_GROWS_AFTER {
            window.took_qos2();
        }
        assert_eq!(window.qos2(), usize::from(WINDOW_UNSTATED_QOS2), "and no further than it began");
    }

    #[test]
    fn a_stated_limit_is_never_halved() {
        let mut window = Window::new(100);
        window.connected(Some(20));
        assert_eq!(window.hung_up(20, false, true), None);
    }
}

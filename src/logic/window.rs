//! How many messages may be on the wire to the cloud at once.

use crate::limits::{WINDOW_GROWS_AFTER, WINDOW_UNSTATED_QOS2};
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
    /// QoS 2 messages it has taken further since it hung up last, or since the window grew.
    taken: u32,
}

impl Window {
    /// A window of `configured` messages.
    pub fn new(configured: u16) -> Self {
        Self { configured: configured.max(1), stated: None, unstated_qos2: WINDOW_UNSTATED_QOS2, strikes: 0, taken: 0 }
    }

    /// A reload may change the configured size; what was learnt about the cloud stays.
    pub fn configure(&mut self, configured: u16) {
        self.configured = configured.max(1);
    }

    /// The cloud accepted us. `stated` is its Receive Maximum, 65,535 where MQTT 5 leaves it out, `None` on 3.1.1.
    pub fn connected(&mut self, stated: Option<u16>) {
        self.stated = stated;
    }

    /// Most QoS 1 and 2 messages in flight together.
    pub fn total(&self) -> usize {
        usize::from(self.stated.map_or(self.configured, |stated| self.configured.min(stated).max(1)))
    }

    /// Most QoS 2 messages in flight.
    pub fn qos2(&self) -> usize {
        match self.stated {
            Some(_) => self.total(),
            None => self.total().min(usize::from(self.unstated_qos2)),
        }
    }

    /// Whether one more of this QoS may go, with so many in flight.
    pub fn admits(&self, qos: Qos, in_flight: usize, in_flight_qos2: usize) -> bool {
        in_flight < self.total() && (qos != Qos::ExactlyOnce || in_flight_qos2 < self.qos2())
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

    /// The cloud hung up with so many QoS 2 messages in flight; `progressed` when it had taken at least one further on that connection.
    /// Returns the new window when it was made smaller for it.
    ///
    /// A full window is to blame at once. A part of one may be too much as well, but a cloud that restarts hangs up just so: there it
    /// takes a second time in a row without any progress.
    pub fn hung_up(&mut self, in_flight_qos2: usize, progressed: bool) -> Option<u16> {
        if self.stated.is_some() || in_flight_qos2 < 2 {
            return None;
        }
        self.strikes = if progressed { 0 } else { self.strikes + 1 };
        if in_flight_qos2 < self.qos2() && self.strikes < 2 {
            return None;
        }
        (self.strikes, self.taken) = (0, 0);
        self.unstated_qos2 = u16::try_from(in_flight_qos2.min(self.qos2()) / 2).unwrap_or(1).max(1);
        Some(self.unstated_qos2)
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
        assert_eq!(window.hung_up(18, true), None, "the window was not full: it is not to blame");
        let halved: Vec<_> = (0..5).map(|_| window.hung_up(window.qos2(), true)).collect();
        assert_eq!(halved, [Some(9), Some(4), Some(2), Some(1), None]);
        assert!(window.admits(Qos::AtLeastOnce, 50, 1), "QoS 1 is not held back by it");
        assert!(!window.admits(Qos::ExactlyOnce, 50, 1));
    }

    #[test]
    fn less_than_a_window_is_to_blame_when_it_is_hung_up_on_twice_without_progress() {
        let mut window = Window::new(100);
        window.connected(None);
        assert_eq!([window.hung_up(8, false), window.hung_up(8, true), window.hung_up(8, false)], [None; 3]);
        assert_eq!(window.hung_up(8, false), Some(4));
        assert_eq!(window.hung_up(1, false), None, "one message at a time is all that can be offered");
    }

    #[test]
    fn a_window_made_smaller_grows_again_slowly() {
        let mut window = Window::new(100);
        window.connected(None);
        window.hung_up(window.qos2(), true);
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
        assert_eq!(window.hung_up(20, false), None);
    }
}

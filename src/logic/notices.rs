//! What is told of visitors without filling a log: a device that is refused tries for ever.

use std::collections::HashMap;
use std::net::IpAddr;

use super::network::network;
use crate::limits;
use crate::model::Moment;

/// What was told of whom, and when.
#[derive(Debug, Default)]
pub struct Notices(HashMap<(IpAddr, &'static str), Moment>);

impl Notices {
    /// Whether this is to be told of whoever is behind the address: for the first time, or again after [`limits::NOTICE_AGAIN`]. While more
    /// networks are remembered than there may be, of no further one.
    pub fn is_due(&mut self, address: IpAddr, what: &'static str, now: Moment) -> bool {
        let key = (network(address), what);
        if self.0.get(&key).is_some_and(|told| now.since(*told) < limits::NOTICE_AGAIN) {
            return false;
        }
        if self.0.len() >= limits::NOTICES_MAX {
            self.0.retain(|_, told| now.since(*told) < limits::NOTICE_AGAIN);
        }
        let has_room = self.0.len() < limits::NOTICES_MAX;
        if has_room {
            self.0.insert(key, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_network_is_told_of_once_in_a_while_and_no_crowd_fills_the_log() {
        let mut notices = Notices::default();
        let address = |n: u128| IpAddr::from((0x2001_0db8_u128 << 96 | n).to_be_bytes());
        let start = Moment::at(Duration::from_secs(1_000));
        assert!(notices.is_due(address(1), "handshake", start));
        assert!(!notices.is_due(address(2), "handshake", start), "of the same network");
        assert!(notices.is_due(address(1), "room", start), "something else");
        let later = start + limits::NOTICE_AGAIN;
        assert!(notices.is_due(address(1), "handshake", later));
        let crowd = (1..=10_000).filter(|n| notices.is_due(address(n << 64), "handshake", later)).count();
        assert_eq!(crowd, limits::NOTICES_MAX - 1);
        assert!(notices.is_due(address(1 << 80), "handshake", later + limits::NOTICE_AGAIN));
    }
}

//! What is done about guessing: failures slow down the answers to further failures from the same network, and nothing else. A gateway's clients
//! often share an address, and a right password is never kept waiting.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::network::network;
use crate::limits;
use crate::model::Moment;

/// Failures by network: of IPv6 by /64, since whoever has one address there has them all.
#[derive(Debug, Default)]
pub struct Failures(HashMap<IpAddr, Entry>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    count: u32,
    last: Moment,
}

impl Failures {
    /// Notes a failure. Returns how long its answer waits, and whether it is the first one in a while: one to tell.
    pub fn failed(&mut self, address: IpAddr, now: Moment) -> (Duration, bool) {
        let network = network(address);
        self.0.retain(|_, entry| now.since(entry.last) < limits::LOGIN_FAILURE_MEMORY);
        if self.0.len() >= limits::LOGIN_FAILURE_NETWORKS_MAX && !self.0.contains_key(&network) {
            return (limits::LOGIN_DELAY_MAX, false);
        }
        let entry = self.0.entry(network).or_insert(Entry { count: 0, last: now });
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        let delay = limits::LOGIN_DELAY_MIN.saturating_mul(1 << (entry.count - 1).min(10));
        (delay.min(limits::LOGIN_DELAY_MAX), entry.count == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_slow_down_and_are_forgotten() {
        let mut failures = Failures::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let start = Moment::at(Duration::from_secs(1_000));
        assert_eq!(failures.failed(address, start), (limits::LOGIN_DELAY_MIN, true));
        assert_eq!(failures.failed(address, start), (limits::LOGIN_DELAY_MIN * 2, false));
        for _ in 0..40 {
            failures.failed(address, start);
        }
        assert_eq!(failures.failed(address, start), (limits::LOGIN_DELAY_MAX, false));
        assert_eq!(failures.failed(IpAddr::from([192, 0, 2, 2]), start), (limits::LOGIN_DELAY_MIN, true));
        let of_one = |host: u16| IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, host]);
        assert_eq!(failures.failed(of_one(1), start), (limits::LOGIN_DELAY_MIN, true));
        assert_eq!(failures.failed(of_one(2), start), (limits::LOGIN_DELAY_MIN * 2, false), "the same /64");
        let next = IpAddr::from([0x2001, 0xdb8, 1, 3, 0, 0, 0, 1]);
        assert_eq!(failures.failed(next, start), (limits::LOGIN_DELAY_MIN, true));
        assert_eq!(failures.failed(address, start + limits::LOGIN_FAILURE_MEMORY), (limits::LOGIN_DELAY_MIN, true));
    }
}

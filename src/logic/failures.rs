//! What is done about guessing: failures slow down the answers to further failures from the same address, and nothing else. A gateway's clients
//! often share an address, and a right password is never kept waiting.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::limits;
use crate::model::Moment;

/// Failures by address.
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
        self.0.retain(|_, entry| now.since(entry.last) < limits::LOGIN_FAILURE_MEMORY);
        if self.0.len() >= limits::LOGIN_FAILURE_ADDRESSES_MAX && !self.0.contains_key(&address) {
            return (limits::LOGIN_DELAY_MAX, false);
        }
        let entry = self.0.entry(address).or_insert(Entry { count: 0, last: now });
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
        assert_eq!(failures.failed(address, start + limits::LOGIN_FAILURE_MEMORY), (limits::LOGIN_DELAY_MIN, true));
    }
}

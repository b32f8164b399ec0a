//! How often somebody may knock: connections from one network, counted by a bucket that fills with time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::network::network;
use crate::limits;
use crate::model::Moment;

/// Connections by network.
#[derive(Debug, Default)]
pub struct Knocks(HashMap<IpAddr, Bucket>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Connections that may still come.
    left: f64,
    seen: Moment,
}

const PER: Duration = Duration::from_secs(60);

impl Bucket {
    fn fill(&mut self, most: f64, now: Moment) {
        let more = now.since(self.seen).as_secs_f64() / PER.as_secs_f64() * most;
        *self = Self { left: (self.left + more).min(most), seen: now };
    }
}

impl Knocks {
    /// Whether one more may come from there, where so many may in a minute: as many at once, and the next ones as the minute passes. Networks beyond
    /// [`limits::KNOCKS_NETWORKS_MAX`] are not counted: what they can take is bounded by the number of connections.
    pub fn admit(&mut self, address: IpAddr, per_minute: u32, now: Moment) -> bool {
        let most = f64::from(per_minute);
        let network = network(address);
        if !self.0.contains_key(&network) && self.0.len() >= limits::KNOCKS_NETWORKS_MAX {
            self.0.retain(|_, bucket| {
                bucket.fill(most, now);
                bucket.left < most
            });
            if self.0.len() >= limits::KNOCKS_NETWORKS_MAX {
                return true;
            }
        }
        let bucket = self.0.entry(network).or_insert(Bucket { left: most, seen: now });
        bucket.fill(most, now);
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_come_in_a_minute_and_the_others_wait_for_none_of_them() {
        let mut knocks = Knocks::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = Moment::at(Duration::from_secs(1_000));
        let admitted = |knocks: &mut Knocks, address, now| (0..100).filter(|_| knocks.admit(address, 6, now)).count();
        assert_eq!(admitted(&mut knocks, one, start), 6);
        assert_eq!(admitted(&mut knocks, other, start), 6);
        assert_eq!(admitted(&mut knocks, one, start + Duration::from_secs(9)), 0);
        assert_eq!(admitted(&mut knocks, one, start + Duration::from_secs(21)), 2);
        assert_eq!(admitted(&mut knocks, one, start + Duration::from_secs(3_600)), 6, "no more than in a minute");
    }

    #[test]
    fn networks_that_are_quiet_are_forgotten_and_a_crowd_takes_no_more_memory() {
        let mut knocks = Knocks::default();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let start = Moment::at(Duration::from_secs(1_000));
        for n in 0..20_000 {
            assert!(knocks.admit(address(n), 6, start));
        }
        assert_eq!(knocks.0.len(), limits::KNOCKS_NETWORKS_MAX);
        let later = start + Duration::from_secs(60);
        assert!((0..7).filter(|_| knocks.admit(address(30_000), 6, later)).count() == 6, "counted again");
        assert_eq!(knocks.0.len(), 1);
    }
}

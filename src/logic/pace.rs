//! How fast messages may go to a cloud that counts them: a bucket for messages and one for bytes, each filled evenly.
//!
//! A bucket holds the share of [`RATE_BURST`], one message at least. So in any span of the rate's unit (a second, a minute, an hour) there go no
//! more than the rate plus that share; at less than ten in a second, no more than the rate. A message that is larger than the byte bucket goes when
//! the bucket is full, and what it took too much is paid back before the next.

use std::time::Duration;

use crate::limits::RATE_BURST;
use crate::model::{Moment, Quota, Rate};

/// One bucket, as the moment when it will be full again: exact in nanoseconds, and nothing to be done while nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    quota: Quota,
    full_at: Moment,
}

impl Bucket {
    /// Time in which so many flow in, rounded up: never faster than the rate.
    fn span(&self, count: u64) -> Duration {
        let nanos = self.quota.per.as_nanos().saturating_mul(count.into()).div_ceil(self.quota.count.max(1).into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn depth(&self) -> Duration {
        RATE_BURST.max(self.span(1))
    }

    /// When there is enough for so many, or the bucket is full where that is never enough.
    fn ready_at(&self, count: u64) -> Moment {
        let missing = self.depth().saturating_sub(self.span(count));
        Moment::at(self.full_at.since_start().saturating_sub(missing))
    }

    fn take(&mut self, count: u64, now: Moment) {
        self.full_at = self.full_at.max(now) + self.span(count);
    }
}

/// The pace of one bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Pace {
    /// With full buckets; `None` never holds anything up.
    pub fn new(rate: Option<Rate>) -> Self {
        let bucket = |quota| Bucket { quota, full_at: Moment::ZERO };
        let (messages, bytes) = rate.map_or((None, None), |rate| (rate.messages, rate.bytes));
        Self { messages: messages.map(bucket), bytes: bytes.map(bucket) }
    }

    /// The same at one part in `parts` of the rate.
    pub fn part(rate: Option<Rate>, parts: u32) -> Self {
        let part = |quota: Quota| Quota { per: quota.per.saturating_mul(parts), ..quota };
        Self::new(rate.map(|rate| Rate { messages: rate.messages.map(part), bytes: rate.bytes.map(part) }))
    }

    /// Another rate from here on. What was taken from the buckets stays taken.
    pub fn configure(&mut self, to: Pace) {
        let keep = |old: Option<Bucket>, new: Option<Bucket>| {
            new.map(|new| Bucket { full_at: old.map_or(Moment::ZERO, |old| old.full_at), ..new })
        };
        *self = Self { messages: keep(self.messages, to.messages), bytes: keep(self.bytes, to.bytes) };
    }

    /// Whether a message of so many bytes may go now.
    pub fn admits(&self, bytes: usize, now: Moment) -> bool {
        now >= self.ready_at(1, bytes)
    }

    /// A message of so many bytes goes.
    pub fn take(&mut self, bytes: usize, now: Moment) {
        if let Some(bucket) = &mut self.messages {
            bucket.take(1, now);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes as u64, now);
        }
    }

    /// When so many messages of so many bytes together may go, or as many of them as go at once.
    pub fn ready_at(&self, messages: u64, bytes: usize) -> Moment {
        let messages = self.messages.map(|bucket| bucket.ready_at(messages));
        let bytes = self.bytes.map(|bucket| bucket.ready_at(bytes as u64));
        messages.max(bytes).unwrap_or(Moment::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn messages(count: u64, per: Duration) -> Pace {
        Pace::new(Some(Rate { messages: Some(Quota { count, per }), bytes: None }))
    }

    fn bytes(count: u64) -> Pace {
        Pace::new(Some(Rate { messages: None, bytes: Some(Quota { count, per: SECOND }) }))
    }

    /// Moments, in milliseconds from the first, at which messages of this size go when there are always more.
    fn greedy(mut pace: Pace, size: usize, count: usize) -> Vec<u128> {
        let start = Moment::at(SECOND * 100);
        let mut now = start;
        let mut went = Vec::new();
        while went.len() < count {
            now = now.max(pace.ready_at(1, size));
            assert!(pace.admits(size, now), "ready, and not admitted");
            pace.take(size, now);
            went.push(now.since(start).as_millis());
        }
        went
    }

    fn most_within(went: &[u128], span_ms: u128) -> usize {
        let within = |from: &u128| went.iter().filter(|at| *at >= from && **at < from + span_ms).count();
        went.iter().map(within).max().unwrap()
    }

    #[test]
    fn in_any_second_there_go_no_more_than_the_rate_and_its_burst() {
        let went = greedy(messages(50, SECOND), 10, 500);
        assert_eq!(went[..7], [0, 0, 0, 0, 0, 20, 40], "a tenth of a second's share at once, then evenly");
        assert_eq!(most_within(&went, 1_000), 54);
        assert_eq!(went[499], 20 * 495);
    }

    #[test]
    fn a_slow_rate_is_kept_to_the_message() {
        let went = greedy(messages(30, SECOND * 60), 10, 100);
        assert_eq!(went[..3], [0, 2_000, 4_000]);
        assert_eq!(most_within(&went, 60_000), 30);
    }

    #[test]
    fn a_message_larger_than_the_bucket_goes_alone_and_pays_back() {
        // 100 bytes at once; 1,000 a second.
        let mut pace = bytes(1_000);
        let start = Moment::at(SECOND * 100);
        assert!(pace.admits(5_000, start));
        pace.take(5_000, start);
        assert!(!pace.admits(1, start + Duration::from_millis(4_900)));
        assert!(pace.admits(1, start + Duration::from_millis(4_901)));
        assert_eq!(pace.ready_at(1, 5_000), start + SECOND * 5, "the next of them when the bucket is full again");
        assert_eq!(greedy(bytes(1_000), 5_000, 4), [0, 5_000, 10_000, 15_000]);
    }

    #[test]
    fn both_limits_hold_together() {
        let rate = |messages, bytes| Rate {
            messages: Some(Quota { count: messages, per: SECOND }),
            bytes: Some(Quota { count: bytes, per: SECOND }),
        };
        assert_eq!(greedy(Pace::new(Some(rate(10, 1_000_000))), 10, 3), [0, 100, 200]);
        assert_eq!(greedy(Pace::new(Some(rate(1_000, 1_000))), 100, 3), [0, 100, 200]);
    }

    #[test]
    fn it_says_when_a_handful_may_go_and_never_asks_for_more_than_the_bucket_holds() {
        let mut pace = messages(50, SECOND);
        let start = Moment::at(SECOND);
        for _ in 0..5 {
            pace.take(1, start);
        }
        let after = |messages| pace.ready_at(messages, 1).since(start).as_millis();
        assert_eq!([after(1), after(3), after(5), after(1_000)], [20, 60, 100, 100]);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pace = Pace::new(None);
        for _ in 0..1_000 {
            pace.take(1 << 30, Moment::ZERO);
        }
        assert!(pace.admits(usize::MAX, Moment::ZERO));
    }

    #[test]
    fn a_reload_does_not_fill_the_bucket() {
        let mut pace = messages(1, SECOND);
        let start = Moment::at(SECOND);
        pace.take(1, start);
        pace.configure(messages(2, SECOND));
        assert!(!pace.admits(1, start));
        assert!(pace.admits(1, start + SECOND));
    }
}

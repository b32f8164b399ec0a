//! How long to wait before the next try: exponential, with full jitter, the randomness passed in.

use std::time::Duration;

/// Waits between tries. The span doubles from `min` to `max`; the wait is a random part of it, never less than `min`.
///
/// Full jitter, because a hundred boxes that lost the same thing at the same moment must not all come back at the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    span: Duration,
}

impl Backoff {
    /// Starts at `min`. A `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), span: min }
    }

    /// The wait before the next try. `random` is in 0..=1.
    pub fn next_wait(&mut self, random: f64) -> Duration {
        let wait = self.min + self.span.saturating_sub(self.min).mul_f64(random.clamp(0.0, 1.0));
        self.span = self.span.saturating_mul(2).min(self.max);
        wait
    }

    /// Starts again at `min`: the last try held.
    pub fn reset(&mut self) {
        self.span = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: &mut Backoff, random: f64, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.next_wait(random).as_millis()).collect()
    }

    #[test]
    fn the_longest_waits_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(waits(&mut backoff, 1.0, 6), [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(waits(&mut backoff, 1.0, 2), [100, 200]);
    }

    #[test]
    fn no_wait_is_shorter_than_the_least() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(waits(&mut backoff, 0.0, 6), [100; 6]);
        assert_eq!(waits(&mut backoff, -7.0, 1), [100]);
    }

    #[test]
    fn a_limit_below_the_least_wait_is_no_panic() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(waits(&mut backoff, 0.5, 3), [2000; 3]);
    }
}

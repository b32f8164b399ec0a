//! When a counter's total is read and written: read before it is told, written
//! within seconds of the first pulse of a run, then at most once a minute while it rises, and at the end.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::limits::{STORE_RETRY, TOTALS_FIRST_WRITE, TOTALS_LAST_WORD, TOTALS_WRITE};
use crate::model::{LineTotals, Moment, SensorId};
use crate::ports::{Recall, Remembered, Totals};

/// What is remembered of one sensor.
pub(super) struct Ledger {
    sensor: SensorId,
    totals: Arc<dyn Totals>,
    clock: Arc<dyn Clock>,
    state: State,
    /// When what is not yet in the file is written.
    write_at: Option<Moment>,
    /// How long what is not yet in the file may stay so.
    patience: Duration,
}

enum State {
    /// The sensor counts nothing.
    Idle,
    /// What was remembered is being read.
    Reading(Recall),
    /// It could not be; it is tried again then.
    Failed(Moment),
    /// This is in the file.
    Written(LineTotals),
    /// The second is being written; the first is in the file if that fails.
    Writing(LineTotals, LineTotals, Remembered),
}

impl Ledger {
    /// Reads what is remembered, if the sensor counts anything.
    pub(super) fn new(sensor: SensorId, counts: bool, totals: Arc<dyn Totals>, clock: Arc<dyn Clock>) -> Self {
        let state = if counts { State::Reading(totals.recall(&sensor)) } else { State::Idle };
        Self { sensor, totals, clock, state, write_at: None, patience: TOTALS_FIRST_WRITE }
    }

    /// Resolves when what was remembered is known, or cannot be read and why; then it is tried again. Carries writing on meanwhile. Cancel safe.
    pub(super) async fn recalled(&mut self) -> Result<LineTotals, Arc<str>> {
        loop {
            match &mut self.state {
                State::Reading(recall) => match recall.await {
                    Ok(totals) => {
                        let totals = totals.unwrap_or_default();
                        self.state = State::Written(totals);
                        return Ok(totals);
                    }
                    Err(reason) => {
                        self.state = State::Failed(self.clock.now() + STORE_RETRY);
                        return Err(reason);
                    }
                },
                State::Failed(at) => {
                    tokio::time::sleep(at.since(self.clock.now())).await;
                    self.state = State::Reading(self.totals.recall(&self.sensor));
                }
                State::Writing(before, after, remembered) => {
                    // That the disk is full is told by whoever owns the file.
                    let is_written = remembered.await;
                    let in_file = if is_written { *after } else { *before };
                    if is_written {
                        self.patience = TOTALS_WRITE;
                    }
                    self.state = State::Written(in_file);
                }
                State::Idle | State::Written(_) => std::future::pending().await,
            }
        }
    }

    /// Looks whether there is something to write, and writes it when it is time. `None` while nobody knows the whole total.
    pub(super) fn keep(&mut self, totals: Option<LineTotals>, now: Moment) {
        let (State::Written(in_file), Some(totals)) = (&self.state, totals) else { return };
        if totals == *in_file {
            return;
        }
        if now < *self.write_at.get_or_insert(now + self.patience) {
            return;
        }
        self.write_at = None;
        self.state = State::Writing(*in_file, totals, self.totals.remember(&self.sensor, totals));
    }

    /// When [`Self::keep`] is to be called.
    pub(super) fn timeout(&self) -> Option<Moment> {
        self.write_at
    }

    /// Writes what is not yet in the file.
    pub(super) async fn close(self, totals: Option<LineTotals>) {
        let last = async {
            let in_file = match self.state {
                State::Written(in_file) => in_file,
                State::Writing(before, after, remembered) => {
                    if remembered.await {
                        after
                    } else {
                        before
                    }
                }
                State::Idle | State::Reading(_) | State::Failed(_) => return,
            };
            if let Some(totals) = totals.filter(|totals| *totals != in_file) {
                self.totals.remember(&self.sensor, totals).await;
            }
        };
        // A disk that takes longer than this is what a minute's pulses are lost for.
        let _ = tokio::time::timeout(TOTALS_LAST_WORD, last).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::SystemClock;

    /// A file of one counter, and every total that was to be written to it; the first one failed.
    #[derive(Default)]
    struct File(Mutex<Vec<u64>>);

    impl Totals for File {
        fn recall(&self, _: &SensorId) -> Recall {
            Box::pin(std::future::ready(Ok(None)))
        }

        fn remember(&self, _: &SensorId, totals: LineTotals) -> Remembered {
            let mut told = self.0.lock().unwrap();
            told.push(totals.count);
            Box::pin(std::future::ready(told.len() > 1))
        }
    }

    #[tokio::test]
    async fn the_first_total_of_a_run_is_written_within_seconds_and_the_next_within_a_minute() {
        let file = Arc::<File>::default();
        let mut ledger = Ledger::new(SensorId::parse("rain").unwrap(), true, file.clone(), SystemClock::shared());
        ledger.recalled().await.unwrap();
        // A pulse a second.
        for second in 0..130 {
            ledger.keep(Some(LineTotals { count: second, missed: 0 }), Moment::at(Duration::from_secs(second)));
            // Carries writing on, and has nothing to say.
            let nothing = tokio::time::timeout(Duration::ZERO, ledger.recalled()).await;
            assert!(nothing.is_err());
        }
        assert_eq!(*file.0.lock().unwrap(), [6, 12, 73]);
    }
}

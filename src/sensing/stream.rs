//! A sensor that speaks by itself: its driver, and the chain behind it. Bytes in, messages out.

use super::chain::Chain;
use crate::drivers::{Outcome, StreamDriver, StreamFactory};
use crate::model::{Message, Moment, Timestamp};
use crate::plan::SensorPlan;

/// A running sensor on a serial port.
pub struct StreamChain {
    driver: Box<dyn StreamDriver>,
    chain: Chain,
    outcomes: Vec<Outcome>,
}

impl StreamChain {
    /// A sensor of which nothing is known yet.
    pub fn new(plan: SensorPlan, factory: &dyn StreamFactory, now: Moment) -> Self {
        Self { driver: factory.make(), chain: Chain::new(plan, now), outcomes: Vec::new() }
    }

    /// What is behind its driver.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What is behind its driver, to be told that time passed or that it ends.
    pub fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }

    /// The port was opened: what was half received before is gone.
    pub fn port_opened(&mut self) {
        self.driver.reset();
    }

    /// It starts on a port that is open already: takes over the line that is half received. `before` is what the port said last, `cut` whether
    /// that may begin in the middle of a line. The whole lines in it were there before this sensor was, and are not told.
    pub fn take_over(&mut self, before: &[u8], cut: bool) {
        if before.is_empty() {
            return;
        }
        if cut {
            self.driver.join_midway();
        }
        self.driver.feed(before, &mut self.outcomes);
        self.outcomes.clear();
    }

    /// The port went away.
    pub fn port_away(&mut self, now: Moment, out: &mut Vec<Message>) {
        self.driver.reset();
        self.chain.port_away(now, out);
    }

    /// Bytes came; `time` is when their last was read. With `midway` the first may stand in the middle of a frame.
    pub fn received(&mut self, bytes: &[u8], midway: bool, now: Moment, time: Timestamp, out: &mut Vec<Message>) {
        if midway {
            self.driver.join_midway();
        }
        self.driver.feed(bytes, &mut self.outcomes);
        for outcome in self.outcomes.drain(..) {
            self.chain.took(outcome, now, time, out);
        }
    }
}

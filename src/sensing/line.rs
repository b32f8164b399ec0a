//! A sensor on a GPIO line: its driver, and the chain behind it. Edges in, messages out; no line, no clock.

use std::time::Duration;

use super::chain::Chain;
use crate::bus::gpio::LineEdge;
use crate::drivers::{LineDriver, LineFactory, LineOutcome};
use crate::model::{LineTotals, Message, Moment, Timestamp};
use crate::plan::SensorPlan;

/// A running sensor on a line.
pub struct LineChain {
    driver: Box<dyn LineDriver>,
    chain: Chain,
    /// How often its values are told when nothing happens.
    every: Duration,
    /// When they are told next; `None` while the line is away.
    tell_at: Option<Moment>,
    /// Why what earlier processes had counted is not known. Until it is, its total would be a wrong one.
    forgotten: Option<String>,
    outcomes: Vec<LineOutcome>,
}

impl LineChain {
    /// A sensor of which nothing is known yet. A counter tells nothing before it was [restored](Self::restore).
    pub fn new(plan: SensorPlan, factory: &dyn LineFactory, now: Moment) -> Self {
        let every = plan.every.unwrap_or_else(|| factory.every());
        let forgotten = factory.counts().then(|| "its total has not been read yet".to_owned());
        let chain = Chain::new(plan, now);
        Self { driver: factory.make(), chain, every, tell_at: None, forgotten, outcomes: Vec::new() }
    }

    /// What is behind its driver.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What is behind its driver, to be told that it ends.
    pub fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }

    /// What earlier processes had counted is known.
    pub fn restore(&mut self, totals: LineTotals, now: Moment, wall: Timestamp, out: &mut Vec<Message>) {
        self.driver.restore(totals);
        self.forgotten = None;
        if self.tell_at.is_some() {
            self.driver.tell(now, &mut self.outcomes);
            self.take(now, wall, out);
        }
    }

    /// What earlier processes had counted cannot be read.
    pub fn not_restored(&mut self, reason: &str, now: Moment, out: &mut Vec<Message>) {
        let reason = self.forgotten.insert(format!("its total cannot be read: {reason}"));
        self.chain.unread(reason, now, out);
    }

    /// What it has counted, as soon as that is all there is.
    pub fn totals(&self) -> Option<LineTotals> {
        self.forgotten.is_none().then(|| self.driver.totals())
    }

    /// The line was taken.
    pub fn opened(&mut self, active: bool, now: Moment, wall: Timestamp, out: &mut Vec<Message>) {
        self.tell_at = Some(now + self.every);
        self.driver.opened(active, now, &mut self.outcomes);
        self.take(now, wall, out);
    }

    /// The line went away.
    pub fn away(&mut self, now: Moment, out: &mut Vec<Message>) {
        self.tell_at = None;
        self.chain.port_away(now, out);
    }

    /// Edges came.
    pub fn edges(&mut self, edges: &[LineEdge], now: Moment, wall: Timestamp, out: &mut Vec<Message>) {
        for edge in edges {
            self.driver.edge(edge, now, &mut self.outcomes);
        }
        self.take(now, wall, out);
    }

    /// The line was looked at.
    pub fn level(&mut self, active: bool, now: Moment, wall: Timestamp, out: &mut Vec<Message>) {
        self.driver.level(active, now, &mut self.outcomes);
        self.take(now, wall, out);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Moment, wall: Timestamp, out: &mut Vec<Message>) {
        if let Some(at) = self.tell_at.filter(|at| now >= *at) {
            // What was late is left out: a board that slept tells once.
            let late = now.since(at).as_nanos() / self.every.as_nanos().max(1);
            let skipped = u32::try_from(late).unwrap_or(u32::MAX).saturating_add(1);
            self.tell_at = Some(at + self.every.saturating_mul(skipped));
            self.driver.tell(now, &mut self.outcomes);
            self.take(now, wall, out);
        }
        if self.chain.timeout().is_some_and(|at| now >= at) {
            self.chain.tick(now, out);
        }
    }

    /// When to call [`Self::tick`].
    pub fn timeout(&self) -> Option<Moment> {
        [self.chain.timeout(), self.tell_at].into_iter().flatten().min()
    }

    /// When the line is to be looked at.
    pub fn look_at(&self) -> Option<Moment> {
        self.driver.timeout()
    }

    fn take(&mut self, now: Moment, wall: Timestamp, out: &mut Vec<Message>) {
        for outcome in self.outcomes.drain(..) {
            match outcome {
                LineOutcome::Samples { samples, at } => {
                    // Told with the next reading, when the total is known.
                    if self.forgotten.is_none() {
                        self.chain.sampled(samples, now, before(wall, now.since(at)), out);
                    }
                }
                LineOutcome::Unread(reason) => self.chain.unread(&reason, now, out),
            }
        }
    }
}

/// The time of day so long ago.
fn before(wall: Timestamp, ago: Duration) -> Timestamp {
    let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    let at = wall.at.map(|at| Moment::at(at.since_start().saturating_sub(ago)));
    Timestamp { unix_ms: wall.unix_ms.saturating_sub(ago_ms), at, ..wall }
}

//! One sensor behind its driver: pipeline and route in a row. What the driver made of the wire goes in, messages come out; no port, no clock.

use tracing::{debug, info, warn};

use super::{FrameCounts, SensorView, ms};
use crate::drivers::Outcome;
use crate::limits::SENSOR_GOOD_FRAMES;
use crate::logic::availability::Absence;
use crate::logic::pipeline::{Action, Input, Pipeline};
use crate::logic::route::Route;
use crate::model::{Message, Moment, Quality, Sample, Timestamp};
use crate::plan::SensorPlan;

/// A running sensor.
pub struct Chain {
    plan: SensorPlan,
    pipeline: Pipeline,
    route: Route,
    view: SensorView,
    /// Since when frames are bad, and how many were since.
    bad: Option<(Moment, u64)>,
    /// Good frames in a row since the last bad one.
    good_in_a_row: u32,
    /// Since when the sensor is silent though its port is open.
    silent: Option<Moment>,
}

impl Chain {
    /// A sensor of which nothing is known yet.
    pub fn new(plan: SensorPlan, now: Moment) -> Self {
        let units = plan.pipeline.values.iter();
        let view = SensorView {
            id: plan.id.clone(),
            bus: plan.bus.clone(),
            driver: plan.driver,
            units: units.filter_map(|value| Some((value.published_name().clone(), value.unit.clone()?))).collect(),
            values: Vec::new(),
            quality: Quality::Good,
            at: None,
            online: None,
            frames: FrameCounts::default(),
        };
        Self {
            pipeline: Pipeline::new(plan.id.clone(), plan.pipeline.clone(), now),
            route: Route::new(plan.publish.clone()),
            plan,
            view,
            bad: None,
            good_in_a_row: 0,
            silent: None,
        }
    }

    /// What it was made of.
    pub fn plan(&self) -> &SensorPlan {
        &self.plan
    }

    /// What a screen shows of it.
    pub fn view(&self) -> &SensorView {
        &self.view
    }

    /// The port went away.
    pub fn port_away(&mut self, now: Moment, out: &mut Vec<Message>) {
        self.pipeline.handle(Input::PortAway, now);
        self.act(now, out);
    }

    /// What some bytes turned out to be; `time` is when their last was read.
    pub fn took(&mut self, outcome: Outcome, now: Moment, time: Timestamp, out: &mut Vec<Message>) {
        match outcome {
            Outcome::Samples(samples) => {
                if let Some(name) = self.published_twice(&samples) {
                    self.bad_frame(&format!("two of its values are published as `{name}`"), now);
                    return;
                }
                self.good_frame(now);
                self.pipeline.handle(Input::Samples { samples, time }, now);
                self.act(now, out);
            }
            Outcome::Ignored => self.view.frames.ignored += 1,
            Outcome::Bad(reason) => self.bad_frame(&reason, now),
        }
    }

    /// A measurement that was asked for, and was had; `time` is when it ended.
    pub fn sampled(&mut self, samples: Vec<Sample>, now: Moment, time: Timestamp, out: &mut Vec<Message>) {
        if let Some(name) = self.published_twice(&samples) {
            return self.unread(&format!("two of its values are published as `{name}`"), now, out);
        }
        self.view.frames.good += 1;
        self.pipeline.handle(Input::Samples { samples, time }, now);
        self.act(now, out);
        if let Some((since, failed)) = self.bad.take() {
            info!(sensor = %self.plan.id, failed, outage_ms = ms(now, since), "sensor answers again");
        }
    }

    /// A measurement that was asked for, and was not had.
    pub fn unread(&mut self, reason: &str, now: Moment, out: &mut Vec<Message>) {
        self.view.frames.bad += 1;
        if let Some((_, failed)) = &mut self.bad {
            *failed += 1;
            debug!(sensor = %self.plan.id, bus = %self.plan.bus, error = reason, "sensor does not answer");
        } else {
            self.bad = Some((now, 1));
            warn!(sensor = %self.plan.id, bus = %self.plan.bus, error = reason, "sensor does not answer");
        }
        self.pipeline.handle(Input::Unread, now);
        self.act(now, out);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Message>) {
        self.pipeline.handle(Input::Tick, now);
        self.act(now, out);
    }

    /// When to call [`Self::tick`].
    pub fn timeout(&self) -> Option<Moment> {
        self.pipeline.poll_timeout()
    }

    /// It tells what it held back: another chain follows it.
    pub fn flush(&mut self, now: Moment, out: &mut Vec<Message>) {
        self.pipeline.handle(Input::End, now);
        self.act(now, out);
    }

    /// Another chain takes its place. A sensor that goes on under another topic leaves no `online` behind.
    pub fn replaced(&mut self, by: &SensorPlan, now: Moment, out: &mut Vec<Message>) {
        if self.plan.publish.availability_topic == by.publish.availability_topic {
            self.flush(now, out);
        } else {
            self.end(now, out);
        }
    }

    /// The sensor is no longer read: it tells what it held back, and says so, unless it was said before.
    pub fn end(&mut self, now: Moment, out: &mut Vec<Message>) {
        self.flush(now, out);
        if self.view.online == Some(true) {
            self.view.online = Some(false);
            out.push(self.route.availability(false));
        }
    }

    fn act(&mut self, now: Moment, out: &mut Vec<Message>) {
        while let Some(action) = self.pipeline.poll_action() {
            match action {
                Action::Tell(reading) => {
                    out.extend(self.route.reading(&reading));
                    if reading.quality < Quality::Stale {
                        self.view.at = Some(now);
                    }
                    self.view.quality = reading.quality;
                    self.view.values = reading.values;
                }
                Action::Online => {
                    self.view.online = Some(true);
                    out.push(self.route.availability(true));
                    if let Some(since) = self.silent.take() {
                        info!(sensor = %self.plan.id, outage_ms = ms(now, since), "sensor gives readings again");
                    }
                }
                Action::Offline(absence) => {
                    self.view.online = Some(false);
                    out.push(self.route.availability(false));
                    // A port that is away is told once by its bus, not once a sensor.
                    if absence == Absence::Silent {
                        let FrameCounts { good, bad, ignored } = self.view.frames;
                        warn!(sensor = %self.plan.id, bus = %self.plan.bus, good, bad, ignored, "sensor gives no readings");
                        self.silent = Some(now);
                    }
                }
            }
        }
    }

    /// A name that two values of a frame would be published under. Where a device names its values itself, only the frame shows that.
    fn published_twice(&self, samples: &[Sample]) -> Option<String> {
        let form = self.plan.publish.payload;
        let mut names: Vec<_> =
            samples.iter().map(|sample| form.published(self.pipeline.renamed(&sample.name))).collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone().into_owned())
    }

    fn good_frame(&mut self, now: Moment) {
        self.view.frames.good += 1;
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        if self.good_in_a_row >= SENSOR_GOOD_FRAMES
            && let Some((since, failed)) = self.bad.take()
        {
            info!(sensor = %self.plan.id, failed, outage_ms = ms(now, since), "frames are good again");
        }
    }

    fn bad_frame(&mut self, reason: &str, now: Moment) {
        self.view.frames.bad += 1;
        self.good_in_a_row = 0;
        if let Some((_, failed)) = &mut self.bad {
            *failed += 1;
            debug!(sensor = %self.plan.id, error = reason, "bad frame");
        } else {
            self.bad = Some((now, 1));
            warn!(sensor = %self.plan.id, bus = %self.plan.bus, error = reason, "bad frame");
        }
    }
}

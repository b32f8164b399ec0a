//! Anything that speaks in lines on a serial port.
//!
//! Bytes become lines (`framing::line`), lines become values by one of four matches: a regular expression, JSON, CSV or key=value. A line that
//! the match does not know is somebody else's and only counted; a line that it knows but cannot read is bad as a whole, because half a
//! measurement is none.

mod json;
mod matching;
mod options;
mod value;

use std::sync::Arc;

use self::matching::Matcher;
use super::framing::{Frame, LineFramer, LineSettings, nmea};
use super::{Build, DriverSpec, Outcome, StreamDriver, StreamFactory};

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "uart",
    summary: "Lines on a serial port, taken apart by a regular expression, JSON, CSV or key=value",
    channels: &[],
    example: "match = { json = true }\n",
    schema: || schemars::schema_for!(options::Options),
    build: Build::Stream(|table| {
        options::decode(table).map(|plan| Arc::new(UartFactory(Arc::new(plan))) as Arc<dyn StreamFactory>)
    }),
};

/// What the options ask for, checked.
#[derive(Debug)]
struct UartPlan {
    line: LineSettings,
    nmea: bool,
    matcher: Matcher,
}

#[derive(Debug)]
struct UartFactory(Arc<UartPlan>);

impl StreamFactory for UartFactory {
    fn make(&self) -> Box<dyn StreamDriver> {
        Box::new(Uart { plan: self.0.clone(), framer: LineFramer::new(self.0.line.clone()) })
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.0.matcher.names()
    }

    fn template(&self) -> Option<String> {
        // The checksum of a line hangs on its numbers.
        self.0.matcher.template().filter(|_| !self.0.nmea)
    }
}

struct Uart {
    plan: Arc<UartPlan>,
    framer: LineFramer,
}

impl StreamDriver for Uart {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Outcome>) {
        let plan = &self.plan;
        self.framer.feed(bytes, |frame| out.push(plan.read(frame)));
    }

    fn reset(&mut self) {
        self.framer.reset();
    }

    fn join_midway(&mut self) {
        self.framer.join_midway();
    }
}

impl UartPlan {
    fn read(&self, frame: Frame<'_>) -> Outcome {
        let line = match frame {
            Frame::Line(line) => line,
            Frame::Cut(line) => return self.read_cut(line),
            Frame::TooLong => return Outcome::Bad(format!("line is longer than {} bytes", self.line.bytes_max)),
            Frame::NotUtf8(at) => return Outcome::Bad(format!("line is not UTF-8: byte {at}")),
        };
        self.read_line(line)
    }

    /// A line that may have lost its beginning counts only where it would show by itself that it has; that it is broken is nobody's fault.
    fn read_cut(&self, line: &str) -> Outcome {
        if !self.nmea && !self.matcher.knows_a_cut_line() {
            return Outcome::Ignored;
        }
        match self.read_line(line) {
            Outcome::Bad(_) => Outcome::Ignored,
            outcome => outcome,
        }
    }

    fn read_line(&self, line: &str) -> Outcome {
        let line = if self.nmea {
            match nmea::verify(line) {
                Ok(line) => line,
                Err(reason) => return Outcome::Bad(reason),
            }
        } else {
            line
        };
        match self.matcher.read(line) {
            Ok(Some(samples)) if samples.is_empty() => Outcome::Bad("line holds no value".into()),
            Ok(Some(samples)) => Outcome::Samples(samples),
            Ok(None) => Outcome::Ignored,
            Err(reason) => Outcome::Bad(reason),
        }
    }
}

#[cfg(test)]
mod tests;

//! An output on a GPIO line: what `gpio-out` and `gpio-pulse` share.

use std::sync::Arc;

use schemars::JsonSchema;

use super::options::{choice, flag};
use super::{Device, Way};
use crate::bus::gpio::{Bias, Drive, Gpio, LineRef, OutputLine, OutputRequest};
use crate::drivers::gpio::line::line as which_line;
use crate::drivers::options::Fields;
use crate::model::Setting;

/// Keys of an actuator on a GPIO line.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
pub(super) struct LineOptions {
    /// The line by its name, such as `GPIO23` (`gpioinfo` and `tidegate scan gpio` list them). Or `chip` and `offset`.
    line: Option<String>,
    /// Label of the line's chip, such as `pinctrl-rp1`; goes with `offset`.
    chip: Option<String>,
    /// The line's offset in its chip, from 0.
    offset: Option<u32>,
    /// Whether the actuator is on while the line's voltage is low, as most relay boards are. Default false.
    active_low: Option<bool>,
    /// `push-pull` drives the line both ways, `open-drain` to ground only, `open-source` to the supply only. Default `push-pull`.
    drive: Option<String>,
    /// What pulls at the line while nothing drives it: `as-is`, `disabled`, `pull-up`, `pull-down`. Default `as-is`.
    bias: Option<String>,
}

/// The keys that every actuator on a line has.
pub(super) const KEYS: [&str; 6] = ["line", "chip", "offset", "active_low", "drive", "bias"];

/// An output line as the config wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinePlan {
    pub(super) line: LineRef,
    active_low: bool,
    drive: Drive,
    bias: Bias,
}

impl LinePlan {
    /// Reads the keys. `None` when a mistake was noted.
    pub(super) fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let active_low = flag(fields, "active_low");
        let drives =
            [("push-pull", Drive::PushPull), ("open-drain", Drive::OpenDrain), ("open-source", Drive::OpenSource)];
        let drive = choice(fields, "drive", &drives).unwrap_or_default();
        let biases = [
            ("as-is", Bias::AsIs),
            ("disabled", Bias::Disabled),
            ("pull-up", Bias::PullUp),
            ("pull-down", Bias::PullDown),
        ];
        let bias = choice(fields, "bias", &biases).unwrap_or_default();
        Some(Self { line: which_line(fields)?, active_low, drive, bias })
    }

    /// The line's device.
    pub(super) fn make(&self, way: Way) -> Option<Box<dyn Device>> {
        let Way::Gpio(gpio, consumer) = way else { return None };
        let request = OutputRequest {
            line: self.line.clone(),
            active_low: self.active_low,
            drive: self.drive,
            bias: self.bias,
            initial: false,
            consumer,
        };
        Some(Box::new(Line { gpio, request, held: None }))
    }
}

/// A line, held or to be taken.
struct Line {
    gpio: Arc<dyn Gpio>,
    request: OutputRequest,
    held: Option<Box<dyn OutputLine>>,
}

impl Line {
    fn read(&mut self) -> Result<Option<Setting>, String> {
        let Some(line) = &self.held else { return Err("the line is not held".to_owned()) };
        match line.active() {
            Ok(active) => Ok(Some(if active { Setting::On } else { Setting::Off })),
            Err(error) => {
                self.held = None;
                Err(error.to_string())
            }
        }
    }
}

impl Device for Line {
    fn set(&mut self, setting: &Setting) -> Result<Option<Setting>, String> {
        let active = *setting == Setting::On;
        let outcome = if let Some(line) = &mut self.held {
            line.set(active)
        } else {
            // The level is set with the request: the line is never an output with any other.
            self.request.initial = active;
            self.gpio.output(&self.request).map(|line| self.held = Some(line))
        };
        if let Err(error) = outcome {
            // A chip that went away is never there again under this handle.
            self.held = None;
            return Err(error.to_string());
        }
        self.read()
    }

    fn check(&mut self) -> Result<Option<Setting>, String> {
        self.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::gpio::{GpioError, SimulatedGpio};
    use crate::clock::FakeClock;

    fn board() -> SimulatedGpio {
        SimulatedGpio::new(Arc::new(FakeClock::new(0)))
    }

    fn way(board: &SimulatedGpio) -> Way {
        Way::Gpio(Arc::new(board.clone()), "tidegate pump".to_owned())
    }

    fn plan(active_low: bool) -> LinePlan {
        let line = LineRef::Simulated("pump".into());
        LinePlan { line, active_low, drive: Drive::PushPull, bias: Bias::AsIs }
    }

    fn voltages(board: &SimulatedGpio) -> Vec<bool> {
        board.trace("pump").into_iter().map(|(_, high)| high).collect()
    }

    #[test]
    fn the_first_level_comes_with_the_request() {
        let board = board();
        let mut device = plan(true).make(way(&board)).unwrap();
        assert_eq!(device.set(&Setting::Off), Ok(Some(Setting::Off)));
        assert_eq!(voltages(&board), [true], "off is high from the first moment, and no other level was there");
        assert_eq!(device.set(&Setting::On), Ok(Some(Setting::On)));
        assert_eq!(voltages(&board), [true, false]);
    }

    #[test]
    fn a_line_that_somebody_holds_is_told_with_its_holder_and_tried_again() {
        let board = board();
        let mut first = plan(false).make(way(&board)).unwrap();
        first.set(&Setting::On).unwrap();
        let mut second = plan(false).make(way(&board)).unwrap();
        assert!(second.set(&Setting::Off).unwrap_err().contains("tidegate pump"));
        drop(first);
        assert_eq!(second.set(&Setting::Off), Ok(Some(Setting::Off)));
    }

    #[test]
    fn a_chip_that_went_away_is_asked_for_its_line_anew() {
        let board = board();
        let mut device = plan(false).make(way(&board)).unwrap();
        device.set(&Setting::On).unwrap();
        board.fail("pump", Some(GpioError::Held { consumer: "another".into() }));
        assert!(device.check().is_err());
        assert_eq!(device.check(), Err("the line is not held".to_owned()));
        board.fail("pump", None);
        assert_eq!(device.set(&Setting::Off), Ok(Some(Setting::Off)));
    }
}

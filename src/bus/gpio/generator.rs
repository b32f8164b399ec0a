//! What a simulated input does by itself.

use std::time::Duration;

use crate::limits::SIMULATED_PULSES_MAX;

/// Names of the generators, and what they do.
pub const NAMES: &[(&str, &str)] = &[
    ("button", "held down for a while, every 10 seconds or so"),
    ("pulses", "short pulses, one a second or so"),
    ("square", "on and off by turns, once a second"),
];

/// Why a name makes no line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulatedLineError {
    /// Something behind the `?` that no generator knows, or a number out of its range.
    #[error(
        "`{0}` is no option of a simulated line; `rate=NUMBER`, above 0 and up to {SIMULATED_PULSES_MAX} a second, and `seed=NUMBER` are"
    )]
    Option(String),
}

/// What an input does by itself.
#[derive(Debug, Clone)]
pub(super) struct Generator {
    kind: Kind,
    rate: f64,
    random: fastrand::Rng,
    acts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Button,
    Pulses,
    Square,
}

/// Looks whether a name makes a line.
///
/// # Errors
/// [`SimulatedLineError`] for an option that is not known.
pub fn check(name: &str) -> Result<(), SimulatedLineError> {
    Generator::new(name).map(|_| ())
}

impl Generator {
    /// Somebody who presses the line of that name, now and then.
    pub(super) fn button(name: &str) -> Self {
        let seed = name.bytes().fold(1_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Self { kind: Kind::Button, rate: 0.1, random: fastrand::Rng::with_seed(seed), acts: true }
    }

    /// The generator of that name; `None` for a name that does nothing by itself.
    pub(super) fn new(name: &str) -> Result<Option<Self>, SimulatedLineError> {
        let (name, options) = name.split_once('?').unwrap_or((name, ""));
        let (kind, mut rate) = match name {
            "button" => (Kind::Button, 0.1),
            "pulses" => (Kind::Pulses, 1.0),
            "square" => (Kind::Square, 1.0),
            _ if options.is_empty() => return Ok(None),
            _ => return Err(SimulatedLineError::Option(options.to_owned())),
        };
        let mut seed = 1;
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let wrong = || SimulatedLineError::Option(option.to_owned());
            match option.split_once('=') {
                Some(("rate", number)) => {
                    rate = number.parse().map_err(|_| wrong())?;
                    if !(rate > 0.0 && rate <= SIMULATED_PULSES_MAX) {
                        return Err(wrong());
                    }
                }
                Some(("seed", number)) => seed = number.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(Some(Self { kind, rate, random: fastrand::Rng::with_seed(seed), acts: true }))
    }

    /// Whether the line is away from its rest now, and for how long. It begins at rest.
    pub(super) fn next_change(&mut self) -> (bool, Duration) {
        self.acts = !self.acts;
        let period = 1.0 / self.rate;
        // 0.5 to 1.5 of a mean: never two changes at once, never a pause without end.
        let about = self.random.f64() + 0.5;
        let seconds = match (self.kind, self.acts) {
            (Kind::Square, _) => period / 2.0,
            (Kind::Pulses, true) => (period / 10.0).min(0.05),
            (Kind::Button, true) => about * (period / 5.0).min(1.0),
            (Kind::Pulses | Kind::Button, false) => about * period,
        };
        (self.acts, Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_pulses() {
        let changes = |name: &str| {
            let mut generator = Generator::new(name).unwrap().unwrap();
            (0..100).map(|_| generator.next_change()).collect::<Vec<_>>()
        };
        assert_eq!(changes("pulses"), changes("pulses?seed=1"));
        assert_ne!(changes("pulses?seed=2"), changes("pulses?seed=1"));
    }

    #[test]
    fn what_is_no_option_is_told() {
        assert_eq!(check("relay"), Ok(()));
        for name in ["pulses?rate=0", "pulses?rate=101", "pulses?rate=x", "pulses?speed=1", "relay?rate=1"] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}

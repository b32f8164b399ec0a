//! What the drivers of I²C devices share: the key `address`, bytes that no device sends, and values that move for a device made of software.

use std::f64::consts::TAU;
use std::sync::Arc;

use super::SampleError;
use super::options::Fields;
use crate::bus::i2c::I2cFault;
use crate::model::{Sample, Value};

/// Takes `address`, one of those that the device can have.
pub(crate) fn address(fields: &mut Fields<'_>, can_be: &[u8], default: u8) -> u8 {
    let Some(at) = fields.span("address") else { return default };
    let Some(written) = fields.integer("address", 0x08..=0x77) else { return default };
    if let Some(address) = can_be.iter().find(|address| i64::from(**address) == written) {
        return *address;
    }
    let known: Vec<String> = can_be.iter().map(|address| format!("{address:#04x}")).collect();
    let help = format!("it can have {}", known.join(", "));
    fields.error(at, format!("the device has no address {written:#04x}"), Some(help));
    default
}

/// Takes a whole number that is one of a few.
pub(crate) fn one_of(fields: &mut Fields<'_>, key: &'static str, can_be: &[i64], default: i64) -> i64 {
    let Some(at) = fields.span(key) else { return default };
    let Some(written) = fields.integer(key, i64::MIN..=i64::MAX) else { return default };
    if can_be.contains(&written) {
        return written;
    }
    let known: Vec<String> = can_be.iter().map(ToString::to_string).collect();
    fields.error(at, format!("`{key}` cannot be {written}"), Some(format!("it is one of {}", known.join(", "))));
    default
}

/// A measured number.
pub(crate) fn measured(name: &str, value: f64) -> Sample {
    Sample { name: name.into(), value: Value::Number(value) }
}

/// Rounds to so many places: what a device does not resolve is no digit of its value.
pub(crate) fn places(value: f64, places: i32) -> f64 {
    let factor = 10_f64.powi(places);
    (value * factor).round() / factor
}

/// Names that a table of channels holds.
pub(crate) fn names(channels: &[super::Channel]) -> Vec<Arc<str>> {
    channels.iter().map(|channel| channel.name.into()).collect()
}

/// Names and units that a table of channels holds.
pub(crate) fn units(channels: &[super::Channel]) -> Vec<(Arc<str>, Arc<str>)> {
    channels.iter().map(|channel| (channel.name.into(), channel.unit.into())).collect()
}

/// Why bytes cannot be a device's: a line held low reads as all 0x00, one that nobody drives as all 0xff.
pub(crate) fn stuck(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => None,
        _ if bytes.iter().all(|byte| *byte == 0x00) => Some("all bytes read are 0x00: a line may be held low"),
        _ if bytes.iter().all(|byte| *byte == 0xff) => Some("all bytes read are 0xff: nobody may be driving the line"),
        _ => None,
    }
}

/// What is wrong with a device, with its address.
pub(crate) fn wrong(address: u8, what: impl Into<String>) -> SampleError {
    I2cFault::other(address, what).into()
}

/// A value that moves as that of a device might: a slow wave between two bounds, the same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Wave {
    low: f64,
    high: f64,
    turn: f64,
}

/// Measurements for one turn of a [`Wave`].
const WAVE_MEASUREMENTS: f64 = 240.0;

impl Wave {
    /// Between the two bounds. Where it begins is the seed's.
    pub(crate) fn new(low: f64, high: f64, seed: u64) -> Self {
        // The golden ratio spreads any row of seeds over the turn.
        #[allow(clippy::cast_precision_loss)] // only where the wave begins
        let turn = ((seed % 4_096) as f64 * 0.618_033_988_749_895).fract();
        Self { low, high, turn }
    }

    /// The next value.
    pub(crate) fn step(&mut self) -> f64 {
        self.turn = (self.turn + 1.0 / WAVE_MEASUREMENTS).fract();
        self.low + (self.high - self.low) * (0.5 + 0.5 * (TAU * self.turn).sin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_stays_within_its_bounds_moves_and_is_the_same_for_the_same_seed() {
        let walk = |seed| -> Vec<f64> {
            let mut wave = Wave::new(18.0, 24.0, seed);
            (0..500).map(|_| wave.step()).collect()
        };
        let values = walk(7);
        assert!(values.iter().all(|value| (18.0..=24.0).contains(value)));
        assert!(values.windows(2).all(|two| (two[0] - two[1]).abs() > 1e-9));
        assert_eq!(values, walk(7));
        assert_ne!(values, walk(8));
        assert_ne!(walk(u64::MAX), walk(u64::MAX - 1));
    }

    #[test]
    fn bytes_that_are_all_zeros_or_all_ones_are_nobodys() {
        assert!(stuck(&[0, 0]).unwrap().contains("0x00"));
        assert!(stuck(&[0xff; 6]).unwrap().contains("0xff"));
        assert_eq!(stuck(&[0, 0xff]), None);
        assert_eq!(stuck(&[]), None);
    }
}

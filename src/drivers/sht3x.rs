//! Sensirion SHT3x-DIS: temperature and relative humidity (I²C). Sections refer to its datasheet, version 7 (December 2022).
//!
//! Each sample is a single shot without clock stretching (§4.3), which the I²C of a Raspberry Pi does not master: the command, a wait as long
//! as the longest conversion, and six bytes, each two with their checksum.

use std::sync::Arc;

use crc::{CRC_8_NRSC_5, Crc};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use schemars::JsonSchema;
use toml::de::DeTable;

use super::i2c::{Wave, address, measured, names, places, stuck, units, wrong};
use super::options::Fields;
use super::{Build, Built, Channel, DriverSpec, I2cFactory, PolledDriver, SampleError};
use crate::bus::i2c::{I2cFault, I2cHandle, Pause, Target};
use crate::model::Sample;

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "sht3x",
    summary: "Sensirion SHT30, SHT31, SHT35: temperature and relative humidity",
    channels: CHANNELS,
    example: "address = 0x44\n",
    schema: || schemars::schema_for!(Options),
    build: Build::I2c(decode),
};

/// Specified ranges, §2 tables 1 and 2.
const CHANNELS: &[Channel] =
    &[Channel::new("temperature", "°C", -40.0, 125.0), Channel::new("humidity", "%", 0.0, 100.0)];

/// Keys of a sensor with `driver = "sht3x"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// 7-bit address: 0x44 with ADDR low, 0x45 with ADDR high (§3.4). Default 0x44.
    address: Option<u8>,
    /// How often the same air gives the same value: `high` (15.5 ms), `medium` (6.5 ms) or `low` (4.5 ms). Default `high`.
    repeatability: Option<String>,
}

/// A single shot without clock stretching, and its longest conversion rounded up (§4.3 table 9, §2.2 table 4).
#[derive(Debug, Clone, Copy)]
struct Shot {
    command: [u8; 2],
    conversion_ms_max: u32,
}

const HIGH: Shot = Shot { command: [0x24, 0x00], conversion_ms_max: 16 };
const MEDIUM: Shot = Shot { command: [0x24, 0x0b], conversion_ms_max: 7 };
const LOW: Shot = Shot { command: [0x24, 0x16], conversion_ms_max: 5 };

/// Ends what runs by itself (§4.8).
const BREAK: [u8; 2] = [0x30, 0x93];
/// Soft reset (§4.9); the chip is back after 1.5 ms (§2.2 table 4).
const SOFT_RESET: [u8; 2] = [0x30, 0xa2];
const RESET_MS_MAX: u32 = 2;
/// Times that a chip which is not done yet (it does not acknowledge, §4.3) is asked again, a millisecond apart.
const ASKED_AGAIN: u32 = 3;

/// The checksum of §4.12: polynomial 0x31, begun with 0xff.
const CRC: Crc<u8> = Crc::<u8>::new(&CRC_8_NRSC_5);

#[derive(Debug, Clone, Copy)]
struct Factory {
    address: u8,
    shot: Shot,
}

fn decode(table: DeTable<'_>) -> Built<dyn I2cFactory> {
    let mut fields = Fields::new(table, &["address", "repeatability"]);
    let address = address(&mut fields, &[0x44, 0x45], 0x44);
    let mut shot = HIGH;
    if let Some(word) = fields.text("repeatability") {
        match word.content.as_str() {
            "high" => {}
            "medium" => shot = MEDIUM,
            "low" => shot = LOW,
            other => {
                let help = Some("known: `high`, `medium`, `low`".into());
                fields.error(word.span, format!("unknown repeatability `{other}`"), help);
            }
        }
    }
    match fields.finish() {
        errors if errors.is_empty() => Ok(Arc::new(Factory { address, shot })),
        errors => Err(errors),
    }
}

impl I2cFactory for Factory {
    fn make(&self, i2c: I2cHandle, pause: Pause) -> Box<dyn PolledDriver> {
        Box::new(Driver { settings: *self, i2c, pause, failed: false })
    }

    fn address(&self) -> u8 {
        self.address
    }

    fn channels(&self) -> Vec<Arc<str>> {
        names(CHANNELS)
    }

    fn units(&self) -> Vec<(Arc<str>, Arc<str>)> {
        units(CHANNELS)
    }

    fn simulated(&self, seed: u64) -> Box<dyn Target> {
        Box::new(Simulated {
            address: self.address,
            temperature: Wave::new(18.0, 26.0, seed),
            humidity: Wave::new(35.0, 60.0, seed.wrapping_add(1)),
            frame: None,
        })
    }
}

struct Driver {
    settings: Factory,
    i2c: I2cHandle,
    pause: Pause,
    failed: bool,
}

impl PolledDriver for Driver {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let Factory { address, shot } = self.settings;
        if self.failed {
            // It may measure by itself, as another program bade it: then it takes no single shot (§4.5).
            self.i2c.write(address, &BREAK)?;
            self.pause.delay_ms(1);
            self.i2c.write(address, &SOFT_RESET)?;
            self.pause.delay_ms(RESET_MS_MAX);
            self.failed = false;
        }
        self.i2c.write(address, &shot.command)?;
        self.pause.delay_ms(shot.conversion_ms_max);
        let mut frame = [0; 6];
        let mut answer = self.i2c.read(address, &mut frame);
        for _ in 0..ASKED_AGAIN {
            if answer.is_ok() {
                break;
            }
            self.pause.delay_ms(1);
            answer = self.i2c.read(address, &mut frame);
        }
        answer?;
        decode_frame(frame).map_err(|why| wrong(address, why))
    }

    fn reset(&mut self) {
        self.failed = true;
    }
}

/// Six bytes to two values (§4.13).
fn decode_frame(frame: [u8; 6]) -> Result<Vec<Sample>, String> {
    if let Some(why) = stuck(&frame) {
        return Err(why.to_owned());
    }
    let word = |at: usize, name: &str| {
        let (bytes, found) = ([frame[at], frame[at + 1]], frame[at + 2]);
        let expected = CRC.checksum(&bytes);
        if found == expected {
            Ok(f64::from(u16::from_be_bytes(bytes)) / 65_535.0)
        } else {
            Err(format!("checksum mismatch in {name}: expected {expected:#04x}, got {found:#04x}"))
        }
    };
    let temperature = word(0, "temperature")? * 175.0 - 45.0;
    let humidity = word(3, "humidity")? * 100.0;
    Ok(vec![measured("temperature", places(temperature, 2)), measured("humidity", places(humidity, 2))])
}

/// Two values to six bytes.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within 16 bits
fn encode_frame(temperature: f64, humidity: f64) -> [u8; 6] {
    let word = |share: f64| {
        let bytes = ((share * 65_535.0).round() as u16).to_be_bytes();
        [bytes[0], bytes[1], CRC.checksum(&bytes)]
    };
    let mut frame = [0; 6];
    frame[..3].copy_from_slice(&word((temperature + 45.0) / 175.0));
    frame[3..].copy_from_slice(&word(humidity / 100.0));
    frame
}

/// A chip made of software: it answers a single shot.
struct Simulated {
    address: u8,
    temperature: Wave,
    humidity: Wave,
    frame: Option<[u8; 6]>,
}

impl Target for Simulated {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        if bytes.first() == Some(&0x24) {
            self.frame = Some(encode_frame(self.temperature.step(), self.humidity.step()));
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        // Read once, the measurement is gone (§4.3).
        let frame = self.frame.take().ok_or_else(|| I2cFault::nack(self.address))?;
        for (to, from) in into.iter_mut().zip(frame) {
            *to = from;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(frame: [u8; 6]) -> Result<Vec<f64>, String> {
        decode_frame(frame).map(|samples| samples.iter().map(|sample| sample.value.as_f64().unwrap()).collect())
    }

    /// §4.12 gives 0xbeef the checksum 0x92.
    #[test]
    fn the_checksum_is_that_of_the_datasheets_example() {
        assert_eq!(CRC.checksum(&[0xbe, 0xef]), 0x92);
    }

    /// §4.13: T = -45 + 175 S / (2^16 - 1), RH = 100 S / (2^16 - 1); the ends of both.
    #[test]
    fn words_are_values_by_the_datasheets_formulas() {
        assert_eq!(numbers([0x00, 0x00, 0x81, 0xff, 0xff, 0xac]), Ok(vec![-45.0, 100.0]));
        assert_eq!(numbers([0xff, 0xff, 0xac, 0x00, 0x00, 0x81]), Ok(vec![130.0, 0.0]));
        assert_eq!(
            numbers([0xbe, 0xef, 0x92, 0xbe, 0xef, 0x92]),
            Ok(vec![85.52, 74.58]),
            "above 42.5 °C, where a sign would be"
        );
    }

    #[test]
    fn a_flipped_bit_is_a_checksum_mismatch_that_says_where() {
        assert_eq!(
            numbers([0xbe, 0xef, 0x92, 0x00, 0x00, 0x80]),
            Err("checksum mismatch in humidity: expected 0x81, got 0x80".into())
        );
        assert!(numbers([0; 6]).unwrap_err().contains("held low"));
        assert!(numbers([0xff; 6]).unwrap_err().contains("nobody"));
    }

    #[test]
    fn after_a_failure_the_chip_is_told_to_stop_and_start_anew() {
        let replay = crate::bus::i2c::Replay::default();
        let lines = ["w 44 2400 nack", "w 44 3093", "w 44 30a2", "w 44 2400", "r 44 nack", "r 44 beef92beef92"];
        for line in lines {
            replay.expect(line).unwrap();
        }
        let factory = Factory { address: 0x44, shot: HIGH };
        let mut driver = factory.make(I2cHandle::new(replay.clone()), Pause::None);
        assert_eq!(driver.sample().unwrap_err().to_string(), "no answer at 0x44 (NACK)");
        driver.reset();
        assert_eq!(driver.sample().unwrap().len(), 2);
        assert_eq!(replay.finish(), None);
    }

    #[test]
    fn a_simulated_chip_is_read_like_a_real_one() {
        let factory = Factory { address: 0x45, shot: LOW };
        let mut driver = factory.make(I2cHandle::simulated(0x45, factory.simulated(1)), Pause::None);
        let (first, second) = (driver.sample().unwrap(), driver.sample().unwrap());
        assert_ne!(first, second);
        assert!((18.0..=26.0).contains(&first[0].value.as_f64().unwrap()), "{first:?}");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(temperature in -45.0..130.0_f64, humidity in 0.0..100.0_f64) {
            let found = numbers(encode_frame(temperature, humidity)).unwrap();
            prop_assert!((found[0] - temperature).abs() < 0.01 && (found[1] - humidity).abs() < 0.01);
        }

        #[test]
        fn no_frame_panics(frame in any::<[u8; 6]>()) {
            let _ = decode_frame(frame);
        }
    }
}

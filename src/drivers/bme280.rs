//! Bosch BME280: temperature, pressure and humidity (I²C). Sections refer to its datasheet, BST-BME280-DS002 revision 1.6.
//!
//! The arithmetic of §4.2.3 is `bme280-multibus`'s. What is said on the wire is here: one measurement in forced mode for each sample (§3.3.3), every
//! wait with its end, and every setting written before each measurement, so that a device that lost its supply in between measures as it should.

use std::sync::Arc;

use bme280_multibus::{Bme280, Bme280Bus, CHIP_ID, Config, CtrlMeas, Error, Filter, Mode, Oversampling, Settings};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use schemars::JsonSchema;
use toml::de::DeTable;

use super::i2c::{Wave, address, measured, names, one_of, places, stuck, units, wrong};
use super::options::Fields;
use super::{Build, Built, Channel, DriverSpec, I2cFactory, PolledDriver, SampleError};
use crate::bus::i2c::{I2cFault, I2cHandle, Pause, Registers, Target};
use crate::model::Sample;

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "bme280",
    summary: "Bosch BME280: temperature, pressure and relative humidity",
    channels: CHANNELS,
    example: "address = 0x76\n",
    schema: || schemars::schema_for!(Options),
    build: Build::I2c(decode),
};

/// Operating ranges, §1 tables 2 to 4.
const CHANNELS: &[Channel] = &[
    Channel::new("temperature", "°C", -40.0, 85.0),
    Channel::new("pressure", "hPa", 300.0, 1100.0),
    Channel::new("humidity", "%", 0.0, 100.0),
];

/// Keys of a sensor with `driver = "bme280"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// 7-bit address: 0x76 with SDO at ground, 0x77 with SDO at the supply. Default 0x76.
    address: Option<u8>,
    /// Measurements that the chip itself takes the mean of: 1, 2, 4, 8 or 16. Default 1, as the datasheet advises for weather (§3.5.1).
    oversampling: Option<u8>,
    /// Coefficient of the chip's own filter of temperature and pressure, which smooths a slammed door away: 0 (off), 2, 4, 8 or 16. Default 0.
    filter: Option<u8>,
}

/// Registers (§5.3, table 18).
mod register {
    pub(super) const CALIBRATION_FIRST: u8 = 0x88;
    pub(super) const ID: u8 = 0xd0;
    pub(super) const RESET: u8 = 0xe0;
    pub(super) const CALIBRATION_SECOND: u8 = 0xe1;
    pub(super) const STATUS: u8 = 0xf3;
    pub(super) const MEASURED: u8 = 0xf7;
}

/// Written to the reset register: a complete power-on reset (§5.4.2).
const RESET: u8 = 0xb6;
/// Start-up time (§1, table 1), and how long one look at the status is behind the other.
const START_UP_MS: u32 = 2;
/// Looks at the status before the chip is given up.
const LOOKS: u32 = 10;
/// Bytes of the two blocks of calibration (§4.2.2, table 16).
const CALIBRATION: (usize, usize) = (26, 7);
/// What the data registers hold before anything was measured (§5.4.7 to §5.4.9), and where a measurement is switched off (§3.4).
const NOTHING: [u8; 8] = [0x80, 0, 0, 0x80, 0, 0, 0x80, 0];

#[derive(Debug, Clone, Copy)]
struct Factory {
    address: u8,
    oversampling: Oversampling,
    filter: Filter,
}

fn decode(table: DeTable<'_>) -> Built<dyn I2cFactory> {
    let mut fields = Fields::new(table, &["address", "oversampling", "filter"]);
    let address = address(&mut fields, &[0x76, 0x77], 0x76);
    let oversampling = match one_of(&mut fields, "oversampling", &[1, 2, 4, 8, 16], 1) {
        2 => Oversampling::X2,
        4 => Oversampling::X4,
        8 => Oversampling::X8,
        16 => Oversampling::X16,
        _ => Oversampling::X1,
    };
    let filter = match one_of(&mut fields, "filter", &[0, 2, 4, 8, 16], 0) {
        2 => Filter::X2,
        4 => Filter::X4,
        8 => Filter::X8,
        16 => Filter::X16,
        _ => Filter::Off,
    };
    match fields.finish() {
        errors if errors.is_empty() => Ok(Arc::new(Factory { address, oversampling, filter })),
        errors => Err(errors),
    }
}

impl I2cFactory for Factory {
    fn make(&self, i2c: I2cHandle, pause: Pause) -> Box<dyn PolledDriver> {
        Box::new(Driver { settings: *self, i2c, pause, calibration: None })
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
        Box::new(Simulated::new(seed))
    }
}

struct Driver {
    settings: Factory,
    i2c: I2cHandle,
    pause: Pause,
    /// The chip's own numbers, which never change. `None`: it has to be set up.
    calibration: Option<[u8; 33]>,
}

impl PolledDriver for Driver {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let address = self.settings.address;
        let calibration = match self.calibration {
            Some(calibration) => calibration,
            None => self.set_up()?,
        };
        self.calibration = Some(calibration);
        let oversampling = self.settings.oversampling;
        let mut pause = self.pause;
        let mut chip = Bme280::new(Wire { i2c: &mut self.i2c, address, calibration })?;
        chip.settings(&Settings {
            config: Config::RESET.set_filter(self.settings.filter),
            ctrl_meas: CtrlMeas::RESET.set_osrs_t(oversampling).set_osrs_p(oversampling).set_mode(Mode::Forced),
            ctrl_hum: oversampling,
        })?;
        pause.delay_us(measurement_us_max(oversampling));
        for look in 0.. {
            if !chip.status()?.measuring() {
                break;
            }
            if look == LOOKS {
                return Err(wrong(address, "the measurement never ended"));
            }
            pause.delay_ms(START_UP_MS);
        }
        let sample = match chip.sample() {
            Ok(sample) => sample,
            Err(Error::Bus(fault)) => return Err(fault.into()),
            Err(Error::Sample) => return Err(wrong(address, "nothing was measured")),
        };
        let values = [
            ("temperature", places(f64::from(sample.temperature), 2)),
            ("pressure", places(f64::from(sample.pressure) / 100.0, 3)),
            ("humidity", places(f64::from(sample.humidity), 2)),
        ];
        if values.iter().any(|(_, value)| !value.is_finite()) {
            return Err(wrong(address, "its calibration makes no number of what it measured"));
        }
        Ok(values.map(|(name, value)| measured(name, value)).to_vec())
    }

    fn reset(&mut self) {
        self.calibration = None;
    }
}

impl Driver {
    /// Makes sure of the chip, starts it anew, and reads its calibration.
    fn set_up(&mut self) -> Result<[u8; 33], SampleError> {
        let address = self.settings.address;
        let mut byte = [0];
        self.i2c.write_read(address, &[register::ID], &mut byte)?;
        match byte[0] {
            CHIP_ID => {}
            0x58 => return Err(wrong(address, "chip id 0x58: this is a BMP280, which measures no humidity")),
            id => return Err(wrong(address, format!("chip id {id:#04x} is no BME280's, which is {CHIP_ID:#04x}"))),
        }
        self.i2c.write(address, &[register::RESET, RESET])?;
        self.pause.delay_ms(START_UP_MS);
        // Bit 0 is set while the calibration is copied (§5.4.4).
        for look in 0.. {
            self.i2c.write_read(address, &[register::STATUS], &mut byte)?;
            if byte[0] & 1 == 0 {
                break;
            }
            if look == LOOKS {
                return Err(wrong(address, "the chip never finished its start"));
            }
            self.pause.delay_ms(START_UP_MS);
        }
        let mut calibration = [0; CALIBRATION.0 + CALIBRATION.1];
        let (first, second) = calibration.split_at_mut(CALIBRATION.0);
        self.i2c.write_read(address, &[register::CALIBRATION_FIRST], first)?;
        self.i2c.write_read(address, &[register::CALIBRATION_SECOND], second)?;
        match stuck(first).or(stuck(second)) {
            Some(why) => Err(wrong(address, format!("calibration: {why}"))),
            None => Ok(calibration),
        }
    }
}

/// Longest time of a measurement of all three values, in µs (§9.1).
fn measurement_us_max(oversampling: Oversampling) -> u32 {
    let times = match oversampling {
        Oversampling::Skip => 0,
        Oversampling::X1 => 1,
        Oversampling::X2 => 2,
        Oversampling::X4 => 4,
        Oversampling::X8 => 8,
        Oversampling::X16 => 16,
    };
    1_250 + 3 * 2_300 * times + 2 * 575
}

/// The crate's way to the chip. It is given the calibration instead of reading it for each sample.
struct Wire<'a> {
    i2c: &'a mut I2cHandle,
    address: u8,
    calibration: [u8; 33],
}

impl Bme280Bus for Wire<'_> {
    type Error = I2cFault;

    fn read_regs(&mut self, register: u8, bytes: &mut [u8]) -> Result<(), I2cFault> {
        self.i2c.write_read(self.address, &[register], bytes)?;
        if register == register::MEASURED {
            if let Some(why) = stuck(bytes) {
                return Err(I2cFault::other(self.address, why));
            }
            // The crate compares 20 bits with a pattern of 32, and would make numbers of these.
            if [0..3, 3..6, 6..8].into_iter().any(|value| bytes.get(value.clone()) == NOTHING.get(value)) {
                return Err(I2cFault::other(
                    self.address,
                    "nothing was measured: its registers hold what they do after power-on",
                ));
            }
        }
        Ok(())
    }

    fn write_reg(&mut self, register: u8, byte: u8) -> Result<(), I2cFault> {
        self.i2c.write(self.address, &[register, byte])
    }

    fn calibration(&mut self) -> Result<bme280_multibus::Calibration, I2cFault> {
        Ok(self.calibration.into())
    }
}

/// A chip made of software: its registers, the calibration of the datasheet's sister part, and a measurement whenever one is forced.
struct Simulated {
    registers: Registers,
    temperature: Wave,
    pressure: Wave,
    humidity: Wave,
}

/// Calibration: temperature and pressure of the worked example in BST-BMP280-DS001 §3.12, which shares the arithmetic; humidity as chips have it.
const EXAMPLE_FIRST: [u8; 26] = [
    0x70, 0x6b, 0x43, 0x67, 0x18, 0xfc, 0x7d, 0x8e, 0x43, 0xd6, 0xd0, 0x0b, 0x27, 0x0b, 0x8c, 0x00, 0xf9, 0xff, 0x8c,
    0x3c, 0xf8, 0xc6, 0x70, 0x17, 0x00, 0x4b,
];
/// See [`EXAMPLE_FIRST`].
const EXAMPLE_SECOND: [u8; 7] = [0x6a, 0x01, 0x00, 0x14, 0x28, 0x03, 0x1e];

impl Simulated {
    fn new(seed: u64) -> Self {
        let mut registers = Registers::new();
        registers.set(register::ID, &[CHIP_ID]);
        registers.set(register::CALIBRATION_FIRST, &EXAMPLE_FIRST);
        registers.set(register::CALIBRATION_SECOND, &EXAMPLE_SECOND);
        registers.set(register::MEASURED, &NOTHING);
        // What the converters give for about 18 to 26 °C, 985 to 1020 hPa and 35 to 60 %.
        Self {
            registers,
            temperature: Wave::new(498_000.0, 522_500.0, seed),
            pressure: Wave::new(404_000.0, 428_000.0, seed.wrapping_add(1)),
            humidity: Wave::new(26_000.0, 30_500.0, seed.wrapping_add(2)),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the waves are within 20 bits
    fn measure(&mut self) {
        let pressure = (self.pressure.step() as u32) << 4;
        let temperature = (self.temperature.step() as u32) << 4;
        let humidity = self.humidity.step() as u16;
        let mut bytes = [0; 8];
        bytes[..3].copy_from_slice(&pressure.to_be_bytes()[1..]);
        bytes[3..6].copy_from_slice(&temperature.to_be_bytes()[1..]);
        bytes[6..].copy_from_slice(&humidity.to_be_bytes());
        self.registers.set(register::MEASURED, &bytes);
    }
}

impl Target for Simulated {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        self.registers.write(bytes)?;
        // Forced mode is 01 or 10 in the lowest bits of ctrl_meas (§5.4.5, table 25).
        if let [0xf4, control, ..] = bytes
            && matches!(control & 3, 1 | 2)
        {
            self.measure();
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        self.registers.read(into)
    }
}

#[cfg(test)]
mod tests;

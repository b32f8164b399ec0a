//! Texas Instruments INA219: voltage, current and power of a supply (I²C). Sections refer to its datasheet, SBOS448G.
//!
//! The crate `ina219` speaks to the chip. Current and power are computed here, from the voltage over the shunt: the chip's own arithmetic
//! needs a calibration that it loses with its supply, and rounds more coarsely. The chip has no id: what was written is read back with
//! every sample.

use std::sync::Arc;

use embedded_hal::delay::DelayNs;
use ina219::SyncIna219;
use ina219::address::Address;
use ina219::calibration::UnCalibrated;
use ina219::configuration::{
    BusVoltageRange, Configuration, MeasuredSignals, OperatingMode, Reset, Resolution, ShuntVoltageRange,
};
use ina219::errors::{BusVoltageReadError, ConfigurationReadError, MeasurementError, ShuntVoltageReadError};
use schemars::JsonSchema;
use toml::de::DeTable;

use super::i2c::{Wave, address, measured, names, one_of, places, units, wrong};
use super::options::Fields;
use super::{Build, Built, Channel, DriverSpec, I2cFactory, PolledDriver, SampleError};
use crate::bus::i2c::{I2cFault, I2cHandle, Pause, Target};
use crate::model::Sample;

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "ina219",
    summary: "Texas Instruments INA219: voltage, current and power of a supply",
    channels: CHANNELS,
    example: "address = 0x40\nshunt_ohms = 0.1\nmax_current = 2.0\n",
    schema: || schemars::schema_for!(Options),
    build: Build::I2c(decode),
};

/// §7.5: 0 to 26 V at the bus; the current is the shunt's, which cannot be known here.
const CHANNELS: &[Channel] = &[
    Channel::new("voltage", "V", 0.0, 26.0),
    Channel::new("current", "A", -3200.0, 3200.0),
    Channel::new("power", "W", -83_200.0, 83_200.0),
];

/// Keys of a sensor with `driver = "ina219"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// 7-bit address, 0x40 to 0x4f by what A0 and A1 are connected to (§8.5.5.1). Default 0x40.
    address: Option<u8>,
    /// Resistance of the shunt in ohms, 0.0001 to 100. Default 0.1, which most boards carry.
    shunt_ohms: Option<f64>,
    /// Largest current to measure, in amperes: the finest of the chip's four ranges that holds it is used. More than 320 mV over the shunt cannot be
    /// measured. Default: the whole range.
    max_current: Option<f64>,
    /// Measurements that the chip itself takes the mean of: 1, 2, 4, 8, 16, 32, 64 or 128 (68 ms). Default 1.
    average: Option<u8>,
}

/// Most that can be measured over the shunt, in volts (§7.5).
const SHUNT_VOLTS_MAX: f64 = 0.32;

#[derive(Debug, Clone, Copy)]
struct Factory {
    address: u8,
    shunt_ohms: f64,
    configuration: Configuration,
}

fn decode(table: DeTable<'_>) -> Built<dyn I2cFactory> {
    let mut fields = Fields::new(table, &["address", "shunt_ohms", "max_current", "average"]);
    let every: Vec<u8> = (0x40..=0x4f).collect();
    let address = address(&mut fields, &every, 0x40);
    let shunt_ohms = fields.number("shunt_ohms", 0.0001..=100.0).unwrap_or(0.1);
    let mut range = ShuntVoltageRange::Fsr320mv;
    if let Some(at) = fields.span("max_current")
        && let Some(amperes) = fields.number("max_current", 0.000_001..=3200.0)
    {
        range = match places(amperes * shunt_ohms, 6) {
            ..=0.04 => ShuntVoltageRange::Fsr40mv,
            ..=0.08 => ShuntVoltageRange::Fsr80mv,
            ..=0.16 => ShuntVoltageRange::Fsr160mv,
            ..=SHUNT_VOLTS_MAX => ShuntVoltageRange::Fsr320mv,
            volts => {
                let millivolts = places(volts * 1000.0, 1);
                let most = places(SHUNT_VOLTS_MAX / shunt_ohms, 3);
                let help = format!("with {shunt_ohms} ohms at most {most} A can be measured");
                fields.error(
                    at,
                    format!("{amperes} A are {millivolts} mV over the shunt, above the chip's 320 mV"),
                    Some(help),
                );
                ShuntVoltageRange::Fsr320mv
            }
        };
    }
    let resolution = match one_of(&mut fields, "average", &[1, 2, 4, 8, 16, 32, 64, 128], 1) {
        2 => Resolution::Avg2,
        4 => Resolution::Avg4,
        8 => Resolution::Avg8,
        16 => Resolution::Avg16,
        32 => Resolution::Avg32,
        64 => Resolution::Avg64,
        128 => Resolution::Avg128,
        _ => Resolution::Res12Bit,
    };
    let configuration = Configuration {
        reset: Reset::Run,
        bus_voltage_range: BusVoltageRange::Fsr32v,
        shunt_voltage_range: range,
        bus_resolution: resolution,
        shunt_resolution: resolution,
        operating_mode: OperatingMode::Continous(MeasuredSignals::ShutAndBusVoltage),
    };
    match fields.finish() {
        errors if errors.is_empty() => Ok(Arc::new(Factory { address, shunt_ohms, configuration })),
        errors => Err(errors),
    }
}

impl I2cFactory for Factory {
    fn make(&self, i2c: I2cHandle, pause: Pause) -> Box<dyn PolledDriver> {
        // The keys were checked: the crate knows the same 16 addresses.
        let address = Address::from_byte(self.address).unwrap_or_default();
        let chip = SyncIna219::new_unchecked(i2c, address, UnCalibrated);
        Box::new(Driver { settings: *self, chip, pause, is_set_up: false })
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
        let volts = f64::from(*self.configuration.shunt_voltage_range.range_mv().end()) / 1000.0;
        Box::new(Simulated {
            pointer: 0,
            configuration: 0x399f,
            bus: Wave::new(11.8, 13.2, seed),
            shunt: Wave::new(volts * 0.1, volts * 0.6, seed.wrapping_add(1)),
        })
    }
}

struct Driver {
    settings: Factory,
    chip: SyncIna219<I2cHandle, UnCalibrated>,
    pause: Pause,
    is_set_up: bool,
}

/// Times that a measurement which is not ready is waited for. Both voltages are converted one after the other.
const WAITED: u32 = 4;

impl PolledDriver for Driver {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let Factory { address, shunt_ohms, configuration } = self.settings;
        if !self.is_set_up {
            self.chip.set_configuration(configuration)?;
            self.is_set_up = true;
        }
        match self.chip.configuration() {
            Ok(_) => {}
            Err(ConfigurationReadError::I2cError(fault)) => return Err(fault.into()),
            Err(ConfigurationReadError::ConfigurationMismatch { read, saved }) => {
                let (read, saved) = (read.as_bits(), saved.as_bits());
                let why = "no INA219, or its supply failed";
                return Err(wrong(
                    address,
                    format!("its configuration reads {read:#06x} where {saved:#06x} was written: {why}"),
                ));
            }
        }
        let conversion_us =
            configuration.bus_resolution.conversion_time_us() + configuration.shunt_resolution.conversion_time_us();
        for _ in 0..=WAITED {
            match self.chip.next_measurement() {
                Ok(Some(found)) => {
                    let voltage = f64::from(found.bus_voltage.voltage_mv()) / 1000.0;
                    let current = f64::from(found.shunt_voltage.shunt_voltage_uv()) / 1e6 / shunt_ohms;
                    return Ok(vec![
                        measured("voltage", voltage),
                        measured("current", places(current, 6)),
                        measured("power", places(voltage * current, 6)),
                    ]);
                }
                Ok(None) => self.pause.delay_us(conversion_us),
                Err(error) => return Err(explain(address, error)),
            }
        }
        Err(wrong(address, "the measurement never ended"))
    }

    fn reset(&mut self) {
        self.is_set_up = false;
    }
}

fn explain(address: u8, error: MeasurementError<I2cFault>) -> SampleError {
    match error {
        MeasurementError::I2cError(fault)
        | MeasurementError::ShuntVoltageReadError(ShuntVoltageReadError::I2cError(fault))
        | MeasurementError::BusVoltageReadError(BusVoltageReadError::I2cError(fault)) => fault.into(),
        MeasurementError::ShuntVoltageReadError(ShuntVoltageReadError::ShuntVoltageOutOfRange { is, .. }) => {
            wrong(address, format!("{is} over the shunt is beyond what its range can hold"))
        }
        MeasurementError::BusVoltageReadError(BusVoltageReadError::BusVoltageOutOfRange { is, .. }) => {
            wrong(address, format!("{is} at the bus is more than the chip can measure"))
        }
        MeasurementError::MathOverflow(_) => wrong(address, "the chip's arithmetic overflowed"),
    }
}

/// A chip made of software: its configuration, and two voltages that are always ready.
struct Simulated {
    pointer: u8,
    configuration: u16,
    bus: Wave,
    shunt: Wave,
}

impl Target for Simulated {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        let Some((pointer, value)) = bytes.split_first() else { return Ok(()) };
        self.pointer = *pointer;
        if let (0, [high, low]) = (*pointer, value) {
            self.configuration = u16::from_be_bytes([*high, *low]);
        }
        Ok(())
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the waves are within the registers
    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        let word = match self.pointer {
            0 => self.configuration,
            1 => (self.shunt.step() * 1e5) as u16,
            // 4 mV a count above three bits, of which the second is "conversion ready" (§8.6.3.2).
            2 => ((self.bus.step() * 250.0) as u16) << 3 | 2,
            _ => 0,
        };
        for (to, from) in into.iter_mut().zip(word.to_be_bytes()) {
            *to = from;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::drivers::{Factory as Kind, OptionsError};

    fn factory(options: &str) -> Result<Arc<dyn I2cFactory>, Vec<OptionsError>> {
        let table = toml::de::DeTable::parse(options).unwrap().into_inner();
        SPEC.build(table).map(|kind| match kind {
            Kind::I2c(factory) => factory,
            _ => panic!("on another bus"),
        })
    }

    /// A chip with four words, and a configuration that keeps what is written unless it is fixed.
    struct Words {
        pointer: u8,
        held: [u16; 6],
        fixed: bool,
    }

    impl Target for Words {
        fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
            self.pointer = bytes[0];
            if let ([0, high, low], false) = (bytes, self.fixed) {
                self.held[0] = u16::from_be_bytes([*high, *low]);
            }
            Ok(())
        }

        fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
            into.copy_from_slice(&self.held[usize::from(self.pointer)].to_be_bytes()[..into.len()]);
            Ok(())
        }
    }

    fn sample(options: &str, words: [u16; 6], fixed: bool) -> Result<Vec<f64>, String> {
        let target = Words { pointer: 0, held: words, fixed };
        let mut driver = factory(options).unwrap().make(I2cHandle::simulated(0x40, Box::new(target)), Pause::None);
        match driver.sample() {
            Ok(samples) => Ok(samples.iter().map(|sample| sample.value.as_f64().unwrap()).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// §9.2.2, table 8: 20 mV over 2 milliohms at 11.98 V is 10 A and 119.8 W. The shunt register holds 0x07d0, the bus register 0x5d98.
    #[test]
    fn voltage_current_and_power_are_those_of_the_worked_example() {
        let words = [0, 0x07d0, 0x5d98 | 2, 0, 0, 0];
        assert_eq!(sample("shunt_ohms = 0.002\nmax_current = 15", words, false), Ok(vec![11.98, 10.0, 119.8]));
    }

    /// §8.6.3.1, table 6: 0x8300 is -320 mV.
    #[test]
    fn a_current_may_flow_backwards() {
        assert_eq!(sample("", [0, 0x8300, 0x1f40 | 2, 0, 0, 0], false), Ok(vec![4.0, -3.2, -12.8]));
    }

    #[test]
    fn a_chip_that_lost_its_settings_is_told() {
        let error = sample("average = 128", [0x399f, 0, 2, 0, 0, 0], true).unwrap_err();
        assert!(error.contains("reads 0x399f where 0x3fff was written"), "{error}");
        let error = sample("", [0xffff, 0xffff, 0xffff, 0, 0, 0], true).unwrap_err();
        assert!(error.contains("no INA219"), "{error}");
    }

    #[test]
    fn a_measurement_that_never_comes_is_given_up() {
        assert_eq!(sample("", [0, 0, 0, 0, 0, 0], false), Err("0x40: the measurement never ended".into()));
    }

    #[test]
    fn more_than_the_shunts_range_is_no_value() {
        let error = sample("max_current = 0.4", [0, 0x1000, 2, 0, 0, 0], false).unwrap_err();
        assert!(error.contains("40960 µV over the shunt is beyond"), "{error}");
    }

    #[test]
    fn a_current_that_the_shunt_cannot_show_is_a_mistake_in_the_config() {
        let mistakes = factory("shunt_ohms = 0.1\nmax_current = 5").map(|_| ()).unwrap_err();
        assert_eq!(mistakes[0].message, "5 A are 500 mV over the shunt, above the chip's 320 mV");
        assert_eq!(mistakes[0].help.as_deref(), Some("with 0.1 ohms at most 3.2 A can be measured"));
        assert_eq!(mistakes[0].span, 17..32);
    }

    #[test]
    fn a_simulated_chip_is_read_like_a_real_one() {
        let factory = factory(SPEC.example).unwrap();
        let mut driver = factory.make(I2cHandle::simulated(0x40, factory.simulated(4)), Pause::None);
        let samples = driver.sample().unwrap();
        assert!((11.8..=13.2).contains(&samples[0].value.as_f64().unwrap()), "{samples:?}");
        assert_ne!(samples, driver.sample().unwrap());
    }

    proptest! {
        #[test]
        fn no_words_of_a_wire_panic(words in any::<[u16; 6]>(), fixed in any::<bool>()) {
            let _ = sample("", words, fixed);
        }
    }
}

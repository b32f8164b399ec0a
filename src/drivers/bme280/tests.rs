use proptest::prelude::*;

use super::*;
use crate::drivers::Factory as Kind;

fn driver(target: impl Target + 'static) -> Box<dyn PolledDriver> {
    let Kind::I2c(factory) = SPEC.build(toml::de::DeTable::parse(SPEC.example).unwrap().into_inner()).unwrap() else {
        panic!("on another bus")
    };
    factory.make(I2cHandle::simulated(factory.address(), Box::new(target)), Pause::None)
}

/// A chip whose converters always give the same.
struct Still {
    registers: Registers,
}

impl Still {
    fn new(pressure: u32, temperature: u32, humidity: u16) -> Self {
        let mut registers = Simulated::new(0).registers;
        registers.set(register::MEASURED, &(pressure << 12).to_be_bytes()[..3]);
        registers.set(register::MEASURED + 3, &(temperature << 12).to_be_bytes()[..3]);
        registers.set(register::MEASURED + 6, &humidity.to_be_bytes());
        Self { registers }
    }
}

impl Target for Still {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        self.registers.write(bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        self.registers.read(into)
    }
}

fn value(samples: &[Sample], name: &str) -> f64 {
    samples.iter().find(|sample| &*sample.name == name).unwrap().value.as_f64().unwrap()
}

/// The example of BST-BMP280-DS001 §3.12: UT 519888 is 25.08 °C, UP 415148 is 100653.27 Pa.
#[test]
fn temperature_and_pressure_are_those_of_the_worked_example() {
    let samples = driver(Still::new(415_148, 519_888, 28_000)).sample().unwrap();
    assert!((value(&samples, "temperature") - 25.08).abs() < 1e-9, "{samples:?}");
    assert!((value(&samples, "pressure") - 1006.5327).abs() < 0.001, "{samples:?}");
}

/// The arithmetic of humidity in double precision, as §8.1 gives it: the oracle for the crate's integers.
fn humidity_by_the_datasheet(raw: f64, t_fine: f64, (h1, h2, h3, h4, h5, h6): (f64, f64, f64, f64, f64, f64)) -> f64 {
    let x = t_fine - 76_800.0;
    let y = raw - (h4 * 64.0 + h5 / 16_384.0 * x);
    let z = h2 / 65_536.0 * (1.0 + h6 / 67_108_864.0 * x * (1.0 + h3 / 67_108_864.0 * x));
    let humidity = y * z;
    humidity * (1.0 - h1 * humidity / 524_288.0)
}

#[test]
fn humidity_is_that_of_the_datasheets_own_formula() {
    // t_fine of the example is 128422; H1 75, H2 362, H3 0, H4 328, H5 50, H6 30 as in the simulated chip.
    for raw in [24_000_u16, 28_000, 31_000] {
        let samples = driver(Still::new(415_148, 519_888, raw)).sample().unwrap();
        let expected = humidity_by_the_datasheet(f64::from(raw), 128_422.0, (75.0, 362.0, 0.0, 328.0, 50.0, 30.0));
        assert!((value(&samples, "humidity") - expected).abs() < 0.02, "{raw}: {samples:?}, {expected}");
    }
}

/// H4 and H5 have a sign (§4.2.2, table 16), which other crates lose.
#[test]
fn a_chip_with_a_negative_coefficient_is_read_as_well() {
    let mut chip = Still::new(415_148, 519_888, 28_000);
    // H4 stays 0x148; H5 becomes -20 = 0xfec.
    chip.registers.set(0xe4, &[0x14, 0xc8, 0xfe]);
    let samples = driver(chip).sample().unwrap();
    let expected = humidity_by_the_datasheet(28_000.0, 128_422.0, (75.0, 362.0, 0.0, 328.0, -20.0, 30.0));
    assert!((value(&samples, "humidity") - expected).abs() < 0.02, "{samples:?}, {expected}");
}

#[test]
fn another_chip_is_named() {
    let fails_with = |id: u8| {
        let mut chip = Simulated::new(0);
        chip.registers.set(register::ID, &[id]);
        driver(chip).sample().unwrap_err().to_string()
    };
    assert_eq!(fails_with(0x58), "0x76: chip id 0x58: this is a BMP280, which measures no humidity");
    assert_eq!(fails_with(0x61), "0x76: chip id 0x61 is no BME280's, which is 0x60");
    assert_eq!(fails_with(0xff), "0x76: chip id 0xff is no BME280's, which is 0x60");
}

#[test]
fn a_chip_that_holds_its_power_on_values_has_measured_nothing() {
    for (pressure, temperature, humidity) in
        [(0x80000, 519_888, 28_000), (415_148, 0x80000, 28_000), (415_148, 519_888, 0x8000)]
    {
        let error = driver(Still::new(pressure, temperature, humidity)).sample().unwrap_err();
        assert!(error.to_string().contains("what they do after power-on"), "{error}");
    }
    let error = driver(Still::new(0, 0, 0)).sample().unwrap_err();
    assert!(error.to_string().contains("held low"), "{error}");
}

#[test]
fn a_chip_that_never_ends_its_measurement_is_given_up() {
    let mut chip = Still::new(415_148, 519_888, 28_000);
    chip.registers.set(register::STATUS, &[0x08]);
    assert_eq!(driver(chip).sample().unwrap_err().to_string(), "0x76: the measurement never ended");
    let mut chip = Still::new(415_148, 519_888, 28_000);
    chip.registers.set(register::STATUS, &[0x01]);
    assert_eq!(driver(chip).sample().unwrap_err().to_string(), "0x76: the chip never finished its start");
}

#[test]
fn a_simulated_chip_gives_values_that_move_within_their_ranges() {
    let mut driver = driver(Simulated::new(3));
    let mut last = Vec::new();
    for _ in 0..300 {
        let samples = driver.sample().unwrap();
        for channel in CHANNELS {
            let value = value(&samples, channel.name);
            assert!(value > channel.range.0 && value < channel.range.1, "{} {value}", channel.name);
        }
        assert_ne!(samples, last);
        last = samples;
    }
}

proptest! {
    /// A wire may bring anything: it is a value or an error, never a panic.
    #[test]
    fn no_bytes_of_a_wire_panic(calibration in any::<[u8; 32]>(), more in any::<[u8; 7]>(), measured in any::<[u8; 8]>()) {
        let mut chip = Still::new(0, 0, 0);
        chip.registers.set(register::CALIBRATION_FIRST, &calibration[..26]);
        chip.registers.set(register::CALIBRATION_SECOND, &more);
        chip.registers.set(register::MEASURED, &measured);
        if let Ok(samples) = driver(chip).sample() {
            prop_assert!(samples.iter().all(|sample| sample.value.as_f64().unwrap().is_finite()));
        }
    }
}

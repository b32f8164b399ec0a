//! Texas Instruments ADS1115: four analogue inputs, 16 bits (I²C). Sections refer to its datasheet, SBAS444E.
//!
//! Each value is one conversion in single-shot mode (§8.4.2.1), by the crate `ads1x1x`. Everything that is set goes into the chip with each of
//! them, so a chip that lost its supply in between measures as it should; what it then holds is read back once a sample.

use std::sync::Arc;

use ads1x1x::{Ads1x1x, DataRate16Bit, Error, FullScaleRange, TargetAddr, channel, ic, mode};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use schemars::JsonSchema;
use toml::de::DeTable;

use super::i2c::{Wave, address, measured, one_of, places, wrong};
use super::options::{Fields, list};
use super::{Build, Built, DriverSpec, I2cFactory, OptionsError, PolledDriver, SampleError};
use crate::bus::i2c::{I2cFault, I2cHandle, Pause, Target};
use crate::model::Sample;

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "ads1115",
    summary: "Texas Instruments ADS1115: four voltages, or two differences, with 16 bits",
    channels: &[],
    example: "address = 0x48\ninputs = [ { name = \"battery\", input = \"A0\", full_scale = 4.096 } ]\n",
    schema: || schemars::schema_for!(Options),
    build: Build::I2c(decode),
};

/// Keys of a sensor with `driver = "ads1115"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// 7-bit address, by what ADDR is connected to: 0x48 ground, 0x49 supply, 0x4a SDA, 0x4b SCL (§8.5.1.1). Default 0x48.
    address: Option<u8>,
    /// Conversions a second: 8, 16, 32, 64, 128, 250, 475 or 860. A slower one hears less noise. Default 128.
    rate: Option<u16>,
    /// What is measured, 1 to 8 inputs, each a value in volts.
    inputs: Vec<InputOptions>,
}

/// One input.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct InputOptions {
    /// Name of the value.
    name: String,
    /// `A0`, `A1`, `A2` or `A3` against ground, or a difference: `A0-A1`, `A0-A3`, `A1-A3`, `A2-A3`.
    input: String,
    /// Largest voltage that can be told, either way, in volts: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256 (§8.3.3). No input may be above the
    /// supply all the same. Default 2.048.
    full_scale: Option<f64>,
}

/// Inputs, and the bits of the configuration register that choose them (§8.6.3 table 8).
const INPUTS: [(&str, u16); 8] = [
    ("A0-A1", 0b000),
    ("A0-A3", 0b001),
    ("A1-A3", 0b010),
    ("A2-A3", 0b011),
    ("A0", 0b100),
    ("A1", 0b101),
    ("A2", 0b110),
    ("A3", 0b111),
];
/// Full scales in volts, in the order of their bits.
const FULL_SCALES: [(f64, FullScaleRange); 6] = [
    (6.144, FullScaleRange::Within6_144V),
    (4.096, FullScaleRange::Within4_096V),
    (2.048, FullScaleRange::Within2_048V),
    (1.024, FullScaleRange::Within1_024V),
    (0.512, FullScaleRange::Within0_512V),
    (0.256, FullScaleRange::Within0_256V),
];
/// Conversions a second, in the order of their bits.
const RATES: [(i64, DataRate16Bit); 8] = [
    (8, DataRate16Bit::Sps8),
    (16, DataRate16Bit::Sps16),
    (32, DataRate16Bit::Sps32),
    (64, DataRate16Bit::Sps64),
    (128, DataRate16Bit::Sps128),
    (250, DataRate16Bit::Sps250),
    (475, DataRate16Bit::Sps475),
    (860, DataRate16Bit::Sps860),
];
/// The configuration register, and its bits but OS, which tells whether a conversion runs.
const CONFIGURATION: u8 = 0x01;
const CONFIGURED: u16 = 0x7fff;
/// Mode and comparator as the crate leaves them: single-shot, comparator off.
const SINGLE_SHOT: u16 = 0x0103;
/// Counts of the full scale.
const COUNTS: f64 = 32_768.0;

#[derive(Debug, Clone, PartialEq)]
struct Input {
    name: Arc<str>,
    /// Index in [`INPUTS`].
    mux: usize,
    /// Index in [`FULL_SCALES`].
    full_scale: usize,
}

#[derive(Debug, Clone)]
struct Factory {
    address: u8,
    /// Index in [`RATES`].
    rate: usize,
    inputs: Vec<Input>,
}

fn decode(table: DeTable<'_>) -> Built<dyn I2cFactory> {
    let mut fields = Fields::new(table, &["address", "rate", "inputs"]);
    let address = address(&mut fields, &[0x48, 0x49, 0x4a, 0x4b], 0x48);
    let rate = one_of(&mut fields, "rate", &RATES.map(|(rate, _)| rate), 128);
    let rate = RATES.iter().position(|(known, _)| *known == rate).unwrap_or(4);
    let mut errors = Vec::new();
    let mut inputs: Vec<Input> = Vec::new();
    let at = fields.span("inputs");
    if at.is_none() {
        let help = "such as `inputs = [ { name = \"battery\", input = \"A0\" } ]`".to_owned();
        fields.error(0..0, "missing key `inputs`", Some(help));
    }
    for (table, span) in fields.tables("inputs").unwrap_or_default() {
        if let Some(input) = decode_input(table, span.clone(), &inputs, &mut errors) {
            inputs.push(input);
        }
    }
    if let Some(at) = at
        && errors.is_empty()
        && (inputs.is_empty() || inputs.len() > INPUTS.len())
    {
        fields.error(at, format!("`inputs` must hold 1 to {} inputs", INPUTS.len()), None);
    }
    errors.extend(fields.finish());
    errors.sort_by_key(|error| error.span.start);
    if errors.is_empty() { Ok(Arc::new(Factory { address, rate, inputs })) } else { Err(errors) }
}

fn decode_input(
    table: DeTable<'_>,
    span: std::ops::Range<usize>,
    before: &[Input],
    errors: &mut Vec<OptionsError>,
) -> Option<Input> {
    let mut fields = Fields::new(table, &["name", "input", "full_scale"]);
    for key in ["name", "input"] {
        if !fields.has(key) {
            fields.error(span.clone(), format!("an input needs `{key}`"), None);
        }
    }
    let name = fields.text("name").and_then(|word| {
        if word.content.is_empty() || before.iter().any(|input| *input.name == *word.content) {
            fields.error(word.span, "each input needs a name of its own", None);
            return None;
        }
        Some(word.content)
    });
    let input = fields.text("input").and_then(|word| {
        let known = INPUTS.iter().position(|(name, _)| *name == word.content);
        if known.is_none() {
            let help = format!("known: {}", list(&INPUTS.map(|(name, _)| name)));
            fields.error(word.span, format!("the chip has no input `{}`", word.content), Some(help));
        }
        known
    });
    let full_scale = match fields.span("full_scale") {
        None => Some(2),
        Some(at) => fields.number("full_scale", 0.0..=10.0).and_then(|volts| {
            let known = FULL_SCALES.iter().position(|(known, _)| (known - volts).abs() < f64::EPSILON);
            if known.is_none() {
                let help = "it is one of 6.144, 4.096, 2.048, 1.024, 0.512, 0.256".to_owned();
                fields.error(at, format!("`full_scale` cannot be {volts}"), Some(help));
            }
            known
        }),
    };
    errors.extend(fields.finish());
    Some(Input { name: name?.into(), mux: input?, full_scale: full_scale? })
}

impl I2cFactory for Factory {
    fn make(&self, i2c: I2cHandle, pause: Pause) -> Box<dyn PolledDriver> {
        Box::new(Driver { settings: self.clone(), i2c, pause })
    }

    fn address(&self) -> u8 {
        self.address
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.inputs.iter().map(|input| input.name.clone()).collect()
    }

    fn units(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.inputs.iter().map(|input| (input.name.clone(), "V".into())).collect()
    }

    fn simulated(&self, seed: u64) -> Box<dyn Target> {
        let voltage = Wave::new(0.6, 1.4, seed);
        // As after power-on (§8.6.3): nothing converted, no conversion running.
        Box::new(Simulated { pointer: 0, configuration: 0x8583, converted: 0, voltage })
    }
}

struct Driver {
    settings: Factory,
    i2c: I2cHandle,
    pause: Pause,
}

impl PolledDriver for Driver {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let Factory { address, rate, inputs } = &self.settings;
        let target = match address {
            0x49 => TargetAddr::Vdd,
            0x4a => TargetAddr::Sda,
            0x4b => TargetAddr::Scl,
            _ => TargetAddr::Gnd,
        };
        let (conversions_a_second, data_rate) = RATES[*rate];
        // The chip's own clock may be 10 % slow (§7.5).
        let conversion_us_max = u32::try_from(1_100_000 / conversions_a_second + 100).unwrap_or(u32::MAX);
        let mut chip = Ads1x1x::new_ads1115(&mut self.i2c, target);
        let explain = |error| explain(*address, error);
        // A write of what it holds already would start a conversion that nobody wants.
        if *rate != 4 {
            chip.set_data_rate(data_rate).map_err(explain)?;
        }
        let mut samples = Vec::with_capacity(inputs.len());
        let mut full_scale = 2;
        let mut configuration = None;
        for input in inputs {
            let (volts, range) = FULL_SCALES[input.full_scale];
            if input.full_scale != full_scale {
                chip.set_full_scale_range(range).map_err(explain)?;
                full_scale = input.full_scale;
            }
            let counts = convert(&mut chip, input.mux, conversion_us_max, &mut self.pause, *address)?;
            if counts == i16::MAX || counts == i16::MIN {
                return Err(wrong(*address, format!("`{}` is beyond its full scale of {volts} V", input.name)));
            }
            samples.push(measured(&input.name, places(f64::from(counts) * volts / COUNTS, 7)));
            configuration = Some(settings(input, *rate));
        }
        let mut bytes = [0; 2];
        self.i2c.write_read(*address, &[CONFIGURATION], &mut bytes)?;
        let found = u16::from_be_bytes(bytes) & CONFIGURED;
        match configuration {
            Some(expected) if found != expected => Err(wrong(
                *address,
                format!(
                    "its configuration reads {found:#06x} where {expected:#06x} was written: no ADS1115, or its supply failed"
                ),
            )),
            _ => Ok(samples),
        }
    }

    /// Every sample sets everything.
    fn reset(&mut self) {}
}

/// What the configuration register holds for an input, without OS (§8.6.3).
fn settings(input: &Input, rate: usize) -> u16 {
    // The tables are shorter than the fields are wide.
    let bits = |index: usize| u16::try_from(index).unwrap_or(0);
    (INPUTS[input.mux].1 << 12) | (bits(input.full_scale) << 9) | (bits(rate) << 5) | SINGLE_SHOT
}

type Chip<'a> = Ads1x1x<&'a mut I2cHandle, ic::Ads1115, ic::Resolution16Bit, mode::OneShot>;

/// Times that the chip is asked about a conversion that should have ended.
const ASKED: u32 = 8;

fn convert(chip: &mut Chip<'_>, input: usize, us: u32, pause: &mut Pause, address: u8) -> Result<i16, SampleError> {
    for _ in 0..ASKED {
        let answer = match INPUTS[input].0 {
            "A0-A1" => chip.read(channel::DifferentialA0A1),
            "A0-A3" => chip.read(channel::DifferentialA0A3),
            "A1-A3" => chip.read(channel::DifferentialA1A3),
            "A2-A3" => chip.read(channel::DifferentialA2A3),
            "A0" => chip.read(channel::SingleA0),
            "A1" => chip.read(channel::SingleA1),
            "A2" => chip.read(channel::SingleA2),
            _ => chip.read(channel::SingleA3),
        };
        match answer {
            Ok(counts) => return Ok(counts),
            Err(nb::Error::WouldBlock) => pause.delay_us(us),
            Err(nb::Error::Other(error)) => return Err(explain(address, error)),
        }
    }
    Err(wrong(address, "the conversion never ended"))
}

fn explain(address: u8, error: Error<I2cFault>) -> SampleError {
    match error {
        Error::I2C(fault) => fault.into(),
        Error::InvalidInputData => wrong(address, "the crate took no such setting"),
    }
}

/// A chip made of software: its two registers, and a conversion that has ended when it is asked about.
struct Simulated {
    pointer: u8,
    configuration: u16,
    converted: i16,
    voltage: Wave,
}

impl Target for Simulated {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        let Some((pointer, value)) = bytes.split_first() else { return Ok(()) };
        self.pointer = *pointer;
        if let (CONFIGURATION, [high, low]) = (*pointer, value) {
            self.configuration = u16::from_be_bytes([*high, *low]);
            if self.configuration & 0x8000 != 0 {
                let (volts, _) = FULL_SCALES[usize::from(self.configuration >> 9 & 7).min(5)];
                #[allow(clippy::cast_possible_truncation)] // `as` keeps a float within the type
                let counts = (self.voltage.step() / volts * COUNTS) as i16;
                self.converted = counts;
            }
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        let word = match self.pointer {
            0 => self.converted.to_be_bytes(),
            CONFIGURATION => (self.configuration | 0x8000).to_be_bytes(),
            _ => [0x80, 0x00],
        };
        for (to, from) in into.iter_mut().zip(word) {
            *to = from;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! One output of a port expander on an I²C bus.
//!
//! - PCF8574, PCF8574A (NXP, TI SCPS068): eight quasi-bidirectional pins. One byte written sets them all; one byte read is their levels.
//!   A pin that is no output of ours is written as 1, which lets it be an input.
//! - MCP23017 (Microchip DS20001952): two ports of eight, with a latch, a direction and the levels in registers of their own (section 3.5,
//!   IOCON.BANK = 0 as after power-on). Outputs 0 to 7 are GPA0 to GPA7, 8 to 15 are GPB0 to GPB7.
//!
//! Outputs of one chip share it: what one sets leaves the others as they are.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use embedded_hal::i2c::I2c as _;
use schemars::JsonSchema;

use super::options::{choice, flag, missing};
use super::{ActuatorFactory, ActuatorSpec, Device, Means, Way};
use crate::bus::i2c::{I2cFault, I2cHandle, Registers, Target};
use crate::drivers::options::Fields;
use crate::logic::command::Vocabulary;
use crate::model::Setting;

/// The row in the table of actuators.
pub(super) const SPEC: ActuatorSpec = ActuatorSpec {
    name: "i2c-write",
    summary: "One output of a port expander on an I²C bus: PCF8574, PCF8574A, MCP23017",
    example: "chip = \"pcf8574\"\naddress = 0x20\noutput = 3\nactive_low = true\n",
    schema: || schemars::schema_for!(Options),
    build: |table| {
        let mut fields = Fields::new(table, &KEYS);
        let plan = decode(&mut fields);
        let mistakes = fields.finish();
        match plan {
            Some(plan) if mistakes.is_empty() => Ok(Arc::new(plan) as Arc<dyn ActuatorFactory>),
            _ => Err(mistakes),
        }
    },
};

/// Keys of an actuator with `driver = "i2c-write"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// The chip: `pcf8574`, `pcf8574a`, `mcp23017`.
    chip: String,
    /// Its 7-bit address: 0x20 to 0x27, of the PCF8574A 0x38 to 0x3F.
    address: u8,
    /// Which of its outputs, from 0: up to 7, of the MCP23017 up to 15 (8 is GPB0).
    output: u8,
    /// Whether the actuator is on while the output's voltage is low, as most relay boards are. Default false.
    active_low: Option<bool>,
}

const KEYS: [&str; 4] = ["chip", "address", "output", "active_low"];

/// Which chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChipKind {
    /// Eight pins, addresses 0x20 to 0x27.
    Pcf8574,
    /// The same at 0x38 to 0x3F.
    Pcf8574a,
    /// Two ports of eight.
    Mcp23017,
}

impl ChipKind {
    const NAMES: [(&'static str, ChipKind); 3] =
        [("mcp23017", Self::Mcp23017), ("pcf8574", Self::Pcf8574), ("pcf8574a", Self::Pcf8574a)];

    fn first_address(self) -> u8 {
        if self == Self::Pcf8574a { 0x38 } else { 0x20 }
    }

    fn outputs(self) -> u8 {
        if self == Self::Mcp23017 { 16 } else { 8 }
    }
}

fn decode(fields: &mut Fields<'_>) -> Option<I2cWrite> {
    let active_low = flag(fields, "active_low");
    for (key, example) in [("chip", "chip = \"pcf8574\""), ("address", "address = 0x20"), ("output", "output = 0")] {
        if !fields.has(key) {
            missing(fields, key, example);
        }
    }
    let (address_at, output_at) = (fields.span("address"), fields.span("output"));
    let chip = choice(fields, "chip", &ChipKind::NAMES);
    let address = fields.integer("address", 0x08..=0x77);
    let output = fields.integer("output", 0..=15);
    let (chip, address, output) = (chip?, u8::try_from(address?).ok()?, u8::try_from(output?).ok()?);
    let first = chip.first_address();
    if !(first..first + 8).contains(&address) {
        let last = first + 7;
        fields.error(address_at?, format!("this chip has addresses 0x{first:02x} to 0x{last:02x}"), None);
        return None;
    }
    if output >= chip.outputs() {
        fields.error(output_at?, format!("this chip has outputs 0 to {}", chip.outputs() - 1), None);
        return None;
    }
    Some(I2cWrite { chip, address, output, active_low })
}

#[derive(Debug, Clone, Copy)]
struct I2cWrite {
    chip: ChipKind,
    address: u8,
    output: u8,
    active_low: bool,
}

impl ActuatorFactory for I2cWrite {
    fn means(&self) -> Means {
        Means::I2c { address: self.address, chip: self.chip, output: self.output }
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Switch
    }

    fn make(&self, way: Way) -> Option<Box<dyn Device>> {
        let Way::I2c(bus, shared) = way else { return None };
        shared.reserve(self.output);
        Some(Box::new(Output { plan: *self, bus, shared }))
    }

    fn simulated(&self) -> Option<Box<dyn Target>> {
        Some(match self.chip {
            ChipKind::Pcf8574 | ChipKind::Pcf8574a => Box::new(Pins(0xff)),
            ChipKind::Mcp23017 => Box::new(Ports::default()),
        })
    }
}

/// What the outputs of one chip share.
#[derive(Debug, Default)]
pub struct Chip {
    /// Its pins that are outputs of ours.
    outputs: AtomicU16,
    /// Held while one of them is read, changed and written.
    turn: Mutex<()>,
}

impl Chip {
    /// From here on a pin is an output of ours, and left as it is by the others. Never waits.
    pub fn reserve(&self, output: u8) {
        self.outputs.fetch_or(1 << output, Ordering::SeqCst);
    }

    /// Whether it is one.
    #[cfg(test)]
    pub fn has(&self, output: u8) -> bool {
        self.outputs.load(Ordering::SeqCst) & (1 << output) != 0
    }
}

struct Output {
    plan: I2cWrite,
    bus: I2cHandle,
    shared: Arc<Chip>,
}

/// MCP23017, registers of port A with IOCON.BANK = 0; those of port B are one higher.
const IODIR: u8 = 0x00;
const GPIO: u8 = 0x12;
const OLAT: u8 = 0x14;

impl Output {
    fn register(&mut self, register: u8) -> Result<u8, I2cFault> {
        let mut byte = [0];
        self.bus.write_read(self.plan.address, &[register], &mut byte)?;
        Ok(byte[0])
    }

    fn pins(&mut self) -> Result<u8, I2cFault> {
        let mut byte = [0];
        self.bus.read(self.plan.address, &mut byte)?;
        Ok(byte[0])
    }

    fn write(&mut self, high: bool, outputs: u16) -> Result<(), I2cFault> {
        let address = self.plan.address;
        match self.plan.chip {
            ChipKind::Pcf8574 | ChipKind::Pcf8574a => {
                let bit = 1_u8 << self.plan.output;
                let ours = outputs.to_le_bytes()[0];
                // The others stay as their pins are, also after the chip lost its power: each notices by itself.
                let others = (self.pins()? & ours) | !ours;
                self.bus.write(address, &[if high { others | bit } else { others & !bit }])
            }
            ChipKind::Mcp23017 => {
                let (port, bit) = (self.plan.output / 8, 1_u8 << (self.plan.output % 8));
                let latch = self.register(OLAT + port)?;
                self.bus.write(address, &[OLAT + port, if high { latch | bit } else { latch & !bit }])?;
                // The level first, then the direction: the pin is never an output with another level.
                let direction = self.register(IODIR + port)?;
                if direction & bit != 0 {
                    self.bus.write(address, &[IODIR + port, direction & !bit])?;
                }
                Ok(())
            }
        }
    }

    fn read(&mut self) -> Result<Setting, String> {
        let words = |fault: I2cFault| fault.to_string();
        let high = match self.plan.chip {
            ChipKind::Pcf8574 | ChipKind::Pcf8574a => self.pins().map_err(words)? & (1 << self.plan.output) != 0,
            ChipKind::Mcp23017 => {
                let (port, bit) = (self.plan.output / 8, 1_u8 << (self.plan.output % 8));
                if self.register(IODIR + port).map_err(words)? & bit != 0 {
                    return Err("its output is an input: the chip was reset".to_owned());
                }
                self.register(GPIO + port).map_err(words)? & bit != 0
            }
        };
        Ok(if high == self.plan.active_low { Setting::Off } else { Setting::On })
    }
}

impl Device for Output {
    fn set(&mut self, setting: &Setting) -> Result<Option<Setting>, String> {
        let shared = Arc::clone(&self.shared);
        let _turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = shared.outputs.load(Ordering::SeqCst);
        let high = (*setting == Setting::On) != self.plan.active_low;
        self.write(high, outputs).map_err(|fault| fault.to_string())?;
        self.read().map(Some)
    }

    fn check(&mut self) -> Result<Option<Setting>, String> {
        self.read().map(Some)
    }
}

/// A PCF8574 made of software: its eight pins, all high after power-on.
struct Pins(u8);

impl Target for Pins {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        self.0 = bytes.last().copied().unwrap_or(self.0);
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        into.fill(self.0);
        Ok(())
    }
}

/// An MCP23017 made of software: all pins are inputs after power-on, and read low; an output reads as its latch.
#[derive(Debug, Clone)]
struct Ports(Registers);

impl Default for Ports {
    fn default() -> Self {
        let mut registers = Registers::new();
        registers.set(IODIR, &[0xff, 0xff]);
        Self(registers)
    }
}

impl Target for Ports {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        self.0.write(bytes)?;
        for port in [0, 1] {
            let at = |register: u8| usize::from(register + port);
            self.0.bytes[at(GPIO)] = self.0.bytes[at(OLAT)] & !self.0.bytes[at(IODIR)];
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        self.0.read(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that the test keeps a hand on.
    struct Seen<T>(Arc<Mutex<T>>, Arc<Mutex<Vec<Vec<u8>>>>);

    impl<T: Target> Target for Seen<T> {
        fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
            self.1.lock().unwrap().push(bytes.to_vec());
            self.0.lock().unwrap().write(bytes)
        }

        fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
            self.0.lock().unwrap().read(into)
        }
    }

    struct Bench<T> {
        target: Arc<Mutex<T>>,
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
        chip: Arc<Chip>,
    }

    impl<T: Target + 'static> Bench<T> {
        fn new(target: T) -> Self {
            Self { target: Arc::new(Mutex::new(target)), writes: Arc::default(), chip: Arc::default() }
        }

        fn output(&self, chip: ChipKind, output: u8, active_low: bool) -> Box<dyn Device> {
            let plan = I2cWrite { chip, address: 0x20, output, active_low };
            let target = Seen(self.target.clone(), self.writes.clone());
            let bus = I2cHandle::simulated(0x20, Box::new(target));
            plan.make(Way::I2c(bus, self.chip.clone())).unwrap()
        }

        fn writes(&self) -> Vec<Vec<u8>> {
            std::mem::take(&mut self.writes.lock().unwrap())
        }
    }

    #[test]
    fn outputs_of_one_pcf8574_leave_each_other_and_the_inputs_as_they_are() {
        let bench = Bench::new(Pins(0xff));
        let mut fan = bench.output(ChipKind::Pcf8574, 0, true);
        let mut lamp = bench.output(ChipKind::Pcf8574, 7, false);
        assert_eq!(lamp.set(&Setting::Off), Ok(Some(Setting::Off)));
        assert_eq!(fan.set(&Setting::On), Ok(Some(Setting::On)));
        assert_eq!(lamp.set(&Setting::On), Ok(Some(Setting::On)));
        assert_eq!(bench.writes(), [[0b0111_1111], [0b0111_1110], [0b1111_1110]]);
        // Somebody pulls an input low: it must not be written low, or it could never be high again.
        bench.target.lock().unwrap().0 &= !0b0000_0100;
        fan.set(&Setting::Off).unwrap();
        assert_eq!(bench.writes(), [[0xff]]);
    }

    #[test]
    fn a_pcf8574_that_lost_its_power_is_not_given_back_what_its_other_outputs_were() {
        let bench = Bench::new(Pins(0xff));
        let mut fan = bench.output(ChipKind::Pcf8574, 0, false);
        let mut lamp = bench.output(ChipKind::Pcf8574, 1, false);
        fan.set(&Setting::Off).unwrap();
        lamp.set(&Setting::Off).unwrap();
        bench.target.lock().unwrap().0 = 0xff;
        assert_eq!(lamp.set(&Setting::Off), Ok(Some(Setting::Off)));
        assert_eq!(fan.check(), Ok(Some(Setting::On)), "it reads what it is, and goes to its own safe state");
    }

    #[test]
    fn an_output_that_has_not_moved_yet_is_not_driven_high_by_its_neighbour() {
        let bench = Bench::new(Pins(0x00));
        for output in [0, 7] {
            bench.chip.reserve(output);
        }
        let mut fan = bench.output(ChipKind::Pcf8574, 0, false);
        fan.set(&Setting::Off).unwrap();
        let mut lamp = bench.output(ChipKind::Pcf8574, 7, false);
        lamp.set(&Setting::Off).unwrap();
        assert_eq!(bench.writes(), [[0b0111_1110], [0b0111_1110]]);
    }

    #[test]
    fn an_mcp23017_gets_its_level_before_its_direction() {
        let bench = Bench::new(Ports::default());
        let mut valve = bench.output(ChipKind::Mcp23017, 9, true);
        assert_eq!(valve.check(), Err("its output is an input: the chip was reset".to_owned()));
        assert_eq!(valve.set(&Setting::Off), Ok(Some(Setting::Off)));
        assert_eq!(
            bench.writes(),
            [vec![0x01], vec![0x15], vec![0x15, 0x02], vec![0x01], vec![0x01, 0xfd], vec![0x01], vec![0x13]]
        );
        assert_eq!(valve.set(&Setting::On), Ok(Some(Setting::On)));
        assert_eq!(bench.writes(), [vec![0x15], vec![0x15, 0x00], vec![0x01], vec![0x01], vec![0x13]]);
    }

    #[test]
    fn a_chip_that_does_not_answer_is_told_so() {
        let plan = I2cWrite { chip: ChipKind::Pcf8574, address: 0x21, output: 0, active_low: false };
        let bus = I2cHandle::simulated(0x20, Box::new(Pins(0xff)));
        let mut device = plan.make(Way::I2c(bus, Arc::default())).unwrap();
        assert!(device.set(&Setting::On).unwrap_err().contains("0x21"));
    }

    #[test]
    fn an_address_and_an_output_that_the_chip_does_not_have_are_refused() {
        let refused = |text: &str| {
            let table = toml::de::DeTable::parse(text).unwrap().into_inner();
            let mistakes = (SPEC.build)(table).map(|_| ()).unwrap_err();
            mistakes.into_iter().map(|mistake| mistake.message).collect::<Vec<_>>()
        };
        let chip = |address: &str, output: &str| format!("chip = 'pcf8574a'\naddress = {address}\noutput = {output}");
        assert_eq!(refused(&chip("0x20", "0")), ["this chip has addresses 0x38 to 0x3f"]);
        assert_eq!(refused(&chip("0x38", "8")), ["this chip has outputs 0 to 7"]);
        assert_eq!(
            refused("chip = 'pcf857'"),
            ["`address` is missing", "`output` is missing", "`chip` cannot be `pcf857`"]
        );
    }
}

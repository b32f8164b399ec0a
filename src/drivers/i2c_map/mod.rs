//! Any simple I²C chip, without code: what is said to it and what its bytes mean are written in the config, or in a preset (`presets`).
//!
//! `init` is carried out once and after each failure, `steps` for each sample; both are lists of writes, reads, delays, polls and expectations. What
//! the reads brought lies in buffers, and `decode` makes values of their bytes.

mod check;
mod field;
mod options;
mod program;
mod simulated;

use std::sync::Arc;

use toml::de::DeTable;

use self::program::{Driver, Program};
use self::simulated::Simulated;
use super::options::Fields;
use super::{Build, Built, DriverSpec, I2cFactory, PolledDriver, i2c};
use crate::bus::i2c::{I2cHandle, Pause, Target};

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "i2c-map",
    summary: "Any simple I²C chip, described in the config: steps, types, scale, formula",
    channels: &[],
    example: "address = 0x48\nsteps = [ { reg = 0x00, read = 2 } ]\ndecode.temperature = { type = \"i16be\", scale = 0.00390625, unit = \"°C\" }\n",
    schema: || schemars::schema_for!(options::Options),
    build: Build::I2c(|table| {
        options::decode(table).map(|program| Arc::new(Factory(Arc::new(program))) as Arc<dyn I2cFactory>)
    }),
};

/// Builds a chip that a preset describes; of its keys only `address` is the user's.
pub(super) fn build_preset(preset: &'static str, table: DeTable<'_>) -> Built<dyn I2cFactory> {
    let described = DeTable::parse(preset).map_err(|_| Vec::new())?.into_inner();
    let (mut program, addresses) = options::decode_preset(described)?;
    let mut fields = Fields::new(table, &["address"]);
    program.address = i2c::address(&mut fields, &addresses, program.address);
    match fields.finish() {
        errors if errors.is_empty() => Ok(Arc::new(Factory(Arc::new(program)))),
        errors => Err(errors),
    }
}

#[derive(Debug)]
struct Factory(Arc<Program>);

impl I2cFactory for Factory {
    fn make(&self, i2c: I2cHandle, pause: Pause) -> Box<dyn PolledDriver> {
        Box::new(Driver::new(Arc::clone(&self.0), i2c, pause))
    }

    fn address(&self) -> u8 {
        self.0.address
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.0.fields.iter().map(|field| field.name.clone()).collect()
    }

    fn units(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let known = self.0.fields.iter().filter_map(|field| Some((field.name.clone(), field.unit.clone()?)));
        known.collect()
    }

    fn simulated(&self, seed: u64) -> Box<dyn Target> {
        Box::new(Simulated::new(Arc::clone(&self.0), seed))
    }
}

#[cfg(test)]
mod tests;

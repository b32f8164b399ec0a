//! The table of drivers, sorted by name. A new driver is one file and one line here.

use super::{DriverSpec, ads1115, bme280, gpio, i2c_map, ina219, kernel, presets, sht3x, uart};

/// All drivers.
pub const DRIVERS: &[DriverSpec] = &[
    ads1115::SPEC,
    presets::AHT20,
    presets::BH1750,
    bme280::SPEC,
    gpio::counter::SPEC,
    gpio::input::SPEC,
    presets::HDC1080,
    presets::HTU21D,
    kernel::hwmon::SPEC,
    i2c_map::SPEC,
    kernel::iio::SPEC,
    ina219::SPEC,
    presets::INA260,
    presets::LM75,
    presets::MCP9808,
    sht3x::SPEC,
    presets::SHT4X,
    presets::SHTC3,
    presets::SI7021,
    presets::TMP102,
    presets::TMP117,
    uart::SPEC,
    kernel::w1::SPEC,
];

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static DriverSpec> {
    DRIVERS.iter().find(|spec| spec.name == name)
}

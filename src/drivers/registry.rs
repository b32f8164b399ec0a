//! The table of drivers, sorted by name. A new driver is one file and one line here.

use super::DriverSpec;

/// All drivers.
pub const DRIVERS: &[DriverSpec] = &[
    super::ads1115::SPEC,
    super::bme280::SPEC,
    super::kernel::hwmon::SPEC,
    super::kernel::iio::SPEC,
    super::ina219::SPEC,
    super::sht3x::SPEC,
    super::uart::SPEC,
    super::kernel::w1::SPEC,
];

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static DriverSpec> {
    DRIVERS.iter().find(|spec| spec.name == name)
}

//! The table of drivers, sorted by name. A new driver is one file and one line here.

use super::DriverSpec;

/// All drivers.
pub const DRIVERS: &[DriverSpec] = &[super::uart::SPEC];

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static DriverSpec> {
    DRIVERS.iter().find(|spec| spec.name == name)
}

//! Sensors that the kernel reads itself, and shows as files below `/sys`: the widest choice of chips, with nothing to write for any of them.
//!
//! A device is found by its name and, where two have one name, by the device it hangs on; `hwmon3` and `iio:device0` are numbers of the day.

pub mod hwmon;
pub mod iio;
mod options;
mod simulated;
mod sysfs;
#[cfg(test)]
mod tree;
pub mod w1;

pub use self::sysfs::Found;

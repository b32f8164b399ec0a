//! Looks which buses there are, and who answers on one.
//!
//! The question is put as i2cdetect(8) does: an empty write, but a read of one byte where memory chips live (0x30 to 0x37, 0x50 to 0x5f), which an
//! empty write has been known to harm. Neither is free of risk: a chip that takes a read for a command answers once less.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use linux_embedded_hal::i2cdev::core::I2CDevice;
use linux_embedded_hal::i2cdev::linux::LinuxI2CDevice;

use super::linux::{cannot_open, check, errno, holder};

/// A bus of this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Adapter {
    /// N of `/dev/i2c-N`.
    pub number: u32,
    /// Its device file.
    pub path: PathBuf,
    /// What its driver calls it, such as `bcm2835 (i2c@7e804000)`; empty where the kernel does not say.
    pub name: String,
}

/// A target that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its 7-bit address.
    pub address: u8,
    /// The kernel driver that has it, which is not disturbed; `None` for a target that answered.
    pub held_by: Option<String>,
}

/// The buses that the kernel shows, by number.
pub fn adapters() -> Vec<Adapter> {
    adapters_below(Path::new("/sys"))
}

fn adapters_below(sys: &Path) -> Vec<Adapter> {
    let Ok(entries) = fs::read_dir(sys.join("class/i2c-dev")) else { return Vec::new() };
    let mut found: Vec<Adapter> = entries
        .flatten()
        .filter_map(|entry| {
            let device = entry.file_name().into_string().ok()?;
            let number = device.strip_prefix("i2c-")?.parse().ok()?;
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            Some(Adapter { number, path: Path::new("/dev").join(device), name: name.trim().to_owned() })
        })
        .collect();
    found.sort();
    found
}

/// Who answers on a bus, of the addresses 0x08 to 0x77; those below and above are the I²C specification's own (UM10204 §3.1.12). A bus whose
/// lines are stuck takes as long as its driver waits, once an address.
///
/// # Errors
/// Why the bus cannot be asked, in words.
pub fn probe(path: &Path) -> Result<Vec<Found>, String> {
    let adapter = check(path)?;
    let mut found = Vec::new();
    for address in 0x08..=0x77 {
        let mut device = match LinuxI2CDevice::new(path, u16::from(address)) {
            Ok(device) => device,
            Err(error) if errno(&error) == libc::EBUSY => {
                let driver = holder(Path::new("/sys"), adapter, address).unwrap_or_else(|| "a kernel driver".into());
                found.push(Found { address, held_by: Some(driver) });
                continue;
            }
            Err(error) => return Err(cannot_open(path, &io::Error::from_raw_os_error(errno(&error)))),
        };
        let answer = if is_memory(address) {
            device.smbus_read_byte().map(drop)
        } else {
            match device.smbus_write_quick(false) {
                // An adapter that knows no empty write.
                Err(error) if errno(&error) == libc::EOPNOTSUPP => device.smbus_read_byte().map(drop),
                answer => answer,
            }
        };
        if answer.is_ok() {
            found.push(Found { address, held_by: None });
        }
    }
    Ok(found)
}

fn is_memory(address: u8) -> bool {
    matches!(address, 0x30..=0x37 | 0x50..=0x5f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buses_are_listed_by_number_with_what_their_driver_calls_them() {
        let sys = tempfile::tempdir().unwrap();
        for (device, name) in [("i2c-11", Some("USB\n")), ("i2c-2", None)] {
            let folder = sys.path().join("class/i2c-dev").join(device);
            fs::create_dir_all(&folder).unwrap();
            if let Some(name) = name {
                fs::write(folder.join("name"), name).unwrap();
            }
        }
        assert_eq!(
            adapters_below(sys.path()),
            [
                Adapter { number: 2, path: "/dev/i2c-2".into(), name: String::new() },
                Adapter { number: 11, path: "/dev/i2c-11".into(), name: "USB".into() },
            ]
        );
    }

    #[test]
    fn a_machine_without_buses_has_none() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(adapters_below(sys.path()), []);
        assert_eq!(probe(Path::new("/dev/null")), Err("`/dev/null` is no I²C bus".to_owned()));
    }
}

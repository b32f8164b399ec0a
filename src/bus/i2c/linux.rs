//! The kernel's way to a bus: `/dev/i2c-N` (Documentation/i2c/dev-interface).
//!
//! A handle opens the device file when it is first used, and again after an error that says the bus itself went away: an adapter on USB is held
//! in the kernel until its last file is closed. Each handle has a file of its own, since the address belongs to the open file. A transfer lasts
//! as long as the adapter lets it: 1 s at most unless its driver says otherwise.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use embedded_hal::i2c::{I2c, Operation, SevenBitAddress};
use linux_embedded_hal::I2cdev;
use linux_embedded_hal::i2cdev::linux::LinuxI2CError;

use super::{I2cAccess, I2cFault, I2cHandle};
use crate::bus::NOT_ALLOWED;

/// Major number of I²C buses (Documentation/admin-guide/devices.txt). The minor is the adapter's number.
const I2C_MAJOR: u32 = 89;

impl I2cHandle {
    /// The way to the bus behind a device file such as `/dev/i2c-1`. Nothing is opened before it is used.
    pub fn open(path: &Path) -> Self {
        Self::new(Linux { path: path.to_owned(), sys: PathBuf::from("/sys"), open: None })
    }
}

/// A way to a bus of the kernel.
struct Linux {
    path: PathBuf,
    /// `/sys`; a test has its own.
    sys: PathBuf,
    open: Option<Open>,
}

struct Open {
    device: I2cdev,
    address: u8,
}

impl I2cAccess for Linux {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), I2cFault> {
        let mut open = match self.open.take() {
            Some(open) if open.address == address => open,
            _ => self.open_for(address)?,
        };
        match I2c::<SevenBitAddress>::transaction(&mut open.device, address, operations) {
            Ok(()) => {
                self.open = Some(open);
                Ok(())
            }
            Err(error) => {
                let errno = errno(error.inner());
                if is_of_the_target(errno) {
                    self.open = Some(open);
                }
                Err(self.explain(address, errno))
            }
        }
    }
}

impl Linux {
    fn open_for(&self, address: u8) -> Result<Open, I2cFault> {
        check(&self.path).map_err(|reason| I2cFault::away(address, reason))?;
        let mut device = I2cdev::new(&self.path).map_err(|error| {
            let error = io::Error::from_raw_os_error(errno(&error));
            I2cFault::away(address, cannot_open(&self.path, &error))
        })?;
        // I2C_SLAVE, the one call that says a kernel driver has the address. I2cdev would make it too, and lose where the EBUSY came from.
        match device.set_slave_address(u16::from(address)) {
            Ok(()) => Ok(Open { device, address }),
            Err(error) if errno(&error) == libc::EBUSY => Err(I2cFault::held(address, self.holder(address))),
            Err(error) => Err(I2cFault::errno(address, errno(&error))),
        }
    }

    /// In a transfer, too, EBUSY may be a kernel driver: one that came after the file was opened. Else the bus was never free.
    fn explain(&self, address: u8, errno: i32) -> I2cFault {
        match errno {
            libc::EBUSY => match self.holder(address) {
                Some(driver) => I2cFault::held(address, Some(driver)),
                None => I2cFault::errno(address, errno),
            },
            // The adapter is gone and its file with it.
            libc::ENODEV | libc::ESHUTDOWN => match check(&self.path) {
                Err(reason) => I2cFault::away(address, reason),
                Ok(_) => I2cFault::errno(address, errno),
            },
            _ => I2cFault::errno(address, errno),
        }
    }

    fn holder(&self, address: u8) -> Option<String> {
        holder(&self.sys, check(&self.path).ok()?, address)
    }
}

/// The number of the adapter behind a device file, or why there is none, in words.
pub(super) fn check(path: &Path) -> Result<u32, String> {
    let metadata = fs::metadata(path).map_err(|error| cannot_open(path, &error))?;
    if metadata.file_type().is_char_device() && libc::major(metadata.rdev()) == I2C_MAJOR {
        Ok(libc::minor(metadata.rdev()))
    } else {
        Err(format!("`{}` is no I²C bus", path.display()))
    }
}

/// Why a device file cannot be opened, in words.
pub(super) fn cannot_open(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => format!(
            "there is no `{path}`; I²C may be off (on a Raspberry Pi: `dtparam=i2c_arm=on`), or the module `i2c-dev` not loaded"
        ),
        Some(libc::EACCES) => {
            format!("no permission for `{path}`; the user must be in its group, which is `i2c` on Debian")
        }
        Some(libc::EPERM) => format!("`{path}`: {NOT_ALLOWED}"),
        Some(libc::ENXIO | libc::ENODEV) => format!("`{path}` has no adapter behind it"),
        _ => format!("`{path}` cannot be opened: {error}"),
    }
}

/// The kernel driver that has the target at `address` (sysfs: `bus/i2c/devices/1-0076/driver`).
pub(super) fn holder(sys: &Path, adapter: u32, address: u8) -> Option<String> {
    let link = sys.join(format!("bus/i2c/devices/{adapter}-{address:04x}/driver"));
    Some(fs::read_link(link).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// What the kernel said.
pub(super) fn errno(error: &LinuxI2CError) -> i32 {
    match error {
        LinuxI2CError::Errno(errno) => *errno,
        LinuxI2CError::Io(error) => error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// Whether an error leaves the open file good. Of the others some say that the adapter is gone.
fn is_of_the_target(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENXIO
            | libc::EREMOTEIO
            | libc::ETIMEDOUT
            | libc::EAGAIN
            | libc::EBUSY
            | libc::EIO
            | libc::EINVAL
            | libc::EOPNOTSUPP
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        let mut byte = [0];
        let fault = I2cHandle::open(path).read(0x76, &mut byte).unwrap_err();
        assert!(fault.is_away(), "{fault}");
        fault.to_string()
    }

    #[test]
    fn a_bus_that_is_not_there_is_away_and_says_what_may_be_done() {
        let folder = tempfile::tempdir().unwrap();
        let words = read(&folder.path().join("i2c-1"));
        assert!(words.starts_with("there is no `/") && words.contains("dtparam=i2c_arm=on"), "{words}");
    }

    #[test]
    fn a_file_that_is_no_bus_is_away_and_not_written_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(read(file.path()).ends_with("is no I²C bus"));
        assert_eq!(fs::read(file.path()).unwrap(), b"");
        assert_eq!(read(Path::new("/dev/null")), "`/dev/null` is no I²C bus");
    }

    #[test]
    fn a_file_that_may_not_be_opened_names_the_group() {
        let words = cannot_open(Path::new("/dev/i2c-1"), &io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(words, "no permission for `/dev/i2c-1`; the user must be in its group, which is `i2c` on Debian");
        let words = cannot_open(Path::new("/dev/i2c-1"), &io::Error::from_raw_os_error(libc::EPERM));
        assert!(words.contains("not permitted") && !words.contains("group"), "{words}");
    }

    #[test]
    fn the_kernel_driver_that_has_a_target_is_named() {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("bus/i2c/devices/1-0076");
        fs::create_dir_all(&device).unwrap();
        assert_eq!(holder(sys.path(), 1, 0x76), None, "a device without a driver");
        std::os::unix::fs::symlink("../../../bus/i2c/drivers/bmp280", device.join("driver")).unwrap();
        assert_eq!(holder(sys.path(), 1, 0x76).as_deref(), Some("bmp280"));
        assert_eq!(holder(sys.path(), 2, 0x76), None, "the same address of another bus");
    }

    #[test]
    fn only_errors_of_the_target_leave_the_file_open() {
        assert!(is_of_the_target(libc::EREMOTEIO) && is_of_the_target(libc::ETIMEDOUT));
        assert!(!is_of_the_target(libc::ENODEV) && !is_of_the_target(libc::EBADF));
    }
}

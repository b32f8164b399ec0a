//! Finds a port: a path is itself, a USB adapter is looked up in sysfs by what it says of itself.
//!
//! sysfs as the kernel lays it out: `class/tty/<name>/device` leads to the interface or the port below it; one of the folders above holds
//! `idVendor`, `idProduct` and, where the adapter has one, `serial` (Documentation/ABI/testing/sysfs-bus-usb).

use std::fs;
use std::path::{Path, PathBuf};

use super::{Device, OpenError};

/// Where the kernel shows its devices; a test shows its own.
#[derive(Debug, Clone)]
pub(super) struct Roots {
    /// `/sys`.
    pub(super) sys: PathBuf,
    /// `/dev`.
    pub(super) dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into() }
    }
}

/// A serial port that has hardware behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundPort {
    /// `/dev/ttyUSB0`: a name of the day.
    pub path: PathBuf,
    /// The name below `/dev/serial/by-id`, which stays; `None` where udev gave it none.
    pub stable: Option<PathBuf>,
    /// The kernel's driver.
    pub driver: String,
    /// What the USB adapter calls itself; empty for other ports.
    pub product: String,
    /// Vendor and product id of the USB adapter.
    pub usb: Option<(u16, u16)>,
    /// Serial number of the USB adapter, where it has one.
    pub serial: Option<String>,
}

/// The ports of this machine, by path.
pub fn ports() -> Vec<FoundPort> {
    ports_below(&Roots::default())
}

fn ports_below(roots: &Roots) -> Vec<FoundPort> {
    let Ok(entries) = fs::read_dir(roots.sys.join("class/tty")) else { return Vec::new() };
    let stable: Vec<(PathBuf, PathBuf)> = fs::read_dir(roots.dev.join("serial/by-id"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((fs::canonicalize(entry.path()).ok()?, entry.path())))
        .collect();
    let mut found: Vec<FoundPort> = entries
        .flatten()
        .filter_map(|entry| {
            let device = fs::canonicalize(entry.path().join("device")).ok()?;
            let driver = fs::canonicalize(device.join("driver")).ok()?;
            let driver = driver.file_name()?.to_string_lossy().into_owned();
            // The 8250 driver shows ports that a PC may have had; `type` 0 is PORT_UNKNOWN: there is none (Documentation/ABI/testing/sysfs-tty).
            if attribute(&entry.path(), "type").as_deref() == Some("0") {
                return None;
            }
            let path = roots.dev.join(entry.file_name());
            let adapter = device.ancestors().take(PARENTS_MAX).find(|path| path.join("idVendor").is_file());
            let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            Some(FoundPort {
                stable: stable.iter().find(|(target, _)| *target == real).map(|(_, link)| link.clone()),
                path,
                driver,
                product: adapter.and_then(|adapter| attribute(adapter, "product")).unwrap_or_default(),
                usb: adapter.and_then(|adapter| Some((hex(adapter, "idVendor")?, hex(adapter, "idProduct")?))),
                serial: adapter.and_then(|adapter| attribute(adapter, "serial")),
            })
        })
        .collect();
    found.sort();
    found
}

/// How many folders lie between a tty and its USB device at most: a port of a multi-port adapter is two below.
const PARENTS_MAX: usize = 4;

/// The path of a device.
pub(super) fn locate(device: &Device, roots: &Roots) -> Result<PathBuf, OpenError> {
    match device {
        Device::Path(path) => Ok(path.clone()),
        Device::Usb { vendor, product, serial } => locate_usb(*vendor, *product, serial.as_deref(), roots),
        Device::Simulated(_) | Device::Replay { .. } | Device::Templates(_) => Err(OpenError::NotThere),
    }
}

fn locate_usb(vendor: u16, product: u16, serial: Option<&str>, roots: &Roots) -> Result<PathBuf, OpenError> {
    // (USB device, interface, name): an adapter with several ports is known by its first.
    let mut found: Vec<(PathBuf, PathBuf, String)> = Vec::new();
    let Ok(entries) = fs::read_dir(roots.sys.join("class/tty")) else { return Err(OpenError::NotThere) };
    for entry in entries.flatten() {
        let Ok(device) = fs::canonicalize(entry.path().join("device")) else { continue };
        let Some(adapter) = device.ancestors().take(PARENTS_MAX).find(|path| path.join("idVendor").is_file()) else {
            continue;
        };
        let same = hex(adapter, "idVendor") == Some(vendor)
            && hex(adapter, "idProduct") == Some(product)
            && serial.is_none_or(|serial| attribute(adapter, "serial").as_deref() == Some(serial));
        if same {
            found.push((adapter.to_owned(), device, entry.file_name().to_string_lossy().into_owned()));
        }
    }
    found.sort();
    let Some((adapter, _, name)) = found.first() else { return Err(OpenError::NotThere) };
    if let Some((_, _, other)) = found.iter().find(|(path, _, _)| path != adapter) {
        return Err(OpenError::Ambiguous { first: name.clone(), second: other.clone() });
    }
    Ok(roots.dev.join(name))
}

fn attribute(folder: &Path, name: &str) -> Option<String> {
    fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned())
}

fn hex(folder: &Path, name: &str) -> Option<u16> {
    u16::from_str_radix(&attribute(folder, name)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with an adapter at `1-<port>` that has the ttys.
    fn adapter(roots: &Roots, port: u8, ids: (&str, &str, Option<&str>), ttys: &[&str]) {
        let folder = roots.sys.join(format!("devices/usb1/1-{port}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("idVendor"), format!("{}\n", ids.0)).unwrap();
        fs::write(folder.join("idProduct"), format!("{}\n", ids.1)).unwrap();
        if let Some(serial) = ids.2 {
            fs::write(folder.join("serial"), format!("{serial}\n")).unwrap();
        }
        for (number, tty) in ttys.iter().enumerate() {
            let device = folder.join(format!("1-{port}:1.{number}/{tty}"));
            let class = roots.sys.join("class/tty").join(tty);
            fs::create_dir_all(&device).unwrap();
            fs::create_dir_all(&class).unwrap();
            symlink(&device, class.join("device")).unwrap();
        }
    }

    fn usb(serial: Option<&str>) -> Device {
        Device::Usb { vendor: 0x0403, product: 0x6001, serial: serial.map(str::to_owned) }
    }

    fn roots() -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { sys: folder.path().join("sys"), dev: "/dev".into() };
        (folder, roots)
    }

    #[test]
    fn an_adapter_is_found_by_its_ids_whatever_its_name() {
        let (_folder, roots) = roots();
        adapter(&roots, 1, ("10c4", "ea60", None), &["ttyUSB0"]);
        adapter(&roots, 2, ("0403", "6001", Some("A50285BI")), &["ttyUSB7"]);
        assert_eq!(locate(&usb(None), &roots).unwrap(), Path::new("/dev/ttyUSB7"));
        assert_eq!(locate(&usb(Some("A50285BI")), &roots).unwrap(), Path::new("/dev/ttyUSB7"));
        assert_eq!(locate(&usb(Some("B")), &roots), Err(OpenError::NotThere));
    }

    #[test]
    fn the_first_port_of_an_adapter_with_several_is_meant() {
        let (_folder, roots) = roots();
        adapter(&roots, 1, ("0403", "6001", None), &["ttyUSB4", "ttyUSB3"]);
        assert_eq!(locate(&usb(None), &roots).unwrap(), Path::new("/dev/ttyUSB4"));
    }

    #[test]
    fn two_adapters_of_a_kind_need_a_serial_number() {
        let (_folder, roots) = roots();
        adapter(&roots, 1, ("0403", "6001", Some("A")), &["ttyUSB0"]);
        adapter(&roots, 2, ("0403", "6001", Some("B")), &["ttyUSB1"]);
        assert_eq!(
            locate(&usb(None), &roots),
            Err(OpenError::Ambiguous { first: "ttyUSB0".into(), second: "ttyUSB1".into() })
        );
        assert_eq!(locate(&usb(Some("B")), &roots).unwrap(), Path::new("/dev/ttyUSB1"));
    }

    #[test]
    fn ports_with_hardware_behind_them_are_listed_with_the_name_that_stays() {
        let (folder, mut roots) = roots();
        roots.dev = folder.path().join("dev");
        adapter(&roots, 1, ("0403", "6001", Some("A5")), &["ttyUSB0"]);
        adapter(&roots, 2, ("0403", "6001", None), &["ttyS7"]);
        let tty = |name: &str| roots.sys.join("class/tty").join(name);
        fs::create_dir_all(roots.sys.join("bus/drivers/ftdi_sio")).unwrap();
        for name in ["ttyUSB0", "ttyS7"] {
            let device = fs::canonicalize(tty(name).join("device")).unwrap();
            symlink(roots.sys.join("bus/drivers/ftdi_sio"), device.join("driver")).unwrap();
        }
        fs::write(tty("ttyS7").join("type"), "0\n").unwrap();
        fs::create_dir_all(roots.dev.join("serial/by-id")).unwrap();
        fs::write(roots.dev.join("ttyUSB0"), "").unwrap();
        symlink(roots.dev.join("ttyUSB0"), roots.dev.join("serial/by-id/usb-x")).unwrap();
        let expected = FoundPort {
            path: roots.dev.join("ttyUSB0"),
            stable: Some(roots.dev.join("serial/by-id/usb-x")),
            driver: "ftdi_sio".into(),
            product: String::new(),
            usb: Some((0x0403, 0x6001)),
            serial: Some("A5".into()),
        };
        assert_eq!(ports_below(&roots), [expected]);
    }

    #[test]
    fn without_sysfs_nothing_is_there() {
        let (_folder, roots) = roots();
        assert_eq!(locate(&usb(None), &roots), Err(OpenError::NotThere));
    }
}

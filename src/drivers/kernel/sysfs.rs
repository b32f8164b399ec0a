//! Reads what the kernel shows below `/sys`: one value a file (Documentation/filesystems/sysfs.rst).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::drivers::SampleError;

/// A device that can be read, for `tidegate scan`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// What it is called.
    pub name: String,
    /// What it hangs on, as the kernel names that: `1-0076`, `platform coretemp.0`. Empty where there is nothing.
    pub parent: String,
    /// What it measures.
    pub inputs: Vec<String>,
    /// A `[[sensor]]` block that reads it.
    pub block: String,
}

/// A device's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) parent: String,
}

/// The devices of a class, by name and parent; only folders with a `name`.
pub(super) fn devices(class: &Path, prefix: &str) -> Vec<Device> {
    let Ok(entries) = fs::read_dir(class) else { return Vec::new() };
    let mut devices: Vec<Device> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .filter_map(|entry| {
            let path = entry.path();
            let name = text(&path.join("name")).ok()?;
            Some(Device { parent: parent(&path), path, name })
        })
        .collect();
    devices.sort_by(|a, b| (&a.name, &a.parent, &a.path).cmp(&(&b.name, &b.parent, &b.path)));
    devices
}

/// What a device hangs on: where its `device` leads, else the folder that its own real path lies in.
fn parent(path: &Path) -> String {
    let real = fs::canonicalize(path.join("device"))
        .or_else(|_| fs::canonicalize(path).map(|real| real.parent().map(Path::to_owned).unwrap_or_default()));
    let name = real.ok().and_then(|real| Some(real.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_default()
}

/// The one device of that name, and of that parent where one is given.
pub(super) fn find(class: &Path, prefix: &str, name: &str, on: Option<&str>) -> Result<Device, SampleError> {
    let mut named: Vec<Device> = devices(class, prefix).into_iter().filter(|device| device.name == name).collect();
    let parents =
        |devices: &[Device]| devices.iter().map(|device| format!("`{}`", device.parent)).collect::<Vec<_>>().join(", ");
    if let Some(on) = on {
        let there = parents(&named);
        named.retain(|device| device.parent == on);
        if named.is_empty() && !there.is_empty() {
            return Err(SampleError::Device(format!(
                "no device named `{name}` hangs on `{on}`; there is one on {there}"
            )));
        }
    }
    match named.len() {
        0 => Err(SampleError::Device(format!("the kernel shows no device named `{name}`: is its driver loaded?"))),
        1 => Ok(named.remove(0)),
        _ => Err(SampleError::Device(format!(
            "several devices are named `{name}`, on {}: say which, with `parent`",
            parents(&named)
        ))),
    }
}

/// The text of a file, without its end of line.
pub(super) fn text(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// The number in a file, and in words why there is none.
pub(super) fn number(path: &Path) -> Result<f64, SampleError> {
    let text = text(path).map_err(|error| SampleError::Device(cannot_read(path, &error)))?;
    parse(&text).ok_or_else(|| SampleError::Device(format!("`{}` holds no number", file(path))))
}

/// A finite number.
pub(super) fn parse(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// Why a file cannot be read.
pub(super) fn cannot_read(path: &Path, error: &io::Error) -> String {
    let file = file(path);
    match error.raw_os_error() {
        Some(libc::ENODATA) => format!("`{file}` is switched off, or has no value yet"),
        Some(libc::EIO) => format!("the device does not answer (`{file}`: I/O error)"),
        Some(libc::ETIMEDOUT) => format!("the device does not answer in time (`{file}`)"),
        Some(libc::ENXIO | libc::EREMOTEIO) => format!("no answer from the device (NACK, `{file}`)"),
        _ if error.kind() == io::ErrorKind::NotFound => format!("there is no `{file}`"),
        _ => format!("`{file}`: {error}"),
    }
}

fn file(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tree::{link, tree};
    use super::*;

    #[test]
    fn a_device_is_found_by_name_and_of_two_by_what_it_hangs_on() {
        let root = tempfile::tempdir().unwrap();
        for (number, on) in [(0, "1-0048"), (1, "1-0049")] {
            tree(root.path(), &[(&format!("hwmon{number}/name"), "lm75")]);
            link(root.path(), &format!("hwmon{number}/device"), &format!("devices/{on}"));
        }
        let find = |name, on| find(root.path(), "hwmon", name, on).map(|device| device.parent);
        assert_eq!(find("lm75", Some("1-0049")).unwrap(), "1-0049");
        let both = find("lm75", None).unwrap_err().to_string();
        assert_eq!(both, "several devices are named `lm75`, on `1-0048`, `1-0049`: say which, with `parent`");
        let elsewhere = find("lm75", Some("1-0050")).unwrap_err().to_string();
        assert!(elsewhere.ends_with("there is one on `1-0048`, `1-0049`"), "{elsewhere}");
        assert!(find("bme280", None).unwrap_err().to_string().contains("no device named `bme280`"));
    }
}

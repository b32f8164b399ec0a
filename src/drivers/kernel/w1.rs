//! Thermometers on the 1-Wire bus, read by the kernel: DS18B20, DS18S20, DS1822, DS1825, DS28EA00.
//!
//! Documentation/w1/slaves/w1_therm.rst: `temperature` holds m°C, and a read of it converts and waits, 750 ms at 12 bits; `w1_slave` is what older
//! kernels (before 5.10) have, with the word of its own checksum. 85 °C is what the chip holds at power-up, before its first conversion, and
//! 127.94 °C what a read without enough power yields (datasheet DS18B20, table 1, and w1_therm.rst, `features`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use toml::de::DeTable;

use super::simulated::Wandering;
use super::sysfs::{Found, cannot_read, parse, text};
use crate::drivers::options::Fields;
use crate::drivers::{Build, Channel, DriverSpec, FilesFactory, OptionsError, PolledDriver, SampleError};
use crate::model::{Sample, Value};

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "w1",
    summary: "DS18B20 and its kin on the 1-Wire bus, by the kernel's driver: temperature",
    channels: &[Channel::new("temperature", "°C", -55.0, 125.0)],
    example: "device = \"28-0316a2796fff\"\n",
    schema: || schemars::schema_for!(Options),
    build: Build::Files(|table| decode(table).map(|thermometer| Arc::new(thermometer) as Arc<dyn FilesFactory>)),
};

/// Keys of a sensor with `driver = "w1"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// The chip's own number, as below `/sys/bus/w1/devices`: family, `-`, twelve hexadecimal digits. `tidegate scan w1` lists them.
    device: String,
}

/// A value that the chip holds before it has measured is a measurement only when the one before was near.
const NEAR: f64 = 5.0;
/// Held at power-up, m°C.
const POWER_UP: f64 = 85_000.0;
/// Read without enough power, m°C.
const NO_POWER: f64 = 127_937.0;
/// Families that w1_therm reads.
const FAMILIES: [&str; 5] = ["10", "22", "28", "3b", "42"];

/// Whether it is the number of a chip that w1_therm reads.
fn is_thermometer(number: &str) -> bool {
    number.split_once('-').is_some_and(|(family, serial)| {
        FAMILIES.contains(&family) && serial.len() == 12 && serial.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[derive(Debug)]
struct Thermometer {
    device: String,
}

fn decode(table: DeTable<'_>) -> Result<Thermometer, Vec<OptionsError>> {
    let mut fields = Fields::new(table, &["device"]);
    let mut device = None;
    if !fields.has("device") {
        let help = "`device = \"28-…\"`: `tidegate scan w1` lists what is there".to_owned();
        fields.error(0..0, "missing key `device`", Some(help));
    }
    if let Some(written) = fields.text("device") {
        if is_thermometer(&written.content) {
            device = Some(written.content.to_ascii_lowercase());
        } else {
            let help = format!("a family ({}), `-` and twelve hexadecimal digits", FAMILIES.join(", "));
            fields.error(written.span, format!("`{}` is no 1-Wire thermometer", written.content), Some(help));
        }
    }
    let errors = fields.finish();
    match device {
        Some(device) if errors.is_empty() => Ok(Thermometer { device }),
        _ => Err(errors),
    }
}

impl FilesFactory for Thermometer {
    fn make(&self, sys: &Path) -> Box<dyn PolledDriver> {
        Box::new(Reader { folder: folder(sys).join(&self.device), before: None })
    }

    fn group(&self) -> &'static str {
        "w1"
    }

    fn channels(&self) -> Vec<Arc<str>> {
        vec!["temperature".into()]
    }

    fn units(&self) -> Vec<(Arc<str>, Arc<str>)> {
        Vec::new()
    }

    fn simulated(&self, seed: u64) -> Box<dyn PolledDriver> {
        Box::new(Wandering::new([("temperature".into(), 21.5)], seed))
    }
}

fn folder(sys: &Path) -> PathBuf {
    sys.join("bus/w1/devices")
}

struct Reader {
    folder: PathBuf,
    /// The last good temperature, °C.
    before: Option<f64>,
}

impl PolledDriver for Reader {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let millis = self.read()?;
        let degrees = millis / 1000.0;
        let is_default = (millis - POWER_UP).abs() < 0.5 || (millis - NO_POWER).abs() < 1.0;
        if is_default && self.before.is_none_or(|before| (before - degrees).abs() > NEAR) {
            return Err(SampleError::Device(format!(
                "{degrees:.2} °C is what the chip says before it has measured: is its supply sound?"
            )));
        }
        self.before = Some(degrees);
        Ok(vec![Sample { name: "temperature".into(), value: Value::Number(degrees) }])
    }

    fn reset(&mut self) {}
}

impl Reader {
    fn read(&self) -> Result<f64, SampleError> {
        let path = self.folder.join("temperature");
        match text(&path) {
            // Empty after a conversion that the bus master gave up.
            Ok(text) => parse(&text).ok_or_else(|| SampleError::Device("the conversion gave nothing".into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.read_old(),
            Err(error) => Err(SampleError::Device(cannot_read(&path, &error))),
        }
    }

    /// `… : crc=4b YES` and `… t=21562`.
    fn read_old(&self) -> Result<f64, SampleError> {
        let path = self.folder.join("w1_slave");
        let text = text(&path).map_err(|error| {
            SampleError::Device(if error.kind() == std::io::ErrorKind::NotFound {
                "the kernel sees no such chip on the 1-Wire bus".to_owned()
            } else {
                cannot_read(&path, &error)
            })
        })?;
        let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
        if !first.ends_with("YES") {
            return Err(SampleError::Device("checksum mismatch on the 1-Wire bus".into()));
        }
        let number = second.rsplit_once("t=").and_then(|(_, number)| parse(number));
        number.ok_or_else(|| SampleError::Device("the chip's file holds no temperature".into()))
    }
}

/// The thermometers that the kernel sees.
pub fn list(sys: &Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir(folder(sys)) else { return Vec::new() };
    let mut found: Vec<Found> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_thermometer(name))
        .map(|name| Found {
            parent: String::new(),
            inputs: vec!["temperature".into()],
            block: format!(
                "[[sensor]]\nid = \"w1-{}\"\ndriver = \"w1\"\ndevice = \"{name}\"\n",
                &name[name.len() - 4..]
            ),
            name,
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree;
    use super::*;

    const CHIP: &str = "28-0316a2796fff";

    fn reader(files: &[(&str, &str)]) -> (tempfile::TempDir, Box<dyn PolledDriver>) {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in files {
            tree(root.path(), &[(&format!("bus/w1/devices/{CHIP}/{file}"), content)]);
        }
        let driver = Thermometer { device: CHIP.into() }.make(root.path());
        (root, driver)
    }

    fn temperature(driver: &mut dyn PolledDriver) -> Result<Option<f64>, String> {
        driver.sample().map(|samples| samples[0].value.as_f64()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_temperature_is_read_in_thousandths() {
        let (_root, mut driver) = reader(&[("temperature", "-10125")]);
        assert_eq!(temperature(&mut *driver), Ok(Some(-10.125)), "DS18B20 datasheet, table 1: FF5E is -10.125 °C");
    }

    #[test]
    fn an_older_kernel_s_file_is_read_with_its_checksum() {
        let good = "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000";
        let (root, mut driver) = reader(&[("w1_slave", &good.replace("85000", "21562"))]);
        assert_eq!(temperature(&mut *driver), Ok(Some(21.562)));
        tree(root.path(), &[(&format!("bus/w1/devices/{CHIP}/w1_slave"), &good.replace("YES", "NO"))]);
        assert_eq!(temperature(&mut *driver), Err("checksum mismatch on the 1-Wire bus".into()));
    }

    #[test]
    fn what_the_chip_says_before_it_has_measured_is_no_temperature() {
        for raw in ["85000", "127937"] {
            let (root, mut driver) = reader(&[("temperature", raw)]);
            assert!(temperature(&mut *driver).unwrap_err().contains("before it has measured"), "{raw}");
            tree(root.path(), &[(&format!("bus/w1/devices/{CHIP}/temperature"), "21562")]);
            assert_eq!(temperature(&mut *driver), Ok(Some(21.562)));
            tree(root.path(), &[(&format!("bus/w1/devices/{CHIP}/temperature"), raw)]);
            assert!(temperature(&mut *driver).is_err(), "{raw} right after 21.562");
        }
    }

    #[test]
    fn a_boiler_may_have_85_degrees() {
        let (root, mut driver) = reader(&[("temperature", "84500")]);
        temperature(&mut *driver).unwrap();
        tree(root.path(), &[(&format!("bus/w1/devices/{CHIP}/temperature"), "85000")]);
        assert_eq!(temperature(&mut *driver), Ok(Some(85.0)));
    }

    #[test]
    fn a_chip_that_is_gone_and_one_that_gives_nothing_are_told_apart() {
        let (root, mut driver) = reader(&[]);
        assert_eq!(temperature(&mut *driver), Err("the kernel sees no such chip on the 1-Wire bus".into()));
        tree(root.path(), &[(&format!("bus/w1/devices/{CHIP}/temperature"), "")]);
        assert_eq!(temperature(&mut *driver), Err("the conversion gave nothing".into()));
    }

    #[test]
    fn what_is_no_thermometer_is_refused_at_its_place() {
        let text = "device = \"29-0316a2796fff\"";
        let errors = decode(DeTable::parse(text).unwrap().into_inner()).unwrap_err();
        assert_eq!(&text[errors[0].span.clone()], "\"29-0316a2796fff\"");
        assert!(decode(DeTable::parse("").unwrap().into_inner()).is_err());
    }

    #[test]
    fn a_scan_lists_thermometers_and_no_bus_master() {
        let root = tempfile::tempdir().unwrap();
        tree(
            root.path(),
            &[
                (&format!("bus/w1/devices/{CHIP}/temperature"), "1"),
                ("bus/w1/devices/w1_bus_master1/x", ""),
                ("bus/w1/devices/28-/x", ""),
            ],
        );
        let found = list(root.path());
        assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), [CHIP]);
        assert!(found[0].block.contains(CHIP));
    }
}

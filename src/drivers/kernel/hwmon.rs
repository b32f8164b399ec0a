//! Chips that the kernel's hwmon drivers read: temperatures, voltages, currents, powers, energies, humidities, fans.
//!
//! Documentation/hwmon/sysfs-interface.rst: `tempN_input` m°C, `inN_input` mV, `currN_input` mA, `powerN_input` (or `_average`) µW,
//! `energyN_input` µJ, `humidityN_input` m%, `fanN_input` RPM. A value is named as its file, without `_input`. One that is switched off (ENODATA)
//! is left out of the reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::options::{self, Selection};
use super::simulated::Wandering;
use super::sysfs::{self, Found, cannot_read, parse};
use crate::drivers::{Build, DriverSpec, FilesFactory, OptionsError, PolledDriver, SampleError};
use crate::limits::FRAME_VALUES_MAX;
use crate::model::{Sample, Value};

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "hwmon",
    summary: "Chips that the kernel's hwmon drivers read: temperature, voltage, current, power, energy, humidity, fan",
    channels: &[],
    example: "chip = \"cpu_thermal\"\n",
    schema: || schemars::schema_for!(options::Options),
    build: Build::Files(|table| decode(table).map(|chip| Arc::new(chip) as Arc<dyn FilesFactory>)),
};

/// Kinds of value: prefix of the file, what divides its number, the unit that comes of it, where a simulated one starts.
const KINDS: [(&str, f64, &str, f64); 7] = [
    ("temp", 1e3, "°C", 45.0),
    ("in", 1e3, "V", 3.3),
    ("curr", 1e3, "A", 0.5),
    ("power", 1e6, "W", 2.5),
    ("energy", 1e6, "J", 1000.0),
    ("humidity", 1e3, "%", 50.0),
    ("fan", 1.0, "rpm", 1200.0),
];

/// The kind of an input's name: `temp1`.
fn kind(input: &str) -> Option<&'static (&'static str, f64, &'static str, f64)> {
    let digits = input.find(|c: char| c.is_ascii_digit())?;
    let (prefix, number) = input.split_at(digits);
    KINDS.iter().find(|(kind, ..)| *kind == prefix).filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[derive(Debug, Clone)]
struct Chip(Selection);

fn decode(table: DeTable<'_>) -> Result<Chip, Vec<OptionsError>> {
    options::decode(table, "hwmon", |input| {
        let kinds: Vec<String> = KINDS.iter().map(|(kind, ..)| format!("`{kind}1`")).collect();
        let refusal = (format!("`{input}` is no input of a chip"), format!("named as {}", kinds.join(", ")));
        kind(input).is_none().then_some(refusal)
    })
    .map(Chip)
}

impl FilesFactory for Chip {
    fn make(&self, sys: &Path) -> Box<dyn PolledDriver> {
        Box::new(Reader { class: sys.join("class/hwmon"), chip: self.clone(), found: None })
    }

    fn group(&self) -> &'static str {
        "hwmon"
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.0.inputs.iter().map(|input| input.as_str().into()).collect()
    }

    fn units(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.0.inputs.iter().filter_map(|input| Some((input.as_str().into(), kind(input)?.2.into()))).collect()
    }

    fn simulated(&self, seed: u64) -> Box<dyn PolledDriver> {
        let inputs = if self.0.inputs.is_empty() { vec!["temp1".to_owned()] } else { self.0.inputs.clone() };
        let values = inputs.iter().filter_map(|input| Some((input.as_str().into(), kind(input)?.3)));
        Box::new(Wandering::new(values, seed))
    }
}

struct Reader {
    class: PathBuf,
    chip: Chip,
    /// The chip's folder, and what is read of it: name of the value, file, divisor.
    found: Option<Vec<(Arc<str>, PathBuf, f64)>>,
}

impl Reader {
    fn find(&self) -> Result<Vec<(Arc<str>, PathBuf, f64)>, SampleError> {
        let device = sysfs::find(&self.class, "hwmon", &self.chip.0.name, self.chip.0.parent.as_deref())?;
        self.chip.0.choose("chip", inputs(&device.path), |(name, ..)| name)
    }
}

impl PolledDriver for Reader {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let found = match self.found.take() {
            Some(found) => found,
            None => self.find()?,
        };
        let mut samples = Vec::new();
        for (name, path, divisor) in &found {
            match sysfs::text(path) {
                Ok(text) => {
                    let raw = parse(&text).ok_or_else(|| SampleError::Device(format!("`{name}` holds no number")))?;
                    samples.push(Sample { name: Arc::clone(name), value: Value::Number(raw / divisor) });
                }
                Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {}
                Err(error) => return Err(SampleError::Device(cannot_read(path, &error))),
            }
        }
        if samples.is_empty() {
            return Err(SampleError::Device("all values of the chip are switched off".into()));
        }
        self.found = Some(found);
        Ok(samples)
    }

    fn reset(&mut self) {
        // The chip may come back under another number.
        self.found = None;
    }
}

/// What a chip's folder holds: name of the value, file, divisor; in the order of their kinds and numbers.
fn inputs(folder: &Path) -> Vec<(Arc<str>, PathBuf, f64)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(usize, u32, Arc<str>, PathBuf, f64)> = Vec::new();
    for entry in entries.flatten() {
        let Ok(file) = entry.file_name().into_string() else { continue };
        let Some(input) = file.strip_suffix("_input").or_else(|| file.strip_suffix("_average")) else { continue };
        let Some((prefix, divisor, ..)) = kind(input) else { continue };
        // A chip with both has the instant value in `_input`.
        if file.ends_with("_average") && folder.join(format!("{input}_input")).exists() {
            continue;
        }
        let order = KINDS.iter().position(|(kind, ..)| kind == prefix).unwrap_or(KINDS.len());
        let number = input[prefix.len()..].parse().unwrap_or(u32::MAX);
        found.push((order, number, input.into(), entry.path(), *divisor));
    }
    found.sort_by_key(|(order, number, ..)| (*order, *number));
    found.truncate(FRAME_VALUES_MAX);
    found.into_iter().map(|(_, _, name, path, divisor)| (name, path, divisor)).collect()
}

/// The chips that the kernel reads.
pub fn list(sys: &Path) -> Vec<Found> {
    let devices = sysfs::devices(&sys.join("class/hwmon"), "hwmon");
    let twice = |name: &str| devices.iter().filter(|device| device.name == name).count() > 1;
    devices
        .iter()
        .map(|device| {
            let inputs = inputs(&device.path).into_iter().map(|(name, ..)| name.to_string()).collect();
            let parent = if twice(&device.name) { format!("parent = \"{}\"\n", device.parent) } else { String::new() };
            let id: String = device.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            Found {
                block: format!("[[sensor]]\nid = \"{id}\"\ndriver = \"hwmon\"\nchip = \"{}\"\n{parent}", device.name),
                name: device.name.clone(),
                parent: device.parent.clone(),
                inputs,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::{link, tree};
    use super::*;

    fn chip() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        tree(
            root.path(),
            &[
                ("class/hwmon/hwmon3/name", "sht3x"),
                ("class/hwmon/hwmon3/temp1_input", "21500"),
                ("class/hwmon/hwmon3/humidity1_input", "48200"),
                ("class/hwmon/hwmon3/temp1_max", "90000"),
                ("class/hwmon/hwmon3/power1_average", "2500000"),
            ],
        );
        link(root.path(), "class/hwmon/hwmon3/device", "devices/1-0044");
        root
    }

    fn build(text: &str) -> Result<Chip, Vec<OptionsError>> {
        decode(DeTable::parse(text).unwrap().into_inner())
    }

    fn read(driver: &mut dyn PolledDriver) -> Result<Vec<(String, f64)>, String> {
        let samples = driver.sample().map_err(|error| error.to_string())?;
        Ok(samples.iter().map(|sample| (sample.name.to_string(), sample.value.as_f64().unwrap())).collect())
    }

    #[test]
    fn all_that_a_chip_measures_is_read_in_units_for_people() {
        let root = chip();
        let mut driver = build("chip = 'sht3x'").unwrap().make(root.path());
        let values = read(&mut *driver).unwrap();
        let expected = [("temp1".to_owned(), 21.5), ("power1".to_owned(), 2.5), ("humidity1".to_owned(), 48.2)];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_choice_is_read_in_its_order_and_one_that_is_not_there_is_told() {
        let root = chip();
        let mut driver = build("chip = 'sht3x'\ninputs = ['humidity1', 'temp1']").unwrap().make(root.path());
        assert_eq!(read(&mut *driver).unwrap().len(), 2);
        let mut driver = build("chip = 'sht3x'\ninputs = ['in0']").unwrap().make(root.path());
        assert_eq!(read(&mut *driver), Err("the chip has no `in0`; it has temp1, power1, humidity1".into()));
    }

    #[test]
    fn a_chip_that_comes_back_under_another_number_is_found_again() {
        let root = chip();
        let mut driver = build("chip = 'sht3x'").unwrap().make(root.path());
        read(&mut *driver).unwrap();
        let class = root.path().join("class/hwmon");
        std::fs::rename(class.join("hwmon3"), class.join("hwmon7")).unwrap();
        assert!(read(&mut *driver).is_err());
        driver.reset();
        assert_eq!(read(&mut *driver).unwrap().len(), 3);
    }

    #[test]
    fn mistakes_are_told_at_their_place() {
        let text = "chip = 'a/b'\ninputs = ['temp', 'temp1', 'temp1', 'x1']";
        let errors = build(text).unwrap_err();
        let places: Vec<&str> = errors.iter().map(|error| &text[error.span.clone()]).collect();
        assert_eq!(places, ["'a/b'", "'temp'", "'temp1'", "'x1'"]);
        assert_eq!(build("").unwrap_err()[0].message, "missing key `chip`");
    }

    #[test]
    fn units_of_chosen_inputs_are_known() {
        let units = build("chip = 'x'\ninputs = ['fan2', 'in0']").unwrap().units();
        assert_eq!(units, [("fan2".into(), "rpm".into()), ("in0".into(), "V".into())]);
    }

    #[test]
    fn a_scan_names_the_parent_only_where_it_is_needed() {
        let root = chip();
        assert_eq!(list(root.path())[0].block, "[[sensor]]\nid = \"sht3x\"\ndriver = \"hwmon\"\nchip = \"sht3x\"\n");
        assert_eq!(list(root.path())[0].parent, "1-0044");
        tree(root.path(), &[("class/hwmon/hwmon4/name", "sht3x")]);
        link(root.path(), "class/hwmon/hwmon4/device", "devices/1-0045");
        assert!(list(root.path())[1].block.contains("parent = \"1-0045\""));
    }
}

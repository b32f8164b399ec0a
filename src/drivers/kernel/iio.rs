//! Devices that the kernel's IIO drivers read: DHT11 and DHT22, BME280, and some three hundred others.
//!
//! Documentation/ABI/testing/sysfs-bus-iio: a channel has `in_X_input`, or `in_X_raw` with an offset and a scale that are its own or its
//! kind's: `(raw + offset) * scale`. Base units there: m°C, kPa, thousandths of %RH, mV, mA, mW, lx, Ω, m/s², rad/s.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use super::options::{self, Selection};
use super::simulated::Wandering;
use super::sysfs::{self, Found, number};
use crate::drivers::{Build, DriverSpec, FilesFactory, OptionsError, PolledDriver, SampleError};
use crate::limits::FRAME_VALUES_MAX;
use crate::model::{Sample, Value};

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "iio",
    summary: "Devices that the kernel's IIO drivers read: DHT11, DHT22, BME280 and hundreds more",
    channels: &[],
    example: "chip = \"dht11@0\"\n",
    schema: || schemars::schema_for!(options::Options),
    build: Build::Files(|table| decode(table).map(|chip| Arc::new(chip) as Arc<dyn FilesFactory>)),
};

/// Kinds of channel: the kernel's word, ours, what its base unit is multiplied by, the unit that comes of it, where a simulated one starts.
const KINDS: [(&str, &str, f64, &str, f64); 16] = [
    ("temp", "temperature", 1e-3, "°C", 21.5),
    ("humidityrelative", "humidity", 1e-3, "%", 50.0),
    ("pressure", "pressure", 10.0, "hPa", 1013.0),
    ("illuminance", "illuminance", 1.0, "lx", 320.0),
    ("voltage", "voltage", 1e-3, "V", 3.3),
    ("current", "current", 1e-3, "A", 0.5),
    ("power", "power", 1e-3, "W", 2.5),
    ("resistance", "resistance", 1.0, "Ω", 10_000.0),
    ("concentration", "concentration", 1.0, "%", 0.05),
    ("massconcentration", "massconcentration", 1.0, "μg/m³", 8.0),
    ("accel", "accel", 1.0, "m/s²", 9.8),
    ("anglvel", "anglvel", 1.0, "rad/s", 0.1),
    ("proximity", "proximity", 1.0, "", 100.0),
    ("distance", "distance", 1.0, "m", 1.0),
    ("intensity", "intensity", 1.0, "", 100.0),
    ("ph", "ph", 1.0, "", 7.0),
];

/// The kind of a channel's name: `voltage0`, `accel_x`, `temp`.
fn kind(channel: &str) -> Option<&'static (&'static str, &'static str, f64, &'static str, f64)> {
    let end = channel.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(channel.len());
    KINDS.iter().find(|(kind, ..)| *kind == &channel[..end])
}

/// What a channel's value is called: `temp` is `temperature`, `voltage0` stays.
fn told_as(channel: &str) -> Arc<str> {
    match kind(channel) {
        Some((kernel, ours, ..)) => format!("{ours}{}", &channel[kernel.len()..]).into(),
        None => channel.into(),
    }
}

#[derive(Debug, Clone)]
struct Chip(Selection);

fn decode(table: DeTable<'_>) -> Result<Chip, Vec<OptionsError>> {
    options::decode(table, "iio", |input| {
        let kinds: Vec<String> = KINDS.iter().map(|(kind, ..)| format!("`{kind}`")).collect();
        let help = format!("one of {}, with the channel's number behind it where it has one", kinds.join(", "));
        let unknown = kind(input).is_none() || input.contains('/');
        unknown.then(|| (format!("`{input}` is no channel that can be read"), help))
    })
    .map(Chip)
}

impl FilesFactory for Chip {
    fn make(&self, sys: &Path) -> Box<dyn PolledDriver> {
        Box::new(Reader { class: sys.join("bus/iio/devices"), chip: self.clone(), found: None, failed: false })
    }

    fn group(&self) -> &'static str {
        "iio"
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.0.inputs.iter().map(|input| told_as(input)).collect()
    }

    fn units(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let unit = |input: &String| kind(input).filter(|(_, _, _, unit, _)| !unit.is_empty()).map(|kind| kind.3);
        self.0.inputs.iter().filter_map(|input| Some((told_as(input), unit(input)?.into()))).collect()
    }

    fn simulated(&self, seed: u64) -> Box<dyn PolledDriver> {
        let default = ["temp".to_owned(), "humidityrelative".to_owned()];
        let inputs = if self.0.inputs.is_empty() { &default[..] } else { &self.0.inputs[..] };
        let values = inputs.iter().filter_map(|input| Some((told_as(input), kind(input)?.4)));
        Box::new(Wandering::new(values, seed))
    }
}

/// A channel, and where its number comes from.
#[derive(Debug, Clone, PartialEq)]
struct Channel {
    channel: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    Processed(PathBuf),
    Raw { raw: PathBuf, offset: Option<PathBuf>, scale: Option<PathBuf> },
}

impl Channel {
    fn read(&self) -> Result<f64, SampleError> {
        let base = match &self.source {
            Source::Processed(path) => number(path)?,
            Source::Raw { raw, offset, scale } => {
                let offset = offset.as_deref().map_or(Ok(0.0), number)?;
                let scale = scale.as_deref().map_or(Ok(1.0), number)?;
                (number(raw)? + offset) * scale
            }
        };
        let value = base * kind(&self.channel).map_or(1.0, |kind| kind.2);
        // 21500 * 1e-3 is 21.500000000000004: the kernel's numbers have at most nine digits behind the point.
        Ok((value * 1e9).round() / 1e9)
    }
}

struct Reader {
    class: PathBuf,
    chip: Chip,
    found: Option<Vec<Channel>>,
    /// The measurement before failed: a device that is gone must not hold up the others at each try.
    failed: bool,
}

/// A DHT is asked again after this long: it needs two seconds between two measurements (datasheet DHT22, §7).
const DHT_PAUSE: Duration = Duration::from_secs(2);

impl Reader {
    fn find(&self) -> Result<Vec<Channel>, SampleError> {
        let device = sysfs::find(&self.class, "iio:device", &self.chip.0.name, self.chip.0.parent.as_deref())?;
        self.chip.0.choose("device", channels(&device.path), |channel| &channel.channel)
    }

    fn read(channels: &[Channel]) -> Result<Vec<Sample>, SampleError> {
        channels
            .iter()
            .map(|channel| Ok(Sample { name: told_as(&channel.channel), value: Value::Number(channel.read()?) }))
            .collect()
    }
}

impl PolledDriver for Reader {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let found = match self.found.take() {
            Some(found) => found,
            None => self.find()?,
        };
        let mut samples = Self::read(&found);
        // Its pulses are timed by interrupts, and one in some ten measurements fails on a busy board.
        if samples.is_err() && !self.failed && self.chip.0.name.starts_with("dht11") {
            std::thread::sleep(DHT_PAUSE);
            samples = Self::read(&found);
        }
        self.failed = samples.is_err();
        self.found = Some(found);
        samples
    }

    fn reset(&mut self) {
        // The device may come back under another number.
        self.found = None;
    }
}

/// What a device's folder holds, by name.
fn channels(folder: &Path) -> Vec<Channel> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<Channel> = Vec::new();
    for entry in entries.flatten() {
        let Ok(file) = entry.file_name().into_string() else { continue };
        let Some(rest) = file.strip_prefix("in_") else { continue };
        let (channel, source) = if let Some(channel) = rest.strip_suffix("_input") {
            (channel, Source::Processed(entry.path()))
        } else if let Some(channel) = rest.strip_suffix("_raw") {
            if folder.join(format!("in_{channel}_input")).exists() {
                continue;
            }
            let raw = entry.path();
            let (offset, scale) = (beside(folder, channel, "offset"), beside(folder, channel, "scale"));
            (channel, Source::Raw { raw, offset, scale })
        } else {
            continue;
        };
        if kind(channel).is_some() {
            found.push(Channel { channel: channel.to_owned(), source });
        }
    }
    let order = |channel: &Channel| {
        let kind = KINDS.iter().position(|(kind, ..)| kind_is(kind, &channel.channel)).unwrap_or(KINDS.len());
        (kind, channel.channel.len(), channel.channel.clone())
    };
    found.sort_by_cached_key(order);
    found.truncate(FRAME_VALUES_MAX);
    found
}

fn kind_is(name: &str, channel: &str) -> bool {
    kind(channel).is_some_and(|(kernel, ..)| *kernel == name)
}

/// A channel's own attribute, or its kind's.
fn beside(folder: &Path, channel: &str, attribute: &str) -> Option<PathBuf> {
    let of_kind = kind(channel).map(|(kernel, ..)| format!("in_{kernel}_{attribute}"));
    [Some(format!("in_{channel}_{attribute}")), of_kind]
        .into_iter()
        .flatten()
        .map(|file| folder.join(file))
        .find(|path| path.exists())
}

/// The devices that the kernel reads.
pub fn list(sys: &Path) -> Vec<Found> {
    let devices = sysfs::devices(&sys.join("bus/iio/devices"), "iio:device");
    let twice = |name: &str| devices.iter().filter(|device| device.name == name).count() > 1;
    devices
        .iter()
        .map(|device| {
            let parent = if twice(&device.name) { format!("parent = \"{}\"\n", device.parent) } else { String::new() };
            let id: String = device.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            Found {
                block: format!("[[sensor]]\nid = \"{id}\"\ndriver = \"iio\"\nchip = \"{}\"\n{parent}", device.name),
                name: device.name.clone(),
                parent: device.parent.clone(),
                inputs: channels(&device.path).into_iter().map(|channel| channel.channel).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::{link, tree};
    use super::*;

    fn read(files: &[(&str, &str)], options: &str) -> Result<Vec<(String, f64)>, String> {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in files {
            tree(root.path(), &[(&format!("bus/iio/devices/iio:device0/{file}"), content)]);
        }
        let chip = decode(DeTable::parse(options).unwrap().into_inner()).unwrap();
        let samples = chip.make(root.path()).sample().map_err(|error| error.to_string())?;
        Ok(samples.iter().map(|sample| (sample.name.to_string(), sample.value.as_f64().unwrap())).collect())
    }

    fn named(values: &[(&str, f64)]) -> Vec<(String, f64)> {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_dht22_gives_temperature_and_humidity() {
        let files = [("name", "dht11@0"), ("in_temp_input", "21500"), ("in_humidityrelative_input", "48200")];
        assert_eq!(read(&files, "chip = 'dht11@0'").unwrap(), named(&[("temperature", 21.5), ("humidity", 48.2)]));
    }

    #[test]
    fn kilopascals_become_hectopascals() {
        let files = [("name", "bme280"), ("in_pressure_input", "101.325")];
        assert_eq!(read(&files, "chip = 'bme280'").unwrap(), named(&[("pressure", 1013.25)]));
    }

    #[test]
    fn a_raw_number_takes_the_offset_and_scale_of_its_channel_or_of_its_kind() {
        let files = [
            ("name", "ads1015"),
            ("in_voltage0_raw", "1000"),
            ("in_voltage1_raw", "1000"),
            ("in_voltage1_offset", "-100"),
            ("in_voltage_scale", "2"),
            ("in_voltage1_scale", "3"),
            ("in_voltage0-voltage1_raw", "5"),
        ];
        let options = "chip = 'ads1015'\ninputs = ['voltage1', 'voltage0', 'voltage0-voltage1']";
        let expected = named(&[("voltage1", 2.7), ("voltage0", 2.0), ("voltage0-voltage1", 0.01)]);
        assert_eq!(read(&files, options).unwrap(), expected);
    }

    #[test]
    fn a_channel_that_is_not_there_and_a_file_without_number_are_told() {
        let files = [("name", "x"), ("in_temp_input", "warm")];
        assert_eq!(read(&files, "chip = 'x'"), Err("`in_temp_input` holds no number".into()));
        let error = read(&files, "chip = 'x'\ninputs = ['voltage3']").unwrap_err();
        assert_eq!(error, "the device has no `voltage3`; it has temp");
        assert_eq!(read(&[("name", "x")], "chip = 'x'"), Err("the device shows nothing that can be read".into()));
    }

    #[test]
    fn mistakes_are_told_at_their_place() {
        let text = "chip = ''\ninputs = ['timestamp', 'temp', 'temp', 'temp/../x']";
        let errors = decode(DeTable::parse(text).unwrap().into_inner()).unwrap_err();
        let places: Vec<&str> = errors.iter().map(|error| &text[error.span.clone()]).collect();
        assert_eq!(places, ["''", "'timestamp'", "'temp'", "'temp/../x'"]);
    }

    #[test]
    fn a_scan_lists_devices_with_their_channels() {
        let root = tempfile::tempdir().unwrap();
        tree(
            root.path(),
            &[("bus/iio/devices/iio:device0/name", "bme280"), ("bus/iio/devices/iio:device0/in_temp_input", "1")],
        );
        link(root.path(), "bus/iio/devices/iio:device0/device", "devices/1-0076");
        let found = list(root.path());
        assert_eq!((found[0].parent.as_str(), &found[0].inputs[..]), ("1-0076", &["temp".to_owned()][..]));
    }
}

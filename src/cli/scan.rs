//! `tidegate scan`: what is there to be read, each with a block of config to paste.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::bus::gpio::{BoardGpio, Gpio as _, GpioSettings};
use crate::bus::{discovery, i2c};
use crate::clock::SystemClock;
use crate::drivers::registry::DRIVERS;
use crate::drivers::{Factory, kernel};
use crate::exit;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// Serial ports
    Serial,
    /// I²C buses, and who answers on them
    I2c,
    /// GPIO chips and their lines
    Gpio,
    /// Thermometers on the 1-Wire bus
    W1,
    /// Devices of the kernel's IIO drivers
    Iio,
    /// Chips of the kernel's hwmon drivers
    Hwmon,
}

/// Something that was found.
struct Find {
    /// One line.
    title: String,
    /// What to paste; empty where it is of no use by itself.
    block: String,
    /// The same for programs; null where another tells it too.
    json: Value,
}

pub(super) fn run(what: What, as_json: bool) -> ExitCode {
    let sys = Path::new("/sys");
    let found = match what {
        What::Serial => Ok(serial()),
        What::I2c => i2c_buses(),
        What::Gpio => gpio(),
        What::W1 => Ok(kernel(kernel::w1::list(sys))),
        What::Iio => Ok(kernel(kernel::iio::list(sys))),
        What::Hwmon => Ok(kernel(kernel::hwmon::list(sys))),
    };
    let found = match found {
        Ok(found) => found,
        Err(reason) => {
            eprintln!("error: {reason}");
            return exit::code(exit::UNAVAILABLE);
        }
    };
    if as_json {
        let all: Vec<Value> = found.into_iter().map(|find| find.json).filter(|json| !json.is_null()).collect();
        return super::print(&format!("{:#}\n", Value::from(all)));
    }
    if found.is_empty() {
        eprintln!("{}", nothing(what));
        return exit::code(exit::OK);
    }
    let mut text = String::new();
    for find in found {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# {}", find.title);
        if !find.block.is_empty() {
            let _ = writeln!(text, "{}", find.block);
        }
    }
    super::print(&text)
}

/// What to look at when there is nothing.
fn nothing(what: What) -> &'static str {
    match what {
        What::Serial => "no serial port with hardware behind it",
        What::I2c => "no I²C bus: load the module i2c-dev; on a Raspberry Pi, dtparam=i2c_arm=on in config.txt",
        What::Gpio => "no GPIO chip",
        What::W1 => "no thermometer on a 1-Wire bus: on a Raspberry Pi, dtoverlay=w1-gpio in config.txt",
        What::Iio => "no device of an IIO driver: on a Raspberry Pi, an overlay such as dtoverlay=dht11 in config.txt",
        What::Hwmon => "no chip of a hwmon driver",
    }
}

fn serial() -> Vec<Find> {
    discovery::ports()
        .into_iter()
        .map(|port| {
            let device = port.stable.as_deref().unwrap_or(&port.path).display().to_string();
            let what = if port.product.is_empty() { port.driver.clone() } else { port.product.clone() };
            let usb = port.usb.as_ref().map(|(vendor, product)| format!("usb:{vendor:04x}:{product:04x}"));
            Find {
                title: format!("{}: {what}", port.path.display()),
                block: format!(
                    "[bus.{}]\ndevice = \"{device}\"\nserial = \"9600 8N1\"\n",
                    port.path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default()
                ),
                json: json!({
                    "path": port.path, "stable": port.stable, "driver": port.driver, "product": port.product,
                    "usb": usb, "serial_number": port.serial,
                }),
            }
        })
        .collect()
}

fn i2c_buses() -> Result<Vec<Find>, String> {
    let adapters = i2c::adapters();
    let mut found = Vec::new();
    let mut refused = Vec::new();
    for adapter in &adapters {
        let (path, name) = (adapter.path.display(), &adapter.name);
        let targets = match i2c::probe(&adapter.path) {
            Ok(targets) => targets,
            Err(reason) => {
                refused.push(reason);
                continue;
            }
        };
        let bus = format!("i2c-{}", adapter.number);
        found.push(Find {
            title: format!("{path}: {name}, {} found", targets.len()),
            block: format!("[bus.{bus}]\ndevice = \"{path}\"\n"),
            json: json!({
                "path": adapter.path, "name": name,
                "targets": targets.iter().map(|target| json!({
                    "address": target.address, "held_by": target.held_by, "drivers": candidates(target.address),
                })).collect::<Vec<_>>(),
            }),
        });
        for target in targets {
            let address = target.address;
            let (title, block) = match (&target.held_by, candidates(address).as_slice()) {
                (Some(driver), _) => (
                    format!("{address:#04x}: held by {driver}; `tidegate scan iio` or `scan hwmon` may show it"),
                    String::new(),
                ),
                (None, []) => (format!("{address:#04x}: no driver has this address by default"), String::new()),
                (None, drivers) => (
                    format!("{address:#04x}: perhaps {}", drivers.join(", or ")),
                    format!(
                        "[[sensor]]\nid = \"{}-{address:02x}\"\ndriver = \"{}\"\nbus = \"{bus}\"\naddress = {address:#04x}\n",
                        drivers[0], drivers[0]
                    ),
                ),
            };
            found.push(Find { title, block, json: Value::Null });
        }
    }
    if found.is_empty() && !refused.is_empty() {
        return Err(refused.join("\nerror: "));
    }
    for reason in refused {
        eprintln!("error: {reason}");
    }
    Ok(found)
}

/// Drivers whose example is at this address; of a chip that the config describes, the example is anybody's.
fn candidates(address: u8) -> Vec<&'static str> {
    let at = |spec: &&crate::drivers::DriverSpec| {
        let table = toml::de::DeTable::parse(spec.example).ok()?.into_inner();
        match spec.build(table).ok()? {
            Factory::I2c(factory) => Some(factory.address()),
            _ => None,
        }
    };
    DRIVERS.iter().filter(|spec| spec.name != "i2c-map" && at(spec) == Some(address)).map(|spec| spec.name).collect()
}

fn gpio() -> Result<Vec<Find>, String> {
    let chips =
        BoardGpio::new(GpioSettings::default(), SystemClock::shared()).list().map_err(|error| error.to_string())?;
    Ok(chips
        .into_iter()
        .map(|chip| {
            let mut title = format!("{}: {}, {} lines", chip.path.display(), chip.label, chip.lines.len());
            for line in &chip.lines {
                let name = if line.name.is_empty() { "unnamed" } else { &line.name };
                let holder = match (line.used, line.consumer.as_str()) {
                    (false, _) => String::new(),
                    (true, "") => ", held".to_owned(),
                    (true, consumer) => format!(", held by `{consumer}`"),
                };
                let direction = if line.output { "output" } else { "input" };
                let _ = write!(title, "\n#   {:>3}  {name}: {direction}{holder}", line.offset);
            }
            let lines: Vec<Value> = chip
                .lines
                .iter()
                .map(|line| {
                    json!({
                        "offset": line.offset, "name": line.name, "consumer": line.consumer, "used": line.used,
                        "direction": if line.output { "output" } else { "input" },
                    })
                })
                .collect();
            Find {
                title,
                block: String::new(),
                json: json!({ "path": chip.path, "label": chip.label, "lines": lines }),
            }
        })
        .collect())
}

fn kernel(found: Vec<kernel::Found>) -> Vec<Find> {
    found
        .into_iter()
        .map(|device| {
            let on = if device.parent.is_empty() { String::new() } else { format!(" on {}", device.parent) };
            Find {
                title: format!("{}{on}: {}", device.name, device.inputs.join(", ")),
                block: device.block,
                json: json!({ "name": device.name, "parent": device.parent, "inputs": device.inputs }),
            }
        })
        .collect()
}

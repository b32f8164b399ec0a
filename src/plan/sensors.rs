//! Buses and sensors.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::topics::{self, Holes};
use super::{Planner, SensorPlan};
use crate::bus::SerialSettings;
use crate::bus::settings::{Device, Parity};
use crate::bus::simulated::{self, Simulated};
use crate::config::code::Code;
use crate::config::file::{self, Payload};
use crate::config::kinds::SerialLine;
use crate::config::{At, Problems, Span};
use crate::drivers::{DriverSpec, Factory, registry};
use crate::limits::SENSOR_FIRST_READING;
use crate::logic::pipeline::{Range, SensorSettings, ValueSettings};
use crate::logic::route::{PayloadForm, PublishSettings};
use crate::model::{BusId, OWN_NAMES, SensorId, TopicName};

/// Levels below `tidegate/<gateway>/` that are the gateway's own.
const RESERVED: [&str; 4] = ["status", "bridge", "event", "health"];

impl Planner<'_> {
    /// The declared buses.
    pub(super) fn buses(&mut self) -> Vec<SerialSettings> {
        let mut buses = Vec::new();
        let mut devices: Vec<(Device, Span)> = Vec::new();
        for (name, bus) in &self.file.bus.0 {
            let id = match BusId::parse(name) {
                Ok(id) => id,
                Err(error) => {
                    self.problems.error(Code::BadId, name.span, format!("the bus name `{}` {error}", name.value));
                    continue;
                }
            };
            let Some(written) = &bus.device else { continue };
            let Some(device) = device(written, self.problems) else { continue };
            let simulated = matches!(device, Device::Simulated(_));
            if let Some((_, first)) = devices.iter().find(|(known, _)| *known == device && !simulated) {
                self.problems
                    .error(Code::DeviceTwice, written.span, format!("`{}` is on two buses", written.value.0))
                    .label("used again here")
                    .and(*first, "used here first")
                    .help("several sensors can share one bus: each takes the lines that match it");
            }
            devices.push((device.clone(), written.span));
            let SerialLine { baud, data_bits, parity, stop_bits } = bus.serial.value;
            let parity = match parity {
                'E' => Parity::Even,
                'O' => Parity::Odd,
                _ => Parity::None,
            };
            buses.push(SerialSettings { id, device, baud, data_bits, parity, stop_bits });
        }
        buses
    }

    /// The declared sensors.
    pub(super) fn sensors(&mut self) -> Vec<SensorPlan> {
        let mut sensors = Vec::new();
        let mut ids: HashMap<&str, Span> = HashMap::new();
        let mut topics: HashMap<TopicName, Span> = HashMap::new();
        for sensor in &self.file.sensor.value {
            if let Some(id) = &sensor.id {
                if RESERVED.contains(&id.value.0.as_str()) {
                    self.problems
                        .error(Code::ReservedId, id.span, format!("no sensor can be named `{}`", id.value.0))
                        .label("a topic of the gateway itself");
                }
                if let Some(first) = ids.insert(&id.value.0, id.span) {
                    self.problems
                        .error(Code::Duplicate, id.span, format!("two sensors are named `{}`", id.value.0))
                        .label("named again here")
                        .and(first, "named here first");
                    continue;
                }
            }
            let Some(plan) = self.sensor(sensor) else { continue };
            let at = sensor.publish.topic.span;
            for topic in [&plan.publish.topic, &plan.publish.availability_topic] {
                if let Some(first) = topics.insert(topic.clone(), at) {
                    self.problems
                        .error(Code::TopicTwice, at, format!("two sensors publish to `{topic}`"))
                        .label("published again here")
                        .and(first, "published here first");
                    break;
                }
            }
            sensors.push(plan);
        }
        sensors
    }

    fn sensor(&mut self, sensor: &At<file::Sensor>) -> Option<SensorPlan> {
        let bus = sensor.bus.as_ref().and_then(|bus| self.bus_of_sensor(bus));
        let spec = sensor.driver.as_ref().and_then(|driver| find_driver(driver, self.problems));
        let factory = spec.and_then(|spec| self.driver(spec, sensor));
        let channels = factory.as_ref().map(Factory::channels).unwrap_or_default();
        let form = form(sensor.publish.payload.value);
        let values = self.values(sensor, &channels, form);
        let id = SensorId::parse(&sensor.id.as_ref()?.value.0).ok()?;
        let publish = self.publish(&sensor.publish, &id);
        // A default stands at its block's place. It knows nothing of this device's pauses, so the first frame does not get a whole hour.
        let written = sensor.max_age.span != sensor.value.span;
        let max_age = sensor.max_age.value.duration();
        let patience = max_age.filter(|_| written).unwrap_or(SENSOR_FIRST_READING);
        Some(SensorPlan {
            id,
            bus: bus?,
            driver: spec?.name,
            options: sensor.options.canonical(),
            factory: factory?,
            pipeline: SensorSettings { values, max_age, patience },
            publish: publish?,
        })
    }

    fn bus_of_sensor(&mut self, bus: &At<crate::config::kinds::Text>) -> Option<BusId> {
        let declared = || self.file.bus.0.iter().map(|(name, _)| name.value.as_str());
        if !declared().any(|name| name == bus.value.0) {
            let unknown = self.problems.error(Code::UnknownBus, bus.span, format!("no bus named `{}`", bus.value.0));
            unknown.label("not declared under [bus]").suggest(&bus.value.0, declared());
            if declared().next().is_none() {
                unknown.help(format!("declare it: [bus.{}] with `device = \"/dev/…\"`", bus.value.0));
            }
            return None;
        }
        BusId::parse(&bus.value.0).ok()
    }

    fn driver(&mut self, spec: &'static DriverSpec, sensor: &At<file::Sensor>) -> Option<Factory> {
        // Keys that neither we nor the driver know are told here, with both lists at hand; the driver judges the rest.
        let schema = (spec.schema)();
        let known = schema.get("properties").and_then(serde_json::Value::as_object);
        let ours = file::Sensor::BLOCK.keys;
        let mut options = sensor.options.clone();
        let mut clean = true;
        if let Some(known) = known.filter(|known| !known.is_empty()) {
            options.0.retain(|name, (span, _)| {
                let is_known = known.contains_key(name.as_str());
                if !is_known {
                    clean = false;
                    let names = known.keys().map(String::as_str).chain(ours.iter().map(|key| key.name));
                    self.problems
                        .error(Code::UnknownKey, *span, format!("unknown key `{name}`"))
                        .label(format!("known to neither a sensor nor driver `{}`", spec.name))
                        .suggest(name, names);
                }
                is_known
            });
        }
        match spec.build(options.to_toml()) {
            Ok(factory) => clean.then_some(factory),
            Err(mistakes) => {
                if mistakes.is_empty() {
                    self.problems.error(
                        Code::DriverOption,
                        sensor.span,
                        format!("driver `{}` cannot be used like this", spec.name),
                    );
                }
                for mistake in mistakes {
                    let mut span = Span::from(mistake.span);
                    if span.end <= span.start && span.start == 0 {
                        // The driver misses something: there is no place for what is not there but the block's.
                        span = sensor.span;
                    }
                    let told = self.problems.error(Code::DriverOption, span, mistake.message);
                    if let Some(help) = mistake.help {
                        told.help(help);
                    }
                }
                None
            }
        }
    }

    fn values(&mut self, sensor: &At<file::Sensor>, channels: &[Arc<str>], form: PayloadForm) -> Vec<ValueSettings> {
        let mut settings = Vec::new();
        let mut published: HashMap<String, Span> = HashMap::new();
        for (name, value) in &sensor.values.0 {
            if !channels.is_empty() && !channels.iter().any(|channel| **channel == *name.value) {
                self.problems
                    .error(Code::UnknownValue, name.span, format!("the sensor has no value `{}`", name.value))
                    .suggest(&name.value, channels.iter().map(|channel| &**channel));
            }
            if let Some(median) = &value.median
                && median.value.0 % 2 == 0
            {
                self.problems
                    .error(
                        Code::Processing,
                        median.span,
                        format!("a median over {} values has no middle", median.value.0),
                    )
                    .label("an odd number is wanted");
            }
            let rename = value.rename.as_ref();
            let told_as = rename.map_or(&name.value, |rename| &rename.value.0);
            let told_at = rename.map_or(name.span, |rename| rename.span);
            if form.reserves(told_as) {
                let word = if OWN_NAMES.contains(&told_as.as_str()) {
                    "a word of the payload itself"
                } else {
                    "a topic of the gateway itself, where each value has its topic"
                };
                self.problems
                    .error(Code::ReservedId, told_at, format!("no value can be published as `{told_as}`"))
                    .label(word);
            }
            if let Some(first) = published.insert(form.published(told_as).into_owned(), told_at) {
                self.problems
                    .error(Code::Duplicate, told_at, format!("two values are published as `{told_as}`"))
                    .label("published again here")
                    .and(first, "published here first");
            }
            settings.push(ValueSettings {
                name: name.value.as_str().into(),
                rename: rename.map(|rename| rename.value.0.as_str().into()),
                unit: value.unit.as_ref().map(|unit| unit.value.0.as_str().into()),
                scale: value.scale.as_ref().map(|scale| scale.value.0),
                offset: value.offset.as_ref().map(|offset| offset.value.0),
                range: value.range.as_ref().map(|range| Range { min: range.value.min, max: range.value.max }),
                median: value.median.as_ref().and_then(|median| usize::try_from(median.value.0).ok()),
                round: value.round.as_ref().and_then(|round| i32::try_from(round.value.0).ok()),
                deadband: value.deadband.as_ref().map(|deadband| deadband.value.0),
                heartbeat: value.heartbeat.as_ref().map(|heartbeat| heartbeat.value.0),
            });
        }
        for channel in channels.iter().filter(|channel| !settings.iter().any(|value| value.name == **channel)) {
            let told_as = form.published(channel);
            if let Some(first) = published.get(&*told_as) {
                self.problems
                    .error(Code::Duplicate, *first, format!("two values are published as `{told_as}`"))
                    .label(format!("the sensor's own value `{channel}` is published so"));
            }
        }
        settings
    }

    fn publish(&mut self, publish: &file::Publish, id: &SensorId) -> Option<PublishSettings> {
        let span = publish.topic.span;
        let holes =
            Holes { filled: &[("gateway", self.gateway.as_str()), ("sensor", id.as_str())], numbered: 0, later: &[] };
        let text = topics::fill("topic", &publish.topic.value, span, &holes, self.problems)?;
        let topic = topics::name("topic", &text, span, self.problems)?;
        let own = format!("tidegate/{}/", self.gateway);
        if let Some(level) = topic.as_str().strip_prefix(&own).and_then(|rest| rest.split('/').next())
            && RESERVED.contains(&level)
            && level != id.as_str()
        {
            self.problems
                .error(Code::ReservedId, span, format!("no sensor can publish to `{topic}`"))
                .label("a topic of the gateway itself");
        }
        let availability_topic = topics::name("topic", &format!("{topic}/availability"), span, self.problems)?;
        Some(PublishSettings {
            topic,
            availability_topic,
            qos: publish.qos.value.0,
            retain: publish.retain.value,
            payload: form(publish.payload.value),
            seq: publish.seq.value,
        })
    }
}

fn form(payload: Payload) -> PayloadForm {
    match payload {
        Payload::Json => PayloadForm::Json,
        Payload::Value => PayloadForm::Value,
    }
}

fn find_driver(driver: &At<crate::config::kinds::Text>, problems: &mut Problems) -> Option<&'static DriverSpec> {
    let spec = registry::find(&driver.value.0);
    if spec.is_none() {
        problems
            .error(Code::UnknownDriver, driver.span, format!("no driver named `{}`", driver.value.0))
            .suggest(&driver.value.0, registry::DRIVERS.iter().map(|spec| spec.name));
    }
    spec
}

/// Reads `device`.
fn device(text: &At<crate::config::kinds::Text>, problems: &mut Problems) -> Option<Device> {
    let written = text.value.0.as_str();
    if let Some(name) = written.strip_prefix("sim:") {
        return match Simulated::new(name) {
            Ok(_) => Some(Device::Simulated(name.to_owned())),
            Err(error) => {
                let known = simulated::NAMES.iter().map(|(name, _)| *name);
                problems.error(Code::Malformed, text.span, error.to_string()).suggest(name, known);
                None
            }
        };
    }
    if let Some(ids) = written.strip_prefix("usb:") {
        let mut parts = ids.splitn(3, ':');
        let mut hex = || parts.next().filter(|id| id.len() == 4).and_then(|id| u16::from_str_radix(id, 16).ok());
        if let (Some(vendor), Some(product)) = (hex(), hex()) {
            let serial = parts.next().filter(|serial| !serial.is_empty()).map(str::to_owned);
            return Some(Device::Usb { vendor, product, serial });
        }
        problems
            .error(Code::Malformed, text.span, format!("`{written}` names no USB adapter"))
            .label("expected usb:VENDOR:PRODUCT[:SERIAL], each id four hexadecimal digits as `lsusb` prints them");
        return None;
    }
    if written.starts_with('/') && !written.contains('\0') {
        return Some(Device::Path(PathBuf::from(written)));
    }
    problems
        .error(Code::Malformed, text.span, format!("`{written}` names no port"))
        .label("expected a path such as /dev/serial/by-id/…, usb:VENDOR:PRODUCT[:SERIAL] or sim:NAME");
    None
}

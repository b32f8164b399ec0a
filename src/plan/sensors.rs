//! Sensors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::topics::{self, Holes};
use super::{Planner, RESERVED, SensorPlan, lines, options};
use crate::bus::settings::{BusSettings, FilesSettings, LinesSettings};
use crate::config::code::Code;
use crate::config::file::{self, Payload};
use crate::config::{At, Problems, Span};
use crate::drivers::{BusKind, DriverSpec, Factory, registry};
use crate::limits::{SENSOR_AGE, SENSOR_AGE_POLLS, SENSOR_AGE_SLACK, SENSOR_EVERY, SENSOR_FIRST_READING};
use crate::logic::pipeline::{Range, SensorSettings, ValueSettings};
use crate::logic::route::{PayloadForm, PublishSettings};
use crate::model::{BusId, OWN_NAMES, SensorId, TopicName};

impl Planner<'_> {
    /// The declared sensors.
    pub(super) fn sensors(&mut self, buses: &mut Vec<BusSettings>) -> Vec<SensorPlan> {
        let mut sensors = Vec::new();
        let mut addresses: HashMap<(BusId, u8), Span> = HashMap::new();
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
            let Some(plan) = self.sensor(sensor, buses) else { continue };
            let at = sensor.value.bus.as_ref().map_or(sensor.span, |bus| bus.span);
            self.address_twice(&plan, at, &mut addresses);
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

    fn sensor(&mut self, sensor: &At<file::Sensor>, buses: &mut Vec<BusSettings>) -> Option<SensorPlan> {
        let spec = sensor.driver.as_ref().and_then(|driver| find_driver(driver, self.problems));
        let factory = spec.and_then(|spec| self.driver(spec, sensor));
        let bus = self.bus_of_sensor(sensor, spec, factory.as_ref(), buses);
        let every = self.every(sensor, spec, factory.as_ref());
        let channels = factory.as_ref().map(Factory::channels).unwrap_or_default();
        let form = form(sensor.publish.payload.value);
        let mut values = self.values(sensor, &channels, form);
        if let (Some(spec), Some(factory)) = (spec, &factory) {
            known_of_driver(spec, factory, &mut values);
        }
        let id = SensorId::parse(&sensor.id.as_ref()?.value.0).ok()?;
        let publish = self.publish(&sensor.publish, &id);
        let max_age = match (&sensor.max_age, every) {
            (Some(written), _) => written.value.duration(),
            (None, Some(every)) => Some(every.saturating_mul(SENSOR_AGE_POLLS) + SENSOR_AGE_SLACK),
            (None, None) => Some(SENSOR_AGE),
        };
        // A default knows nothing of the pauses of a device that speaks by itself, so its first frame does not get a whole hour.
        let told = max_age.filter(|_| sensor.max_age.is_some() || every.is_some());
        let patience = told.unwrap_or(SENSOR_FIRST_READING);
        Some(SensorPlan {
            id,
            bus: bus?,
            driver: spec?.name,
            every,
            options: sensor.options.canonical(),
            factory: factory?,
            pipeline: SensorSettings { values, max_age, patience },
            publish: publish?,
        })
    }

    /// How often the sensor is asked, or tells its values when nothing happens; `None` where it speaks by itself.
    fn every(
        &mut self,
        sensor: &file::Sensor,
        spec: Option<&DriverSpec>,
        factory: Option<&Factory>,
    ) -> Option<Duration> {
        let spec = spec?;
        if let Some(Factory::Line(factory)) = factory {
            return Some(sensor.every.as_ref().map_or(factory.every(), |every| every.value.0));
        }
        if spec.bus().is_polled() {
            return Some(sensor.every.as_ref().map_or(SENSOR_EVERY, |every| every.value.0));
        }
        if let Some(every) = &sensor.every {
            self.problems
                .error(Code::DriverOption, every.span, "`every` has no meaning here")
                .label(format!("driver `{}` listens to what speaks by itself", spec.name));
        }
        None
    }

    /// The bus the sensor hangs on: the declared one it names, or the one that all devices of its kind share.
    fn bus_of_sensor(
        &mut self,
        sensor: &At<file::Sensor>,
        spec: Option<&DriverSpec>,
        factory: Option<&Factory>,
        buses: &mut Vec<BusSettings>,
    ) -> Option<BusId> {
        let declared = spec.is_none_or(|spec| spec.bus().is_declared());
        let named = sensor.value.bus.as_ref().filter(|_| declared).and_then(|bus| self.declared_bus(bus));
        let spec = spec?;
        if !spec.bus().is_declared() {
            if let Some(bus) = &sensor.value.bus {
                self.problems
                    .error(Code::WrongBus, bus.span, format!("driver `{}` hangs on no declared bus", spec.name))
                    .label("leave `bus` out");
            }
            let settings = match factory? {
                Factory::Files(factory) => BusSettings::Files(FilesSettings {
                    id: BusId::parse(factory.group()).ok()?,
                    sys: Some("/sys".into()),
                }),
                Factory::Line(factory) => {
                    self.has_line(factory.request().line, lines::place(&sensor.options).unwrap_or(sensor.span));
                    BusSettings::Lines(LinesSettings { id: BusId::parse("gpio").ok()?, gpio: self.gpio() })
                }
                Factory::Stream(_) | Factory::I2c(_) => return None,
            };
            let id = settings.id().clone();
            if !buses.iter().any(|bus| *bus.id() == id) {
                buses.push(settings);
            }
            return Some(id);
        }
        let Some(written) = &sensor.value.bus else {
            self.problems.error(Code::MissingKey, sensor.span, "`bus` is missing").label(format!(
                "driver `{}` needs a {}",
                spec.name,
                spec.bus().word()
            ));
            return None;
        };
        let named = named?;
        // A bus whose own block has a mistake is told there.
        let found = match buses.iter().find(|bus| *bus.id() == named)? {
            BusSettings::Serial(_) => BusKind::Serial,
            BusSettings::I2c(_) => BusKind::I2c,
            BusSettings::Files(_) => BusKind::Files,
            BusSettings::Lines(_) => BusKind::Line,
        };
        if found != spec.bus() {
            self.problems
                .error(Code::WrongBus, written.span, format!("`{named}` is no {}", spec.bus().word()))
                .label(format!("driver `{}` needs one; this is declared as {}", spec.name, found.word()));
            return None;
        }
        Some(named)
    }

    pub(super) fn declared_bus(&mut self, bus: &At<crate::config::kinds::Text>) -> Option<BusId> {
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

    /// Two drivers at one address would each set the chip up in its own way.
    fn address_twice(&mut self, plan: &SensorPlan, span: Span, taken: &mut HashMap<(BusId, u8), Span>) {
        let Factory::I2c(factory) = &plan.factory else { return };
        let address = factory.address();
        if let Some(first) = taken.insert((plan.bus.clone(), address), span) {
            self.problems
                .error(Code::AddressTwice, span, format!("two sensors are at {address:#04x} of bus `{}`", plan.bus))
                .label("used again here")
                .and(first, "used here first");
        }
    }

    fn driver(&mut self, spec: &'static DriverSpec, sensor: &At<file::Sensor>) -> Option<Factory> {
        let block = options::Block {
            what: "a sensor",
            driver: spec.name,
            schema: (spec.schema)(),
            ours: file::Sensor::BLOCK.keys,
            options: &sensor.options,
            span: sensor.span,
        };
        self.own_keys(&block, |table| spec.build(table))
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
        self.own_topic(&topic, id.as_str(), span, "sensor");
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

/// What the driver knows of its values, where the config says nothing else: unit, and what the device can measure at all.
fn known_of_driver(spec: &DriverSpec, factory: &Factory, values: &mut Vec<ValueSettings>) {
    fn entry<'v>(values: &'v mut Vec<ValueSettings>, name: &str) -> &'v mut ValueSettings {
        let at = values.iter().position(|value| *value.name == *name).unwrap_or_else(|| {
            values.push(ValueSettings { name: name.into(), ..ValueSettings::default() });
            values.len() - 1
        });
        &mut values[at]
    }
    for channel in spec.channels {
        let value = entry(values, channel.name);
        // A value that is scaled, or told in another unit, is no longer what the datasheet speaks of.
        let as_measured = value.scale.is_none() && value.unit.as_deref().is_none_or(|unit| unit == channel.unit);
        if as_measured && value.offset.is_none() {
            value.range.get_or_insert(Range { min: channel.range.0, max: channel.range.1 });
        }
        if !channel.unit.is_empty() {
            value.unit.get_or_insert_with(|| channel.unit.into());
        }
    }
    for (name, unit) in factory.units() {
        entry(values, &name).unit.get_or_insert(unit);
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

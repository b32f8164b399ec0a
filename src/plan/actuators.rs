//! Actuators.

use std::collections::HashMap;
use std::sync::Arc;

use super::topics::{self, Holes};
use super::{ActuatorPlan, Planner, SensorPlan, lines, options};
use crate::actuators::{ActuatorFactory, ActuatorSpec, ChipKind, Means, registry};
use crate::bus::settings::BusSettings;
use crate::config::code::Code;
use crate::config::{At, Span, file};
use crate::drivers::Factory;
use crate::logic::command::{Rules, Side, Vocabulary};
use crate::logic::output::OutputSettings;
use crate::logic::tell::ActuatorTopics;
use crate::model::{ActuatorId, BusId, Setting, TopicName};

/// There was a mistake, and it has been noted.
struct Told;

/// What outputs, and sensors, have of the chips on the buses.
#[derive(Default)]
struct Taken {
    chips: HashMap<(BusId, u8), (Option<ChipKind>, Span)>,
    outputs: HashMap<(BusId, u8, u8), Span>,
}

impl Planner<'_> {
    /// The declared actuators.
    pub(super) fn actuators(&mut self, buses: &[BusSettings], sensors: &[SensorPlan]) -> Vec<ActuatorPlan> {
        let mut actuators = Vec::new();
        let mut taken = Taken::default();
        let mut topics: HashMap<TopicName, Span> = HashMap::new();
        let mut ids: HashMap<&str, (Span, &str)> = HashMap::new();
        for sensor in &self.file.sensor.value {
            let Some(id) = &sensor.id else { continue };
            ids.insert(&id.value.0, (id.span, "sensor"));
            let Some(plan) = sensors.iter().find(|plan| plan.id.as_str() == id.value.0) else { continue };
            let at = sensor.publish.topic.span;
            topics.extend([&plan.publish.topic, &plan.publish.availability_topic].map(|topic| (topic.clone(), at)));
            if let Factory::I2c(factory) = &plan.factory {
                taken.chips.insert((plan.bus.clone(), factory.address()), (None, id.span));
            }
        }
        for actuator in &self.file.actuator.value {
            if let Some(id) = &actuator.id {
                self.reserved(id);
                if let Some((first, kind)) = ids.insert(&id.value.0, (id.span, "actuator")) {
                    let what = if kind == "actuator" { "two actuators are" } else { "a sensor and an actuator are" };
                    self.problems
                        .error(Code::Duplicate, id.span, format!("{what} named `{}`", id.value.0))
                        .label("named again here")
                        .and(first, "named here first");
                    continue;
                }
            }
            let Some(plan) = self.actuator(actuator, buses, &mut taken) else { continue };
            let at = actuator.publish.topic.span;
            for topic in plan.topics.all() {
                if let Some(first) = topics.insert(topic.clone(), at) {
                    self.problems
                        .error(Code::TopicTwice, at, format!("`{topic}` would be used twice"))
                        .label("used again here")
                        .and(first, "used here first");
                    break;
                }
            }
            actuators.push(plan);
        }
        actuators
    }

    fn reserved(&mut self, id: &At<crate::config::kinds::Id>) {
        if super::RESERVED.contains(&id.value.0.as_str()) {
            self.problems
                .error(Code::ReservedId, id.span, format!("no actuator can be named `{}`", id.value.0))
                .label("a topic of the gateway itself");
        }
    }

    fn actuator(
        &mut self,
        written: &At<file::Actuator>,
        buses: &[BusSettings],
        taken: &mut Taken,
    ) -> Option<ActuatorPlan> {
        let spec = written.driver.as_ref().and_then(|driver| self.kind_of_actuator(driver));
        let factory = spec.and_then(|spec| self.factory(spec, written));
        let bus =
            factory.as_ref().and_then(|factory| self.bus_of_actuator(written, spec?, factory.as_ref(), buses).ok());
        if let (Some(factory), Some(bus)) = (&factory, &bus) {
            self.means_twice(written, factory.as_ref(), bus.as_ref(), taken);
        }
        let output = factory.as_ref().and_then(|factory| self.output(written, factory.as_ref()));
        let id = ActuatorId::parse(&written.id.as_ref()?.value.0).ok()?;
        let topics = self.topics_of_actuator(&written.publish, &id);
        let (spec, factory) = (spec?, factory?);
        let sides = written.allow_from.value.iter().map(|side| match side.value {
            file::From::Local => Side::Local,
            file::From::Cloud => Side::Cloud,
        });
        Some(ActuatorPlan {
            id,
            driver: spec.name,
            bus: bus?,
            gpio: self.gpio(),
            options: written.options.canonical(),
            rules: Rules { vocabulary: factory.vocabulary(), allow: sides.collect(), repeatable: factory.repeatable() },
            output: output?,
            topics: topics?,
            factory,
        })
    }

    fn kind_of_actuator(&mut self, driver: &At<crate::config::kinds::Text>) -> Option<&'static ActuatorSpec> {
        let spec = registry::find(&driver.value.0);
        if spec.is_none() {
            self.problems
                .error(
                    Code::UnknownDriver,
                    driver.span,
                    format!("no driver of an actuator is named `{}`", driver.value.0),
                )
                .suggest(&driver.value.0, registry::ACTUATORS.iter().map(|spec| spec.name));
        }
        spec
    }

    fn factory(&mut self, spec: &ActuatorSpec, written: &At<file::Actuator>) -> Option<Arc<dyn ActuatorFactory>> {
        let block = options::Block {
            what: "an actuator",
            driver: spec.name,
            schema: (spec.schema)(),
            ours: file::Actuator::BLOCK.keys,
            options: &written.options,
            span: written.span,
        };
        self.own_keys(&block, spec.build)
    }

    /// The bus it hangs on; `None` for what hangs on none.
    fn bus_of_actuator(
        &mut self,
        written: &At<file::Actuator>,
        spec: &ActuatorSpec,
        factory: &dyn ActuatorFactory,
        buses: &[BusSettings],
    ) -> Result<Option<BusSettings>, Told> {
        let named = written.value.bus.as_ref().map(|bus| (bus, self.declared_bus(bus)));
        let word = match factory.means() {
            Means::Line(_) => {
                if let Some((bus, _)) = named {
                    self.problems
                        .error(Code::WrongBus, bus.span, format!("driver `{}` hangs on no declared bus", spec.name))
                        .label("leave `bus` out");
                }
                return Ok(None);
            }
            Means::I2c { .. } => "an I²C bus",
            Means::Serial => "a serial port",
        };
        let Some((at, named)) = named else {
            self.problems
                .error(Code::MissingKey, written.span, "`bus` is missing")
                .label(format!("driver `{}` needs {word}", spec.name));
            return Err(Told);
        };
        let named = named.ok_or(Told)?;
        let settings = buses.iter().find(|bus| *bus.id() == named).ok_or(Told)?;
        let fits = matches!(
            (factory.means(), settings),
            (Means::I2c { .. }, BusSettings::I2c(_)) | (Means::Serial, BusSettings::Serial(_))
        );
        if !fits {
            self.problems
                .error(Code::WrongBus, at.span, format!("`{named}` is not {word}"))
                .label(format!("driver `{}` needs one", spec.name));
            return Err(Told);
        }
        Ok(Some(settings.clone()))
    }

    /// One line, and one output of a chip, has one user.
    fn means_twice(
        &mut self,
        written: &At<file::Actuator>,
        factory: &dyn ActuatorFactory,
        bus: Option<&BusSettings>,
        taken: &mut Taken,
    ) {
        let at = |key: &str| {
            let place = written.options.0.get(key);
            place.map_or(written.span, |(key, value)| Span { start: key.start, end: value.span.end })
        };
        match (factory.means(), bus) {
            (Means::Line(line), _) => self.has_line(line, lines::place(&written.options).unwrap_or(written.span)),
            (Means::I2c { address, chip, output }, Some(bus)) => {
                let place = (bus.id().clone(), address);
                let (first_chip, first) = *taken.chips.entry(place).or_insert((Some(chip), at("address")));
                if first_chip != Some(chip) {
                    self.problems
                        .error(
                            Code::AddressTwice,
                            at("address"),
                            format!("address 0x{address:02x} of bus `{}` is another chip's", bus.id()),
                        )
                        .label("used again here")
                        .and(first, "used here first");
                } else if let Some(first) = taken.outputs.insert((bus.id().clone(), address, output), at("output")) {
                    self.problems
                        .error(Code::LineTwice, at("output"), format!("output {output} of this chip is used twice"))
                        .label("used again here")
                        .and(first, "used here first");
                }
            }
            _ => {}
        }
    }

    /// How the output is kept, and whether that can be.
    fn output(&mut self, written: &At<file::Actuator>, factory: &dyn ActuatorFactory) -> Option<OutputSettings> {
        let vocabulary = factory.vocabulary();
        let pulse = factory.pulse();
        let has = |word: &str| match &vocabulary {
            Vocabulary::Switch | Vocabulary::Pulse => matches!(word, "on" | "off"),
            Vocabulary::Words(words, _) => words.iter().any(|known| known.as_ref() == word),
        };
        let is_switch = has("on") && has("off");
        let sound = std::cell::Cell::new(true);
        let wrong = |planner: &mut Self, span: Span, message: &str, label: &str| {
            planner.problems.error(Code::Limits, span, message).label(label);
            sound.set(false);
        };
        let safe = match &written.safe {
            Some(safe) if pulse.is_some() && safe.value.0 != "off" => {
                wrong(self, safe.span, "a pulse rests at `off`", "leave `safe` out");
                None
            }
            Some(safe) if !has(&safe.value.0) => {
                let message = format!("`safe` cannot be `{}`", safe.value.0);
                let told = self.problems.error(Code::Limits, safe.span, message);
                match &vocabulary {
                    Vocabulary::Words(words, _) => told.suggest(&safe.value.0, words.iter().map(|word| &**word)),
                    _ => told.label("`on` or `off`"),
                };
                sound.set(false);
                None
            }
            Some(safe) => Some(Setting::of(&safe.value.0)),
            None => (!matches!(vocabulary, Vocabulary::Words(..))).then_some(Setting::Off),
        };
        for (key, name) in
            [(&written.max_on, "max_on"), (&written.min_off, "min_off"), (&written.link_loss, "link_loss")]
        {
            let Some(key) = key else { continue };
            let says = |text: &str| text.replace("{}", name);
            if pulse.is_some() && name != "min_off" {
                wrong(self, key.span, &says("`{}` has no meaning for a pulse"), "it goes off by itself");
            } else if name != "link_loss" && !is_switch {
                wrong(self, key.span, &says("`{}` without the words `on` and `off`"), "it has no meaning here");
            } else if name != "min_off" && safe.is_none() && written.safe.is_none() {
                wrong(self, key.span, &says("`{}` without `safe`"), "where should it go?");
            } else if name == "max_on" && safe == Some(Setting::On) {
                wrong(self, key.span, "`max_on` and a safe state of `on`", "they would switch against each other");
            } else if name == "link_loss" && self.file.bridge.value.is_empty() {
                wrong(self, key.span, "`link_loss` without a bridge", "there is no link that could be lost");
            }
        }
        let duration = |key: &Option<At<crate::config::kinds::Duration>>| key.as_ref().map(|key| key.value.0);
        sound.get().then(|| OutputSettings {
            safe,
            link_loss: duration(&written.link_loss),
            max_on: duration(&written.max_on),
            min_off: duration(&written.min_off),
            pulse,
            readable: factory.readable(),
        })
    }

    fn topics_of_actuator(&mut self, publish: &file::ActuatorPublish, id: &ActuatorId) -> Option<ActuatorTopics> {
        let span = publish.topic.span;
        let filled = [("gateway", self.gateway.as_str()), ("actuator", id.as_str())];
        let holes = Holes { filled: &filled, numbered: 0, later: &[] };
        let text = topics::fill("topic", &publish.topic.value, span, &holes, self.problems)?;
        let state = topics::name("topic", &text, span, self.problems)?;
        self.own_topic(&state, id.as_str(), span, "actuator");
        let mut level = |level: &str| topics::name("topic", &format!("{state}/{level}"), span, self.problems);
        Some(ActuatorTopics {
            set: level("set")?,
            ack: level("ack")?,
            availability: level("availability")?,
            qos: publish.qos.value.0,
            state,
        })
    }
}

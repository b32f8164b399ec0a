//! A plan without hardware: every bus is made of software, and everything else stays as it is.

use super::Plan;
use crate::bus::gpio::Backend;
use crate::bus::settings::{BusSettings, Device, I2cDevice};
use crate::drivers::Factory;
use crate::model::SensorId;

impl Plan {
    /// Puts software in the place of every bus. Names the sensors that stay silent: nobody can make up a line for a regular expression.
    pub fn simulate(&mut self) -> Vec<SensorId> {
        let mut silent = Vec::new();
        for bus in &mut self.buses {
            match bus {
                BusSettings::Serial(settings) => {
                    // What is simulated or recorded already says more than a template.
                    if !matches!(settings.device, Device::Path(_) | Device::Usb { .. }) {
                        continue;
                    }
                    let mut templates = Vec::new();
                    for sensor in self.sensors.iter().filter(|sensor| sensor.bus == settings.id) {
                        let Factory::Stream(factory) = &sensor.factory else { continue };
                        match factory.template() {
                            Some(template) => templates.push(template),
                            None => silent.push(sensor.id.clone()),
                        }
                    }
                    settings.device = Device::Templates(templates);
                }
                BusSettings::I2c(settings) => settings.device = I2cDevice::Simulated,
                BusSettings::Files(settings) => settings.sys = None,
                BusSettings::Lines(settings) => settings.gpio.backend = Backend::Simulated,
            }
        }
        for actuator in &mut self.actuators {
            actuator.gpio.backend = Backend::Simulated;
            let own = actuator.bus.as_ref().map(|bus| bus.id().clone());
            actuator.bus = self.buses.iter().find(|bus| Some(bus.id()) == own.as_ref()).cloned();
        }
        silent
    }
}

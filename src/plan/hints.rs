//! What is allowed and hardly meant. Told when nothing is wrong: beside an error it would mostly be its shadow.

use super::Planner;
use crate::config::code::Code;

impl Planner<'_> {
    /// Warns of what does nothing.
    pub(super) fn hints(&mut self) {
        // A path from the directory that the program was started in counts as well.
        if let Some(written) = &self.file.gateway.state_dir
            && let Ok(leads) = std::path::absolute(&self.state_dir)
            && leads.starts_with("/etc")
        {
            self.problems
                .warning(Code::StateInEtc, written.span, format!("`state_dir` leads to `{}`", leads.display()))
                .label("state, where settings belong; the service may not write there")
                .help("leave `state_dir` out: systemd gives the service /var/lib/tidegate");
        }
        for (name, _) in &self.file.bus.0 {
            let sensors = self.file.sensor.iter().filter_map(|sensor| sensor.bus.as_ref());
            let actuators = self.file.actuator.iter().filter_map(|actuator| actuator.bus.as_ref());
            if !sensors.chain(actuators).any(|bus| bus.value.0 == name.value) {
                self.problems.warning(Code::Unused, name.span, format!("no sensor is on bus `{}`", name.value));
            }
        }
        for sensor in &self.file.sensor.value {
            for (_, value) in &sensor.values.0 {
                if let (Some(heartbeat), None) = (&value.heartbeat, &value.deadband) {
                    self.problems
                        .warning(Code::Unused, heartbeat.span, "`heartbeat` changes nothing without `deadband`")
                        .label("without a deadband every value is told");
                }
            }
            let publish = &sensor.publish;
            if publish.payload.value == crate::config::file::Payload::Value && publish.seq.value {
                self.problems.warning(Code::Unused, publish.seq.span, "`seq` has no place in a bare value");
            }
        }
        for actuator in self.file.actuator.iter().filter(|actuator| actuator.allow_from.value.is_empty()) {
            self.problems
                .warning(Code::Unused, actuator.allow_from.span, "nobody may command this actuator")
                .label("it stays in its safe state");
        }
        for user in &self.file.broker.users.value {
            let name = user.name.as_ref().map_or("", |name| name.value.0.as_str());
            if user.publish.value.is_empty() && user.subscribe.value.is_empty() {
                self.problems
                    .warning(Code::UserWithoutRights, user.span, format!("user `{name}` may do nothing"))
                    .label("neither `publish` nor `subscribe`");
            }
        }
        for bridge in &self.file.bridge.value {
            let id = bridge.id.as_ref().map_or("", |id| id.value.0.as_str());
            if bridge.out.value.is_empty() && bridge.inward.value.is_empty() {
                self.problems
                    .warning(Code::MovesNothing, bridge.span, format!("bridge `{id}` moves nothing"))
                    .label("neither `out` nor `in`");
            }
        }
    }
}

//! What a plan takes from outside the config: the environment, the host name, and whether secrets are to be had at all.

use crate::clock::{Clock as _, SystemClock};
use crate::model::Timestamp;

/// What is asked of secrets, certificates and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Each must be there: the gateway is about to run.
    Needed,
    /// Each must be there but credentials, which systemd hands to the service alone: a person checks the config.
    Checked,
    /// None is looked at: a developer's machine has none.
    Ignored,
}

/// Looks up a variable of the environment.
pub type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The surroundings of a plan.
pub struct Environment {
    /// Looks up an environment variable.
    pub variable: Variables,
    /// Name of this machine.
    pub host_name: String,
    /// What is asked of secrets, certificates and keys.
    pub secrets: Secrets,
    /// What time it is: certificates have dates.
    pub wall: Timestamp,
}

impl Environment {
    /// That of this process, which needs its secrets.
    pub fn of_process() -> Self {
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            variable: Box::new(|name| std::env::var(name).ok()),
            host_name: host_name.trim().to_owned(),
            secrets: Secrets::Needed,
            wall: SystemClock.wall(),
        }
    }

    /// The host name as an id: characters that no id has become `-`.
    pub(super) fn gateway_id(&self) -> String {
        let name: String = self
            .host_name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
            .take(crate::model::id::ID_BYTES_MAX)
            .collect();
        let name = name.trim_start_matches(['-', '_', '.']);
        if name.is_empty() { "tidegate".to_owned() } else { name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_makes_an_id() {
        for (host, id) in [("pump-house", "pump-house"), ("", "tidegate"), ("-höf/1", "h-f-1"), ("é", "tidegate")] {
            let environment =
                Environment { host_name: host.into(), secrets: Secrets::Ignored, ..Environment::of_process() };
            assert_eq!(environment.gateway_id(), id);
            assert!(crate::model::GatewayId::parse(id).is_ok());
        }
    }
}

//! What a plan takes from outside the config: the environment, the host name, and whether secrets are to be had at all.

/// Looks up a variable of the environment.
pub type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The surroundings of a plan.
pub struct Environment {
    /// Looks up an environment variable.
    pub variable: Variables,
    /// Name of this machine.
    pub host_name: String,
    /// Whether secrets, certificates and keys are read. `check --no-secrets` leaves them alone: a developer's machine has none.
    pub secrets: bool,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            variable: Box::new(|name| std::env::var(name).ok()),
            host_name: host_name.trim().to_owned(),
            secrets: true,
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
            let environment = Environment { variable: Box::new(|_| None), host_name: host.into(), secrets: false };
            assert_eq!(environment.gateway_id(), id);
            assert!(crate::model::GatewayId::parse(id).is_ok());
        }
    }
}

//! How much in how long.

use std::fmt;
use std::time::Duration;

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Quota {
    /// How many; at least one.
    pub count: u64,
    /// In how long: a second, a minute or an hour.
    pub per: Duration,
}

/// Most messages and bytes in a time; what is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Rate {
    /// Messages.
    pub messages: Option<Quota>,
    /// Bytes of topics and payloads.
    pub bytes: Option<Quota>,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |per: Duration| match per.as_secs() {
            60 => "min",
            3_600 => "h",
            _ => "s",
        };
        let messages = self.messages.map(|quota| format!("{}/{}", quota.count, unit(quota.per)));
        let bytes = self.bytes.map(|quota| format!("{}B/{}", quota.count, unit(quota.per)));
        f.write_str(&[messages, bytes].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

//! The local broker's clients as a person sees them (`tidegate clients`), and what may be done about one.
//!
//! The same types are read and written: the daemon answers with them as JSON, and the command line takes them from there.

use serde::{Deserialize, Serialize};

/// Everyone that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientsOverview {
    /// By client id.
    pub clients: Vec<ClientOverview>,
    /// How many more there are than can be told at a time ([`crate::limits::CLIENTS_TOLD_BYTES`]).
    #[serde(default)]
    pub more: u64,
}

/// A client: connected, or away with a session that waits for it. Ids are texts here, since they are shown and no longer used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientOverview {
    /// Client id.
    pub id: String,
    /// User name; `None` for one that came without.
    pub user: Option<String>,
    /// Whether it is connected.
    pub connected: bool,
    /// From where it is, or was last, connected; this and what follows is not known of a session that nobody has come for since the start.
    pub address: Option<String>,
    /// `tcp`, `tls`, `ws` or `wss`.
    pub transport: Option<String>,
    /// Version of MQTT: `3.1.1` or `5.0`.
    pub protocol: Option<String>,
    /// Time since it connected or, when it is away, since it went; milliseconds.
    pub for_ms: Option<u64>,
    /// Time since it last said something, milliseconds.
    pub heard_ms: Option<u64>,
    /// Keep alive, seconds; 0 for none.
    pub keep_alive_s: Option<u16>,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages that wait to be sent to it.
    pub queued: u64,
    /// What they weigh, bytes ([`crate::model::Message::weight`]).
    pub queued_bytes: u64,
    /// Messages of QoS 1 and 2 that were sent to it and that it has not acknowledged.
    pub in_flight: u64,
    /// Messages for it that were dropped, since its session began or the broker started.
    pub dropped: u64,
    /// How long its session outlives the connection, seconds; `None`: for ever.
    pub expiry_s: Option<u32>,
    /// When it is away: time until its session ends, milliseconds; `None`: never.
    pub ends_ms: Option<u64>,
}

/// Ends a client's connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kick {
    /// Client id.
    pub client: String,
    /// Whether its session ends too, with its subscriptions and all that waits for it.
    #[serde(default)]
    pub forget: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KickReport {
    /// Whether it was connected.
    pub was_connected: bool,
    /// Whether there is no session of it any more.
    pub is_forgotten: bool,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KickRefusal {
    /// The gateway runs no broker.
    #[error("the gateway has no local broker of its own")]
    NoBroker,
    /// Neither a connection nor a session has the client id.
    #[error("there is no client `{}`", .0.escape_debug())]
    Unknown(String),
    /// There is no connection to end.
    #[error("the client is away, and only its session is there; `--forget` ends that")]
    Away,
}

/// Whether a client id fits a pattern: `*` stands for any text, `?` for one character, all else for itself.
pub fn fits(pattern: &str, id: &str) -> bool {
    let (pattern, id): (Vec<char>, Vec<char>) = (pattern.chars().collect(), id.chars().collect());
    let (mut at, mut seen) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: that star takes one character more.
    let mut retry = None;
    while seen < id.len() {
        match pattern.get(at) {
            Some('*') => {
                retry = Some((at + 1, seen));
                at += 1;
            }
            Some(&c) if c == '?' || c == id[seen] => (at, seen) = (at + 1, seen + 1),
            _ => {
                let Some((after, from)) = retry else { return false };
                retry = Some((after, from + 1));
                (at, seen) = (after, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_what_a_shell_s_would() {
        for (pattern, id, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("ha", "ha", true),
            ("ha", "Ha", false),
            ("ha", "ha2", false),
            ("h*", "ha/2", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbx", false),
            ("a?c", "aöc", true),
            ("a?", "a", false),
            ("*?", "", false),
            ("a**", "a", true),
        ] {
            assert_eq!(fits(pattern, id), expected, "{pattern:?} and {id:?}");
        }
    }

    #[test]
    fn a_long_pattern_of_stars_takes_no_long_time() {
        // With backtracking into every star this would not end.
        assert!(!fits(&format!("{}x", "a*".repeat(50)), &"a".repeat(5_000)));
    }
}

//! The word to the service manager (sd_notify(3)). Without one, every call does nothing.

use std::fmt;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The local side is up. The cloud need not be: a gateway must be configurable while it is offline.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins, at this time of CLOCK_MONOTONIC; [`ready`] ends it.
pub fn reloading(monotonic: Duration) {
    send(&[NotifyState::Reloading, began(monotonic)]);
}

/// The crate's own reading of the clock overflows on 32 bits, 36 minutes after the board was started.
fn began(monotonic: Duration) -> NotifyState<'static> {
    NotifyState::MonotonicUsec(i128::try_from(monotonic.as_micros()).unwrap_or(i128::MAX))
}

/// A stop begins.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// How long the service manager waits for [`alive`] before it kills (`WatchdogSec=`); `None` when it does not wait.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// Feeds the watchdog.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager does not take our word");
    }
}

/// How things stand, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// What comes before all else, such as a reload that was refused.
    pub note: Option<&'static str>,
    /// Sensors in the config.
    pub sensors: usize,
    /// Those that are online.
    pub sensors_online: usize,
    /// Each bridge: its id, its state, and why it is not online.
    pub bridges: Vec<(String, &'static str, Option<String>)>,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(note) = self.note {
            write!(f, "{note}; ")?;
        }
        match self.sensors {
            0 => f.write_str("no sensors")?,
            sensors => {
                let plural = if sensors == 1 { "" } else { "s" };
                write!(f, "{} of {sensors} sensor{plural} online", self.sensors_online)?;
            }
        }
        for (id, state, reason) in &self.bridges {
            write!(f, "; bridge {id} {state}")?;
            if let Some(reason) = reason {
                // A line of its own would be another word to the service manager, and a reason may be told by a cloud.
                write!(f, " ({})", reason.replace(char::is_control, " "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_on_a_board_that_has_run_for_years_says_when_it_began() {
        assert_eq!(began(Duration::from_secs(100_000_000)).to_string(), "MONOTONIC_USEC=100000000000000");
    }

    #[test]
    fn how_things_stand_is_one_line_whatever_a_cloud_says() {
        let standing = Standing {
            note: None,
            sensors: 3,
            sensors_online: 2,
            bridges: vec![
                ("cloud".into(), "online", None),
                ("backup".into(), "offline", Some("refused\nWATCHDOG=trigger".into())),
            ],
        };
        assert_eq!(
            standing.to_string(),
            "2 of 3 sensors online; bridge cloud online; bridge backup offline (refused WATCHDOG=trigger)"
        );
        let note = Some("the config was not reloaded");
        assert_eq!(
            Standing { note, sensors: 1, ..Standing::default() }.to_string(),
            "the config was not reloaded; 0 of 1 sensor online"
        );
        assert_eq!(Standing::default().to_string(), "no sensors");
    }
}

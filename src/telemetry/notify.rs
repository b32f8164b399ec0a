//! The word to the service manager (sd_notify(3)). Without one, every call does nothing.

use sd_notify::NotifyState;
use tracing::debug;

/// The local side is up. The cloud need not be: a gateway must be configurable while it is offline.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no monotonic time for the service manager"),
    }
}

/// A stop begins.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager does not take our word");
    }
}

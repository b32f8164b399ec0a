//! Does the systemd unit say what the program does?

use crate::source::read;

/// The value of a key of the unit, which stands there once.
fn unit(key: &str) -> String {
    let text = read("systemd/tidegate.service");
    let values: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}= in systemd/tidegate.service: {values:?}");
    values[0].to_owned()
}

#[test]
fn systemd_waits_as_long_as_an_orderly_stop_may_take() {
    assert_eq!(unit("TimeoutStopSec"), tidegate::limits::STOP_TOTAL.as_secs().to_string());
}

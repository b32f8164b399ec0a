//! Do the systemd unit and the page about operating say what the program does?

use std::collections::BTreeSet;

use tidegate::exit;

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

#[test]
fn systemd_does_not_start_again_what_a_config_error_ended() {
    assert_eq!(unit("RestartPreventExitStatus"), exit::CONFIG.to_string());
}

#[test]
fn the_page_tells_every_exit_code() {
    let page = read("docs/operating.md");
    let rows =
        page.lines().skip_while(|line| *line != "## Exit codes").skip(1).take_while(|line| !line.starts_with("## "));
    let told: BTreeSet<u8> = rows.filter_map(|row| row.split('|').nth(1)?.trim().parse().ok()).collect();
    let known: BTreeSet<u8> = exit::TABLE.iter().map(|(code, _)| *code).collect();
    assert_eq!(told, known);
}

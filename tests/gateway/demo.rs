//! Does the demo, as a stranger starts it, show values at once, and does the cut that it makes by itself cost nothing?

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::{Log, Process};
use crate::support::{Lateness, Tty, wait_for};

/// Longest until the first values are on the screen.
const FIRST_VALUES: Duration = Duration::from_secs(2);
/// Longest from the mend to being online again.
const ONLINE_AGAIN: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_cut_link_loses_and_doubles_nothing() {
    let log = Log::default();
    let (late, start) = (Lateness::watch(), Instant::now());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["demo", "--plain", "--for", "15s"]).env_remove("RUST_LOG");
    let mut demo = Process::start("tidegate demo", &mut command, &log);

    log.wait_for_line(LIMIT, 0, &["online", "temperature"]);
    let first = start.elapsed();
    assert!(first < late.widen(FIRST_VALUES), "the first values came after {first:?}");
    log.wait_for_line(LIMIT, 0, &["the link is cut"]);
    log.wait_for_line(LIMIT, 0, &["offline", "queue"]);
    log.wait_for_line(LIMIT, 0, &["the link is mended"]);
    let again = log.wait_for_line(LIMIT, 0, &["online again"]);
    let seconds: f64 =
        again.split("online again ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
    assert!(seconds <= late.widen(ONLINE_AGAIN).as_secs_f64(), "{again}");

    let status = demo.wait(Duration::from_secs(60));
    let lines = log.lines();
    let verdict = lines.last().unwrap();
    assert!(status.success(), "{verdict}");
    assert!(verdict.contains("lost 0, QoS 2 doubled 0"), "{verdict}");
    let told: u64 =
        verdict.split("told below ").nth(1).and_then(|rest| rest.split(',').next()).unwrap().parse().unwrap();
    assert!(told > 500, "15 s at about 50 messages a second: {verdict}");
    let queued = lines
        .iter()
        .filter_map(|line| line.split("queue").nth(1)?.split_whitespace().next()?.parse::<u64>().ok())
        .max();
    assert!(queued > Some(100), "the store held what the cut kept back: {queued:?}");
}

#[test]
fn it_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::default();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["demo", "--plain", "--for", "3s"]).env("TMPDIR", dir.path()).env_remove("RUST_LOG");
    let status = Process::start("tidegate demo", &mut command, &log).wait(Duration::from_secs(60));
    assert!(status.success(), "{:?}", log.lines());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_terminal_without_a_size_gets_lines_as_a_serial_console_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut console = Tty::plug(dir.path().join("console"));
    let port = || File::options().read(true).write(true).open(console.path()).unwrap();
    // Without a terminal to be controlled by: that of whoever runs the tests has a size.
    let mut command = Command::new("setsid");
    command
        .args([env!("CARGO_BIN_EXE_tidegate"), "demo", "--for", "3s"])
        .env("TMPDIR", dir.path())
        .env_remove("RUST_LOG");
    let mut demo = command.stdin(port()).stdout(port()).stderr(Stdio::null()).spawn().unwrap();
    let mut heard = String::new();
    let status = wait_for(LIMIT, "the end of the demo", || {
        heard += &console.heard();
        demo.try_wait().unwrap().ok_or_else(|| heard.clone())
    });
    heard += &console.heard();
    assert!(status.success(), "{heard}");
    assert!(heard.contains("temperature") && heard.contains("lost 0") && !heard.contains('\u{1b}'), "{heard:?}");
}

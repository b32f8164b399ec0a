//! Does a question at a terminal leave the terminal as it was, whatever is answered?

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use crate::support::process::Log;
use crate::support::{Process, Tty, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// What a person's terminal does with keys: it shows them, hands lines on, and makes signals of some.
const SANE: libc::tcflag_t = libc::ECHO | libc::ICANON | libc::ISIG | libc::IEXTEN;

fn settings(terminal: &File) -> libc::termios {
    // SAFETY: termios is plain data, and the descriptor is open.
    unsafe {
        let mut settings: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &raw mut settings), 0);
        settings
    }
}

/// Answers the question for a password with these keys. Returns how the program ended and what it said.
fn answered(keys: &[u8]) -> (Option<i32>, Log) {
    answered_by(&["user", "hash"], keys)
}

fn answered_by(arguments: &[&str], keys: &[u8]) -> (Option<i32>, Log) {
    let dir = tempfile::tempdir().unwrap();
    let mut tty = Tty::plug(dir.path().join("terminal"));
    let terminal = File::options().read(true).write(true).open(tty.path()).unwrap();
    let mut sane = settings(&terminal);
    sane.c_lflag |= SANE;
    // SAFETY: the settings are those of this terminal, but for flags.
    unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const sane) };

    let log = Log::default();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).stdin(terminal.try_clone().unwrap());
    let mut process = Process::start("tidegate", &mut command, &log);
    wait_for(LIMIT, "the terminal to hide what is typed", || {
        let flags = settings(&terminal).c_lflag & SANE;
        if flags & libc::ECHO == 0 { Ok(()) } else { Err(format!("{flags:o}")) }
    });
    tty.write(keys);
    let code = process.wait(LIMIT).code();
    let after = settings(&terminal);
    assert_eq!((after.c_lflag, after.c_cc), (sane.c_lflag, sane.c_cc), "the terminal is as it was");
    (code, log)
}

#[test]
fn a_password_that_is_typed_makes_a_hash_and_the_terminal_shows_again() {
    let (code, log) = answered(b"correct horse\n");
    assert_eq!(code, Some(0));
    log.wait_for_line(LIMIT, 0, &["$argon2id$"]);
}

#[test]
fn ctrl_c_at_the_question_ends_it_with_130_and_the_terminal_shows_again() {
    for key in [0x03, 0x1c] {
        let (code, log) = answered(&[b'c', b'o', key]);
        assert_eq!(code, Some(130));
        assert!(!log.lines().iter().any(|line| line.contains('$')), "{:?}", log.lines());
    }
}

#[test]
fn a_password_for_a_user_is_asked_for_twice_and_a_slip_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidegate.toml");
    std::fs::write(&config, "[gateway]\nid = \"box\"\n").unwrap();
    let path = config.to_str().unwrap();
    for (keys, expected) in [(&b"horse\nhorze\n"[..], 64), (b"horse\n\x03", 130)] {
        let (code, log) = answered_by(&["user", "add", "ha", "--config", path], keys);
        assert_eq!(code, Some(expected), "{:?}", log.lines());
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "[gateway]\nid = \"box\"\n");
    }
    let (code, log) = answered_by(&["user", "add", "ha", "--config", path], b"horse\nhorse\n");
    assert_eq!(code, Some(0), "{:?}", log.lines());
    assert!(std::fs::read_to_string(&config).unwrap().contains("name = \"ha\"\nhash = \"$argon2id$"));
}

//! The program under test: natively, or as that of another processor through an emulator.
//!
//! | variable | |
//! |---|---|
//! | `TIDEGATE_BINARY` | the program, instead of the one that cargo built with the tests |
//! | `TIDEGATE_RUNNER` | what runs it, and its options: `qemu-aarch64-static -L /usr/aarch64-linux-gnu` |
//! | `TIDEGATE_PRELOAD` | a library that it always has: what its emulator lacks |
//! | `TIDEGATE_CC` | the C compiler for what is preloaded into it: `aarch64-linux-gnu-gcc` |

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Where the program is.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TIDEGATE_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_tidegate").into(), PathBuf::from)
}

/// A command of it, without arguments. Under a runner the process is the runner's, with the program in it: its id and its end are the program's.
pub(crate) fn program() -> Command {
    let runner = std::env::var("TIDEGATE_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(first) = words.next() else { return Command::new(binary()) };
    let mut command = Command::new(first);
    command.args(words).arg(binary());
    if let Some(always) = always() {
        command.env("LD_PRELOAD", always);
    }
    command
}

/// The library that it always has.
pub(super) fn always() -> Option<OsString> {
    std::env::var_os("TIDEGATE_PRELOAD")
}

/// Whether the program runs in an emulator, which has memory, system calls and threads of its own.
pub(crate) fn is_emulated() -> bool {
    std::env::var_os("TIDEGATE_RUNNER").is_some()
}

/// How many times as long something may take: an emulated processor is so much slower, and so are logins, handshakes and starts.
pub(crate) fn patience() -> u32 {
    if is_emulated() { 8 } else { 1 }
}

/// The C compiler for what is preloaded into it.
pub(crate) fn compiler() -> String {
    std::env::var("TIDEGATE_CC").unwrap_or_else(|_| "cc".to_owned())
}

/// The same, and says by name that the running test is skipped.
pub(crate) fn is_emulated_and_told(why: &str) -> bool {
    if is_emulated() {
        // The harness names a test's thread after the test. Written past its capture: a skip must be seen.
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: the program is emulated: {why}");
    }
    is_emulated()
}

//! The program under test: natively, or as that of another processor through an emulator.
//!
//! | variable | |
//! |---|---|
//! | `TIDEGATE_BINARY` | the program, instead of the one that cargo built with the tests |
//! | `TIDEGATE_RUNNER` | what runs it, and its options: `qemu-aarch64-static -L /usr/aarch64-linux-gnu` |
//! | `TIDEGATE_PRELOAD` | a library that it always has under a runner: what that lacks |
//! | `TIDEGATE_CC` | the C compiler for what is preloaded into it: `aarch64-linux-gnu-gcc` |

use std::ffi::OsString;
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

/// How many times as long something may take: an emulated processor is so much slower, and so are logins, handshakes and starts.
pub(crate) fn patience() -> u32 {
    if std::env::var_os("TIDEGATE_RUNNER").is_some() { 8 } else { 1 }
}

/// The C compiler for what is preloaded into it.
pub(crate) fn compiler() -> String {
    std::env::var("TIDEGATE_CC").unwrap_or_else(|_| "cc".to_owned())
}

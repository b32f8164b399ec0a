//! What the process says of itself when it ends, after sysexits.h: systemd and scripts tell a typo from a crash by it.

use std::process::ExitCode;

/// All went well.
pub const OK: u8 = 0;
/// The command did its work, and the answer is no: the demo counted a loss, an actuator did not do as it was told, a way to a cloud ended before its
/// end, a client of the broker may not do what was asked about.
pub const FAILED: u8 = 1;
/// The command line was wrong.
pub const USAGE: u8 = 64;
/// Something that is needed is not to be had: a port is taken, a store is held by another process.
pub const UNAVAILABLE: u8 = 69;
/// A bug: a panic reached the top.
pub const BUG: u8 = 70;
/// Reading or writing failed.
pub const IO: u8 = 74;
/// The config has errors. The unit does not restart on it (`RestartPreventExitStatus=`): a typo is no reason for a loop.
pub const CONFIG: u8 = 78;
/// Ctrl-C where a person was asked for something, as shells tell it: 128 and the number of SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Each code with its meaning, for the help.
pub const TABLE: &[(u8, &str)] = &[
    (OK, "all went well"),
    (
        FAILED,
        "the answer is no: the demo counted a loss, an actuator did not do as told, a cloud is out of reach, a client may not",
    ),
    (USAGE, "the command line was wrong"),
    (UNAVAILABLE, "something needed is not to be had: a port is taken, no gateway is running"),
    (BUG, "a bug in tidegate"),
    (IO, "reading or writing failed"),
    (CONFIG, "the config has errors; nothing was started"),
    (INTERRUPTED, "Ctrl-C at a question"),
];

/// The code of a command's outcome.
pub fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}

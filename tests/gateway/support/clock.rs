//! A wall clock that a test sets while the gateway runs: `clock.c`, preloaded into the gateway, and its control.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::preload::{library, preloaded};

/// The wall clock of one gateway, which holds it for set. It holds over restarts.
pub(crate) struct WallClock {
    dir: TempDir,
    file: File,
}

impl WallClock {
    /// One that shows what the system's does.
    pub(crate) fn new() -> Self {
        library("clock.c");
        let dir = TempDir::with_prefix("tidegate-clock-").expect("make a temporary directory");
        let file = File::create(dir.path().join("ahead")).expect("make the control file");
        let clock = Self { dir, file };
        clock.set_ahead_s(0);
        clock
    }

    /// Sets it so many seconds ahead of the system's, or behind it.
    pub(crate) fn set_ahead_s(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).expect("write the control file");
    }

    /// The environment of a program that is to live by it.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", preloaded("clock.c")), ("TIDEGATE_CLOCK", self.dir.path().join("ahead"))]
    }
}

//! A name server that is silent until the test lets it answer: `name_server.c`, preloaded into the gateway.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::pace::wait_for;
use super::preload::{library, preloaded};

/// A name that it knows, once it answers: this machine.
pub(crate) const NAME: &str = "cloud.test";

/// How one gateway's names are looked up.
pub(crate) struct NameServer {
    dir: TempDir,
}

impl NameServer {
    /// One that does not answer.
    pub(crate) fn silent() -> Self {
        library("name_server.c");
        Self { dir: TempDir::with_prefix("tidegate-names-").expect("make a temporary directory") }
    }

    /// The environment of a program that is to ask it.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", preloaded("name_server.c")), ("TIDEGATE_NAME_SERVER", self.dir.path().to_owned())]
    }

    /// Waits until it was asked.
    #[track_caller]
    pub(crate) fn wait_asked(&self, limit: Duration) {
        let asked = self.dir.path().join("asked");
        wait_for(
            limit,
            "the name server to be asked",
            || if asked.exists() { Ok(()) } else { Err("not yet".to_owned()) },
        );
    }

    /// From here on every question fails, also those it was asked before, until it answers.
    pub(crate) fn fail(&self) {
        std::fs::write(self.dir.path().join("fails"), "").expect("let the name server fail");
    }

    /// From here on it answers, also what it was asked before.
    pub(crate) fn answer(&self) {
        std::fs::write(self.dir.path().join("answers"), "").expect("let the name server answer");
    }
}

//! A small file system of its own, which can be filled, made read-only and taken away. It needs the right to mount; without it the test that
//! asked says so and ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A tmpfs.
pub(crate) struct Mount {
    dir: TempDir,
}

impl Mount {
    /// A file system of this size; `None`, with the skip told, where nothing may be mounted.
    pub(crate) fn tmpfs(mib: u32) -> Option<Self> {
        let dir = TempDir::with_prefix("tidegate-mount-").expect("make a temporary directory");
        let size = format!("size={mib}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        let refusal = match output {
            Ok(output) if output.status.success() => return Some(Self { dir }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: nothing can be mounted here: {refusal}");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all the room there is.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).expect("make the ballast");
        let block = [0x5a; 4096];
        loop {
            match file.write(&block) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() != std::io::ErrorKind::StorageFull => panic!("fill the disk: {error}"),
                _ => return,
            }
        }
    }

    /// Gives it back.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.ballast()).expect("remove the ballast");
    }

    /// Makes it read-only, or writable again. Nobody may have a file open for writing.
    #[track_caller]
    pub(crate) fn read_only(&self, on: bool) {
        let option = if on { "remount,ro" } else { "remount,rw" };
        let output = Command::new("mount").args(["-o", option]).arg(self.path()).output().expect("run mount");
        assert!(output.status.success(), "{option}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a gateway of the same test may still be in it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

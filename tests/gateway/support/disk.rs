//! A disk that fails, fills, dawdles or loses its power while the gateway runs: `disk.c`, preloaded into the gateway, and its controls.
//!
//! What it does not show is in the head of `disk.c`. What needs a real file system (no space, read-only) is in `mount.rs`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::preload::{library, preloaded};

/// Words of the control page; the same in `disk.c`.
#[derive(Clone, Copy)]
enum Word {
    WriteErrno = 1,
    SyncErrno = 2,
    ReadErrno = 3,
    OpenErrno = 4,
    Pass = 5,
    SyncDelayMs = 6,
    Shadow = 7,
    FreeBytes = 8,
    Writes = 16,
    Bytes = 17,
    Syncs = 18,
    Failed = 19,
}

const PAGE: u64 = 4096;
const MATCH_AT: u64 = 256;
const MATCH_LEN: usize = 128;
/// What reaches a disk as a whole.
const BLOCK: usize = 4096;

/// Which calls on a store's files fail.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    /// write, pwrite, ftruncate
    Write,
    /// fsync, fdatasync
    Sync,
    /// read, pread
    Read,
    /// open
    Open,
}

/// What the disk did so far for files of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Calls that wrote.
    pub(crate) writes: u64,
    /// Bytes they wrote.
    pub(crate) bytes: u64,
    /// Flushes that succeeded.
    pub(crate) syncs: u64,
    /// Calls that failed because the test asked for it.
    pub(crate) failed: u64,
}

/// The controls of one gateway's disk. They hold over its restarts.
pub(crate) struct Disk {
    dir: TempDir,
    page: File,
}

impl Disk {
    /// A disk that does as a disk should, until it is told otherwise.
    ///
    /// # Panics
    /// When there is no C compiler.
    pub(crate) fn new() -> Self {
        library("disk.c");
        let dir = TempDir::with_prefix("tidegate-disk-").expect("make a temporary directory");
        std::fs::create_dir(dir.path().join("shadow")).expect("make the shadow directory");
        let path = dir.path().join("control");
        let page =
            OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("make the control page");
        page.set_len(PAGE).expect("size the control page");
        Self { dir, page }
    }

    /// The environment of a program that is to live on this disk.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("LD_PRELOAD", preloaded("disk.c")),
            ("TIDEGATE_DISK_CONTROL", self.dir.path().join("control")),
            ("TIDEGATE_DISK_SHADOW", self.shadow()),
        ]
    }

    /// Where the content of each file as of its last flush is, under its name, while [`Disk::keep_shadow`] holds.
    pub(crate) fn shadow(&self) -> PathBuf {
        self.dir.path().join("shadow")
    }

    fn set(&self, word: Word, value: u64) {
        self.page.write_all_at(&value.to_ne_bytes(), word as u64 * 8).expect("write to the control page");
    }

    fn get(&self, word: Word) -> u64 {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, word as u64 * 8).expect("read the control page");
        u64::from_ne_bytes(bytes)
    }

    /// From here on what is told concerns only files whose name holds `part` (such as `outbox-cloud.db` or `-wal`); empty: every store.
    pub(crate) fn only(&self, part: &str) {
        let mut text = [0; MATCH_LEN];
        text[..part.len()].copy_from_slice(part.as_bytes());
        self.page.write_all_at(&text, MATCH_AT).expect("write to the control page");
    }

    /// These calls fail from here on with this error number, such as `libc::EIO` or `libc::ENOSPC`.
    pub(crate) fn fail(&self, calls: &[Call], errno: i32) {
        self.fail_after(0, calls, errno);
    }

    /// The same, after `pass` of them have been let through.
    pub(crate) fn fail_after(&self, pass: u64, calls: &[Call], errno: i32) {
        self.set(Word::Pass, pass);
        for call in calls {
            let word = match call {
                Call::Write => Word::WriteErrno,
                Call::Sync => Word::SyncErrno,
                Call::Read => Word::ReadErrno,
                Call::Open => Word::OpenErrno,
            };
            self.set(word, u64::try_from(errno).expect("error numbers are positive"));
        }
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        for word in [Word::WriteErrno, Word::SyncErrno, Word::ReadErrno, Word::OpenErrno, Word::Pass] {
            self.set(word, 0);
        }
    }

    /// Each flush takes this long, as on a memory card.
    pub(crate) fn slow_sync(&self, delay: Duration) {
        self.set(Word::SyncDelayMs, u64::try_from(delay.as_millis()).expect("a short delay"));
    }

    /// statvfs(3) says so many bytes are free; `None`: as it is.
    pub(crate) fn free_bytes(&self, bytes: Option<u64>) {
        self.set(Word::FreeBytes, bytes.unwrap_or(0));
    }

    /// From the next flush of each file on its content is kept. Before the gateway is started, or what was flushed before is missing.
    pub(crate) fn keep_shadow(&self) {
        self.set(Word::Shadow, 1);
    }

    /// From here on flushes are acknowledged and nothing of them is kept, as some memory cards do: undone by [`Disk::keep_shadow`].
    pub(crate) fn lose_flushes(&self) {
        self.set(Word::Shadow, 0);
    }

    /// The power was cut: what was not flushed is gone. The gateway must be dead, by `kill -9`.
    ///
    /// Files of `state` that the shadow does not know were never flushed and go; the index (`-shm`) goes too, as it does with the page cache.
    pub(crate) fn cut_power(&self, state: &Path) {
        for entry in std::fs::read_dir(state).expect("list the state directory").flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if !text.contains(".db") || text.ends_with(".lock") {
                continue;
            }
            let kept = self.shadow().join(&name);
            if kept.exists() && !text.ends_with("-shm") {
                std::fs::copy(kept, entry.path()).expect("roll a file back");
            } else {
                std::fs::remove_file(entry.path()).expect("remove what was never flushed");
            }
        }
        for entry in std::fs::read_dir(self.shadow()).expect("list the shadow").flatten() {
            let gone = state.join(entry.file_name());
            if !gone.exists() && !entry.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(entry.path(), gone).expect("bring a removed file back: its removal was not flushed");
            }
        }
    }

    /// The power was cut, and the disk had begun with what was not flushed: of the 4 KiB blocks that differ from the last flush, `keeps` says of each whether
    /// it had got there, in whatever order. Returns how many had, and how many had not. Else as [`Disk::cut_power`].
    ///
    /// A file that had grown ends behind the last block that was kept, with zeros in the place of those before it that were not.
    pub(crate) fn tear_power(&self, state: &Path, mut keeps: impl FnMut() -> bool) -> (u64, u64) {
        let (mut kept, mut lost) = (0, 0);
        for entry in std::fs::read_dir(self.shadow()).expect("list the shadow").flatten() {
            let (flushed, now) = (entry.path(), state.join(entry.file_name()));
            // One that was removed is back, or not, as a whole.
            let (Ok(new), Ok(mut mixed)) = (std::fs::read(now), std::fs::read(&flushed)) else { continue };
            if new.len() < mixed.len() && keeps() {
                mixed.truncate(new.len());
            }
            for (at, block) in (0..).step_by(BLOCK).zip(new.chunks(BLOCK)) {
                let end = at + block.len();
                let was = mixed.get(at..end.min(mixed.len())).unwrap_or_default();
                if was == block {
                    continue;
                }
                let keep = keeps();
                *(if keep { &mut kept } else { &mut lost }) += 1;
                if keep {
                    mixed.resize(mixed.len().max(end), 0);
                    mixed[at..end].copy_from_slice(block);
                }
            }
            // That is what the disk holds from here on, until the next flush.
            std::fs::write(flushed, mixed).expect("write to the shadow");
        }
        self.cut_power(state);
        (kept, lost)
    }

    /// What it did so far.
    pub(crate) fn written(&self) -> Written {
        Written {
            writes: self.get(Word::Writes),
            bytes: self.get(Word::Bytes),
            syncs: self.get(Word::Syncs),
            failed: self.get(Word::Failed),
        }
    }
}

//! What is wrong with a store, in one word: what decides who is told what, and what the way back is (docs/bridge.md, "The store").

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::StoreError;
use crate::limits::{DISK_FLOOR_BYTES, DISK_FLOOR_SHARE};

/// What a store is fit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// It reads and writes.
    #[default]
    Ok,
    /// No room on the disk, or so little that it is left to the rest of the system.
    Full,
    /// The disk answers with I/O errors.
    Failing,
    /// The file system takes no writes.
    ReadOnly,
    /// The file cannot be reached: its directory is gone, or not allowed to us, or another process holds the file.
    Inaccessible,
    /// The file is another program's, or a later version's: it is not touched.
    Foreign,
    /// The file is damaged and could not be set aside.
    Damaged,
    /// It reads and writes, and records of a damaged file are still brought over.
    Salvaging,
}

impl Condition {
    /// Every one, in the order of the metrics.
    pub const ALL: [Condition; 8] = [
        Condition::Ok,
        Condition::Full,
        Condition::Failing,
        Condition::ReadOnly,
        Condition::Inaccessible,
        Condition::Foreign,
        Condition::Damaged,
        Condition::Salvaging,
    ];

    /// The word in the state topic, in metrics and in `tidegate status`.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Ok => "ok",
            Condition::Full => "full",
            Condition::Failing => "failing",
            Condition::ReadOnly => "read-only",
            Condition::Inaccessible => "inaccessible",
            Condition::Foreign => "foreign",
            Condition::Damaged => "damaged",
            Condition::Salvaging => "salvaging",
        }
    }
}

impl StoreError {
    /// The condition that this error shows.
    pub fn condition(&self) -> Condition {
        match self {
            _ if self.is_damage() => Condition::Damaged,
            StoreError::InUse(_) | StoreError::Removed(_) => Condition::Inaccessible,
            StoreError::Newer { .. } | StoreError::Older { .. } | StoreError::Foreign { .. } => Condition::Foreign,
            StoreError::LittleRoom { .. } => Condition::Full,
            StoreError::ReadOnly(_) => Condition::ReadOnly,
            StoreError::Damaged { .. } => Condition::Damaged,
            StoreError::File { error, .. } => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Condition::Full,
                ErrorKind::ReadOnlyFilesystem => Condition::ReadOnly,
                ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory => Condition::Inaccessible,
                _ => Condition::Failing,
            },
            StoreError::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Condition::Full,
                Some(ErrorCode::ReadOnly) => Condition::ReadOnly,
                Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::DatabaseBusy) => {
                    Condition::Inaccessible
                }
                _ => Condition::Failing,
            },
        }
    }
}

/// The file system that a store lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    /// Bytes that we may still write.
    pub(super) free: u64,
    /// Bytes of the whole.
    pub(super) size: u64,
    /// Whether it takes no writes.
    pub(super) read_only: bool,
}

impl Disk {
    /// Asks the kernel (statvfs(3)). `None` when it does not say.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the path ends in NUL and lives as long as the call, which fills the struct when it returns 0.
        let found = unsafe {
            if libc::statvfs(path.as_ptr(), found.as_mut_ptr()) != 0 {
                return None;
            }
            found.assume_init()
        };
        // The fields are 32 bits wide on some targets and 64 on others.
        #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
        let (block, free, blocks) = (u64::from(found.f_frsize), u64::from(found.f_bavail), u64::from(found.f_blocks));
        Some(Self {
            free: free.saturating_mul(block),
            size: blocks.saturating_mul(block),
            read_only: found.f_flag & libc::ST_RDONLY != 0,
        })
    }

    /// What is left to the rest of the system.
    pub(super) fn floor(self) -> u64 {
        DISK_FLOOR_BYTES.min(self.size / DISK_FLOOR_SHARE)
    }
}

/// A file by what it is, not by its name: one that was removed and made anew under the same name is another.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Whether new records may be written to this file. `was_low`: they were refused for want of room, and a little more of it is asked for, so
/// that a disk at the edge does not change its mind with every block.
///
/// # Errors
/// [`StoreError::Removed`], [`StoreError::ReadOnly`], [`StoreError::LittleRoom`].
pub(super) fn fit_for_writing(path: &Path, opened: Option<Identity>, was_low: bool) -> Result<(), StoreError> {
    if opened.is_some() && identity(path) != opened {
        return Err(StoreError::Removed(PathBuf::from(path)));
    }
    let Some(disk) = Disk::of(path) else { return Ok(()) };
    if disk.read_only {
        return Err(StoreError::ReadOnly(PathBuf::from(path)));
    }
    let floor = disk.floor();
    let asked = if was_low { floor + floor / 8 } else { floor };
    if disk.free < asked {
        return Err(StoreError::LittleRoom { free_kib: disk.free / 1024, kept_kib: floor / 1024 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> StoreError {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into()
    }

    #[test]
    fn each_error_of_sqlite_and_of_the_kernel_has_its_condition() {
        use rusqlite::ffi;

        for (code, condition) in [
            (ffi::SQLITE_FULL, Condition::Full),
            (ffi::SQLITE_IOERR_WRITE, Condition::Failing),
            (ffi::SQLITE_IOERR_FSYNC, Condition::Failing),
            (ffi::SQLITE_READONLY_DIRECTORY, Condition::ReadOnly),
            (ffi::SQLITE_CORRUPT_VTAB, Condition::Damaged),
            (ffi::SQLITE_NOTADB, Condition::Damaged),
            (ffi::SQLITE_CANTOPEN, Condition::Inaccessible),
            (ffi::SQLITE_PERM, Condition::Inaccessible),
        ] {
            assert_eq!(sqlite(code).condition(), condition, "SQLite's {code}");
        }
        for (errno, condition) in [
            (libc::ENOSPC, Condition::Full),
            (libc::EDQUOT, Condition::Full),
            (libc::EROFS, Condition::ReadOnly),
            (libc::EIO, Condition::Failing),
            (libc::ENOENT, Condition::Inaccessible),
            (libc::EACCES, Condition::Inaccessible),
        ] {
            let error = std::io::Error::from_raw_os_error(errno);
            let error = StoreError::File { what: "open", path: "x".into(), error };
            assert_eq!(error.condition(), condition, "error number {errno}");
        }
    }

    #[test]
    fn metrics_and_topics_know_the_same_words() {
        assert_eq!(Condition::ALL.map(Condition::word), crate::model::overview::STORE_STATES);
    }

    #[test]
    fn a_small_disk_keeps_a_share_and_a_large_one_a_fixed_amount() {
        let floor = |size| Disk { free: 0, size, read_only: false }.floor();
        assert_eq!(floor(16 << 20), 1 << 20);
        assert_eq!(floor(1 << 40), DISK_FLOOR_BYTES);
    }

    #[test]
    fn the_disk_of_a_directory_is_known_and_has_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::of(dir.path()).unwrap();
        assert!(disk.size > 0 && disk.free <= disk.size && !disk.read_only, "{disk:?}");
        assert_eq!(Disk::of(&dir.path().join("nowhere")), None);
    }

    #[test]
    fn a_file_that_was_removed_is_not_written_to_though_it_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        fs::write(&path, "1").unwrap();
        let opened = identity(&path);
        assert!(fit_for_writing(&path, opened, false).is_ok());
        fs::rename(&path, dir.path().join("y.db")).unwrap();
        assert!(matches!(fit_for_writing(&path, opened, false), Err(StoreError::Removed(_))));
        fs::rename(dir.path().join("y.db"), &path).unwrap();
        assert!(fit_for_writing(&path, opened, false).is_ok(), "moved back");
        fs::write(dir.path().join("z.db"), "2").unwrap();
        fs::rename(dir.path().join("z.db"), &path).unwrap();
        assert!(matches!(fit_for_writing(&path, opened, false), Err(StoreError::Removed(_))), "another file");
    }
}

//! Moves a file that cannot be read out of the way, whole, so that a person or a later version can look at it.

use std::fs;
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::limits::QUARANTINES_MAX;

/// Moves the database and its write-ahead log to `quarantine/<name>.<n>/` beside it and returns that directory.
///
/// Only the newest [`QUARANTINES_MAX`] of a file are kept. The directories are numbered, not dated: a board may not know the date.
pub(super) fn set_aside(db: &Path) -> Result<PathBuf, StoreError> {
    let home = db.parent().unwrap_or(Path::new(".")).join("quarantine");
    let name = db.file_name().unwrap_or_default().to_string_lossy().into_owned();
    fs::create_dir_all(&home).map_err(|error| file_error("create", &home, error))?;

    let mut kept = numbered(&home, &name);
    let target = home.join(format!("{name}.{}", kept.last().map_or(1, |last| last + 1)));
    fs::create_dir(&target).map_err(|error| file_error("create", &target, error))?;
    for suffix in ["", "-wal", "-shm"] {
        let from = with_suffix(db, suffix);
        let to = target.join(format!("{name}{suffix}"));
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error("move aside", &from, error)),
        }
    }
    sync_directory(&home)?;
    sync_directory(db.parent().unwrap_or(Path::new(".")))?;

    while kept.len() + 1 > QUARANTINES_MAX {
        let oldest = kept.remove(0);
        // An old quarantine that cannot be removed costs space, nothing else.
        let _ = fs::remove_dir_all(home.join(format!("{name}.{oldest}")));
    }
    Ok(target)
}

/// Numbers of the quarantines of this file, ascending.
fn numbered(home: &Path, name: &str) -> Vec<u64> {
    let prefix = format!("{name}.");
    let mut numbers: Vec<u64> = fs::read_dir(home)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// `outbox.db` with `-wal` is `outbox.db-wal`.
pub(super) fn with_suffix(db: &Path, suffix: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes renames and new names in the directory survive a power cut.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    fs::File::open(directory)
        .and_then(|handle| handle.sync_all())
        .map_err(|error| file_error("flush", directory, error))
}

pub(super) fn file_error(what: &'static str, path: &Path, error: std::io::Error) -> StoreError {
    StoreError::File { what, path: path.to_path_buf(), error }
}

//! Moves a file that cannot be read out of the way, whole, so that a person or a later version can look at it.

use std::fs;
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::limits::{QUARANTINES_MAX, QUARANTINES_UNSALVAGED_MAX};

/// Moves the database and its write-ahead log to `quarantine/<name>.<n>/` beside it and returns that directory.
///
/// `salvaged`: its records are to be brought over into the file that takes its place; a mark says so until that is done ([`unsalvaged`]).
///
/// Only the newest [`QUARANTINES_MAX`] of a file are kept, besides those that are yet to be salvaged. The directories are numbered, not dated: a board may not know the date.
pub(super) fn set_aside(db: &Path, salvaged: bool) -> Result<PathBuf, StoreError> {
    let (home, name) = home_of(db);
    fs::create_dir_all(&home).map_err(|error| file_error("create", &home, error))?;

    let newest = numbered(&home, &name).last().copied();
    let at = |number| home.join(format!("{name}.{number}"));
    // One that a move which failed has left empty is used again: the next try must not push out what is kept. Where the mark to be salvaged has gone
    // from a move that was begun, a salvage has been there, and its number went to a store.
    let is_free = |path: PathBuf| matches!(path.try_exists(), Ok(false));
    let left = newest.map(at).filter(|at| {
        let was_salvaged = salvaged && at.join(MOVING).exists() && !at.join(MARK).exists();
        !was_salvaged && is_free(at.join(&name)) && is_free(at.join(format!("{name}-wal")))
    });
    let target = left.unwrap_or_else(|| at(newest.map_or(1, |newest| newest + 1)));
    fs::create_dir_all(&target).map_err(|error| file_error("create", &target, error))?;
    // Before anything is moved: whatever dies from here on, it will be found.
    for mark in salvaged.then_some(MARK).into_iter().chain([MOVING]) {
        let mark = target.join(mark);
        fs::write(&mark, b"").map_err(|error| file_error("create", &mark, error))?;
    }
    sync_directory(&target)?;
    move_into(&target, db, &name)?;
    Ok(target)
}

/// Ends a move that was interrupted when the database had gone and its log had not: SQLite would remove the log. Returns where they are.
///
/// # Errors
/// [`StoreError::File`].
pub(super) fn finish_set_aside(db: &Path) -> Result<Option<PathBuf>, StoreError> {
    let (home, name) = home_of(db);
    let newest = numbered(&home, &name).last().map(|number| home.join(format!("{name}.{number}")));
    let Some(target) = newest else { return Ok(None) };
    for part in [target.join(MOVING), target.join(&name)] {
        // Not known is not absent: a new file in this place would cost the log that lies beside it.
        if !part.try_exists().map_err(|error| file_error("look at", &part, error))? {
            return Ok(None);
        }
    }
    move_into(&target, db, &name)?;
    Ok(Some(target))
}

/// Moves what is there of the database and its log, and notes that nothing is left to move.
fn move_into(target: &Path, db: &Path, name: &str) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        let from = with_suffix(db, suffix);
        let to = target.join(format!("{name}{suffix}"));
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error("move aside", &from, error)),
        }
    }
    let home = target.parent().unwrap_or(Path::new("."));
    for directory in [target, home, db.parent().unwrap_or(Path::new("."))] {
        sync_directory(directory)?;
    }
    let moving = target.join(MOVING);
    fs::remove_file(&moving).map_err(|error| file_error("remove", &moving, error))?;
    thin_out(home, name);
    Ok(())
}

/// Where the quarantines of a file are, and its name.
fn home_of(db: &Path) -> (PathBuf, String) {
    let home = db.parent().unwrap_or(Path::new(".")).join("quarantine");
    (home, db.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// Removes the oldest beyond what is kept. One that cannot be removed costs space, nothing else.
fn thin_out(home: &Path, name: &str) {
    let all = numbered(home, name).into_iter().map(|number| home.join(format!("{name}.{number}")));
    let (unsalvaged, done): (Vec<_>, Vec<_>) = all.partition(|at| at.join(MARK).exists() || at.join(KEPT).exists());
    for oldest in done.iter().rev().skip(QUARANTINES_MAX) {
        let _ = fs::remove_dir_all(oldest);
    }
    for oldest in unsalvaged.iter().rev().skip(QUARANTINES_UNSALVAGED_MAX) {
        tracing::error!(from = %oldest.display(), "a damaged file is removed before its records were brought over: there are too many");
        let _ = fs::remove_dir_all(oldest);
    }
}

/// The newest quarantine of this file whose records have yet to be brought over, with its number.
pub(super) fn unsalvaged(db: &Path) -> Option<(PathBuf, u64)> {
    let (home, name) = home_of(db);
    let newest = numbered(&home, &name).into_iter().rev();
    newest.map(|number| (home.join(format!("{name}.{number}")), number)).find(|(at, _)| at.join(MARK).exists())
}

/// What could be brought over from this quarantine is.
pub(super) fn mark_salvaged(directory: &Path) -> Result<(), StoreError> {
    let mark = directory.join(MARK);
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file_error("remove", &mark, error)),
        _ => sync_directory(directory)?,
    }
    let name = directory.file_stem().unwrap_or_default().to_string_lossy();
    thin_out(directory.parent().unwrap_or(Path::new(".")), &name);
    Ok(())
}

/// It holds what we could not read, and a person may: it does not go as one that is done with.
pub(super) fn keep_for_a_person(directory: &Path) -> Result<(), StoreError> {
    let kept = directory.join(KEPT);
    fs::write(&kept, b"").map_err(|error| file_error("make", &kept, error))?;
    sync_directory(directory)
}

/// An empty file in a quarantine of which something was given up.
const KEPT: &str = "given-up";
/// An empty file in a quarantine that has yet to be salvaged.
const MARK: &str = "to-salvage";
/// An empty file in a quarantine that a file is being moved to.
const MOVING: &str = "moving";

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

#[cfg(test)]
mod tests {
    use super::*;

    fn left(dir: &Path) -> Vec<u64> {
        numbered(&dir.join("quarantine"), "x.db")
    }

    #[test]
    fn what_is_yet_to_be_salvaged_does_not_go_as_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("x.db");
        for n in 1..=4 {
            fs::write(&db, b"not a database").unwrap();
            set_aside(&db, true).unwrap();
            assert_eq!(left(dir.path()).len(), n);
        }
        let mut order = Vec::new();
        while let Some((directory, number)) = unsalvaged(&db) {
            order.push(number);
            mark_salvaged(&directory).unwrap();
        }
        assert_eq!((order, left(dir.path())), (vec![4, 3, 2, 1], vec![3, 4]));
    }

    #[test]
    fn what_was_given_up_does_not_go_as_the_oldest_either() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("x.db");
        for _ in 1..=4 {
            fs::write(&db, b"not a database").unwrap();
            set_aside(&db, true).unwrap();
        }
        keep_for_a_person(&dir.path().join("quarantine/x.db.1")).unwrap();
        while let Some((directory, _)) = unsalvaged(&db) {
            mark_salvaged(&directory).unwrap();
        }
        assert_eq!(left(dir.path()), [1, 3, 4]);
    }

    #[test]
    fn moves_that_fail_leave_one_directory_and_push_out_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("x.db");
        fs::write(&db, b"not a database").unwrap();
        set_aside(&db, true).unwrap();
        // A file does not take the place of a directory.
        let second = dir.path().join("quarantine/x.db.2");
        fs::create_dir_all(second.join(MOVING)).unwrap();
        fs::write(second.join(MARK), b"").unwrap();
        fs::write(&db, b"not a database").unwrap();
        for _ in 0..20 {
            assert!(set_aside(&db, true).is_err());
        }
        assert_eq!(left(dir.path()), [1, 2]);
        mark_salvaged(&second).unwrap();
        assert!(set_aside(&db, true).unwrap().ends_with("x.db.3"), "the number of the second is in use");
    }

    #[test]
    fn a_move_that_was_interrupted_is_ended_with_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("x.db");
        fs::write(&db, b"not a database").unwrap();
        let target = set_aside(&db, true).unwrap();
        fs::write(with_suffix(&db, "-wal"), b"of another").unwrap();
        assert_eq!(finish_set_aside(&db).unwrap(), None, "the move had ended");
        fs::write(target.join(MOVING), b"").unwrap();
        assert_eq!(finish_set_aside(&db).unwrap(), Some(target.clone()));
        assert!(target.join("x.db-wal").exists() && !target.join(MOVING).exists());
    }

    #[test]
    fn of_too_many_that_are_yet_to_be_salvaged_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("x.db");
        for _ in 0..=QUARANTINES_UNSALVAGED_MAX {
            fs::write(&db, b"not a database").unwrap();
            set_aside(&db, true).unwrap();
        }
        assert_eq!(left(dir.path()), (2..=QUARANTINES_UNSALVAGED_MAX as u64 + 1).collect::<Vec<_>>());
    }
}

//! Puts a text in the place of a file at one stroke: whoever reads it, and whatever is cut off meanwhile, finds the old one or the new one, whole.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;
use std::time::Duration;

use crate::limits::{REPLACE_LOOK, REPLACE_WAIT};

/// What was done: the file is replaced, and whether that would outlive a power cut at once is known, or why it is not.
pub(super) type Replaced = Option<io::Error>;

/// Replaces the text of a file that still holds `before`. Owner, group and mode stay; of a link, what it leads to is replaced. Of two who do so at once,
/// one waits for the other, and finds the file changed then.
///
/// # Errors
/// When the file holds something else by now, may not be written by this user, or cannot be made anew as it was; it is then as it was.
pub(super) fn replace(path: &Path, before: &str, text: &str) -> io::Result<Replaced> {
    replace_within(path, before, text, REPLACE_WAIT)
}

fn replace_within(path: &Path, before: &str, text: &str, patience: Duration) -> io::Result<Replaced> {
    let path = path.canonicalize()?;
    // Whoever may not write the file does not replace it either.
    let old = OpenOptions::new().read(true).write(true).open(&path)?.metadata()?;
    if !old.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    // Opened first: after the rename nothing may be left that could fail it. Held by its lock to the end.
    let opened = File::open(directory)?;
    lock(&opened, patience)?;
    // Hidden and without the ending that an `include` looks for. Gone by itself unless it gets to its place.
    let mut fresh = tempfile::Builder::new().prefix(".tidegate-").suffix(".new").tempfile_in(directory)?;
    let file = fresh.as_file_mut();
    file.write_all(text.as_bytes())?;
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(&*file, Some(old.uid()), Some(old.gid()))
            .map_err(|error| io::Error::new(error.kind(), format!("its owner could not be kept: {error}")))?;
    }
    file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    file.sync_all()?;
    if std::fs::read(&path)? != before.as_bytes() {
        return Err(io::Error::other("somebody else has changed it meanwhile"));
    }
    fresh.persist(&path).map_err(|error| error.error)?;
    // The rename is on disk with its directory.
    Ok(opened.sync_all().err())
}

/// Takes the directory's lock (flock(2)). A file system that has none is gone on without: the text is compared all the same.
fn lock(directory: &File, patience: Duration) -> io::Result<()> {
    let mut waited = Duration::ZERO;
    while let Err(TryLockError::WouldBlock) = directory.try_lock() {
        if waited >= patience {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "somebody else is changing it at this moment"));
        }
        std::thread::sleep(REPLACE_LOOK);
        waited += REPLACE_LOOK;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_by_its_link_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("x.toml"), dir.path().join("link.toml"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("x.toml", &link).unwrap();
        replace(&link, "old", "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        let refused = replace(&file, "old", "newer").unwrap_err().to_string();
        assert_eq!(refused, "somebody else has changed it meanwhile");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside them");
    }

    #[test]
    fn two_who_change_a_file_at_once_do_so_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, "old").unwrap();
        let other = File::open(dir.path()).unwrap();
        other.lock().unwrap();
        let error = replace_within(&file, "old", "new", Duration::ZERO).unwrap_err().to_string();
        assert_eq!(error, "somebody else is changing it at this moment");
        let waiting = std::thread::spawn({
            let file = file.clone();
            move || replace(&file, "old", "new")
        });
        std::fs::write(&file, "changed by the other").unwrap();
        drop(other);
        let error = waiting.join().unwrap().unwrap_err().to_string();
        assert_eq!(error, "somebody else has changed it meanwhile");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "changed by the other");
    }

    #[test]
    fn a_directory_that_cannot_be_opened_refuses_before_anything_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, "old").unwrap();
        // Files may be made in it, and it may not be read; root may all the same.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o300)).unwrap();
        let is_root = File::open(dir.path()).is_ok();
        let outcome = replace(&file, "old", "new");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let expected = if is_root { "new" } else { "old" };
        assert_eq!((outcome.is_ok(), std::fs::read_to_string(&file).unwrap().as_str()), (is_root, expected));
    }

    #[test]
    fn the_owner_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, "old").unwrap();
        // Only root may give a file away.
        if std::os::unix::fs::chown(&file, Some(4321), Some(1234)).is_err() {
            return;
        }
        replace(&file, "old", "new").unwrap();
        let owner = file.metadata().unwrap();
        assert_eq!((owner.uid(), owner.gid()), (4321, 1234));
    }
}

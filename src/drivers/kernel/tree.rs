//! A `/sys` of a test's own.

use std::fs;
use std::path::Path;

/// Makes files with their contents, folders included.
pub(super) fn tree(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{content}\n")).unwrap();
    }
}

/// As [`tree`], with a link.
pub(super) fn link(root: &Path, from: &str, to: &str) {
    let from = root.join(from);
    fs::create_dir_all(from.parent().unwrap()).unwrap();
    fs::create_dir_all(root.join(to)).unwrap();
    std::os::unix::fs::symlink(root.join(to), from).unwrap();
}

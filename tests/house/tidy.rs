//! Is every tracked text one a newcomer can read: files of a size to be read in one go, no path of somebody's machine, nothing left open?

use std::path::PathBuf;

use crate::source::{files_below, read, root};

/// Past this, look for the second room in a file (docs/house.md).
const LINES_MAX: usize = 500;

/// Every text of the project.
fn texts() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["src", "tests", "benches", "docs", "config", "systemd", ".ci"]
        .into_iter()
        .filter(|directory| root().join(directory).is_dir())
        .flat_map(files_below)
        .collect();
    for entry in std::fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().is_some_and(|name| name != "Cargo.lock" && name != ".git") {
            found.push(path.strip_prefix(root()).unwrap().to_path_buf());
        }
    }
    found.retain(|path| std::fs::read(root().join(path)).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok()));
    found
}

fn sources() -> Vec<PathBuf> {
    texts().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

#[test]
fn no_source_file_is_longer_than_one_reads() {
    let long: Vec<String> = sources()
        .iter()
        .map(|path| (path, read(path).lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines; which second room is in it?\n{}", long.join("\n"));
}

#[test]
fn no_text_knows_the_machine_it_was_written_on() {
    // Put together here, so that this file does not name them either.
    let homes = [["/", "root", "/"].concat(), ["/", "home", "/"].concat(), ["/", "work", "/"].concat()];
    let mut found = Vec::new();
    for path in texts() {
        for (index, line) in read(&path).lines().enumerate() {
            if homes.iter().any(|home| line.contains(home.as_str())) {
                found.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "a path of somebody's machine:\n{}", found.join("\n"));
}

#[test]
fn what_is_left_to_do_names_its_condition() {
    let open =
        [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let wish = ["TO", "DO"].concat();
    let mut found = Vec::new();
    for path in sources() {
        for (index, line) in read(&path).lines().enumerate() {
            let without_condition = line.split_once(&wish).is_some_and(|(_, rest)| {
                !["when ", "once ", "until ", "as soon as "].iter().any(|word| rest.contains(word))
            });
            if without_condition || open.iter().any(|mark| line.contains(mark.as_str())) {
                found.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "not finished, and no condition says when it will be:\n{}", found.join("\n"));
}

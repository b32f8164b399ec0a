//! Which files an `include` means: a path, or a pattern with `*` and `?` in any of its parts.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Whether the text is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The files a pattern matches, sorted by path. A directory that is not there holds none.
///
/// # Errors
/// When a directory cannot be listed.
pub(super) fn expand(directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![directory.to_path_buf()];
    for component in Path::new(pattern).components() {
        let part = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !is_pattern(&part) {
            for path in &mut found {
                path.push(component);
            }
            continue;
        }
        let mut next = Vec::new();
        for path in found {
            next.extend(list(&path, &part)?);
        }
        found = next;
    }
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

fn list(directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = match std::fs::read_dir(here) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        // As in a shell: a hidden file (an editor's swap file, say) is meant only when the pattern says so.
        if matches(pattern, &name) && (pattern.starts_with('.') || !name.starts_with('.')) {
            names.push(directory.join(name.as_ref()));
        }
    }
    Ok(names)
}

/// Whether a name fits: `?` is one character, `*` any number. Takes time in proportion to the product of both lengths at most.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("a?c*", "abcd", true),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("*", "", true),
            ("?", "ü", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_pattern_lists_files_sorted_and_leaves_hidden_ones_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("conf.d/sub.toml")).unwrap();
        for name in ["20-b.toml", "10-a.toml", ".10-a.toml.swp", ".hidden.toml", "note.txt"] {
            std::fs::write(dir.path().join("conf.d").join(name), "").unwrap();
        }
        let found = expand(dir.path(), "conf.d/*.toml").unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["conf.d/10-a.toml", "conf.d/20-b.toml"]);
        assert_eq!(expand(dir.path(), "nothing.d/*.toml").unwrap(), Vec::<PathBuf>::new());
    }
}

//! Do the pages hang together: links that lead somewhere, an index that knows every page, tests that are there where a page says so?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source::{files_below, read, root, tokens};

fn pages() -> Vec<PathBuf> {
    let mut pages = files_below("docs");
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.extend(["README.md", "CHANGELOG.md"].map(PathBuf::from));
    pages
}

/// The targets of `[text](target)` that lead to a file, without the part behind `#`, with the line each stands in.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for piece in line.split("](").skip(1) {
            let target = piece.split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                found.push((index + 1, file.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_link_leads_to_a_file() {
    let mut dead = Vec::new();
    for page in pages() {
        let directory = page.parent().unwrap_or(Path::new(""));
        for (line, target) in links(&read(&page)) {
            if !root().join(directory).join(&target).exists() {
                dead.push(format!("{}:{line}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links to nowhere:\n{}", dead.join("\n"));
}

#[test]
fn the_index_knows_every_page() {
    let indexed = |index: &str| -> BTreeSet<PathBuf> {
        let directory = Path::new(index).parent().unwrap();
        links(&read(index)).into_iter().map(|(_, target)| directory.join(target)).collect()
    };
    let known: BTreeSet<PathBuf> =
        indexed("docs/README.md").union(&indexed("docs/decisions/README.md")).cloned().collect();
    let unknown: Vec<PathBuf> = pages()
        .into_iter()
        .filter(|page| page.starts_with("docs") && !page.ends_with("docs/README.md") && !known.contains(page))
        .collect();
    assert!(unknown.is_empty(), "pages that no index leads to: {unknown:?}");
}

/// Names such as `crash::killed_in_the_drain` between backticks.
fn tests_named(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in line.split('`').skip(1).step_by(2) {
            let is_name = |part: &str| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            };
            if word.contains("::") && word.split("::").all(is_name) {
                found.push((index + 1, word.to_owned()));
            }
        }
    }
    found
}

/// The modules that a file's path stands for, from the top of its crate: `src/store/outbox.rs` is `store::outbox`, `tests/gateway/crash.rs` is
/// `crash`.
fn modules_of(file: &Path) -> Vec<String> {
    let below = if file.starts_with("tests") { 2 } else { 1 };
    let mut modules: Vec<String> =
        file.with_extension("").iter().skip(below).map(|part| part.to_string_lossy().into_owned()).collect();
    if modules.last().is_some_and(|last| ["mod", "main", "lib"].contains(&last.as_str())) {
        modules.pop();
    }
    modules
}

/// The functions of a file under the names that `cargo test` knows them by, each of them below the modules given.
fn functions_of(text: &str, modules: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut path = modules.to_vec();
    // The depths at which modules inside the file were opened.
    let mut opened = Vec::new();
    let mut depth = 0_usize;
    let tokens = tokens(text);
    for (at, token) in tokens.iter().enumerate() {
        let next = |by: usize| tokens.get(at + by).map_or("", |token| token.text.as_str());
        match token.text.as_str() {
            "mod" if next(2) == "{" => {
                path.push(next(1).to_owned());
                opened.push(depth);
            }
            "fn" => {
                found.insert([&path[..], &[next(1).to_owned()]].concat().join("::"));
            }
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if opened.last() == Some(&depth) {
                    opened.pop();
                    path.pop();
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn a_function_is_known_by_its_modules() {
    let modules = modules_of(Path::new("src/store/outbox/mod.rs"));
    assert_eq!(modules, ["store", "outbox"]);
    let text = "mod other;\nfn a() { if b {} }\nmod tests { fn c() {} mod inner { fn d() {} } }\nfn e() {}";
    let expected = ["a", "e", "tests::c", "tests::inner::d"].map(|name| format!("store::outbox::{name}"));
    assert_eq!(functions_of(text, &modules), BTreeSet::from(expected));
    assert_eq!(modules_of(Path::new("tests/gateway/crash.rs")), ["crash"]);
    assert_eq!(modules_of(Path::new("tests/house/main.rs")), Vec::<String>::new());
}

#[test]
fn every_test_that_vouches_for_a_promise_is_found_by_the_name_it_is_cited_by() {
    let mut functions = BTreeSet::new();
    for file in files_below("src").into_iter().chain(files_below("tests")) {
        if file.extension().is_some_and(|extension| extension == "rs") {
            functions.extend(functions_of(&read(&file), &modules_of(&file)));
        }
    }
    let named = tests_named(&read("README.md"));
    assert!(!named.is_empty(), "README.md names no test");
    let missing: Vec<String> = named
        .into_iter()
        // `cargo test NAME` runs what has the name in its own; cited are whole names, or their ends.
        .filter(|(_, name)| !functions.iter().any(|function| format!("::{function}").ends_with(&format!("::{name}"))))
        .map(|(line, name)| format!("README.md:{line}: {name}"))
        .collect();
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

#[test]
fn every_path_that_a_page_names_is_there() {
    const TOPS: [&str; 7] = ["src/", "tests/", "docs/", "config/", "systemd/", "benches/", ".ci/"];
    let mut missing = Vec::new();
    for page in pages() {
        for (index, line) in read(&page).lines().enumerate() {
            for word in line.split('`').skip(1).step_by(2) {
                let path = word.split(' ').next().unwrap_or_default();
                let named = TOPS.iter().any(|top| path.starts_with(top)) && !path.contains(['<', '*']);
                if named && !root().join(path).exists() {
                    missing.push(format!("{}:{}: {path}", page.display(), index + 1));
                }
            }
        }
    }
    assert!(missing.is_empty(), "paths that are not there:\n{}", missing.join("\n"));
}

/// The names of pages in a line: `docs/topics.md`, `topics.md`.
fn pages_cited(line: &str) -> Vec<&str> {
    line.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.strip_suffix(".md").is_some_and(|stem| !stem.is_empty()))
        .collect()
}

#[test]
fn a_comment_cites_only_pages_that_are_there() {
    let mut wrong = Vec::new();
    for file in
        ["src", "tests", "benches", "config"].into_iter().filter(|d| root().join(d).is_dir()).flat_map(files_below)
    {
        // The cases hold what users may write, garbage among it.
        if file.starts_with("tests/house")
            || file.starts_with("tests/cases")
            || !file.extension().is_some_and(|e| e == "rs" || e == "toml" || e == "sql")
        {
            continue;
        }
        for (index, line) in read(&file).lines().enumerate() {
            for page in pages_cited(line) {
                let exists =
                    ["", "docs", "docs/drivers"].iter().any(|directory| root().join(directory).join(page).exists());
                // Our pages have headings, no numbers.
                if !exists || line.contains(".md §") {
                    wrong.push(format!("{}:{}: {}", file.display(), index + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "pages that are not there, or places in them that are not:\n{}", wrong.join("\n"));
}

//! Does every room know only the rooms, and hold only the foreign crates, that docs/house.md grants it?
//!
//! The tables are read from the page itself, so that page and code cannot drift apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::{files_below, paths, read, tokens};

const PAGE: &str = "docs/house.md";

/// A row of a table of the page: its cells without the backticks, and the line it stands in.
struct Row {
    line: usize,
    cells: Vec<String>,
}

/// The rows of the first table below a heading, without its head.
fn table(heading: &str) -> Vec<Row> {
    let page = read(PAGE);
    let rows: Vec<Row> = page
        .lines()
        .enumerate()
        .skip_while(|(_, line)| *line != heading)
        .skip_while(|(_, line)| !line.starts_with('|'))
        .take_while(|(_, line)| line.starts_with('|'))
        .skip(2)
        .map(|(index, line)| Row {
            line: index + 1,
            cells: line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect(),
        })
        .collect();
    assert!(!rows.is_empty(), "{PAGE}: no table below `{heading}`");
    rows
}

fn words(cell: &str) -> Vec<String> {
    cell.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What one room may use.
struct Grant {
    line: usize,
    /// Room, and which of its parts; `None`: all.
    rooms: BTreeMap<String, Option<Vec<String>>>,
}

const ROOMS: &str = "## Who may know whom";
const CRATES: &str = "## Which room holds which crate";
/// Open to every room that the table does not say `nothing` of.
const OPEN: [&str; 2] = ["model", "limits"];

fn grants() -> BTreeMap<String, Grant> {
    let mut grants = BTreeMap::new();
    for row in table(ROOMS) {
        let mut grant = Grant { line: row.line, rooms: BTreeMap::new() };
        if row.cells[1] != "nothing" {
            grant.rooms.extend(OPEN.map(|room| (room.to_owned(), None)));
            if row.cells[1] != "—" {
                for word in words(&row.cells[1]) {
                    let (room, parts) = match word.split_once(" (") {
                        Some((room, parts)) => (room.to_owned(), Some(parts.trim_end_matches(')'))),
                        None => (word, None),
                    };
                    let parts = parts.map(|parts| parts.split(" and ").map(str::to_owned).collect());
                    grant.rooms.insert(room, parts);
                }
            }
        }
        for room in words(&row.cells[0]) {
            let twice = grants.insert(room.clone(), Grant { line: grant.line, rooms: grant.rooms.clone() });
            assert!(twice.is_none(), "{PAGE}:{}: a second row for `{room}`", row.line);
        }
    }
    grants
}

/// The room a source file belongs to: the directory below src, or the file's own name. `None` for the map and the door (lib.rs, main.rs).
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    let room = first.trim_end_matches(".rs");
    (!matches!(room, "lib" | "main")).then(|| room.to_owned())
}

/// The product's own files: not those of modules that only tests have (`#[cfg(test)] mod probes;`).
fn product_files() -> Vec<PathBuf> {
    let mut files = files_below("src");
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut of_tests = BTreeSet::new();
    for file in &files {
        let directory = match file.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib" | "main") => file.parent().unwrap().to_path_buf(),
            _ => file.with_extension(""),
        };
        let tokens = tokens(&read(file));
        let words: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
        for at in 0..words.len().saturating_sub(marker.len()) {
            let visibility = ["pub", "(", "in", "super", "crate", "self", "::", ")"];
            let behind = words[at + marker.len()..].iter().copied().skip_while(|word| visibility.contains(word));
            let behind: Vec<&str> = behind.take(3).collect();
            if let (true, ["mod", name, ";"]) = (words[at..].starts_with(&marker), behind.as_slice()) {
                of_tests.insert(directory.join(name));
            }
        }
    }
    files.retain(|file| !of_tests.iter().any(|module| file.with_extension("") == *module || file.starts_with(module)));
    files
}

/// Every room that a path in this file reaches, with what is asked of it: (line, room, the name behind it).
fn reaches(text: &str, rooms: &BTreeSet<String>) -> Vec<(usize, String, Option<String>)> {
    let named = paths(text);
    // After `use crate::bridge;`, `bridge::Settings` reaches into the room as well.
    let imported: BTreeSet<&String> = named
        .iter()
        .filter(|n| n.path.len() == 2 && n.path[0] == "crate" && rooms.contains(&n.path[1]))
        .map(|n| &n.path[1])
        .collect();
    let mut found = Vec::new();
    for n in &named {
        let inside = match n.path[0].as_str() {
            "crate" => &n.path[1..],
            first if imported.iter().any(|room| *room == first) => &n.path[..],
            _ => continue,
        };
        if inside.first().is_some_and(|room| rooms.contains(room)) {
            found.push((n.line, inside[0].clone(), inside.get(1).cloned()));
        }
    }
    found
}

/// The public names of a room's settings.
fn settings_of(room: &str) -> BTreeSet<String> {
    let files = [format!("src/{room}/settings.rs"), format!("src/{room}/pipeline/settings.rs")];
    let mut names: BTreeSet<String> = ["settings".to_owned()].into();
    for file in files.iter().filter(|f| crate::source::root().join(f).exists()) {
        let tokens = tokens(&read(file));
        for three in tokens.windows(3) {
            if three[0].text == "pub" && matches!(three[1].text.as_str(), "struct" | "enum" | "type" | "const" | "fn") {
                names.insert(three[2].text.clone());
            }
        }
    }
    names
}

#[test]
fn every_room_has_its_row() {
    let rooms: BTreeSet<String> = product_files().iter().filter_map(|f| room_of(f)).collect();
    let rows: BTreeSet<String> = grants().into_keys().collect();
    let without_row: Vec<_> = rooms.difference(&rows).collect();
    let without_room: Vec<_> = rows.difference(&rooms).collect();
    assert!(without_row.is_empty(), "rooms without a row in {PAGE}: {without_row:?}");
    assert!(without_room.is_empty(), "rows of {PAGE} without a room: {without_room:?}");
}

#[test]
fn a_room_knows_only_whom_its_row_names() {
    let grants = grants();
    let rooms: BTreeSet<String> = grants.keys().cloned().collect();
    let mut wrong = Vec::new();
    for file in product_files() {
        let Some(room) = room_of(&file) else { continue };
        let Some(grant) = grants.get(&room) else { continue };
        for (line, reached, name) in reaches(&read(&file), &rooms) {
            let fine = match (reached == room, grant.rooms.get(&reached)) {
                (true, _) | (_, Some(None)) => true,
                (_, None) => false,
                // The room's name alone is judged where something is asked of it.
                (_, Some(Some(parts))) => name.as_ref().is_none_or(|name| {
                    parts.contains(name)
                        || parts.iter().any(|p| p == "settings") && settings_of(&reached).contains(name)
                }),
            };
            if !fine {
                let asked = name.map(|name| format!("::{name}")).unwrap_or_default();
                wrong.push(format!(
                    "{}:{line}: `{reached}{asked}`, which the row of `{room}` does not grant ({PAGE}:{})",
                    file.display(),
                    grant.line
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} times a room knows whom it may not know:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_row_grants_what_nobody_uses() {
    let grants = grants();
    let rooms: BTreeSet<String> = grants.keys().cloned().collect();
    let mut unused: BTreeSet<(usize, String)> = grants
        .values()
        .flat_map(|grant| {
            grant.rooms.keys().filter(|room| !OPEN.contains(&room.as_str())).map(|room| (grant.line, room.clone()))
        })
        .collect();
    for file in product_files() {
        let Some(grant) = room_of(&file).and_then(|room| grants.get(&room)) else { continue };
        for (_, reached, _) in reaches(&read(&file), &rooms) {
            unused.remove(&(grant.line, reached));
        }
    }
    assert!(unused.is_empty(), "rows of {PAGE} that grant what nobody uses: {unused:?}");
}

#[test]
fn nothing_climbs_out_of_its_room_by_super() {
    let mut wrong = Vec::new();
    for file in product_files() {
        // src/room.rs and src/room/mod.rs are one level below the crate, src/room/part.rs two.
        let levels = file.components().count() - 1 - usize::from(file.file_name().is_some_and(|name| name == "mod.rs"));
        for named in paths(&read(&file)) {
            let climbs = named.path.iter().take_while(|segment| *segment == "super").count();
            if climbs >= levels && climbs > 0 {
                wrong.push(format!("{}:{}: {}: write `crate::…`", file.display(), named.line, named.path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "a path leaves its room where the table cannot see it:\n{}", wrong.join("\n"));
}

/// The dependencies of the product, as they are written in source (`mqtt_protocol_core`).
fn dependencies() -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_")).collect()
}

#[test]
fn a_foreign_crate_enters_through_the_rooms_that_hold_it() {
    let dependencies = dependencies();
    let mut holders: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for row in table(CRATES) {
        for name in words(&row.cells[0]) {
            let twice = holders.insert(name.replace('-', "_"), (row.line, words(&row.cells[1])));
            assert!(twice.is_none(), "{PAGE}:{}: a second row for `{name}`", row.line);
        }
    }
    let named: BTreeSet<String> = holders.keys().cloned().collect();
    assert_eq!(named, dependencies, "the crates of {PAGE} (left) are those of Cargo.toml (right)");

    let mut wrong = Vec::new();
    let mut unused: BTreeSet<(String, String)> = holders
        .iter()
        .flat_map(|(name, (_, rooms))| rooms.iter().map(|room| (name.clone(), room.clone())))
        .filter(|(_, room)| room != "everywhere")
        .collect();
    for file in product_files() {
        let inside = file.strip_prefix("src").unwrap().with_extension("");
        for named in paths(&read(&file)) {
            let Some((row, rooms)) = holders.get(&named.path[0]) else { continue };
            unused.retain(|(name, room)| *name != named.path[0] || !inside.starts_with(room));
            if !rooms.iter().any(|room| room == "everywhere" || inside.starts_with(room)) {
                wrong.push(format!(
                    "{}:{}: `{}`, which {PAGE}:{row} grants to {}",
                    file.display(),
                    named.line,
                    named.path.join("::"),
                    rooms.join(", ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} times a crate is used outside its rooms:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unused.is_empty(), "{PAGE} names rooms that do not use the crate: {unused:?}");
}

/// tokio's own instants are for its timers, which sleep until one; they are no time that is told to anybody.
#[test]
fn only_clock_rs_reads_a_clock() {
    const READINGS: [&[&str]; 4] =
        [&["SystemTime", "now"], &["Timestamp", "now"], &["Zoned", "now"], &["libc", "clock_gettime"]];
    let mut wrong = Vec::new();
    for file in product_files().into_iter().filter(|file| file != Path::new("src/clock.rs")) {
        let named = paths(&read(&file));
        let of_tokio = named.iter().any(|n| n.path.join("::") == "tokio::time::Instant");
        for n in named {
            let path: Vec<&str> = n.path.iter().map(String::as_str).collect();
            let instant = path.ends_with(&["Instant", "now"]) && !of_tokio && !path.starts_with(&["tokio"]);
            if instant || READINGS.iter().any(|reading| path.ends_with(reading)) {
                wrong.push(format!("{}:{}: {}", file.display(), n.line, path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "take a `Moment` or a `Timestamp` from `clock::Clock`:\n{}", wrong.join("\n"));
}

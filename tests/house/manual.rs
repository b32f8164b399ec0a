//! What the package brings of the command line beside the program: manual pages and completions, made of its definition.

use std::collections::BTreeMap;
use std::path::Path;

use clap::CommandFactory as _;
use tidegate::cli::Cli;

use crate::examples::assert_generated;
use crate::source::root;

const PAGES: &str = "docs/man";
const COMPLETIONS: &str = "docs/completions";

/// What the program's page says beyond its commands.
const BEYOND: &str = r".SH FILES
.TP
\fI/etc/tidegate/tidegate.toml\fR
The config. \fBtidegate config schema\fR and \fI/usr/share/doc/tidegate/book/config.md\fR tell each key
.TP
\fI/etc/tidegate/secrets\fR
Passwords and keys that the config names by file, for root alone
.TP
\fI/var/lib/tidegate\fR
What waits for a cloud, sessions and retained messages, the totals of counters
.TP
\fI/usr/share/doc/tidegate\fR
Examples, a config with every key, and the book
.SH SEE ALSO
\fBsystemctl\fR(1), \fBjournalctl\fR(1): the service is \fBtidegate.service\fR
";

/// Files by name, with their text.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

/// Holds a folder to what was made in another; `BLESS=1` writes it anew.
fn assert_same(made: &Path, folder: &str) {
    let made = files(made);
    std::fs::create_dir_all(root().join(folder)).unwrap();
    for name in files(&root().join(folder)).keys().filter(|name| !made.contains_key(*name)) {
        if std::env::var_os("BLESS").is_some() {
            std::fs::remove_file(root().join(folder).join(name)).unwrap();
        }
        assert!(!root().join(folder).join(name).exists(), "{folder}/{name} is of no command");
    }
    for (name, text) in made {
        assert_generated(&format!("{folder}/{name}"), &text);
    }
}

#[test]
fn each_command_has_its_manual_page() {
    let made = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command(), made.path()).unwrap();
    for (name, page) in files(made.path()) {
        let command = name.strip_suffix(".1").unwrap();
        let (before, title) = page.split_once(".TH ").unwrap();
        let (_, text) = title.split_once('\n').unwrap();
        // Theirs has the version where the date belongs; and a date would change with each build.
        let mut page = format!("{before}.TH {command} 1 \"\" \"tidegate {}\"\n{text}", env!("CARGO_PKG_VERSION"));
        if command == "tidegate" {
            let (commands, codes) = page.split_once(".SH EXTRA\nExit codes:").unwrap();
            page = format!("{commands}.SH EXIT STATUS{codes}{BEYOND}");
        }
        std::fs::write(made.path().join(name), page).unwrap();
    }
    assert_same(made.path(), PAGES);
}

#[test]
fn shells_complete_each_command() {
    use clap_complete::Shell;
    let made = tempfile::tempdir().unwrap();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "tidegate", made.path()).unwrap();
    }
    assert_same(made.path(), COMPLETIONS);
}

//! What a bench found: each figure beside its bar, on the terminal, and, where `TIDEGATE_PROOF` names a file, as a section of docs/proof.md.
//!
//! A bench by itself fails nothing: a shared machine proves little in absolute figures. As a part of the proof it ends with 1 when a bar was
//! missed, so that the page cannot say what was not so.

use std::fmt::Write as _;
use std::process::ExitCode;

/// The figures of one bench.
pub(crate) struct Figures {
    title: &'static str,
    how: &'static str,
    rows: Vec<(String, String, String, Option<bool>)>,
}

impl Figures {
    /// None yet. `how` says how they are measured, in a paragraph.
    pub(crate) fn new(title: &'static str, how: &'static str) -> Self {
        println!("{title}");
        Self { title, how, rows: Vec::new() }
    }

    /// A figure without a bar.
    pub(crate) fn tell(&mut self, what: &str, value: &str) {
        self.row(what, value, "", None);
    }

    /// A figure and whether it keeps its bar.
    pub(crate) fn hold(&mut self, what: &str, value: &str, bar: &str, kept: bool) {
        self.row(what, value, bar, Some(kept));
    }

    fn row(&mut self, what: &str, value: &str, bar: &str, kept: Option<bool>) {
        let verdict = if kept == Some(false) { "MISSED" } else { "" };
        println!("{what:<66} {value:>16}   {bar} {verdict}");
        self.rows.push((what.to_owned(), value.to_owned(), bar.to_owned(), kept));
    }

    /// Writes the section, where one is asked for, and says how it went.
    pub(crate) fn end(self) -> ExitCode {
        let Some(file) = std::env::var_os("TIDEGATE_PROOF") else { return ExitCode::SUCCESS };
        let mut text = format!("## {}\n\n{}\n\n| what | measured | bar | |\n|---|---|---|---|\n", self.title, self.how);
        for (what, value, bar, kept) in &self.rows {
            let verdict = match kept {
                None => "",
                Some(true) => "kept",
                Some(false) => "**missed**",
            };
            let _ = writeln!(text, "| {what} | {value} | {bar} | {verdict} |");
        }
        std::fs::write(file, text).expect("write the section");
        let missed = self.rows.iter().any(|(.., kept)| *kept == Some(false));
        if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

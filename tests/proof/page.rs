//! A section of docs/proof.md: what was done in a few sentences, and each claim with its bar, what was measured and the verdict.

use std::fmt::Display;
use std::time::Instant;

struct Row {
    run: String,
    claim: String,
    bar: String,
    measured: String,
    holds: bool,
}

/// The section of one campaign, as it grows.
pub(crate) struct Page {
    title: &'static str,
    seed: u64,
    began: Instant,
    paragraphs: Vec<String>,
    rows: Vec<Row>,
    summary: Vec<[String; 3]>,
    broken: Option<String>,
}

impl Page {
    pub(crate) fn new(title: &'static str, seed: u64) -> Self {
        Self {
            title,
            seed,
            began: Instant::now(),
            paragraphs: Vec::new(),
            rows: Vec::new(),
            summary: Vec::new(),
            broken: None,
        }
    }

    /// A paragraph above the table.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.paragraphs.push(text.into());
    }

    /// A claim that can be missed, of one run of the campaign.
    #[allow(clippy::needless_pass_by_value)] // what was measured is a number or a text just made
    pub(crate) fn claim(&mut self, run: &str, claim: &str, bar: &str, measured: impl Display, holds: bool) {
        let measured = measured.to_string();
        println!("  {} {run}: {claim}: {measured} (bar: {bar})", if holds { "ok    " } else { "MISSED" });
        let [run, claim, bar] = [run, claim, bar].map(str::to_owned);
        self.rows.push(Row { run, claim, bar, measured, holds });
    }

    /// A number that has to be zero.
    pub(crate) fn zero(&mut self, run: &str, claim: &str, measured: u64) {
        self.claim(run, claim, "0", thousands(measured), measured == 0);
    }

    /// A number that has to be reached, or the campaign did not do what it says.
    pub(crate) fn at_least(&mut self, run: &str, claim: &str, bar: u64, measured: u64) {
        self.claim(run, claim, &format!(">= {}", thousands(bar)), thousands(measured), measured >= bar);
    }

    /// A line of the table at the top of the page. Its verdict is that of the whole section.
    #[allow(clippy::needless_pass_by_value)] // as above
    pub(crate) fn summary(&mut self, claim: &str, bar: &str, measured: impl Display) {
        self.summary.push([claim.to_owned(), bar.to_owned(), measured.to_string()]);
    }

    /// The campaign ended before its end.
    pub(crate) fn broke_off(&mut self, why: &str) {
        println!("  MISSED it broke off: {why}");
        self.broken = Some(why.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    /// Whether every bar was held. A campaign without a claim shows nothing.
    pub(crate) fn holds(&self) -> bool {
        self.broken.is_none() && !self.rows.is_empty() && self.rows.iter().all(|row| row.holds)
    }

    pub(crate) fn outcome(&self) -> String {
        let held = self.rows.iter().filter(|row| row.holds).count();
        let end = if self.broken.is_some() { ", broken off" } else { "" };
        format!("{held} of {} bars held{end}, {} s", self.rows.len(), self.began.elapsed().as_secs())
    }

    /// The section as Markdown. tests/proof/run lifts the lines in its comments to the top of the page.
    pub(crate) fn text(&self) -> String {
        let verdict = |row: &Row| match (row.holds, row.bar.as_str()) {
            (false, _) => "**missed**",
            (true, "") => "",
            (true, _) => "holds",
        };
        let whole = if self.holds() { "holds" } else { "**missed**" };
        let mut text = format!("## {}\n", self.title);
        for [claim, bar, measured] in &self.summary {
            text += &format!("<!-- summary: | {claim} | {bar} | {measured} | {whole} | -->\n");
        }
        for paragraph in &self.paragraphs {
            text += &format!("\n{paragraph}\n");
        }
        text += "\n| run | claim | bar | measured | verdict |\n|---|---|---|---|---|\n";
        for row in &self.rows {
            let Row { run, claim, bar, measured, .. } = row;
            text += &format!("| {run} | {claim} | {bar} | {measured} | {} |\n", verdict(row));
        }
        if let Some(why) = &self.broken {
            text += &format!("| | went through to its end | | broke off: {} | **missed** |\n", why.replace('|', "/"));
        }
        let commit = std::env::var("TIDEGATE_PROOF_COMMIT")
            .map_or_else(|_| String::new(), |commit| format!(", commit {commit}"));
        text + &format!("\nSeed {}, {} s{commit}.\n", self.seed, self.began.elapsed().as_secs())
    }
}

/// 1234567 as 1,234,567.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

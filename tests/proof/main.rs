//! The proof: campaigns that hit the real binary thousands of times and count what was lost, doubled or out of order.
//!
//! `tests/proof/run` builds and runs all of them and writes docs/proof.md. Each campaign writes its section of that page and fails when it
//! misses a bar. Where a blow falls is decided by a seed, which is printed and can be given.

// They stand outside the gateway: they measure real time, print their progress, and end at the first thing that makes no sense.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss)]
#![allow(clippy::format_push_string, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[path = "../gateway/support/mod.rs"]
mod support;

mod corrupt;
mod feed;
mod forget;
mod hole;
mod judge;
mod kills;
mod mosquitto;
mod page;
mod power;
mod sessions;
mod slow_disk;
mod strike;
mod tap;
mod web;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use page::Page;

/// What a campaign is told.
#[derive(Clone, Debug)]
struct Orders {
    /// Decides where blows fall.
    seed: u64,
    /// A short run, which shows that the campaign works and no more.
    quick: bool,
    /// How many times the process is killed, where it is not the campaign's own number.
    kills: Option<u64>,
}

impl Orders {
    /// A number of the long run, or the short run's.
    fn number(&self, long: u64, quick: u64) -> u64 {
        if self.quick { quick } else { long }
    }

    fn kills(&self, long: u64, quick: u64) -> u64 {
        self.kills.unwrap_or(self.number(long, quick))
    }
}

/// A campaign: the name of its section's file, its title, and what does it.
struct Campaign {
    name: &'static str,
    title: &'static str,
    run: fn(&Orders, &mut Page),
}

/// In the order of the page.
const CAMPAIGNS: &[Campaign] = &[
    Campaign { name: "01-kills", title: "Killed, and cut off between packets", run: kills::run },
    Campaign { name: "02-power", title: "The power goes", run: power::run },
    Campaign { name: "03-mosquitto", title: "Into a real Mosquitto", run: mosquitto::run },
    Campaign { name: "04-forget", title: "A cloud that forgets its sessions", run: forget::run },
    Campaign { name: "06b-slow-disk", title: "A disk whose flush takes 10 ms", run: slow_disk::run },
    Campaign { name: "09-corrupt", title: "Stores that were damaged", run: corrupt::run },
    Campaign { name: "10-hole", title: "A link that swallows everything, and a clock that jumps", run: hole::run },
    Campaign { name: "13-sessions", title: "Local subscribers that come and go", run: sessions::run },
];

const USAGE: &str =
    "usage: proof --list | proof NAME [--seed N] [--kills N] [--quick]; TIDEGATE_PROOF_DIR is where sections go";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--list") => {
            for campaign in CAMPAIGNS {
                println!("{}", campaign.name);
            }
            ExitCode::SUCCESS
        }
        Some(name) => match (CAMPAIGNS.iter().find(|campaign| campaign.name == name), orders(&arguments[1..])) {
            (Some(campaign), Some(orders)) => carry_out(campaign, &orders),
            _ => usage(),
        },
        None => usage(),
    }
}

fn usage() -> ExitCode {
    println!("{USAGE}");
    ExitCode::from(64)
}

fn orders(arguments: &[String]) -> Option<Orders> {
    let mut orders = Orders { seed: 1, quick: false, kills: None };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--quick" => orders.quick = true,
            "--seed" => orders.seed = rest.next()?.parse().ok()?,
            "--kills" => orders.kills = Some(rest.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(orders)
}

fn carry_out(campaign: &Campaign, orders: &Orders) -> ExitCode {
    println!("{}: seed {}{}", campaign.name, orders.seed, if orders.quick { ", quick" } else { "" });
    let mut page = Page::new(campaign.title, orders.seed);
    let whole = std::panic::catch_unwind(AssertUnwindSafe(|| (campaign.run)(orders, &mut page)));
    if let Err(panic) = whole {
        let why = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        page.broke_off(why.unwrap_or("a panic without words"));
    }
    let folder = std::env::var_os("TIDEGATE_PROOF_DIR").map_or_else(default_folder, PathBuf::from);
    let path = folder.join(format!("{}.md", campaign.name));
    std::fs::create_dir_all(&folder).expect("make the folder of sections");
    std::fs::write(&path, page.text()).expect("write the section");
    println!("{}: {}", campaign.name, page.outcome());
    if page.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Beside what cargo builds.
fn default_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder in target").join("proof")
}

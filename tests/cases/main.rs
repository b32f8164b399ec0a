//! Transcripts: what a device said, and what must be published of it. A bug report becomes a folder here.
//!
//! `tests/cases/<driver>/<case>/` holds `gateway.toml`, and either `bus.txt` (what came over the wire, and when) with `expected.jsonl` (each
//! message, in order, and what became of each sensor's frames), or `error.txt` (what `check` says of the config). `BLESS=1 cargo test --test cases` writes what is expected anew; read
//! the difference before it is committed.
//!
//! A line of `bus.txt` is the time since the line before, and what happens then:
//! ```text
//! # a comment
//! +1s    < {"t":21.5}\r\n      bytes come; \n \r \t \\ and \x00 to \xff are understood
//! +1s    ? 1.5\n               bytes come, of which the first may stand in the middle of a line
//! +250ms away                  the port goes away
//! +2s    back                  it is open again
//! +0s    opened inactive       a GPIO line is held, and is inactive or active; `away` as above
//! +5ms   edge active           an edge; `edge inactive`
//! +1ms   lost 3                so many edges happened that the kernel does not tell
//! +0s    total 1000            an earlier process had counted so many; without it, none
//! +0s    unsynced              the wall clock is not to be trusted; `synced`: it is
//! +1m                          time passes
//! +30s   read air              the sensor `air` is asked; the lines below it, each behind a space, are what must be
//!   w 76 d0                    said on the bus, and what is answered (see `bus::i2c::Replay`)
//!   r 76 60
//!   w 76 f4 nack               nobody acknowledges
//! +0s    file bus/w1/devices/28-000000000001/temperature 21562
//!                              the kernel shows a file below /sys; without content, it is gone
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test that cannot go on ends here, with its place

mod page;
mod transcript;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tidegate::config;
use tidegate::plan::{self, Environment, Plan, Secrets};

fn folders(below: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn read_plan(case: &Path) -> Result<Plan, String> {
    let text = fs::read_to_string(case.join("gateway.toml")).unwrap();
    let environment = Environment {
        secrets: Secrets::Ignored,
        host_name: "box".into(),
        variable: Box::new(|_| None),
        ..Environment::of_process()
    };
    let loaded = config::load_text(Path::new("gateway.toml"), &text);
    plan::plan(loaded, &environment).map(|(plan, _)| plan).map_err(|report| report.render(false))
}

/// What comes of a case, and the file it is compared with.
fn outcome(case: &Path) -> (PathBuf, String) {
    match read_plan(case) {
        Ok(plan) => {
            let bus =
                fs::read_to_string(case.join("bus.txt")).unwrap_or_else(|_| panic!("{}: no bus.txt", case.display()));
            (case.join("expected.jsonl"), transcript::play(&plan, &bus))
        }
        Err(report) => (case.join("error.txt"), report),
    }
}

#[test]
fn every_case_comes_out_as_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut failures = String::new();
    let mut count = 0;
    // Those of `config` are played with the real binary, by the tests of the gateway.
    let drivers = folders(&root).into_iter().filter(|folder| !folder.ends_with("config"));
    for case in drivers.flat_map(|driver| folders(&driver)) {
        count += 1;
        let (file, found) = outcome(&case);
        let other = if file.ends_with("error.txt") { "expected.jsonl" } else { "error.txt" };
        if bless {
            fs::write(&file, &found).unwrap();
            let _ = fs::remove_file(case.join(other));
        } else if case.join(other).exists() {
            let _ = writeln!(failures, "{}: there is a {other}, but this came out:\n{found}", case.display());
        } else {
            let expected = fs::read_to_string(&file).unwrap_or_default();
            if expected != found {
                let _ = writeln!(failures, "{}: expected\n{expected}\nfound\n{found}", file.display());
            }
        }
    }
    assert!(count > 0, "no case below {}", root.display());
    assert!(failures.is_empty(), "{failures}");
}

//! The power goes: the process is killed and its files are put back to what they held at their last flush.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use rusqlite::{Connection, OpenFlags};

use crate::Orders;
use crate::feed::Feed;
use crate::judge::{Outcome, Total, judge_after, missing};
use crate::page::{Page, thousands};
use crate::strike::{gateway, live, set_aside, soon};
use crate::support::Disk;
use crate::support::receiver::{Receiver, Terms};

/// As in the campaign of kills.
const PACE: Duration = Duration::from_micros(600);
const PER_SECOND: u64 = 2_000;
const NEWEST: usize = 1_000;

/// What the disk does with a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Card {
    Honest,
    /// Says that it is done, and has kept nothing.
    Lies,
    /// Had written a part of what was not flushed, in whatever order.
    Tears,
}

/// How long a flush takes of which a part is kept: so that most cuts fall while there is one.
const FLUSH: Duration = Duration::from_millis(10);

pub(crate) fn run(orders: &Orders, page: &mut Page) {
    page.say(
        "The same publishers. The process is killed with SIGKILL; then each file of its stores is put back to its content at its last successful \
         fsync or fdatasync, and a file that was never flushed goes: the least that a disk may have kept. In torn cuts a flush takes 10 ms, and of the 4 KiB \
         blocks that were not flushed the disk has kept some, in any order, as the seed decides. A library that is preloaded into the process \
         notes what was flushed. After each cut SQLite's quick_check reads the store of the bridge, and the gateway, which reads it with eyes of its own, must \
         not set it aside as damaged. The control run has a disk that acknowledges a flush \
         and keeps nothing; the second one has `durability = \"process\"`, which promises nothing over a power cut. Both have to lose, or the campaign could \
         not have noticed.",
    );
    let cuts = orders.kills(60, 8);
    let mut total = Total::default();
    for (run, card, durability) in [
        ("power cuts", Card::Honest, "power"),
        ("torn power cuts", Card::Tears, "power"),
        ("torn power cuts, `durability = \"process\"`", Card::Tears, "process"),
    ] {
        let found = campaign(orders.seed, cuts, card, durability);
        page.claim(run, "stores that quick_check finds whole", &cuts.to_string(), found.whole, found.whole == cuts);
        page.zero(run, "stores set aside as damaged", found.set_aside);
        if card == Card::Tears {
            page.at_least(run, "cuts that left a part of what was not flushed", cuts / 4, found.torn);
        }
        if durability == "process" {
            continue;
        }
        page.at_least(run, "cuts that fell while acknowledged messages were on their way", cuts * 8 / 10, found.hits);
        found.outcome.claim_exactness(page, run);
        page.say(format!("{run}: {cuts} cuts. {}.", found.outcome.told()));
        total.add(cuts, 0, &found.outcome);
    }
    page.summary(
        &format!(
            "{} emulated power cuts, half of them torn: acknowledged messages lost / QoS 2 doubled / out of order",
            total.kills
        ),
        "0 / 0 / 0",
        total.told(),
    );
    for (run, card, durability) in [
        ("control: a disk that lies", Card::Lies, "power"),
        ("control: `durability = \"process\"`", Card::Honest, "process"),
    ] {
        let control = campaign(orders.seed, orders.number(10, 4), card, durability).outcome;
        let lost = control.lost[0] + control.lost[1];
        let measured = format!("{} of {}", thousands(lost), thousands(control.acknowledged));
        page.claim(run, "acknowledged messages lost", "> 0", measured, lost > 0);
    }
}

struct Found {
    outcome: Outcome,
    /// Stores that were whole after a cut, by SQLite's word.
    whole: u64,
    /// Cuts that fell while something was on its way.
    hits: u64,
    /// Cuts after which some blocks that were not flushed were there and others were not.
    torn: u64,
    /// Stores that the gateway took for damaged.
    set_aside: u64,
}

fn campaign(seed: u64, cuts: u64, card: Card, durability: &str) -> Found {
    let mut random = Rng::with_seed(seed);
    let receiver = Receiver::start(Terms::default(), seed);
    receiver.treat(|treatment| treatment.pace = PACE);
    let disk = Disk::new();
    disk.keep_shadow();
    let mut gateway =
        gateway(&receiver.url(), "5", &format!("outbox = {{ durability = \"{durability}\" }}")).on_disk(&disk);
    gateway.start();
    if card == Card::Tears {
        disk.slow_sync(FLUSH);
    }
    let feed = Feed::start(gateway.door().port, PER_SECOND);
    let (mut whole, mut hits, mut torn) = (0, 0, 0);
    for cut in 1..=cuts {
        live(&mut random);
        if card == Card::Lies {
            disk.lose_flushes();
            live(&mut random);
        }
        hits += u64::from(soon(|| {
            let newest = feed.newest(NEWEST);
            [1, 2].iter().any(|qos| missing(&receiver, &newest, *qos) > 0)
        }));
        gateway.kill();
        let state = gateway.dir().join("state");
        if card == Card::Tears {
            // From most of it to little of it.
            let eighths = random.u8(1..8);
            let (kept, lost) = disk.tear_power(&state, || random.u8(..8) < eighths);
            torn += u64::from(kept > 0 && lost > 0);
        } else {
            disk.cut_power(&state);
        }
        whole += u64::from(is_whole(&state));
        disk.keep_shadow();
        gateway.start();
        if cut % 20 == 0 {
            println!("  {cut} of {cuts} cuts, {} messages acknowledged", feed.acknowledged());
        }
    }
    let (streams, _) = feed.end();
    receiver.treat(|treatment| treatment.pace = Duration::ZERO);
    let stuck = Duration::from_secs(if card == Card::Lies || durability == "process" { 5 } else { 60 });
    let outcome = judge_after(stuck, &receiver, &streams);
    Found { outcome, whole, hits, torn, set_aside: set_aside(&gateway) }
}

/// Whether SQLite finds no fault in the bridge's store, looked at in a copy: looking at a log changes it.
fn is_whole(state: &Path) -> bool {
    let copy = tempfile::tempdir().expect("make a temporary directory");
    for entry in std::fs::read_dir(state).expect("list the state directory").flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("outbox-cloud.db") {
            std::fs::copy(entry.path(), copy.path().join(name)).expect("copy the store");
        }
    }
    let path = copy.path().join("outbox-cloud.db");
    if !path.exists() {
        // Cut before its first flush: nothing was promised yet, and none is as good as whole.
        return true;
    }
    let check = || {
        let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        store.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0))
    };
    match check() {
        Ok(told) if told == "ok" => true,
        other => {
            println!("  quick_check: {other:?}");
            false
        }
    }
}

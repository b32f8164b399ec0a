//! Stores that were damaged while nobody ran: what is told, what is brought over, and whether anything is gone without a word.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rusqlite::Connection;

use crate::Orders;
use crate::page::{Page, thousands};
use crate::support::client::Client;
use crate::support::receiver::ledger::number;
use crate::support::receiver::{Accepted, Receiver, Terms};
use crate::support::{Gateway, free_port, wait_for};
use crate::web::metric;

/// Records in the store before the damage, and published after it.
const STORED: u64 = 2_000;
const NEW: u64 = 100;
/// Messages that their publisher has unacknowledged.
const WINDOW: usize = 100;
const PAGE: u64 = 4_096;
/// Frames of a log that damage inside it can be told by.
const FRAMES_MIN: usize = 40;
/// Bytes of a payload; so a page of the file holds at most 40 records.
const PAYLOAD: usize = 100;
const OF_A_PAGE: u64 = PAGE / PAYLOAD as u64;
/// Longest until the local broker answers.
const UP: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(60);
/// What the cloud gets of a store that was set aside: that it was, and what came of it.
const EVENTS: u64 = 2;
/// Longest until it has them, once all else is through.
const TOLD: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[http]
listen = "127.0.0.1:@page@"

[[bridge]]
id = "cloud"
url = "@cloud@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#" }, { from = "tidegate/box/event" } ]
"#;

/// What is done to the files, and how many seeds of it there are.
struct Kind {
    name: &'static str,
    seeds: u64,
    spoil: fn(&Path, &mut Rng),
    /// Most pages that it touches; `None` where it may take everything.
    pages: Option<u64>,
    /// Pages of records among them: only what is on one of those can arrive changed.
    altered: u64,
    /// Whether a loss can be told from what a power cut leaves.
    noticeable: bool,
    /// Whether it is done inside the log, which has to hold something then.
    in_log: bool,
}

const KINDS: &[Kind] = &[
    Kind { name: "4 KiB of garbage anywhere", spoil: garbage_anywhere, pages: Some(2), altered: 2, ..Kind::SEEN },
    Kind { name: "each bit of a page turned over", spoil: flip_one, pages: Some(1), altered: 1, ..Kind::SEEN },
    Kind { name: "each bit of five pages turned over", spoil: flip_five, pages: Some(5), altered: 5, ..Kind::SEEN },
    Kind { name: "the first page garbage", seeds: 2, spoil: first_page, pages: Some(1), ..Kind::SEEN },
    Kind { name: "cut short anywhere", seeds: 6, spoil: cut_short, ..Kind::SEEN },
    Kind { name: "of no length", seeds: 1, spoil: empty, ..Kind::SEEN },
    Kind { name: "garbage from end to end", seeds: 2, spoil: all_garbage, ..Kind::SEEN },
    Kind { name: "the head of the log garbage", seeds: 4, spoil: head_of_log, pages: Some(1), ..Kind::SEEN },
    Kind { name: "4 KiB of garbage inside the log", spoil: garbage_in_log, pages: Some(3), in_log: true, ..Kind::SEEN },
    Kind { name: "16 KiB of zeros inside the log", spoil: zeros_in_log, pages: Some(6), in_log: true, ..Kind::SEEN },
    Kind { name: "the log cut short", seeds: 2, spoil: log_cut_short, noticeable: false, in_log: true, ..Kind::SEEN },
];

impl Kind {
    const SEEN: Self =
        Self { name: "", seeds: 10, spoil: empty, pages: None, altered: 0, noticeable: true, in_log: false };
}

pub(crate) fn run(orders: &Orders, page: &mut Page) {
    page.say(format!(
        "{} messages of QoS 1 and 2 are stored, the process is killed, the store is damaged, and the next start is held to what it promises: the local broker \
         answers within 2 s; a damaged file is set aside, and that is told, by an event at the cloud and in the metrics; what can be read of it arrives, and \
         what comes after it. A record that is not there is told as lost if the event `store-salvaged` says that there were places where nothing could be \
         read, or the file as a whole was. Most that may be lost is what the damaged pages can hold, {OF_A_PAGE} records each. Not noticed, as docs/bridge.md says: bytes \
         of a payload that have changed (counted as altered), and a log that is cut short at its end, which is what a power cut leaves.",
        thousands(STORED)
    ));
    let mut all = Sum::default();
    for kind in KINDS {
        let seeds = if orders.quick { 1 } else { kind.seeds };
        let mut sum = Sum::default();
        for seed in orders.seed..orders.seed + seeds {
            sum.add(&damaged(kind, seed));
        }
        println!("  {}: {sum:?}", kind.name);
        sum.claim(kind, seeds, page);
        if kind.noticeable {
            all.join(&sum);
        }
    }
    page.summary(
        &format!("{} damaged stores of {} kinds: records lost without a word", all.cases, KINDS.len() - 1),
        "0",
        format!("{} of {}, {} told as lost", all.silent, thousands(all.before), thousands(all.told)),
    );
}

/// One damaged store.
#[derive(Debug)]
struct Case {
    up: Duration,
    /// Records that arrived as they were, and that arrived changed.
    whole: u64,
    altered: u64,
    new: u64,
    quarantined: bool,
    /// By its own count: brought over, and places where nothing could be read.
    recovered: u64,
    lost_ranges: u64,
    /// The events that the cloud got of it.
    events: u64,
}

#[derive(Debug, Default)]
struct Sum {
    cases: u64,
    before: u64,
    whole: u64,
    altered: u64,
    quarantined: u64,
    told: u64,
    silent: u64,
    most: u64,
    most_altered: u64,
    /// Set aside, and not told by two events and the metrics.
    untold: u64,
    /// Brought over by its own count, and never arrived.
    stuck: u64,
    new_missing: u64,
    slowest: Duration,
}

impl Sum {
    fn add(&mut self, case: &Case) {
        // What arrived changed is not lost; that it is not noticed is stated.
        let lost = STORED.saturating_sub(case.whole + case.altered);
        let told = case.quarantined && (case.lost_ranges > 0 || case.recovered == 0);
        self.cases += 1;
        self.before += STORED;
        self.whole += case.whole;
        self.altered += case.altered;
        self.quarantined += u64::from(case.quarantined);
        *(if told { &mut self.told } else { &mut self.silent }) += lost;
        self.most = self.most.max(lost);
        self.most_altered = self.most_altered.max(case.altered);
        self.untold += u64::from(case.quarantined && case.events < EVENTS);
        self.stuck += case.recovered.saturating_sub(case.whole + case.altered);
        self.new_missing += NEW - case.new;
        self.slowest = self.slowest.max(case.up);
    }

    fn join(&mut self, other: &Self) {
        self.cases += other.cases;
        self.before += other.before;
        self.told += other.told;
        self.silent += other.silent;
    }

    fn claim(&self, kind: &Kind, seeds: u64, page: &mut Page) {
        let run = kind.name;
        let counts = format!(
            "{} / {} / {} / {} of {}, {} of {seeds} set aside",
            thousands(self.whole),
            thousands(self.altered),
            thousands(self.told),
            thousands(self.silent),
            thousands(self.before),
            self.quarantined
        );
        if kind.noticeable {
            page.claim(
                run,
                "arrived / altered / told as lost / lost without a word",
                "without a word: 0",
                counts,
                self.silent == 0,
            );
        } else {
            page.claim(run, "arrived / altered / told as lost / lost as in a power cut", "", counts, true);
        }
        if let Some(pages) = kind.pages {
            let bar = pages * OF_A_PAGE;
            page.claim(run, "lost of one store, most", &format!("<= {bar}"), self.most, self.most <= bar);
        }
        let bar = kind.altered * OF_A_PAGE;
        page.claim(
            run,
            "altered of one store, most",
            &format!("<= {bar}"),
            self.most_altered,
            self.most_altered <= bar,
        );
        let broken = self.untold + self.stuck + self.new_missing;
        page.zero(run, "set aside and not told, brought over and not arrived, new messages lost", broken);
        let slowest = format!("{:.2} s", self.slowest.as_secs_f64());
        page.claim(run, "start to the local broker, slowest", "<= 2 s", slowest, self.slowest <= UP);
    }
}

fn payload(number: u64) -> String {
    format!("{:<PAYLOAD$}", format!("{{\"n\":{number},\"twice\":{}}}", number * 2))
}

/// Publishes with so many unacknowledged.
fn publish(gateway: &Gateway, numbers: std::ops::RangeInclusive<u64>, window: usize) {
    let messages: Vec<_> = numbers.map(|n| ("data/x".to_owned(), 1 + (n % 2) as u8, payload(n))).collect();
    let mut client = Client::connect(gateway.door().port, "producer").expect("connect");
    client.publish(&messages, window).assert_complete(messages.len());
}

/// A gateway that was killed with so many records in its store; where the damage is to be inside the log, with a log that holds enough: it may just have begun anew. Each
/// try has other commits, since equal ones fill the log to the same place.
fn filled(kind: &Kind, receiver: &Receiver, web: u16) -> Gateway {
    for window in (10..=WINDOW).rev().step_by(10) {
        let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url()), ("page", &web.to_string())]);
        gateway.start();
        publish(&gateway, 1..=STORED, window);
        gateway.kill();
        if !kind.in_log || frames(&gateway.dir().join("state").join("outbox-cloud.db")) > FRAMES_MIN {
            return gateway;
        }
    }
    panic!("{}: each time the log held no more than {FRAMES_MIN} frames", kind.name)
}

fn damaged(kind: &Kind, seed: u64) -> Case {
    let receiver = Receiver::start(Terms::default(), seed);
    receiver.treat(|treatment| treatment.away = true);
    let web = free_port();
    let mut gateway = filled(kind, &receiver, web);
    (kind.spoil)(&gateway.dir().join("state").join("outbox-cloud.db"), &mut Rng::with_seed(seed));
    let (begin, mark) = (Instant::now(), gateway.log().len());
    gateway.start();
    let up = begin.elapsed();
    publish(&gateway, 10_001..=10_000 + NEW, WINDOW);
    receiver.treat(|treatment| treatment.away = false);
    let count = |name: &str, label: &str| metric(web, name, label);
    wait_for(LIMIT, &format!("{}, seed {seed}: everything to be through", kind.name), || {
        let salvaging = count("tidegate_bridge_store_state", "salvaging");
        let (queued, sent) = (count("tidegate_outbox_messages", ""), count("tidegate_bridge_published_total", ""));
        if salvaging == 0 && queued == 0 && sent >= NEW {
            Ok(())
        } else {
            Err(format!("{queued} wait, {sent} are sent"))
        }
    });
    gateway.process().assert_running();
    let told = || receiver.accepted().iter().filter(|message| tells_damage(message)).count() as u64;
    let quarantined = count("tidegate_outbox_quarantined_total", "") > 0;
    // Where nothing was brought over, the store was empty before its last event came in.
    let until = Instant::now() + TOLD;
    while quarantined && told() < EVENTS && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut case = Case {
        up,
        whole: 0,
        altered: 0,
        new: 0,
        quarantined,
        recovered: count("tidegate_outbox_salvaged_total", ""),
        lost_ranges: 0,
        events: told(),
    };
    let (mut whole, mut altered) = (BTreeSet::new(), BTreeSet::new());
    for message in receiver.accepted() {
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        if message.topic == "tidegate/box/event" {
            let event: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            case.lost_ranges += event["lost_ranges"].as_u64().unwrap_or(0);
            continue;
        }
        if message.topic == "tidegate/box/status" {
            continue;
        }
        match number(&message.payload).filter(|n| text == payload(*n) && message.topic == "data/x") {
            Some(n) => whole.insert(n),
            None => altered.insert((message.topic, text)),
        };
    }
    case.whole = whole.range(1..=STORED).count() as u64;
    case.new = whole.range(10_001..).count() as u64;
    case.altered = altered.len() as u64;
    if case.quarantined {
        gateway.wait_for_log(LIMIT, mark, &["the store was damaged: it was set aside"]);
    }
    case
}

fn tells_damage(message: &Accepted) -> bool {
    let text = String::from_utf8_lossy(&message.payload);
    message.topic == "tidegate/box/event"
        && ["store-quarantined", "store-salvaged"].iter().any(|kind| text.contains(kind))
}

/// Brings what is in the log into the file, as the gateway does now and then.
fn checkpoint(path: &Path) {
    let file = Connection::open(path).expect("open the store");
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoint");
}

fn log_of(path: &Path) -> PathBuf {
    path.with_file_name("outbox-cloud.db-wal")
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).expect("the file is there").len()
}

fn noise(random: &mut Rng, length: u64) -> Vec<u8> {
    (0..length).map(|_| random.u8(..)).collect()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("open to write");
    file.write_all_at(bytes, at).expect("overwrite");
}

fn garbage_anywhere(path: &Path, random: &mut Rng) {
    checkpoint(path);
    let at = random.u64(..length(path) - PAGE);
    overwrite(path, at, &noise(random, PAGE));
}

fn flip(path: &Path, random: &mut Rng, pages: usize) {
    checkpoint(path);
    let of = length(path) / PAGE;
    let mut chosen = BTreeSet::new();
    while chosen.len() < pages {
        chosen.insert(random.u64(..of));
    }
    let content = std::fs::read(path).expect("read the store");
    for page in chosen {
        let at = usize::try_from(page * PAGE).expect("a small file");
        let flipped: Vec<u8> = content[at..at + PAGE as usize].iter().map(|byte| !byte).collect();
        overwrite(path, page * PAGE, &flipped);
    }
}

fn flip_one(path: &Path, random: &mut Rng) {
    flip(path, random, 1);
}

fn flip_five(path: &Path, random: &mut Rng) {
    flip(path, random, 5);
}

fn first_page(path: &Path, random: &mut Rng) {
    checkpoint(path);
    overwrite(path, 0, &noise(random, PAGE));
}

fn cut_short(path: &Path, random: &mut Rng) {
    checkpoint(path);
    let file = OpenOptions::new().write(true).open(path).expect("open to write");
    file.set_len(random.u64(1..length(path))).expect("cut");
}

fn empty(path: &Path, _: &mut Rng) {
    checkpoint(path);
    std::fs::File::create(path).expect("empty the file");
}

fn all_garbage(path: &Path, random: &mut Rng) {
    checkpoint(path);
    let all = length(path);
    overwrite(path, 0, &noise(random, all));
}

fn head_of_log(path: &Path, random: &mut Rng) {
    overwrite(&log_of(path), 0, &noise(random, PAGE));
}

/// A place in the first three quarters of what is in use of a log: SQLite's header of 32 bytes, and frames of a page and 24 bytes, of which those
/// of this use carry the salts of the header (https://sqlite.org/fileformat2.html#walformat). What comes at its end a power cut may have taken.
fn inside_log(path: &Path, random: &mut Rng) -> u64 {
    HEAD as u64 + random.u64(..(frames(path) * FRAME * 3 / 4) as u64)
}

const HEAD: usize = 32;
const FRAME: usize = 24 + PAGE as usize;

/// Frames in use of the log of this store.
fn frames(path: &Path) -> usize {
    let log = std::fs::read(log_of(path)).expect("read the log");
    if log.len() < HEAD {
        return 0;
    }
    log[HEAD..].chunks_exact(FRAME).take_while(|frame| frame[8..16] == log[16..24]).count()
}

fn garbage_in_log(path: &Path, random: &mut Rng) {
    let at = inside_log(path, random);
    overwrite(&log_of(path), at, &noise(random, PAGE));
}

fn zeros_in_log(path: &Path, random: &mut Rng) {
    let at = inside_log(path, random);
    overwrite(&log_of(path), at, &[0; 4 * PAGE as usize]);
}

fn log_cut_short(path: &Path, random: &mut Rng) {
    let log = OpenOptions::new().write(true).open(log_of(path)).expect("open the log");
    log.set_len(random.u64(1..length(&log_of(path)))).expect("cut");
}

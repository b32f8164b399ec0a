//! What becomes of the gateway when a disk fails: does it stay, does the local side not notice, is anything lost that was acknowledged, and
//! is there a way back that needs no restart?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::mount::Mount;
use crate::support::receiver::ledger::number;
use crate::support::{Call, Disk, Gateway, Lateness, Receiver, Terms, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
/// How soon after a fault is over the store must take records again (bridge.md, item 8 of its figures).
const BACK: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "@cloud@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#" } ]
"#;

fn numbered(numbers: std::ops::RangeInclusive<u64>) -> Vec<(String, u8, String)> {
    numbers.map(|n| ("data/x".to_owned(), 1, n.to_string())).collect()
}

/// What a bridge says of itself, as the running gateway answers.
fn outbox(gateway: &Gateway) -> serde_json::Value {
    wait_for(LIMIT, "the outbox to answer", || {
        let output = gateway.command(&["outbox", "status", "--json", "--config", "tidegate.toml"]).output().unwrap();
        let answer: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        answer
            .and_then(|mut answer| answer.get_mut(0).map(serde_json::Value::take))
            .ok_or_else(|| format!("{output:?}"))
    })
}

/// Waits until the store of the bridge is in this state.
#[track_caller]
fn wait_for_store(gateway: &Gateway, limit: Duration, state: &str) {
    wait_for(limit, &format!("the store to be {state}"), || {
        let outbox = outbox(gateway);
        if outbox["store"] == state { Ok(()) } else { Err(outbox.to_string()) }
    });
}

/// The local side: one client publishes numbers to a topic that no bridge takes, another must have every one, in order, and soon.
struct LocalLife {
    stop: Arc<AtomicBool>,
    publisher: std::thread::JoinHandle<u64>,
    subscriber: std::thread::JoinHandle<(Vec<u64>, Duration)>,
    late: Lateness,
}

impl LocalLife {
    fn begin(gateway: &Gateway) -> Self {
        let port = gateway.door().port;
        let stop = Arc::new(AtomicBool::new(false));
        let mut listener = Client::connect(port, "listener").unwrap();
        listener.subscribe("local/#", 1).unwrap();
        let subscriber = std::thread::spawn(move || {
            let (mut seen, mut longest, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
            while let Ok(message) = listener.next_message() {
                if message.payload == b"end" {
                    break;
                }
                longest = longest.max(last.elapsed());
                last = Instant::now();
                seen.extend(number(&message.payload));
            }
            (seen, longest)
        });
        let stopped = Arc::clone(&stop);
        let publisher = std::thread::spawn(move || {
            let mut client = Client::connect(port, "local").unwrap();
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                n += 1;
                client.publish(&[("local/x".to_owned(), 1, n.to_string())], 1).assert_complete(1);
                std::thread::sleep(Duration::from_millis(5));
            }
            client.publish(&[("local/x".to_owned(), 1, "end".to_owned())], 1).assert_complete(1);
            n
        });
        Self { stop, publisher, subscriber, late: Lateness::watch() }
    }

    /// Every number, in order, and none of them much later than the one before.
    #[track_caller]
    fn assert_undisturbed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.publisher.join().expect("every local message was acknowledged");
        let (seen, longest) = self.subscriber.join().unwrap();
        assert!(sent > 10, "only {sent} local messages");
        assert_eq!(seen, (1..=sent).collect::<Vec<_>>(), "a gap, or another order");
        assert!(longest < self.late.widen(Duration::from_secs(2)), "the local side stood still for {longest:?}");
        println!("{sent} local messages, longest pause {longest:?}");
    }
}

/// Every acknowledged number has arrived.
#[track_caller]
fn assert_arrived(receiver: &Receiver, acknowledged: &BTreeSet<u64>) {
    wait_for(LIMIT, "every acknowledged message to arrive", || {
        let arrived: BTreeSet<u64> = receiver.accepted().iter().filter_map(|m| number(&m.payload)).collect();
        let missing = acknowledged.difference(&arrived).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} of {} are missing", acknowledged.len())) }
    });
}

/// Publishes numbers to the bridge's topics in a connection of its own, and returns those that were acknowledged.
fn publish(gateway: &Gateway, numbers: std::ops::RangeInclusive<u64>) -> BTreeSet<u64> {
    let first = *numbers.start();
    let mut client = Client::connect(gateway.door().port, "producer").unwrap();
    let outcome = client.publish(&numbered(numbers), 50);
    outcome.acknowledged.iter().map(|index| first + *index as u64).collect()
}

/// One fault from its beginning to its end while the gateway runs: nobody is told that something was stored which was not, what was stored
/// arrives, the local side does not notice, and the store is back soon after.
fn a_fault(gateway: &mut Gateway, receiver: &Receiver, state: &str, begin: impl FnOnce(), end: impl FnOnce()) {
    let local = LocalLife::begin(gateway);
    let mut acknowledged = publish(gateway, 1..=500);
    assert_eq!(acknowledged.len(), 500);
    let mark = gateway.log().len();
    begin();
    find_out(gateway, mark, state, &mut acknowledged);
    wait_for_store(gateway, LIMIT, state);
    let refused = publish(gateway, 10_001..=10_100);
    assert!(refused.is_empty(), "acknowledged while the store could not be written: {refused:?}");
    let output = gateway.command(&["status", "--config", "tidegate.toml"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("store {state}")), "{text}");

    end();
    wait_for_store(gateway, BACK, "ok");
    gateway.wait_for_log(LIMIT, mark, &["the store can be written again", state]);
    let after = publish(gateway, 701..=800);
    assert_eq!(after.len(), 100);
    acknowledged.extend(after);
    receiver.treat(|treatment| treatment.away = false);
    assert_arrived(receiver, &acknowledged);
    local.assert_undisturbed();
    gateway.process().assert_running();
    assert!(outbox(gateway)["faults"].as_u64() >= Some(1));
}

/// Publishes until the store has found the fault out.
#[track_caller]
fn find_out(gateway: &Gateway, mark: usize, state: &str, acknowledged: &mut BTreeSet<u64>) {
    let mut next = 1_001;
    wait_for(LIMIT, &format!("the log to say that the store is {state}"), || {
        acknowledged.extend(publish(gateway, next..=next + 9));
        next += 10;
        let lines = gateway.log().since(mark);
        let told = |line: &String| line.contains("the store cannot be written") && line.contains(state);
        if lines.iter().any(told) { Ok(()) } else { Err(format!("{next} published")) }
    });
}

/// A cloud that is away, so that what is stored stays so.
fn away() -> Receiver {
    let receiver = Receiver::start(Terms::default(), 1);
    receiver.treat(|treatment| treatment.away = true);
    receiver
}

#[test]
fn a_disk_without_room_takes_nothing_new_and_recovers_when_it_has_some() {
    let Some(mount) = Mount::tmpfs(32) else { return };
    let receiver = away();
    let state = mount.path().display().to_string();
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url()), ("state", &state)]);
    gateway.start();
    a_fault(&mut gateway, &receiver, "full", || mount.fill(), || mount.empty());
}

#[test]
fn a_disk_that_is_nearly_full_is_left_to_the_rest_of_the_system() {
    let (receiver, disk) = (away(), Disk::new());
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url())]).on_disk(&disk);
    gateway.start();
    a_fault(&mut gateway, &receiver, "full", || disk.free_bytes(Some(1 << 20)), || disk.free_bytes(None));
    assert_eq!(disk.written().failed, 0, "it was full in the kernel's eyes");
}

#[test]
fn a_disk_with_io_errors_takes_nothing_new_and_recovers_when_they_end() {
    let (receiver, disk) = (away(), Disk::new());
    disk.only("outbox-");
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url())]).on_disk(&disk);
    gateway.start();
    let fail = || disk.fail(&[Call::Write, Call::Sync], libc::EIO);
    a_fault(&mut gateway, &receiver, "failing", fail, || disk.heal());
    assert!(disk.written().failed > 0);
}

#[test]
fn a_flush_that_fails_acknowledges_nothing() {
    let (receiver, disk) = (away(), Disk::new());
    disk.only("outbox-");
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url())]).on_disk(&disk);
    gateway.start();
    a_fault(&mut gateway, &receiver, "failing", || disk.fail(&[Call::Sync], libc::EIO), || disk.heal());
}

/// The instrument again: SQLite's rollback journal, with which a store begins, is removed and the directory flushed. A journal that came back
/// would undo the store.
#[test]
fn what_was_removed_stays_away_once_its_directory_was_flushed() {
    let disk = Disk::new();
    disk.keep_shadow();
    let mut gateway = Gateway::new(CONFIG, &[("cloud", "mqtt://127.0.0.1:1")]).on_disk(&disk);
    gateway.start();
    let mut client = Client::connect(gateway.door().port, "producer").unwrap();
    client.publish(&numbered(1..=100), 50).assert_complete(100);
    gateway.kill();
    let state = gateway.dir().join("state");
    disk.cut_power(&state);
    let names: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name == "outbox-cloud.db-wal"), "{names:?}");
    assert!(!names.iter().any(|name| name == "outbox-cloud.db-journal"), "{names:?}");
}

/// The instrument: what was flushed is in the shadow, what came after is not, and what is told to fail does.
#[test]
fn a_cut_of_the_power_keeps_what_was_flushed_and_nothing_else() {
    let disk = Disk::new();
    disk.keep_shadow();
    let mut gateway = Gateway::new(CONFIG, &[("cloud", "mqtt://127.0.0.1:1")]).on_disk(&disk);
    gateway.start();
    assert_eq!(publish(&gateway, 1..=500).len(), 500);
    let before = disk.written();
    assert!(before.syncs > 0 && before.bytes > 500 * 10 && before.failed == 0, "{before:?}");

    // From here on nothing is flushed: the log grows in the kernel's memory alone.
    disk.only("outbox-cloud.db");
    disk.fail(&[Call::Sync], libc::EIO);
    assert_eq!(publish(&gateway, 501..=510), BTreeSet::new(), "acknowledged what was not flushed");
    assert!(disk.written().failed > 0);
    gateway.kill();
    disk.heal();
    disk.cut_power(&gateway.dir().join("state"));
    gateway.start();
    assert_eq!(outbox(&gateway)["queued"], 500);
}

/// The instrument: of a file that has grown and one that shrank, each block is as it was flushed or as it was written, and the disk remembers.
#[test]
fn a_torn_cut_of_the_power_keeps_some_blocks_of_what_was_not_flushed() {
    let (disk, state) = (Disk::new(), tempfile::tempdir().unwrap());
    let blocks = |bytes: &str| bytes.bytes().flat_map(|byte| [byte; 4096]).collect::<Vec<u8>>();
    let put = |name: &str, flushed: &str, now: &str| {
        std::fs::write(disk.shadow().join(name), blocks(flushed)).unwrap();
        std::fs::write(state.path().join(name), blocks(now)).unwrap();
    };
    let read = |name: &str| std::fs::read(state.path().join(name)).unwrap();
    let torn = |flushed: &str, now: &str, keeps: &[bool]| {
        put("grown.db", flushed, now);
        let mut keeps = keeps.iter().copied();
        let counts = disk.tear_power(state.path(), || keeps.next().unwrap());
        assert!(keeps.next().is_none());
        disk.cut_power(state.path());
        (counts, read("grown.db"))
    };
    assert_eq!(torn("aaa", "aab", &[false]), ((0, 1), blocks("aaa")));
    assert_eq!(torn("aaa", "baabcd", &[true, false, true, false]), ((2, 2), blocks("baa\0c")));
    assert_eq!(torn("aaa", "ba", &[true, false]), ((0, 1), blocks("aa")));
    assert_eq!(torn("aaa", "ba", &[false, true]), ((1, 0), blocks("baa")));
}

/// The first state of the bridge that says of its store what is asked for. The log says so a moment before. The control socket cannot be asked: it was
/// to lie in the state directory.
fn told_of_the_store(watcher: &mut Client, is_troubled: bool) -> String {
    loop {
        let told = String::from_utf8(watcher.next_message().unwrap().payload).unwrap();
        if told.contains(r#""store":"#) == is_troubled {
            return told;
        }
    }
}

/// Starts a gateway whose stores cannot be used, sees that it serves, and that each store is used once it can be.
fn started_with(gateway: &mut Gateway, receiver: &Receiver, state: &str, mend: impl FnOnce(&Gateway)) {
    gateway.start();
    let local = LocalLife::begin(gateway);
    let mark = gateway.log().len();
    gateway.wait_for_log(LIMIT, 0, &["the store cannot be written", state]);
    assert_eq!(publish(gateway, 501..=510), BTreeSet::new());
    let mut watcher = Client::connect(gateway.door().port, "watcher").unwrap();
    watcher.subscribe("tidegate/box/bridge/cloud", 1).unwrap();
    let told = told_of_the_store(&mut watcher, true);
    assert!(told.contains(r#""state":"offline""#) && told.contains(r#""reason":"store: "#), "{told}");
    assert!(told.contains(&format!(r#""store":"{state}""#)), "{told}");
    mend(gateway);
    gateway.wait_for_log(BACK, mark, &["the store can be written again", state]);
    told_of_the_store(&mut watcher, false);
    let mut acknowledged: BTreeSet<u64> = (1..=500).collect();
    acknowledged.extend(publish(gateway, 701..=800));
    assert_eq!(acknowledged.len(), 600);
    receiver.treat(|treatment| treatment.away = false);
    assert_arrived(receiver, &acknowledged);
    local.assert_undisturbed();
}

/// A gateway that has stopped with 500 messages in its store.
fn filled(receiver: &Receiver, words: &[(&str, &str)]) -> Gateway {
    let url = receiver.url();
    let words: Vec<(&str, &str)> = words.iter().copied().chain([("cloud", url.as_str())]).collect();
    let mut gateway = Gateway::new(CONFIG, &words);
    gateway.start();
    assert_eq!(publish(&gateway, 1..=500).len(), 500);
    gateway.stop();
    gateway
}

#[test]
fn a_store_of_a_later_version_does_not_keep_the_gateway_from_starting() {
    let receiver = away();
    let mut gateway = filled(&receiver, &[]);
    let path = gateway.dir().join("state/outbox-cloud.db");
    // `PRAGMA user_version`, four bytes at offset 60 of a database, and no log beside it.
    let version = |version: u32| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut before = [0; 4];
        file.read_exact_at(&mut before, 60).unwrap();
        file.write_all_at(&version.to_be_bytes(), 60).unwrap();
        u32::from_be_bytes(before)
    };
    let known = version(99);
    started_with(&mut gateway, &receiver, "foreign", |_| {
        version(known);
    });
}

#[test]
fn a_file_system_that_is_read_only_does_not_keep_the_gateway_from_starting() {
    let Some(mount) = Mount::tmpfs(32) else { return };
    let receiver = away();
    let state = mount.path().display().to_string();
    let mut gateway = filled(&receiver, &[("state", &state)]);
    mount.read_only(true);
    started_with(&mut gateway, &receiver, "read-only", |_| mount.read_only(false));
}

#[test]
fn a_state_directory_that_vanishes_is_made_anew_and_what_was_in_it_still_arrives() {
    let receiver = away();
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url())]);
    gateway.start();
    let local = LocalLife::begin(&gateway);
    let mut acknowledged = publish(&gateway, 1..=500);
    assert_eq!(acknowledged.len(), 500);
    std::fs::rename(gateway.dir().join("state"), gateway.dir().join("elsewhere")).unwrap();
    find_out(&gateway, 0, "inaccessible", &mut acknowledged);
    receiver.treat(|treatment| treatment.away = false);
    assert_arrived(&receiver, &acknowledged);
    gateway.wait_for_log(2 * BACK, 0, &["the store can be written again"]);
    let mut watcher = Client::connect(gateway.door().port, "watcher").unwrap();
    watcher.subscribe("tidegate/box/bridge/cloud", 1).unwrap();
    told_of_the_store(&mut watcher, false);
    acknowledged = publish(&gateway, 701..=800);
    assert_eq!(acknowledged.len(), 100);
    assert_arrived(&receiver, &acknowledged);
    assert!(gateway.dir().join("state/outbox-cloud.db").exists());
    local.assert_undisturbed();
}

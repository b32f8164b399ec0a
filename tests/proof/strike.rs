//! The gateway of the campaigns, and the blows it gets while messages come in.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::feed::Feed;
use crate::support::Gateway;

/// What a campaign changes: `@cloud@`, `@version@`, and `@more@` for further keys of the bridge.
pub(crate) const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "@cloud@"
version = "@version@"
reconnect = { min = "100ms", max = "100ms", stable = "0s" }
out = [ { from = "data/#" } ]
@more@
"#;

/// Shortest and longest life of the process between two kills, ms.
const LIFE_MS: std::ops::RangeInclusive<u64> = 30..=500;

/// Longest without a cut while some are owed: a bridge that goes on comes to the next within seconds.
const STUCK: Duration = Duration::from_secs(60);

/// Longest that a blow is put off for something to hit.
const SOON: Duration = Duration::from_millis(250);

/// A gateway with this bridge, not started.
pub(crate) fn gateway(cloud: &str, version: &str, more: &str) -> Gateway {
    Gateway::new(CONFIG, &[("cloud", cloud), ("version", version), ("more", more)])
}

/// How many of its stores it has taken for damaged and set aside, over all of its starts.
pub(crate) fn set_aside(gateway: &Gateway) -> u64 {
    let Ok(home) = std::fs::read_dir(gateway.dir().join("state").join("quarantine")) else { return 0 };
    let mut newest = std::collections::BTreeMap::<String, u64>::new();
    for entry in home.flatten() {
        // Numbered for each store; the oldest of many are removed.
        let name = entry.file_name().to_string_lossy().into_owned();
        let (store, number) = name.rsplit_once('.').expect("the name of a store and a number");
        let newest = newest.entry(store.to_owned()).or_default();
        *newest = number.parse().unwrap_or(u64::MAX).max(*newest);
    }
    newest.values().sum()
}

/// Lets the process live for a time that the seed decides.
pub(crate) fn live(random: &mut Rng) {
    std::thread::sleep(Duration::from_millis(random.u64(LIFE_MS)));
}

/// Waits until so many cuts of the connection were `made`.
///
/// # Panics
/// When there is none for a minute: then nothing goes over the connection any more.
pub(crate) fn wait_for_cuts(cuts: u64, made: impl Fn() -> u64) {
    let (mut seen, mut moved) = (made(), Instant::now());
    while seen < cuts {
        std::thread::sleep(Duration::from_millis(10));
        let now = made();
        if now > seen {
            (seen, moved) = (now, Instant::now());
        }
        assert!(
            moved.elapsed() < STUCK,
            "nothing to cut for {STUCK:?}, after {seen} of {cuts} cuts: the bridge stands still"
        );
    }
}

/// Whether it is so within [`SOON`]. A blow that hits nothing shows nothing, and on a busy machine the publishers have their pauses.
pub(crate) fn soon(mut is_so: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    loop {
        let so = is_so();
        if so || since.elapsed() >= SOON {
            return so;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills the process so many times and starts it anew, each time after a life that the seed decides and when `until_ready` returns.
///
/// Returns how many kills fell while messages that had been acknowledged were still on their way, as `under_way` tells.
pub(crate) fn kill(
    gateway: &mut Gateway,
    feed: &Feed,
    random: &mut Rng,
    kills: u64,
    mut under_way: impl FnMut(&Feed) -> bool,
    mut until_ready: impl FnMut(u64),
) -> u64 {
    let mut hits = 0;
    for kill in 1..=kills {
        live(random);
        until_ready(kill);
        // Not always right behind a cut.
        std::thread::sleep(Duration::from_millis(random.u64(0..20)));
        hits += u64::from(soon(|| under_way(feed)));
        gateway.kill();
        gateway.start();
        if kill % 20 == 0 {
            println!("  {kill} of {kills} kills, {} messages acknowledged", feed.acknowledged());
        }
    }
    hits
}

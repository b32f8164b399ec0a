//! Waiting for conditions, and ports to listen on.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::program::patience;

/// How often a condition is looked at. Short against every deadline in use, long enough to leave the processors to what is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` gives a value, and returns it. `look` tells the state it met otherwise. The limit is longer for an emulated program.
///
/// # Panics
/// When `limit` has passed: with what was awaited, and the last state.
#[track_caller]
pub(crate) fn wait_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let (start, limit) = (Instant::now(), limit * patience());
    loop {
        let state = match look() {
            Ok(value) => return value,
            Err(state) => state,
        };
        assert!(start.elapsed() < limit, "waited {limit:?} for: {what}\nlast state: {state}");
        std::thread::sleep(LOOK);
    }
}

/// Waits until `look` says yes, for conditions that have no state worth telling.
///
/// # Panics
/// When `limit` has passed: with what was awaited.
#[track_caller]
pub(crate) fn wait_until(limit: Duration, what: &str, mut look: impl FnMut() -> bool) {
    wait_for(limit, what, || if look() { Ok(()) } else { Err("not yet".to_owned()) });
}

/// A TCP port of 127.0.0.1 that nobody listens on and that no other test of this run was given.
///
/// The kernel chooses it. It is free again by the time it is used, so whoever listens on it must be ready to be told that it is taken.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = given.get_or_insert_with(HashSet::new);
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("bind 127.0.0.1:0").port();
        if given.insert(port) {
            return port;
        }
    }
}

/// How long this machine keeps a thread whose time has come, and a flush of its disk, as others use it: what a bound on time is widened by.
///
/// A bound that holds on a quiet machine says nothing of the gateway on a busy one. Watching goes on until it is dropped.
pub(crate) struct Lateness {
    worst_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Lateness {
    /// Turns that what a test times takes one after the other, at most: threads, processes, commits.
    const TURNS: u32 = 10;
    const EVERY: Duration = Duration::from_millis(20);

    pub(crate) fn watch() -> Self {
        let (worst_us, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (worst, stopped) = (Arc::clone(&worst_us), Arc::clone(&stop));
        let mut file = tempfile::tempfile().expect("make a temporary file");
        std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let start = Instant::now();
                std::thread::sleep(Self::EVERY);
                let _ = file.write_all(b"x").and_then(|()| file.sync_data());
                let late = start.elapsed().saturating_sub(Self::EVERY);
                worst.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
            }
        });
        Self { worst_us, stop }
    }

    /// What a bound comes to on this machine, as it was while this watched.
    pub(crate) fn widen(&self, bound: Duration) -> Duration {
        let late = Duration::from_micros(self.worst_us.load(Ordering::SeqCst));
        // A hundredth of a second is what a quiet machine may be late.
        bound * patience() + late.saturating_sub(Duration::from_millis(10)) * Self::TURNS
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

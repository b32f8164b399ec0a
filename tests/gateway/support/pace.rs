//! Waiting for conditions, and ports to listen on.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a condition is looked at. Short against every deadline in use, long enough to leave the processors to what is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` gives a value, and returns it. `look` tells the state it met otherwise.
///
/// # Panics
/// When `limit` has passed: with what was awaited, and the last state.
#[track_caller]
pub(crate) fn wait_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
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

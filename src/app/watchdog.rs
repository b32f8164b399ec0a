//! Feeds the service manager's watchdog while every part makes progress, and tells who does not.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use crate::clock::Clock;
use crate::health::Health;
use crate::limits::PULSE_EVERY;
use crate::logic::health::Edge;
use crate::telemetry::notify;

/// Starts to look at the parts, until the process ends. Without a watchdog the log is all that is told.
///
/// On a thread of its own: a task that holds up the runtime would hold up who is to name it.
///
/// # Errors
/// The kernel has no thread.
pub(super) fn start(health: Arc<Health>, clock: Arc<dyn Clock>) -> std::io::Result<()> {
    let watchdog = notify::watchdog();
    let every = watchdog.map_or(PULSE_EVERY, feeding);
    let watch = move || loop {
        if look(&health, clock.as_ref(), watchdog.is_some()) {
            notify::alive();
        }
        std::thread::sleep(every);
    };
    std::thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}

/// How often a watchdog is fed that waits for so long: twice in its time (sd_watchdog_enabled(3)), and at each look at the parts.
fn feeding(watchdog: Duration) -> Duration {
    (watchdog / 2).min(PULSE_EVERY)
}

/// Whether all is well; tells what has changed.
fn look(health: &Health, clock: &dyn Clock, watchdog: bool) -> bool {
    let (verdict, edges) = health.look(clock.now());
    for edge in edges {
        match edge {
            Edge::Stuck(late) => {
                let (part, silent_ms, limit_ms) = (late.name, late.silent.as_millis(), late.limit.as_millis());
                if watchdog {
                    error!(part, silent_ms, limit_ms, "makes no progress: the watchdog is not fed until it does");
                } else {
                    error!(part, silent_ms, limit_ms, "makes no progress");
                }
            }
            Edge::Moves { name, silent } => info!(part = name, outage_ms = silent.as_millis(), "makes progress again"),
        }
    }
    verdict.is_healthy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;
    use crate::limits::PULSE_LIMIT;

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_and_no_less_often_than_the_parts_are_looked_at() {
        assert_eq!(feeding(Duration::from_secs(30)), PULSE_EVERY);
        assert_eq!(feeding(Duration::from_secs(3)), Duration::from_millis(1_500));
    }

    #[test]
    fn one_part_that_is_stuck_starves_the_watchdog_until_it_moves_or_is_removed() {
        let (health, clock) = (Health::new(), FakeClock::new(0));
        let (bus, bridge) =
            (health.enter("bus usb", PULSE_LIMIT, clock.now()), health.enter("bridge cloud", PULSE_LIMIT, clock.now()));
        let run_for = |seconds: u64, beating: &[&crate::health::Pulse]| {
            let mut fed = true;
            for _ in 0..seconds {
                clock.advance(Duration::from_secs(1));
                for pulse in beating {
                    pulse.beat(clock.now());
                }
                fed = look(&health, &clock, true);
            }
            fed
        };
        let (of_bus, of_bridge) = (bus.pulse(), bridge.pulse());
        assert!(run_for(100, &[&of_bus, &of_bridge]));
        assert!(!run_for(PULSE_LIMIT.as_secs() + 1, &[&of_bus]));
        assert!(run_for(1, &[&of_bus, &of_bridge]));
        assert!(!run_for(PULSE_LIMIT.as_secs() + 1, &[&of_bus]));
        drop(bridge);
        assert!(run_for(1, &[&of_bus]));
    }
}

//! The broker's own counters under `$SYS/broker/…`, by Mosquitto's names, so that what reads one reads the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::core::Census;
use super::keeper::Urgency;
use super::shared::{Shared, Traffic};
use crate::model::overview::BrokerOverview;
use crate::model::{Message, Origin, Qos, TopicName};

/// Tells the counters as often as the settings say, until the broker ends.
pub(super) async fn tell(shared: Arc<Shared>) {
    let started = shared.clock.now();
    let mut loads = Loads::default();
    let mut heap = Heap::default();
    let mut last = started;
    loop {
        let interval = shared.live().settings.sys_interval;
        let wait = async {
            if interval.is_zero() {
                std::future::pending::<()>().await;
            } else {
                tokio::time::sleep(interval).await;
            }
        };
        tokio::select! {
            () = wait => {}
            () = shared.settings_changed.notified() => continue,
            () = shared.stopping.cancelled() => return,
            () = shared.killed.cancelled() => return,
        }
        let now = shared.clock.now();
        let census = shared.core().census();
        heap.look();
        loads.take_in(&shared.traffic, &census.counters.dropped, now - last);
        last = now;
        for (name, value) in figures(&shared, &census, &heap, now - started, &loads) {
            publish(&shared, &name, &value);
        }
    }
}

/// What the broker counts, for others to read whenever they like.
#[derive(Clone)]
pub struct Counters(pub(super) Arc<Shared>);

impl Counters {
    /// The figures as they are.
    pub fn read(&self) -> BrokerOverview {
        let census = self.0.core().census();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BrokerOverview {
            listen: Vec::new(),
            clients: census.connected as u64,
            subscriptions: census.subscriptions as u64,
            retained: census.retained as u64,
            received: read(&self.0.traffic.publish_received),
            sent: read(&self.0.traffic.publish_sent),
            dropped: read(&self.0.core().counters.dropped),
            external: None,
        }
    }
}

fn publish(shared: &Shared, name: &str, value: &str) {
    let Ok(topic) = TopicName::parse(&format!("$SYS/broker/{name}")) else { return };
    let message = Message::new(topic, value.as_bytes(), Qos::AtMostOnce, true, Origin::Gateway);
    // Retained in memory only: of a counter that starts at zero nothing is worth keeping.
    shared.publish(0, &Arc::new(message), Urgency::Never, None);
}

fn figures(shared: &Shared, census: &Census, heap: &Heap, uptime: Duration, loads: &Loads) -> Vec<(String, String)> {
    let traffic = &shared.traffic;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    let stored = census.retained as u64 + census.queued.messages.load(Ordering::Relaxed);
    let stored_bytes = census.retained_payload_bytes + census.queued.bytes.load(Ordering::Relaxed);
    let mut figures = vec![
        ("version", concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("uptime", format!("{} seconds", uptime.as_secs())),
        ("clients/connected", census.connected.to_string()),
        ("clients/active", census.connected.to_string()),
        ("clients/disconnected", (census.sessions - census.connected).to_string()),
        ("clients/inactive", (census.sessions - census.connected).to_string()),
        ("clients/total", census.sessions.to_string()),
        ("clients/maximum", census.connected_max.to_string()),
        ("clients/expired", read(&census.counters.expired)),
        ("subscriptions/count", (census.subscriptions - census.shared_subscriptions).to_string()),
        ("shared_subscriptions/count", census.shared_subscriptions.to_string()),
        ("retained messages/count", census.retained.to_string()),
        ("store/messages/count", stored.to_string()),
        ("messages/stored", stored.to_string()),
        ("store/messages/bytes", stored_bytes.to_string()),
        ("messages/inflight", in_flight(shared).to_string()),
        ("messages/received", read(&traffic.messages_received)),
        ("messages/sent", read(&traffic.messages_sent)),
        ("publish/messages/received", read(&traffic.publish_received)),
        ("publish/messages/sent", read(&traffic.publish_sent)),
        ("publish/messages/dropped", read(&census.counters.dropped)),
        ("publish/bytes/received", read(&traffic.publish_bytes_received)),
        ("publish/bytes/sent", read(&traffic.publish_bytes_sent)),
        ("bytes/received", read(&traffic.bytes_received)),
        ("bytes/sent", read(&traffic.bytes_sent)),
    ];
    if let Some(current) = heap.current {
        figures.extend([("heap/current", current.to_string()), ("heap/maximum", heap.maximum.to_string())]);
    }
    let mut figures: Vec<_> = figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for (name, load) in LOADS.iter().zip(&loads.0) {
        let averages = ["1min", "5min", "15min"].into_iter().zip(load.per_minute);
        figures.extend(averages.map(|(window, value)| (format!("load/{name}/{window}"), format!("{value:.2}"))));
    }
    figures
}

/// Messages that clients have not acknowledged. Each session is looked at alone: nobody waits for the whole count.
fn in_flight(shared: &Shared) -> usize {
    let slots: Vec<_> = shared.core().slots().cloned().collect();
    slots.iter().map(|slot| slot.session().in_flight()).sum()
}

/// Memory of the process that no file is behind: its heap, and the stacks of its threads.
#[derive(Debug, Default)]
struct Heap {
    /// Bytes; `None` where the kernel does not say.
    current: Option<u64>,
    /// The most that was seen.
    maximum: u64,
}

impl Heap {
    fn look(&mut self) {
        self.current = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| anonymous(&status));
        self.maximum = self.maximum.max(self.current.unwrap_or(0));
    }
}

/// `RssAnon` of proc_pid_status(5), bytes.
fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// Moving averages a minute over 1, 5 and 15 minutes, as of a system's load.
#[derive(Debug, Default)]
struct Loads([Load; LOADS.len()]);

#[derive(Debug, Default, Clone, Copy)]
struct Load {
    last: u64,
    per_minute: [f64; 3],
}

impl Loads {
    fn take_in(&mut self, traffic: &Traffic, dropped: &AtomicU64, span: Duration) {
        // In the order of LOADS.
        let counters = [
            &traffic.messages_received,
            &traffic.messages_sent,
            &traffic.publish_received,
            &traffic.publish_sent,
            dropped,
            &traffic.bytes_received,
            &traffic.bytes_sent,
            &traffic.sockets_opened,
            &traffic.connects,
        ];
        for (load, counter) in self.0.iter_mut().zip(counters) {
            load.take_in(counter.load(Ordering::Relaxed), span);
        }
    }
}

impl Load {
    fn take_in(&mut self, total: u64, span: Duration) {
        let minutes = (span.as_secs_f64() / 60.0).max(f64::EPSILON);
        // A count that a float does not hold exactly is one whose last digits nobody reads.
        #[allow(clippy::cast_precision_loss)]
        let rate = (total - self.last) as f64 / minutes;
        self.last = total;
        for (average, window) in self.per_minute.iter_mut().zip([1.0, 5.0, 15.0]) {
            let weight = (-minutes / window).exp();
            *average = rate + (*average - rate) * weight;
        }
    }
}

const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_becomes_the_average() {
        let mut load = Load::default();
        for minute in 1..=120 {
            load.take_in(minute * 600, Duration::from_secs(60));
        }
        assert!(load.per_minute.iter().all(|value| (value - 600.0).abs() < 0.5), "{:?}", load.per_minute);
    }

    #[test]
    fn a_burst_fades_faster_from_the_shorter_average() {
        let mut load = Load::default();
        load.take_in(1_000, Duration::from_secs(10));
        load.take_in(1_000, Duration::from_secs(300));
        let [one, five, fifteen] = load.per_minute;
        assert!(one < five && one < fifteen, "{:?}", load.per_minute);
    }

    #[test]
    fn memory_without_a_file_behind_it_is_read_in_bytes() {
        assert_eq!(anonymous("VmRSS:\t    9000 kB\nRssAnon:\t    1234 kB\nRssFile: 1 kB\n"), Some(1_234 << 10));
        for odd in ["", "RssAnon: 12", "RssAnon: x kB", "RssAnon: 18446744073709551615 kB"] {
            assert_eq!(anonymous(odd), None, "{odd}");
        }
        let mut heap = Heap::default();
        heap.look();
        assert!(heap.current.is_some_and(|current| current > 0 && current == heap.maximum), "{heap:?}");
    }
}

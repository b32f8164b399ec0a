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
        let dropped = shared.core().counters.dropped.load(Ordering::Relaxed);
        loads.take_in(&shared.traffic, now - last);
        last = now;
        for (name, value) in figures(&shared, census, dropped, now - started, &loads) {
            publish(&shared, name, &value);
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
        }
    }
}

fn publish(shared: &Shared, name: &str, value: &str) {
    let Ok(topic) = TopicName::parse(&format!("$SYS/broker/{name}")) else { return };
    let message = Message::new(topic, value.as_bytes(), Qos::AtMostOnce, true, Origin::Gateway);
    // Retained in memory only: of a counter that starts at zero nothing is worth keeping.
    shared.publish(0, &Arc::new(message), Urgency::Never);
}

fn figures(
    shared: &Shared,
    census: Census,
    dropped: u64,
    uptime: Duration,
    loads: &Loads,
) -> Vec<(&'static str, String)> {
    let traffic = &shared.traffic;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    let mut figures = vec![
        ("version", concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("uptime", format!("{} seconds", uptime.as_secs())),
        ("clients/connected", census.connected.to_string()),
        ("clients/disconnected", (census.sessions - census.connected).to_string()),
        ("clients/total", census.sessions.to_string()),
        ("clients/maximum", census.connected_max.to_string()),
        ("subscriptions/count", census.subscriptions.to_string()),
        ("retained messages/count", census.retained.to_string()),
        ("store/messages/bytes", census.retained_bytes.to_string()),
        ("messages/received", read(&traffic.messages_received)),
        ("messages/sent", read(&traffic.messages_sent)),
        ("publish/messages/received", read(&traffic.publish_received)),
        ("publish/messages/sent", read(&traffic.publish_sent)),
        ("publish/messages/dropped", dropped.to_string()),
        ("bytes/received", read(&traffic.bytes_received)),
        ("bytes/sent", read(&traffic.bytes_sent)),
    ];
    for (names, load) in LOADS.iter().zip(&loads.0) {
        figures.extend(names.iter().zip(load.per_minute).map(|(name, value)| (*name, format!("{value:.2}"))));
    }
    figures
}

/// Moving averages a minute over 1, 5 and 15 minutes, as of a system's load.
#[derive(Debug, Default)]
struct Loads([Load; 5]);

#[derive(Debug, Default, Clone, Copy)]
struct Load {
    last: u64,
    per_minute: [f64; 3],
}

impl Loads {
    fn take_in(&mut self, traffic: &Traffic, span: Duration) {
        let counters = [
            &traffic.messages_received,
            &traffic.messages_sent,
            &traffic.bytes_received,
            &traffic.bytes_sent,
            &traffic.sockets_opened,
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

const LOADS: [[&str; 3]; 5] = [
    ["load/messages/received/1min", "load/messages/received/5min", "load/messages/received/15min"],
    ["load/messages/sent/1min", "load/messages/sent/5min", "load/messages/sent/15min"],
    ["load/bytes/received/1min", "load/bytes/received/5min", "load/bytes/received/15min"],
    ["load/bytes/sent/1min", "load/bytes/sent/5min", "load/bytes/sent/15min"],
    ["load/sockets/1min", "load/sockets/5min", "load/sockets/15min"],
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
}

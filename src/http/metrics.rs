//! The overview for Prometheus, in the text form of OpenMetrics 1.0.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use crate::model::overview::{Overview, STORE_STATES, SensorOverview};

/// The type of the answer.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One family of metrics, and where its figures are.
struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Option<fn() -> Unit>,
    labels: &'static [&'static str],
    help: &'static str,
    read: Read,
}

/// Tells each sample of a family: the values of its labels, and the figure.
type Read = fn(&Overview, &mut dyn FnMut(&[&str], f64));

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// A count as the form has it. Beyond 2^53 the last digits go, as they do in Prometheus.
#[allow(clippy::cast_precision_loss)]
fn count(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

fn flag(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

fn sensors(overview: &Overview) -> impl Iterator<Item = &SensorOverview> {
    overview.buses.iter().flat_map(|bus| &bus.sensors)
}

const METRICS: &[Metric] = &[
    Metric {
        name: "build",
        kind: Kind::Gauge,
        unit: None,
        labels: &["gateway", "version"],
        help: "Always 1: id of the gateway and version of the program",
        read: |overview, tell| tell(&[&overview.gateway, &overview.version], 1.0),
    },
    Metric {
        name: "start_time",
        kind: Kind::Gauge,
        unit: Some(|| Unit::Seconds),
        labels: &[],
        help: "When the gateway started, since 1970-01-01, by the clock as it is set by now",
        #[allow(clippy::cast_precision_loss)]
        read: |overview, tell| tell(&[], overview.now_ms as f64 / 1_000.0 - seconds(overview.uptime_ms)),
    },
    Metric {
        name: "clock_synced",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "1 once the kernel holds the wall clock for set",
        read: |overview, tell| tell(&[], flag(overview.synced)),
    },
    Metric {
        name: "sensor_reads",
        kind: Kind::Counter,
        unit: None,
        labels: &["sensor", "result"],
        help: "Frames or transactions of a sensor: good, bad, or ignored as somebody else's",
        read: |overview, tell| {
            for sensor in sensors(overview) {
                tell(&[&sensor.id, "good"], count(sensor.good));
                tell(&[&sensor.id, "bad"], count(sensor.bad));
                tell(&[&sensor.id, "ignored"], count(sensor.ignored));
            }
        },
    },
    Metric {
        name: "sensor_age",
        kind: Kind::Gauge,
        unit: Some(|| Unit::Seconds),
        labels: &["sensor"],
        help: "Age of a sensor's last good reading; missing before the first",
        read: |overview, tell| {
            for sensor in sensors(overview) {
                sensor.age_ms.inspect(|age| tell(&[&sensor.id], seconds(*age)));
            }
        },
    },
    Metric {
        name: "sensor_online",
        kind: Kind::Gauge,
        unit: None,
        labels: &["sensor"],
        help: "1 while a sensor is heard, as its availability topic says; missing before that is known",
        read: |overview, tell| {
            for sensor in sensors(overview) {
                sensor.online.inspect(|online| tell(&[&sensor.id], flag(*online)));
            }
        },
    },
    Metric {
        name: "sensor_good",
        kind: Kind::Gauge,
        unit: None,
        labels: &["sensor"],
        help: "1 while the quality of a sensor's reading is good",
        read: |overview, tell| {
            for sensor in sensors(overview) {
                tell(&[&sensor.id], flag(sensor.quality == "good"));
            }
        },
    },
    Metric {
        name: "actuator_online",
        kind: Kind::Gauge,
        unit: None,
        labels: &["actuator"],
        help: "1 while an actuator's device answers; missing before that is known",
        read: |overview, tell| {
            for actuator in &overview.actuators {
                actuator.online.inspect(|online| tell(&[&actuator.id], flag(*online)));
            }
        },
    },
    Metric {
        name: "bridge_connected",
        kind: Kind::Gauge,
        unit: None,
        labels: &["bridge"],
        help: "1 while a bridge is online",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], flag(bridge.state == "online"));
            }
        },
    },
    Metric {
        name: "bridge_published",
        kind: Kind::Counter,
        unit: None,
        labels: &["bridge"],
        help: "Messages that a cloud acknowledged",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.delivered));
            }
        },
    },
    Metric {
        name: "bridge_dropped",
        kind: Kind::Counter,
        unit: None,
        labels: &["bridge", "cause"],
        help: "Messages for a cloud that were dropped, by the causes of the event `dropped`",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                for dropped in &bridge.dropped {
                    tell(&[&bridge.id, &dropped.cause], count(dropped.count));
                }
            }
        },
    },
    Metric {
        name: "outbox_messages",
        kind: Kind::Gauge,
        unit: None,
        labels: &["bridge"],
        help: "Messages that wait for a cloud's acknowledgement",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.queued));
            }
        },
    },
    Metric {
        name: "dead_letters",
        kind: Kind::Gauge,
        unit: None,
        labels: &["bridge"],
        help: "Messages that a cloud refused for good, kept for a person",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.dead));
            }
        },
    },
    Metric {
        name: "outbox",
        kind: Kind::Gauge,
        unit: Some(|| Unit::Bytes),
        labels: &["bridge"],
        help: "Size of a bridge's store",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.bytes));
            }
        },
    },
    Metric {
        name: "outbox_oldest",
        kind: Kind::Gauge,
        unit: Some(|| Unit::Seconds),
        labels: &["bridge"],
        help: "Time since the oldest waiting message was accepted; 0 when none waits",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], seconds(bridge.oldest_ms.unwrap_or(0)));
            }
        },
    },
    Metric {
        name: "bridge_store_state",
        kind: Kind::Gauge,
        unit: None,
        labels: &["bridge", "state"],
        help: "1 for the state a bridge's store is in, 0 for the others",
        read: |overview, tell| {
            for bridge in overview.bridges.iter().filter(|bridge| !bridge.store.is_empty()) {
                for state in STORE_STATES {
                    tell(&[&bridge.id, state], flag(bridge.store == state));
                }
            }
        },
    },
    Metric {
        name: "outbox_commits",
        kind: Kind::Counter,
        unit: None,
        labels: &["bridge"],
        help: "Transactions of a bridge's store, a flush of the disk each",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.commits));
            }
        },
    },
    Metric {
        name: "outbox_faults",
        kind: Kind::Counter,
        unit: None,
        labels: &["bridge"],
        help: "Times that a bridge's store could not be written, however long each lasted",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.faults));
            }
        },
    },
    Metric {
        name: "outbox_quarantined",
        kind: Kind::Counter,
        unit: None,
        labels: &["bridge"],
        help: "Damaged files of a bridge's store that were set aside",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.quarantined));
            }
        },
    },
    Metric {
        name: "outbox_salvaged",
        kind: Kind::Counter,
        unit: None,
        labels: &["bridge"],
        help: "Messages brought over from a damaged file of a bridge's store",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.salvaged));
            }
        },
    },
    Metric {
        name: "bridge_sessions_lost",
        kind: Kind::Counter,
        unit: None,
        labels: &["bridge"],
        help: "Times the cloud of a bridge forgot the session while messages were in flight",
        read: |overview, tell| {
            for bridge in &overview.bridges {
                tell(&[&bridge.id], count(bridge.sessions_lost));
            }
        },
    },
    Metric {
        name: "disk_written",
        kind: Kind::Counter,
        unit: Some(|| Unit::Bytes),
        labels: &[],
        help: "Bytes that the process has written to disks, as the kernel counts them; missing where it does not",
        read: |overview, tell| {
            overview.disk_written.inspect(|bytes| tell(&[], count(*bytes)));
        },
    },
    Metric {
        name: "broker_clients",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Clients connected to the local broker",
        read: |overview, tell| tell(&[], count(overview.broker.clients)),
    },
    Metric {
        name: "broker_subscriptions",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Subscriptions at the local broker",
        read: |overview, tell| tell(&[], count(overview.broker.subscriptions)),
    },
    Metric {
        name: "broker_retained",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Retained messages at the local broker",
        read: |overview, tell| tell(&[], count(overview.broker.retained)),
    },
    Metric {
        name: "broker_received",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Messages that local clients published, as far as the gateway gets them",
        read: |overview, tell| tell(&[], count(overview.broker.received)),
    },
    Metric {
        name: "broker_sent",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Messages delivered to local clients",
        read: |overview, tell| tell(&[], count(overview.broker.sent)),
    },
    Metric {
        name: "broker_dropped",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Messages dropped for local clients that were too slow, or for the broker that is there already",
        read: |overview, tell| tell(&[], count(overview.broker.dropped)),
    },
    Metric {
        name: "broker_connected",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "With `engine = \"external\"`: whether the gateway is connected to that broker; missing otherwise",
        read: |overview, tell| {
            let external = overview.broker.external.as_ref();
            external.inspect(|external| tell(&[], f64::from(external.state == "online")));
        },
    },
    Metric {
        name: "broker_waiting",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "With `engine = \"external\"`: messages that wait for that broker; missing otherwise",
        read: |overview, tell| {
            overview.broker.external.as_ref().inspect(|external| tell(&[], count(external.waiting)));
        },
    },
];

impl Metric {
    fn kind(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        }
    }

    /// Its name on the page: with prefix, unit and what a counter ends in.
    fn full_name(&self) -> String {
        let unit = self.unit.map_or_else(String::new, |unit| format!("_{}", unit().as_str()));
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{PREFIX}_{}{unit}{total}", self.name)
    }

    fn encode(&self, overview: &Overview, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut outcome = Ok(());
        (self.read)(overview, &mut |values, figure| {
            if outcome.is_ok() {
                let labels: Vec<(&str, &str)> = self.labels.iter().copied().zip(values.iter().copied()).collect();
                outcome = self.sample(&mut encoder, &labels, figure);
            }
        });
        outcome
    }

    fn sample(&self, encoder: &mut MetricEncoder<'_>, labels: &[(&str, &str)], figure: f64) -> fmt::Result {
        const NONE: Option<&Exemplar<Vec<(&str, &str)>, f64>> = None;

        // A sample without labels is no family of one.
        if labels.is_empty() {
            return match self.kind {
                Kind::Counter => encoder.encode_counter(&figure, NONE),
                Kind::Gauge => encoder.encode_gauge(&figure),
            };
        }
        let mut sample = encoder.encode_family(&labels)?;
        match self.kind {
            Kind::Counter => sample.encode_counter(&figure, NONE),
            Kind::Gauge => sample.encode_gauge(&figure),
        }
    }
}

const PREFIX: &str = "tidegate";

/// One look at the gateway, as the library asks for it.
#[derive(Debug)]
struct Look(Overview);

impl Collector for Look {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let unit = metric.unit.map(|unit| unit());
            let described = encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), metric.kind())?;
            metric.encode(&self.0, described)?;
        }
        Ok(())
    }
}

/// The page.
pub(super) fn page(overview: &Overview) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Look(overview.clone())));
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut page, &registry);
    page
}

/// The table of docs/http.md.
pub fn table() -> String {
    use std::fmt::Write as _;

    let mut table = String::from("| name | labels | what it is |\n|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {} | {} |", metric.full_name(), labels.join(", "), metric.help);
    }
    table
}

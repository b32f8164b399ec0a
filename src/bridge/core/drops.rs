//! What was dropped, by cause: counted for the status, gathered and told as events (README.md, P4).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::limits::DROPS_TOLD;
use crate::logic::status;
use crate::model::time::rfc3339;
use crate::model::{Message, Moment, Seq, Timestamp, TopicName};
use crate::store::Dropped;

/// Why a message did not reach the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::bridge) enum Cause {
    /// The store reached `max_bytes` or `max_messages`.
    StoreFull,
    /// It came in while the store was full, and `full = "drop-newest"`.
    Newest,
    /// The store was full, and a newer one of its topic is kept (`full = "thin"`).
    Thinned,
    /// Its rule reached its own `max_messages` or `max_bytes`.
    RuleFull,
    /// Older than `max_age`.
    Age,
    /// Older than its rule's own `max_age`.
    RuleAge,
    /// Older than its publisher wanted (message expiry).
    Expired,
    /// The cloud refused it with this MQTT 5 reason.
    Refused(u8),
    /// Larger than the cloud takes, or than the store may become.
    TooLarge,
    /// Its handshake was half done when the cloud forgot the session, and `on_session_loss` says to drop it.
    Uncertain,
    /// QoS 0, and the link was down or slow.
    Qos0,
    /// QoS 0 beyond `rate`.
    Rate,
    /// The engine could not keep up with what came in.
    IntakeFull,
    /// It came from the gateway whose broker the cloud is, or says so.
    Circle,
    /// A person removed it (`tidegate outbox purge`).
    Purged,
}

impl Cause {
    pub(super) fn word(self) -> String {
        match self {
            Cause::StoreFull => "store-full".into(),
            Cause::Newest => "store-full-newest".into(),
            Cause::Thinned => "thinned".into(),
            Cause::RuleFull => "rule-full".into(),
            Cause::Age => "age".into(),
            Cause::RuleAge => "rule-age".into(),
            Cause::Expired => "expired".into(),
            Cause::Refused(reason) => format!("refused-0x{reason:02x}"),
            Cause::TooLarge => "too-large".into(),
            Cause::Uncertain => "session-lost".into(),
            Cause::Qos0 => "qos0-offline".into(),
            Cause::Rate => "qos0-rate".into(),
            Cause::IntakeFull => "intake-full".into(),
            Cause::Circle => "circle".into(),
            Cause::Purged => "purged".into(),
        }
    }
}

/// The drops of one bridge.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Drops {
    total: u64,
    by_cause: BTreeMap<Cause, u64>,
    untold: BTreeMap<Cause, Dropped>,
    told: Option<Moment>,
}

impl Drops {
    /// Records of the store.
    pub(in crate::bridge) fn add(&mut self, cause: Cause, dropped: Dropped) {
        if dropped.count > 0 {
            self.total += dropped.count;
            *self.by_cause.entry(cause).or_default() += dropped.count;
            let untold = self.untold.entry(cause).or_default();
            *untold = untold.and(dropped);
        }
    }

    /// One record of the store.
    pub(in crate::bridge) fn add_record(&mut self, cause: Cause, seq: Seq, accepted: Timestamp) {
        self.add(cause, Dropped::one(seq, accepted));
    }

    /// Messages that never became records.
    pub(in crate::bridge) fn add_unstored(&mut self, cause: Cause, count: u64, at: Timestamp) {
        self.add(cause, Dropped { count, ..Dropped::one(Seq(0), at) });
    }

    /// All drops since start.
    pub(in crate::bridge) fn total(&self) -> u64 {
        self.total
    }

    /// All drops since start, by the word for their cause.
    pub(in crate::bridge) fn by_cause(&self) -> Vec<(String, u64)> {
        self.by_cause.iter().map(|(cause, count)| (cause.word(), *count)).collect()
    }

    /// When there is something to tell; QoS 0 drops wait for the link, so that an outage is not an event every few seconds.
    pub(in crate::bridge) fn due(&self, online: bool) -> Option<Moment> {
        let something = self.untold.keys().any(|cause| online || *cause != Cause::Qos0);
        something.then(|| self.told.map_or(Moment::ZERO, |told| told + DROPS_TOLD))
    }

    /// The events that are due.
    pub(in crate::bridge) fn tell(
        &mut self,
        bridge: &str,
        topic: &TopicName,
        online: bool,
        now: Moment,
        wall: Timestamp,
    ) -> Vec<Message> {
        if self.due(online).is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.told = Some(now);
        let (kept, told): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.untold).into_iter().partition(|(cause, _)| !online && *cause == Cause::Qos0);
        self.untold = kept;
        let mut messages = Vec::new();
        for (cause, dropped) in told {
            let cause = cause.word();
            tracing::warn!(bridge, cause, dropped = dropped.count, "messages for the cloud were dropped");
            let mut more = Map::new();
            more.insert("cause".into(), cause.into());
            more.insert("count".into(), dropped.count.into());
            if dropped.seqs.1 > Seq(0) {
                more.insert("seq".into(), json!([dropped.seqs.0.0, dropped.seqs.1.0]));
            }
            more.insert("time".into(), json!([rfc3339(dropped.times_ms.0), rfc3339(dropped.times_ms.1)]));
            if dropped.unsynced {
                more.insert("time_tq".into(), "unsynced".into());
            }
            messages.push(event(bridge, topic, "dropped", wall, more));
        }
        messages
    }
}

/// An event of this bridge on the gateway's event topic.
pub(in crate::bridge) fn event(
    bridge: &str,
    topic: &TopicName,
    kind: &str,
    at: Timestamp,
    more: Map<String, Value>,
) -> Message {
    let mut particulars = Map::new();
    particulars.insert("bridge".into(), bridge.into());
    particulars.extend(more);
    status::event(topic, kind, at, particulars)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(drops: &mut Drops, online: bool, now: Moment) -> Vec<String> {
        let topic = TopicName::parse("event").unwrap();
        let wall = Timestamp { unix_ms: 1_795_396_500_120, synced: true, at: None };
        let messages = drops.tell("cloud", &topic, online, now, wall);
        messages.iter().map(|message| String::from_utf8(message.payload.to_vec()).unwrap()).collect()
    }

    fn dropped(count: u64, first: u64, last: u64) -> Dropped {
        Dropped { count, seqs: (Seq(first), Seq(last)), times_ms: (1_000, 2_500), unsynced: false }
    }

    #[test]
    fn drops_are_told_together_with_their_range() {
        let mut drops = Drops::default();
        drops.add(Cause::StoreFull, dropped(256, 5, 260));
        drops.add(Cause::StoreFull, dropped(256, 261, 520));
        let start = Moment::ZERO + DROPS_TOLD;
        assert_eq!(
            told(&mut drops, true, start),
            [concat!(
                r#"{"ts":"2026-11-23T01:15:00.120Z","kind":"dropped","bridge":"cloud","cause":"store-full","count":512,"#,
                r#""seq":[5,520],"time":["1970-01-01T00:00:01.000Z","1970-01-01T00:00:02.500Z"]}"#
            )]
        );
        drops.add(Cause::StoreFull, dropped(1, 521, 521));
        assert!(told(&mut drops, true, start).is_empty(), "not twice at once");
        assert_eq!(told(&mut drops, true, start + DROPS_TOLD).len(), 1);
        assert_eq!((drops.total(), drops.by_cause()), (513, vec![("store-full".to_owned(), 513)]));
    }

    #[test]
    fn drops_of_a_time_that_nobody_knows_say_so() {
        let mut drops = Drops::default();
        drops.add(Cause::StoreFull, dropped(1, 5, 5));
        drops.add_record(Cause::StoreFull, Seq(6), Timestamp { unix_ms: 500, synced: false, at: None });
        let events = told(&mut drops, true, Moment::ZERO + DROPS_TOLD);
        let range = r#""time":["1970-01-01T00:00:00.500Z","1970-01-01T00:00:02.500Z"],"time_tq":"unsynced"}"#;
        assert!(events[0].ends_with(range), "{events:?}");
    }

    #[test]
    fn qos_0_lost_in_an_outage_is_told_after_it() {
        let mut drops = Drops::default();
        drops.add_unstored(Cause::Qos0, 7, Timestamp { unix_ms: 0, synced: true, at: None });
        assert!(told(&mut drops, false, Moment::ZERO + DROPS_TOLD).is_empty());
        let events = told(&mut drops, true, Moment::ZERO + DROPS_TOLD);
        assert!(events[0].contains(r#""cause":"qos0-offline","count":7"#), "{events:?}");
        assert_eq!(drops.total(), 7);
    }
}

//! What must hold of a run: during it, and of what arrived in the end.

use std::collections::BTreeMap;

use super::{World, number};
use crate::bridge::core::Core;
use crate::logic::flight::Claim;
use crate::model::time::rfc3339;
use crate::model::{Priority, Qos, Seq};

impl World {
    /// What arrived is what was offered, or the same with its true time; and always in the same words.
    fn judge_payloads(&mut self) {
        let mut first: BTreeMap<usize, String> = BTreeMap::new();
        for arrival in &self.cloud.arrived {
            let payload = String::from_utf8(arrival.payload.clone()).unwrap();
            let id = number(&payload);
            assert_eq!(*first.entry(id).or_insert_with(|| payload.clone()), payload, "{id} came in other words");
        }
        for (id, payload) in first {
            let owed = self.owed.contains(&id);
            if payload == self.sent[id].payload {
                assert!(!owed, "{payload} was sent as a guess though the clock was set");
                continue;
            }
            self.mended += 1;
            let (true_ms, _) = self.sent[id].guessed.expect("only a guess of ours is mended");
            let told: serde_json::Value = serde_json::from_str(&payload).unwrap();
            let time: jiff::Timestamp = told["ts"].as_str().unwrap().parse().unwrap();
            let off_ms = time.as_millisecond() - true_ms;
            // A clock that counts as set and is wrong is believed: nobody can know better.
            let errors_ms = if owed { &[0][..] } else { &self.errors_ms };
            assert!(errors_ms.iter().any(|error_ms| (off_ms - error_ms).abs() <= 5), "{payload} is off by {off_ms} ms");
            assert_eq!(payload, format!(r#"{{"ts":"{}","n":{id}}}"#, rfc3339(time.as_millisecond())));
        }
    }

    pub(super) fn judge(&mut self) {
        // What is sent once more since nobody knows that it was sent may have got its true time meanwhile.
        if self.power_cuts == 0 {
            self.judge_payloads();
        }
        assert_eq!(self.cloud.violations, Vec::<String>::new());
        let mut count: BTreeMap<usize, u32> = BTreeMap::new();
        let mut firsts: BTreeMap<(String, Qos), Vec<usize>> = BTreeMap::new();
        for arrival in &self.cloud.arrived {
            let id = number(std::str::from_utf8(&arrival.payload).unwrap());
            let times = count.entry(id).or_default();
            *times += 1;
            if *times == 1 {
                firsts.entry((arrival.topic.clone(), arrival.qos)).or_default().push(id);
            } else {
                assert!(arrival.qos == Qos::AtLeastOnce || self.forgotten + self.power_cuts > 0, "{id} came twice");
            }
            let sent = &self.sent[id];
            assert_eq!((&sent.topic, sent.qos), (&arrival.topic, arrival.qos));
        }
        for ids in firsts.values() {
            self.judge_order(ids);
        }
        for (id, sent) in self.sent.iter().enumerate() {
            assert!(!sent.accepted || count.contains_key(&id), "{id} was accepted and is lost");
        }
    }

    /// The messages of one topic and QoS come in order; with `live-first`, one may go ahead of those that were accepted before the link came up.
    fn judge_order(&mut self, ids: &[usize]) {
        for (place, id) in ids.iter().enumerate() {
            for earlier in ids[..place].iter().filter(|earlier| *earlier > id) {
                let epochs = (self.sent[*id].epoch, self.sent[*earlier].epoch);
                let waited = self.live_first && epochs.0 < epochs.1;
                assert!(waited, "{id} of {:?} came after {earlier} of {:?}", epochs.0, epochs.1);
                self.overtaken += 1;
            }
        }
    }

    /// Of what went on the wire with this turn, nothing was less urgent than something that could have gone.
    pub(super) fn judge_urgency(&mut self, before: &[Claim]) {
        let core = self.core.as_ref().unwrap();
        let Some(outbox) = &core.outbox else { return };
        let put = core.flight.in_order().into_iter().filter(|claim| !before.iter().any(|old| old.seq == claim.seq));
        let Some(least) = put.map(|claim| claim.priority).max() else { return };
        for priority in Priority::ALL.into_iter().filter(|priority| *priority < least) {
            let waiting = outbox.between(priority, (Seq(0), Seq(u64::MAX)), 1_000, usize::MAX).unwrap();
            let first = waiting.into_iter().find(|record| !core.flight.holds(record.seq) && !ended(core, record.seq));
            // One of QoS 2 waits for a window of its own, and with live-first there may be another behind it that does.
            assert!(first.is_none_or(|record| record.qos == Qos::ExactlyOnce), "{priority:?} waits behind {least:?}");
        }
    }
}

/// Whether the cloud has it already, and only its removal is due.
fn ended(core: &Core, seq: Seq) -> bool {
    core.finished.iter().any(|claim| claim.seq == seq)
}

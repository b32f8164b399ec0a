//! The chains of one bus, and what its port said last: a sensor that is changed in the middle of a line does not take the rest for a whole one.

use std::collections::BTreeMap;

use super::SensorView;
use super::chain::Chain;
use super::stream::StreamChain;
use crate::drivers::Factory;
use crate::limits::PORT_RECENT_BYTES;
use crate::model::{Message, Moment, Timestamp};
use crate::plan::SensorPlan;

/// The chains of one bus.
#[derive(Default)]
pub(super) struct Chains {
    chains: Vec<StreamChain>,
    recent: Recent,
}

impl Chains {
    /// Makes them equal to the plans, in their order. An unchanged sensor goes on as it is; what half a frame it has is kept.
    pub(super) fn apply(&mut self, plans: &[SensorPlan], away: bool, now: Moment, out: &mut Vec<Message>) {
        let mut running: BTreeMap<_, _> = std::mem::take(&mut self.chains)
            .into_iter()
            .map(|chain| (chain.chain().plan().id.clone(), chain))
            .collect();
        for plan in plans {
            // The plan gives a serial port drivers of its kind alone.
            let Factory::Stream(factory) = &plan.factory else { continue };
            let chain = match running.remove(&plan.id) {
                Some(chain) if chain.chain().plan() == plan => chain,
                replaced => {
                    if let Some(mut old) = replaced {
                        old.chain_mut().replaced(plan, now, out);
                    }
                    let mut chain = StreamChain::new(plan.clone(), factory.as_ref(), now);
                    if away {
                        chain.port_away(now, out);
                    } else {
                        chain.take_over(&self.recent.bytes, self.recent.cut);
                    }
                    chain
                }
            };
            self.chains.push(chain);
        }
        for mut removed in running.into_values() {
            removed.chain_mut().end(now, out);
        }
    }

    /// The port was opened.
    pub(super) fn port_opened(&mut self) {
        self.recent = Recent::default();
        for chain in &mut self.chains {
            chain.port_opened();
        }
    }

    /// The port went away.
    pub(super) fn port_away(&mut self, now: Moment, out: &mut Vec<Message>) {
        self.recent = Recent::default();
        for chain in &mut self.chains {
            chain.port_away(now, out);
        }
    }

    /// Bytes came, as told to each chain.
    pub(super) fn received(
        &mut self,
        bytes: &[u8],
        midway: bool,
        now: Moment,
        time: Timestamp,
        out: &mut Vec<Message>,
    ) {
        self.recent.push(bytes, midway);
        for chain in &mut self.chains {
            chain.received(bytes, midway, now, time, out);
        }
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now: Moment, out: &mut Vec<Message>) {
        for chain in &mut self.chains {
            chain.chain_mut().tick(now, out);
        }
    }

    /// The sensors are no longer read.
    pub(super) fn end(&mut self, now: Moment, out: &mut Vec<Message>) {
        for chain in &mut self.chains {
            chain.chain_mut().end(now, out);
        }
    }

    /// When the first wants a tick.
    pub(super) fn timeout(&self) -> Option<Moment> {
        self.chains.iter().map(StreamChain::chain).filter_map(Chain::timeout).min()
    }

    /// What a screen shows of them.
    pub(super) fn views(&self) -> impl Iterator<Item = &SensorView> {
        self.chains.iter().map(StreamChain::chain).map(Chain::view)
    }
}

/// What the port said last since it was opened.
#[derive(Default)]
struct Recent {
    bytes: Vec<u8>,
    /// Its first byte may stand in the middle of a line.
    cut: bool,
}

impl Recent {
    fn push(&mut self, bytes: &[u8], midway: bool) {
        self.cut |= midway;
        self.bytes.extend_from_slice(bytes);
        let surplus = self.bytes.len().saturating_sub(PORT_RECENT_BYTES);
        if surplus > 0 {
            self.bytes.drain(..surplus);
            self.cut = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::logic::pipeline::ValueSettings;
    use crate::sensing::tests::sensor;

    const LEVEL: &str = "match = { csv = ['level', 't'] }";

    fn now() -> Moment {
        Moment::at(Duration::from_secs(1))
    }

    fn receive(chains: &mut Chains, bytes: &str) -> Vec<String> {
        let mut out = Vec::new();
        let time = Timestamp { unix_ms: 0, synced: true, at: None };
        chains.received(bytes.as_bytes(), false, now(), time, &mut out);
        payloads(&out, "tank/level")
    }

    fn payloads(messages: &[Message], topic: &str) -> Vec<String> {
        let on_topic = messages.iter().filter(|message| message.topic.as_str() == topic);
        on_topic.map(|message| String::from_utf8(message.payload.to_vec()).unwrap()).collect()
    }

    fn apply(chains: &mut Chains, plan: SensorPlan) -> Vec<Message> {
        let mut out = Vec::new();
        chains.apply(&[plan], false, now(), &mut out);
        out
    }

    fn changed(mut plan: SensorPlan) -> SensorPlan {
        plan.publish.retain = !plan.publish.retain;
        plan
    }

    #[test]
    fn a_sensor_changed_in_the_middle_of_a_line_reads_that_line_whole() {
        let mut chains = Chains::default();
        apply(&mut chains, sensor("tank", "a", LEVEL));
        chains.port_opened();
        assert_eq!(receive(&mut chains, "1940,14.0\n19"), ["1940"]);
        apply(&mut chains, changed(sensor("tank", "a", LEVEL)));
        assert_eq!(receive(&mut chains, "50,14.0\n"), ["1950"], "neither 50 nor a second 1940");
    }

    #[test]
    fn a_line_whose_beginning_is_not_remembered_is_dropped_and_the_next_is_read() {
        let mut chains = Chains::default();
        apply(&mut chains, sensor("tank", "a", LEVEL));
        chains.port_opened();
        receive(&mut chains, &"1".repeat(PORT_RECENT_BYTES + 1));
        let wide = "match = { csv = ['level', 't'] }\nframe = { max = 65536 }";
        apply(&mut chains, sensor("tank", "a", wide));
        assert_eq!(receive(&mut chains, "50,14.0\n1960,14.0\n"), ["1960"]);
    }

    #[test]
    fn a_line_from_before_the_port_went_away_is_not_continued() {
        let mut chains = Chains::default();
        apply(&mut chains, sensor("tank", "a", LEVEL));
        chains.port_opened();
        receive(&mut chains, "19");
        chains.port_away(now(), &mut Vec::new());
        chains.port_opened();
        apply(&mut chains, changed(sensor("tank", "a", LEVEL)));
        assert_eq!(receive(&mut chains, "50,14.0\n"), ["50"]);
    }

    #[test]
    fn a_replaced_sensor_tells_what_it_held_back_and_does_not_go_offline() {
        let mut plan = sensor("tank", "a", LEVEL);
        let still = |name: &str| ValueSettings { name: name.into(), deadband: Some(50.0), ..ValueSettings::default() };
        plan.pipeline.values = vec![still("level"), still("t")];
        let mut chains = Chains::default();
        apply(&mut chains, plan.clone());
        chains.port_opened();
        assert_eq!(receive(&mut chains, "1940,14.0\n1950,14.0\n"), ["1940"]);
        let out = apply(&mut chains, changed(plan));
        assert_eq!(payloads(&out, "tank/level"), ["1950"]);
        assert_eq!(payloads(&out, "tank/availability"), [""; 0]);
    }
}

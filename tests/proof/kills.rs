//! `kill -9` while messages come in, alone and with the connection cut between packets.

use std::time::Duration;

use fastrand::Rng;

use crate::Orders;
use crate::feed::Feed;
use crate::judge::{Total, judge, missing};
use crate::page::{Page, thousands};
use crate::strike::{gateway, kill, set_aside, wait_for_cuts};
use crate::support::receiver::{Deliver, Receiver, Terms};

/// Time the receiver takes for a message: some 1,500 a second are all it can do, so that something is always on its way, also on a machine that is
/// quick and quiet.
const PACE: Duration = Duration::from_micros(600);
/// Of each topic, so many of the newest are looked for at a kill.
const NEWEST: usize = 1_000;
/// A cut comes about every so many packets.
const CUT_EVERY: u32 = 150;

struct Leg {
    name: &'static str,
    version: &'static str,
    deliver: Deliver,
    kills: u64,
    cuts: u32,
    per_second: u64,
}

pub(crate) fn run(orders: &Orders, page: &mut Page) {
    page.say(
        "Two local publishers send 2,000 messages a second, QoS 1 and 2 by turns. The process is killed with SIGKILL, 30 to 500 ms after its start, \
         and started anew; the publishers connect again and go on. What they had an acknowledgement for must reach the cloud. The judge is the strict \
         receiver, which takes fewer messages a second than that, so that some are always on their way. With cuts, it also closes the \
         connection at the boundary of a packet: before it looks at it, before it answers, or after its answer, and the publishers send 1,000 a second.",
    );
    let kills = orders.kills(100, 10);
    let cuts = u32::try_from(orders.number(1_000, 50)).expect("few cuts");
    let legs = [
        Leg { name: "kills, MQTT 5", version: "5", deliver: Deliver::AtPublish, kills, cuts: 0, per_second: 2_000 },
        Leg {
            name: "kills and cuts, MQTT 5",
            version: "5",
            deliver: Deliver::AtPublish,
            kills,
            cuts,
            per_second: 1_000,
        },
        Leg {
            name: "kills and cuts, 3.1.1, delivery at PUBREL",
            version: "3.1.1",
            deliver: Deliver::AtRelease,
            kills,
            cuts,
            per_second: 1_000,
        },
    ];
    let legs = if orders.quick { &legs[..2] } else { &legs[..] };
    let mut total = Total::default();
    for (leg, seed) in legs.iter().zip(orders.seed..) {
        fight(leg, seed, page, &mut total);
    }
    let claim = format!(
        "killed {} times, cut off between packets {} times: acknowledged messages lost / QoS 2 doubled / out of order",
        thousands(total.kills),
        thousands(total.cuts)
    );
    page.summary(&claim, "0 / 0 / 0", total.told());
}

fn fight(leg: &Leg, seed: u64, page: &mut Page, total: &mut Total) {
    let Leg { name, version, deliver, kills, cuts, per_second } = *leg;
    println!("  {name}");
    let mut random = Rng::with_seed(seed);
    let receiver = Receiver::start(Terms { deliver, ..Terms::default() }, seed);
    receiver.treat(|treatment| {
        (treatment.pace, treatment.cut_every, treatment.cuts_left) = (PACE, if cuts > 0 { CUT_EVERY } else { 0 }, cuts);
    });
    let mut gateway = gateway(&receiver.url(), version, "");
    gateway.start();
    let feed = Feed::start(gateway.door().port, per_second);
    let under_way = |feed: &Feed| [1, 2].iter().any(|qos| missing(&receiver, &feed.newest(NEWEST), *qos) > 0);
    // Kills and cuts are spread over each other.
    let until_ready = |kill| wait_for_cuts(u64::from(cuts) * kill / (kills + 1), || receiver.cuts());
    let hits = kill(&mut gateway, &feed, &mut random, kills, under_way, until_ready);
    wait_for_cuts(cuts.into(), || receiver.cuts());
    let (streams, rate) = feed.end();
    receiver.treat(|treatment| (treatment.pace, treatment.cut_every) = (Duration::ZERO, 0));
    let outcome = judge(&receiver, &streams);
    page.at_least(name, "kills that fell while acknowledged messages were on their way", kills * 8 / 10, hits);
    if cuts > 0 {
        page.at_least(name, "cuts", cuts.into(), receiver.cuts());
    }
    page.zero(name, "stores set aside as damaged", set_aside(&gateway));
    outcome.claim_exactness(page, name);
    page.say(format!(
        "{name}: {kills} kills, {} cuts, {} connections, {rate:.0} messages a second while the gateway was there. {}.",
        thousands(receiver.cuts()),
        thousands(receiver.connections()),
        outcome.told()
    ));
    total.add(kills, receiver.cuts(), &outcome);
}

//! A cloud that forgets the session at each fifth connection, while the process is killed and cut off.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::Orders;
use crate::feed::Feed;
use crate::judge::{Outcome, judge_after};
use crate::page::{Page, thousands};
use crate::strike::{gateway, kill, wait_for_cuts};
use crate::support::receiver::{Deliver, Receiver, Terms};
use crate::support::{Gateway, free_port, wait_until};
use crate::web::metric;

/// As in the campaign of kills: slower than the publishers, so that handshakes are open when a blow falls.
const PACE: Duration = Duration::from_micros(600);
const PER_SECOND: u64 = 1_000;
const CUT_EVERY: u32 = 150;
const FORGET_EVERY: u64 = 5;
/// Sessions forgotten with nothing else going on, and how slow the cloud is then: too slow for the publishers, so that something is in flight each time.
const COUNTED: u64 = 10;
const SLOW: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(60);
/// Longest until the metrics tell it.
const TOLD: Duration = Duration::from_secs(5);
/// What is lost here is lost for good: it is not waited for as long.
const STUCK: Duration = Duration::from_secs(20);

pub(crate) fn run(orders: &Orders, page: &mut Page) {
    let (kills, cuts) = (orders.kills(60, 6), orders.number(800, 60));
    page.say(
        "As the campaign of kills and cuts, and the cloud forgets the session at each fifth CONNECT. Nobody can be exact then: the cloud no longer knows \
         which QoS 2 messages it was half handed. It delivers at PUBREL, as Mosquitto does, so that a handshake it forgot is a message it does not have. \
         With `on_session_loss = \"resend\"`, the default, they are sent again and may come twice; what may be lost is a handshake whose CONNACK nobody \
         saw, since it was cut off or the process was killed before it had read it. With `\"no-loss\"` those are sent again as well, so that nothing is \
         lost. With `\"drop-uncertain\"` nothing comes twice.",
    );
    let run = "resend";
    let default = fight(run, orders.seed, kills, cuts, page);
    let [once, exact] = default.lost;
    let of = thousands(default.acknowledged);
    page.claim(run, "acknowledged QoS 1 messages lost", "0", format!("{once} of {of}"), once == 0);
    let part = exact as f64 / (default.acknowledged as f64 / 2.0) * 100.0;
    page.claim(run, "acknowledged QoS 2 messages lost", "<= 0.1 %", format!("{exact}, {part:.3} %"), part <= 0.1);
    page.zero(run, "packet ids used twice", default.verdict.ids_reused);
    page.summary(
        &format!(
            "the session forgotten at each 5th connection, {kills} kills, {cuts} cuts, `resend`: lost QoS 1 / QoS 2"
        ),
        "0 / <= 0.1 %",
        format!("{once} / {part:.3} %"),
    );
    let run = "no-loss";
    let sure = fight(run, orders.seed + 1, kills, cuts, page);
    sure.claim_lost(page, run);
    page.zero(run, "packet ids used twice", sure.verdict.ids_reused);
    page.claim(run, "QoS 2 messages doubled, which it accepts", "", thousands(sure.verdict.doubled), true);
    page.summary("the same, `no-loss`: lost QoS 1 / QoS 2", "0 / 0", format!("{} / {}", sure.lost[0], sure.lost[1]));
    let run = "drop-uncertain";
    let careful = fight(run, orders.seed + 2, kills, cuts, page);
    page.zero(run, "QoS 2 messages doubled", careful.verdict.doubled);
    page.zero(run, "acknowledged QoS 1 messages lost", careful.lost[0]);
    page.zero(run, "packet ids used twice", careful.verdict.ids_reused);
    page.summary("the same, `drop-uncertain`: QoS 2 doubled", "0", careful.verdict.doubled);
}

fn fight(policy: &str, seed: u64, kills: u64, cuts: u64, page: &mut Page) -> Outcome {
    println!("  {policy}");
    let mut random = Rng::with_seed(seed);
    let receiver = Receiver::start(Terms { deliver: Deliver::AtRelease, ..Terms::default() }, seed);
    receiver.treat(|treatment| {
        treatment.pace = PACE;
        (treatment.cut_every, treatment.cuts_left) = (CUT_EVERY, u32::try_from(cuts).expect("few cuts"));
        treatment.forget_every = FORGET_EVERY;
    });
    let web = free_port();
    let more = format!("on_session_loss = \"{policy}\"\n[http]\nlisten = \"127.0.0.1:{web}\"");
    let mut gateway = gateway(&receiver.url(), "5", &more);
    gateway.start();
    let feed = Feed::start(gateway.door().port, PER_SECOND);
    // A kill counts as a hit while the cloud was half handed a message: only those can be lost with its session.
    let under_way = |_: &Feed| receiver.held() > 0;
    let until_ready = |kill| wait_for_cuts(cuts * kill / (kills + 1), || receiver.cuts());
    let hits = kill(&mut gateway, &feed, &mut random, kills, under_way, until_ready);
    wait_for_cuts(cuts, || receiver.cuts());
    let made = receiver.cuts();
    let (forgotten, counted) = count_alone(&mut gateway, &receiver, web);
    let (streams, _) = feed.end();
    receiver.treat(|treatment| (treatment.pace, treatment.cut_every, treatment.forget_every) = (Duration::ZERO, 0, 0));
    let outcome = judge_after(STUCK, &receiver, &streams);
    page.at_least(policy, "kills that fell while QoS 2 handshakes were open", kills * 8 / 10, hits);
    page.at_least(policy, "cuts", cuts, made);
    page.at_least(policy, "sessions forgotten", (cuts + kills) / (FORGET_EVERY + 1), receiver.forgotten());
    let claim = "sessions lost by the metrics, of those forgotten one after the other once the kills were over";
    page.claim(policy, claim, &forgotten.to_string(), counted, counted == forgotten);
    page.say(format!(
        "{policy}: {} sessions forgotten over {} connections. {}; of QoS 2, {} were lost and {} came more than once.",
        receiver.forgotten(),
        thousands(receiver.connections()),
        outcome.told(),
        outcome.lost[1],
        outcome.verdict.doubled
    ));
    outcome
}

/// Cuts the connection and forgets the session time after time, without kills, and with a CONNACK that arrives; how many were forgotten, and how many the
/// gateway says were.
///
/// Before, a gateway that was killed has forgotten its count, and one whose CONNACK was cut off cannot know.
fn count_alone(gateway: &mut Gateway, receiver: &Receiver, web: u16) -> (u64, u64) {
    receiver.treat(|treatment| (treatment.cut_every, treatment.forget_every, treatment.pace) = (0, 0, SLOW));
    gateway.kill();
    gateway.start();
    // So there is a connection, or the first to be cut were its CONNECT.
    wait_until(LIMIT, "the bridge to go on", || metric(web, "tidegate_bridge_published_total", "") > 0);
    let before = receiver.forgotten();
    for _ in 0..COUNTED {
        let last = receiver.forgotten();
        receiver.treat(|treatment| (treatment.cut_every, treatment.cuts_left, treatment.forget_every) = (1, 1, 1));
        wait_until(LIMIT, "the bridge to come back", || receiver.forgotten() > last);
        // A handshake that is open in the new session: it has read the CONNACK.
        wait_until(LIMIT, "messages in flight", || receiver.held() > 0);
    }
    receiver.treat(|treatment| treatment.forget_every = 0);
    let forgotten = receiver.forgotten() - before;
    let told = || metric(web, "tidegate_bridge_sessions_lost_total", "");
    let until = Instant::now() + TOLD;
    while told() < forgotten && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    (forgotten, told())
}

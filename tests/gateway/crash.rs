//! Is anything lost or doubled when the process is killed, or the link cut, while records wait?
//!
//! Every campaign first fills the store while the cloud is away, then lets it drain slowly, so that each blow falls into the drain; that it
//! did is asserted. The judge is the strict receiver; Mosquitto, as it comes out of the box, is the second.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::mosquitto::Setup;
use crate::support::receiver::ledger::{Ledger, number};
use crate::support::receiver::wire::Publish;
use crate::support::receiver::{Deliver, Receiver, Sent, Terms, Verdict};
use crate::support::{Cut, Gateway, Link, Subscriber, wait_for, wait_until};

/// Longest a drain may take without a single record arriving.
const STUCK: Duration = Duration::from_secs(30);
/// Messages of each QoS: 5,000 together.
const EACH: u64 = 2_500;

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "@cloud@"
version = "@version@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#" } ]
"#;

fn gateway(cloud: &str, version: &str) -> Gateway {
    let mut gateway = Gateway::new(CONFIG, &[("cloud", cloud), ("version", version)]);
    gateway.start();
    gateway
}

fn sent(each: u64) -> [Sent; 2] {
    [Sent::new("data/once", 1, 1..=each), Sent::new("data/exact", 2, 1..=each)]
}

/// The messages of [`sent`], the two streams by turns.
fn messages(each: u64) -> Vec<(String, u8, String)> {
    let pair = |n: u64| [("data/once".to_owned(), 1, n.to_string()), ("data/exact".to_owned(), 2, n.to_string())];
    (1..=each).flat_map(pair).collect()
}

/// Hands everything to the gateway, and has its word for every message.
fn fill(gateway: &Gateway) {
    let mut client = Client::connect(gateway.door().port, "producer").unwrap();
    client.publish(&messages(EACH), 200).assert_complete(2 * usize::try_from(EACH).unwrap());
}

/// Waits until `arrived` reaches `count`, failing when it stops rising.
#[track_caller]
fn wait_for_arrival(count: u64, arrived: impl Fn() -> u64) {
    let mut best = 0;
    while best < count {
        let before = best;
        best = wait_for(STUCK, &format!("{count} messages to arrive"), || {
            let now = arrived();
            if now > before || now >= count { Ok(now) } else { Err(format!("{now} arrived")) }
        });
    }
}

/// Deals `blows` blows spread over the drain, each at a time when records wait.
fn strike(blows: u64, arrived: impl Fn() -> u64, mut blow: impl FnMut()) {
    for n in 1..=blows {
        wait_for_arrival(2 * EACH * n / (blows + 1), &arrived);
        blow();
        let arrived = arrived();
        assert!(arrived < 2 * EACH, "blow {n} of {blows} fell after the drain: {arrived} had arrived");
    }
}

/// The end of a campaign on the strict receiver.
fn judge(receiver: &Receiver) {
    receiver.treat(|treatment| treatment.pace = Duration::ZERO);
    wait_for_arrival(2 * EACH, || receiver.arrived(&sent(EACH)));
    wait_for(STUCK, "the last handshake", || {
        let held = receiver.held();
        if held == 0 { Ok(()) } else { Err(format!("{held} held")) }
    });
    let verdict = receiver.verdict(&sent(EACH));
    println!("{} connections, {verdict:?}", receiver.connections());
    assert_eq!(verdict, Verdict::faultless(verdict.repeated));
}

/// A strict receiver that is away until the store is full, then takes its time.
fn filled(terms: Terms, seed: u64, version: &str, via: impl Fn(&Receiver) -> String) -> (Receiver, Gateway) {
    let receiver = Receiver::start(terms, seed);
    receiver.treat(|treatment| treatment.away = true);
    let gateway = gateway(&via(&receiver), version);
    fill(&gateway);
    receiver.treat(|treatment| (treatment.away, treatment.pace) = (false, Duration::from_micros(300)));
    (receiver, gateway)
}

fn twenty_kills(terms: Terms, seed: u64, version: &str) {
    let (receiver, mut gateway) = filled(terms, seed, version, Receiver::url);
    let mut random = fastrand::Rng::with_seed(seed);
    strike(
        20,
        || receiver.arrived(&sent(EACH)),
        || {
            // Not always at the same place of the engine's turn.
            std::thread::sleep(Duration::from_micros(random.u64(0..20_000)));
            gateway.kill();
            gateway.start();
        },
    );
    judge(&receiver);
}

#[test]
fn twenty_kills_in_the_drain_over_3_1_1() {
    twenty_kills(Terms::default(), 11, "3.1.1");
}

#[test]
fn twenty_kills_in_the_drain_over_5_with_a_receive_maximum() {
    twenty_kills(Terms { receive_maximum: Some(50), ..Terms::default() }, 12, "5");
}

#[test]
fn twenty_kills_in_the_drain_into_a_receiver_that_delivers_at_pubrel() {
    twenty_kills(Terms { deliver: Deliver::AtRelease, ..Terms::default() }, 13, "auto");
}

#[test]
fn sixty_cut_links_in_the_drain() {
    let links = std::cell::RefCell::new(None);
    let (receiver, _gateway) =
        filled(Terms::default(), 21, "auto", |receiver| links.borrow_mut().insert(Link::to(receiver.port())).url());
    let link = links.into_inner().expect("made above");
    let mut cuts = [Cut::Reset, Cut::Fin].into_iter().cycle();
    strike(
        60,
        || receiver.arrived(&sent(EACH)),
        || {
            let before = link.opened();
            link.cut(cuts.next().expect("it goes round"));
            // The next cut must meet a connection.
            wait_for(STUCK, "the gateway to dial again", || {
                if link.opened() > before { Ok(()) } else { Err(format!("{before} connections")) }
            });
        },
    );
    judge(&receiver);
}

#[test]
fn sixty_cuts_at_packet_boundaries_in_the_drain() {
    let (receiver, _gateway) = filled(Terms::default(), 22, "auto", Receiver::url);
    receiver.treat(|treatment| (treatment.cut_every, treatment.cuts_left) = (80, 60));
    wait_for_arrival(2 * EACH, || receiver.arrived(&sent(EACH)));
    assert_eq!(receiver.cuts(), 60, "all cuts fell into the drain");
    judge(&receiver);
}

/// A cloud that forgets cannot be served exactly: what was under way is sent again, which may double it and must not lose it.
#[test]
fn a_cloud_that_forgets_its_sessions_loses_nothing() {
    let (receiver, _gateway) = filled(Terms::default(), 23, "auto", Receiver::url);
    receiver.treat(|treatment| (treatment.cut_every, treatment.cuts_left, treatment.forget_every) = (80, 60, 5));
    wait_for_arrival(2 * EACH, || receiver.arrived(&sent(EACH)));
    assert_eq!(receiver.cuts(), 60, "all cuts fell into the drain");
    assert!(receiver.forgotten() >= 10, "{} sessions forgotten", receiver.forgotten());
    let verdict = receiver.verdict(&sent(EACH));
    println!("{} sessions forgotten, {verdict:?}", receiver.forgotten());
    assert_eq!(verdict, Verdict { doubled: verdict.doubled, ..Verdict::faultless(verdict.repeated) });
}

#[test]
fn twenty_kills_in_the_drain_into_a_mosquitto_as_it_comes() {
    need_mosquitto!();
    let cloud = Setup::stock().start();
    let above = Subscriber::with(&cloud.door(), "data/#", &["-q", "2"]);
    let link = Link::to(cloud.port());
    link.down();
    let mut gateway = gateway(&link.url(), "3.1.1");
    fill(&gateway);
    link.rate(50_000);
    link.up();
    let arrived = || {
        let got: BTreeSet<_> = above.received().into_iter().map(|m| (m.topic, m.payload)).collect();
        got.len() as u64
    };
    strike(20, arrived, || {
        gateway.kill();
        gateway.start();
    });
    link.rate(0);
    wait_for_arrival(2 * EACH, arrived);
    let mut ledger = Ledger::default();
    for message in above.received() {
        // DUP and packet ids are between Mosquitto and its subscriber here, and not looked at.
        let payload = message.payload.into_bytes();
        ledger.accept(&Publish { topic: message.topic, qos: message.qos, dup: true, retain: false, id: 0, payload });
    }
    let verdict = ledger.verdict(&sent(EACH));
    println!("{verdict:?}");
    assert_eq!((verdict.lost, verdict.doubled, verdict.strange), (0, 0, 0));
}

#[test]
fn what_a_local_client_has_an_acknowledgement_for_survives_a_kill() {
    let receiver = Receiver::start(Terms::default(), 31);
    let mut gateway = gateway(&receiver.url(), "auto");
    let mut random = fastrand::Rng::with_seed(31);
    let (mut attempted, mut acknowledged) = (0_u64, BTreeSet::new());
    for round in 1..=10 {
        let first = attempted + 1;
        attempted += 20_000;
        let numbered: Vec<_> = (first..=attempted)
            .map(|n| if n % 2 == 0 { ("data/exact", 2, n) } else { ("data/once", 1, n) })
            .map(|(topic, qos, n)| (topic.to_owned(), qos, n.to_string()))
            .collect();
        let port = gateway.door().port;
        let mut client = Client::connect(port, "producer").unwrap();
        let answered = client.answered();
        let producer = std::thread::spawn(move || client.publish(&numbered, 50));
        wait_until(STUCK, "the first acknowledgement", || answered.load(Ordering::Relaxed) > 0);
        std::thread::sleep(Duration::from_millis(random.u64(0..300)));
        gateway.kill();
        let outcome = producer.join().unwrap();
        assert!(outcome.error.is_some(), "round {round}: the kill fell after the last acknowledgement");
        assert!(!outcome.acknowledged.is_empty(), "round {round}: the kill fell before the first acknowledgement");
        acknowledged.extend(outcome.acknowledged.iter().map(|index| first + *index as u64));
        gateway.start();
    }
    let missing = || {
        let arrived: BTreeSet<u64> = receiver.accepted().iter().filter_map(|m| number(&m.payload)).collect();
        acknowledged.difference(&arrived).count()
    };
    println!("{} acknowledged of {attempted} attempted", acknowledged.len());
    wait_for(STUCK, "every acknowledged message", || {
        let missing = missing();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} of {} are missing", acknowledged.len())) }
    });
    let verdict = receiver.verdict(&[Sent::new("data/exact", 2, 1..=attempted)]);
    assert_eq!((verdict.doubled, verdict.ids_reused, verdict.violations), (0, 0, Vec::new()));
}

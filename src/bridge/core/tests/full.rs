//! What becomes of messages at the store's limits: every one is delivered, or dropped and counted by its cause, whatever the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::Ended;
use super::bench::Bench;
use crate::bridge::intake::Offered;
use crate::bridge::settings::{Full, OutRule, Settings, Share};
use crate::clock::Clock;
use crate::model::{Priority, Qos, RuleId, TopicFilter};
use crate::ports::NotAccepted;

const POLICIES: [Full; 4] = [Full::DropOldest, Full::DropNewest, Full::Thin, Full::Block];

fn full(policy: Full, max_messages: u64) -> Bench {
    Bench::with(|settings| {
        settings.outbox.full = policy;
        settings.outbox.max_messages = max_messages;
    })
}

/// Offers it, gives it time, and makes a turn.
fn offer(bench: &mut Bench, offered: Offered) {
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.clock.advance(Duration::from_millis(60));
    let (up, _) = bench.turn(0);
    if bench.core.is_online() {
        bench.cloud.feed(&up);
    }
}

fn client(bench: &Bench, payload: &str) -> (Offered, oneshot::Receiver<Result<(), NotAccepted>>) {
    let (answer, told) = oneshot::channel();
    (Offered { answer: Some(answer), ..bench.offered("t", payload, Qos::AtLeastOnce) }, told)
}

fn causes(bench: &Bench) -> BTreeMap<String, u64> {
    bench.core.drops.by_cause().into_iter().collect()
}

/// What the events of drops say in all, by cause.
fn told(bench: &mut Bench) -> BTreeMap<String, u64> {
    bench.clock.advance(Duration::from_secs(10));
    bench.turn(0);
    let mut told = BTreeMap::new();
    for event in bench.events("dropped") {
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        *told.entry(event["cause"].as_str().unwrap().to_owned()).or_default() += event["count"].as_u64().unwrap();
    }
    told
}

/// Fills, drains and fills again, with cuts and kills of the link between; nothing of that may leave the queue stuck or a message uncounted.
fn fill_and_drain(policy: Full, seed: u64) -> BTreeMap<String, u64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let most = rng.u64(1..60);
    let mut bench = full(policy, most);
    let (mut offered, mut refused, mut accepted) = (0_u64, 0_u64, BTreeSet::new());
    let mut answers = Vec::new();
    for _ in 0..rng.u8(3..8) {
        for _ in 0..rng.u64(1..4 * most + 20) {
            let qos = if rng.bool() { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
            let topic = format!("t/{}", rng.u8(0..3));
            let mut one = bench.offered(&topic, &offered.to_string(), qos);
            one.priority = Priority::at(rng.usize(0..4)).unwrap();
            if rng.bool() {
                let (answer, told) = oneshot::channel();
                one.answer = Some(answer);
                answers.push((offered, told));
            }
            offered += 1;
            bench.core.offer(one, bench.clock.now(), 0);
            if rng.u8(0..4) == 0 {
                bench.clock.advance(Duration::from_millis(60));
                let (up, _) = bench.turn(0);
                // Now and then some of it gets there, and what is in flight must stay what it is.
                if rng.bool() {
                    bench.cloud.feed(&up);
                } else if bench.core.is_online() {
                    bench.cut();
                }
            }
            assert!(bench.core.stored() <= most, "{policy:?}: {} of {most}", bench.core.stored());
        }
        if !bench.core.is_online() {
            bench.connect();
        }
        for _ in 0..400 {
            bench.clock.advance(Duration::from_millis(60));
            bench.exchange();
            if bench.core.is_empty() {
                break;
            }
        }
        assert!(bench.core.is_empty(), "{policy:?}: {} are stuck", bench.core.queued());
        for (number, mut told) in answers.drain(..) {
            match told.try_recv().expect("everyone who waits is answered") {
                Ok(()) => drop(accepted.insert(number)),
                Err(_) => refused += 1,
            }
        }
        if rng.bool() {
            bench.cut();
        }
    }
    assert_eq!(bench.cloud.violations, Vec::<String>::new());
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for arrival in &bench.cloud.arrived {
        let times = times.entry(String::from_utf8(arrival.payload.clone()).unwrap()).or_default();
        *times += 1;
        assert!(*times == 1 || arrival.qos == Qos::AtLeastOnce, "a QoS 2 message came twice");
    }
    let dropped = causes(&bench);
    let sum: u64 = dropped.values().sum();
    assert_eq!(offered, times.len() as u64 + sum + refused, "{policy:?}: {dropped:?}, {refused} refused");
    assert_eq!(told(&mut bench), dropped, "told is what was counted");
    assert!(refused == 0 || policy == Full::Block);
    let lost = accepted.iter().filter(|number| !times.contains_key(&number.to_string())).count() as u64;
    assert!(lost <= sum, "{policy:?}: {lost} accepted are gone, {sum} were told");
    dropped
}

#[test]
fn what_was_offered_was_delivered_or_dropped_by_a_cause_to_the_message_and_a_full_queue_moves_again() {
    for policy in POLICIES {
        let mut seen = BTreeSet::new();
        for seed in 0..25 {
            let outcome = std::panic::catch_unwind(|| fill_and_drain(policy, seed));
            seen.extend(outcome.unwrap_or_else(|panic| {
                println!("{policy:?}, seed {seed}");
                std::panic::resume_unwind(panic)
            }));
        }
        let seen: Vec<_> = seen.into_iter().map(|(cause, _)| cause).collect::<BTreeSet<_>>().into_iter().collect();
        let expected: &[&str] = match policy {
            Full::DropOldest => &["store-full"],
            Full::DropNewest => &["store-full-newest"],
            Full::Thin => &["store-full", "thinned"],
            Full::Block => &[],
        };
        assert_eq!(seen, expected, "{policy:?}");
    }
}

#[test]
fn drop_newest_keeps_what_it_has_and_acknowledges_what_it_drops() {
    let mut bench = full(Full::DropNewest, 3);
    for n in 0..5 {
        let (offered, mut told) = client(&bench, &n.to_string());
        offer(&mut bench, offered);
        assert_eq!(told.try_recv(), Ok(Ok(())));
    }
    assert_eq!(causes(&bench), BTreeMap::from([("store-full-newest".to_owned(), 2)]));
    bench.connect();
    assert_eq!(bench.arrived(), ["0", "1", "2"]);
    let (offered, _told) = client(&bench, "5");
    offer(&mut bench, offered);
    bench.exchange();
    assert_eq!(bench.arrived().last().unwrap(), "5");
}

#[test]
fn thin_keeps_something_of_the_whole_outage_and_each_topic_s_newest() {
    let mut bench = full(Full::Thin, 400);
    for n in 0..8_000 {
        let topic = if n < 50 { format!("early/{}", n % 5) } else { format!("t/{}", n % 4) };
        let offered = bench.offered(&topic, &n.to_string(), Qos::AtLeastOnce);
        bench.core.offer(offered, bench.clock.now(), 0);
        if n % 50 == 49 {
            bench.clock.advance(Duration::from_millis(60));
            bench.turn(0);
        }
    }
    assert_eq!(causes(&bench).keys().collect::<Vec<_>>(), ["thinned"]);
    bench.connect();
    let arrived: BTreeSet<u32> = bench.arrived().iter().map(|payload| payload.parse().unwrap()).collect();
    for newest in (45..50).chain(7_996..8_000) {
        assert!(arrived.contains(&newest), "{newest} is gone");
    }
    let eighths: Vec<_> = (0..8).map(|n| arrived.range(n * 1_000..(n + 1) * 1_000).count()).collect();
    assert!(eighths.iter().all(|count| *count >= 4), "{eighths:?}");
    assert_eq!(arrived.len() as u64 + bench.core.drops.total(), 8_000);
}

#[test]
fn thinning_that_frees_too_little_gives_up_the_oldest() {
    let mut bench = full(Full::Thin, 50);
    for n in 0..200 {
        let offered = bench.offered(&format!("t/{n}"), &n.to_string(), Qos::AtLeastOnce);
        offer(&mut bench, offered);
    }
    assert_eq!(causes(&bench).keys().collect::<Vec<_>>(), ["store-full"]);
    bench.connect();
    assert_eq!(bench.arrived().last().unwrap(), "199");
}

#[test]
fn block_refuses_clients_lets_sensors_wait_and_says_so_once() {
    let mut bench = full(Full::Block, 2);
    bench.store(Qos::AtLeastOnce, &["1", "2"]);
    let (offered, mut told) = client(&bench, "client");
    offer(&mut bench, offered);
    let refusal = told.try_recv().unwrap().unwrap_err().to_string();
    assert_eq!(refusal, "bridge `cloud`: the store cannot take messages: full: 2 messages wait (max_messages)");
    let sensor = bench.offered("t", "sensor", Qos::AtLeastOnce);
    offer(&mut bench, sensor);
    assert_eq!((bench.core.room_for_intake(), bench.core.fault()), (0, None));
    let now = bench.clock.now();
    assert!(
        !bench.core.has_more(now, 0) && bench.core.poll_timeout().is_none_or(|due| due > now),
        "no turn for nothing"
    );
    assert_eq!(bench.events("store-blocked").len(), 1);
    bench.connect();
    bench.clock.advance(Duration::from_secs(2));
    bench.exchange();
    bench.clock.advance(Duration::from_secs(2));
    bench.exchange();
    assert_eq!(bench.core.blocked(), None);
    assert_eq!((bench.events("store-blocked").len(), bench.events("store-unblocked").len()), (1, 1));
    assert_eq!(bench.arrived(), ["1", "2", "sensor"]);
}

#[test]
fn a_reload_with_another_policy_lets_a_blocked_store_take_in() {
    let mut bench = full(Full::Block, 1);
    bench.store(Qos::AtLeastOnce, &["1", "2"]);
    assert!(bench.core.blocked().is_some());
    let mut settings: Settings = super::settings(bench.dir.path());
    settings.outbox.max_messages = 1;
    bench.core.apply(Arc::new(settings));
    bench.turn(0);
    bench.clock.advance(Duration::from_millis(60));
    bench.turn(0);
    assert_eq!((bench.core.blocked(), bench.core.queued(), bench.core.drops.total()), (None, 1, 1));
}

fn shared(share: Share) -> impl Fn(&mut Settings) {
    move |settings| {
        let noisy = OutRule { from: TopicFilter::parse("noisy/#").unwrap(), share, ..settings.out[0].clone() };
        settings.out.insert(0, noisy);
    }
}

fn noisy(bench: &Bench, payload: &str) -> Offered {
    let rule = Some(RuleId::of(&TopicFilter::parse("noisy/#").unwrap()));
    Offered { rule, ..bench.offered("noisy/t", payload, Qos::AtLeastOnce) }
}

#[test]
fn a_rule_s_own_number_of_messages_is_kept_and_others_are_left_alone() {
    let mut bench = Bench::with(shared(Share { max_messages: Some(3), ..Share::default() }));
    for n in 0..10 {
        let offered = noisy(&bench, &format!("noisy {n}"));
        offer(&mut bench, offered);
        let other = bench.offered("t", &n.to_string(), Qos::AtLeastOnce);
        offer(&mut bench, other);
    }
    assert_eq!(causes(&bench), BTreeMap::from([("rule-full".to_owned(), 7)]));
    // After a restart what the file holds is counted first.
    let mut bench = bench.reopen(shared(Share { max_messages: Some(3), ..Share::default() }));
    while bench.core.has_more(bench.clock.now(), 0) {
        bench.turn(0);
    }
    let offered = noisy(&bench, "noisy 10");
    offer(&mut bench, offered);
    bench.connect();
    let arrived = bench.arrived();
    let noisy: Vec<_> = arrived.iter().filter(|payload| payload.starts_with("noisy")).collect();
    assert_eq!(noisy, ["noisy 8", "noisy 9", "noisy 10"]);
    assert_eq!(arrived.len(), 13);
}

#[test]
fn a_rule_that_keeps_one_message_keeps_the_newest_also_while_the_link_is_up_and_slow() {
    let mut bench = Bench::with(|settings| {
        shared(Share { max_messages: Some(1), ..Share::default() })(settings);
        settings.window = 1;
    });
    bench.connect();
    for n in 0..6 {
        let offered = noisy(&bench, &n.to_string());
        bench.core.offer(offered, bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        let (up, _) = bench.turn(0);
        bench.cloud.feed(&up);
    }
    assert_eq!(bench.core.queued(), 2, "one in flight, one waiting");
    bench.exchange();
    assert_eq!(bench.arrived(), ["0", "5"]);
    assert_eq!(causes(&bench), BTreeMap::from([("rule-full".to_owned(), 4)]));
}

#[test]
fn a_rule_s_own_bytes_are_kept() {
    let mut bench = Bench::with(shared(Share { max_bytes: Some(1_024), ..Share::default() }));
    for n in 0..20 {
        // 93 bytes of payload and 7 of topic.
        let offered = noisy(&bench, &format!("{n:093}"));
        offer(&mut bench, offered);
    }
    assert_eq!((bench.core.queued(), causes(&bench)), (10, BTreeMap::from([("rule-full".to_owned(), 10)])));
}

#[test]
fn what_the_cloud_forgot_counts_for_its_rule_again() {
    let mut bench = Bench::with(shared(Share { max_messages: Some(2), ..Share::default() }));
    bench.connect();
    for n in 0..4 {
        // Sent and never answered: in flight, so the rule may keep two more.
        bench.core.offer(noisy(&bench, &n.to_string()), bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        bench.turn(0);
    }
    assert_eq!(bench.core.drops.total(), 0);
    bench.core.disconnected(Ended::Here);
    bench.cloud.forget();
    bench.connect();
    bench.exchange();
    let arrived = bench.arrived().len() as u64;
    assert_eq!(arrived + bench.core.drops.total(), 4);
    assert!(bench.core.is_empty());
}

#[test]
fn a_rule_s_own_age_is_kept_where_it_is_shorter() {
    let hour = Duration::from_secs(3_600);
    let mut bench = Bench::with(|settings| {
        shared(Share { max_age: Some(hour), ..Share::default() })(settings);
        settings.outbox.max_age = Some(hour * 24);
    });
    let old = noisy(&bench, "old noisy");
    offer(&mut bench, old);
    let other = bench.offered("t", "old", Qos::AtLeastOnce);
    offer(&mut bench, other);
    bench.clock.advance(hour + Duration::from_secs(1));
    let new = noisy(&bench, "new noisy");
    offer(&mut bench, new);
    // The sweep takes it though the link is down.
    assert_eq!((bench.core.queued(), causes(&bench)), (2, BTreeMap::from([("rule-age".to_owned(), 1)])));
    bench.clock.advance(hour / 2);
    bench.connect();
    assert_eq!(bench.arrived(), ["old", "new noisy"]);
}

#[test]
fn a_rule_s_own_age_holds_at_the_wire_too() {
    let hour = Duration::from_secs(3_600);
    let mut bench = Bench::with(shared(Share { max_age: Some(hour), ..Share::default() }));
    let old = noisy(&bench, "old");
    offer(&mut bench, old);
    bench.clock.advance(hour + Duration::from_secs(1));
    bench.connect();
    assert_eq!(bench.arrived(), Vec::<String>::new());
    assert_eq!(causes(&bench), BTreeMap::from([("rule-age".to_owned(), 1)]));
}

#[test]
fn large_messages_keep_the_file_below_its_cap_too_one_by_one_and_together() {
    const CAP: u64 = 4 << 20;
    let mut bench = Bench::with(|settings| settings.outbox.max_bytes = CAP);
    let payload = "x".repeat(256 << 10);
    for burst in [1, 1, 63, 1, 60] {
        for _ in 0..burst {
            let offered = bench.offered("t", &payload, Qos::AtLeastOnce);
            bench.core.offer(offered, bench.clock.now(), 0);
        }
        bench.clock.advance(Duration::from_millis(60));
        bench.turn(0);
        while bench.core.has_more(bench.clock.now(), 0) {
            assert!(bench.core.bytes() <= CAP, "{} bytes", bench.core.bytes());
            bench.turn(0);
        }
    }
    for _ in 0..40 {
        let offered = bench.offered("t", &payload, Qos::AtLeastOnce);
        offer(&mut bench, offered);
        assert!(bench.core.bytes() <= CAP, "{} bytes", bench.core.bytes());
    }
    assert_eq!(bench.core.queued() + bench.core.drops.total(), 166);
    assert!(bench.core.queued() >= 8, "{} are left", bench.core.queued());
    let file = std::fs::metadata(bench.dir.path().join("outbox-cloud.db")).unwrap().len();
    assert!(file <= CAP, "{file} bytes on disk");
}

/// A million messages through a store of 10 MiB: `cargo test --lib a_million_messages -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes: `tests/proof/run 08-cap` runs it"]
fn a_million_messages_through_ten_mebibytes_never_exceed_the_cap_and_are_counted_to_the_message() {
    const CAP: u64 = 10 << 20;
    const OFFERED: u64 = 1_000_000;
    let mut bench = Bench::with(|settings| {
        settings.outbox.max_bytes = CAP;
        settings.window = 50;
    });
    bench.connect();
    // In flight for good: sent, and never answered.
    for n in 0..50 {
        let offered = bench.offered("in/flight", &format!("{n:0100}"), Qos::ExactlyOnce);
        bench.core.offer(offered, bench.clock.now(), 0);
    }
    bench.clock.advance(Duration::from_millis(60));
    bench.turn(0);
    bench.cut();
    let mut largest = 0;
    for n in 50..OFFERED {
        let offered = bench.offered("t/1", &format!("{n:0100}"), Qos::AtLeastOnce);
        bench.core.offer(offered, bench.clock.now(), 0);
        if n % 1_000 == 999 {
            bench.clock.advance(Duration::from_millis(60));
            bench.turn(0);
            let (file, log) = super::room::on_disk(&bench);
            largest = largest.max(file + log);
            assert!(largest <= CAP, "{largest} bytes after {n}");
        }
    }
    let (left, dropped) = (bench.core.queued(), bench.core.drops.total());
    println!("largest {largest} bytes of file and log, {left} left, {dropped} dropped");
    assert_eq!(left + dropped, OFFERED);
    let connect = bench.core.connect(bench.version, bench.clock.now(), bench.clock.wall()).unwrap();
    bench.cloud.feed(&connect);
    for _ in 0..OFFERED {
        let down = bench.cloud.output.split();
        bench.core.receive(&down, bench.clock.now(), bench.clock.wall()).unwrap();
        let (up, _) = bench.turn(0);
        bench.cloud.feed(&up);
        bench.clock.advance(Duration::from_millis(2));
        if bench.core.is_empty() {
            break;
        }
    }
    let arrived: Vec<u64> = bench.arrived().iter().map(|payload| payload.parse().unwrap()).collect();
    assert_eq!(arrived.len() as u64, left, "what was left arrived");
    assert_eq!(arrived[..50], (0..50).collect::<Vec<_>>(), "what was in flight stayed");
    assert_eq!(arrived[50..], (OFFERED - left + 50..OFFERED).collect::<Vec<_>>(), "and the newest");
}

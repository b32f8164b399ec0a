//! Into a real Mosquitto through a link that is cut in the middle of packets, while the process is killed and, at last, the broker restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::Orders;
use crate::feed::{Feed, Stream};
use crate::page::{Page, thousands};
use crate::strike::{gateway, kill, live, wait_for_cuts};
use crate::support::mosquitto::Setup;
use crate::support::receiver::ledger::number;
use crate::support::{Cut, Link, Subscriber};
use crate::tap::Tap;

/// Messages a second; the broker and its subscriber share the machine.
const PER_SECOND: u64 = 1_000;
/// Between two cuts, ms.
const CUT_MS: std::ops::Range<u64> = 60..240;
/// Bytes a second that the link lets through, in pieces of a fiftieth: a cut so falls into the middle of packets.
const LINK_RATE: u64 = 400_000;
/// Longest that nothing may arrive while something is owed.
const STUCK: Duration = Duration::from_secs(60);

pub(crate) fn run(orders: &Orders, page: &mut Page) {
    page.say(
        "The same into a Mosquitto, seen by one mosquitto_sub with a session of its own at QoS 2. The link between is a proxy that is cut by RST and FIN by \
         turns, 60 to 240 ms apart, and that passes pieces of 8 kB, so that a cut falls into packets. In the second run the broker is restarted as \
         well, by SIGTERM. A second proxy in front of it notes for which message the broker said PUBACK or PUBCOMP, and whether a QoS 2 message was sent \
         under a second packet id or again after its PUBREL. A message that the broker acknowledged is the broker's: what becomes of it on the way to \
         mosquitto_sub, which connects again after a restart, is told apart.",
    );
    let (kills, cuts) = (orders.kills(100, 8), orders.number(200, 20));
    let first = fight("kills and cuts", orders.seed, kills, cuts, 0, page);
    page.summary(
        &format!(
            "Mosquitto as the cloud, {kills} kills, {cuts} cuts inside packets: lost / QoS 2 doubled / out of order"
        ),
        "0 / 0 / 0",
        format!("{} / {} / {} of {}", first.lost.len(), first.doubled, first.disordered, thousands(first.acknowledged)),
    );
    let restarts = orders.number(20, 2);
    let second = fight("broker restarts too", orders.seed + 1, kills.div_ceil(2), cuts / 2, restarts, page);
    page.summary(
        &format!("the same with {restarts} restarts of the broker: lost without the broker's PUBACK or PUBCOMP / QoS 2 handed over twice"),
        "0 / 0",
        format!("{} / {} of {}", second.ours(), second.twice, thousands(second.acknowledged)),
    );
}

/// What the subscriber got, and what it says about what was sent.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<String, BTreeMap<u64, u64>>,
    highest: BTreeMap<String, u64>,
    disordered: u64,
    mark: usize,
}

impl Tally {
    /// Takes what has come since the last call.
    fn follow(&mut self, above: &Subscriber) {
        let (messages, mark) = above.received_since(self.mark);
        self.mark = mark;
        for message in messages {
            let Some(number) = number(message.payload.as_bytes()) else { continue };
            let count = self.counts.entry(message.topic.clone()).or_default().entry(number).or_default();
            *count += 1;
            if *count == 1 {
                let highest = self.highest.entry(message.topic).or_default();
                self.disordered += u64::from(number < *highest);
                *highest = number.max(*highest);
            }
        }
    }

    fn missing(&self, stream: &Stream) -> BTreeSet<u64> {
        let none = BTreeMap::new();
        let counts = self.counts.get(&stream.topic).unwrap_or(&none);
        stream.acknowledged.iter().filter(|number| !counts.contains_key(number)).copied().collect()
    }

    fn doubled(&self, topic: &str) -> u64 {
        self.counts.get(topic).map_or(0, |counts| counts.values().map(|count| count - 1).sum())
    }
}

struct Found {
    acknowledged: u64,
    /// Topic and number of what never reached the subscriber, and whether the broker had acknowledged it.
    lost: Vec<(String, u64, bool)>,
    doubled: u64,
    /// QoS 2 messages that the gateway handed over twice.
    twice: u64,
    disordered: u64,
}

impl Found {
    /// Lost though the broker never took them.
    fn ours(&self) -> u64 {
        self.lost.iter().filter(|(.., taken)| !taken).count() as u64
    }
}

fn fight(run: &str, seed: u64, kills: u64, cuts: u64, restarts: u64, page: &mut Page) -> Found {
    println!("  {run}, seed {seed}");
    let mut random = Rng::with_seed(seed);
    let mut cloud = Setup::bare().start();
    let above = Subscriber::with(&cloud.door(), "data/#", &["-q", "2", "-c", "-i", "judge"]);
    let tap = Tap::to(cloud.port());
    let link = Arc::new(Link::to(tap.port()));
    link.rate(LINK_RATE);
    let mut gateway = gateway(&link.url(), "3.1.1", "");
    gateway.start();
    let feed = Feed::start(gateway.door().port, PER_SECOND);
    let (stop, dealt) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let cutter = {
        let (link, stop, dealt, random) = (Arc::clone(&link), Arc::clone(&stop), Arc::clone(&dealt), random.fork());
        std::thread::spawn(move || cut(&link, &stop, &dealt, random))
    };
    let tally = std::cell::RefCell::new(Tally::default());
    let under_way = |feed: &Feed| {
        let mut tally = tally.borrow_mut();
        tally.follow(&above);
        feed.newest(1_000).iter().any(|stream| !tally.missing(stream).is_empty())
    };
    let (mut hits, mut restarted) = (0, 0);
    // Without restarts one round holds all kills.
    let rounds = restarts.max(1);
    for round in 1..=rounds {
        let share = kills * round / rounds - kills * (round - 1) / rounds;
        hits += kill(&mut gateway, &feed, &mut random, share, under_way, |_| ());
        if restarts > 0 {
            live(&mut random);
            cloud.stop();
            cloud.restart();
            restarted += 1;
        }
    }
    wait_for_cuts(cuts, || dealt.load(Ordering::SeqCst));
    stop.store(true, Ordering::SeqCst);
    cutter.join().expect("the cutter ends");
    link.rate(0);
    let (streams, _) = feed.end();
    let mut tally = tally.into_inner();
    let still = drain(&mut tally, &above, &streams, &tap);
    let found = Found {
        acknowledged: streams.iter().map(|stream| stream.acknowledged.len() as u64).sum(),
        lost: streams
            .iter()
            .flat_map(|stream| tally.missing(stream).into_iter().map(|number| (stream.topic.clone(), number)))
            .map(|(topic, number)| {
                let taken = tap.taken(&topic, number);
                (topic, number, taken)
            })
            .collect(),
        doubled: streams.iter().filter(|stream| stream.qos == 2).map(|stream| tally.doubled(&stream.topic)).sum(),
        twice: tap.handed_over_twice(),
        disordered: tally.disordered,
    };
    let dealt = dealt.load(Ordering::SeqCst);
    page.at_least(run, "kills that fell while acknowledged messages were on their way", kills / 2, hits);
    page.at_least(run, "cuts", cuts, dealt);
    claim(&found, run, restarts, still, page);
    page.say(format!(
        "{run}: {kills} kills, {dealt} cuts, {restarted} restarts of the broker, {} messages acknowledged, {} of QoS 1 came more than once.",
        thousands(found.acknowledged),
        streams.iter().filter(|stream| stream.qos == 1).map(|stream| tally.doubled(&stream.topic)).sum::<u64>()
    ));
    found
}

fn claim(found: &Found, run: &str, restarts: u64, still: Duration, page: &mut Page) {
    let of = thousands(found.acknowledged);
    if restarts > 0 {
        let ours = found.ours();
        page.claim(
            run,
            "acknowledged messages lost that the broker had not taken",
            "0",
            format!("{ours} of {of}"),
            ours == 0,
        );
        page.claim(run, "lost after the broker's PUBACK or PUBCOMP", "", found.lost.len() as u64 - ours, true);
        page.claim(
            run,
            "QoS 2 messages that the subscriber got twice, of those not handed over twice by the gateway",
            "",
            found.doubled,
            true,
        );
    } else {
        page.zero(run, "QoS 2 messages doubled", found.doubled);
        page.claim(
            run,
            "acknowledged messages lost",
            "0",
            format!("{} of {of}", found.lost.len()),
            found.lost.is_empty(),
        );
    }
    page.zero(run, "QoS 2 messages that the gateway handed over twice", found.twice);
    page.zero(run, "first deliveries out of order within their topic", found.disordered);
    let measured = format!("{:.1} s", still.as_secs_f64());
    page.claim(
        run,
        "longest time without an arrival while something was owed, in the drain",
        "<= 60 s",
        measured,
        still <= STUCK,
    );
}

/// Cuts the link whenever it is open.
fn cut(link: &Link, stop: &AtomicBool, dealt: &AtomicU64, mut random: Rng) {
    let mut cuts = [Cut::Reset, Cut::Fin].into_iter().cycle();
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(random.u64(CUT_MS)));
        if link.open() > 0 {
            link.cut(cuts.next().expect("it goes round"));
            dealt.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Waits until everything is there, or what is missing is the broker's and it has been quiet; the longest pause between arrivals.
fn drain(tally: &mut Tally, above: &Subscriber, streams: &[Stream], tap: &Tap) -> Duration {
    /// A broker that has a message hands it on at once.
    const QUIET: Duration = Duration::from_secs(10);
    let (mut missing, mut moved, mut longest) = (u64::MAX, Instant::now(), Duration::ZERO);
    loop {
        tally.follow(above);
        let lost: Vec<_> = streams.iter().map(|stream| (&stream.topic, tally.missing(stream))).collect();
        let now = lost.iter().map(|(_, numbers)| numbers.len() as u64).sum();
        if now == 0 {
            return longest;
        }
        if now < missing {
            (missing, moved) = (now, Instant::now());
        }
        let all_taken = || lost.iter().all(|(topic, numbers)| numbers.iter().all(|number| tap.taken(topic, *number)));
        if moved.elapsed() > QUIET && all_taken() {
            return longest;
        }
        longest = longest.max(moved.elapsed());
        if longest > STUCK {
            println!("  nothing has arrived for {longest:?}, {now} are missing");
            return longest;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

//! A link that swallows everything and closes nothing, into a real Mosquitto; and a wall clock that is set a day forwards and back while messages wait.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::Orders;
use crate::page::{Page, thousands};
use crate::support::client::Client;
use crate::support::mosquitto::Setup;
use crate::support::receiver::ledger::number;
use crate::support::receiver::{Receiver, Terms};
use crate::support::{Gateway, Link, Sent, Subscriber, WallClock, free_port, wait_for, wait_until};
use crate::web::metric;

/// Longest until the gateway says that a link is dead, with the keep alive of 30 s that is the default.
const NOTICED: Duration = Duration::from_secs(45);
/// Mosquitto waits for one and a half times the keep alive [MQTT-3.1.2-24], and looks every few seconds; so it does at the delay.
const WILL: Duration = Duration::from_secs(55);
/// After a kill of the process, whose connections the kernel closes.
const WILL_OF_KILL: Duration = Duration::from_secs(2);
/// Default of `will_delay`, which there is with MQTT 5.
const WILL_DELAY: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(90);
/// Longer than from one sweep of what is too old to the next; the black holes beside it take longer.
const SWEPT: Duration = Duration::from_secs(65);
const DAY_S: i64 = 24 * 3_600;
/// Messages of each topic and batch.
const BATCH: u64 = 500;

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[http]
listen = "127.0.0.1:@page@"

[[bridge]]
id = "cloud"
url = "@cloud@"
version = "@version@"
reconnect = { min = "100ms", max = "1s" }
out = [ { from = "tidegate/box/status" }, { from = "hour/#", max_age = "1h" }, { from = "days/#", max_age = "60h" }, { from = "data/#" } ]
"#;

pub(crate) fn run(orders: &Orders, page: &mut Page) {
    page.say(
        "Into a Mosquitto, through a proxy that from a moment on swallows every byte, in both directions, and closes nothing: nobody gets an RST or a FIN. The \
         gateway has its default keep alive of 30 s. In one run nothing is published, in the other 20 messages a second. How long until the state topic \
         below says `offline`, and until a subscriber of the Mosquitto gets the gateway's Last Will. Then the link is there again. A kill of the process, for \
         comparison, closes the connection, and the will is told at once; with MQTT 5 the cloud waits for `will_delay`, 10 s, before it tells either.",
    );
    page.say(
        "Meanwhile the clock, at a gateway of its own. The cloud is away; a library that is preloaded into the process sets its wall clock a day forwards and, \
         two days, back, while the monotonic clock goes on; after each the process is killed and started anew. The rules have `max_age` of an hour, of 60 \
         hours, and none. By a clock that has been set a message is as old as that clock says: what may be an hour old expires when the clock jumps a day, is \
         counted, and nothing else does.",
    );
    let runs = [("black hole, idle, MQTT 5", "5", false), ("black hole, 20 messages a second, 3.1.1", "3.1.1", true)];
    let found: Vec<Found> = std::thread::scope(|scope| {
        let started = runs.map(|(_, version, busy)| scope.spawn(move || swallowed(version, busy)));
        clock(orders, page);
        started.into_iter().map(|run| run.join().expect("a run goes through to its end")).collect()
    });
    for ((run, version, _), found) in runs.iter().zip(&found) {
        found.claim(run, if *version == "5" { WILL_DELAY } else { Duration::ZERO }, page);
    }
    let slowest = found.iter().map(|found| found.noticed).max().unwrap_or_default();
    let measured = format!("{:.1} s", slowest.as_secs_f64());
    page.summary("a link that swallows everything: noticed after", "<= 45 s", measured);
}

/// What became of a black hole.
struct Found {
    noticed: Duration,
    will: Duration,
    reason: String,
    will_of_kill: Duration,
    acknowledged: u64,
    lost: u64,
}

fn swallowed(version: &str, busy: bool) -> Found {
    let cloud = Setup::bare().start();
    let above = Subscriber::with(&cloud.door(), "#", &["-q", "2", "-c", "-i", "judge"]);
    let link = Link::to(cloud.port());
    let page = free_port().to_string();
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &link.url()), ("page", &page), ("version", version)]);
    gateway.start();
    let below = Subscriber::new(&gateway.door(), "tidegate/box/bridge/cloud");
    let mut client = Client::connect(gateway.door().port, "publisher").expect("connect");
    let mut sent = 0;
    let mut publish = |count: u64| {
        let messages: Vec<_> = (sent + 1..=sent + count).map(|n| ("data/x".to_owned(), 1, n.to_string())).collect();
        client.publish(&messages, 10).assert_complete(messages.len());
        sent += count;
        sent
    };
    let said = |subscriber: &Subscriber, mark: usize, what: &str| -> Option<String> {
        let (messages, _) = subscriber.received_since(mark);
        messages
            .into_iter()
            .find(|message| message.topic.starts_with("tidegate/") && message.payload.contains(what))
            .map(|m| m.payload)
    };
    wait_until(LIMIT, "the bridge to be online", || said(&below, 0, "\"online\"").is_some());
    publish(20);
    wait_until(LIMIT, "what was published", || arrived(&above).len() == 20);
    let (mark_below, mark_above) = (below.log().len(), above.log().len());
    link.black_hole();
    let hole = Instant::now();
    let (mut noticed, mut will, mut reason) = (None, None, String::new());
    while (noticed.is_none() || will.is_none()) && hole.elapsed() < LIMIT {
        if noticed.is_none()
            && let Some(state) = said(&below, mark_below, "\"offline\"")
        {
            (noticed, reason) = (Some(hole.elapsed()), state);
        }
        if will.is_none() && said(&above, mark_above, "offline").is_some() {
            will = Some(hole.elapsed());
        }
        if busy {
            publish(1);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mark = above.log().len();
    link.up();
    let all = publish(20);
    wait_until(LIMIT, "the bridge to be back", || said(&above, mark, "online").is_some());
    let owed: BTreeSet<u64> = (1..=all).collect();
    let until = Instant::now() + LIMIT;
    while !owed.is_subset(&arrived(&above)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let lost = owed.difference(&arrived(&above)).count() as u64;
    let mark = above.log().len();
    gateway.kill();
    let killed = Instant::now();
    wait_until(LIMIT, "the will of the kill", || said(&above, mark, "offline").is_some());
    Found {
        noticed: noticed.unwrap_or(LIMIT),
        will: will.unwrap_or(LIMIT),
        reason,
        will_of_kill: killed.elapsed(),
        acknowledged: all,
        lost,
    }
}

fn arrived(above: &Subscriber) -> BTreeSet<u64> {
    above.on("data/x").iter().filter_map(|message| message.payload.parse().ok()).collect()
}

impl Found {
    fn claim(&self, run: &str, delay: Duration, page: &mut Page) {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        page.claim(
            run,
            "`offline` in the state topic below",
            "<= 45 s",
            seconds(self.noticed),
            self.noticed <= NOTICED,
        );
        for (claim, bar, took) in [
            ("Last Will at the cloud", WILL, self.will),
            ("Last Will after a kill of the process", WILL_OF_KILL, self.will_of_kill),
        ] {
            let bar = bar + delay;
            page.claim(run, claim, &format!("<= {} s", bar.as_secs()), seconds(took), took <= bar);
        }
        let reason = self.reason.contains("\"reason\":\"");
        page.claim(run, "the state says why", "a reason", if reason { "a reason" } else { "none" }, reason);
        let measured = format!("{} of {}", self.lost, thousands(self.acknowledged));
        page.claim(run, "acknowledged messages lost", "0", measured, self.lost == 0);
        println!("  {}", self.reason);
    }
}

const TOPICS: [&str; 3] = ["hour/x", "days/x", "data/x"];

fn clock(orders: &Orders, page: &mut Page) {
    let run = "the clock jumps";
    let receiver = Receiver::start(Terms::default(), orders.seed);
    receiver.treat(|treatment| treatment.away = true);
    let wall = WallClock::new();
    let web = free_port();
    let words = [("cloud", &*receiver.url()), ("page", &web.to_string()), ("version", "5")];
    let mut gateway = Gateway::new(CONFIG, &words).by_clock(&wall);
    gateway.start();
    let (mut from, mut expired_first) = (1, 0);
    let mut batch = |gateway: &Gateway| {
        let mut client = Client::connect(gateway.door().port, "publisher").expect("connect");
        for topic in TOPICS {
            let messages: Vec<_> =
                (from..from + BATCH).map(|n| (topic.to_owned(), 1 + (n % 2) as u8, n.to_string())).collect();
            client.publish(&messages, 50).assert_complete(messages.len());
        }
        from += BATCH;
    };
    batch(&gateway);
    for ahead_s in [DAY_S, -DAY_S] {
        wall.set_ahead_s(ahead_s);
        if ahead_s > 0 {
            // The sweep comes every minute.
            wait_for(LIMIT, "what is too old to expire", || {
                expired_first = metric(web, "tidegate_bridge_dropped_total", "");
                if expired_first >= BATCH { Ok(()) } else { Err(format!("{expired_first} expired")) }
            });
        }
        batch(&gateway);
        gateway.kill();
        gateway.start();
    }
    batch(&gateway);
    // Past a sweep by this clock, two days behind what the second batch was stamped by.
    let swept = Instant::now();
    while swept.elapsed() < SWEPT {
        std::thread::sleep(Duration::from_millis(100));
    }
    let expired_later = metric(web, "tidegate_bridge_dropped_total", "");
    receiver.treat(|treatment| treatment.away = false);
    let all = 1..=4 * BATCH;
    let kept = |topic: &str| if topic == "hour/x" { BATCH + 1..=4 * BATCH } else { all.clone() };
    let missing = || {
        let of = |topic: &str, qos: u8| {
            let numbers = kept(topic).filter(|n| 1 + (n % 2) as u8 == qos).collect();
            receiver.missing(topic, qos, &numbers)
        };
        TOPICS.iter().flat_map(|topic| [of(topic, 1), of(topic, 2)]).sum::<u64>()
    };
    let until = Instant::now() + LIMIT;
    while missing() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let lost = missing();
    let first_hour =
        receiver.accepted().iter().filter(|m| m.topic == "hour/x" && number(&m.payload) <= Some(BATCH)).count();
    let sent: Vec<Sent> =
        TOPICS.iter().flat_map(|topic| [1, 2].map(|qos| Sent::new(topic, qos, 1..=4 * BATCH))).collect();
    let verdict = receiver.verdict(&sent);
    let owed = 3 * 4 * BATCH - BATCH;
    page.claim(
        run,
        "expired when the clock jumped, of those an hour old at most",
        "500",
        expired_first,
        expired_first == BATCH,
    );
    page.claim(run, "expired otherwise", "0", expired_later, expired_later == 0);
    page.claim(run, "expired and sent all the same", "0", first_hour, first_hour == 0);
    page.claim(run, "acknowledged messages lost", "0", format!("{lost} of {}", thousands(owed)), lost == 0);
    page.zero(run, "QoS 2 messages doubled", verdict.doubled);
    page.zero(run, "messages out of order within their topic", verdict.disordered);
    page.summary(
        "the clock set a day forwards and back while messages wait: lost / expired wrongly",
        "0 / 0",
        format!("{lost} / {expired_later}"),
    );
}

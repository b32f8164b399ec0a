//! Sessions of the local broker, while it is killed and loses its power under load: what its subscribers get, and what the cloud gets.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::Orders;
use crate::page::{Page, thousands};
use crate::strike::{live, set_aside};
use crate::support::crowd::{Crowd, Size, Tale};
use crate::support::{Disk, Gateway, Receiver, Terms, Verdict, wait_until};

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
max_queued = 1000000

[[bridge]]
id = "cloud"
url = "@cloud@"
reconnect = { min = "100ms", max = "100ms", stable = "0s" }
out = [ { from = "data/#" } ]
"#;

/// A gateway that delivers nothing for so long has lost what is missing.
const STUCK: Duration = Duration::from_secs(30);

/// How the process ends, and what its disk keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    Power,
    Tear,
    /// The disk says that a flush is done, and has kept nothing.
    Lie,
}

pub(crate) fn run(orders: &Orders, page: &mut Page) {
    let size = Size {
        subscribers: usize::try_from(orders.number(50, 10)).unwrap(),
        publishers: usize::try_from(orders.number(4, 2)).unwrap(),
        pace: Duration::from_millis(2),
    };
    page.say(format!(
        "{} subscribers of QoS 1 and 2 with sessions that outlive their connection come and go, each for a share of what {} publishers of QoS 1 and {1} of \
         QoS 2 send, one message in {} ms each, 20 unacknowledged; half of the subscribers leave without a word. The publishers have such sessions too: \
         after each blow they send again, under its packet id, what was not acknowledged. The gateway is killed with SIGKILL, or loses its power as in part 02, 30 to \
         500 ms after messages came in again. In the end each subscriber must have been given everything that was acknowledged, QoS 2 once, in order; and a cloud that all is \
         forwarded to, which keeps its session, must have got the same. The \
         control has a disk that acknowledges a flush and keeps nothing; it has to lose.",
        size.subscribers,
        size.publishers,
        size.pace.as_millis(),
    ));
    // More than the gateway takes; two subscribers for each pair, one of either QoS.
    let flood = Size {
        subscribers: usize::try_from(orders.number(16, 4)).unwrap(),
        publishers: usize::try_from(orders.number(8, 2)).unwrap(),
        pace: Duration::from_millis(1),
    };
    page.say(format!(
        "In the run under load {} publishers of either QoS hand over a message in each millisecond, as far as the gateway takes them.",
        flood.publishers
    ));
    let blows = orders.kills(20, 4);
    let mut all = Tale::default();
    let mut cloud = Verdict::default();
    let mut total = 0;
    for (run, blow, size) in [
        ("kills", Blow::Kill, size),
        ("kills under load", Blow::Kill, flood),
        ("power cuts", Blow::Power, size),
        ("torn power cuts", Blow::Tear, size),
    ] {
        let Outcome { tale, verdict, stores_set_aside, live } = campaign(orders.seed, blows, size, blow);
        page.zero(run, "acknowledged messages lost to a subscriber", tale.lost);
        page.zero(run, "QoS 2 doubled", tale.doubled);
        page.zero(run, "out of order", tale.out_of_order);
        page.zero(run, "sessions that were not there any more", tale.forgotten);
        page.zero(run, "lost to the cloud", verdict.lost);
        page.zero(run, "QoS 2 doubled at the cloud", verdict.doubled);
        page.zero(run, "packet ids used for another message at the cloud", verdict.ids_reused);
        page.zero(run, "stores set aside as damaged", stores_set_aside);
        page.at_least(run, "messages acknowledged for each blow", 50, tale.acknowledged / blows);
        page.say(format!(
            "{run}: {blows}, {} messages acknowledged, {:.0}/s while the gateway lived, {} deliveries due, {} of QoS 1 given again, {} to the cloud.",
            thousands(tale.acknowledged),
            tale.acknowledged as f64 / live.as_secs_f64(),
            thousands(tale.due),
            thousands(tale.repeated),
            thousands(verdict.repeated)
        ));
        cloud.lost += verdict.lost;
        cloud.doubled += verdict.doubled;
        all.lost += tale.lost;
        all.doubled += tale.doubled;
        all.out_of_order += tale.out_of_order;
        total += blows;
    }
    page.summary(
        &format!(
            "{total} kills and power cuts under {} local subscribers that come and go: acknowledged messages lost / QoS 2 doubled / out of order",
            size.subscribers
        ),
        "0 / 0 / 0",
        format!("{} / {} / {}", all.lost, all.doubled, all.out_of_order),
    );
    page.summary(
        &format!("the same, from local publishers that send again to a cloud that keeps its session: lost / QoS 2 doubled, over {total} blows"),
        "0 / 0",
        format!("{} / {}", cloud.lost, cloud.doubled),
    );
    let control = campaign(orders.seed, orders.number(5, 2), size, Blow::Lie).tale;
    let missed = control.lost + control.forgotten;
    let measured = thousands(missed);
    page.claim("control: a disk that lies", "messages and sessions lost", "> 0", measured, missed > 0);
}

/// What came of a campaign.
struct Outcome {
    tale: Tale,
    /// The cloud's.
    verdict: Verdict,
    stores_set_aside: u64,
    /// How long the gateway lived while messages came in.
    live: Duration,
}

fn campaign(seed: u64, blows: u64, size: Size, blow: Blow) -> Outcome {
    let mut random = Rng::with_seed(seed);
    let disk = Disk::new();
    disk.keep_shadow();
    let cloud = Receiver::start(Terms::default(), seed);
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &cloud.url())]).on_disk(&disk);
    gateway.start();
    let crowd = Crowd::gather(gateway.door().port, size, seed);
    let mut lived = Duration::ZERO;
    for n in 1..=blows {
        let (before, since) = (crowd.acknowledged(), Instant::now());
        if blow == Blow::Lie {
            // What was kept so far is all that it keeps.
            disk.lose_flushes();
        }
        wait_until(STUCK, "messages are acknowledged again", || crowd.acknowledged() > before + 50);
        live(&mut random);
        lived += since.elapsed();
        gateway.kill();
        let state = gateway.dir().join("state");
        match blow {
            Blow::Kill => {}
            Blow::Power | Blow::Lie => disk.cut_power(&state),
            Blow::Tear => {
                let eighths = random.u8(1..8);
                disk.tear_power(&state, || random.u8(..8) < eighths);
            }
        }
        disk.keep_shadow();
        gateway.start();
        if n % 5 == 0 {
            println!("  {n} of {blows} blows, {} messages acknowledged", crowd.acknowledged());
        }
    }
    let stuck = if blow == Blow::Lie { Duration::from_secs(5) } else { STUCK };
    let since = Instant::now();
    let (tale, sent) = crowd.settle_all(stuck);
    let (mut arrived, mut moved) = (0, Instant::now());
    // The control is not judged by its cloud.
    while blow != Blow::Lie && arrived < tale.acknowledged && moved.elapsed() < stuck {
        std::thread::sleep(Duration::from_millis(50));
        let now = cloud.arrived(&sent);
        if now > arrived {
            (arrived, moved) = (now, Instant::now());
        }
    }
    println!("  settled within {:.1} s", since.elapsed().as_secs_f64());
    Outcome { tale, verdict: cloud.verdict(&sent), stores_set_aside: set_aside(&gateway), live: lived }
}

//! Sessions of the local broker, while it is killed and loses its power under load.

use std::time::Duration;

use fastrand::Rng;

use crate::Orders;
use crate::page::{Page, thousands};
use crate::strike::{live, set_aside};
use crate::support::crowd::{Crowd, Size, Tale};
use crate::support::{Disk, Gateway, wait_until};

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
max_queued = 1000000
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
        "{} subscribers of QoS 1 and 2 with sessions that outlive their connection come and go, each for a share of what {} publishers of QoS 1 and {0} of \
         QoS 2 send, one message in {} ms each, 20 unacknowledged; half of the subscribers leave without a word. The publishers have such sessions too: \
         after each blow they send again, under its packet id, what was not acknowledged. The gateway is killed with SIGKILL, or loses its power as in part 02, 30 to \
         500 ms after messages came in again. In the end each subscriber must have been given everything that was acknowledged, QoS 2 once, in order. The \
         control has a disk that acknowledges a flush and keeps nothing; it has to lose.",
        size.subscribers,
        size.publishers,
        size.pace.as_millis(),
    ));
    let blows = orders.kills(20, 4);
    let mut all = Tale::default();
    let mut total = 0;
    for (run, blow) in [("kills", Blow::Kill), ("power cuts", Blow::Power), ("torn power cuts", Blow::Tear)] {
        let (tale, stores_set_aside) = campaign(orders.seed, blows, size, blow);
        page.zero(run, "acknowledged messages lost to a subscriber", tale.lost);
        page.zero(run, "QoS 2 doubled", tale.doubled);
        page.zero(run, "out of order", tale.out_of_order);
        page.zero(run, "sessions that were not there any more", tale.forgotten);
        page.zero(run, "stores set aside as damaged", stores_set_aside);
        page.at_least(run, "messages acknowledged for each blow", 50, tale.acknowledged / blows);
        page.say(format!(
            "{run}: {blows}, {} messages acknowledged, {} deliveries due, {} of QoS 1 given again.",
            thousands(tale.acknowledged),
            thousands(tale.due),
            thousands(tale.repeated)
        ));
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
    let (control, _) = campaign(orders.seed, orders.number(5, 2), size, Blow::Lie);
    let missed = control.lost + control.forgotten;
    let measured = thousands(missed);
    page.claim("control: a disk that lies", "messages and sessions lost", "> 0", measured, missed > 0);
}

fn campaign(seed: u64, blows: u64, size: Size, blow: Blow) -> (Tale, u64) {
    let mut random = Rng::with_seed(seed);
    let disk = Disk::new();
    disk.keep_shadow();
    let mut gateway = Gateway::new(CONFIG, &[]).on_disk(&disk);
    gateway.start();
    let crowd = Crowd::gather(gateway.door().port, size, seed);
    for n in 1..=blows {
        let before = crowd.acknowledged();
        if blow == Blow::Lie {
            // What was kept so far is all that it keeps.
            disk.lose_flushes();
        }
        wait_until(STUCK, "messages are acknowledged again", || crowd.acknowledged() > before + 50);
        live(&mut random);
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
    let tale = crowd.settle(stuck);
    (tale, set_aside(&gateway))
}

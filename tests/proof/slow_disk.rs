//! What a disk whose flush takes its time lets through: messages taken in, and messages sent on.

use std::time::{Duration, Instant};

use crate::Orders;
use crate::page::{Page, thousands};
use crate::strike::gateway;
use crate::support::client::Client;
use crate::support::receiver::{Receiver, Terms};
use crate::support::{Disk, wait_until};

/// As a memory card of the better kind.
const FLUSH: Duration = Duration::from_millis(10);
/// Of the control.
const SLOWER: Duration = Duration::from_millis(500);
/// Local publishers, and what each leaves unanswered.
const PUBLISHERS: u64 = 4;
const WINDOW: usize = 100;
/// Messages a second.
const BAR: f64 = 1_500.0;
const DRAIN: Duration = Duration::from_secs(120);

/// One message after the other would come to 100 a second at 10 ms.
pub(crate) fn run(orders: &Orders, page: &mut Page) {
    page.say(format!(
        "Each fsync and fdatasync of a store takes {} ms, by a library that is preloaded into the process. {PUBLISHERS} local publishers send QoS 1, \
         each with {WINDOW} unanswered, while the cloud is away; a message counts when it is acknowledged, which is after its commit. Then the cloud \
         comes, and what is stored is sent, a commit for what it acknowledged included. The control has flushes of {} ms, which no gathering of messages \
         into one commit makes up for.",
        FLUSH.as_millis(),
        SLOWER.as_millis()
    ));
    let messages = orders.number(20_000, 4_000);
    let fast = measure(FLUSH, messages);
    let run = "10 ms a flush";
    let rate = |rate: f64| format!("{} a second", thousands(rate as u64));
    page.claim(run, "taken in and acknowledged", ">= 1,500 a second", rate(fast.taken_in), fast.taken_in >= BAR);
    page.claim(run, "sent and acknowledged by the cloud", ">= 1,500 a second", rate(fast.sent), fast.sent >= BAR);
    page.claim(run, "messages lost", "0", thousands(fast.missing), fast.missing == 0);
    page.claim(run, "flushes while they were taken in, of so many messages", "", fast.told(), true);
    page.summary(
        "a disk whose flush takes 10 ms: messages taken in a second",
        ">= 1,500",
        thousands(fast.taken_in as u64),
    );
    let slow = measure(SLOWER, messages / 20);
    let holds = slow.taken_in < BAR;
    page.claim("control: 500 ms a flush", "taken in and acknowledged", "< 1,500 a second", rate(slow.taken_in), holds);
}

struct Measured {
    taken_in: f64,
    sent: f64,
    messages: u64,
    flushes: u64,
    missing: u64,
}

impl Measured {
    fn told(&self) -> String {
        format!("{} of {}", thousands(self.flushes), thousands(self.messages))
    }
}

fn measure(flush: Duration, messages: u64) -> Measured {
    let receiver = Receiver::start(Terms::default(), 1);
    receiver.treat(|treatment| treatment.away = true);
    let disk = Disk::new();
    let mut gateway = gateway(&receiver.url(), "5", "").on_disk(&disk);
    gateway.start();
    disk.slow_sync(flush);
    let (port, each) = (gateway.door().port, messages / PUBLISHERS);
    let (before, start) = (disk.written().syncs, Instant::now());
    std::thread::scope(|scope| {
        for publisher in 1..=PUBLISHERS {
            scope.spawn(move || {
                let lines = (1..=each)
                    .map(|n| (format!("data/{publisher}/once"), 1, format!("{{\"n\":{n},\"pad\":\"{:x<80}\"}}", "")));
                let lines: Vec<_> = lines.collect();
                let mut client = Client::connect(port, &format!("publisher-{publisher}")).expect("connect");
                client.publish(&lines, WINDOW).assert_complete(lines.len());
            });
        }
    });
    let (taken_in, flushes) = (start.elapsed(), disk.written().syncs - before);
    println!("  {messages} taken in within {taken_in:?}, {flushes} flushes");
    let start = Instant::now();
    receiver.treat(|treatment| treatment.away = false);
    wait_until(DRAIN, "the bridge to come back", || receiver.connections() > 0);
    let numbers = (1..=each).collect();
    let missing = || (1..=PUBLISHERS).map(|p| receiver.missing(&format!("data/{p}/once"), 1, &numbers)).sum::<u64>();
    while missing() > 0 && start.elapsed() < DRAIN {
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = start.elapsed();
    println!("  sent within {sent:?}");
    let rate = |time: Duration| messages as f64 / time.as_secs_f64();
    Measured { taken_in: rate(taken_in), sent: rate(sent), messages, flushes, missing: missing() }
}

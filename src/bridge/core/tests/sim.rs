//! Does anything get lost, doubled, out of order or a false time when the engine is killed, cut off or out of disk, the machine starts anew or
//! its clock jumps, its cloud forgets the session or its settings change, at any moment?
//!
//! The core runs against [`Cloud`], without sockets and without sleeping, on a real file. Each step does one random thing: offer, turn,
//! move some bytes one way or the other, cut, kill, fill the disk, set the clock or unset it. Since nothing leaves within a turn, a kill between a turn and its
//! write is a kill between commit and write, and a kill before a turn is one before the commit. Afterwards everything is mended, the
//! rest drains, and what arrived is compared with what was accepted.
//!
//! A failure prints its seed. Seeds that failed once are kept in `seeds.txt` and run first. `SIM_SEEDS=5000` runs more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fastrand::Rng;
use tokio::sync::oneshot;

use super::super::{Close, Core, Ended};
use super::cloud::Cloud;
use super::settings;
use crate::bridge::intake::Offered;
use crate::bridge::settings::Durability;
use crate::bridge::settings::Settings;
use crate::clock::{Clock, FakeClock};
use crate::logic::lanes::Order;
use crate::logic::restamp;
use crate::model::{Message, Moment, Origin, Priority, Qos, Timestamp, TopicName};
use crate::mqtt::client::Version;
use crate::ports::NotAccepted;

/// The true time when a run begins, at a monotonic hour.
const START_MS: i64 = 1_795_396_500_000;
/// Messages of one run.
const MESSAGES: u32 = 300;
/// Steps after the mend within which everything has to be through.
const SETTLE: u32 = 20_000;

mod judge;
mod power;

struct Sent {
    topic: String,
    qos: Qos,
    /// How often the link had come up, or the order had been changed, when it was committed.
    epoch: Option<u32>,
    payload: String,
    /// When it was measured in truth, and in which boot, where its payload says so by a clock that was not set.
    guessed: Option<(i64, u32)>,
    accepted: bool,
    answer: Option<oneshot::Receiver<Result<(), NotAccepted>>>,
}

struct World {
    rng: Rng,
    clock: FakeClock,
    dir: tempfile::TempDir,
    /// Taken out only to be killed.
    core: Option<Core>,
    cloud: Cloud,
    version: Version,
    connected: bool,
    /// Bytes on their way up.
    wire: BytesMut,
    sent: Vec<Sent>,
    disk_full: bool,
    durability: Durability,
    /// What is on disk for certain, and which messages had been accepted by then, while commits do not wait for the disk.
    flushed: tempfile::TempDir,
    flushed_until: BTreeSet<usize>,
    power_cuts: u32,
    kills: u32,
    cuts: u32,
    full_disks: u32,
    hang_ups: u32,
    boot: u32,
    /// The true time when this boot's monotonic clock began.
    began_ms: i64,
    /// By how much the clock was wrong while it counted as set, each time it was.
    errors_ms: Vec<i64>,
    jumps: u32,
    mended: u32,
    /// A cloud that forgets its session now and then, and how often it did.
    forgetful: bool,
    forgotten: u32,
    order: Order,
    /// Whether it ever was `live-first`.
    live_first: bool,
    /// How often the link came up, or the order was changed.
    epoch: u32,
    /// Messages that went up ahead of an older one of their topic, as `live-first` wants it.
    overtaken: u32,
    /// Numbers whose time was a guess when everything was mended, and had to be known when they were sent.
    owed: BTreeSet<usize>,
}

impl World {
    fn new(seed: u64, durability: Durability) -> Self {
        let mut rng = Rng::with_seed(seed);
        // A flush costs nothing in memory, and here it is the order of things that counts.
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let clock = FakeClock::new(START_MS);
        let version = if rng.bool() { Version::V5 } else { Version::V311 };
        let mut cloud = Cloud::new(rng.u16(1..40));
        cloud.inflight_max_311 = rng.usize(1..30);
        let mut world = Self {
            rng,
            clock,
            dir,
            core: None,
            cloud,
            version,
            connected: false,
            wire: BytesMut::new(),
            sent: Vec::new(),
            disk_full: false,
            durability,
            flushed: tempfile::tempdir().unwrap(),
            flushed_until: BTreeSet::new(),
            power_cuts: 0,
            kills: 0,
            cuts: 0,
            full_disks: 0,
            hang_ups: 0,
            boot: 0,
            began_ms: START_MS - 3_600_000,
            errors_ms: vec![0],
            jumps: 0,
            mended: 0,
            forgetful: false,
            forgotten: 0,
            order: Order::OldestFirst,
            live_first: false,
            epoch: 0,
            overtaken: 0,
            owed: BTreeSet::new(),
        };
        world.forgetful = world.rng.u8(0..4) == 0;
        world.order = if world.rng.bool() { Order::OldestFirst } else { Order::LiveFirst };
        world.jump();
        world.open();
        world
    }

    fn settings(&mut self) -> Arc<Settings> {
        let mut settings = settings(self.dir.path());
        settings.window = self.rng.u16(1..60);
        settings.outbox.order = self.order;
        settings.outbox.durability = self.durability;
        self.live_first |= self.order == Order::LiveFirst;
        Arc::new(settings)
    }

    fn open(&mut self) {
        let settings = self.settings();
        self.core = Some(Core::open(&settings, &self.clock).unwrap());
        self.photograph();
    }

    /// A reload that chooses another window and order.
    fn reload(&mut self) {
        self.order = if self.rng.bool() { Order::OldestFirst } else { Order::LiveFirst };
        self.epoch += 1;
        let settings = self.settings();
        self.core().apply(settings);
    }

    fn core(&mut self) -> &mut Core {
        self.core.as_mut().unwrap()
    }

    fn offer(&mut self) {
        let id = self.sent.len();
        // A topic's messages are of one priority, as rules make them.
        let number = self.rng.usize(0..5);
        let (topic, priority) = (format!("t/{number}"), Priority::at(number).unwrap_or_default());
        let qos = if self.rng.bool() { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
        // Half of them are a sensor's: nobody waits for the commit, and it may linger.
        let (sender, answer) = if self.rng.bool() { Some(oneshot::channel()).unzip() } else { (None, None) };
        let wall = self.clock.wall();
        let mut message = Message::new(TopicName::parse(&topic).unwrap(), [], qos, false, Origin::Client);
        // Of some the gateway wrote the time, some before they are told, and some are a client's that look the same.
        let at = if self.rng.bool() { wall } else { self.earlier(wall) };
        let kind = self.rng.u8(0..3);
        let payload = if kind == 0 {
            id.to_string()
        } else {
            restamp::object(at, serde_json::Map::from_iter([("n".to_owned(), id.into())]))
        };
        if kind == 2 {
            message = message.stamped(at);
        }
        let guessed = message.stamp.map(|at| (self.true_ms(at), self.boot));
        message.payload = payload.as_bytes().into();
        let offered = Offered {
            topic: message.topic.clone(),
            qos,
            retain: false,
            priority,
            rule: None,
            message: Arc::new(message),
            at: wall,
            is_here: false,
            answer: sender,
        };
        let now = self.clock.now();
        let unsent = self.wire.len();
        self.core().offer(offered, now, unsent);
        self.sent.push(Sent { topic, qos, epoch: None, payload, guessed, accepted: false, answer });
    }

    /// The true time at a moment of this boot.
    fn true_ms(&self, at: Moment) -> i64 {
        self.began_ms + i64::try_from(at.since_start().as_millis()).unwrap()
    }

    /// A time by the same clock, some seconds ago.
    fn earlier(&mut self, wall: Timestamp) -> Timestamp {
        let ago_ms = self.rng.u16(0..8_000);
        let at = wall.at.unwrap().since_start().saturating_sub(Duration::from_millis(ago_ms.into()));
        Timestamp { unix_ms: wall.unix_ms - i64::from(ago_ms), at: Some(Moment::at(at)), ..wall }
    }

    /// The clock is set right, or wrong and counts as set all the same, or is a guess.
    fn jump(&mut self) {
        self.jumps += 1;
        let error_ms = self.rng.i64(-3_600_000..3_600_000);
        let (error_ms, synced) = match self.rng.u8(0..8) {
            0..=2 => (0, true),
            3 => (error_ms, true),
            4 => (-self.true_ms(self.clock.now()), false),
            _ => (error_ms, false),
        };
        if synced {
            self.errors_ms.push(error_ms);
        }
        self.set_clock(error_ms, synced);
    }

    fn set_clock(&mut self, error_ms: i64, synced: bool) {
        let unix_ms = self.true_ms(self.clock.now()) + error_ms;
        self.clock.set_wall(Timestamp { unix_ms, synced, at: None });
    }

    /// One turn; its bytes are written, in part, or not at all.
    fn turn(&mut self) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let unsent = self.wire.len();
        let waited: Vec<usize> = self.core().waiting.iter().map(id).collect();
        let (was_online, flight) = (self.core().is_online(), self.core().flight.in_order());
        let flush_at = self.core().flush_at;
        let turn = self.core().turn(now, wall, unsent);
        let flushed = flush_at.is_some_and(|at| now >= at) && self.core().fault().is_none();
        let waits: BTreeSet<usize> = self.core().waiting.iter().map(id).collect();
        for id in waited.into_iter().filter(|id| !waits.contains(id)) {
            self.sent[id].epoch = Some(self.epoch);
        }
        self.epoch += u32::from(!was_online && self.core().is_online());
        self.judge_urgency(&flight);
        if self.core().waiting.is_empty() {
            // Whoever did not wait for an answer is committed when nothing waits any more.
            for sent in self.sent.iter_mut().filter(|sent| sent.answer.is_none()) {
                sent.accepted = true;
            }
        }
        for sent in &mut self.sent {
            if let Some(answer) = &mut sent.answer
                && let Ok(Ok(())) = answer.try_recv()
            {
                sent.accepted = true;
            }
        }
        if flushed {
            self.photograph();
        }
        self.wire.extend_from_slice(&turn.bytes);
        match turn.close {
            None => {}
            Some(Close::Purged) => {
                self.carry_up(usize::MAX);
                self.cut();
            }
            Some(_) => self.cut(),
        }
    }

    fn carry_up(&mut self, most: usize) {
        let length = most.min(self.wire.len());
        self.cloud.feed(&self.wire[..length]);
        self.wire.advance(length);
        if self.cloud.hung_up {
            self.hang_ups += 1;
            self.core().disconnected(Ended::Closed);
            self.cloud.cut();
            self.connected = false;
            self.wire.clear();
        }
    }

    fn carry_down(&mut self, most: usize) {
        let length = most.min(self.cloud.output.len());
        let bytes = self.cloud.output.split_to(length);
        let (now, wall) = (self.clock.now(), self.clock.wall());
        if let Err(close) = self.core().receive(&bytes, now, wall) {
            panic!("the core closes: {close:?}");
        }
    }

    fn cut(&mut self) {
        self.core().disconnected(Ended::Here);
        if self.forgetful && self.rng.u8(0..5) == 0 {
            self.forgotten += 1;
            self.cloud.forget();
        }
        self.cloud.cut();
        self.connected = false;
        self.wire.clear();
    }

    /// The process dies: memory is gone, the kernel may still send what was written.
    fn kill(&mut self) {
        self.kills += 1;
        let most = self.rng.usize(0..=self.wire.len());
        self.cloud.feed(&self.wire[..most]);
        drop(self.core.take());
        self.cloud.cut();
        self.connected = false;
        self.wire.clear();
        // What nobody had been told was accepted is its publisher's again.
        for sent in self.sent.iter_mut().filter(|sent| !sent.accepted) {
            sent.answer = Some(oneshot::channel().1);
        }
        self.disk_full = false;
        if self.rng.u8(0..4) == 0 {
            self.cut_power();
            self.reboot();
        }
        self.open();
    }

    fn connect(&mut self) {
        let (now, wall, version) = (self.clock.now(), self.clock.wall(), self.version);
        self.wire = self.core().connect(version, now, wall).unwrap();
        self.connected = true;
    }

    fn some(&mut self) -> usize {
        if self.rng.bool() { usize::MAX } else { self.rng.usize(0..200) }
    }

    fn step(&mut self, faults: bool) {
        let faulty = if faults { 1_013 } else { 940 };
        match self.rng.u32(0..faulty) {
            // Now one, now a burst that fills the window and then some.
            0..=119 => {
                let burst = if self.rng.u8(0..10) == 0 { 30 } else { 1 };
                for _ in 0..burst.min(MESSAGES as usize - self.sent.len()) {
                    self.offer();
                }
            }
            120..=499 => self.turn(),
            500..=699 => {
                let most = self.some();
                self.carry_up(most);
            }
            700..=879 => {
                let most = self.some();
                self.carry_down(most);
            }
            880..=899 if !self.connected => self.connect(),
            900..=939 => {
                let span = if self.rng.u8(0..10) == 0 { 6_000 } else { self.rng.u64(0..80) };
                self.clock.advance(Duration::from_millis(span));
            }
            940..=959 => self.kill(),
            960..=985 if self.connected => {
                self.cuts += 1;
                let most = self.rng.usize(0..=self.wire.len());
                self.carry_up(most);
                self.cut();
            }
            986..=990 if !self.disk_full => {
                self.full_disks += 1;
                self.fill_disk(true);
            }
            991..=999 if self.disk_full => self.fill_disk(false),
            1_000..=1_009 => self.jump(),
            1_010..=1_012 => self.reload(),
            _ => {}
        }
    }

    /// Mends everything and waits until nothing is left.
    fn settle(&mut self) {
        if self.disk_full {
            self.fill_disk(false);
        }
        self.set_clock(0, true);
        // What was sent and then forgotten is waiting again, in the words in which it was sent.
        self.owed = if self.forgetful { BTreeSet::new() } else { self.unsent_guesses() };
        for _ in 0..SETTLE {
            if !self.connected {
                self.connect();
            }
            self.turn();
            self.carry_up(usize::MAX);
            self.carry_down(usize::MAX);
            self.clock.advance(Duration::from_millis(20));
            if self.core().is_empty() && self.sent.len() == MESSAGES as usize && self.wire.is_empty() {
                return;
            }
            if self.sent.len() < MESSAGES as usize {
                self.offer();
            }
        }
        let core = self.core();
        panic!("still {} waiting, {} in flight, fault {:?}", core.queued(), core.flight.len(), core.fault());
    }

    /// Numbers of this boot whose time is a guess and that have never been sent.
    fn unsent_guesses(&self) -> BTreeSet<usize> {
        let outbox = self.core.as_ref().unwrap().outbox.as_ref().unwrap();
        let claimed = outbox.claimed().unwrap().into_iter();
        let sent = claimed.map(|claim| {
            String::from_utf8(outbox.record(claim.priority, claim.seq).unwrap().unwrap().payload).unwrap()
        });
        let arrived = self.cloud.arrived.iter().map(|arrival| String::from_utf8(arrival.payload.clone()).unwrap());
        let sent: BTreeSet<usize> = sent.chain(arrived).map(|payload| number(&payload)).collect();
        let of_this_boot = |id: &usize| self.sent[*id].guessed.is_some_and(|(_, boot)| boot == self.boot);
        (0..self.sent.len()).filter(of_this_boot).filter(|id| !sent.contains(id)).collect()
    }
}

fn id(offered: &Offered) -> usize {
    number(std::str::from_utf8(&offered.message.payload).unwrap())
}

/// The number of a message, from its payload.
fn number(payload: &str) -> usize {
    let told: serde_json::Value = serde_json::from_str(payload).unwrap();
    let number = told.get("n").unwrap_or(&told).as_u64().unwrap();
    usize::try_from(number).unwrap()
}

fn run(seed: u64, durability: Durability) -> World {
    let mut world = World::new(seed, durability);
    for _ in 0..1_500 {
        world.step(true);
    }
    world.settle();
    world.judge();
    world
}

#[test]
fn nothing_is_lost_or_doubled_whatever_is_killed_cut_or_full() {
    let kept =
        include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#')).map(|line| line.parse().unwrap());
    let more: u64 = std::env::var("SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(120);
    let (mut kills, mut cuts, mut full_disks, mut hang_ups) = (0, 0, 0, 0);
    let (mut boots, mut jumps, mut mended, mut owed) = (0, 0, 0, 0);
    let (mut forgotten, mut overtaken) = (0, 0);
    for seed in kept.chain(1..=more) {
        let outcome = std::panic::catch_unwind(|| run(seed, Durability::Power));
        match outcome {
            Ok(world) => {
                kills += world.kills;
                cuts += world.cuts;
                full_disks += world.full_disks;
                hang_ups += world.hang_ups;
                boots += world.boot;
                jumps += world.jumps;
                mended += world.mended;
                owed += world.owed.len();
                forgotten += world.forgotten;
                overtaken += world.overtaken;
            }
            Err(panic) => {
                println!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{kills} kills, {cuts} cuts, {full_disks} full disks, {hang_ups} hang-ups");
    println!(
        "{boots} starts of the machine, {jumps} jumps of the clock, {mended} times mended, {owed} of them at the end"
    );
    println!("{forgotten} sessions forgotten, {overtaken} times something live went ahead");
    assert!(forgotten > 0 && overtaken > 0, "nothing was forgotten, or nothing was live");
    assert!(kills > 0 && cuts > 0 && full_disks > 0, "the faults did not happen");
    assert!(boots > 0 && jumps > 0 && mended > 0 && owed > 0, "nothing happened to the clock");
}

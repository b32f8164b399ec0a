//! A cloud that forgets the session at every fifth connection, with kills and cuts at any moment: what each `on_session_loss` keeps of its word.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fastrand::Rng;

use super::super::Ended;
use super::bench::Bench;
use crate::bridge::settings::OnSessionLoss;
use crate::clock::Clock;
use crate::model::Qos;
use crate::mqtt::client::Version;

const SEEDS: u64 = 15;
const MESSAGES: usize = 200;

#[derive(Debug, Default)]
struct Outcome {
    sent: [usize; 2],
    lost: [usize; 2],
    /// QoS 2 messages that arrived more than once.
    doubled: usize,
    forgotten: u32,
    kills: u32,
}

/// How often the process dies, and how often the link is cut, in 10,000 steps.
#[derive(Debug, Clone, Copy)]
struct Faults {
    kills: u32,
    cuts: u32,
}

/// Far more than any site sees: a kill for every three messages.
const MANY: Faults = Faults { kills: 200, cuts: 300 };
/// Still a kill for every few hundred messages, and cuts between them.
const SOME: Faults = Faults { kills: 4, cuts: 60 };

struct World {
    rng: Rng,
    faults: Faults,
    policy: OnSessionLoss,
    bench: Option<Bench>,
    wire: BytesMut,
    connected: bool,
    connects: u32,
    sent: Vec<Qos>,
    outcome: Outcome,
}

impl World {
    fn new(policy: OnSessionLoss, at_release: bool, faults: Faults, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut bench = Bench::with(|settings| settings.on_session_loss = policy);
        bench.version = if rng.bool() { Version::V5 } else { Version::V311 };
        bench.cloud.at_release = at_release;
        let (wire, outcome) = (BytesMut::new(), Outcome::default());
        Self { rng, faults, policy, bench: Some(bench), wire, connected: false, connects: 0, sent: Vec::new(), outcome }
    }

    fn bench(&mut self) -> &mut Bench {
        self.bench.as_mut().unwrap()
    }

    fn offer(&mut self) {
        let (id, qos) = (self.sent.len(), if self.rng.bool() { Qos::AtLeastOnce } else { Qos::ExactlyOnce });
        let bench = self.bench();
        let offered = bench.offered("t", &id.to_string(), qos);
        bench.core.offer(offered, bench.clock.now(), 0);
        bench.clock.advance(Duration::from_millis(60));
        // Committed before anything can be killed: accepted is what is judged here.
        self.turn();
        self.sent.push(qos);
    }

    fn connect(&mut self, forgets: bool) {
        self.connects += 1;
        let forget = forgets && self.connects.is_multiple_of(5);
        let bench = self.bench();
        if forget {
            bench.cloud.forget();
        }
        let bytes = bench.core.connect(bench.version, bench.clock.now(), bench.clock.wall()).unwrap();
        self.wire = bytes;
        self.connected = true;
        self.outcome.forgotten += u32::from(forget);
    }

    fn cut(&mut self) {
        self.wire.clear();
        self.connected = false;
        self.bench().cut();
    }

    fn kill(&mut self) {
        let policy = self.policy;
        self.wire.clear();
        self.connected = false;
        self.outcome.kills += 1;
        self.bench = self.bench.take().map(|bench| bench.reopen(|settings| settings.on_session_loss = policy));
    }

    fn turn(&mut self) {
        let unsent = self.wire.len();
        let (bytes, close) = self.bench().turn(unsent);
        self.wire.extend_from_slice(&bytes);
        if close.is_some() {
            self.carry_up(usize::MAX);
            self.cut();
        }
    }

    fn carry_up(&mut self, most: usize) {
        let length = most.min(self.wire.len());
        let bytes = self.wire[..length].to_vec();
        self.wire.advance(length);
        let bench = self.bench();
        bench.cloud.feed(&bytes);
        if bench.cloud.hung_up {
            bench.core.disconnected(Ended::Closed);
            self.cut();
        }
    }

    fn carry_down(&mut self) {
        let bench = self.bench();
        let bytes = bench.cloud.output.split();
        bench.core.receive(&bytes, bench.clock.now(), bench.clock.wall()).unwrap();
    }

    fn step(&mut self) {
        let fault = self.rng.u32(0..10_000);
        if fault < self.faults.kills {
            return self.kill();
        }
        if fault < self.faults.kills + self.faults.cuts && self.connected {
            return self.cut();
        }
        match self.rng.u8(0..100) {
            0..=14 if self.sent.len() < MESSAGES => self.offer(),
            0..=39 => self.turn(),
            40..=59 => {
                let most = if self.rng.bool() { usize::MAX } else { self.rng.usize(0..100) };
                self.carry_up(most);
            }
            60..=79 if self.connected => self.carry_down(),
            80..=89 if !self.connected => self.connect(true),
            _ => self.bench().clock.advance(Duration::from_millis(5)),
        }
    }

    fn judge(mut self) -> Outcome {
        for _ in 0..20_000 {
            if !self.connected {
                self.connect(false);
            }
            self.turn();
            self.carry_up(usize::MAX);
            self.carry_down();
            self.bench().clock.advance(Duration::from_millis(20));
            if self.bench().core.is_empty() && self.wire.is_empty() {
                break;
            }
        }
        assert!(self.bench().core.is_empty(), "it does not drain");
        assert_eq!(self.bench().cloud.violations, Vec::<String>::new());
        let mut count: BTreeMap<usize, usize> = BTreeMap::new();
        for payload in self.bench().arrived() {
            *count.entry(payload.parse().unwrap()).or_default() += 1;
        }
        let mut outcome = self.outcome;
        for (id, qos) in self.sent.iter().enumerate() {
            let (two, times) = (usize::from(*qos == Qos::ExactlyOnce), count.get(&id).copied().unwrap_or(0));
            outcome.sent[two] += 1;
            outcome.lost[two] += usize::from(times == 0);
            outcome.doubled += usize::from(two == 1 && times > 1);
        }
        outcome
    }
}

fn all(policy: OnSessionLoss, at_release: bool, faults: Faults) -> Outcome {
    let mut sum = Outcome::default();
    for seed in 1..=SEEDS {
        let mut world = World::new(policy, at_release, faults, seed);
        for _ in 0..3_000 {
            world.step();
        }
        let outcome = world.judge();
        for two in [0, 1] {
            sum.sent[two] += outcome.sent[two];
            sum.lost[two] += outcome.lost[two];
        }
        sum.doubled += outcome.doubled;
        sum.forgotten += outcome.forgotten;
        sum.kills += outcome.kills;
    }
    println!("{policy:?}, delivery at {}: {sum:?}", if at_release { "PUBREL" } else { "PUBLISH" });
    assert!(sum.forgotten > 20 && sum.kills > 10, "the faults did not happen");
    sum
}

#[test]
fn no_loss_loses_nothing_whatever_the_cloud_forgets_and_whenever_we_are_killed() {
    for at_release in [true, false] {
        assert_eq!(all(OnSessionLoss::NoLoss, at_release, MANY).lost, [0, 0]);
    }
}

#[test]
fn resend_loses_no_qos_1_and_hardly_any_qos_2() {
    let outcome = all(OnSessionLoss::Resend, true, SOME);
    assert_eq!(outcome.lost[0], 0);
    assert!(outcome.lost[1] * 1_000 <= outcome.sent[1], "{outcome:?}");
    assert_eq!(all(OnSessionLoss::Resend, false, MANY).lost, [0, 0], "what is delivered at its PUBLISH is there");
}

#[test]
fn drop_uncertain_doubles_nothing_at_a_cloud_that_delivers_at_the_release() {
    let outcome = all(OnSessionLoss::DropUncertain, true, MANY);
    assert_eq!((outcome.doubled, outcome.lost[0]), (0, 0));
}

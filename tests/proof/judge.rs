//! What was promised against what arrived.

use std::time::{Duration, Instant};

use crate::feed::Stream;
use crate::page::{Page, thousands};
use crate::support::receiver::Receiver;
use crate::support::{Sent, Verdict};

/// Longest a drain may stand still before what has not arrived counts as lost.
const STUCK: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How a campaign went.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) attempted: u64,
    pub(crate) acknowledged: u64,
    /// Acknowledged and never arrived, QoS 1 and QoS 2.
    pub(crate) lost: [u64; 2],
    pub(crate) verdict: Verdict,
    /// QoS 2 handshakes that never came to an end.
    pub(crate) unfinished: u64,
}

/// Acknowledged messages of this QoS that have not arrived.
pub(crate) fn missing(receiver: &Receiver, streams: &[Stream], qos: u8) -> u64 {
    let of_qos = streams.iter().filter(|stream| stream.qos == qos);
    of_qos.map(|stream| receiver.missing(&stream.topic, qos, &stream.acknowledged)).sum()
}

/// Waits until everything is through, or nothing moves any more, and judges.
pub(crate) fn judge(receiver: &Receiver, streams: &[Stream]) -> Outcome {
    judge_after(STUCK, receiver, streams)
}

/// The same with a drain that may stand still for so long.
pub(crate) fn judge_after(stuck: Duration, receiver: &Receiver, streams: &[Stream]) -> Outcome {
    let sent: Vec<Sent> = streams.iter().map(|s| Sent::new(&s.topic, s.qos, 1..=s.attempted)).collect();
    let look = || {
        let lost = [1, 2].map(|qos| missing(receiver, streams, qos));
        (lost, receiver.held() as u64, receiver.arrived(&sent))
    };
    let (mut state, mut moved) = (look(), Instant::now());
    while state.0 != [0, 0] || state.1 > 0 {
        std::thread::sleep(LOOK);
        let now = look();
        if now != state {
            (state, moved) = (now, Instant::now());
        } else if moved.elapsed() > stuck {
            println!(
                "  nothing has moved for {stuck:?}: {} of QoS 1 and {} of QoS 2 are missing",
                state.0[0], state.0[1]
            );
            break;
        }
    }
    Outcome {
        attempted: streams.iter().map(|stream| stream.attempted).sum(),
        acknowledged: streams.iter().map(|stream| stream.acknowledged.len() as u64).sum(),
        lost: state.0,
        verdict: receiver.verdict(&sent),
        unfinished: state.1,
    }
}

impl Outcome {
    /// What is promised while the cloud keeps its session.
    pub(crate) fn claim_exactness(&self, page: &mut Page, run: &str) {
        self.claim_lost(page, run);
        page.zero(run, "QoS 2 messages doubled", self.verdict.doubled);
        self.claim_order(page, run);
    }

    pub(crate) fn claim_lost(&self, page: &mut Page, run: &str) {
        let measured = format!("{} / {} of {}", self.lost[0], self.lost[1], thousands(self.acknowledged));
        page.claim(run, "acknowledged messages lost, QoS 1 / QoS 2", "0 / 0", measured, self.lost == [0, 0]);
    }

    /// Order of each topic, and the letter of the specification.
    pub(crate) fn claim_order(&self, page: &mut Page, run: &str) {
        page.zero(run, "messages out of order within their topic", self.verdict.disordered);
        let breaches = self.verdict.violations.len() as u64 + self.verdict.strange + self.unfinished;
        page.zero(run, "breaches of the specification, packet ids used twice, messages nobody sent", breaches);
        for violation in self.verdict.violations.iter().take(5) {
            println!("  breach: {violation}");
        }
    }

    /// The numbers around the claims.
    pub(crate) fn told(&self) -> String {
        format!(
            "{} messages were sent to the gateway and {} acknowledged; {} of QoS 1 came more than once, as QoS 1 allows",
            thousands(self.attempted),
            thousands(self.acknowledged),
            thousands(self.verdict.repeated)
        )
    }
}

/// Several runs together, for the top of the page.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) kills: u64,
    pub(crate) cuts: u64,
    acknowledged: u64,
    lost: u64,
    doubled: u64,
    disordered: u64,
}

impl Total {
    pub(crate) fn add(&mut self, kills: u64, cuts: u64, outcome: &Outcome) {
        self.kills += kills;
        self.cuts += cuts;
        self.acknowledged += outcome.acknowledged;
        self.lost += outcome.lost[0] + outcome.lost[1];
        self.doubled += outcome.verdict.doubled;
        self.disordered += outcome.verdict.disordered;
    }

    /// Lost, doubled, out of order.
    pub(crate) fn told(&self) -> String {
        let Self { lost, doubled, disordered, .. } = self;
        format!("{lost} / {doubled} / {disordered} of {}", thousands(self.acknowledged))
    }
}

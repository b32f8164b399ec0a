//! The engine without its socket: store, handshakes, decisions. Bytes in, bytes out.
//!
//! One turn: take in what came ([`Core::receive`], [`Core::offer`]), then [`Core::turn`], which makes at most one commit and returns what
//! may leave after it. Nothing that a turn produces may be written before the turn has returned: that single rule gives "no message lost"
//! and "QoS 2 not doubled" over any crash (docs/bridge.md). A test may therefore cut anywhere between two turns, and between a turn and
//! its write, and has then cut everywhere.
//!
//! - `turn` is the transaction: deletions, releases, new records; `fill` what the window has room for; `fault` what a failed one means.
//! - `connecting` is how a connection begins and ends, `subscribing` what is asked to come down; `incoming` is what the cloud's packets mean,
//!   `doubt` what `on_session_loss = "no-loss"` does, `refused` what becomes of a message that the cloud does not take.
//! - `exchanges` is what makes QoS 2 of local clients go up once; `caps` is what comes in and what goes at a limit, `shares` the limits of single rules, `pacing` how fast it goes up, `durability` what it survives.
//! - `link` is the state of one connection, `drops` what has to be counted and told, `counting` how many wait, `chores` what a person has
//!   done with the store.

mod caps;
mod chores;
mod connecting;
mod counting;
mod dead;
mod doubt;
mod drops;
mod durability;
mod exchanges;
mod fault;
mod fill;
mod incoming;
mod link;
mod numbers;
mod offering;
mod pacing;
mod refused;
mod salvaging;
mod shares;
mod subscribing;
#[cfg(test)]
pub(super) mod tests;
mod turn;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use super::intake::Offered;
use super::settings::Settings;
use super::{BridgeError, StoreFigures};
use crate::clock::Clock;
use crate::limits::{ACKNOWLEDGED_LINGER, GATHER, SHRINK_PAUSE};
use crate::logic::echo::Echoes;
use crate::logic::flight::{Claim, Flight};
use crate::logic::lanes::Lanes;
use crate::logic::refusal::Refusals;
use crate::logic::window::Window;
use crate::model::{BootId, GatewayId, Message, Moment, Timestamp};
use crate::ports::NotAccepted;
use crate::store::{Condition, Opened, Outbox, StoreError};
pub(super) use connecting::Ended;
pub(super) use drops::{Cause, Drops, event};
pub(super) use incoming::Close;
use link::{Link, Phase};
use salvaging::{Rescue, Shut};

/// What leaves after a turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// To the cloud.
    pub(super) bytes: BytesMut,
    /// To the local broker.
    pub(super) publish: Vec<Message>,
    /// The connection is to end, after the bytes.
    pub(super) close: Option<Close>,
}

/// A store that cannot write.
#[derive(Debug)]
struct Fault {
    reason: String,
    condition: Condition,
    since: Moment,
    retry_at: Moment,
    /// Whether not even what takes no new space could be written.
    stuck: bool,
}

/// Messages that were not taken in while the store could not be written.
#[derive(Debug, Default)]
struct Missed {
    dropped: u64,
    refused: u64,
}

/// The engine without its socket.
pub(super) struct Core {
    settings: Arc<Settings>,
    /// The boot that runs.
    boot: BootId,
    /// Missing while it cannot be opened, or a damaged file cannot be replaced; [`Core::turn`] tries again.
    outbox: Option<Outbox>,
    flight: Flight,
    /// Which record is next.
    lanes: Lanes,
    window: Window,
    refusals: Refusals,
    /// Whether nothing of the store may go out for now: subscriptions are not answered, or a refusal is waited out.
    held: bool,
    /// Until when a refusal is waited out; `None` when that is over.
    pause: Option<Moment>,
    link: Option<Link>,
    /// QoS 2 packet ids of the cloud that were received and not released.
    received: BTreeSet<u16>,
    /// Offered, not committed.
    waiting: VecDeque<Offered>,
    waiting_since: Option<Moment>,
    /// How many of those have someone waiting for the commit.
    waiting_answers: usize,
    /// Ended handshakes whose records are still in the file.
    finished: Vec<Claim>,
    /// The same of those that the cloud will never take, and why.
    refused: Vec<(Claim, Cause)>,
    finished_since: Option<Moment>,
    /// Since when the link has had work that may wait for more of its kind.
    gather_since: Option<Moment>,
    /// PUBREC came: to be committed before the PUBREL.
    releases: Vec<u16>,
    down_notes: Vec<(u16, bool)>,
    /// The cloud forgot the session: so must the file.
    forget: bool,
    /// Words to be remembered.
    notes: Vec<(&'static str, String)>,
    /// Something of the above waits, and what may be said on the link waits for it.
    must_commit: bool,
    /// The store has yet to learn that the clock was set.
    clock_news: bool,
    /// The cloud may know a session that this store does not: it has to forget it once.
    clean_needed: bool,
    /// What subscriptions the cloud holds for us, as canonical text; those that it may hold begin with a `?`.
    subscribed: Option<String>,
    /// The identity whose cloud has spoken MQTT 5.
    v5_of: Option<String>,
    /// What messages of this store are named after.
    store_id: String,
    /// A CONNECT has left whose answer was not committed while messages were half handed over: the session may have been lost unseen.
    connect_open: bool,
    /// Released messages that an unseen loss of the session may concern.
    doubtful: BTreeSet<u16>,
    /// Of those, whom the cloud did not know: to be published once more.
    unreleases: Vec<u16>,
    /// What a 3.1.1 cloud is going to send back.
    echoes: Echoes,
    /// The gateway whose broker the cloud is, where it is one: as it said last.
    peer: Option<GatewayId>,
    /// It was this gateway's own: before it has said that it is another by now, nothing is said to it.
    own_broker: bool,
    fault: Option<Fault>,
    missed: Missed,
    /// When the disk is to be asked for its room again.
    disk_look: Option<Moment>,
    /// A damaged store whose records are being brought over.
    rescue: Option<Rescue>,
    /// That was interrupted by a fault, and goes on from its note in the file.
    rescue_again: Option<Moment>,
    /// A damaged store that did not open.
    shut: Shut,
    /// What is counted of the store since start.
    store: StoreFigures,
    /// The goodbye was acknowledged.
    left: bool,
    /// The store was replaced while a connection was up.
    new_store: bool,
    aliases: numbers::Numbers,
    caps: caps::Caps,
    exchanges: exchanges::Exchanges,
    pacing: pacing::Pacing,
    /// When what was committed is to be flushed; `None` while all of it is on disk.
    flush_at: Option<Moment>,
    /// Whether commits do not wait for the disk.
    relaxed: bool,
    /// When to count on; of no meaning once all is counted.
    count_at: Moment,
    sweep_at: Moment,
    /// When to look for space to give back; `None` while nothing was removed since the last look.
    shrink_at: Option<Moment>,
    /// How many the cloud acknowledged since start.
    delivered: u64,
    pub(super) drops: Drops,
    /// Told locally with the next turn.
    publish: Vec<Message>,
}

impl Core {
    /// Opens the store. One that cannot be used, whatever the reason, is no error: the core starts without it and tries again. That another
    /// process has it is one, since it is most likely another gateway.
    pub(super) fn open(settings: &Arc<Settings>, clock: &dyn Clock) -> Result<Self, BridgeError> {
        match Outbox::open(&settings.store_path(), clock.boot()) {
            Err(error) if error.is_in_use() => Err(BridgeError::Store { bridge: settings.id.to_string(), error }),
            found => Ok(Self::new(settings, found, clock)),
        }
    }

    fn new(settings: &Arc<Settings>, found: Result<(Outbox, Opened), StoreError>, clock: &dyn Clock) -> Self {
        let (now, wall) = (clock.now(), clock.wall());
        let (outbox, opened) = match found {
            Ok((outbox, opened)) => (Some(outbox), Ok(opened)),
            Err(error) => (None, Err(error)),
        };
        let window = Window::new(settings.window);
        let mut core = Self {
            settings: Arc::clone(settings),
            boot: clock.boot(),
            outbox,
            flight: Flight::default(),
            lanes: Lanes::new(settings.outbox.order),
            window,
            refusals: Refusals::default(),
            held: false,
            pause: None,
            link: None,
            received: BTreeSet::new(),
            waiting: VecDeque::new(),
            waiting_since: None,
            waiting_answers: 0,
            finished: Vec::new(),
            refused: Vec::new(),
            finished_since: None,
            gather_since: None,
            releases: Vec::new(),
            down_notes: Vec::new(),
            forget: false,
            notes: Vec::new(),
            must_commit: false,
            clock_news: false,
            clean_needed: false,
            subscribed: None,
            v5_of: None,
            store_id: String::new(),
            connect_open: false,
            doubtful: BTreeSet::new(),
            unreleases: Vec::new(),
            echoes: Echoes::default(),
            peer: None,
            own_broker: false,
            fault: None,
            missed: Missed::default(),
            disk_look: None,
            rescue: None,
            rescue_again: None,
            shut: Shut::default(),
            store: StoreFigures::default(),
            left: false,
            new_store: false,
            aliases: numbers::Numbers::default(),
            caps: caps::Caps::new(settings),
            exchanges: exchanges::Exchanges::default(),
            pacing: pacing::Pacing::new(settings.outbox.rate),
            flush_at: None,
            relaxed: false,
            count_at: now,
            sweep_at: now,
            shrink_at: Some(now + SHRINK_PAUSE),
            delivered: 0,
            drops: Drops::default(),
            publish: Vec::new(),
        };
        match opened {
            Ok(opened) => core.loaded(&opened, now, wall),
            Err(error) => core.stuck(&error, now, wall),
        }
        core
    }

    /// Reads how far everything is from the file.
    fn load(&mut self) -> Result<(), StoreError> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        self.flight = Flight::restore(outbox.claimed()?);
        self.lanes.rewind();
        self.received = outbox.received()?.into_iter().collect();
        self.clean_needed = outbox.meta(SESSION_OF)?.as_deref() != Some(&*identity(&self.settings));
        self.subscribed = outbox.meta(SUBSCRIBED)?;
        self.v5_of = outbox.meta(V5_OF)?;
        if outbox.meta(QOS2_OF)?.as_deref() == Some(&*identity(&self.settings)) {
            self.window.knows_qos2();
        } else if self.window.has_qos2() {
            // This file is a new one.
            self.notes.push((QOS2_OF, identity(&self.settings)));
        }
        let may_lack_commits = outbox.may_lack_commits()?;
        self.clean_needed |= may_lack_commits;
        self.connect_open = outbox.meta(CONNECT_OPEN)?.is_some_and(|open| !open.is_empty());
        // Where commits may have gone with the power, numbers may be given out again: an id made of them must be another.
        let known = outbox.meta(STORE_ID)?.filter(|_| !may_lack_commits);
        self.store_id = known.unwrap_or_else(|| {
            // Written with the first packet id that is given out, before anything leaves under it.
            let id = format!("{:016x}", fastrand::u64(..));
            self.notes.push((STORE_ID, id.clone()));
            id
        });
        self.doubtful.clear();
        self.exchanges.load(outbox, may_lack_commits)?;
        self.choose_durability();
        self.caps.look_anew();
        self.keep_within();
        self.count_rules();
        Ok(())
    }

    /// Takes new settings; the caller ends the connection first where they concern it.
    pub(super) fn apply(&mut self, settings: Arc<Settings>) {
        let moved = identity(&settings) != identity(&self.settings);
        if moved {
            // What was learnt is another cloud's.
            self.window = Window::new(settings.window);
            self.window.probe(self.refusals.is_probing());
            self.aliases = numbers::Numbers::default();
        }
        self.window.configure(settings.window);
        if let Some(outbox) = &self.outbox {
            self.lanes.set_order(settings.outbox.order, outbox.next());
        }
        self.settings = settings;
        self.clean_needed |= moved;
        // Nor is a cloud whose name is known asked whose it is.
        let anew = moved || !self.settings.limits.greet;
        self.peer.take_if(|_| anew);
        self.own_broker &= !anew;
        self.apply_caps();
        self.pacing.configure(self.settings.outbox.rate);
        self.choose_durability();
    }

    /// When something is due although nothing comes in.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        let fault = self.fault.as_ref().map(|fault| fault.retry_at);
        let takes_in = fault.is_none() && self.caps.blocked.is_none();
        let linger = self.waiting_since.map(|since| since + self.settings.outbox.linger).filter(|_| takes_in);
        let finished = self.finished_since.map(|since| since + ACKNOWLEDGED_LINGER);
        let sweep = self.sweeps().then_some(self.sweep_at);
        // What a store that fails has to do is done when it is tried again.
        let [finished, sweep, released] =
            [finished, sweep, self.exchanges.due()].map(|due| due.map(|due| fault.map_or(due, |retry| due.max(retry))));
        let greeted = self.link.as_ref().filter(|link| link.phase != Phase::Greeting);
        let keep_alive = greeted.and_then(|link| link.keep_alive.next());
        let gather = self.gather_since.map(|since| since + GATHER).filter(|_| fault.is_none());
        let held = self.held_until();
        let renew = self.link.as_ref().filter(|link| link.phase == Phase::Online).and_then(Link::renew_due);
        let pace = self.pacing.due().filter(|_| self.is_online() && fault.is_none());
        let (count, told) = (self.count_due(), self.drops.due(self.is_online()));
        [
            renew,
            fault,
            gather,
            linger,
            finished,
            keep_alive,
            sweep,
            held,
            self.shrink_at,
            self.rescue_again.filter(|_| fault.is_none() && self.has_store()),
            count,
            told,
            pace,
            released,
            self.flush_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether there is a store: without one nobody knows what the cloud was told, and no connection is of use.
    pub(super) fn has_store(&self) -> bool {
        self.outbox.is_some()
    }

    /// Records in the file that are neither on the wire nor ended.
    fn backlog(&self) -> u64 {
        self.stored().saturating_sub((self.flight.len() + self.ended()) as u64)
    }

    fn stored(&self) -> u64 {
        self.outbox.as_ref().map_or(0, Outbox::count)
    }

    /// Messages that the cloud has not acknowledged yet: at least so many until [`Core::is_counted`].
    pub(super) fn queued(&self) -> u64 {
        (self.stored() + self.waiting.len() as u64).saturating_sub(self.ended() as u64)
    }

    /// Records whose handshake has ended and that are still in the file.
    fn ended(&self) -> usize {
        self.finished.len() + self.refused.len()
    }

    /// Whether nothing waits for the cloud.
    pub(super) fn is_empty(&self) -> bool {
        self.queued() == 0 && self.is_counted()
    }

    /// Size of the store.
    pub(super) fn bytes(&self) -> u64 {
        self.outbox.as_ref().and_then(|outbox| outbox.bytes().ok()).unwrap_or(0)
    }

    /// When the oldest record was accepted that the cloud has not acknowledged.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.outbox.as_ref().and_then(|outbox| outbox.oldest().ok().flatten())
    }

    /// What is counted of the store since start.
    pub(super) fn store(&self) -> StoreFigures {
        self.store
    }

    /// Messages the cloud acknowledged since start.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether the cloud took us in.
    pub(super) fn is_online(&self) -> bool {
        self.link.as_ref().is_some_and(|link| matches!(link.phase, Phase::Online | Phase::Leaving))
    }

    /// The gateway whose broker the cloud is.
    pub(super) fn peer(&self) -> Option<&GatewayId> {
        self.peer.as_ref()
    }

    /// Whether this cloud has ever taken us in with MQTT 5.
    pub(super) fn cloud_speaks_v5(&self) -> bool {
        self.v5_of.as_deref() == Some(&*identity(&self.settings))
    }

    /// Why the store cannot write, if it cannot.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_ref().map(|fault| fault.reason.as_str())
    }

    /// Bytes went to the cloud.
    pub(super) fn sent(&mut self, now: Moment) {
        if let Some(link) = &mut self.link {
            link.keep_alive.sent(now);
        }
    }

    /// Commits what waits and closes the store; whoever waits for a commit that fails is told that there will be none.
    pub(super) fn close(mut self, now: Moment, wall: Timestamp) {
        loop {
            let before = (self.waiting.len(), self.ended());
            self.must_commit = true;
            self.turn(now, wall, usize::MAX);
            // A commit takes only so much.
            let left = (self.waiting.len(), self.ended());
            if left == (0, 0) || left == before {
                break;
            }
        }
        if !self.waiting.is_empty() {
            let (bridge, messages) = (self.settings.id.as_str(), self.waiting.len());
            tracing::warn!(bridge, messages, "the store did not take in what waited for it");
        }
        self.answer_freed();
        for answer in self.waiting.drain(..).filter_map(|offered| offered.answer) {
            let _ = answer.send(Err(NotAccepted::Stopping { bridge: self.settings.id.to_string() }));
        }
        if let Some(outbox) = self.outbox.take()
            && let Err(error) = outbox.close()
        {
            tracing::warn!(bridge = self.settings.id.as_str(), %error, "the store did not close in order");
        }
    }
}

/// The session at the cloud hangs on all of these: another broker or another client id is another session.
fn identity(settings: &Settings) -> String {
    format!("{} {}:{}", settings.client_id, settings.url.host, settings.url.port)
}

/// The subscriptions as text: two equal texts are equal subscriptions.
fn canonical(settings: &Settings) -> String {
    let mut lines: Vec<String> =
        settings.inward.iter().map(|rule| format!("{} {}", rule.qos.level(), rule.from)).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.join("\n")
}

const OFFLINE: &str = "offline";
const ONLINE: &str = "online";
/// `meta` key: the identity whose session at the cloud this store belongs to.
const SESSION_OF: &str = "session_of";
/// `meta` key: the subscriptions the cloud agreed to, canonical, or those it may hold.
const SUBSCRIBED: &str = "subscribed";
/// `meta` key: the identity whose cloud has spoken MQTT 5.
const V5_OF: &str = "v5_of";
/// `meta` key: the identity whose cloud has answered a QoS 2 message as one.
const QOS2_OF: &str = "qos2_of";
/// `meta` key: the store's name, which its messages carry.
const STORE_ID: &str = "store_id";
/// `meta` key: not empty while a CONNECT may have been answered without our knowing.
const CONNECT_OPEN: &str = "connect_open";

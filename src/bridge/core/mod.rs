//! The engine without its socket: store, handshakes, decisions. Bytes in, bytes out.
//!
//! One turn: take in what came ([`Core::receive`], [`Core::offer`]), then [`Core::turn`], which makes at most one commit and returns what
//! may leave after it. Nothing that a turn produces may be written before the turn has returned: that single rule gives "no message lost"
//! and "QoS 2 not doubled" over any crash (docs/bridge.md). A test may therefore cut anywhere between two turns, and between a turn and
//! its write, and has then cut everywhere.
//!
//! - `turn` is the transaction: deletions, releases, new records; `fill` what the window has room for; `fault` what a failed one means.
//! - `incoming` is what the cloud's packets mean.
//! - `link` is the state of one connection, `drops` what has to be counted and told.

mod drops;
mod fault;
mod fill;
mod incoming;
mod link;
#[cfg(test)]
pub(super) mod tests;
mod turn;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use serde_json::Map;

use super::BridgeError;
use super::intake::Offered;
use super::settings::Settings;
use crate::clock::Clock;
use crate::limits::{
    ACKNOWLEDGED_LINGER, COMMIT_ROWS, DOWN_PACKET_MAX, DOWN_RECEIVE_MAXIMUM, GATHER, OUT_BYTES, SHRINK_PAUSE,
};
use crate::logic::flight::{Claim, Flight};
use crate::logic::window::Window;
use crate::model::{BootId, Message, Moment, Qos, Seq, Timestamp};
use crate::mqtt::client::{self, Connect, Version};
use crate::ports::NotAccepted;
use crate::store::{Opened, Outbox, StoreError};
pub(super) use drops::{Cause, Drops, event};
pub(super) use incoming::Close;
use link::{Link, Own, Phase};

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
    retry_at: Moment,
    /// Whether not even what takes no new space could be written.
    stuck: bool,
}

/// The engine without its socket.
pub(super) struct Core {
    settings: Arc<Settings>,
    /// The boot that runs.
    boot: BootId,
    /// Missing while it cannot be opened, or a damaged file cannot be replaced; [`Core::turn`] tries again.
    outbox: Option<Outbox>,
    flight: Flight,
    /// Records up to here are on the wire or gone.
    cursor: Seq,
    window: Window,
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
    /// What subscriptions the cloud holds for us, as canonical text.
    subscribed: Option<String>,
    /// The identity whose cloud has spoken MQTT 5.
    v5_of: Option<String>,
    fault: Option<Fault>,
    /// Nothing in the file lies behind the cursor, until something is added or comes back.
    at_end: bool,
    /// The next record is QoS 2 and has to wait for that window: QoS 1 behind it does too, since one order holds for all.
    head_is_qos2: bool,
    /// The goodbye was acknowledged.
    left: bool,
    /// The store was replaced while a connection was up.
    new_store: bool,
    rows_since_check: usize,
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
    /// Opens the store. Where that may go better in a while (disk full), the core starts without one and tries again.
    pub(super) fn open(settings: &Arc<Settings>, clock: &dyn Clock) -> Result<Self, BridgeError> {
        match Outbox::open(&path(settings), clock.boot()) {
            Err(error) if !error.may_pass() => Err(BridgeError::Store { bridge: settings.id.to_string(), error }),
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
            cursor: Seq(0),
            window,
            link: None,
            received: BTreeSet::new(),
            waiting: VecDeque::new(),
            waiting_since: None,
            waiting_answers: 0,
            finished: Vec::new(),
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
            fault: None,
            at_end: false,
            head_is_qos2: false,
            left: false,
            new_store: false,
            rows_since_check: 0,
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
        self.cursor = self.flight.last();
        self.at_end = false;
        self.received = outbox.received()?.into_iter().collect();
        self.clean_needed = outbox.meta(SESSION_OF)?.as_deref() != Some(&*identity(&self.settings));
        self.subscribed = outbox.meta(SUBSCRIBED)?;
        self.v5_of = outbox.meta(V5_OF)?;
        Ok(())
    }

    fn tell_opened(&mut self, opened: &Opened, wall: Timestamp) {
        let bridge = self.settings.id.as_str();
        match opened {
            Opened::New => tracing::info!(bridge, "a new store was made"),
            Opened::Existing => {
                let outbox_len = self.queued();
                tracing::info!(bridge, outbox_len, in_flight = self.flight.len(), "the store is open");
            }
            Opened::Quarantined { moved_to, reason } => {
                let moved_to = moved_to.display().to_string();
                tracing::error!(
                    bridge,
                    reason,
                    moved_to,
                    "the store was damaged: it was set aside and a new one begun"
                );
                let mut more = Map::new();
                more.insert("reason".into(), reason.clone().into());
                more.insert("moved_to".into(), moved_to.into());
                self.publish.push(event(bridge, &self.settings.event_topic, "store-quarantined", wall, more));
            }
        }
    }

    /// Takes new settings; the caller ends the connection first where they concern it.
    pub(super) fn apply(&mut self, settings: Arc<Settings>) {
        let moved = identity(&settings) != identity(&self.settings);
        self.window.configure(settings.window);
        self.settings = settings;
        self.clean_needed |= moved;
    }

    /// CONNECT, for a connection that was just made.
    pub(super) fn connect(&mut self, version: Version, now: Moment) -> Result<BytesMut, client::EncodeError> {
        let settings = Arc::clone(&self.settings);
        // A clean session of 3.1.1 ends with its connection: it is opened to be thrown away, and does not speak for the gateway.
        let purge = self.clean_needed && version == Version::V311;
        let seconds = |span: std::time::Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let connect = Connect {
            client_id: &settings.client_id,
            clean: self.clean_needed,
            keep_alive_s: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
            username: settings.username.as_deref(),
            password: settings.password.as_ref().map(crate::model::Secret::expose),
            will: (!purge).then_some((&settings.cloud_status_topic, OFFLINE)),
            will_delay_s: seconds(settings.will_delay),
            session_expiry_s: seconds(settings.session_expiry),
            receive_maximum: DOWN_RECEIVE_MAXIMUM,
            max_packet: u32::try_from(DOWN_PACKET_MAX).unwrap_or(u32::MAX),
        };
        let mut bytes = BytesMut::new();
        client::put_connect(&mut bytes, version, &connect)?;
        self.link = Some(Link::new(version, self.clean_needed, DOWN_PACKET_MAX, settings.keep_alive, now));
        Ok(bytes)
    }

    /// The connection ended. `hung_up`: by the cloud, while it was up.
    pub(super) fn disconnected(&mut self, hung_up: bool) {
        let Some(link) = self.link.take() else { return };
        if hung_up
            && link.is_online()
            && let Some(window) = self.window.hung_up(link.said_qos2(), link.progressed)
        {
            let bridge = self.settings.id.as_str();
            tracing::warn!(bridge, window, "the cloud hung up on its QoS 2 window: the window is made smaller");
        }
        // What was received and not committed was not acknowledged either: the cloud sends it again, and then it must count as new.
        self.down_notes.retain(|(pkid, noted)| {
            if *noted {
                self.received.remove(pkid);
            }
            !noted
        });
    }

    /// Takes a message in. `unsent` as in [`Core::turn`].
    pub(super) fn offer(&mut self, offered: Offered, now: Moment, unsent: usize) {
        if offered.qos == Qos::AtMostOnce {
            return self.offer_qos0(&offered, unsent);
        }
        self.waiting_answers += usize::from(offered.answer.is_some());
        self.waiting_since.get_or_insert(now);
        self.waiting.push_back(offered);
    }

    /// QoS 0 is not stored: it goes now or never. Behind the acknowledged messages of the same turn, which does not matter: order is kept
    /// for each QoS.
    fn offer_qos0(&mut self, offered: &Offered, unsent: usize) {
        let sent = match &mut self.link {
            Some(link) if link.is_online() && unsent + link.replies.len() < OUT_BYTES => {
                let publish = client::Outgoing {
                    topic: offered.topic.as_str(),
                    payload: &offered.message.payload,
                    qos: Qos::AtMostOnce,
                    retain: offered.retain && link.retain,
                    dup: false,
                    pkid: 0,
                    properties: offered.message.properties.as_deref(),
                };
                client::put_publish(&mut link.replies, link.version, &publish, link.max_packet)
            }
            _ => false,
        };
        if !sent {
            self.drops.add_unstored(Cause::Qos0, 1, offered.at);
        }
    }

    /// Starts to leave: `offline` goes out, and the goodbye when it is acknowledged.
    pub(super) fn leave(&mut self) {
        let Some(link) = &mut self.link else { return };
        if !link.is_online() {
            return;
        }
        link.phase = Phase::Leaving;
        self.say_status(OFFLINE, Own::Goodbye);
    }

    /// `online` or `offline`, QoS 1, retained, under a packet id of its own.
    fn say_status(&mut self, word: &str, own: Own) {
        let Some(link) = &mut self.link else { return };
        let Some(pkid) = self.flight.free_pkid(|pkid| link.own.contains_key(&pkid)) else { return };
        let publish = client::Outgoing {
            topic: self.settings.cloud_status_topic.as_str(),
            payload: word.as_bytes(),
            qos: Qos::AtLeastOnce.min(link.max_qos),
            retain: link.retain,
            dup: false,
            pkid,
            properties: None,
        };
        client::put_publish(&mut link.replies, link.version, &publish, link.max_packet);
        if publish.qos > Qos::AtMostOnce {
            link.own.insert(pkid, own);
        } else if own == Own::Goodbye {
            client::put_disconnect(&mut link.replies);
            self.left = true;
        }
    }

    /// When something is due although nothing comes in.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        let fault = self.fault.as_ref().map(|fault| fault.retry_at);
        let linger = self.waiting_since.map(|since| since + self.settings.outbox.linger).filter(|_| fault.is_none());
        let finished = self.finished_since.map(|since| since + ACKNOWLEDGED_LINGER);
        let sweep = self.settings.outbox.max_age.map(|_| self.sweep_at);
        // What a store that fails has to do is done when it is tried again.
        let [finished, sweep] = [finished, sweep].map(|due| due.map(|due| fault.map_or(due, |retry| due.max(retry))));
        let greeted = self.link.as_ref().filter(|link| link.phase != Phase::Greeting);
        let keep_alive = greeted.and_then(|link| link.keep_alive.next());
        let gather = self.gather_since.map(|since| since + GATHER).filter(|_| fault.is_none());
        [fault, gather, linger, finished, keep_alive, sweep, self.shrink_at, self.drops.due(self.is_online())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the intake is worth emptying into [`Core::offer`], and by how many.
    pub(super) fn room_for_intake(&self) -> usize {
        crate::limits::COMMIT_ROWS_MAX.saturating_sub(self.waiting.len())
    }

    /// How many messages may wait for the commit that is due after the linger; 0 when none is.
    pub(super) fn patience(&self) -> usize {
        let lingers = self.waiting_since.is_some() && self.fault.is_none();
        if lingers { COMMIT_ROWS.saturating_sub(self.waiting.len()) } else { 0 }
    }

    fn intake_due(&self, now: Moment) -> bool {
        self.waiting_answers > 0
            || self.waiting.len() >= COMMIT_ROWS
            || self.waiting_since.is_some_and(|since| now >= since + self.settings.outbox.linger)
    }

    /// Whether there is a store: without one nobody knows what the cloud was told, and no connection is of use.
    pub(super) fn has_store(&self) -> bool {
        self.outbox.is_some()
    }

    /// Records in the file that are neither on the wire nor ended.
    fn backlog(&self) -> u64 {
        self.stored().saturating_sub((self.flight.len() + self.finished.len()) as u64)
    }

    fn stored(&self) -> u64 {
        self.outbox.as_ref().map_or(0, Outbox::count)
    }

    /// Messages that the cloud has not acknowledged yet.
    pub(super) fn queued(&self) -> u64 {
        (self.stored() + self.waiting.len() as u64).saturating_sub(self.finished.len() as u64)
    }

    /// Whether nothing waits for the cloud.
    pub(super) fn is_empty(&self) -> bool {
        self.queued() == 0
    }

    /// Size of the store.
    pub(super) fn bytes(&self) -> u64 {
        self.outbox.as_ref().and_then(|outbox| outbox.bytes().ok()).unwrap_or(0)
    }

    /// When the oldest record was accepted that the cloud has not acknowledged.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.outbox.as_ref().and_then(|outbox| outbox.oldest().ok().flatten())
    }

    /// Messages the cloud acknowledged since start.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether the cloud took us in.
    pub(super) fn is_online(&self) -> bool {
        self.link.as_ref().is_some_and(|link| matches!(link.phase, Phase::Online | Phase::Leaving))
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
        self.must_commit = true;
        self.turn(now, wall, usize::MAX);
        for offered in self.waiting.drain(..) {
            if let Some(answer) = offered.answer {
                let _ = answer.send(Err(NotAccepted::Stopping { bridge: self.settings.id.to_string() }));
            }
        }
        if let Some(outbox) = self.outbox.take()
            && let Err(error) = outbox.close()
        {
            tracing::warn!(bridge = self.settings.id.as_str(), %error, "the store did not close in order");
        }
    }
}

fn path(settings: &Settings) -> PathBuf {
    settings.outbox.dir.join(format!("outbox-{}.db", settings.id))
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
/// `meta` key: the subscriptions the cloud agreed to, canonical.
const SUBSCRIBED: &str = "subscribed";
/// `meta` key: the identity whose cloud has spoken MQTT 5.
const V5_OF: &str = "v5_of";

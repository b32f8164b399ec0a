//! The task of the client: one loop that carries bytes between the socket and [`Session`], offers what came, and tells how it stands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::inbound::Offer;
use super::session::{Close, Session, Turn, in_place, words};
use super::{Shared, Standing, State};
use crate::broker::settings::{External, VersionChoice};
use crate::health::Pulse;
use crate::limits::{
    EXTERNAL_CONNECT, EXTERNAL_RECEIVE, EXTERNAL_REFUSED, EXTERNAL_RETRY, EXTERNAL_STABLE, PULSE_EVERY, SILENT_CLOSES,
};
use crate::logic::retry::Backoff;
use crate::model::Moment;
use crate::mqtt::client::Version;
use crate::mqtt::dialer::Dialer;
use crate::mqtt::endpoint::Endpoint;
use crate::mqtt::link::{Happened, Link, Up};
use crate::ports::{Acceptance, NotAccepted};

type Settled = (u64, Result<(), NotAccepted>);

/// See the module.
pub(super) struct Engine {
    shared: Arc<Shared>,
    settings: Arc<External>,
    standing: watch::Sender<Standing>,
    pulse: Pulse,
    session: Session,
    /// What was noted of its subscriptions.
    noted: BTreeSet<String>,
    link: Link,
    dialer: Dialer,
    backoff: Backoff,
    version: Version,
    /// Connections in a row that ended without an answer to CONNECT.
    silent: u32,
    /// It has spoken 5, and still does: what closes in silence then is its restart, or a relay with nobody behind it.
    speaks_v5: bool,
    online_since: Option<Moment>,
    /// Attempts since the link went down.
    failed: u32,
    down_since: Moment,
    settle: mpsc::Sender<Settled>,
    settled: mpsc::Receiver<Settled>,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, standing: watch::Sender<Standing>, pulse: Pulse) -> Self {
        let (now, settings) = (shared.clock.now(), shared.settings());
        // Each offer has its place: there are no more open than may be received.
        let (settle, settled) = mpsc::channel(usize::from(EXTERNAL_RECEIVE));
        let noted = shared.held();
        Self {
            session: Session::new(Arc::clone(&settings), noted.clone(), shared.was_connected.load(Ordering::Relaxed)),
            noted,
            version: first(settings.version),
            shared,
            settings,
            standing,
            pulse,
            link: Link::Down(now),
            dialer: Dialer::default(),
            backoff: Backoff::new(EXTERNAL_RETRY.0, EXTERNAL_RETRY.1),
            silent: 0,
            speaks_v5: false,
            online_since: None,
            failed: 0,
            down_since: now,
            settle,
            settled,
        }
    }

    /// Runs until it is stopped.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.shared.clock.now();
            if self.obey(now).await {
                return;
            }
            if let Link::Down(at) = self.link
                && now >= at
            {
                self.link = Link::start(endpoint(&self.settings), &self.dialer, now);
            }
            let unsent = self.link.unsent();
            let turn = self.session.turn(&mut self.shared.spool(), now, unsent);
            if self.carry_out(turn).await {
                return;
            }
            if *self.session.held() != self.noted {
                self.noted = self.session.held().clone();
                self.shared.note(&self.noted);
            }
            self.pulse.beat(now);
            self.tell(None);
            self.wait().await;
        }
    }

    /// Does as ordered; true when it is to end at once.
    async fn obey(&mut self, now: Moment) -> bool {
        let settings = self.shared.settings();
        if !Arc::ptr_eq(&settings, &self.settings) {
            let same = same_connection(&self.settings, &settings);
            let same_broker = (&self.settings.url, &self.settings.client_id) == (&settings.url, &settings.client_id);
            self.settings = Arc::clone(&settings);
            self.session.apply(settings);
            if !same {
                self.version = first(self.settings.version);
                self.speaks_v5 = false;
                self.backoff.reset();
                // The will goes with it, and the birth comes with the next one.
                self.end(now).await;
                if !same_broker {
                    self.session.moved(&mut self.shared.spool());
                }
                self.online_since = None;
                self.tell(Some((State::Connecting, None)));
            }
        }
        let Some(until) = self.shared.stop_until() else { return false };
        self.session.leave();
        // Cut off with something unsaid, it says by the will what could not be said in order.
        now >= until || !matches!(self.link, Link::Up(_))
    }

    /// Writes, offers, closes. True when all is done.
    async fn carry_out(&mut self, turn: Turn) -> bool {
        for offer in turn.offers {
            self.offer(offer);
        }
        let now = self.shared.clock.now();
        let Link::Up(up) = &mut self.link else { return false };
        up.out.extend_from_slice(&turn.bytes);
        let sent = up.write_now().await;
        up.note_progress(sent, now);
        let stalled = up.stalled_at().is_some_and(|at| now >= at);
        let late = up.greeting_until.is_some_and(|until| now >= until);
        if self.session.is_online() {
            up.greeting_until = None;
            if up.comes_online() {
                self.came_online(now);
            }
        }
        if sent {
            self.session.sent(now);
        }
        match turn.close {
            Some(Close::Left) => {
                self.end(now).await;
                return true;
            }
            Some(close) => self.close(&close).await,
            None if late => {
                let seconds = EXTERNAL_CONNECT.as_secs();
                self.lost(format!("no CONNACK within {seconds} s"), None).await;
            }
            None if stalled => self.lost("it takes no data".into(), None).await,
            None => {}
        }
        false
    }

    /// Offers a message to the bridges and the actuators, in the order of these calls.
    fn offer(&self, offer: Offer) {
        let Offer { serial, message, before } = offer;
        let uplink = &self.shared.uplink;
        let acceptance: Option<Acceptance> = match before {
            None => uplink.accept(&message),
            Some(before) => uplink.accept_rest(&message, &before),
        };
        let Some(serial) = serial else {
            // Nobody waits, but a future that is dropped might take its message back.
            if let Some(acceptance) = acceptance {
                tokio::spawn(acceptance);
            }
            return;
        };
        let settle = self.settle.clone();
        tokio::spawn(async move {
            let outcome = match acceptance {
                Some(acceptance) => acceptance.await,
                None => Ok(()),
            };
            // It may have been stopped meanwhile; then nothing is acknowledged, and the broker says it again.
            let _ = settle.send((serial, outcome)).await;
        });
    }

    async fn wait(&mut self) {
        let now = self.shared.clock.now();
        let link = match &self.link {
            Link::Down(at) => Some(*at),
            Link::Dialing(_) => None,
            Link::Up(up) => [up.greeting_until, up.stalled_at()].into_iter().flatten().min(),
        };
        let next = [link, self.session.due(), self.shared.stop_until()].into_iter().flatten().min();
        // Not longer than that in any case: the pulse, and a clock that was wrong about a moment.
        let due = next.map_or(PULSE_EVERY, |next| next.since(now)).min(PULSE_EVERY);
        let listens = self.session.listens();
        let happened = tokio::select! {
            happened = self.link.happens(listens) => happened,
            Some((serial, outcome)) = self.settled.recv() => {
                self.took(serial, outcome);
                while let Ok((serial, outcome)) = self.settled.try_recv() {
                    self.took(serial, outcome);
                }
                return;
            }
            () = self.shared.bell.notified() => return,
            () = tokio::time::sleep(due) => return,
        };
        self.handle(happened).await;
    }

    fn took(&mut self, serial: u64, outcome: Result<(), NotAccepted>) {
        if let Some(refused) = self.session.settled(serial, outcome, self.shared.clock.now()) {
            tracing::warn!(error = %refused, "a message of the local broker cannot be taken: it waits there until it is");
        }
    }

    async fn handle(&mut self, happened: Happened) {
        let now = self.shared.clock.now();
        match happened {
            Happened::Dialed(dialed) => match self.session.connect(self.version, now) {
                Ok(connect) => self.link = Link::Up(Box::new(Up::new(dialed, connect, now + EXTERNAL_CONNECT, now))),
                Err(error) => self.lost(error.to_string(), None).await,
            },
            Happened::Failed(reason) => self.lost(in_place(&reason), None).await,
            Happened::Received(length) => {
                let Link::Up(up) = &self.link else { return };
                let outcome = self.session.receive(up.received(length), &mut self.shared.spool(), now);
                if let Err(close) = outcome {
                    // What came before counts.
                    self.session.take_offers().into_iter().for_each(|offer| self.offer(offer));
                    self.close(&close).await;
                }
            }
            Happened::Sent => {
                self.session.sent(now);
                if let Link::Up(up) = &mut self.link {
                    up.note_progress(true, now);
                }
            }
            Happened::Broken(reason) => {
                let greeted = self.session.is_online();
                if !greeted && !self.speaks_v5 && self.settings.version == VersionChoice::Auto {
                    self.silent += 1;
                    if self.silent >= SILENT_CLOSES {
                        self.silent = 0;
                        self.version = other(self.version);
                    }
                }
                let how = if greeted { "" } else { " without an answer" };
                let reason =
                    reason.map_or_else(|| format!("it closed the connection{how}"), |reason| in_place(&reason));
                self.lost(reason, None).await;
            }
        }
    }

    async fn close(&mut self, close: &Close) {
        let unspoken = matches!(close, Close::Refused(_, 1) | Close::Refused(Version::V5, 0x84));
        if unspoken && self.settings.version == VersionChoice::Auto && self.version == Version::V5 {
            self.version = Version::V311;
            return self.end(self.shared.clock.now()).await;
        }
        let unwelcome = matches!(close, Close::Refused(_, 2 | 4 | 5 | 0x85..=0x87 | 0x8a | 0x8c));
        let unwelcome = unwelcome || matches!(close, Close::Dismissed(0x8e));
        self.lost(words(close), unwelcome.then_some(EXTERNAL_REFUSED)).await;
    }

    fn came_online(&mut self, now: Moment) {
        let (failed, outage_ms) = (self.failed, now.since(self.down_since).as_millis());
        let url = &self.settings.url;
        tracing::info!(%url, version = ?self.version, failed, outage_ms, "connected to the local broker");
        self.online_since = Some(now);
        self.failed = 0;
        self.silent = 0;
        self.speaks_v5 |= self.version == Version::V5;
        self.shared.was_connected.store(true, Ordering::Relaxed);
        self.tell(Some((State::Online, None)));
    }

    /// The link is down: when to try again, and who is told.
    async fn lost(&mut self, reason: String, pause: Option<Duration>) {
        let now = self.shared.clock.now();
        let lasted = self.online_since.take().map(|since| now.since(since));
        if lasted.is_some_and(|lasted| lasted >= EXTERNAL_STABLE) {
            self.backoff.reset();
        }
        let wait = self.backoff.next_wait(fastrand::f64()).max(pause.unwrap_or_default());
        let (url, delay_ms) = (&self.settings.url, wait.as_millis());
        if lasted.is_some() || self.failed == 0 {
            self.down_since = now;
            let waiting = self.shared.spool().len();
            tracing::warn!(%url, error = reason, delay_ms, waiting, "the local broker is out of reach");
        } else {
            let attempt = self.failed;
            tracing::debug!(%url, error = reason, attempt, delay_ms, "the local broker is still out of reach");
        }
        self.failed = self.failed.saturating_add(1);
        self.end(now + wait).await;
        self.tell(Some((State::Offline, Some(reason))));
    }

    /// Ends the connection, if there is one; the next attempt is at this moment.
    async fn end(&mut self, next: Moment) {
        self.session.disconnected(&mut self.shared.spool());
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down(next)) {
            up.finish().await;
        }
    }

    /// Tells how it stands, when that has changed.
    fn tell(&self, change: Option<(State, Option<String>)>) {
        let (received, sent, too_large) = self.session.figures();
        let complaint = self.session.complaint();
        let (waiting, dropped, over_kept) = {
            let mut spool = self.shared.spool();
            (spool.len() as u64, spool.dropped() + too_large, spool.is_over_kept())
        };
        if over_kept {
            tracing::warn!(
                "the gateway's retained messages are too many to be told again after a reconnection, the newest are not"
            );
        }
        if dropped > 0 && !self.shared.drop_told.swap(true, Ordering::Relaxed) {
            tracing::warn!("messages for the local broker are dropped: too many wait, or one is too large");
        }
        let wall = self.shared.clock.wall();
        self.standing.send_if_modified(|standing| {
            let before = standing.clone();
            if let Some((state, reason)) = change {
                if state != standing.state {
                    standing.since = wall;
                }
                standing.state = state;
                standing.reason = reason;
            }
            if standing.state == State::Online {
                standing.reason = complaint;
            }
            (standing.waiting, standing.received, standing.sent, standing.dropped) = (waiting, received, sent, dropped);
            *standing != before
        });
    }
}

/// Also when it ends by a fault of its own.
impl Drop for Engine {
    fn drop(&mut self) {
        self.session.give_back(&mut self.shared.spool());
    }
}

/// Said once.
pub(super) type Once = AtomicBool;

fn endpoint(settings: &External) -> Endpoint {
    Endpoint {
        name: "local broker".into(),
        url: settings.url.clone(),
        tls: settings.tls.clone(),
        connect_timeout: EXTERNAL_CONNECT,
    }
}

fn first(choice: VersionChoice) -> Version {
    match choice {
        VersionChoice::Auto | VersionChoice::V5 => Version::V5,
        VersionChoice::V311 => Version::V311,
    }
}

fn other(version: Version) -> Version {
    match version {
        Version::V5 => Version::V311,
        Version::V311 => Version::V5,
    }
}

/// Whether a running connection may stay: subscriptions are changed on it.
fn same_connection(old: &External, new: &External) -> bool {
    External { filters: old.filters.clone(), ..new.clone() } == *old
}

//! The thread of a bridge: one loop that carries bytes between the socket and [`Core`], and tells what it sees.
//!
//! It owns the socket and the store, and nobody else touches either. It decides nothing about messages; what it decides is when to try
//! again, with which version of the protocol, and when to give up waiting.

mod exchanges;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::core::{Cause, Close, Core, Ended, Turn};
use super::intake::Shared;
use super::settings::{Settings, VersionChoice};
use super::state::Teller;
use super::{LinkState, Status, signers, words};
use crate::clock::Clock;
use crate::health::Pulse;
use crate::limits::{COMMAND_NOTED, GOODBYE, PULSE_EVERY, SILENT_CLOSES};
use crate::logic::retry::Backoff;
use crate::model::Moment;
use crate::mqtt::client::Version;
use crate::mqtt::dialer::Dialer;
use crate::mqtt::link::{Happened, Link, Up};
use crate::ports::{NotAccepted, Publish};

/// One bridge at work.
pub(super) struct Engine {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    publish: Arc<dyn Publish>,
    clock: Arc<dyn Clock>,
    pulse: Pulse,
    core: Core,
    link: Link,
    dialer: Dialer,
    teller: Teller,
    backoff: Backoff,
    version: Version,
    /// Connections in a row that ended without an answer to CONNECT.
    silent: u32,
    online_since: Option<Moment>,
    /// Connections in a row that did not last for `reconnect.stable`.
    short: u32,
    /// Attempts since the link went down.
    failed: u32,
    down_since: Moment,
    stopping: Option<Stopping>,
    /// The connection ended for a new token, and the next one is no event.
    renewing: bool,
    /// The local broker waits to hear that its era is written down.
    era_begins: bool,
}

struct Stopping {
    until: Moment,
    leaving: bool,
    done: Option<oneshot::Sender<()>>,
}

impl Engine {
    pub(super) fn new(
        core: Core,
        shared: Arc<Shared>,
        publish: Arc<dyn Publish>,
        clock: Arc<dyn Clock>,
        status: Arc<watch::Sender<Status>>,
        pulse: Pulse,
    ) -> Self {
        let (now, settings) = (clock.now(), shared.settings());
        Self {
            backoff: Backoff::new(settings.reconnect.min, settings.reconnect.max),
            version: first_version(settings.version),
            settings,
            shared,
            publish,
            clock,
            pulse,
            core,
            link: Link::Down(now),
            dialer: Dialer::default(),
            teller: Teller::new(status),
            silent: 0,
            short: 0,
            online_since: None,
            failed: 0,
            down_since: now,
            stopping: None,
            renewing: false,
            era_begins: false,
        }
    }

    /// Runs until it is stopped or abandoned; the calling thread is the engine's own.
    pub(super) fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.serve());
                self.end();
            }
            Err(error) => tracing::error!(bridge = self.settings.id.as_str(), %error, "the bridge cannot run"),
        }
    }

    /// Commits, closes, and tells the one who waits for it. Its retained state must not say `online` for a bridge that is gone.
    fn end(mut self) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let done = self.stopping.and_then(|stopping| stopping.done);
        if done.is_some() {
            self.teller.link(LinkState::Offline, Some("stopped".into()), wall);
            self.teller.tell(&self.core, &self.settings, &*self.publish, now, wall);
        }
        self.core.close(now, wall);
        self.shared.held.end();
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn serve(&mut self) {
        loop {
            if self.obey().await {
                return;
            }
            self.dial_when_due().await;
            let turn = self.turn();
            self.answer_for_exchanges();
            self.refuse_or_accept();
            if self.carry_out(turn).await {
                return;
            }
            self.shared.set_peer(self.core.peer());
            let now = self.clock.now();
            self.pulse.beat(now);
            self.teller.tell(&self.core, &self.settings, &*self.publish, now, self.clock.wall());
            self.wait(now).await;
        }
    }

    /// Does as ordered; true when it is to end at once.
    async fn obey(&mut self) -> bool {
        let orders = self.shared.take_orders();
        if let Some(settings) = orders.settings {
            self.apply(settings).await;
        }
        if orders.reconnect {
            self.backoff.reset();
            if matches!(self.link, Link::Down(_)) {
                self.link = Link::Down(self.clock.now());
            }
        }
        for (chore, answer) in orders.chores {
            // Whoever asked may have gone.
            let _ = answer.send(self.core.chore(&chore, self.clock.wall()));
        }
        if let Some((until, done)) = orders.stop {
            self.shared.refuse(Some(NotAccepted::Stopping { bridge: self.settings.id.to_string() }));
            self.stopping = Some(Stopping { until, leaving: false, done: Some(done) });
        }
        orders.abandoned
    }

    async fn apply(&mut self, settings: Settings) {
        let old = std::mem::replace(&mut self.settings, Arc::new(settings));
        self.shared.set_settings(Arc::clone(&self.settings));
        self.backoff = Backoff::new(self.settings.reconnect.min, self.settings.reconnect.max);
        let same_link = self.settings.keep_connection_of(&old);
        if !same_link {
            self.version = first_version(self.settings.version);
            self.silent = 0;
            if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down(self.clock.now())) {
                up.finish().await;
            }
            self.core.disconnected(Ended::Here);
            self.online_since = None;
            self.teller.link(LinkState::Connecting, None, self.clock.wall());
        }
        self.core.apply(Arc::clone(&self.settings));
    }

    async fn dial_when_due(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        if !self.core.has_store() {
            // The reason is the store's.
            return self.teller.link(LinkState::Offline, None, self.clock.wall());
        }
        if let Link::Down(at) = self.link
            && self.clock.now() >= at
        {
            if let Some(reason) = signers::not_yet(&self.settings.auth, self.clock.wall()) {
                // Asked again soon: the clock may be set at any moment, and nobody is bothered by a look at it.
                self.lost(reason.to_string(), Ended::Here).await;
                self.backoff.reset();
                return;
            }
            self.link = Link::start(self.settings.endpoint(), &self.dialer, self.clock.now());
        }
    }

    /// Takes what was offered, and lets the core make of it what it can.
    fn turn(&mut self) -> Turn {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let (core, unsent) = (&mut self.core, self.link.unsent());
        // While the store takes nothing in, QoS 0 alone is taken, and what the full queue drops is counted.
        let dropped = if core.fault().or(core.blocked()).is_some() {
            self.shared.take_unstored(|offered| core.offer(offered, now, unsent))
        } else {
            self.shared.take(core.room_for_intake(), |offered| core.offer(offered, now, unsent))
        };
        if dropped > 0 {
            core.drops.add_unstored(Cause::IntakeFull, dropped, wall);
        }
        core.missed(dropped, self.shared.take_refused());
        self.hear_of_exchanges();
        self.leave_when_done(now);
        self.core.turn(now, wall, self.link.unsent())
    }

    /// While stopping: when nothing waits any more, or nobody takes it, or the time is nearly up, says `offline`.
    fn leave_when_done(&mut self, now: Moment) {
        let Some(stopping) = &mut self.stopping else { return };
        let late = now + GOODBYE >= stopping.until;
        let away = !matches!(self.link, Link::Up(_));
        if !stopping.leaving && (((self.core.is_empty() || away) && self.shared.is_empty()) || late) {
            stopping.leaving = true;
            self.core.leave();
        }
    }

    /// Publishes, writes, closes. True when the engine has ended its work.
    async fn carry_out(&mut self, turn: Turn) -> bool {
        let noted: Vec<_> =
            turn.publish.into_iter().filter_map(|message| self.publish.publish_from_cloud(message)).collect();
        if !noted.is_empty() {
            // Before the cloud hears that it was taken. One that cannot be noted is answered as failed; a disk that hangs holds the link no longer.
            let all = async {
                for acceptance in noted {
                    let _ = acceptance.await;
                }
            };
            let _ = tokio::time::timeout(COMMAND_NOTED, all).await;
        }
        let now = self.clock.now();
        if let Link::Up(up) = &mut self.link {
            up.out.extend_from_slice(&turn.bytes);
            let sent = up.write_now().await;
            up.note_progress(sent, now);
            if sent {
                self.core.sent(now);
            }
            if !self.core.is_greeting() && up.greeting_until.take().is_some() {
                // What it waits for now, if anything, is the store.
                self.teller.link(LinkState::Connecting, None, self.clock.wall());
            }
            if self.core.is_online() && up.comes_online() {
                self.came_online(now);
            }
        }
        if let Some(close) = turn.close {
            self.close(&close).await;
        }
        self.give_up_waiting(now).await;
        match &self.stopping {
            Some(stopping) => now >= stopping.until || (stopping.leaving && !matches!(self.link, Link::Up(_))),
            None => false,
        }
    }

    fn came_online(&mut self, now: Moment) {
        let bridge = self.settings.id.as_str();
        let (failed, outage_ms) = (self.failed, now.since(self.down_since).as_millis());
        let renewed = std::mem::take(&mut self.renewing) && failed == 0;
        if renewed {
            tracing::debug!(bridge, "the token was renewed");
        } else {
            tracing::info!(bridge, version = ?self.version, failed, outage_ms, outbox_len = self.core.queued(), "connected to the cloud");
        }
        self.online_since = Some(now);
        self.failed = 0;
        self.silent = 0;
        self.teller.link(LinkState::Online, None, self.clock.wall());
    }

    /// CONNACK has its time, and so has every byte.
    async fn give_up_waiting(&mut self, now: Moment) {
        let Link::Up(up) = &self.link else { return };
        if up.greeting_until.is_some_and(|until| now >= until) {
            let seconds = self.settings.connect_timeout.as_secs();
            self.lost(format!("no CONNACK within {seconds} s"), Ended::Here).await;
        } else if up.stalled_at().is_some_and(|at| now >= at) {
            self.lost("the cloud takes no data".into(), Ended::Here).await;
        }
    }

    async fn close(&mut self, close: &Close) {
        let again = match close {
            Close::Purged | Close::NewStore | Close::Renewed => true,
            Close::Refused(refused, code, _) => self.speak_otherwise(*refused, *code),
            _ => false,
        };
        let ended = if matches!(close, Close::Dismissed(..)) { Ended::Closed } else { Ended::Here };
        if *close == Close::Left {
            tracing::info!(
                bridge = self.settings.id.as_str(),
                outbox_len = self.core.queued(),
                "left the cloud in order"
            );
        }
        self.renewing = *close == Close::Renewed;
        if again || *close == Close::Left {
            tracing::debug!(bridge = self.settings.id.as_str(), reason = words::of(close), "connecting anew");
            self.core.disconnected(Ended::Here);
            if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down(self.clock.now())) {
                up.finish().await;
            }
            return;
        }
        let mut reason = words::of(close);
        if matches!(close, Close::Refused(..)) && signers::needs_clock(&self.settings.auth) && !self.clock.wall().synced
        {
            reason.push_str("; the clock is not set, and the token may be out of date");
        }
        self.lost(reason, ended).await;
    }

    /// The cloud does not speak this version: whether there is another to try at once.
    fn speak_otherwise(&mut self, refused: Version, code: u8) -> bool {
        let unspoken = matches!((refused, code), (_, 1) | (Version::V5, 0x84));
        if self.settings.version != VersionChoice::Auto || !unspoken || self.version != refused {
            return false;
        }
        self.version = other(refused);
        // From 3.1.1 back to 5 only after a pause: a cloud that refuses both must not be asked without end.
        refused == Version::V5
    }

    /// The link is down: when to try again, and who is told.
    async fn lost(&mut self, reason: String, ended: Ended) {
        let now = self.clock.now();
        let lasted = self.online_since.take().map(|since| now.since(since));
        let stable = self.settings.reconnect.stable;
        match lasted {
            Some(lasted) if lasted >= stable => {
                self.backoff.reset();
                self.short = 0;
            }
            Some(_) => self.short = self.short.saturating_add(1),
            None => {}
        }
        let reason = words::again(reason, self.short, stable, &self.settings.client_id);
        let wait = self.backoff.next_wait(fastrand::f64());
        let bridge = self.settings.id.as_str();
        let delay_ms = wait.as_millis();
        if lasted.is_some() || self.failed == 0 {
            self.down_since = now;
            tracing::warn!(
                bridge,
                error = reason,
                delay_ms,
                outbox_len = self.core.queued(),
                "the cloud is out of reach"
            );
        } else {
            tracing::debug!(bridge, error = reason, attempt = self.failed, delay_ms, "the cloud is still out of reach");
        }
        self.failed = self.failed.saturating_add(1);
        self.core.disconnected(ended);
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down(now + wait)) {
            up.finish().await;
        }
        self.teller.link(LinkState::Offline, Some(reason), self.clock.wall());
    }

    /// Clients are refused at once while the store cannot write, or takes nothing in.
    fn refuse_or_accept(&mut self) {
        let reason = self.core.fault().or(self.core.blocked());
        if self.stopping.is_some() || !self.teller.fault_changed(reason) {
            return;
        }
        let bridge = self.settings.id.to_string();
        let refusal = reason.map(|reason| NotAccepted::Store { bridge, reason: reason.to_owned() });
        self.shared.refuse(refusal);
    }

    async fn wait(&mut self, now: Moment) {
        // Said before the queue is looked at: what comes between rings, or is seen.
        self.shared.be_patient(self.core.patience());
        let busy = self.core.has_more(now, self.link.unsent())
            || (self.core.fault().is_none() && self.core.room_for_intake() > 0 && !self.shared.is_empty());
        let (due, listens) = (self.due(now), self.core.listens());
        let happened = tokio::select! {
            biased;
            happened = self.link.happens(listens) => happened,
            () = self.shared.bell.notified() => return,
            () = std::future::ready(()), if busy => return,
            () = tokio::time::sleep(due) => return,
        };
        self.handle(happened).await;
    }

    /// How long nothing will be due.
    fn due(&self, now: Moment) -> Duration {
        let link = match &self.link {
            Link::Down(at) if self.stopping.is_none() && self.core.has_store() => Some(*at),
            Link::Down(_) | Link::Dialing(_) => None,
            Link::Up(up) => [up.greeting_until, up.stalled_at()].into_iter().flatten().min(),
        };
        let stop = self.stopping.as_ref().map(|stopping| {
            if stopping.leaving {
                stopping.until
            } else {
                Moment::at(stopping.until.since_start().saturating_sub(GOODBYE))
            }
        });
        let next = [link, stop, self.core.poll_timeout(), self.teller.due(&self.core)].into_iter().flatten().min();
        // Not longer than that in any case: the pulse, and a clock that was wrong about a moment.
        next.map_or(PULSE_EVERY, |next| next.since(now)).min(PULSE_EVERY)
    }

    async fn handle(&mut self, happened: Happened) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        match happened {
            Happened::Dialed(_) if !self.core.has_store() => self.link = Link::Down(now),
            Happened::Dialed(dialed) => match self.core.connect(self.version, now, wall) {
                Ok(connect) => {
                    let until = now + self.settings.connect_timeout;
                    self.link = Link::Up(Box::new(Up::new(dialed, connect, until, now)));
                }
                Err(error) => self.lost(error.to_string(), Ended::Here).await,
            },
            Happened::Failed(reason) => self.lost(reason, Ended::Here).await,
            Happened::Received(length) => {
                let Link::Up(up) = &self.link else { return };
                if let Err(close) = self.core.receive(up.received(length), now, wall) {
                    // What came before counts: it is committed before the connection goes.
                    let turn = self.core.turn(now, wall, self.link.unsent());
                    for message in turn.publish {
                        self.publish.publish(message);
                    }
                    self.close(&close).await;
                }
            }
            Happened::Sent => {
                self.core.sent(now);
                if let Link::Up(up) = &mut self.link {
                    up.note_progress(true, now);
                }
            }
            Happened::Broken(reason) => self.broken(reason).await,
        }
    }

    async fn broken(&mut self, reason: Option<String>) {
        let greeted = matches!(&self.link, Link::Up(up) if up.greeting_until.is_none());
        // A cloud that has spoken 5 still does: what closes in silence then is its restart, or a relay with no cloud behind it.
        let known = self.version == Version::V5 && self.core.cloud_speaks_v5();
        if !greeted && !known && self.settings.version == VersionChoice::Auto {
            self.silent += 1;
            if self.silent >= SILENT_CLOSES {
                self.silent = 0;
                self.version = other(self.version);
            }
        }
        let how = if greeted { "" } else { " without an answer" };
        let ended = if reason.is_none() { Ended::Closed } else { Ended::Broken };
        self.lost(reason.unwrap_or_else(|| format!("the cloud closed the connection{how}")), ended).await;
    }
}

fn first_version(choice: VersionChoice) -> Version {
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

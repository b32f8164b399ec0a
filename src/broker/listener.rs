//! Takes connections in.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BrokerError;
use super::arrival::{Arrival, origins};
use super::connection;
use super::room::Room;
use super::settings::Place;
use super::shared::{Live, Shared};
use crate::health::{Health, Pulse, Supervised};
use crate::limits;
use crate::model::Moment;
use crate::mqtt::accept::{AcceptError, Terms, accept as shake_hands};
use crate::mqtt::backlog::Backlog;
use crate::mqtt::tls_server::Shown;

/// A bound socket and the task that accepts on it.
#[derive(Debug)]
pub(super) struct Listener {
    /// What the settings ask for. A reload may change what is spoken here.
    asked: watch::Sender<Place>,
    /// What the kernel gave.
    pub(super) address: SocketAddr,
    closing: CancellationToken,
    accepting: JoinHandle<()>,
    /// Its place in the book.
    _supervised: Supervised,
}

impl Listener {
    /// Binds; nothing is accepted yet.
    pub(super) async fn bind(asked: SocketAddr) -> Result<(TcpListener, SocketAddr), BrokerError> {
        let wrong = |error| BrokerError::Listen { address: asked, error };
        let socket = TcpListener::bind(asked).await.map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        Ok((socket, address))
    }

    /// Accepts until it is closed.
    pub(super) fn serve(
        asked: Place,
        (socket, address): (TcpListener, SocketAddr),
        shared: Arc<Shared>,
        room: Arc<Room>,
        tasks: &TaskTracker,
        health: &Arc<Health>,
    ) -> Self {
        let closing = CancellationToken::new();
        let supervised = health.enter(format!("listener {address}"), limits::PULSE_LIMIT, shared.clock.now());
        let (asked, place) = watch::channel(asked);
        let entrance = Entrance { shared, room, place, tasks: tasks.clone() };
        let accepting = tasks.spawn(accept(socket, entrance, closing.clone(), supervised.pulse()));
        Self { asked, address, closing, accepting, _supervised: supervised }
    }

    /// What the settings ask for.
    fn asked(&self) -> Place {
        *self.asked.borrow()
    }

    /// Whether it can be this place without being bound anew. Where the kernel chooses ports, two listeners are told apart by what they speak.
    pub(super) fn serves(&self, place: &Place) -> bool {
        let asked = self.asked();
        asked == *place || (asked.address == place.address && place.address.port() != 0)
    }

    /// Speaks from the next connection on what this place asks for.
    pub(super) fn become_place(&self, place: Place) {
        self.asked.send_replace(place);
    }

    /// Stops accepting; connections stay.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Stops accepting; the address is free afterwards.
    pub(super) async fn end(mut self) {
        self.close();
        // A task that panicked has let go of its socket too.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a listener hands to its connections.
struct Entrance {
    shared: Arc<Shared>,
    room: Arc<Room>,
    place: watch::Receiver<Place>,
    tasks: TaskTracker,
}

impl Entrance {
    /// Sees to a connection on a task of its own: nothing that a peer does, or leaves undone, keeps the next one waiting.
    fn open(&self, stream: TcpStream, peer: SocketAddr) {
        let live = self.shared.live();
        let place = *self.place.borrow();
        let caps = &live.settings.caps;
        if caps
            .connects_per_minute
            .is_some_and(|most| !self.shared.door.may_knock(peer.ip(), most, self.shared.clock.now()))
        {
            return refuse(&self.shared, peer, "rate", "more connections in a minute than `connects_per_minute`");
        }
        let seat = match self.room.seat(&live.settings, place, peer) {
            Ok(seat) => seat,
            Err(key) => return refuse(&self.shared, peer, key, &format!("no room for one more, by `{key}`")),
        };
        // Small packets must not wait for an acknowledgement of the last one; without it they only come later.
        let _ = stream.set_nodelay(true);
        let shared = self.shared.clone();
        if place.tls || place.websocket {
            self.tasks.spawn(async move {
                let _seat = seat;
                arrive(shared, live, place, stream, peer).await;
            });
        } else {
            self.tasks.spawn(async move {
                let _seat = seat;
                let backlog = Some(Backlog::of(&stream));
                let (reader, writer) = stream.into_split();
                let arrival = Arrival { peer, place, under: live, user: None, allowance: None, backlog };
                connection::serve(shared, reader, writer, arrival).await;
            });
        }
    }
}

/// Shakes hands, then serves.
async fn arrive(shared: Arc<Shared>, live: Arc<Live>, place: Place, stream: TcpStream, peer: SocketAddr) {
    let Some(terms) = terms(&live, place, shared.clock.now()) else { return };
    let takes_name = live.settings.tls.as_ref().is_some_and(|tls| tls.user_from_cert);
    let backlog = Some(Backlog::of(&stream));
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits::HANDSHAKE_WAIT, shake_hands(stream, terms)) => shaken,
        () = shared.stopping.cancelled() => return,
        () = shared.killed.cancelled() => return,
    };
    let accepted = match shaken {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(AcceptError::Refused(reason))) => return refuse(&shared, peer, "handshake", &reason),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "connection ended before CONNECT");
            return;
        }
        Err(_) => {
            tracing::debug!(%peer, "no handshake in time");
            return;
        }
    };
    let user = match accepted.shown {
        Shown::Certificate(name) if takes_name => match name {
            Some(name) => Some(name),
            None => return refuse(&shared, peer, "name", "its certificate has no common name that could be a user"),
        },
        _ => None,
    };
    let (reader, writer) = tokio::io::split(accepted.stream);
    let arrival = Arrival { peer, place, under: live, user, allowance: accepted.allowance, backlog };
    connection::serve(shared, reader, writer, arrival).await;
}

/// What is spoken at a place; `None` when a reload has just taken it away.
fn terms(live: &Live, place: Place, now: Moment) -> Option<Terms> {
    let tls = if place.tls { Some((live.tls.clone()?, now)) } else { None };
    let web = place.websocket.then(|| origins(place, live));
    Some(Terms { tls, web })
}

/// Told once in a while for each network and each kind of reason.
fn refuse(shared: &Shared, peer: SocketAddr, kind: &'static str, reason: &str) {
    if shared.door.is_news(peer.ip(), kind, shared.clock.now()) {
        tracing::warn!(%peer, reason, "connection refused");
    } else {
        tracing::debug!(%peer, reason, "connection refused");
    }
}

async fn accept(socket: TcpListener, entrance: Entrance, closing: CancellationToken, pulse: Pulse) {
    let shared = &entrance.shared;
    let (shortest, longest) = limits::ACCEPT_PAUSE;
    let mut pause = shortest;
    let mut failed = 0_u64;
    loop {
        pulse.beat(shared.clock.now());
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = tokio::time::sleep(limits::PULSE_EVERY) => continue,
            () = closing.cancelled() => return,
            () = shared.stopping.cancelled() => return,
            () = shared.killed.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                if failed > 0 {
                    tracing::info!(failed, "connections are accepted again");
                    (failed, pause) = (0, shortest);
                }
                entrance.open(stream, peer);
            }
            Err(error) => {
                if failed == 0 {
                    tracing::warn!(%error, "cannot accept connections");
                }
                failed += 1;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = closing.cancelled() => return,
                }
                pause = (pause * 2).min(longest);
            }
        }
    }
}

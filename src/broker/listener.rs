//! Takes connections in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BrokerError;
use super::connection::{self, Arrival};
use super::presence::Transport;
use super::settings::Place;
use super::shared::{Live, Shared};
use crate::health::{Health, Pulse, Supervised};
use crate::limits;
use crate::mqtt::accept::{AcceptError, Terms, Web, accept as shake_hands};
use crate::mqtt::tls_server::Shown;
use crate::mqtt::websocket::Origins;

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

/// How many connections there are. What the most is, is asked each time: a reload that lowers it closes none, and the next ones are refused
/// until enough have gone.
#[derive(Debug, Default)]
pub(super) struct Room {
    all: AtomicUsize,
    by_tls: AtomicUsize,
}

fn take(taken: &AtomicUsize, most: usize) -> bool {
    let one_more = |taken| (taken < most).then_some(taken + 1);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
}

impl Room {
    /// A place for one more; by TLS, whose connections have a limit of their own, or not.
    fn seat(self: &Arc<Self>, most: usize, most_by_tls: Option<usize>) -> Option<Seat> {
        take(&self.all, most).then_some(())?;
        // Dropped, it gives the one back.
        let mut seat = Seat { room: self.clone(), by_tls: false };
        if let Some(most) = most_by_tls {
            take(&self.by_tls, most).then_some(())?;
            seat.by_tls = true;
        }
        Some(seat)
    }
}

/// A connection's place; free again once it is dropped.
struct Seat {
    room: Arc<Room>,
    by_tls: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.all.fetch_sub(1, Ordering::Relaxed);
        if self.by_tls {
            self.room.by_tls.fetch_sub(1, Ordering::Relaxed);
        }
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
        let tls = if place.tls { live.settings.tls.as_ref() } else { None };
        let most_by_tls = tls.map(|tls| tls.max_connections.unwrap_or(usize::MAX));
        let Some(seat) = self.room.seat(live.settings.max_connections, most_by_tls) else {
            tracing::debug!(%peer, "no room for one more connection");
            return;
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
                let (reader, writer) = stream.into_split();
                let arrival = Arrival { peer, transport: Transport::of(place), user: None, allowance: None };
                connection::serve(shared, reader, writer, arrival).await;
            });
        }
    }
}

/// Shakes hands, then serves.
async fn arrive(shared: Arc<Shared>, live: Arc<Live>, place: Place, stream: TcpStream, peer: SocketAddr) {
    let Some(terms) = terms(&live, place) else { return };
    let takes_name = live.settings.tls.as_ref().is_some_and(|tls| tls.user_from_cert);
    drop(live);
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits::HANDSHAKE_WAIT, shake_hands(stream, terms)) => shaken,
        () = shared.stopping.cancelled() => return,
        () = shared.killed.cancelled() => return,
    };
    let accepted = match shaken {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(AcceptError::Refused(reason))) => return refuse(&shared, peer, &reason),
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
            None => return refuse(&shared, peer, "its certificate has no common name that could be a user"),
        },
        _ => None,
    };
    let (reader, writer) = tokio::io::split(accepted.stream);
    let arrival = Arrival { peer, transport: Transport::of(place), user, allowance: accepted.allowance };
    connection::serve(shared, reader, writer, arrival).await;
}

/// What is spoken at a place; `None` when a reload has just taken it away.
fn terms(live: &Live, place: Place) -> Option<Terms> {
    let tls = if place.tls { Some(live.tls.clone()?) } else { None };
    let lets_anyone_in = live.guests.lets_anyone_in();
    let asks = live.settings.tls.as_ref().filter(|tls| !tls.files.client_ca.is_empty());
    let by_certificate = asks.is_some_and(|tls| tls.user_from_cert || lets_anyone_in);
    let web = place.websocket.then(|| Web {
        origins: origins(place, lets_anyone_in, by_certificate),
        message_max: usize::try_from(live.settings.max_packet)
            .unwrap_or(usize::MAX)
            .saturating_add(limits::WEBSOCKET_MESSAGE_EXTRA),
    });
    Some(Terms { tls, web })
}

/// A browser comes from this machine, and shows its person's certificate, whatever page asks for it: where either is all that lets a client in, pages of
/// elsewhere may not.
fn origins(place: Place, lets_anyone_in: bool, by_certificate: bool) -> Origins {
    let by_address = lets_anyone_in && place.address.ip().is_loopback();
    if by_address || (place.tls && by_certificate) { Origins::ThisMachine } else { Origins::Any }
}

/// Told once for each address: a device that is refused tries for ever.
fn refuse(shared: &Shared, peer: SocketAddr, reason: &str) {
    if shared.is_first(&peer.ip().to_string().into(), "handshake") {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_elsewhere_does_not_come_in_by_an_address_or_a_certificate_alone() {
        let place = |address: &str, tls| Place { address: address.parse().unwrap(), tls, websocket: true };
        let (near, far) = ("127.0.0.1:1", "192.0.2.1:1");
        for (place, lets_anyone_in, by_certificate, expected) in [
            (place(near, false), true, false, Origins::ThisMachine),
            (place(near, false), false, false, Origins::Any),
            (place(far, false), true, false, Origins::Any),
            (place(far, true), false, true, Origins::ThisMachine),
            (place(far, true), true, true, Origins::ThisMachine),
            (place(far, true), false, false, Origins::Any),
            // Of its certificate nobody hears there.
            (place(far, false), false, true, Origins::Any),
        ] {
            assert_eq!(origins(place, lets_anyone_in, by_certificate), expected, "{place:?}");
        }
    }
}

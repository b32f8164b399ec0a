//! Takes connections in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BrokerError;
use super::connection;
use super::shared::Shared;
use crate::health::{Health, Pulse, Supervised};
use crate::limits;

/// A bound socket and the task that accepts on it.
#[derive(Debug)]
pub(super) struct Listener {
    /// What the settings asked for.
    pub(super) asked: SocketAddr,
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
        asked: SocketAddr,
        (socket, address): (TcpListener, SocketAddr),
        shared: Arc<Shared>,
        room: Arc<Room>,
        tasks: &TaskTracker,
        health: &Arc<Health>,
    ) -> Self {
        let closing = CancellationToken::new();
        let supervised = health.enter(format!("listener {address}"), limits::PULSE_LIMIT, shared.clock.now());
        let accepting = tasks.spawn(accept(socket, shared, room, tasks.clone(), closing.clone(), supervised.pulse()));
        Self { asked, address, closing, accepting, _supervised: supervised }
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
pub(super) struct Room(AtomicUsize);

impl Room {
    fn seat(self: &Arc<Self>, most: usize) -> Option<Seat> {
        let one_more = |taken| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Seat(self.clone()))
    }
}

/// A connection's place; free again once it is dropped.
struct Seat(Arc<Room>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(
    socket: TcpListener,
    shared: Arc<Shared>,
    room: Arc<Room>,
    tasks: TaskTracker,
    closing: CancellationToken,
    pulse: Pulse,
) {
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
                let Some(seat) = room.seat(shared.live().settings.max_connections) else {
                    tracing::debug!(%peer, "no room for one more connection");
                    continue;
                };
                // Small packets must not wait for an acknowledgement of the last one; without it they only come later.
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                tasks.spawn(async move {
                    let _seat = seat;
                    let (reader, writer) = stream.into_split();
                    connection::serve(shared, reader, writer, peer).await;
                });
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

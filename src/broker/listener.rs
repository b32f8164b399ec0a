//! Takes connections in.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BrokerError;
use super::connection;
use super::shared::Shared;
use crate::limits;

/// A bound socket and the task that accepts on it.
#[derive(Debug)]
pub(super) struct Listener {
    /// What the settings asked for.
    pub(super) asked: SocketAddr,
    /// What the kernel gave.
    pub(super) address: SocketAddr,
    closing: CancellationToken,
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
        room: Arc<Semaphore>,
        tasks: &TaskTracker,
    ) -> Self {
        let closing = CancellationToken::new();
        tasks.spawn(accept(socket, shared, room, tasks.clone(), closing.clone()));
        Self { asked, address, closing }
    }

    /// Stops accepting; connections stay.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(
    socket: TcpListener,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    closing: CancellationToken,
) {
    let (shortest, longest) = limits::ACCEPT_PAUSE;
    let mut pause = shortest;
    let mut failed = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
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
                let Ok(seat) = room.clone().try_acquire_owned() else {
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
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

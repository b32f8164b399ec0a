//! Takes connections in: from a TCP port for the page, from a unix socket for the command line.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::stall::Stall;
use super::{Shared, route};
use crate::health::{Pulse, Supervised};
use crate::limits::{ACCEPT_PAUSE, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, PULSE_EVERY, SOCKET_PATH_BYTES_MAX};

/// A bound port and the word that ends what came by it.
pub(super) struct Listener {
    /// What the settings asked for.
    pub(super) asked: SocketAddr,
    /// What the kernel gave.
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
    /// Its place in the book.
    pub(super) _supervised: Supervised,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Where connections come in.
pub(super) enum Door {
    Page(TcpListener),
    Control(UnixListener),
}

/// Who it is, as far as the connection tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visitor {
    /// By TCP, from this address.
    Page(IpAddr),
    /// By the control socket: the file's mode has let it in.
    Control,
}

/// Binds the page's port.
pub(super) async fn bind_page(asked: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpListener::bind(asked).await?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Makes the control socket. What an earlier process left in its place is removed; one that answers is not, nor is anything but a socket.
pub(super) fn bind_control(path: &Path) -> io::Result<UnixListener> {
    if path.as_os_str().as_bytes().len() >= SOCKET_PATH_BYTES_MAX {
        return Err(io::Error::other(format!("a socket's path has at most {} bytes", SOCKET_PATH_BYTES_MAX - 1)));
    }
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::other("something else is in its place"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
        std::fs::remove_file(path)?;
    }
    // Moved into its place once its mode is right.
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let socket = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o660))?;
    std::fs::rename(&fresh, path)?;
    Ok(socket)
}

impl Door {
    fn name(&self) -> &'static str {
        match self {
            Self::Page(_) => "page",
            Self::Control(_) => "control socket",
        }
    }

    /// Takes one connection and has it served.
    async fn take(&self, shared: &Arc<Shared>, stop: &CancellationToken) -> io::Result<()> {
        match self {
            Self::Page(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Updates are small; without it they only come later.
                let _ = stream.set_nodelay(true);
                seat(stream, Visitor::Page(peer.ip()), shared, stop);
            }
            Self::Control(socket) => {
                let (stream, _) = socket.accept().await?;
                seat(stream, Visitor::Control, shared, stop);
            }
        }
        Ok(())
    }
}

/// Accepts until it is told to stop.
pub(super) async fn accept(door: Door, shared: Arc<Shared>, stop: CancellationToken, pulse: Pulse) {
    let (shortest, longest) = ACCEPT_PAUSE;
    let mut pause = shortest;
    let mut failed = 0_u64;
    loop {
        pulse.beat(shared.clock.now());
        let taken = tokio::select! {
            taken = door.take(&shared, &stop) => taken,
            () = tokio::time::sleep(PULSE_EVERY) => continue,
            () = stop.cancelled() => return,
        };
        match taken {
            Ok(()) if failed > 0 => {
                info!(door = door.name(), failed, "visitors are let in again");
                (failed, pause) = (0, shortest);
            }
            Ok(()) => {}
            Err(error) => {
                if failed == 0 {
                    warn!(door = door.name(), %error, "cannot let visitors in");
                }
                failed += 1;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// Serves a connection if there is room for it; else it is closed.
fn seat<S>(stream: S, visitor: Visitor, shared: &Arc<Shared>, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let seats = match visitor {
        Visitor::Page(_) => &shared.seats,
        Visitor::Control => &shared.control_seats,
    };
    let Ok(seat) = Arc::clone(seats).try_acquire_owned() else {
        debug!(?visitor, "no room for one more visitor");
        return;
    };
    let (shared, stop) = (Arc::clone(shared), stop.clone());
    shared.tasks.clone().spawn(async move {
        let _seat = seat;
        tokio::select! {
            () = serve(stream, visitor, shared) => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn serve<S>(stream: S, visitor: Visitor, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let patience = shared.patience;
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(route::answer(&shared, visitor, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .max_headers(HTTP_HEADERS_MAX)
        .serve_connection(TokioIo::new(Stall::new(stream, patience.write)), service);
    if let Err(error) = connection.await {
        // A browser that goes away in the middle of an answer is nobody's fault.
        debug!(?visitor, %error, "a visitor's connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_a_dead_process_left_is_replaced_and_one_that_answers_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(bind_control(&path).unwrap());
        assert!(path.exists(), "left behind");
        let alive = bind_control(&path).unwrap();
        assert_eq!(bind_control(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(alive);
    }

    #[tokio::test]
    async fn it_is_open_to_owner_and_group_alone_and_nothing_but_a_socket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let _socket = bind_control(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(bind_control(&file).is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_for_a_socket_is_told_as_such() {
        let error = bind_control(&Path::new("/tmp").join("x".repeat(SOCKET_PATH_BYTES_MAX))).unwrap_err();
        assert!(error.to_string().contains("107 bytes"), "{error}");
    }
}

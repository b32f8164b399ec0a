//! What the kernel holds of what was written to a connection, and the peer has not acknowledged.

use std::os::fd::{AsRawFd, RawFd};

use tokio::net::TcpStream;

/// A connection, by its descriptor. To be asked only while that is open: afterwards it knows nothing, or speaks of another one.
#[derive(Debug, Clone, Copy)]
pub struct Backlog(RawFd);

impl Backlog {
    /// Of this connection, whatever is spoken over it.
    pub fn of(tcp: &TcpStream) -> Self {
        Self(tcp.as_raw_fd())
    }

    /// Bytes (SIOCOUTQ, tcp(7)). It shrinks with what the peer's kernel takes; `None` where ours does not say.
    pub fn bytes(self) -> Option<u64> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the call writes one int, to a place that is one; a descriptor that is closed, or no socket, is an error.
        let outcome = unsafe { libc::ioctl(self.0, libc::TIOCOUTQ, &raw mut bytes) };
        if outcome == 0 { u64::try_from(bytes).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn it_grows_with_what_is_written_and_shrinks_with_what_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpSocket::new_v4().unwrap();
        peer.set_recv_buffer_size(16 << 10).unwrap();
        let mut peer = peer.connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut ours, _) = listener.accept().await.unwrap();
        let backlog = Backlog::of(&ours);
        assert_eq!(backlog.bytes(), Some(0));
        ours.write_all(&vec![7; 256 << 10]).await.unwrap();
        let full = backlog.bytes().unwrap();
        assert!(full > 128 << 10, "{full}");
        peer.read_exact(&mut vec![0; 256 << 10]).await.unwrap();
        // Its acknowledgement is on its way.
        while backlog.bytes() != Some(0) {
            tokio::task::yield_now().await;
        }
        assert_eq!(Backlog(-1).bytes(), None);
    }
}

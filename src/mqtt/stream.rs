//! A connection as a stream of bytes, whatever is around it; whoever began it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::tls;
use super::websocket::WebSocket;

/// A connection: TCP, with TLS or without, with a WebSocket in it or without.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// A WebSocket over one of these.
    Web(Box<WebSocket<Stream>>),
    /// One of these, of which only so much is read.
    Bounded(Box<Bounded>),
}

/// A connection that is read from only as far as its allowance goes.
#[derive(Debug)]
pub struct Bounded {
    inner: Stream,
    allowance: Allowance,
}

/// Bytes that may still be read from a peer that is not known yet. More is an error of the stream, until the allowance is lifted.
#[derive(Debug, Clone)]
pub struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// So many bytes.
    pub fn of(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// From now on there is no limit: the peer is known.
    pub fn lift(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }
}

impl Bounded {
    /// Reads no more of the stream than the allowance says.
    pub fn around(inner: Stream, allowance: Allowance) -> Stream {
        Stream::Bounded(Box::new(Self { inner, allowance }))
    }
}

impl AsyncRead for Bounded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.allowance.0.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("it sends more than a client may before it is known")));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if left != usize::MAX {
            // At most one read more than it says: what is read at a time is bounded by its reader.
            this.allowance.0.store(left.saturating_sub(read), Ordering::Relaxed);
        }
        polled
    }
}

impl Stream {
    /// What TLS agreed on and whom with; `None` without TLS.
    pub fn tls_told(&self) -> Option<String> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(tls::told(stream.get_ref().1)),
            Stream::Web(stream) => stream.inside().tls_told(),
            Stream::Bounded(stream) => stream.inner.tls_told(),
        }
    }

    /// Whether its handshake resumed an earlier session; `None` without TLS.
    pub fn is_resumed(&self) -> Option<bool> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)),
            Stream::Web(stream) => stream.inside().is_resumed(),
            Stream::Bounded(stream) => stream.inner.is_resumed(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Web(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Bounded(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Web(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Bounded(stream) => Pin::new(&mut stream.inner).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Web(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Bounded(stream) => Pin::new(&mut stream.inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Web(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Bounded(stream) => Pin::new(&mut stream.inner).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn no_more_is_read_than_the_allowance_says_until_it_is_lifted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        let allowance = Allowance::of(10);
        let mut stream = Bounded::around(Stream::Plain(ours), allowance.clone());
        peer.write_all(&[7; 20]).await.unwrap();
        let mut bytes = [0; 10];
        stream.read_exact(&mut bytes).await.unwrap();
        assert!(stream.read_exact(&mut bytes).await.is_err(), "the eleventh byte");
        allowance.lift();
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(b"back").await.unwrap();
        let mut answer = [0; 4];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"back");
    }
}

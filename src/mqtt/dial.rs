//! Makes a connection to a cloud: name, TCP, TLS.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::{TlsClient, in_words};
use crate::limits::SOCKET_UNSENT_BYTES;

/// Why there is no connection, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name leads nowhere.
    #[error("name `{host}` cannot be resolved: {reason}")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No address of it takes a connection.
    #[error("{0}")]
    Tcp(String),
    /// The connection stands, and TLS does not.
    #[error("{0}")]
    Tls(String),
}

/// A connection, with TLS or without.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects. `unacknowledged` is when the kernel gives up bytes that the other side does not acknowledge (TCP_USER_TIMEOUT, tcp(7)).
///
/// There is no time limit in here: whoever calls has one for the whole, CONNACK included. The name is looked up on a thread of its own,
/// since the C library's resolver blocks.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    host: &str,
    port: u16,
    tls: Option<&TlsClient>,
    per_address: Duration,
    unacknowledged: Duration,
) -> Result<Stream, DialError> {
    let named = |reason: String| DialError::Name { host: host.to_owned(), reason };
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await.map_err(|error| named(resolver_words(&error)))?.collect();
    let mut last = named("it has no address".into());
    for address in addresses {
        // One address that swallows packets must not keep the next from being tried.
        match tokio::time::timeout(per_address, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return secure(tcp, tls, unacknowledged).await,
            Ok(Err(error)) => last = DialError::Tcp(in_words(&error)),
            Err(_) => last = DialError::Tcp("the cloud does not answer".into()),
        }
    }
    Err(last)
}

async fn secure(tcp: TcpStream, tls: Option<&TlsClient>, unacknowledged: Duration) -> Result<Stream, DialError> {
    let unset = |error: io::Error| DialError::Tcp(error.to_string());
    tcp.set_nodelay(true).map_err(unset)?;
    let unacknowledged_ms = libc::c_uint::try_from(unacknowledged.as_millis()).unwrap_or(libc::c_uint::MAX);
    set_tcp(&tcp, libc::TCP_USER_TIMEOUT, unacknowledged_ms).map_err(unset)?;
    set_tcp(&tcp, libc::TCP_NOTSENT_LOWAT, SOCKET_UNSENT_BYTES).map_err(unset)?;
    let Some(tls) = tls else { return Ok(Stream::Plain(tcp)) };
    let connector = TlsConnector::from(tls.config.clone());
    match connector.connect(tls.name.clone(), tcp).await {
        Ok(mut stream) => {
            stream.get_mut().1.set_buffer_limit(Some(SOCKET_UNSENT_BYTES as usize));
            Ok(Stream::Tls(Box::new(stream)))
        }
        Err(error) => Err(DialError::Tls(in_words(&error))),
    }
}

fn set_tcp(tcp: &TcpStream, option: libc::c_int, value: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `tcp` lives, and the value is an unsigned int of the size that is given.
    let outcome = unsafe {
        libc::setsockopt(
            tcp.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_uint>()).unwrap_or(4),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The standard library puts its own words before the resolver's.
fn resolver_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_lowercase()
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

//! Makes a connection to a cloud: name, TCP, TLS, WebSocket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificate::Certificate;
use super::resolve::Resolver;
pub use super::stream::Stream;
use super::tls::{TlsClient, in_words};
use super::websocket::WebSocket;
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
    #[error("{reason}")]
    Tls {
        /// Why.
        reason: String,
        /// The certificate that was turned down, where that is why.
        certificate: Option<Box<Certificate>>,
    },
    /// TLS stands where it is asked for, and the WebSocket does not.
    #[error("{0}")]
    WebSocket(String),
}

/// Where to, and in what.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Host name or address.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// TLS, where it is spoken.
    pub tls: Option<&'a TlsClient>,
    /// Path of the WebSocket, where one is asked for.
    pub path: Option<&'a str>,
    /// Longest to wait for one address, so that one that swallows packets does not keep the next from being tried.
    pub per_address: Duration,
    /// When the kernel gives up bytes that the other side does not acknowledge (TCP_USER_TIMEOUT, tcp(7)).
    pub unacknowledged: Duration,
}

/// How far a connection is, for whoever gives up waiting for it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU8>);

/// What each step waits for, in their order.
const STEPS: [&str; 4] = [
    "the name server does not answer",
    "the cloud does not answer",
    "the cloud does not answer the TLS handshake",
    "the cloud does not answer the request for a WebSocket",
];

impl Progress {
    fn at(&self, step: u8) {
        self.0.store(step, Ordering::Relaxed);
    }

    /// Whether TCP stood, so that a handshake of TLS has begun where there is to be one.
    pub fn has_tcp(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 2
    }

    /// What is waited for.
    pub fn waits_for(&self) -> &'static str {
        STEPS.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }
}

/// Connects. There is no time limit in here: whoever calls has one for the whole, and asks `progress` what it was spent on.
///
/// # Errors
/// [`DialError`].
pub async fn dial(resolver: &Resolver, target: Target<'_>, progress: &Progress) -> Result<Stream, DialError> {
    progress.at(0);
    let addresses = lookup(resolver, target.host).await?;
    progress.at(1);
    let mut last = DialError::Tcp("it has no address".into());
    for address in addresses {
        match connect(SocketAddr::new(address, target.port), target).await {
            Ok(tcp) => {
                progress.at(2);
                let stream = secure(tcp, target).await?;
                progress.at(3);
                return upgrade(stream, target).await;
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of a name, one at least.
///
/// # Errors
/// [`DialError::Name`].
pub async fn lookup(resolver: &Resolver, host: &str) -> Result<Vec<IpAddr>, DialError> {
    resolver.lookup(host).await.map_err(|reason| DialError::Name { host: host.to_owned(), reason })
}

/// One address: TCP, with its options set.
///
/// # Errors
/// [`DialError::Tcp`].
pub async fn connect(address: SocketAddr, target: Target<'_>) -> Result<TcpStream, DialError> {
    let unset = |error: io::Error| DialError::Tcp(error.to_string());
    let tcp = match tokio::time::timeout(target.per_address, TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => return Err(DialError::Tcp(in_words(&error))),
        Err(_) => return Err(DialError::Tcp("the cloud does not answer".into())),
    };
    tcp.set_nodelay(true).map_err(unset)?;
    let unacknowledged_ms = libc::c_uint::try_from(target.unacknowledged.as_millis()).unwrap_or(libc::c_uint::MAX);
    set_tcp(&tcp, libc::TCP_USER_TIMEOUT, unacknowledged_ms).map_err(unset)?;
    set_tcp(&tcp, libc::TCP_NOTSENT_LOWAT, SOCKET_UNSENT_BYTES).map_err(unset)?;
    Ok(tcp)
}

/// TLS over it, where the target wants it.
///
/// # Errors
/// [`DialError::Tls`].
pub async fn secure(tcp: TcpStream, target: Target<'_>) -> Result<Stream, DialError> {
    let Some(tls) = target.tls else { return Ok(Stream::Plain(tcp)) };
    let connector = TlsConnector::from(tls.config.clone());
    match connector.connect(tls.name.clone(), tcp).await {
        Ok(mut stream) => {
            stream.get_mut().1.set_buffer_limit(Some(SOCKET_UNSENT_BYTES as usize));
            Ok(Stream::Tls(Box::new(stream.into())))
        }
        Err(error) => {
            let (reason, certificate) = tls.refusal(&error);
            Err(DialError::Tls { reason, certificate })
        }
    }
}

/// A WebSocket in it, where the target wants one.
///
/// # Errors
/// [`DialError::WebSocket`].
pub async fn upgrade(stream: Stream, target: Target<'_>) -> Result<Stream, DialError> {
    let Some(path) = target.path else { return Ok(stream) };
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.to_owned() };
    let usual = if target.tls.is_some() { 443 } else { 80 };
    let host = if target.port == usual { host } else { format!("{host}:{}", target.port) };
    match WebSocket::connect(stream, &host, path).await {
        Ok(socket) => Ok(Stream::Web(Box::new(socket))),
        Err(error) => Err(DialError::WebSocket(error.to_string())),
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

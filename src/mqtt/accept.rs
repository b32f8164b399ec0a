//! Takes a connection in: TLS and WebSocket, each where the listener speaks it.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::stream::{Allowance, Bounded, Stream};
use super::tls_server::{Shown, TlsServer, refusal};
use super::websocket::{Origins, WebSocket};
use crate::limits::WEBSOCKET_UNKNOWN_BYTES;
use crate::model::Moment;

/// What is spoken around MQTT.
#[derive(Debug, Clone)]
pub struct Terms {
    /// TLS, where it is, and the time.
    pub tls: Option<(Arc<TlsServer>, Moment)>,
    /// WebSockets, where they are, and which pages may open one.
    pub web: Option<Origins>,
}

/// A connection over which MQTT is spoken next.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Who the client is, by its certificate.
    pub shown: Shown,
    /// What the client may send before it is known, where that is counted below MQTT. To be lifted once it is.
    pub allowance: Option<Allowance>,
}

/// Why it does not come to MQTT.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// One of the two sides refused the other: in words for a person.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or was closed.
    #[error("{0}")]
    Broken(String),
}

/// Shakes hands. There is no time limit in here: whoever calls has one for the whole.
///
/// # Errors
/// [`AcceptError`]; the connection is closed then.
pub async fn accept(tcp: TcpStream, terms: Terms) -> Result<Accepted, AcceptError> {
    let (stream, shown) = match terms.tls {
        None => (Stream::Plain(tcp), Shown::Nothing),
        Some((tls, now)) => tls.accept(tcp, now).await.map_err(|error| match refusal(&error) {
            Some(words) => AcceptError::Refused(words),
            None => AcceptError::Broken(format!("in the TLS handshake: {error}")),
        })?,
    };
    let Some(origins) = terms.web else { return Ok(Accepted { stream, shown, allowance: None }) };
    let allowance = Allowance::of(WEBSOCKET_UNKNOWN_BYTES);
    let stream = Bounded::around(stream, allowance.clone());
    let socket = WebSocket::accept(stream, origins).await.map_err(|error| AcceptError::Refused(error.to_string()))?;
    Ok(Accepted { stream: Stream::Web(Box::new(socket)), shown, allowance: Some(allowance) })
}

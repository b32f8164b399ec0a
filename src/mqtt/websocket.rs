//! MQTT in a WebSocket [MQTT 5.0 §6, RFC 6455]: a stream of bytes again, whatever frames they came in.
//!
//! Packets and frames need not agree [MQTT-6.0.0-2]: what is written goes out in binary frames of at most [`WEBSOCKET_FRAME_BYTES`], and
//! what comes in is handed on byte by byte. Nothing is buffered without end: a further frame is taken only when the one before it has left.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Message, protocol::WebSocketConfig};

use crate::limits::{WEBSOCKET_FRAME_BYTES, WEBSOCKET_MESSAGE_MAX, WEBSOCKET_READ_BYTES, WEBSOCKET_WRITE_BYTES_MAX};

mod server;
mod slices;

use slices::Sliced;

pub use server::Origins;

/// The subprotocol of MQTT [MQTT-6.0.0-3]; 3.1.1 has the same.
const SUBPROTOCOL: &str = "mqtt";

/// Why there is no WebSocket, or no longer, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WebSocketError(String);

/// A WebSocket as a stream of bytes.
#[derive(Debug)]
pub struct WebSocket<S> {
    inner: WebSocketStream<Sliced<S>>,
    /// Of the message that came last, what was not read yet.
    unread: Bytes,
    closed: bool,
    /// Whom its words speak of.
    peer: &'static str,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Asks the server behind `stream` for a WebSocket at `path`; `host` is how it is called, with its port where that is not the scheme's own.
    ///
    /// There is no time limit in here. The server's answer may be 64 KiB long, in 512 pieces, and have 124 fields; more ends it.
    ///
    /// # Errors
    /// [`WebSocketError`] says what the server answered instead.
    pub async fn connect(stream: S, host: &str, path: &str) -> Result<Self, WebSocketError> {
        let uri: Uri = format!("ws://{host}{path}")
            .parse()
            .map_err(|error| WebSocketError(format!("no WebSocket can be asked for at `{host}{path}`: {error}")))?;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
        let stream = Sliced::untouched(stream);
        let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config())).await;
        let (inner, answer) = opened.map_err(|error| refused(&error, path))?;
        // The library looks for one of those that were asked for, and here there is one; an answer that names it in a list names no choice.
        if answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL) != Some(&HeaderValue::from_static(SUBPROTOCOL)) {
            return Err(WebSocketError(OTHER_SUBPROTOCOL.into()));
        }
        // No extension was asked for [RFC 6455 §9.1], and its frames could not be read.
        if answer.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err(WebSocketError("the cloud answered with a WebSocket extension that was not asked for".into()));
        }
        Ok(Self { inner, unread: Bytes::new(), closed: false, peer: "the cloud" })
    }

    /// The stream below.
    pub fn inside(&self) -> &S {
        self.inner.get_ref().inside()
    }

    /// Takes what came: true when there are bytes to read, false at an orderly end.
    fn take(&mut self, message: Message) -> io::Result<bool> {
        match message {
            Message::Binary(bytes) => {
                self.unread = bytes;
                Ok(true)
            }
            Message::Text(_) => Err(broken(format!("{} sent a WebSocket text frame, and MQTT has none", self.peer))),
            Message::Close(frame) => {
                self.closed = true;
                let words = frame.as_ref().and_then(close_words);
                words.map_or(Ok(false), |words| Err(broken(format!("{} {words}", self.peer))))
            }
            // Pings are answered by the library; the answers to none of ours mean nothing.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(true),
        }
    }
}

const OTHER_SUBPROTOCOL: &str = "the cloud answered with another WebSocket subprotocol than `mqtt`";

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(WEBSOCKET_READ_BYTES)
        // Each frame goes to the socket at once: there must be no second place where bytes wait.
        .write_buffer_size(0)
        .max_write_buffer_size(WEBSOCKET_WRITE_BYTES_MAX)
        .max_message_size(Some(WEBSOCKET_MESSAGE_MAX))
        .max_frame_size(Some(WEBSOCKET_MESSAGE_MAX))
}

fn broken(words: String) -> io::Error {
    io::Error::other(WebSocketError(words))
}

/// Why the server did not open a WebSocket.
fn refused(error: &tungstenite::Error, path: &str) -> WebSocketError {
    use tungstenite::Error as E;
    WebSocketError(match error {
        E::Http(answer) => {
            let status = answer.status();
            let hint = match status {
                StatusCode::NOT_FOUND => ": is this the path of its MQTT?",
                status if status.is_redirection() => ": it sends us elsewhere, and is not followed there",
                status if status.is_success() => ": it is a web server, and opens no WebSocket there",
                _ => "",
            };
            format!("the cloud answered {status} when asked for a WebSocket at `{path}`{hint}")
        }
        E::Protocol(ProtocolError::SecWebSocketSubProtocolError(error)) => match error {
            SubProtocolError::NoSubProtocol => "the cloud answered without the WebSocket subprotocol `mqtt`".into(),
            _ => OTHER_SUBPROTOCOL.into(),
        },
        E::Protocol(ProtocolError::HandshakeIncomplete) => {
            "the cloud closed the connection when asked for a WebSocket".into()
        }
        E::Protocol(ProtocolError::HttparseError(_)) => {
            "what answers there speaks no HTTP: is this the port of its WebSockets?".into()
        }
        E::AttackAttempt => "the cloud's answer has no end when asked for a WebSocket".into(),
        E::Io(error) => format!("when asked for a WebSocket: {}", super::tls::in_words(error)),
        other => format!("the cloud's answer opens no WebSocket: {other}"),
    })
}

/// A connection that broke, as an error of the stream below where it is one.
fn failed(peer: &str, error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => io::ErrorKind::UnexpectedEof.into(),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            io::ErrorKind::UnexpectedEof.into()
        }
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            broken(format!("{peer} sent a WebSocket message of {size} bytes; {max_size} are taken"))
        }
        other => broken(format!("{peer} broke the WebSocket: {}", plain(&other.to_string()))),
    }
}

/// What a close frame says [RFC 6455 §7.4]; `None` for an end without a reason.
fn close_words(frame: &CloseFrame) -> Option<String> {
    let code = u16::from(frame.code);
    let meaning = match frame.code {
        CloseCode::Normal | CloseCode::Status if frame.reason.is_empty() => return None,
        CloseCode::Normal => "normal closure",
        CloseCode::Away => "going away",
        CloseCode::Protocol => "protocol error",
        CloseCode::Unsupported => "data it cannot take",
        CloseCode::Invalid => "data that is not what it should be",
        CloseCode::Policy => "against its policy",
        CloseCode::Size => "message too large",
        CloseCode::Extension => "an extension is missing",
        CloseCode::Error => "an error of its own",
        CloseCode::Restart => "it restarts",
        CloseCode::Again => "try again later",
        _ => "",
    };
    let mut words = format!("closed the WebSocket: {code}");
    for part in [meaning.to_owned(), plain(&frame.reason)] {
        if !part.is_empty() {
            words.push_str(", ");
            words.push_str(&part);
        }
    }
    Some(words)
}

/// Words from outside, for one line of a log.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() && !this.closed {
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                None => this.closed = true,
                Some(Ok(message)) => {
                    if !this.take(message)? {
                        break;
                    }
                }
                Some(Err(error)) => {
                    this.closed = true;
                    return Poll::Ready(Err(failed(this.peer, error)));
                }
            }
        }
        let length = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..length]);
        this.unread.advance(length);
        if this.unread.is_empty() {
            // An empty rest would hold the whole message until the next one.
            this.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let broke = |error| failed(this.peer, error);
        ready!(Pin::new(&mut this.inner).poll_flush(cx)).map_err(broke)?;
        let length = buf.len().min(WEBSOCKET_FRAME_BYTES);
        let message = Message::Binary(Bytes::copy_from_slice(&buf[..length]));
        Pin::new(&mut this.inner).start_send(message).map_err(broke)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Pin::new(&mut this.inner).poll_flush(cx).map_err(|error| failed(this.peer, error))
    }

    /// Says goodbye and waits for the peer's [RFC 6455 §7.1.1]. Whoever calls has a time limit.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.inner).poll_close(cx)).map_err(|error| failed(this.peer, error))?;
        while ready!(Pin::new(&mut this.inner).poll_next(cx)).is_some_and(|came| came.is_ok()) {}
        Pin::new(this.inner.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

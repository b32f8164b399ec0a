//! The server's side of opening a WebSocket.

use std::net::IpAddr;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::{SUBPROTOCOL, Sliced, WebSocket, WebSocketError, config};
use crate::limits::WEBSOCKET_FRAME_BYTES;

/// Which pages may open a WebSocket. A browser names the page's origin; programs name none, and are not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    /// Any: whoever opens one must say who he is, or anyone may come in from anywhere.
    Any,
    /// Those of this machine: any page of the web that a person here has open could else come in by loopback, as if from this machine.
    ThisMachine,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Answers the request of the client behind `stream`, whatever path it asks for. Messages of any length are taken, and handed on as they come: none is
    /// held, nor room for it.
    ///
    /// There is no time limit in here. The request may be 64 KiB long, in 512 pieces, and have 124 fields; more ends it.
    ///
    /// # Errors
    /// [`WebSocketError`] says why it opens none; the client was told by an HTTP status where it speaks HTTP.
    pub async fn accept(stream: S, origins: Origins) -> Result<Self, WebSocketError> {
        let most = Some(WEBSOCKET_FRAME_BYTES);
        let config = config().max_message_size(most).max_frame_size(most);
        let stream = Sliced::behind_request(stream);
        let opened = tokio_tungstenite::accept_hdr_async_with_config(stream, Doorkeeper(origins), Some(config)).await;
        let inner = opened.map_err(|error| WebSocketError(refused(&error)))?;
        Ok(Self { inner, unread: Bytes::new(), closed: false, peer: "the client" })
    }
}

struct Doorkeeper(Origins);

impl Callback for Doorkeeper {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let headers = request.headers();
        if self.0 == Origins::ThisMachine && headers.get_all(header::ORIGIN).iter().any(|origin| !is_local(origin)) {
            return Err(refusal(StatusCode::FORBIDDEN, "pages of other machines may not come in here"));
        }
        if !offers_mqtt(headers) {
            return Err(refusal(StatusCode::BAD_REQUEST, "the subprotocol is mqtt"));
        }
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        Ok(response)
    }
}

fn refusal(status: StatusCode, why: &str) -> ErrorResponse {
    let mut answer = ErrorResponse::new(Some(format!("{why}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Whether `mqtt` is among what the client offers: a list, in one field or several [RFC 6455 §4.1].
fn offers_mqtt(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|offers| offers.to_str().ok());
    offers.flat_map(|offers| offers.split(',')).any(|offer| offer.trim() == SUBPROTOCOL)
}

/// Whether a page comes from this machine: by address, or by the name that browsers never ask a name server for.
fn is_local(origin: &HeaderValue) -> bool {
    let Some((_, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    host.is_some_and(|host| {
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// Why the client gets no WebSocket.
fn refused(error: &tungstenite::Error) -> String {
    use tungstenite::Error as E;
    match error {
        E::Http(answer) if answer.status() == StatusCode::FORBIDDEN => {
            "a page of another machine asked for a WebSocket".into()
        }
        E::Http(_) => "it asked for a WebSocket without the subprotocol `mqtt`".into(),
        E::Protocol(ProtocolError::HandshakeIncomplete) => {
            "it closed the connection before it asked for a WebSocket".into()
        }
        E::Protocol(ProtocolError::HttparseError(_)) => "what it speaks is no HTTP: this port is for WebSockets".into(),
        E::AttackAttempt => "its request for a WebSocket has no end".into(),
        other => format!("it asked for no WebSocket: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const ASKS: &str = "GET /mqtt HTTP/1.1\r\nHost: box:9001\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// What the server answers to these bytes, and whether it opens a WebSocket.
    async fn answered(origins: Origins, request: &str) -> (String, Result<WebSocket<DuplexStream>, WebSocketError>) {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        ours.write_all(request.as_bytes()).await.unwrap();
        let outcome = WebSocket::accept(theirs, origins).await;
        if outcome.is_err() {
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await.unwrap();
            return (answer, outcome);
        }
        let mut answer = vec![0; 4_096];
        let length = ours.read(&mut answer).await.unwrap();
        (String::from_utf8_lossy(&answer[..length]).into_owned(), outcome)
    }

    #[tokio::test]
    async fn a_client_that_offers_mqtt_is_welcome_and_its_bytes_come_through_both_ways() {
        for offers in ["mqtt", "mqttv3.1, mqtt", "amqp\r\nSec-WebSocket-Protocol: mqtt"] {
            let request = format!("{ASKS}Sec-WebSocket-Protocol: {offers}\r\n\r\n");
            for request in [request.replace('\r', ""), format!("\r\n{request}"), request] {
                let (answer, outcome) = answered(Origins::ThisMachine, &request).await;
                assert!(outcome.is_ok(), "{request:?}: {outcome:?}");
                assert!(
                    answer.starts_with("HTTP/1.1 101 ") && answer.contains("sec-websocket-protocol: mqtt\r\n"),
                    "{answer}"
                );
            }
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (client, server) =
            tokio::join!(WebSocket::connect(ours, "box", "/"), WebSocket::accept(theirs, Origins::Any));
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        client.write_all(b"there").await.unwrap();
        client.flush().await.unwrap();
        let mut bytes = [0; 5];
        server.read_exact(&mut bytes).await.unwrap();
        server.write_all(&bytes).await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"there");
        // More than any buffer here holds.
        let large = vec![7; 3 << 20];
        let mut came = vec![0; large.len()];
        let sending = async {
            client.write_all(&large).await.unwrap();
            client.flush().await.unwrap();
        };
        tokio::join!(sending, async { server.read_exact(&mut came).await.unwrap() });
        assert!(came == large);
    }

    #[tokio::test]
    async fn whoever_asks_for_something_else_is_refused_in_words() {
        for (request, status, words) in [
            (format!("{ASKS}\r\n"), "HTTP/1.1 400 ", "it asked for a WebSocket without the subprotocol `mqtt`"),
            (format!("{ASKS}Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n"), "HTTP/1.1 400 ", "without the subprotocol"),
            ("GET / HTTP/1.1\r\nHost: box\r\n\r\n".into(), "", "it asked for no WebSocket: "),
            ("\u{10}\u{c}\0\u{4}MQTT\u{4}\u{2}\0<\0\0".into(), "", "what it speaks is no HTTP"),
            (format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(200_000)), "", "its request for a WebSocket has no end"),
        ] {
            let (answer, outcome) = answered(Origins::Any, &request).await;
            let told = outcome.unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
            assert!(answer.starts_with(status) && answer.is_empty() == status.is_empty(), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_page_of_another_machine_does_not_come_in_by_loopback() {
        let asks = |origin: &str| format!("{ASKS}Sec-WebSocket-Protocol: mqtt\r\nOrigin: {origin}\r\n\r\n");
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:80"] {
            assert!(answered(Origins::ThisMachine, &asks(origin)).await.1.is_ok(), "{origin}");
        }
        for origin in ["https://web.example", "http://localhost.web.example", "null", "http://192.0.2.7"] {
            let (answer, outcome) = answered(Origins::ThisMachine, &asks(origin)).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{origin}: {answer}");
            assert_eq!(outcome.unwrap_err().to_string(), "a page of another machine asked for a WebSocket");
            assert!(answered(Origins::Any, &asks(origin)).await.1.is_ok(), "{origin}");
        }
    }
}

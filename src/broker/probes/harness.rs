//! A broker on a port of the kernel's choice, and a client that sends any bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::broker::{Broker, Caps, Routing, Settings};
use crate::clock::SystemClock;
use crate::health::Health;
use crate::model::{Message, Qos, TopicName};
use crate::mqtt::framing;
use crate::mqtt::properties::put_bytes;
use crate::mqtt::server::{OutPublish, Version, put_publish};
use crate::ports::{Acceptance, Uplink};

/// No test waits longer for anything.
pub(in crate::broker) const PATIENCE: Duration = Duration::from_secs(10);

/// A bridge that wants nothing.
pub(in crate::broker) struct NoUplink;

impl Uplink for NoUplink {
    fn accept(&self, _message: &Arc<Message>) -> Option<Acceptance> {
        None
    }
}

pub(in crate::broker) fn settings(routing: Routing) -> Settings {
    Settings {
        gateway: Some(crate::model::GatewayId::parse("box").unwrap()),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        websocket_listen: Vec::new(),
        tls: None,
        routing,
        max_packet: 1 << 20,
        max_connections: 300,
        caps: Caps::default(),
        max_queued: 1_000,
        max_queued_bytes: 64 << 20,
        max_queued_bytes_total: 64 << 20,
        max_retained_bytes: 64 << 20,
        users: Vec::new(),
        anonymous: false,
        anyone: None,
        store: None,
        sys_interval: Duration::ZERO,
    }
}

/// The routings that are compiled in.
pub(super) fn routings() -> Vec<Routing> {
    if cfg!(feature = "rumqttd") { vec![Routing::Trie, Routing::Rumqttd] } else { vec![Routing::Trie] }
}

pub(super) async fn start(settings: Settings) -> Broker {
    start_with(settings, Arc::new(NoUplink)).await
}

pub(super) async fn start_with(settings: Settings, uplink: Arc<dyn Uplink>) -> Broker {
    Broker::start(settings, uplink, SystemClock::shared(), &Health::new()).await.unwrap()
}

/// Asks until the answer is yes.
pub(super) async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "waited in vain: {what}");
}

/// A client that sends what it is told.
pub(super) struct Raw {
    stream: TcpStream,
    input: BytesMut,
    pub(super) version: Version,
}

impl Raw {
    pub(super) async fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, input: BytesMut::new(), version }
    }

    /// Connects with a clean session and checks that it is welcome.
    pub(super) async fn connect(broker: &Broker, version: Version, client: &str) -> Self {
        let (raw, connack) = Self::connect_with(broker, version, client, 0x02, &[]).await;
        assert_eq!(connack[..4], [0x20, connack[1], 0, 0], "{client} is welcome");
        raw
    }

    /// Connects with these flags, and these properties if the version has any; returns the CONNACK.
    pub(super) async fn connect_with(
        broker: &Broker,
        version: Version,
        client: &str,
        flags: u8,
        properties: &[u8],
    ) -> (Self, Vec<u8>) {
        let mut raw = Self::open(broker.addresses()[0], version).await;
        raw.send(&connect(version, client, flags, properties, &[])).await;
        let connack = raw.packet().await.expect("a CONNACK");
        (raw, connack)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends what the broker may hang up on in the middle.
    pub(super) async fn send_rude(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next packet whole, or `None` when the broker hung up.
    pub(super) async fn packet(&mut self) -> Option<Vec<u8>> {
        let next = async {
            loop {
                if let Some(header) = framing::header(&self.input, usize::MAX).unwrap()
                    && self.input.len() >= header.total()
                {
                    return Some(self.input.split_to(header.total()).to_vec());
                }
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a packet or the end, in time")
    }

    /// The next packet must be this one.
    pub(super) async fn expect(&mut self, bytes: &[u8]) {
        let found = self.packet().await;
        assert_eq!(found.as_deref(), Some(bytes));
    }

    /// The broker must have nothing to say: a PINGRESP comes next.
    pub(super) async fn expect_silence(&mut self) {
        self.send(&[0xc0, 0]).await;
        self.expect(&[0xd0, 0]).await;
    }

    pub(super) async fn expect_end(&mut self) {
        let found = self.packet().await;
        assert_eq!(found, None, "the broker hangs up");
    }

    /// Subscribes under packet id 1 and checks that it is granted.
    pub(super) async fn subscribe(&mut self, filter: &str, options: u8) {
        self.send(&subscribe(self.version, 1, filter, options)).await;
        let suback = self.packet().await.expect("a SUBACK");
        assert_eq!((suback[0], suback[suback.len() - 1]), (0x90, options & 3), "{filter} is granted");
    }

    pub(super) async fn publish(&mut self, topic: &str, payload: &[u8], qos: Qos, retain: bool, packet_id: u16) {
        self.send(&publish(self.version, topic, payload, qos, retain, packet_id)).await;
    }
}

/// The body of a packet behind its type byte and length.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::from(&[first][..]);
    framing::put_length(&mut out, body.len());
    out.extend_from_slice(body);
    out.to_vec()
}

/// A CONNECT with a keep alive of 60 s; `rest` follows the client id.
pub(in crate::broker) fn connect(version: Version, client: &str, flags: u8, properties: &[u8], rest: &[u8]) -> Vec<u8> {
    let level = if version == Version::V5 { 5 } else { 4 };
    let mut body = BytesMut::from(&[0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 60][..]);
    if version == Version::V5 {
        framing::put_length(&mut body, properties.len());
        body.extend_from_slice(properties);
    }
    put_bytes(&mut body, client.as_bytes());
    body.extend_from_slice(rest);
    packet(0x10, &body)
}

pub(super) fn subscribe(version: Version, id: u16, filter: &str, options: u8) -> Vec<u8> {
    let mut body = BytesMut::from(&id.to_be_bytes()[..]);
    if version == Version::V5 {
        body.extend_from_slice(&[0]);
    }
    put_bytes(&mut body, filter.as_bytes());
    body.extend_from_slice(&[options]);
    packet(0x82, &body)
}

pub(super) fn publish(
    version: Version,
    topic: &str,
    payload: &[u8],
    qos: Qos,
    retain: bool,
    packet_id: u16,
) -> Vec<u8> {
    let topic = TopicName::parse(topic).unwrap();
    let message = Message::new(topic, payload, qos, retain, crate::model::Origin::Client);
    let publish = OutPublish {
        message: &message,
        qos,
        retain,
        dup: false,
        packet_id,
        expiry_s: None,
        subscription_ids: &[],
        alias: None,
    };
    let mut out = BytesMut::new();
    assert!(put_publish(&mut out, version, &publish, usize::MAX));
    out.to_vec()
}

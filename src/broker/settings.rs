//! What the local broker is told to be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits;
use crate::model::{GatewayId, Secret, TopicFilter, TopicName};
pub use crate::mqtt::endpoint::{CloudUrl, Tls as ClientTls, VersionChoice};
pub use crate::mqtt::tls_server::{TlsFiles, TlsKey};

/// Settings of the local broker. Two equal values mean that a reload need not touch it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The gateway whose broker it is: told to the bridges of others. `None`: it is no gateway's (the demo's cloud).
    pub gateway: Option<GatewayId>,
    /// Where it listens for plain TCP.
    pub listen: Vec<SocketAddr>,
    /// Where it listens for WebSockets in plain TCP.
    pub websocket_listen: Vec<SocketAddr>,
    /// Where it speaks TLS.
    pub tls: Option<Tls>,
    /// How messages find their subscribers.
    pub routing: Routing,
    /// Largest packet taken or sent, bytes, 1 KiB to [`Settings::PACKET_MAX`].
    pub max_packet: u32,
    /// Most connections at one time. One more is closed before its CONNECT is read, and one from elsewhere while [`limits::LOCAL_SEATS`] are left.
    pub max_connections: usize,
    /// Further limits for clients.
    pub caps: Caps,
    /// Most messages waiting for one client; the oldest goes when one more comes, counted.
    pub max_queued: usize,
    /// What the messages that wait for one client may weigh, bytes; likewise.
    pub max_queued_bytes: u64,
    /// What all queues together may weigh, bytes, each message once; the oldest of the fullest queue go, counted.
    pub max_queued_bytes_total: u64,
    /// What all retained messages together may weigh, bytes; a new topic beyond it is not retained, counted.
    pub max_retained_bytes: u64,
    /// Who may connect. Empty: anyone, which `plan` allows on loopback only unless said twice.
    pub users: Vec<User>,
    /// Whether a client without a user name is let in when there are users.
    pub anonymous: bool,
    /// What a client may do that is let in without being one of the users; `None`: everything.
    pub anyone: Option<Rights>,
    /// Directory of `sessions.db`. `None`: nothing is kept over a restart (the demo's cloud).
    pub store: Option<PathBuf>,
    /// How often `$SYS` is told; zero turns it off.
    pub sys_interval: Duration,
}

/// The broker that is there already, whose client the gateway is. Two equal values mean that a reload need not touch the connection.
#[derive(Debug, Clone, PartialEq)]
pub struct External {
    /// Who connects: told to nobody, and known by the marks of messages that it has sent up.
    pub gateway: GatewayId,
    /// Where it is.
    pub url: CloudUrl,
    /// Protocol version to speak.
    pub version: VersionChoice,
    /// Client id; fixed, since the session there hangs on it.
    pub client_id: String,
    /// User name.
    pub username: Option<Secret>,
    /// Password.
    pub password: Option<Secret>,
    /// Keep alive, 5 s to 18 h.
    pub keep_alive: Duration,
    /// TLS, where the URL asks for it.
    pub tls: Option<ClientTls>,
    /// Largest packet taken or sent, bytes, 1 KiB to [`Settings::PACKET_MAX`].
    pub max_packet: u32,
    /// `tidegate/<gateway>/status`: the topic of the will.
    pub status_topic: TopicName,
    /// What is subscribed to; no two mean a topic in common, since a broker may deliver such a message twice.
    pub filters: Vec<TopicFilter>,
}

/// Where TLS is spoken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Where it listens for WebSockets.
    pub websocket_listen: Vec<SocketAddr>,
    /// Certificate, key, authorities.
    pub files: TlsFiles,
    /// Whether the common name of a client's certificate is its user name.
    pub user_from_cert: bool,
    /// Most connections at one time by TLS; `None` for no limit beside the one over all.
    pub max_connections: Option<usize>,
}

/// What clients may take, one by one and by the way they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps {
    /// Most connections at one time at `listen`; `None` for no limit beside the one over all.
    pub listen_max_connections: Option<usize>,
    /// The same at `websocket_listen`.
    pub websocket_max_connections: Option<usize>,
    /// Most connections in a minute from one address; one more is closed at once. `None` for any number.
    pub connects_per_minute: Option<u32>,
    /// Most messages on their way to a client that it has not acknowledged, as far as its own Receive Maximum allows.
    pub max_inflight: u16,
    /// Longest keep alive, seconds; `None` for any, and for none at all.
    pub max_keep_alive_s: Option<u16>,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            listen_max_connections: None,
            websocket_max_connections: None,
            connects_per_minute: None,
            max_inflight: limits::CLIENT_WINDOW,
            max_keep_alive_s: None,
        }
    }
}

/// A place to listen at, and what is spoken there around MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Address and port; port 0 for one of the kernel's choice.
    pub address: SocketAddr,
    /// TLS.
    pub tls: bool,
    /// WebSockets.
    pub websocket: bool,
}

impl Settings {
    /// Bytes of the largest packet that MQTT has: 4 more than 256 MiB [MQTT-2.1.4].
    pub const PACKET_MAX: u32 = crate::mqtt::framing::PACKET_MAX;

    /// Everywhere it listens: plain TCP first, then WebSockets, TLS, and WebSockets in TLS.
    pub fn places(&self) -> Vec<Place> {
        let (secure, secure_web) = match &self.tls {
            Some(tls) => (&tls.listen[..], &tls.websocket_listen[..]),
            None => Default::default(),
        };
        let lists = [
            (&self.listen[..], false, false),
            (&self.websocket_listen[..], false, true),
            (secure, true, false),
            (secure_web, true, true),
        ];
        let places = lists.into_iter().flat_map(|(addresses, tls, websocket)| {
            addresses.iter().map(move |address| Place { address: *address, tls, websocket })
        });
        places.collect()
    }
}

/// How messages find their subscribers (docs/broker.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// Our subscription trie.
    #[default]
    Trie,
    /// rumqttd's router, with the limits that docs/decisions tells.
    Rumqttd,
}

/// A user of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User name of CONNECT.
    pub name: String,
    /// Argon2 hash of the password in PHC form. Not a secret in the sense of being reversible, but never logged either. `None`: the user comes
    /// in by certificate alone.
    pub hash: Option<PasswordHash>,
    /// What the user may do.
    pub rights: Rights,
}

/// What clients of a kind may do; `{client}` and `{user}` are filled in per connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// What they may publish to.
    pub publish: Vec<FilterTemplate>,
    /// What they may subscribe to.
    pub subscribe: Vec<FilterTemplate>,
    /// What they may not publish to all the same.
    pub deny_publish: Vec<FilterTemplate>,
    /// What they are not sent all the same.
    pub deny_subscribe: Vec<FilterTemplate>,
}

/// An argon2 hash in PHC form. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A topic filter in which whole levels `{client}` and `{user}` stand for the connection's own names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterTemplate(pub TopicFilter);

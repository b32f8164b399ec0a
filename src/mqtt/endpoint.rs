//! Where a broker is to be found, and how it is reached.

use std::path::PathBuf;
use std::time::Duration;

use super::dial::Target;
use super::tls::{TlsClient, TlsOptions};
use crate::limits::TCP_UNACKNOWLEDGED;
use crate::model::Secret;

/// Address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudUrl {
    /// Whether TLS is spoken (`mqtts://`, `wss://`).
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port; 1883, or 8883 with TLS, 80 and 443 for WebSockets, unless the URL says otherwise.
    pub port: u16,
    /// Path of the WebSocket that MQTT is spoken in; `None`: MQTT by itself.
    pub path: Option<String>,
}

impl std::fmt::Display for CloudUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match (self.path.is_some(), self.tls) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        let path = self.path.as_deref().unwrap_or_default();
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}{path}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}{path}", self.host, self.port)
        }
    }
}

/// Protocol version to speak with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VersionChoice {
    /// 5, and 3.1.1 from then on when the broker refuses 5.
    #[default]
    Auto,
    /// MQTT 5.0 only.
    V5,
    /// MQTT 3.1.1 only.
    V311,
}

/// TLS towards a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// PEM file of the roots to trust; the system's when `None`.
    pub ca: Option<PathBuf>,
    /// PEM text of the client's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM text of the client's private key.
    pub key: Option<Secret>,
    /// Name to ask for and to check the certificate against, when it is not the URL's host.
    pub server_name: Option<String>,
    /// ALPN protocols to offer.
    pub alpn: Vec<String>,
}

/// A broker, as it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Whose connection it is, for the log.
    pub name: String,
    /// Where it is.
    pub url: CloudUrl,
    /// TLS, where the URL asks for it.
    pub tls: Option<Tls>,
    /// DNS, TCP and TLS together.
    pub connect_timeout: Duration,
}

impl Endpoint {
    /// What is asked for of TLS.
    pub fn tls_options(&self) -> TlsOptions<'_> {
        let tls = self.tls.as_ref();
        TlsOptions {
            ca: tls.and_then(|tls| tls.ca.as_deref()),
            cert: tls.and_then(|tls| tls.cert.as_deref()),
            key: tls.and_then(|tls| tls.key.as_ref()).map(Secret::expose),
            server_name: tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or(&self.url.host),
            alpn: tls.map_or(&[], |tls| tls.alpn.as_slice()),
        }
    }

    /// Where to connect.
    pub fn target<'s>(&'s self, tls: Option<&'s TlsClient>) -> Target<'s> {
        Target {
            host: &self.url.host,
            port: self.url.port,
            tls,
            path: self.url.path.as_deref(),
            per_address: self.connect_timeout / 2,
            unacknowledged: TCP_UNACKNOWLEDGED,
        }
    }
}

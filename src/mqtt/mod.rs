//! The wire, for both sides: framing, packets and properties, and the streams they travel in.

pub mod accept;
pub mod aliases;
pub mod backlog;
pub mod certificate;
pub mod client;
pub mod dial;
pub mod dialer;
pub mod endpoint;
pub mod framing;
pub mod link;
pub mod pem;
pub mod properties;
pub mod reason;
pub mod resolve;
pub mod server;
pub mod stream;
pub mod subscriber;
pub mod tls;
pub mod tls_server;
pub mod websocket;

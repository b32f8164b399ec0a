//! The wire, for both sides: framing, packets and properties, and the streams they travel in.

pub mod client;
pub mod dial;
pub mod framing;
pub mod properties;
pub mod reason;
pub mod server;
pub mod subscriber;
pub mod tls;

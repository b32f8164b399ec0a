//! What the page is told to be.

use std::net::SocketAddr;

use crate::model::Secret;

/// Settings of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What a visitor must show; `None` on loopback alone.
    pub token: Option<Secret>,
    /// Whether the page may move actuators.
    pub commands: bool,
}

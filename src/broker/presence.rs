//! Whose connection a session has, or had last: for a person who asks, and for one who shows a client out.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::settings::Place;
use crate::model::Moment;
use crate::mqtt::server::Version;

/// How bytes get from a client to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    /// What is spoken at a place.
    pub(super) fn of(place: Place) -> Self {
        match (place.tls, place.websocket) {
            (false, false) => Self::Tcp,
            (true, false) => Self::Tls,
            (false, true) => Self::Ws,
            (true, true) => Self::Wss,
        }
    }

    /// In a word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    /// The session's generation that it has.
    pub(super) generation: u64,
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    pub(super) version: Version,
    pub(super) keep_alive_s: u16,
    pub(super) since: Moment,
    /// When it ended.
    pub(super) ended: Option<Moment>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Presence {
    last: Mutex<Option<Connection>>,
    /// When something was last heard, milliseconds of the clock; written with every read, so no lock.
    heard: AtomicU64,
    /// The generation whose connection is shown out; none has 0.
    kicked: AtomicU64,
    /// Messages for the client that were dropped.
    pub(super) dropped: AtomicU64,
}

impl Presence {
    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has the session.
    pub(super) fn begin(&self, connection: Connection) {
        let mut last = self.lock();
        // Another one may have taken it since.
        if last.is_none_or(|last| last.generation < connection.generation) {
            *last = Some(connection);
            self.hear(connection.since);
        }
    }

    /// The connection of this generation is gone.
    pub(super) fn end(&self, generation: u64, now: Moment) {
        if let Some(last) = self.lock().as_mut().filter(|last| last.generation == generation) {
            last.ended.get_or_insert(now);
        }
    }

    /// Something came from the client.
    pub(super) fn hear(&self, now: Moment) {
        let ms = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(ms, Ordering::Relaxed);
    }

    /// The connection that is, or was last; none since the start where the session is from before it.
    pub(super) fn last(&self) -> Option<Connection> {
        *self.lock()
    }

    /// When something was last heard.
    pub(super) fn heard(&self) -> Moment {
        Moment::at(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// The connection of this generation is to go.
    pub(super) fn kick(&self, generation: u64) {
        self.kicked.store(generation, Ordering::Release);
    }

    /// Whether the connection of this generation is to go.
    pub(super) fn is_kicked(&self, generation: u64) -> bool {
        self.kicked.load(Ordering::Acquire) == generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(generation: u64) -> Connection {
        Connection {
            generation,
            peer: "192.0.2.1:9".parse().unwrap(),
            transport: Transport::Tcp,
            version: Version::V5,
            keep_alive_s: 60,
            since: Moment::at(Duration::from_secs(generation)),
            ended: None,
        }
    }

    #[test]
    fn a_connection_that_was_overtaken_says_nothing_of_the_one_that_is() {
        let presence = Presence::default();
        presence.begin(connection(2));
        presence.begin(connection(1));
        presence.end(1, Moment::at(Duration::from_secs(9)));
        assert_eq!(presence.last(), Some(connection(2)));
        let (first, later) = (Moment::at(Duration::from_secs(10)), Moment::at(Duration::from_secs(11)));
        presence.end(2, first);
        presence.end(2, later);
        assert_eq!(presence.last().and_then(|last| last.ended), Some(first));
    }
}

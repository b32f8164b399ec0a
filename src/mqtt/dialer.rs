//! What a client keeps from one connection to the next: its resolver, and TLS as it was set up.
//!
//! The sessions of TLS are kept with it (RFC 8446 §2.2, RFC 5246 §7.3). A handshake that resumes one carries no certificates, which are half of
//! it and more: on a bad uplink that would be paid with every reconnection.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dial::{Progress, Stream, dial};
use super::endpoint::{Endpoint, Tls};
use super::resolve::Resolver;
use super::tls::{TlsClient, TlsError};
use crate::limits::TLS_KEPT;
use crate::model::Moment;

/// Makes the connections of one client, one at a time. Cheap to clone; the clones share what is kept.
#[derive(Clone, Default)]
pub struct Dialer {
    resolver: Resolver,
    kept: Arc<Mutex<Option<Kept>>>,
}

/// TLS as it was set up. Holds secrets, and has no `Debug`.
struct Kept {
    client: TlsClient,
    made_of: MadeOf,
    since: Moment,
}

/// What TLS is set up from.
#[derive(PartialEq)]
struct MadeOf {
    settings: Option<Tls>,
    /// As it is asked for, which may be the URL's host.
    server_name: String,
    ca: Option<Stamp>,
    cert: Option<Stamp>,
}

/// What tells a file from its successor, without reading it.
#[derive(PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// A connection that was made.
pub struct Dialed {
    /// The connection.
    pub stream: Stream,
    /// The use it makes of TLS that is kept.
    pub trial: Option<Trial>,
}

/// A connection's use of the TLS that is kept. Dropped before it was [`passed`](Self::passed), it has that forgotten, if the handshake had
/// begun: the next connection then reads everything anew and resumes nothing. A cloud may refuse a session, or know us less well by it, in any
/// way: with an alert, in TLS 1.3 after the handshake; by silence; in its CONNACK. No such way may keep the client out for longer than one
/// attempt.
pub struct Trial {
    dialer: Dialer,
    client: TlsClient,
    progress: Progress,
    passed: bool,
}

impl Dialer {
    /// Makes a connection, within the endpoint's `connect_timeout`.
    ///
    /// # Errors
    /// Why there is none, in words for a person.
    pub async fn connect(&self, endpoint: &Endpoint, now: Moment) -> Result<Dialed, String> {
        let (limit, progress) = (endpoint.connect_timeout, Progress::default());
        let client = if endpoint.url.tls { Some(self.client(endpoint, now)) } else { None };
        let trial = client.transpose().map_err(|error| error.to_string())?.map(|client| Trial {
            dialer: self.clone(),
            client,
            progress: progress.clone(),
            passed: false,
        });
        let target = endpoint.target(trial.as_ref().map(|trial| &trial.client));
        let stream = match tokio::time::timeout(limit, dial(&self.resolver, target, &progress)).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no connection within {} s: {}", limit.as_secs(), progress.waits_for())),
        };
        if let Some(resumed) = stream.is_resumed() {
            tracing::debug!(connection = endpoint.name, resumed, "TLS with the cloud");
        }
        Ok(Dialed { stream, trial })
    }

    /// TLS for this endpoint: what is kept, while it is made of the same and younger than [`TLS_KEPT`], else set up anew, and kept.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read, or does not fit.
    pub fn client(&self, endpoint: &Endpoint, now: Moment) -> Result<TlsClient, TlsError> {
        // The stamps are taken before the files are read: a file that changes in between is read once more, and never once too few.
        let made_of = MadeOf::now(endpoint);
        let mut place = self.place();
        if let Some(kept) = &*place
            && kept.made_of == made_of
            && now.since(kept.since) < TLS_KEPT
        {
            return Ok(kept.client.clone());
        }
        // The old sessions go with it, also where it cannot be set up.
        *place = None;
        let client = TlsClient::new(endpoint.tls_options())?;
        *place = Some(Kept { client: client.clone(), made_of, since: now });
        Ok(client)
    }

    fn place(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MadeOf {
    fn now(endpoint: &Endpoint) -> Self {
        let options = endpoint.tls_options();
        Self {
            settings: endpoint.tls.clone(),
            server_name: options.server_name.to_owned(),
            ca: options.ca.and_then(Stamp::of),
            cert: options.cert.and_then(Stamp::of),
        }
    }
}

impl Stamp {
    /// `None` where there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

impl Trial {
    /// The connection came online: the next one may resume its session.
    pub fn passed(&mut self) {
        self.passed = true;
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.passed && self.progress.has_tcp() {
            // Only what this connection used: another may have been set up since.
            self.dialer.place().take_if(|kept| kept.client.is(&self.client));
        }
    }
}

//! A client's connection as the loop of its owner sees it: down, being made, or up, and the next thing that happens to it.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::task::AbortOnDropHandle;

use super::dialer::{Dialed, Dialer, Trial};
use super::endpoint::Endpoint;
use super::stream::Stream;
use super::tls::in_words;
use crate::limits::{BRIDGE_LAST_WORDS, BRIDGE_READ_BYTES, WRITE_STALL};
use crate::model::Moment;

/// The connection.
pub enum Link {
    /// None; the next attempt is at this moment.
    Down(Moment),
    /// One is being made, on a task of its own, which ends with this value: neither a resolver that hangs nor a black hole delays the loop.
    Dialing(AbortOnDropHandle<Result<Dialed, String>>),
    /// One is there.
    Up(Box<Up>),
}

/// A connection that is there.
pub struct Up {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    input: Vec<u8>,
    /// What the socket has not taken yet.
    pub out: BytesMut,
    unflushed: bool,
    /// When the socket took something last, or `out` was empty.
    progress: Moment,
    /// Until when CONNACK has to be there; `None` once it is.
    pub greeting_until: Option<Moment>,
    /// Whether it was told that it is up.
    online: bool,
    trial: Option<Trial>,
}

/// What happened to the connection.
pub enum Happened {
    /// The connection is made.
    Dialed(Dialed),
    /// It cannot be made.
    Failed(String),
    /// Bytes came in.
    Received(usize),
    /// Bytes went out.
    Sent,
    /// It is broken, or the cloud closed it (`None`).
    Broken(Option<String>),
}

impl Link {
    /// Starts to make a connection.
    pub fn start(endpoint: Endpoint, dialer: &Dialer, now: Moment) -> Self {
        let dialer = dialer.clone();
        let dialing = async move { dialer.connect(&endpoint, now).await };
        Link::Dialing(AbortOnDropHandle::new(tokio::spawn(dialing)))
    }

    /// Bytes that the socket has not taken yet.
    pub fn unsent(&self) -> usize {
        if let Link::Up(up) = self { up.out.len() } else { 0 }
    }

    /// Waits for the next thing that happens; nothing is read unless `listens`. Nothing is lost when the wait is broken off.
    pub async fn happens(&mut self, listens: bool) -> Happened {
        match self {
            Link::Down(_) => std::future::pending().await,
            Link::Dialing(task) => match task.await {
                Ok(Ok(dialed)) => Happened::Dialed(dialed),
                Ok(Err(reason)) => Happened::Failed(reason),
                Err(error) => Happened::Failed(error.to_string()),
            },
            Link::Up(up) => up.happens(listens).await,
        }
    }
}

impl Up {
    /// A connection whose first bytes are these; the answer must have come by then.
    pub fn new(dialed: Dialed, connect: BytesMut, greeting_until: Moment, now: Moment) -> Self {
        let (reader, writer) = tokio::io::split(dialed.stream);
        Self {
            reader,
            writer,
            input: vec![0; BRIDGE_READ_BYTES],
            out: connect,
            unflushed: false,
            progress: now,
            greeting_until: Some(greeting_until),
            online: false,
            trial: dialed.trial,
        }
    }

    /// Notes that it is up; true the first time.
    pub fn comes_online(&mut self) -> bool {
        if let Some(trial) = &mut self.trial {
            trial.passed();
        }
        !std::mem::replace(&mut self.online, true)
    }

    /// What was received last.
    pub fn received(&self, length: usize) -> &[u8] {
        &self.input[..length]
    }

    async fn happens(&mut self, listens: bool) -> Happened {
        let writes = !self.out.is_empty() || self.unflushed;
        tokio::select! {
            read = self.reader.read(&mut self.input), if listens => match read {
                Ok(0) => Happened::Broken(None),
                Ok(length) => Happened::Received(length),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Happened::Broken(None),
                Err(error) => Happened::Broken(Some(in_words(&error))),
            },
            wrote = write_or_flush(&mut self.writer, &self.out), if writes => match wrote {
                Ok(length) => {
                    self.unflushed = length > 0;
                    self.out.advance(length);
                    Happened::Sent
                }
                Err(error) => Happened::Broken(Some(in_words(&error))),
            },
            else => std::future::pending().await,
        }
    }

    /// Writes what the socket takes without waiting. An error shows itself again at the next wait.
    pub async fn write_now(&mut self) -> bool {
        let mut wrote = false;
        while !self.out.is_empty() {
            tokio::select! {
                biased;
                outcome = self.writer.write(&self.out) => match outcome {
                    Ok(length) if length > 0 => {
                        self.out.advance(length);
                        self.unflushed = true;
                        wrote = true;
                    }
                    _ => return wrote,
                },
                () = std::future::ready(()) => return wrote,
            }
        }
        wrote
    }

    /// Notes whether the socket takes what it is given.
    pub fn note_progress(&mut self, sent: bool, now: Moment) {
        if sent || self.out.is_empty() {
            self.progress = now;
        }
    }

    /// When the cloud will have taken nothing for too long.
    pub fn stalled_at(&self) -> Option<Moment> {
        (!self.out.is_empty()).then(|| self.progress + WRITE_STALL)
    }

    /// Gives the last bytes a short while, and closes.
    pub async fn finish(mut self) {
        let last = async {
            let _ = self.writer.write_all_buf(&mut self.out).await;
            let _ = self.writer.shutdown().await;
        };
        let _ = tokio::time::timeout(BRIDGE_LAST_WORDS, last).await;
    }
}

/// TLS takes bytes in before the socket does; they have left only after a flush. Returns the bytes taken, 0 for a flush.
async fn write_or_flush(writer: &mut WriteHalf<Stream>, out: &[u8]) -> io::Result<usize> {
    if out.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(out).await }
}

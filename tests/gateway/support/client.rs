//! A 3.1.1 client of our own. Publishing, it knows of every message whether it was acknowledged, which mosquitto_pub does not tell;
//! subscribed, it tells each message the moment it is there.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::receiver::wire::{
    CONNACK, CONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Packet, Publish, SUBACK, SUBSCRIBE, acknowledged,
    put_block,
};

/// Longest the broker may take for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A connection to a broker.
pub(crate) struct Client {
    stream: TcpStream,
    pending: Vec<u8>,
    /// Messages that came before the SUBACK.
    early: VecDeque<Packet>,
    next_id: u16,
    retain: bool,
    /// How many of what it published were acknowledged.
    answered: Arc<AtomicUsize>,
}

/// What a run of publishing came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Indices of the messages that were acknowledged: by PUBACK, or by PUBREC, which makes the broker the owner of a QoS 2 message
    /// [MQTT-4.3.3-8].
    pub(crate) acknowledged: Vec<usize>,
    /// Why it ended early.
    pub(crate) error: Option<std::io::Error>,
}

impl Client {
    /// Connects to a port of 127.0.0.1, without a login.
    pub(crate) fn connect(port: u16, id: &str) -> std::io::Result<Self> {
        Self::open(port, id, true)
    }

    /// The same with a session that the broker keeps.
    pub(crate) fn resume(port: u16, id: &str) -> std::io::Result<Self> {
        Self::open(port, id, false)
    }

    fn open(port: u16, id: &str, clean: bool) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut client = Self {
            stream,
            pending: Vec::new(),
            early: VecDeque::new(),
            next_id: 0,
            retain: false,
            answered: Arc::default(),
        };
        let mut body = Vec::new();
        put_block(&mut body, b"MQTT");
        // Level 4, keep alive off.
        body.extend_from_slice(&[4, u8::from(clean) << 1, 0, 0]);
        put_block(&mut body, id.as_bytes());
        client.stream.write_all(&Packet::bytes(CONNECT, 0, &body))?;
        let answer = client.read()?;
        if answer.kind == CONNACK && answer.body.get(1) == Some(&0) {
            Ok(client)
        } else {
            Err(std::io::Error::other(format!("CONNECT was answered by {answer:?}")))
        }
    }

    /// The same client, whose messages are to be retained.
    pub(crate) fn retaining(self) -> Self {
        Self { retain: true, ..self }
    }

    /// How many of its messages were acknowledged so far, for who looks on while it publishes.
    pub(crate) fn answered(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.answered)
    }

    /// The connection alone, for who speaks for himself from here on.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn read(&mut self) -> std::io::Result<Packet> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(packet) = Packet::take(&mut self.pending).map_err(std::io::Error::other)? {
                return Ok(packet);
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => self.pending.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Subscribes, and waits for the SUBACK.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) -> std::io::Result<()> {
        let mut body = vec![0, 1];
        put_block(&mut body, filter.as_bytes());
        body.push(qos);
        self.stream.write_all(&Packet::bytes(SUBSCRIBE, 2, &body))?;
        loop {
            let answer = self.read()?;
            if answer.kind == PUBLISH {
                // A broker may send what it has retained before its answer [MQTT-3.8.4].
                self.early.push_back(answer);
            } else if answer.kind == SUBACK && answer.body == [0, 1, qos] {
                return Ok(());
            } else {
                return Err(std::io::Error::other(format!("SUBSCRIBE was answered by {answer:?}")));
            }
        }
    }

    /// The next message, acknowledged.
    pub(crate) fn next_message(&mut self) -> std::io::Result<Publish> {
        loop {
            let packet = self.early.pop_front().map_or_else(|| self.read(), Ok)?;
            match packet.kind {
                PUBLISH => {
                    let publish = Publish::parse(&packet, false).map_err(std::io::Error::other)?;
                    let kind = [None, Some(PUBACK), Some(PUBREC)][usize::from(publish.qos)];
                    if let Some(kind) = kind {
                        self.stream.write_all(&Packet::bytes(kind, 0, &publish.id.to_be_bytes()))?;
                    }
                    return Ok(publish);
                }
                PUBREL => {
                    let id = acknowledged(&packet).map_err(std::io::Error::other)?;
                    self.stream.write_all(&Packet::bytes(PUBCOMP, 0, &id.to_be_bytes()))?;
                }
                kind => return Err(std::io::Error::other(format!("a packet of type {kind} for a subscriber"))),
            }
        }
    }

    /// Publishes topics, QoS levels and payloads with at most `window` unanswered, until all are answered or the connection ends.
    pub(crate) fn publish(&mut self, messages: &[(String, u8, String)], window: usize) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.error = self.publish_into(messages, window, &mut outcome.acknowledged).err();
        outcome
    }

    fn publish_into(
        &mut self,
        messages: &[(String, u8, String)],
        window: usize,
        acknowledged_indices: &mut Vec<usize>,
    ) -> std::io::Result<()> {
        let mut waiting: VecDeque<(usize, &(String, u8, String))> = messages.iter().enumerate().collect();
        let mut unanswered = BTreeMap::new();
        loop {
            while unanswered.len() < window {
                let Some((index, (topic, qos, payload))) = waiting.pop_front() else { break };
                // Packet ids go round; the window is far smaller than the circle.
                self.next_id = self.next_id % 60_000 + 1;
                let publish = Publish {
                    topic: topic.clone(),
                    qos: *qos,
                    dup: false,
                    retain: self.retain,
                    id: self.next_id,
                    payload: payload.clone().into_bytes(),
                };
                self.stream.write_all(&publish.bytes())?;
                if *qos > 0 {
                    unanswered.insert(self.next_id, index);
                }
            }
            if unanswered.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            let packet = self.read()?;
            let id = acknowledged(&packet).map_err(std::io::Error::other)?;
            match packet.kind {
                PUBACK => acknowledged_indices.extend(unanswered.remove(&id)),
                PUBREC => {
                    acknowledged_indices.extend(unanswered.get(&id));
                    self.stream.write_all(&Packet::bytes(PUBREL, 2, &id.to_be_bytes()))?;
                }
                PUBCOMP => drop(unanswered.remove(&id)),
                kind => return Err(std::io::Error::other(format!("a packet of type {kind} for a publisher"))),
            }
            self.answered.store(acknowledged_indices.len(), Ordering::Relaxed);
        }
    }
}

impl Outcome {
    /// Fails the test unless the connection held: all that can be said of QoS 0.
    #[track_caller]
    pub(crate) fn assert_sent(&self) {
        assert!(self.error.is_none(), "{:?}", self.error);
    }

    /// Fails the test unless every message was acknowledged.
    #[track_caller]
    pub(crate) fn assert_complete(&self, count: usize) {
        assert!(self.error.is_none(), "{} of {count} acknowledged, then {:?}", self.acknowledged.len(), self.error);
        assert_eq!(self.acknowledged.len(), count);
    }
}

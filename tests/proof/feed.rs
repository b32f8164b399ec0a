//! Local publishers that never let up: so many messages a second, QoS 1 and 2 by turns, and a note of each that was acknowledged.
//!
//! When the connection ends they connect again and go on with the next number. What had no answer by then is given up: it may arrive or not, and
//! only what was acknowledged was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::receiver::wire::{
    CONNACK, CONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, acknowledged, put_block,
};

/// Publishers, each with a topic for each QoS.
const PUBLISHERS: u64 = 2;
/// Unanswered messages at which a publisher waits.
const UNANSWERED_MAX: usize = 500;
/// How often a publisher sees what is due.
const TICK: Duration = Duration::from_millis(2);
/// Longest that the last answers may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Between attempts to connect.
const AGAIN: Duration = Duration::from_millis(5);
/// A payload's size, about.
const PADDING: usize = 80;

/// The messages of one topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    /// Numbers from 1 to this were sent to the gateway.
    pub(crate) attempted: u64,
    /// Those it took.
    pub(crate) acknowledged: BTreeSet<u64>,
}

type Shared = Arc<Mutex<Stream>>;

fn lock(stream: &Shared) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Publishers at work. Ended by [`Feed::end`].
pub(crate) struct Feed {
    streams: Vec<Shared>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Feed {
    /// Starts them against the local broker on this port, so many messages a second together.
    pub(crate) fn start(port: u16, per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut streams, mut threads) = (Vec::new(), Vec::new());
        for publisher in 1..=PUBLISHERS {
            let pair = [("once", 1), ("exact", 2)].map(|(word, qos)| {
                let topic = format!("data/{publisher}/{word}");
                Arc::new(Mutex::new(Stream { topic, qos, ..Stream::default() }))
            });
            streams.extend(pair.iter().cloned());
            let stop = Arc::clone(&stop);
            let gap = Duration::from_secs(PUBLISHERS) / u32::try_from(per_second).expect("a small rate");
            threads
                .push(std::thread::spawn(move || publish(port, &format!("publisher-{publisher}"), &pair, gap, &stop)));
        }
        Self { streams, stop, threads }
    }

    /// The newest numbers that were acknowledged, with topic and QoS.
    pub(crate) fn newest(&self, count: usize) -> Vec<Stream> {
        let newest = |stream: &Shared| {
            let stream = lock(stream);
            let acknowledged = stream.acknowledged.iter().rev().take(count).copied().collect();
            Stream { topic: stream.topic.clone(), qos: stream.qos, attempted: stream.attempted, acknowledged }
        };
        self.streams.iter().map(newest).collect()
    }

    /// Messages acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.streams.iter().map(|stream| lock(stream).acknowledged.len() as u64).sum()
    }

    /// Ends the publishers; what they did, and how many a second they sent together while they were connected.
    pub(crate) fn end(self) -> (Vec<Stream>, f64) {
        self.stop.store(true, Ordering::SeqCst);
        let connected: Duration = self.threads.into_iter().map(|thread| thread.join().expect("a publisher ends")).sum();
        let streams: Vec<Stream> = self.streams.iter().map(|stream| lock(stream).clone()).collect();
        let attempted: u64 = streams.iter().map(|stream| stream.attempted).sum();
        (streams, attempted as f64 / connected.as_secs_f64() * PUBLISHERS as f64)
    }
}

/// One publisher. Returns how long it was connected.
fn publish(port: u16, id: &str, streams: &[Shared; 2], gap: Duration, stop: &AtomicBool) -> Duration {
    let mut connected = Duration::ZERO;
    while !stop.load(Ordering::SeqCst) {
        let Ok(line) = Line::open(port, id) else {
            std::thread::sleep(AGAIN);
            continue;
        };
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| line.listen(streams));
            line.send(streams, gap, stop);
            line.over.store(true, Ordering::SeqCst);
        });
        connected += began.elapsed();
    }
    connected
}

/// One connection of a publisher.
struct Line {
    stream: TcpStream,
    /// Held for a whole packet: two threads write.
    writing: Mutex<()>,
    /// Which message of which stream each packet id is.
    unanswered: Mutex<BTreeMap<u16, (usize, u64)>>,
    over: AtomicBool,
}

impl Line {
    fn open(port: u16, id: &str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut body = Vec::new();
        put_block(&mut body, b"MQTT");
        // Level 4, a clean session, keep alive off.
        body.extend_from_slice(&[4, 2, 0, 0]);
        put_block(&mut body, id.as_bytes());
        stream.write_all(&Packet::bytes(CONNECT, 0, &body))?;
        // A CONNACK of 3.1.1 has four bytes [MQTT-3.2].
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        if answer[0] >> 4 != CONNACK || answer[3] != 0 {
            return Err(std::io::Error::other("refused"));
        }
        stream.set_read_timeout(Some(Duration::from_millis(10)))?;
        let (writing, unanswered) = (Mutex::default(), Mutex::default());
        Ok(Self { stream, writing, unanswered, over: AtomicBool::new(false) })
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.stream).write_all(bytes)
    }

    fn unanswered(&self) -> MutexGuard<'_, BTreeMap<u16, (usize, u64)>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is due until the connection or the campaign is over; then waits for what is unanswered.
    fn send(&self, streams: &[Shared; 2], gap: Duration, stop: &AtomicBool) {
        let (mut due, mut turn, mut id) = (Instant::now(), 0, 0);
        let mut stopped = None;
        while !self.over.load(Ordering::SeqCst) {
            if stop.load(Ordering::SeqCst) {
                if self.unanswered().is_empty() {
                    return;
                }
                let waits = stopped.get_or_insert_with(Instant::now).elapsed();
                assert!(waits < ANSWER, "the local broker has not answered a publisher for {ANSWER:?}");
            } else if self.unanswered().len() >= UNANSWERED_MAX {
                // Held back by the gateway: what was due meanwhile is not made up for.
                due = Instant::now();
            } else {
                while due <= Instant::now() {
                    due += gap;
                    turn = 1 - turn;
                    id = id % 60_000 + 1;
                    if self.send_next(&streams[turn], turn, id).is_err() {
                        return;
                    }
                }
            }
            std::thread::sleep(TICK);
        }
    }

    fn send_next(&self, stream: &Shared, turn: usize, id: u16) -> std::io::Result<()> {
        let (topic, qos, number) = {
            let mut stream = lock(stream);
            stream.attempted += 1;
            (stream.topic.clone(), stream.qos, stream.attempted)
        };
        let payload = format!("{{\"n\":{number},\"pad\":\"{:x<PADDING$}\"}}", "").into_bytes();
        self.unanswered().insert(id, (turn, number));
        self.write(&Publish { topic, qos, dup: false, retain: false, id, payload }.bytes())
    }

    /// Takes answers until the connection ends.
    fn listen(&self, streams: &[Shared; 2]) {
        let (mut pending, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
        while !self.over.load(Ordering::SeqCst) {
            match (&self.stream).read(&mut chunk) {
                Ok(count) if count > 0 => pending.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                _ => break,
            }
            while let Some(packet) = Packet::take(&mut pending).expect("the local broker sends packets") {
                if self.answered(streams, &packet).is_err() {
                    break;
                }
            }
        }
        self.over.store(true, Ordering::SeqCst);
    }

    fn answered(&self, streams: &[Shared; 2], packet: &Packet) -> std::io::Result<()> {
        let id = acknowledged(packet).map_err(std::io::Error::other)?;
        let message = match packet.kind {
            // A QoS 2 message is the gateway's from its PUBREC on [MQTT-4.3.3-8].
            PUBREC => {
                self.write(&Packet::bytes(PUBREL, 2, &id.to_be_bytes()))?;
                self.unanswered().get(&id).copied()
            }
            PUBACK => self.unanswered().remove(&id),
            PUBCOMP => {
                self.unanswered().remove(&id);
                None
            }
            kind => panic!("a packet of type {kind} for a publisher"),
        };
        if let Some((turn, number)) = message {
            lock(&streams[turn]).acknowledged.insert(number);
        }
        Ok(())
    }
}

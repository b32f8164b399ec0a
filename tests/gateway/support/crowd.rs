//! Clients of 3.1.1 whose sessions the broker keeps: publishers that send again what was not acknowledged, subscribers that come and go, and
//! what came of it. Each keeps to the letter of MQTT-4.3 and 4.4, so that whatever is lost or doubled is the broker's.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::receiver::Sent;
use super::receiver::wire::{
    CONNACK, CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Packet, Publish, SUBACK, SUBSCRIBE,
    acknowledged, put_block,
};

/// Unacknowledged messages of one publisher.
const WINDOW: usize = 20;
/// How long one look for a packet takes.
const LOOK: Duration = Duration::from_millis(20);
/// Pause before a broker that is away is tried again.
const AWAY: Duration = Duration::from_millis(20);

const COME_AND_GO: u8 = 0;
const STAY: u8 = 1;
const END: u8 = 2;

/// One connection of a client of 3.1.1 with a session that outlives it.
pub(crate) struct Talk {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Talk {
    /// Connects; whether the session was there.
    pub(crate) fn open(port: u16, id: &str) -> std::io::Result<(Self, bool)> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        let mut talk = Self { stream, pending: Vec::new() };
        let mut body = Vec::new();
        put_block(&mut body, b"MQTT");
        body.extend_from_slice(&[4, 0, 0, 0]);
        put_block(&mut body, id.as_bytes());
        talk.say(CONNECT, 0, &body)?;
        let answer = talk.answer()?;
        if answer.kind == CONNACK && answer.body.get(1) == Some(&0) {
            Ok((talk, answer.body[0] == 1))
        } else {
            Err(std::io::Error::other(format!("CONNECT was answered by {answer:?}")))
        }
    }

    pub(crate) fn say(&mut self, kind: u8, flags: u8, body: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&Packet::bytes(kind, flags, body))
    }

    /// The next packet, if there is one within [`LOOK`].
    pub(crate) fn look(&mut self) -> std::io::Result<Option<Packet>> {
        let mut chunk = [0; 16_384];
        loop {
            if let Some(packet) = Packet::take(&mut self.pending).map_err(std::io::Error::other)? {
                return Ok(Some(packet));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn answer(&mut self) -> std::io::Result<Packet> {
        for _ in 0..1_000 {
            if let Some(packet) = self.look()? {
                return Ok(packet);
            }
        }
        Err(std::io::ErrorKind::TimedOut.into())
    }
}

/// What a subscriber was given, in its order.
#[derive(Default)]
struct Given {
    by_topic: BTreeMap<String, Vec<u64>>,
    /// Times that the broker did not know the session any more.
    forgotten: u64,
}

struct Subscriber {
    qos: u8,
    filter: String,
    given: Arc<Mutex<Given>>,
    thread: JoinHandle<()>,
}

struct Publisher {
    topic: String,
    qos: u8,
    /// Messages that are acknowledged: all up to this one.
    done: Arc<AtomicU64>,
    forgotten: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// How large a crowd is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) subscribers: usize,
    /// Pairs of publishers, one of QoS 1 and one of QoS 2.
    pub(crate) publishers: usize,
    /// Between two messages of one publisher.
    pub(crate) pace: Duration,
}

/// See the module.
pub(crate) struct Crowd {
    mood: Arc<AtomicU8>,
    publishing: Arc<AtomicU8>,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
}

/// What came of it, over all subscribers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tale {
    /// Messages that were acknowledged to their publishers.
    pub(crate) acknowledged: u64,
    /// Messages that were to arrive.
    pub(crate) due: u64,
    pub(crate) lost: u64,
    /// Of QoS 2.
    pub(crate) doubled: u64,
    pub(crate) out_of_order: u64,
    /// Of QoS 1, which may be given again.
    pub(crate) repeated: u64,
    /// Sessions that the broker did not know any more.
    pub(crate) forgotten: u64,
}

impl Crowd {
    /// Subscribes everyone, then begins to publish.
    pub(crate) fn gather(port: u16, size: Size, seed: u64) -> Self {
        let mood = Arc::new(AtomicU8::new(COME_AND_GO));
        let publishing = Arc::new(AtomicU8::new(COME_AND_GO));
        let subscribers = (0..size.subscribers).map(|n| {
            let (qos, filter) = (1 + u8::try_from(n % 2).unwrap(), format!("data/{}/#", n / 2 % size.publishers));
            let id = format!("sub-{n}");
            let (mut talk, _) = Talk::open(port, &id).expect("a subscriber connects");
            let mut body = vec![0, 1];
            put_block(&mut body, filter.as_bytes());
            body.push(qos);
            talk.say(SUBSCRIBE, 2, &body).unwrap();
            assert_eq!(talk.answer().unwrap().kind, SUBACK);
            let given = Arc::<Mutex<Given>>::default();
            let (theirs, mood) = (given.clone(), mood.clone());
            let random = fastrand::Rng::with_seed(seed + n as u64);
            let thread = std::thread::spawn(move || subscribe(port, &id, &theirs, &mood, random));
            Subscriber { qos, filter, given, thread }
        });
        let subscribers = subscribers.collect();
        let publishers = (0..size.publishers).flat_map(|n| [(n, 1), (n, 2)]).map(|(n, qos)| {
            let topic = format!("data/{n}/{qos}");
            let (done, forgotten) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
            let (topic_, done_, forgotten_, mood) =
                (topic.clone(), done.clone(), forgotten.clone(), publishing.clone());
            let thread = std::thread::spawn(move || {
                let mut stream = Stream { topic: topic_, qos, next: 1, next_id: 0, waiting: VecDeque::new() };
                stream.publish(port, &done_, &forgotten_, &mood, size.pace);
            });
            Publisher { topic, qos, done, forgotten, thread }
        });
        let publishers = publishers.collect();
        Self { mood, publishing, subscribers, publishers }
    }

    /// Messages that are acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.done.load(Ordering::Relaxed)).sum()
    }

    /// Lets publishers come to their end and subscribers stay until they have everything, or nothing has come for `stuck`.
    pub(crate) fn settle(self, stuck: Duration) -> Tale {
        self.settle_all(stuck).0
    }

    /// The same, with all that was sent, which is acknowledged.
    pub(crate) fn settle_all(self, stuck: Duration) -> (Tale, Vec<Sent>) {
        self.publishing.store(END, Ordering::Relaxed);
        self.mood.store(STAY, Ordering::Relaxed);
        let mut sent = BTreeMap::new();
        let mut tale = Tale::default();
        for publisher in self.publishers {
            publisher.thread.join().expect("a publisher comes to its end");
            let count = publisher.done.load(Ordering::Relaxed);
            tale.acknowledged += count;
            tale.forgotten += publisher.forgotten.load(Ordering::Relaxed);
            sent.insert(publisher.topic, (publisher.qos, count));
        }
        let given = || -> usize {
            self.subscribers
                .iter()
                .map(|one| one.given.lock().unwrap().by_topic.values().map(Vec::len).sum::<usize>())
                .sum()
        };
        let lacking = || self.subscribers.iter().any(|one| one.judge(&sent).lost > 0);
        let (mut last, mut quiet) = (given(), Duration::ZERO);
        while lacking() && quiet < stuck {
            std::thread::sleep(Duration::from_millis(100));
            let now = given();
            quiet = if now == last { quiet + Duration::from_millis(100) } else { Duration::ZERO };
            last = now;
        }
        // What is said twice comes after what was missing.
        std::thread::sleep(Duration::from_millis(500));
        self.mood.store(END, Ordering::Relaxed);
        for subscriber in self.subscribers {
            let one = subscriber.judge(&sent);
            subscriber.thread.join().expect("a subscriber comes to its end");
            tale.due += one.due;
            tale.lost += one.lost;
            tale.doubled += one.doubled;
            tale.out_of_order += one.out_of_order;
            tale.repeated += one.repeated;
            tale.forgotten += one.forgotten;
        }
        let sent = sent.into_iter().map(|(topic, (qos, count))| Sent::new(&topic, qos, 1..=count));
        (tale, sent.collect())
    }
}

impl Subscriber {
    fn judge(&self, sent: &BTreeMap<String, (u8, u64)>) -> Tale {
        let given = self.given.lock().unwrap();
        let mut tale = Tale { forgotten: given.forgotten, ..Tale::default() };
        let prefix = self.filter.trim_end_matches('#');
        for (topic, (qos, count)) in sent.iter().filter(|(topic, _)| topic.starts_with(prefix)) {
            let numbers = given.by_topic.get(topic).map_or(&[][..], Vec::as_slice);
            let mut seen = BTreeSet::new();
            let mut last = 0;
            for number in numbers {
                if !seen.insert(*number) {
                    *(if self.qos.min(*qos) == 2 { &mut tale.doubled } else { &mut tale.repeated }) += 1;
                } else if *number < last {
                    tale.out_of_order += 1;
                } else {
                    last = *number;
                }
            }
            tale.due += count;
            tale.lost += (1..=*count).filter(|number| !seen.contains(number)).count() as u64;
        }
        tale
    }
}

fn subscribe(port: u16, id: &str, given: &Mutex<Given>, mood: &AtomicU8, mut random: fastrand::Rng) {
    let mut held = HashSet::new();
    while mood.load(Ordering::Relaxed) != END {
        let Ok((mut talk, present)) = Talk::open(port, id) else {
            std::thread::sleep(AWAY);
            continue;
        };
        if !present {
            given.lock().unwrap().forgotten += 1;
            held.clear();
        }
        let mut left = random.u32(50..2_000);
        let outcome = (|| -> std::io::Result<()> {
            loop {
                match mood.load(Ordering::Relaxed) {
                    END => return Ok(()),
                    COME_AND_GO if left == 0 => return Ok(()),
                    _ => {}
                }
                let Some(packet) = talk.look()? else {
                    left = left.saturating_sub(20);
                    continue;
                };
                left = left.saturating_sub(1);
                hear(&mut talk, &packet, &mut held, given)?;
            }
        })();
        // Half of them leave without a word.
        if outcome.is_ok() && random.bool() {
            let _ = talk.say(DISCONNECT, 0, &[]);
        }
        drop(talk);
        if mood.load(Ordering::Relaxed) == COME_AND_GO {
            std::thread::sleep(Duration::from_millis(random.u64(0..200)));
        }
    }
}

fn hear(talk: &mut Talk, packet: &Packet, held: &mut HashSet<u16>, given: &Mutex<Given>) -> std::io::Result<()> {
    match packet.kind {
        PUBLISH => {
            let publish = Publish::parse(packet, false).map_err(std::io::Error::other)?;
            if publish.qos < 2 || held.insert(publish.id) {
                let number = String::from_utf8_lossy(&publish.payload).parse().expect("a number");
                given.lock().unwrap().by_topic.entry(publish.topic).or_default().push(number);
            }
            match publish.qos {
                0 => Ok(()),
                1 => talk.say(PUBACK, 0, &publish.id.to_be_bytes()),
                _ => talk.say(PUBREC, 0, &publish.id.to_be_bytes()),
            }
        }
        PUBREL => {
            let id = acknowledged(packet).map_err(std::io::Error::other)?;
            held.remove(&id);
            talk.say(PUBCOMP, 0, &id.to_be_bytes())
        }
        kind => Err(std::io::Error::other(format!("a packet of type {kind} for a subscriber"))),
    }
}

/// One publisher's messages: numbers from 1 on.
struct Stream {
    topic: String,
    qos: u8,
    next: u64,
    next_id: u16,
    /// Packet id, number, and whether the PUBREC is there.
    waiting: VecDeque<(u16, u64, bool)>,
}

impl Stream {
    fn publish(&mut self, port: u16, done: &AtomicU64, forgotten: &AtomicU64, mood: &AtomicU8, pace: Duration) {
        let mut is_first = true;
        loop {
            if mood.load(Ordering::Relaxed) == END && self.waiting.is_empty() && !is_first {
                return;
            }
            let Ok((mut talk, present)) = Talk::open(port, &format!("pub-{}", self.topic)) else {
                std::thread::sleep(AWAY);
                continue;
            };
            if !present && !std::mem::take(&mut is_first) {
                forgotten.fetch_add(1, Ordering::Relaxed);
            }
            is_first = false;
            // A connection that ends is the reason to come again.
            let _ = self.talk(&mut talk, done, mood, pace);
        }
    }

    fn talk(&mut self, talk: &mut Talk, done: &AtomicU64, mood: &AtomicU8, pace: Duration) -> std::io::Result<()> {
        for (id, number, recorded) in self.waiting.clone() {
            if recorded {
                talk.say(PUBREL, 2, &id.to_be_bytes())?;
            } else {
                self.send(talk, id, number, true)?;
            }
        }
        talk.stream.set_read_timeout(Some(pace))?;
        loop {
            let is_ending = mood.load(Ordering::Relaxed) == END;
            if is_ending && self.waiting.is_empty() {
                return Ok(());
            }
            if !is_ending && self.waiting.len() < WINDOW {
                // The window is far smaller than the circle.
                self.next_id = self.next_id % 100 + 1;
                let (id, number) = (self.next_id, self.next);
                self.next += 1;
                self.waiting.push_back((id, number, false));
                self.send(talk, id, number, false)?;
            }
            let Some(packet) = talk.look()? else { continue };
            let id = acknowledged(&packet).map_err(std::io::Error::other)?;
            let found = self.waiting.iter().position(|(of, ..)| *of == id);
            match (packet.kind, found) {
                (PUBREC, Some(index)) => {
                    self.waiting[index].2 = true;
                    talk.say(PUBREL, 2, &id.to_be_bytes())?;
                }
                (PUBACK | PUBCOMP, Some(index)) => {
                    self.waiting.remove(index);
                    let oldest = self.waiting.front().map_or(self.next, |(_, number, _)| *number);
                    done.store(oldest - 1, Ordering::Relaxed);
                }
                (kind, found) => return Err(std::io::Error::other(format!("type {kind}, {found:?}"))),
            }
        }
    }

    fn send(&self, talk: &mut Talk, id: u16, number: u64, dup: bool) -> std::io::Result<()> {
        let (topic, qos, payload) = (self.topic.clone(), self.qos, number.to_string().into_bytes());
        talk.stream.write_all(&Publish { topic, qos, dup, retain: false, id, payload }.bytes())
    }
}

//! The strict receiver: an MQTT 3.1.1 and 5 server for one client that keeps to the letter of the specification and writes down every
//! breach. It is the first judge of the bridge; Mosquitto, which forgives, is the second.

pub(crate) mod ledger;
pub(crate) mod session;
pub(crate) mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use ledger::{Accepted, Sent, Verdict};
pub(crate) use session::{Deliver, Terms};

use session::{Answer, Session};
use wire::{CONNECT, Connect, PUBLISH, Packet};

/// How long a connection that has nothing to read waits before it looks at its orders.
const LOOK: Duration = Duration::from_millis(2);

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The packet arrived and nobody looked at it.
    BeforeProcessing,
    /// It was taken; the answer never left.
    AfterProcessing,
    /// The answer left.
    AfterReply,
}

/// What is done to the client. Can be changed while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Treatment {
    /// Time taken for each PUBLISH.
    pub(crate) pace: Duration,
    /// Time each acknowledgement is held back.
    pub(crate) hold: Duration,
    /// Cuts the connection at a random point about every so many packets. Zero: never.
    pub(crate) cut_every: u32,
    /// Cuts still to be made. Counted down.
    pub(crate) cuts_left: u32,
    /// Forgets the session at each so-manieth connection. Zero: never.
    pub(crate) forget_every: u64,
    /// Accepts connections and closes them at once.
    pub(crate) away: bool,
}

/// A running receiver.
pub(crate) struct Receiver {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    session: Session,
    treatment: Treatment,
    random: fastrand::Rng,
    /// The connection that may speak; an older one has been taken over.
    turn: u64,
    cuts: u64,
    gone: bool,
}

impl Receiver {
    /// Starts it with these terms. `seed` decides where cuts fall; a failing test prints it.
    pub(crate) fn start(terms: Terms, seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind 127.0.0.1:0");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        println!("receiver on port {port}, seed {seed}");
        let shared = Arc::new(Mutex::new(Shared {
            session: Session::new(terms),
            treatment: Treatment::default(),
            random: fastrand::Rng::with_seed(seed),
            turn: 0,
            cuts: 0,
            gone: false,
        }));
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &serving));
        Self { port, shared }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL for a bridge.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Changes how the client is treated from here on.
    pub(crate) fn treat(&self, change: impl FnOnce(&mut Treatment)) {
        change(&mut self.lock().treatment);
    }

    /// Loses the session.
    pub(crate) fn forget(&self) {
        self.lock().session.forget();
    }

    /// How the campaign went so far.
    pub(crate) fn verdict(&self, sent: &[Sent]) -> Verdict {
        self.lock().session.ledger().verdict(sent)
    }

    /// Different numbers accepted so far, over all of these.
    pub(crate) fn arrived(&self, sent: &[Sent]) -> u64 {
        let shared = self.lock();
        sent.iter().map(|sent| shared.session.ledger().distinct(&sent.topic, sent.qos)).sum()
    }

    /// How many of these numbers have not arrived on this topic at this QoS.
    pub(crate) fn missing(&self, topic: &str, qos: u8, numbers: &BTreeSet<u64>) -> u64 {
        self.lock().session.ledger().missing(topic, qos, numbers)
    }

    /// Everything accepted so far.
    pub(crate) fn accepted(&self) -> Vec<Accepted> {
        self.lock().session.ledger().accepted().to_vec()
    }

    /// Connections that got a CONNACK.
    pub(crate) fn connections(&self) -> u64 {
        self.lock().session.ledger().connections()
    }

    /// The last CONNECT that was taken.
    pub(crate) fn greeted(&self) -> Option<Connect> {
        self.lock().session.greeted().cloned()
    }

    /// Connections cut by order.
    pub(crate) fn cuts(&self) -> u64 {
        self.lock().cuts
    }

    /// QoS 2 messages that wait for their PUBREL.
    pub(crate) fn held(&self) -> usize {
        self.lock().session.held()
    }

    /// How often it hung up on a 3.1.1 client that had too much in flight.
    pub(crate) fn hung_up(&self) -> u64 {
        self.lock().session.hung_up()
    }

    /// Wills sent out.
    pub(crate) fn wills(&self) -> Vec<(String, Vec<u8>)> {
        self.lock().session.wills().to_vec()
    }

    /// How often it forgot a session that existed.
    pub(crate) fn forgotten(&self) -> u64 {
        self.lock().session.forgotten()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.lock().gone = true;
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Mutex<Shared>>) {
    for stream in listener.incoming() {
        if lock(shared).gone {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            Connection { stream, shared: &shared, turn: None, due: VecDeque::new() }.serve();
        });
    }
}

struct Connection<'a> {
    stream: TcpStream,
    shared: &'a Mutex<Shared>,
    /// Its number, once its CONNECT was taken.
    turn: Option<u64>,
    /// Answers and when they leave, in order.
    due: VecDeque<(Instant, Answer)>,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    End { said_goodbye: bool },
}

impl Connection<'_> {
    fn serve(mut self) {
        let _ = self.stream.set_nodelay(true);
        let _ = self.stream.set_read_timeout(Some(LOOK));
        let said_goodbye = self.run();
        let mut shared = lock(self.shared);
        if self.turn == Some(shared.turn) {
            shared.session.disconnected(said_goodbye);
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn run(&mut self) -> bool {
        let (mut pending, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => pending.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return false,
            }
            loop {
                let next = match Packet::take(&mut pending) {
                    Ok(Some(packet)) => self.take(&packet),
                    Ok(None) => break,
                    Err(fault) => {
                        lock(self.shared).session.ledger_mut().violation(fault);
                        return false;
                    }
                };
                if let Next::End { said_goodbye } = next {
                    return said_goodbye;
                }
            }
            let still_its_turn = self.turn.is_none_or(|turn| turn == lock(self.shared).turn);
            if !still_its_turn || !self.flush(Instant::now()) {
                return false;
            }
        }
    }

    fn take(&mut self, packet: &Packet) -> Next {
        const END: Next = Next::End { said_goodbye: false };
        let mut shared = lock(self.shared);
        let Shared { session, treatment, random, turn, cuts, gone } = &mut *shared;
        if *gone || treatment.away {
            return END;
        }
        match self.turn {
            Some(mine) if mine != *turn => return END,
            None if packet.kind == CONNECT => {
                // The older connection of the same client ends here, with its will [MQTT-3.1.4-3].
                session.disconnected(false);
                *turn += 1;
                self.turn = Some(*turn);
                let connection = session.ledger().connections() + 1;
                if treatment.forget_every > 0 && connection % treatment.forget_every == 0 {
                    session.forget();
                }
            }
            _ => {}
        }
        let cut = if treatment.cut_every > 0 && treatment.cuts_left > 0 && random.u32(0..treatment.cut_every) == 0 {
            treatment.cuts_left -= 1;
            *cuts += 1;
            random.choice([Point::BeforeProcessing, Point::AfterProcessing, Point::AfterReply])
        } else {
            None
        };
        let (pace, hold) = (treatment.pace, treatment.hold);
        if cut == Some(Point::BeforeProcessing) {
            return END;
        }
        let Ok(answers) = session.handle(packet) else { return END };
        drop(shared);
        if cut == Some(Point::AfterProcessing) {
            return END;
        }
        let now = Instant::now();
        for answer in answers {
            let due = if matches!(answer, Answer::Acknowledge { .. }) { now + hold } else { now };
            if let Answer::Close { said_goodbye } = answer {
                return Next::End { said_goodbye };
            }
            self.due.push_back((due, answer));
        }
        if !self.flush(now) || cut.is_some() {
            return END;
        }
        if packet.kind == PUBLISH && !pace.is_zero() {
            std::thread::sleep(pace);
        }
        Next::GoOn
    }

    /// Sends what is due, in the order it was answered.
    fn flush(&mut self, now: Instant) -> bool {
        while self.due.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, answer)) = self.due.pop_front() else { break };
            let bytes = match answer {
                Answer::Send(bytes) => bytes,
                Answer::Acknowledge { bytes, id } => {
                    lock(self.shared).session.answered(id);
                    bytes
                }
                Answer::Close { .. } => return false,
            };
            if self.stream.write_all(&bytes).is_err() {
                return false;
            }
        }
        true
    }
}

//! A proxy right in front of the broker that reads along and notes for which message the broker said PUBACK or PUBCOMP, and which
//! QoS 2 message the gateway handed over twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::support::receiver::ledger::number;
use crate::support::receiver::wire::{PUBACK, PUBCOMP, PUBLISH, PUBREL, Packet, Publish, acknowledged};

type Message = (String, u64);

#[derive(Default)]
struct Notes {
    /// The message that a packet id stands for; it stays over connections, as the session does.
    ids: BTreeMap<u16, Message>,
    taken: BTreeSet<Message>,
    /// The packet id that a QoS 2 message first went under.
    first: BTreeMap<Message, u16>,
    released: BTreeSet<Message>,
    twice: BTreeSet<Message>,
}

/// A running tap. It ends with the program.
pub(crate) struct Tap {
    port: u16,
    notes: Arc<Mutex<Notes>>,
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tap {
    /// In front of a broker of 3.1.1 on this port.
    pub(crate) fn to(broker: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind 127.0.0.1:0");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let notes = Arc::new(Mutex::new(Notes::default()));
        let shared = Arc::clone(&notes);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                let (client, server) = (Arc::new(client), Arc::new(server));
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, notes) = (Arc::clone(from), Arc::clone(to), Arc::clone(&shared));
                    std::thread::spawn(move || carry(&from, &to, &notes));
                }
            }
        });
        Self { port, notes }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether the broker said that this message is its own.
    pub(crate) fn taken(&self, topic: &str, number: u64) -> bool {
        lock(&self.notes).taken.contains(&(topic.to_owned(), number))
    }

    /// QoS 2 messages that the gateway sent under a second packet id, or again after their PUBREL.
    pub(crate) fn handed_over_twice(&self) -> u64 {
        lock(&self.notes).twice.len() as u64
    }
}

/// Carries bytes one way until either side ends. What was read is noted before it goes on.
fn carry(mut from: &TcpStream, mut to: &TcpStream, notes: &Mutex<Notes>) {
    let (mut pending, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    let _ = to.set_nodelay(true);
    while let Ok(count) = from.read(&mut chunk) {
        if count == 0 {
            break;
        }
        pending.extend_from_slice(&chunk[..count]);
        while let Ok(Some(packet)) = Packet::take(&mut pending) {
            note(&packet, &mut lock(notes));
        }
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// The gateway is the only one that publishes here, and packet ids of either direction belong to its messages.
fn note(packet: &Packet, notes: &mut Notes) {
    match packet.kind {
        PUBLISH => {
            let Ok(publish) = Publish::parse(packet, false) else { return };
            let Some(number) = number(&publish.payload) else { return };
            let message = (publish.topic, number);
            if publish.qos == 2 {
                // A QoS 2 message goes under one packet id for ever, and not again once its PUBREL has been said [MQTT-4.3.3-1].
                let first = *notes.first.entry(message.clone()).or_insert(publish.id);
                if first != publish.id || notes.released.contains(&message) {
                    notes.twice.insert(message.clone());
                }
            }
            notes.ids.insert(publish.id, message);
        }
        PUBREL => {
            if let Some(message) = acknowledged(packet).ok().and_then(|id| notes.ids.get(&id)).cloned() {
                notes.released.insert(message);
            }
        }
        PUBACK | PUBCOMP => {
            if let Some(message) = acknowledged(packet).ok().and_then(|id| notes.ids.get(&id)).cloned() {
                notes.taken.insert(message);
            }
        }
        _ => {}
    }
}

//! As much of MQTT 3.1.1 as a load needs, on a blocking socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A message that came.
pub(crate) struct Publish<'a> {
    pub(crate) payload: &'a [u8],
}

/// Packets that are not PUBLISH and say something to their client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// CONNACK: whether a session was there.
    Welcome(bool),
    Suback,
    /// PUBACK or PUBCOMP: a publication is done.
    Done,
    Pong,
}

/// One connection. What must be said back to a PUBLISH is gathered in `out` and leaves with the next read.
pub(crate) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    start: usize,
    chunk: Vec<u8>,
    pub(crate) out: Vec<u8>,
    packet_id: u16,
}

pub(crate) fn packet(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    let mut left: usize = parts.iter().map(|part| part.len()).sum();
    out.push(first);
    loop {
        let low = (left & 0x7f) as u8;
        left >>= 7;
        out.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn length(text: &[u8]) -> [u8; 2] {
    (text.len() as u16).to_be_bytes()
}

impl Connection {
    /// Connects and waits for the welcome; tells whether a session was there.
    pub(crate) fn open(port: u16, client: &str, clean: bool) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut connection =
            Self { stream, input: Vec::new(), start: 0, chunk: vec![0; 65_536], out: Vec::new(), packet_id: 0 };
        let id = client.as_bytes();
        let head = [&b"\0\x04MQTT\x04"[..], &[if clean { 2 } else { 0 }], &[0, 0]].concat();
        packet(&mut connection.out, 0x10, &[&head, &length(id), id]);
        let mut session = None;
        while session.is_none() {
            connection.turn(
                |_| {},
                |answer| {
                    if let Answer::Welcome(there) = answer {
                        session = Some(there);
                    }
                },
            )?;
        }
        Ok((connection, session == Some(true)))
    }

    /// Subscribes and waits for the answer; messages that come before it are counted as well.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8, mut on: impl FnMut(Publish<'_>)) -> io::Result<()> {
        let id = self.next_id().to_be_bytes();
        packet(&mut self.out, 0x82, &[&id, &length(filter.as_bytes()), filter.as_bytes(), &[qos]]);
        let mut there = false;
        while !there {
            self.turn(&mut on, |answer| there |= answer == Answer::Suback)?;
        }
        Ok(())
    }

    /// Puts a message into `out`.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], qos: u8) {
        let id = if qos > 0 { self.next_id().to_be_bytes().to_vec() } else { Vec::new() };
        packet(&mut self.out, 0x30 | qos << 1, &[&length(topic.as_bytes()), topic.as_bytes(), &id, payload]);
    }

    fn next_id(&mut self) -> u16 {
        self.packet_id = if self.packet_id == u16::MAX { 1 } else { self.packet_id + 1 };
        self.packet_id
    }

    /// Sends what is in `out`.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    pub(crate) fn patience(&self, time: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(time))
    }

    /// Sends what is in `out`, waits for something to come, and hands it over.
    pub(crate) fn turn(&mut self, mut on: impl FnMut(Publish<'_>), mut answer: impl FnMut(Answer)) -> io::Result<()> {
        self.flush()?;
        let count = self.stream.read(&mut self.chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.input.extend_from_slice(&self.chunk[..count]);
        while let Some((first, body)) = next(&self.input, &mut self.start) {
            let body = &self.input[body.0..body.1];
            let id = || [body[0], body[1]];
            match first >> 4 {
                3 => {
                    let topic_end = 2 + usize::from(u16::from_be_bytes(id()));
                    let qos = first >> 1 & 3;
                    let payload = if qos > 0 { topic_end + 2 } else { topic_end };
                    on(Publish { payload: &body[payload..] });
                    match qos {
                        1 => self.out.extend([0x40, 2, body[topic_end], body[topic_end + 1]]),
                        2 => self.out.extend([0x50, 2, body[topic_end], body[topic_end + 1]]),
                        _ => {}
                    }
                }
                5 => self.out.extend([0x62, 2, body[0], body[1]]),
                6 => self.out.extend([0x70, 2, body[0], body[1]]),
                2 if body[1] == 0 => answer(Answer::Welcome(body[0] & 1 == 1)),
                2 => return Err(io::Error::other(format!("refused with {}", body[1]))),
                4 | 7 => answer(Answer::Done),
                9 => answer(Answer::Suback),
                13 => answer(Answer::Pong),
                kind => return Err(io::Error::other(format!("packet type {kind}"))),
            }
        }
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        } else if self.start > 1 << 20 {
            self.input.drain(..self.start);
            self.start = 0;
        }
        Ok(())
    }

    /// Says goodbye.
    pub(crate) fn leave(mut self) {
        self.out.extend([0xe0, 0]);
        let _ = self.flush();
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// The next whole packet: its first byte, and where its body lies.
fn next(input: &[u8], start: &mut usize) -> Option<(u8, (usize, usize))> {
    let first = *input.get(*start)?;
    let (mut size, mut at) = (0_usize, *start + 1);
    for shift in [0, 7, 14, 21] {
        let byte = *input.get(at)?;
        at += 1;
        size |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    if input.len() < at + size {
        return None;
    }
    *start = at + size;
    Some((first, (at, at + size)))
}

//! Bytes on their way from one client, cut into packets. A large packet is gathered in a buffer of its own, which becomes the message's payload
//! without a copy and grows with what has come, not with what was announced.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits;
use crate::mqtt::framing::{self, FrameError, Header};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Input(BytesMut);

/// A packet that is there whole.
#[derive(Debug)]
pub(super) enum Packet {
    /// Its header; the body is at [`Input::body`] until [`Input::advance`].
    Small(Header),
    /// Taken out of the input: header and body.
    Large(Header, Bytes),
}

impl Input {
    /// Where the next read puts what it finds, with room for some. `limit` is that of a packet: one that is larger is refused before this.
    pub(super) fn room(&mut self, limit: usize) -> &mut BytesMut {
        let announced = framing::header(&self.0, limit).ok().flatten().map_or(0, Header::total);
        if announced < limits::LARGE_PACKET_BYTES {
            self.0.reserve(limits::READ_BYTES);
            return &mut self.0;
        }
        let step = step(announced, self.0.len());
        if self.0.capacity() < step {
            if self.0.len() < limits::LARGE_PACKET_BYTES / 2 {
                // Out of the buffer that others went through: this one becomes a payload.
                let mut own = BytesMut::with_capacity(step);
                own.extend_from_slice(&self.0);
                self.0 = own;
            } else {
                self.0.reserve(step - self.0.len());
            }
        }
        &mut self.0
    }

    /// The next packet, if it is there whole.
    pub(super) fn packet(&mut self, limit: usize) -> Result<Option<Packet>, FrameError> {
        let Some(header) = framing::header(&self.0, limit)?.filter(|header| self.0.len() >= header.total()) else {
            return Ok(None);
        };
        if header.total() < limits::LARGE_PACKET_BYTES {
            return Ok(Some(Packet::Small(header)));
        }
        let mut whole = std::mem::take(&mut self.0);
        // What has come behind it, a few bytes: no more was read than there was room for.
        self.0.extend_from_slice(&whole[header.total()..]);
        whole.truncate(header.total());
        Ok(Some(Packet::Large(header, whole.freeze())))
    }

    /// The body of the small packet that comes next.
    pub(super) fn body(&self, header: Header) -> &[u8] {
        &self.0[header.header_len..header.total()]
    }

    /// The small packet that comes next is done with.
    pub(super) fn advance(&mut self, header: Header) {
        self.0.advance(header.total());
    }

    /// Gives room back that a lot has taken, once it is gone.
    pub(super) fn tidy(&mut self) {
        if self.0.is_empty() && self.0.capacity() > 8 * limits::READ_BYTES {
            self.0 = BytesMut::new();
        }
    }
}

/// What came with the CONNECT.
impl From<BytesMut> for Input {
    fn from(bytes: BytesMut) -> Self {
        Self(bytes)
    }
}

/// The size to which the buffer of a packet grows next: the packet's own size halved until it is less than twice what has come, so that it is never much
/// larger than that, is copied a bounded number of times, and ends at exactly the packet's size.
fn step(announced: usize, come: usize) -> usize {
    let mut step = announced;
    while step.div_ceil(2) > come && step.div_ceil(2) >= limits::LARGE_PACKET_BYTES {
        step = step.div_ceil(2);
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PUBLISH of this body length, in which each byte tells its place.
    fn publish(body_len: usize) -> Vec<u8> {
        let mut bytes = BytesMut::from(&[0x30][..]);
        framing::put_length(&mut bytes, body_len);
        bytes.extend((0..body_len).map(|n| (n % 251).to_le_bytes()[0]));
        bytes.to_vec()
    }

    #[test]
    fn packets_of_all_sizes_come_out_as_they_went_in_whatever_is_read_at_a_time() {
        let sizes = [0, 10, limits::LARGE_PACKET_BYTES - 4, limits::LARGE_PACKET_BYTES + 1, 3, 1_000_003, 500_000, 1];
        let stream: Vec<u8> = sizes.iter().flat_map(|size| publish(*size)).collect();
        for most in [7, 8_192, usize::MAX] {
            let (mut input, mut at, mut found) = (Input::default(), 0, Vec::new());
            while at < stream.len() {
                let room = input.room(usize::MAX);
                let free = room.capacity() - room.len();
                assert!(free > 0, "there is room to read");
                let more = free.min(most).min(stream.len() - at);
                room.extend_from_slice(&stream[at..at + more]);
                at += more;
                while let Some(packet) = input.packet(usize::MAX).unwrap() {
                    match packet {
                        Packet::Small(header) => {
                            found.push(input.body(header).to_vec());
                            input.advance(header);
                        }
                        Packet::Large(header, whole) => found.push(whole[header.header_len..].to_vec()),
                    }
                }
            }
            let expected: Vec<Vec<u8>> = sizes.iter().map(|size| publish(*size).split_off(1)).collect();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!(expected.ends_with(found), "{} bytes", found.len());
            }
        }
    }

    #[test]
    fn a_large_packet_takes_no_more_than_twice_what_has_come_and_is_not_copied_at_the_end() {
        let bytes = publish(64 << 20);
        let mut input = Input::default();
        input.room(usize::MAX).extend_from_slice(&bytes[..5]);
        let (mut at, mut moves, mut place) = (5, 0, std::ptr::null());
        while at < bytes.len() {
            let room = input.room(usize::MAX);
            let bound = 2 * room.len() + 2 * limits::LARGE_PACKET_BYTES;
            assert!(room.capacity() <= bound, "{} for {}", room.capacity(), room.len());
            moves += usize::from(!std::ptr::eq(room.as_ptr(), place));
            place = room.as_ptr();
            let more = (room.capacity() - room.len()).min(bytes.len() - at);
            room.extend_from_slice(&bytes[at..at + more]);
            at += more;
        }
        assert!(moves < 16, "{moves}");
        let Ok(Some(Packet::Large(_, whole))) = input.packet(usize::MAX) else { panic!("it is whole") };
        assert_eq!((whole.len(), whole.as_ptr()), (bytes.len(), place));
        assert_eq!(input.0.capacity(), 0);
    }
}

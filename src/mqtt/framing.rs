//! Cuts a byte stream into MQTT packets: one type byte, a length of one to four bytes, a body [MQTT-2.1].
//!
//! Nothing is allocated for what a peer only announces: the length is judged as soon as it can be read, before the body has come.

use bytes::{BufMut, BytesMut};

/// Largest remaining length the encoding can hold [MQTT-2.1.4].
pub const REMAINING_LENGTH_MAX: u32 = 268_435_455;
/// Bytes of the largest packet there is: type, four bytes of length, and that. Four more than 256 MiB.
pub const PACKET_MAX: u32 = 1 + 4 + REMAINING_LENGTH_MAX;

/// The start of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Packet type in the high four bits, flags in the low four.
    pub first: u8,
    /// Bytes of type and length.
    pub header_len: usize,
    /// Bytes of the body.
    pub body_len: usize,
}

impl Header {
    /// Packet type, 1 to 15.
    pub const fn kind(self) -> u8 {
        self.first >> 4
    }

    /// The four flag bits.
    pub const fn flags(self) -> u8 {
        self.first & 0x0f
    }

    /// Bytes of the whole packet.
    pub const fn total(self) -> usize {
        self.header_len + self.body_len
    }
}

/// Why the stream cannot be cut any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length takes more than four bytes.
    #[error("length of a packet takes more than four bytes")]
    Length,
    /// The packet is larger than allowed.
    #[error("packet of {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Size announced.
        bytes: usize,
        /// Size allowed.
        limit: usize,
    },
}

/// Reads the header of the packet at the start of `buffer`; `None` when more bytes are needed to know it.
///
/// # Errors
/// [`FrameError`] when the length is malformed, or announces a packet larger than `limit` bytes in all.
pub fn header(buffer: &[u8], limit: usize) -> Result<Option<Header>, FrameError> {
    let Some((&first, rest)) = buffer.split_first() else { return Ok(None) };
    let mut body_len = 0;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        body_len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let header = Header { first, header_len: index + 2, body_len };
            if header.total() > limit {
                return Err(FrameError::TooLarge { bytes: header.total(), limit });
            }
            return Ok(Some(header));
        }
    }
    if rest.len() >= 4 { Err(FrameError::Length) } else { Ok(None) }
}

/// Bytes that a remaining length takes.
pub const fn length_len(length: usize) -> usize {
    match length {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Writes a variable byte integer of at most [`REMAINING_LENGTH_MAX`].
pub fn put_length(out: &mut BytesMut, mut length: usize) {
    loop {
        // The mask makes the value fit a byte.
        #[allow(clippy::cast_possible_truncation)]
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.put_u8(byte);
            return;
        }
        out.put_u8(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_known_as_soon_as_its_bytes_are_there() {
        assert_eq!(header(&[], 100), Ok(None));
        assert_eq!(header(&[0x30], 100), Ok(None));
        assert_eq!(header(&[0x30, 0x80], 1000), Ok(None));
        assert_eq!(header(&[0xc0, 0], 100), Ok(Some(Header { first: 0xc0, header_len: 2, body_len: 0 })));
        assert_eq!(
            header(&[0x31, 0xc1, 0x02, 9], 1000),
            Ok(Some(Header { first: 0x31, header_len: 3, body_len: 321 }))
        );
    }

    #[test]
    fn a_packet_over_the_limit_is_refused_before_its_body_comes() {
        assert_eq!(header(&[0x30, 99], 100), Err(FrameError::TooLarge { bytes: 101, limit: 100 }));
        assert_eq!(
            header(&[0x30, 0xff, 0xff, 0xff, 0x7f], 100),
            Err(FrameError::TooLarge { bytes: 268_435_460, limit: 100 })
        );
    }

    #[test]
    fn a_length_of_five_bytes_is_malformed() {
        assert_eq!(header(&[0x30, 0x80, 0x80, 0x80, 0x80, 0x01], usize::MAX), Err(FrameError::Length));
        assert_eq!(header(&[0x30, 0xff, 0xff, 0xff], usize::MAX), Ok(None));
    }

    #[test]
    fn a_written_length_reads_back_the_same() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let mut out = BytesMut::new();
            out.put_u8(0x30);
            put_length(&mut out, length);
            let header = header(&out, usize::MAX).unwrap().unwrap();
            assert_eq!((header.body_len, header.header_len), (length, 1 + length_len(length)));
        }
    }
}

//! Bytes on their way to one client, in pieces: what is written for this client alone, and large payloads that all who get them share.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits;

/// What goes out before the tail.
#[derive(Debug)]
enum Piece {
    Own(BytesMut),
    Shared(Bytes),
}

impl Piece {
    fn rest(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Own(bytes) => bytes.advance(count),
            Self::Shared(bytes) => bytes.advance(count),
        }
    }
}

/// See the module. As long as nothing large is sent there is only the tail. No piece is empty.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Piece>,
    tail: BytesMut,
    /// Bytes in the pieces.
    ahead: usize,
    /// Those of them that are shared.
    shared: usize,
}

impl Output {
    /// Where small things are written: behind everything else.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// A large payload goes out behind everything else.
    pub(super) fn share(&mut self, payload: Bytes) {
        self.turn_over();
        if !payload.is_empty() {
            self.ahead += payload.len();
            self.shared += payload.len();
            self.pieces.push_back(Piece::Shared(payload));
        }
    }

    /// The tail becomes a piece.
    fn turn_over(&mut self) {
        if !self.tail.is_empty() {
            self.ahead += self.tail.len();
            self.pieces.push_back(Piece::Own(std::mem::take(&mut self.tail)));
        }
    }

    /// Puts another output behind this one.
    pub(super) fn append(&mut self, mut other: Self) {
        if other.pieces.is_empty() {
            self.tail.extend_from_slice(&other.tail);
            return;
        }
        self.turn_over();
        self.pieces.append(&mut other.pieces);
        self.ahead += other.ahead;
        self.shared += other.shared;
        self.tail = other.tail;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ahead == 0 && self.tail.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.ahead + self.tail.len()
    }

    /// Those that are held for this client alone.
    pub(super) fn own_len(&self) -> usize {
        self.len() - self.shared
    }

    /// Gives room back that a lot has taken, once it is gone.
    pub(super) fn tidy(&mut self) {
        if self.is_empty() && self.tail.capacity() > limits::OUTPUT_BYTES {
            self.tail = BytesMut::new();
        }
    }

    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let pieces = self.pieces.iter().flat_map(|piece| piece.rest().to_vec());
        pieces.chain(self.tail.to_vec()).collect()
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail[..], Piece::rest)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let mut filled = 0;
        for (slot, bytes) in out.iter_mut().zip(self.pieces.iter().map(Piece::rest).chain(tail)) {
            *slot = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.pieces.front_mut().filter(|_| count > 0) {
            let now = count.min(first.rest().len());
            first.advance(now);
            count -= now;
            self.ahead -= now;
            if matches!(first, Piece::Shared(_)) {
                self.shared -= now;
            }
            if first.rest().is_empty() {
                // The payload is let go of with its last byte.
                self.pieces.pop_front();
            }
        }
        self.tail.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken out `step` bytes at a time, by slices as a socket takes them.
    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while output.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = output.chunks_vectored(&mut slices);
            assert!(count > 0 && slices[..count].iter().all(|slice| !slice.is_empty()));
            assert_eq!(&slices[0][..], output.chunk());
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).take(step).collect();
            output.advance(bytes.len());
            all.extend(bytes);
        }
        all
    }

    fn filled() -> Output {
        let mut output = Output::default();
        output.tail().extend_from_slice(b"head");
        output.share(Bytes::from_static(b"PAYLOAD"));
        output.share(Bytes::new());
        output.share(Bytes::from_static(b"NEXT"));
        output.tail().extend_from_slice(b"end");
        output
    }

    #[test]
    fn pieces_go_out_in_order_however_they_are_taken() {
        for step in 1..20 {
            let mut output = filled();
            assert_eq!((output.len(), output.own_len()), (18, 7));
            assert_eq!(drain(&mut output, step), b"headPAYLOADNEXTend", "{step} at a time");
            assert!(output.is_empty() && output.own_len() == 0 && output.pieces.is_empty());
        }
    }

    #[test]
    fn an_output_behind_another_keeps_both_orders() {
        for (mut first, second) in [(filled(), filled()), (Output::default(), filled()), (filled(), Output::default())]
        {
            let whole = [first.to_vec(), second.to_vec()].concat();
            let lengths = (first.len() + second.len(), first.own_len() + second.own_len());
            first.append(second);
            assert_eq!((first.len(), first.own_len()), lengths);
            first.tail().extend_from_slice(b"!");
            assert_eq!(drain(&mut first, 5), [&whole[..], b"!"].concat());
        }
    }

    #[test]
    fn a_payload_is_shared_and_let_go_of_when_it_is_gone() {
        let payload = Bytes::from(vec![7; 100]);
        let mut output = Output::default();
        output.share(payload.clone());
        assert_eq!(output.chunk().as_ptr(), payload.as_ptr(), "it is not copied");
        output.tail().extend_from_slice(b"x");
        output.advance(100);
        assert!(payload.is_unique());
        output.tail().resize(2 * limits::OUTPUT_BYTES, 0);
        output.tidy();
        assert!(output.tail.capacity() > limits::OUTPUT_BYTES, "not while something waits");
        output.advance(2 * limits::OUTPUT_BYTES);
        output.tidy();
        assert_eq!(output.tail.capacity(), 0);
    }
}

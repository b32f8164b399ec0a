//! A peer's frames in slices. The library reserves room for a whole frame once it has read its head, and holds a message until it is whole; what
//! a peer says is coming would so be paid for before it comes, and before the peer is known. MQTT has no use for the bounds of messages
//! [MQTT-6.0.0-2]: each frame of a binary message is handed on as messages of their own, none longer than [`WEBSOCKET_FRAME_BYTES`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::WEBSOCKET_FRAME_BYTES;

/// Read at a time where a head is looked for; what is known to be payload is read into its place.
const UNREAD_BYTES: usize = 512;
const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CONTROL: u8 = 8;

// The mask repeats every four bytes: a slice begins where it does.
const _: () = assert!(WEBSOCKET_FRAME_BYTES.is_multiple_of(4));

/// A stream whose frames are handed on in slices, in that direction alone.
#[derive(Debug)]
pub(super) struct Sliced<S> {
    inner: S,
    at: At,
    /// A head that is not whole yet.
    head: Vec<u8>,
    /// A head to hand on before anything else.
    pending: Vec<u8>,
    /// What was read with a head and comes after it.
    unread: BytesMut,
    /// Whether a binary message has begun that is not at its end.
    in_binary: bool,
}

#[derive(Debug)]
enum At {
    /// Nothing is touched.
    Untouched,
    /// In the request that comes before the frames.
    Request(Request),
    Head,
    Payload {
        /// What is left of the slice.
        slice: u64,
        /// What is left of the frame behind that slice, and the mask.
        rest: u64,
        mask: Vec<u8>,
    },
}

/// How far a request has come. The library takes lines that end in a bare line feed, and empty ones before the first (RFC 9112, 2.2): so its end is
/// where that takes it to be.
#[derive(Debug, Default)]
struct Request {
    has_begun: bool,
    line: Line,
}

/// What has come of the line.
#[derive(Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Nothing,
    /// A carriage return alone.
    Return,
    Text,
}

impl Request {
    /// One byte has come; whether it is the last one.
    fn take(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' if self.line == Line::Text => *self = Self { has_begun: true, line: Line::Nothing },
            b'\n' => {
                self.line = Line::Nothing;
                return self.has_begun;
            }
            b'\r' if self.line == Line::Nothing => self.line = Line::Return,
            _ => self.line = Line::Text,
        }
        false
    }
}

impl<S> Sliced<S> {
    /// Hands on everything as it is.
    pub(super) fn untouched(inner: S) -> Self {
        Self::new(inner, At::Untouched)
    }

    /// A request, and frames after it.
    pub(super) fn behind_request(inner: S) -> Self {
        Self::new(inner, At::Request(Request::default()))
    }

    fn new(inner: S, at: At) -> Self {
        Self { inner, at, head: Vec::new(), pending: Vec::new(), unread: BytesMut::new(), in_binary: false }
    }

    /// The stream below.
    pub(super) fn inside(&self) -> &S {
        &self.inner
    }

    /// One byte of a head has come.
    fn take(&mut self, byte: u8) -> io::Result<()> {
        self.head.push(byte);
        let Some(second) = self.head.get(1) else { return Ok(()) };
        let length_bytes = [0, 2, 8][usize::from(second & 0x7f).saturating_sub(125)];
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        if self.head.len() < 2 + length_bytes + mask_bytes {
            return Ok(());
        }
        let head = std::mem::take(&mut self.head);
        let length = match length_bytes {
            0 => u64::from(head[1] & 0x7f),
            _ => head[2..2 + length_bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let is_final = head[0] & FINAL != 0;
        let is_sliced = match head[0] & OPCODE {
            BINARY if self.in_binary => return Err(io::Error::other("a message begins within another")),
            BINARY => true,
            CONTINUATION => self.in_binary,
            opcode if opcode < CONTROL && self.in_binary => {
                return Err(io::Error::other("a message begins within another"));
            }
            // Text, which nobody wants here, and control frames, which may come within a message: their limits are the library's.
            _ => false,
        };
        if is_sliced {
            self.in_binary = !is_final;
            // What is reserved in the first byte stays, for the library to refuse.
            let first = head[0] & !OPCODE | FINAL | BINARY;
            let mask = [&[first, head[1] & 0x80][..], &head[2 + length_bytes..]].concat();
            self.begin_slice(length, mask);
        } else {
            self.pending = head;
            self.at = At::Payload { slice: length, rest: 0, mask: Vec::new() };
        }
        Ok(())
    }

    /// Goes on with a slice of a frame of which so much is left. `mask`: the first two bytes of each head, without a length, and the mask.
    fn begin_slice(&mut self, left: u64, mask: Vec<u8>) {
        let slice = left.min(WEBSOCKET_FRAME_BYTES as u64);
        self.pending = vec![mask[0]];
        match u8::try_from(slice) {
            Ok(short) if short < 126 => self.pending.push(mask[1] | short),
            _ => {
                self.pending.push(mask[1] | 0x7e);
                // A slice is shorter than 64 KiB.
                self.pending.extend_from_slice(&slice.to_be_bytes()[6..]);
            }
        }
        self.pending.extend_from_slice(&mask[2..]);
        self.at = At::Payload { slice, rest: left - slice, mask };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sliced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.pending.is_empty() {
                let length = this.pending.len().min(buf.remaining());
                buf.put_slice(&this.pending[..length]);
                this.pending.drain(..length);
                return Poll::Ready(Ok(()));
            }
            match &mut this.at {
                At::Untouched => return Pin::new(&mut this.inner).poll_read(cx, buf),
                At::Payload { slice: 0, rest: 0, .. } => this.at = At::Head,
                At::Payload { slice: 0, rest, mask } => {
                    let (rest, mask) = (*rest, std::mem::take(mask));
                    this.begin_slice(rest, mask);
                }
                At::Payload { slice, .. } => {
                    let most = usize::try_from(*slice).unwrap_or(usize::MAX).min(buf.remaining());
                    let came = if this.unread.is_empty() {
                        let mut into = ReadBuf::new(buf.initialize_unfilled_to(most));
                        ready!(Pin::new(&mut this.inner).poll_read(cx, &mut into))?;
                        let came = into.filled().len();
                        buf.advance(came);
                        came
                    } else {
                        let came = this.unread.len().min(most);
                        buf.put_slice(&this.unread[..came]);
                        this.unread.advance(came);
                        came
                    };
                    *slice -= came as u64;
                    return Poll::Ready(Ok(()));
                }
                At::Request(_) | At::Head if this.unread.is_empty() => {
                    let mut bytes = [0; UNREAD_BYTES];
                    let mut into = ReadBuf::new(&mut bytes);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut into))?;
                    if into.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    this.unread.extend_from_slice(into.filled());
                }
                At::Request(request) => {
                    let most = this.unread.len().min(buf.remaining());
                    let end = this.unread[..most].iter().position(|byte| request.take(*byte));
                    let length = end.map_or(most, |end| end + 1);
                    buf.put_slice(&this.unread[..length]);
                    this.unread.advance(length);
                    if end.is_some() {
                        this.at = At::Head;
                    }
                    return Poll::Ready(Ok(()));
                }
                At::Head => {
                    let byte = this.unread.get_u8();
                    this.take(byte)?;
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sliced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// A frame with this first byte, masked by zeros; `declared` where its head lies about its length.
    fn frame(first: u8, payload: &[u8], declared: u64) -> Vec<u8> {
        let mut bytes = vec![first];
        match declared {
            0..126 => bytes.push(0x80 | u8::try_from(declared).unwrap()),
            126..65_536 => {
                bytes.push(0x80 | 0x7e);
                bytes.extend_from_slice(&declared.to_be_bytes()[6..]);
            }
            _ => {
                bytes.push(0x80 | 0x7f);
                bytes.extend_from_slice(&declared.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&[1, 2, 3, 4]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn whole(first: u8, payload: &[u8]) -> Vec<u8> {
        frame(first, payload, payload.len() as u64)
    }

    /// What is handed on, however the bytes come.
    async fn sliced(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut outcomes = Vec::new();
        for pieces in [1, 3, 1_000, 1 << 20] {
            let bytes: Vec<Vec<u8>> = bytes.chunks(pieces).map(<[u8]>::to_vec).collect();
            let (mut theirs, ours) = tokio::io::duplex(1 << 21);
            let writing = async move {
                for piece in bytes {
                    tokio::io::AsyncWriteExt::write_all(&mut theirs, &piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let mut found = Vec::new();
            let mut stream = Sliced::behind_request(ours);
            let ((), outcome) = tokio::join!(writing, stream.read_to_end(&mut found));
            outcomes.push(outcome.map(|_| found));
        }
        let first = outcomes.remove(0);
        for outcome in outcomes {
            assert_eq!(outcome.as_ref().ok(), first.as_ref().ok(), "it depends on the pieces");
        }
        first
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn each_frame_of_a_binary_message_is_handed_on_in_messages_of_their_own() {
        let large: Vec<u8> = (0..40_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let came = [
            REQUEST,
            &whole(0x82, b"short"),
            &whole(0x02, &large),
            &whole(0x89, b"ping within"),
            &whole(0x00, b""),
            &whole(0x80, b"end"),
            &whole(0x82, &large[..16_384]),
            &whole(0x88, b""),
        ]
        .concat();
        let expected = [
            REQUEST,
            &whole(0x82, b"short"),
            &whole(0x82, &large[..16_384]),
            &whole(0x82, &large[16_384..32_768]),
            &whole(0x82, &large[32_768..]),
            &whole(0x89, b"ping within"),
            &whole(0x82, b""),
            &whole(0x82, b"end"),
            &whole(0x82, &large[..16_384]),
            &whole(0x88, b""),
        ]
        .concat();
        assert!(sliced(&came).await.unwrap() == expected);
    }

    #[tokio::test]
    async fn a_request_ends_where_the_library_takes_it_to_end() {
        let frames = whole(0x82, &vec![7; 20_000]);
        let slices = [whole(0x82, &[7; 16_384]), whole(0x82, &[7; 20_000 - 16_384])].concat();
        for request in [
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\nHost: x\r\n\n",
            "\r\n\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let came = sliced(&[request.as_bytes(), &frames].concat()).await.unwrap();
            assert!(came == [request.as_bytes(), &slices].concat(), "{request:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_binary_message_is_left_to_the_library() {
        for rest in [
            whole(0x01, &vec![b'x'; 20_000]),
            [whole(0x01, b"x"), whole(0x80, b"end")].concat(),
            whole(0x80, b"the end of nothing"),
            frame(0x8a, b"", 70_000),
            vec![0x82, 5, 1, 2, 3, 4, 5],
            whole(0xc2, b"reserved bits"),
        ] {
            let all = [REQUEST, &rest].concat();
            assert!(sliced(&all).await.unwrap() == all, "{:02x}", rest[0]);
        }
        for begun in [whole(0x82, b"x"), whole(0x01, b"x")] {
            let all = [REQUEST, &whole(0x02, b"x"), &begun].concat();
            assert_eq!(sliced(&all).await.unwrap_err().to_string(), "a message begins within another");
        }
    }

    #[tokio::test]
    async fn of_a_frame_that_is_said_to_be_huge_comes_what_has_come() {
        let all = [REQUEST, &frame(0x82, &vec![7; 20_000], 1 << 40)].concat();
        let found = sliced(&all).await.unwrap();
        let slice = whole(0x82, &[7; 16_384]);
        assert!(found[REQUEST.len()..].starts_with(&slice));
        assert_eq!(found.len(), REQUEST.len() + slice.len() + 8 + 20_000 - 16_384);
    }
}

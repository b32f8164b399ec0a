//! Clients of TCP in WebSockets: a port of 127.0.0.1 whose every connection goes on in a WebSocket of its own. Written by hand from RFC 6455.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// The key of the specification's example, and the answer to it (§1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The port. It stays for as long as the test's process.
pub(crate) struct Web {
    port: u16,
}

impl Web {
    /// In front of a port of 127.0.0.1.
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind 127.0.0.1:0");
        let port = listener.local_addr().expect("it is bound").port();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.expect("accept");
                near.set_nodelay(true).expect("set an option of TCP");
                // A client whose WebSocket is refused finds its connection closed.
                if let Ok(far) = open(target) {
                    carry(near, far);
                }
            }
        });
        Self { port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Asks for a WebSocket with these fields beside the required ones; returns the connection and the head of the answer.
pub(crate) fn ask(target: u16, fields: &str) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", target))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1:{target}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{fields}\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok((stream, String::from_utf8_lossy(&head).into_owned()))
}

/// Opens one for MQTT.
pub(crate) fn open(target: u16) -> std::io::Result<TcpStream> {
    let (stream, head) = ask(target, "Sec-WebSocket-Protocol: mqtt\r\n")?;
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
        values.next()
    };
    let is_right = head.starts_with("HTTP/1.1 101 ")
        && field("Sec-WebSocket-Accept").as_deref() == Some(ANSWER)
        && field("Sec-WebSocket-Protocol").as_deref() == Some("mqtt");
    if is_right { Ok(stream) } else { Err(std::io::Error::other(format!("answered by {head}"))) }
}

/// The head of a client's binary frame of this length (§5.2).
pub(crate) fn head(length: usize) -> Vec<u8> {
    let mut head = vec![0x82];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => head.push(0x80 | short),
        (_, Ok(length)) => {
            head.push(0xfe);
            head.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            head.push(0xff);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head.extend_from_slice(&MASK);
    head
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = head(payload.len());
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ MASK[index % 4]));
    frame
}

fn carry(near: TcpStream, far: TcpStream) {
    let (mut from_near, mut to_far) = (near.try_clone().expect("clone"), far.try_clone().expect("clone"));
    std::thread::spawn(move || {
        let mut bytes = vec![0; 32 << 10];
        while let Ok(length @ 1..) = from_near.read(&mut bytes) {
            // Packets and frames need not agree [MQTT-6.0.0-2]: the first byte of each goes alone.
            if to_far.write_all(&frame(&bytes[..1])).and_then(|()| to_far.write_all(&frame(&bytes[1..length]))).is_err()
            {
                break;
            }
        }
        // A client that goes closes its WebSocket without a word; its TCP says the rest.
        let _ = to_far.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ = deliver(far, &near);
        let _ = near.shutdown(Shutdown::Both);
    });
}

/// Hands on what is in the server's frames until it closes.
fn deliver(mut far: TcpStream, mut near: &TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = [0; 2];
        far.read_exact(&mut head)?;
        assert!(head[1] & 0x80 == 0, "a server's frame is not masked (§5.1)");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                far.read_exact(&mut length)?;
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                far.read_exact(&mut length)?;
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).expect("a frame that fits into memory")];
        far.read_exact(&mut payload)?;
        match head[0] {
            0x82 => near.write_all(&payload)?,
            0x88 => return Ok(()),
            first => panic!("a frame that begins with {first:#x}"),
        }
    }
}

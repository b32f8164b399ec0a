//! A WebSocket against a peer written by hand, frame by frame: what a well-behaved one may do, and what a rude one does.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The head of the request that `peer` is sent.
async fn request(peer: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The right answer to a request, with `fields` beside the required ones.
fn welcome(request: &str, fields: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{fields}\r\n"
    )
}

/// How the attempt ends with a peer that answers so.
fn answered(answer: impl Fn(&str) -> String + Send + 'static) -> Result<(), String> {
    block_on(async {
        let (ours, mut peer) = tokio::io::duplex(1 << 20);
        let peer = tokio::spawn(async move {
            let request = request(&mut peer).await;
            let _ = peer.write_all(answer(&request).as_bytes()).await;
        });
        let outcome = WebSocket::connect(ours, "cloud.example:8083", "/mqtt").await;
        peer.await.unwrap();
        outcome.map(drop).map_err(|error| error.to_string())
    })
}

/// An open WebSocket and its peer.
async fn open() -> (WebSocket<DuplexStream>, DuplexStream) {
    let (ours, mut peer) = tokio::io::duplex(64 << 10);
    let greets = tokio::spawn(async move {
        let request = request(&mut peer).await;
        peer.write_all(welcome(&request, "Sec-WebSocket-Protocol: mqtt\r\n").as_bytes()).await.unwrap();
        peer
    });
    let socket = WebSocket::connect(ours, "cloud.example", "/mqtt").await.unwrap();
    (socket, greets.await.unwrap())
}

/// A frame as a server sends it: not masked. `first` holds FIN and the opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The next frame that the client sent: its first byte, and its payload without the mask it must have.
async fn sent(peer: &mut DuplexStream) -> (u8, Vec<u8>) {
    let first = peer.read_u8().await.unwrap();
    let length = peer.read_u8().await.unwrap();
    assert_eq!(length & 0x80, 0x80, "a client's frame is masked [RFC 6455 §5.1]");
    let length = match length & 0x7f {
        126 => usize::from(peer.read_u16().await.unwrap()),
        127 => usize::try_from(peer.read_u64().await.unwrap()).unwrap(),
        short => usize::from(short),
    };
    let mut mask = [0; 4];
    peer.read_exact(&mut mask).await.unwrap();
    let mut payload = vec![0; length];
    peer.read_exact(&mut payload).await.unwrap();
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
    (first, payload)
}

/// What reading says after the peer sent these frames.
fn told(frames: &[u8]) -> String {
    block_on(async {
        let (mut socket, mut peer) = open().await;
        peer.write_all(frames).await.unwrap();
        let mut input = [0; 64];
        match socket.read(&mut input).await {
            Ok(0) => "end".into(),
            Ok(length) => format!("{:?}", &input[..length]),
            Err(error) => error.to_string(),
        }
    })
}

#[test]
fn the_request_names_host_path_and_subprotocol() {
    block_on(async {
        let (ours, mut peer) = tokio::io::duplex(4096);
        let asks = tokio::spawn(async move { WebSocket::connect(ours, "[::1]:8083", "/a/b").await.map(drop) });
        let head = request(&mut peer).await;
        drop(peer);
        assert!(head.starts_with("GET /a/b HTTP/1.1\r\n"), "{head}");
        for field in
            ["Host: [::1]:8083", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: mqtt"]
        {
            assert!(head.lines().any(|line| line == field), "no `{field}` in {head}");
        }
        let error = asks.await.unwrap().unwrap_err().to_string();
        assert_eq!(error, "the cloud closed the connection when asked for a WebSocket");
    });
}

#[test]
fn a_server_that_answers_right_is_taken() {
    assert_eq!(answered(|request| welcome(request, "Sec-WebSocket-Protocol: mqtt\r\nServer: x\r\n")), Ok(()));
}

#[test]
fn an_answer_that_opens_no_websocket_is_told_in_words() {
    let refused = |answer: &str| {
        let answer = answer.to_owned();
        answered(move |_| answer.clone()).unwrap_err()
    };
    assert_eq!(
        refused("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        "the cloud answered 404 Not Found when asked for a WebSocket at `/mqtt`: is this the path of its MQTT?"
    );
    assert_eq!(
        refused("HTTP/1.1 403 Forbidden\r\n\r\n"),
        "the cloud answered 403 Forbidden when asked for a WebSocket at `/mqtt`"
    );
    assert!(refused("HTTP/1.1 302 Found\r\nLocation: http://a/\r\n\r\n").ends_with("is not followed there"));
    assert!(refused("HTTP/1.1 200 OK\r\n\r\n").ends_with("opens no WebSocket there"));
    // CONNACK of an MQTT server, and a banner.
    assert!(refused("\u{20}\u{2}\0\u{1}\r\n\r\n").ends_with("is this the port of its WebSockets?"));
    assert!(refused("220 mail.example ESMTP\r\n\r\n").ends_with("is this the port of its WebSockets?"));
    assert_eq!(refused(""), "the cloud closed the connection when asked for a WebSocket");
}

#[test]
fn an_answer_without_the_subprotocol_or_with_another_is_refused() {
    let without = answered(|request| welcome(request, ""));
    assert_eq!(without, Err("the cloud answered without the WebSocket subprotocol `mqtt`".into()));
    for other in ["amqp", "mqtt, amqp", "mqttv3.1"] {
        let told = answered(move |request| welcome(request, &format!("Sec-WebSocket-Protocol: {other}\r\n")));
        assert_eq!(told, Err(OTHER_SUBPROTOCOL.into()), "{other}");
    }
}

#[test]
fn an_answer_to_another_key_or_with_an_extension_is_refused() {
    let fields = "Sec-WebSocket-Protocol: mqtt\r\n";
    let other = answered(move |request| {
        let right = welcome(request, fields);
        let at = right.find("Accept: ").unwrap() + 8;
        format!("{}{}{}", &right[..at], "A".repeat(300), &right[right[at..].find('\r').unwrap() + at..])
    });
    assert!(other.unwrap_err().contains("Sec-WebSocket-Accept"));
    let extended =
        answered(move |request| welcome(request, &format!("{fields}Sec-WebSocket-Extensions: permessage-deflate\r\n")));
    assert!(extended.unwrap_err().ends_with("not asked for"));
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let endless = answered(|_| format!("HTTP/1.1 101 Switching Protocols\r\nX: {}", "x".repeat(200_000)));
    assert_eq!(endless, Err("the cloud's answer has no end when asked for a WebSocket".into()));
    let many = answered(|request| welcome(request, &"X: y\r\n".repeat(1_000)));
    assert!(many.is_err());
}

#[test]
fn bytes_come_whatever_frames_they_came_in() {
    block_on(async {
        let (mut socket, mut peer) = open().await;
        // One packet over three messages, one of them in fragments with a ping between them, and two packets in one.
        let mut frames = frame(0x82, &[1, 2]);
        frames.extend(frame(0x02, &[3]));
        frames.extend(frame(0x89, b"are you there"));
        frames.extend(frame(0x80, &[4, 5]));
        frames.extend(frame(0x82, &[]));
        frames.extend(frame(0x82, &[6; 300]));
        peer.write_all(&frames).await.unwrap();
        let mut input = vec![0; 305];
        socket.read_exact(&mut input).await.unwrap();
        assert_eq!(input, [&[1, 2, 3, 4, 5][..], &[6; 300][..]].concat());
        assert_eq!(sent(&mut peer).await, (0x8a, b"are you there".to_vec()), "the pong");
    });
}

#[test]
fn what_is_written_goes_out_in_binary_frames_of_bounded_size() {
    block_on(async {
        let (mut socket, mut peer) = open().await;
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let written = bytes.clone();
        let writes = tokio::spawn(async move {
            socket.write_all(&written).await.unwrap();
            socket.flush().await.unwrap();
            socket
        });
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let (first, payload) = sent(&mut peer).await;
            assert_eq!(first, 0x82, "a whole binary message");
            assert!(payload.len() <= WEBSOCKET_FRAME_BYTES);
            got.extend(payload);
        }
        assert!(got == bytes);
        drop(writes.await.unwrap());
    });
}

#[test]
fn a_peer_that_takes_nothing_is_not_written_to_without_end() {
    block_on(async {
        let (mut socket, mut peer) = open().await;
        let mut taken = 0;
        let give_up = std::time::Duration::from_millis(100);
        while let Ok(wrote) = tokio::time::timeout(give_up, socket.write(&vec![7; 64 << 10])).await {
            taken += wrote.unwrap();
            assert!(taken < 1 << 20, "the library buffers without end");
        }
        // 64 KiB of the pipe, and at most two frames beyond it.
        assert!(taken <= (64 << 10) + 2 * WEBSOCKET_FRAME_BYTES, "{taken} bytes were taken");
        // Pings of a peer that reads nothing are answered with what there is room for.
        for _ in 0..2_000 {
            peer.write_all(&frame(0x89, &[1; 100])).await.unwrap();
            // What is there to read is read at the first look; there is nothing for us in it.
            tokio::select! {
                biased;
                read = socket.read_u8() => panic!("{read:?}"),
                () = std::future::ready(()) => {}
            }
        }
        peer.write_all(&frame(0x82, &[9])).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), 9);
    });
}

#[test]
fn a_close_frame_is_told_with_its_code_and_reason() {
    let close = |code: u16, reason: &str| told(&frame(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat()));
    assert_eq!(close(1000, ""), "end");
    assert_eq!(told(&frame(0x88, &[])), "end");
    assert_eq!(close(1008, "quota\nused"), "the cloud closed the WebSocket: 1008, against its policy, quota used");
    assert_eq!(close(1012, ""), "the cloud closed the WebSocket: 1012, it restarts");
    assert_eq!(close(4001, "gone"), "the cloud closed the WebSocket: 4001, gone");
}

#[test]
fn frames_that_have_no_place_in_mqtt_or_are_wrong_end_it() {
    assert_eq!(told(&frame(0x81, b"hello")), "the cloud sent a WebSocket text frame, and MQTT has none");
    let broke = |frames: &[u8]| {
        let told = told(frames);
        assert!(told.starts_with("the cloud broke the WebSocket: "), "{told}");
    };
    // A continuation of nothing, a reserved opcode, a reserved bit, a masked frame, a ping in fragments, text that is none.
    broke(&frame(0x80, &[1]));
    broke(&frame(0x83, &[1]));
    broke(&frame(0xc2, &[1]));
    broke(&[0x82, 0x81, 1, 2, 3, 4, 5]);
    broke(&frame(0x09, &[1]));
    broke(&frame(0x81, &[0xff, 0xfe]));
}

#[test]
fn a_message_larger_than_is_taken_ends_it_before_it_is_there() {
    let mut frames = vec![0x82, 127];
    frames.extend_from_slice(&(1_u64 << 40).to_be_bytes());
    assert!(told(&frames).starts_with("the cloud sent a WebSocket message of 1099511627776 bytes"));
}

#[test]
fn a_goodbye_sends_a_close_frame_and_waits_for_the_server_s() {
    block_on(async {
        let (mut socket, mut peer) = open().await;
        let leaves = tokio::spawn(async move { socket.shutdown().await.map(|()| socket) });
        let (first, _) = sent(&mut peer).await;
        assert_eq!(first, 0x88);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(!leaves.is_finished(), "it did not wait");
        peer.write_all(&frame(0x88, &1000_u16.to_be_bytes())).await.unwrap();
        drop(peer);
        leaves.await.unwrap().unwrap();
    });
}

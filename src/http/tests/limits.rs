//! What a visitor cannot make the gateway do: hold much, or wait long.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::{SHORT, hasty, open, page, without_control};
use crate::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_STREAMS_MAX,
};

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn a_head_that_is_too_long_or_has_too_many_fields_is_refused() {
    let page = page().await;
    let long = format!("X-Long: {}\r\n", "x".repeat(HTTP_HEAD_BYTES_MAX));
    assert_eq!(page.ask("GET", "/", &long, "").await.status, 431);
    let many = "X: 1\r\n".repeat(HTTP_HEADERS_MAX);
    assert_eq!(page.ask("GET", "/", &many, "").await.status, 431);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_and_one_that_just_fits_is_read() {
    let page = page().await;
    let body = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let set = "/api/actuators/pump/set";
    assert_eq!(page.ask("POST", set, JSON, &body(HTTP_BODY_BYTES_MAX)).await.status, 200);
    assert_eq!(page.ask("POST", set, JSON, &body(HTTP_BODY_BYTES_MAX + 1)).await.status, 413);
}

#[tokio::test]
async fn half_a_head_and_half_a_body_are_not_waited_for() {
    let page = hasty().await;
    let began = tokio::time::Instant::now();
    let mut slow = open(page.address).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(began.elapsed() >= SHORT);

    let began = tokio::time::Instant::now();
    let half = format!(
        "POST /api/actuators/pump/set HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}Content-Length: 9\r\n\r\n\"o"
    );
    let answer = page.raw(&half).await;
    assert_eq!((answer.status, page.given().len()), (408, 0));
    assert!(began.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_after_a_while() {
    let page = hasty().await;
    let mut idle = open(page.address).await.unwrap();
    idle.write_all(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    idle.read_to_end(&mut all).await.unwrap();
    assert!(all.starts_with(b"HTTP/1.1 200"), "answered, kept, and closed");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_the_next_after_one_has_gone_is_served() {
    let page = page().await;
    let mut taken = Vec::new();
    for _ in 0..HTTP_CONNECTIONS_MAX {
        let mut visitor = open(page.address).await.unwrap();
        visitor.write_all(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        visitor.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        taken.push(visitor);
    }
    let mut refused = open(page.address).await.unwrap();
    // Closed, or reset where the request came in between.
    let _ = refused.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut nothing = Vec::new();
    let _ = refused.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
    assert_eq!(page.control("GET", "/healthz", "").await.status, 200, "the command line has places of its own");
    taken.clear();
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while page.try_get("/").await.is_none() {
        assert!(tokio::time::Instant::now() < end, "there is room again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn one_open_page_too_many_is_told_to_come_again() {
    let page = page().await;
    let mut streams = Vec::new();
    for _ in 0..HTTP_STREAMS_MAX {
        let mut stream = page.stream("").await;
        stream.next("overview").await;
        streams.push(stream);
    }
    let busy = page.get("/api/stream").await;
    assert_eq!((busy.status, busy.field("retry-after")), (503, "5"));
    streams.pop();
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while page.stream("").await.status != 200 {
        assert!(tokio::time::Instant::now() < end, "a place is free once a page has gone");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_control_socket_that_could_not_be_made_is_tried_again() {
    let page = without_control().await;
    let socket = page.socket();
    assert_eq!(std::fs::read(&socket).unwrap(), b"in the way", "it is left alone");
    std::fs::remove_file(&socket).unwrap();
    let coming = async {
        loop {
            match tokio::net::UnixStream::connect(&socket).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let mut stream = tokio::time::timeout(Duration::from_secs(20), coming).await.expect("it is made");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    page.stop().await;
    assert!(!socket.exists(), "it goes with the gateway");
}

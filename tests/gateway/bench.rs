//! Does the bench itself do what the tests believe? A proof is worth no more than its instruments.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::need_mosquitto;
use crate::support::mosquitto::Setup;
use crate::support::{
    Certificates, Cut, Door, Link, Mosquitto, Received, Subscriber, Tty, publish, publish_lines, wait_until,
};

const LIMIT: Duration = Duration::from_secs(10);

fn message(topic: &str, qos: u8, retain: bool, payload: &str) -> Received {
    Received { topic: topic.to_owned(), qos, retain, payload: payload.to_owned() }
}

#[test]
fn a_subscriber_sees_topic_qos_retain_flag_and_payload() {
    need_mosquitto!();
    let cloud = Mosquitto::start();
    let subscriber = Subscriber::new(&cloud.door(), "a/#");
    publish(&cloud.door(), "a/b", "with spaces and % signs", &["-q", "2", "-r"]);
    // A QoS 2 message may be overtaken by the next while its handshake goes on.
    subscriber.wait_count(LIMIT, 1, |_| true);
    publish_lines(&cloud.door(), "a/c", (1..=3).map(|n| n.to_string()), &["-q", "1"]);
    let got = subscriber.wait_count(LIMIT, 4, |_| true);
    assert_eq!(
        got,
        [
            message("a/b", 2, true, "with spaces and % signs"),
            message("a/c", 1, false, "1"),
            message("a/c", 1, false, "2"),
            message("a/c", 1, false, "3"),
        ]
    );
}

#[test]
fn a_killed_cloud_comes_back_on_its_port_with_what_it_kept() {
    need_mosquitto!();
    let mut cloud = Mosquitto::start();
    publish(&cloud.door(), "kept", "1", &["-q", "1", "-r"]);
    wait_until(LIMIT, "mosquitto to save the message", || cloud.has_saved("kept"));
    cloud.kill();
    cloud.restart();
    let subscriber = Subscriber::new(&cloud.door(), "#");
    assert_eq!(subscriber.wait(LIMIT, "the retained message", |_| true), message("kept", 1, true, "1"));
}

#[test]
fn a_cloud_with_users_lets_only_them_in() {
    need_mosquitto!();
    let cloud = Setup::new().user("ann", "right").start();
    assert!(publish(&cloud.door(), "a", "1", &[]).status.success());
    assert!(!publish(&Door::plain(cloud.port()), "a", "1", &[]).status.success());
    assert!(!publish(&Door::plain(cloud.port()).login("ann", "wrong"), "a", "1", &[]).status.success());
}

#[test]
fn certificates_are_what_they_are_called() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let certs = Certificates::make(dir.path());
    let client = Some((certs.client.cert.clone(), certs.client.key.clone()));
    let outcome = |server: &crate::support::certs::Pair, ca: &std::path::Path, certificate| {
        let cloud = Setup::new().tls(certs.ca.clone(), server.clone()).start();
        let door = Door { port: cloud.port(), ca: Some(ca.to_owned()), certificate, ..Door::default() };
        publish(&door, "a", "1", &["-q", "1"]).status.success()
    };
    assert!(outcome(&certs.server, &certs.ca, client.clone()), "a good certificate");
    assert!(!outcome(&certs.server, &certs.ca, None), "no client certificate");
    assert!(!outcome(&certs.server, &certs.other_ca, client.clone()), "another root");
    assert!(!outcome(&certs.expired, &certs.ca, client.clone()), "expired");
    assert!(!outcome(&certs.wrong_name, &certs.ca, client), "wrong name");
}

/// A peer that sends back what it gets.
fn echo() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for peer in listener.incoming() {
            let peer = peer.unwrap();
            std::thread::spawn(move || std::io::copy(&mut &peer, &mut &peer));
        }
    });
    port
}

fn through(link: &Link) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", link.port())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn round_trip(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, bytes);
    Ok(())
}

#[test]
fn a_link_cut_by_reset_says_so_and_serves_the_next_connection() {
    let link = Link::to(echo());
    let mut stream = through(&link);
    round_trip(&mut stream, b"one").unwrap();
    link.cut(Cut::Reset);
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    round_trip(&mut through(&link), b"two").unwrap();
}

#[test]
fn a_link_cut_by_fin_ends_in_an_end_of_file() {
    let link = Link::to(echo());
    let mut stream = through(&link);
    round_trip(&mut stream, b"one").unwrap();
    link.cut(Cut::Fin);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_link_that_is_down_refuses_until_it_is_up() {
    let link = Link::to(echo());
    link.down();
    assert!(round_trip(&mut through(&link), b"one").is_err());
    link.up();
    round_trip(&mut through(&link), b"two").unwrap();
    assert_eq!(link.opened(), 2);
}

#[test]
fn a_black_hole_takes_everything_and_closes_nothing() {
    let link = Link::to(echo());
    let mut before = through(&link);
    round_trip(&mut before, b"one").unwrap();
    link.black_hole();
    let mut during = through(&link);
    for stream in [&mut before, &mut during] {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream.write_all(b"two").unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "neither bytes nor an end");
    }
    link.up();
    round_trip(&mut through(&link), b"three").unwrap();
}

#[test]
fn a_slow_link_passes_its_rate_and_no_more() {
    let link = Link::to(echo());
    link.rate(20_000);
    let start = Instant::now();
    round_trip(&mut through(&link), &[7; 10_000]).unwrap();
    let took = start.elapsed();
    assert!(took > Duration::from_millis(450), "10,000 bytes at 20,000 a second took {took:?}");
}

#[test]
fn a_pulled_tty_ends_its_reader_and_a_new_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut tty = Tty::plug(dir.path().join("sensor"));
    let mut port = std::fs::File::open(tty.path()).unwrap();
    tty.line("one");
    let mut got = [0; 5];
    port.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"one\r\n", "raw: nothing is translated");
    let first = std::fs::read_link(tty.path()).unwrap();
    tty.unplug();
    assert!(!tty.path().exists());
    wait_until(LIMIT, "the reader to meet the end", || !matches!(port.read(&mut got), Ok(n) if n > 0));
    tty.replug();
    assert_ne!(std::fs::read_link(tty.path()).unwrap(), first, "the old name is still held by the reader");
    let mut port = std::fs::File::open(tty.path()).unwrap();
    tty.line("two");
    port.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"two\r\n");
}

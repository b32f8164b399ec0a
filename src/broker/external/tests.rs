//! The client against a broker of bytes, on a clock that stands.

mod edges;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::session::{Close, Session, Turn, words};
use crate::broker::settings::{CloudUrl, External, VersionChoice};
use crate::limits::{ANSWER_WAIT, EXTERNAL_RECEIVE};
use crate::logic::spool::Spool;
use crate::model::{GatewayId, Message, Moment, Origin, Qos, TopicFilter, TopicName};
use crate::mqtt::client::Version;
use crate::ports::NotAccepted;

fn settings(filters: &[&str]) -> External {
    External {
        gateway: GatewayId::parse("g").unwrap(),
        url: CloudUrl { tls: false, host: "127.0.0.1".into(), port: 1883, path: None },
        version: VersionChoice::Auto,
        client_id: "tidegate-g".into(),
        username: None,
        password: None,
        keep_alive: Duration::from_secs(30),
        tls: None,
        max_packet: 1 << 20,
        status_topic: TopicName::parse("tidegate/g/status").unwrap(),
        filters: filters.iter().map(|filter| TopicFilter::parse(filter).unwrap()).collect(),
    }
}

fn at(seconds: u64) -> Moment {
    Moment::at(Duration::from_secs(seconds))
}

fn message(topic: &str, payload: &str, qos: Qos, retain: bool) -> Arc<Message> {
    let topic = TopicName::parse(topic).unwrap();
    Arc::new(Message::new(topic, payload.as_bytes(), qos, retain, Origin::Gateway))
}

/// Serial and payload of an offer.
type Offered = (Option<u64>, String);

/// A client, what waits for it, and the bytes between it and a broker that the test plays.
struct Desk {
    session: Session,
    spool: Spool,
    now: Moment,
    version: Version,
}

impl Desk {
    fn new(version: Version, filters: &[&str]) -> Self {
        let session = Session::new(Arc::new(settings(filters)), [].into(), false);
        Self { session, spool: Spool::default(), now: at(0), version }
    }

    /// Connects; returns the packets that follow the broker's CONNACK.
    fn connect(&mut self, session_present: bool) -> Vec<Vec<u8>> {
        self.session.disconnected(&mut self.spool);
        let connect = self.session.connect(self.version, self.now).unwrap();
        assert_eq!(connect[0], 0x10);
        let present = u8::from(session_present);
        match self.version {
            Version::V311 => self.hear(&[0x20, 2, present, 0]),
            Version::V5 => self.hear(&[0x20, 3, present, 0, 0]),
        }
        self.turn().0
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.session.receive(bytes, &mut self.spool, self.now).unwrap();
    }

    /// What it says, and the serials and payloads it offers.
    fn turn(&mut self) -> (Vec<Vec<u8>>, Vec<Offered>) {
        let Turn { bytes, offers, .. } = self.session.turn(&mut self.spool, self.now, 0);
        let told =
            offers.iter().map(|offer| (offer.serial, String::from_utf8(offer.message.payload.to_vec()).unwrap()));
        (packets(&bytes), told.collect())
    }

    fn says(&mut self) -> Vec<Vec<u8>> {
        self.turn().0
    }

    /// The broker publishes.
    fn publish(&mut self, first: u8, topic: &str, pkid: Option<u16>, payload: &str) {
        let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
        body.extend_from_slice(topic.as_bytes());
        if let Some(pkid) = pkid {
            body.extend_from_slice(&pkid.to_be_bytes());
        }
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend_from_slice(payload.as_bytes());
        let mut packet = vec![first, u8::try_from(body.len()).unwrap()];
        packet.append(&mut body);
        self.hear(&packet);
    }
}

/// Cuts bytes into packets; all of the tests' are short.
fn packets(bytes: &BytesMut) -> Vec<Vec<u8>> {
    let mut rest = &bytes[..];
    let mut packets = Vec::new();
    while let [_, length, ..] = rest {
        let (mut total, mut length) = (2 + usize::from(*length & 0x7f), *length);
        if length & 0x80 != 0 {
            length = rest[2];
            total = 3 + usize::from(rest[1] & 0x7f) + 128 * usize::from(length);
        }
        packets.push(rest[..total].to_vec());
        rest = &rest[total..];
    }
    packets
}

fn kinds(packets: &[Vec<u8>]) -> Vec<u8> {
    packets.iter().map(|packet| packet[0] >> 4).collect()
}

fn payloads(packets: &[Vec<u8>]) -> Vec<String> {
    let publishes = packets.iter().filter(|packet| packet[0] >> 4 == 3);
    // Topics of the tests are one letter, or `tidegate/g/status`.
    publishes
        .map(|packet| String::from_utf8_lossy(packet).chars().rev().take(2).collect::<String>())
        .map(|p| p.chars().rev().collect())
        .collect()
}

const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;

#[test]
fn what_is_subscribed_to_is_asked_for_with_each_connection_without_what_is_retained_and_without_an_echo() {
    let mut desk = Desk::new(Version::V5, &["out/#"]);
    desk.session = Session::new(Arc::new(settings(&["out/#"])), ["of/old".to_owned()].into(), false);
    for (present, takes_back) in [(true, true), (false, false), (true, false)] {
        let said = desk.connect(present);
        assert_eq!(
            kinds(&said).contains(&10),
            takes_back,
            "what an earlier process had of another config, once: {said:?}"
        );
        let subscribe: Vec<_> = said.iter().filter(|packet| packet[0] == 0x82).collect();
        assert_eq!(subscribe.len(), 1, "{said:?}");
        // QoS 2, no local, retain as published, retained messages not sent [MQTT-5 §3.8.3.1].
        assert_eq!(*subscribe[0].last().unwrap(), 0b0010_1110);
    }
    assert_eq!(desk.says().len(), 0, "asked once");
    desk.session.apply(Arc::new(settings(&["other/#"])));
    assert_eq!(kinds(&desk.says()), [10, SUBSCRIBE], "UNSUBSCRIBE and SUBSCRIBE, on the same connection");
    desk.session.disconnected(&mut desk.spool);
    desk.session.apply(Arc::new(settings(&["third/#"])));
    assert_eq!(kinds(&desk.connect(true)), [10, SUBSCRIBE], "also when it changed while nobody was there");
}

#[test]
fn what_flew_when_the_connection_broke_is_said_again_first_and_once_more_when_the_session_is_gone() {
    let mut desk = Desk::new(Version::V5, &[]);
    desk.connect(false);
    for payload in ["m1", "m2"] {
        desk.spool.push(message("t", payload, Qos::AtLeastOnce, false));
    }
    let said = desk.says();
    assert_eq!(said.iter().map(|packet| packet[0]).collect::<Vec<_>>(), [0x32, 0x32]);
    let pkid = &said[0][5..7];
    desk.hear(&[0x40, 2, pkid[0], pkid[1]]);
    desk.spool.push(message("t", "m3", Qos::AtLeastOnce, false));
    let said = desk.connect(true);
    let said: Vec<_> = said.into_iter().filter(|packet| packet[0] >> 4 == PUBLISH).collect();
    assert_eq!((payloads(&said), said[0][0], said[1][0]), (vec!["m2".into(), "m3".into()], 0x3a, 0x32));
    let said = desk.connect(false);
    assert_eq!(payloads(&said), ["m2", "m3"]);
    assert_eq!(said[0][0], 0x32, "a new message to a broker that has forgotten it");
}

#[test]
fn the_gateway_s_own_states_are_told_again_after_a_reconnection_and_not_twice() {
    let mut desk = Desk::new(Version::V5, &[]);
    desk.spool.push(message("t", "s1", Qos::AtLeastOnce, true));
    assert_eq!(payloads(&desk.connect(false)), ["s1"], "it waited");
    assert_eq!(payloads(&desk.connect(true)), ["s1"], "not acknowledged yet: said again, and once");
    let said = desk.says();
    assert!(said.is_empty());
    desk.hear(&[0x40, 2, 0, 101]);
    assert_eq!(payloads(&desk.connect(true)), ["s1"], "the broker may have lost it");
    desk.hear(&[0x40, 2, 0, 102]);
    desk.session.disconnected(&mut desk.spool);
    desk.spool.push(message("t", "s2", Qos::AtLeastOnce, true));
    assert_eq!(payloads(&desk.connect(false)), ["s2"], "not the old one");
}

#[test]
fn a_new_life_releases_what_an_old_one_may_have_left_before_it_says_qos_2() {
    let mut desk = Desk::new(Version::V5, &[]);
    desk.spool.push(message("t", "m1", Qos::ExactlyOnce, false));
    let said = desk.connect(true);
    assert_eq!((kinds(&said), said.len()), (vec![6; 100], 100), "PUBREL, and no PUBLISH yet");
    for pkid in 1..100 {
        desk.hear(&[0x70, 3, 0, pkid, 0x92]);
    }
    assert!(desk.says().is_empty());
    desk.hear(&[0x70, 2, 0, 100]);
    assert_eq!(payloads(&desk.says()), ["m1"]);
    // The handshake.
    desk.hear(&[0x50, 2, 0, 1]);
    assert_eq!(desk.says(), [[0x62, 2, 0, 1]]);
    assert_eq!(desk.connect(true), [[0x62, 2, 0, 1]], "not the message again, and nothing is swept twice");
    desk.hear(&[0x70, 2, 0, 1]);
    assert!(desk.connect(true).is_empty());
}

#[test]
fn messages_are_acknowledged_once_they_are_taken() {
    for version in [Version::V311, Version::V5] {
        let mut desk = Desk::new(version, &["t"]);
        desk.connect(false);
        desk.publish(0x32, "t", Some(7), "m1");
        desk.publish(0x34, "t", Some(8), "m2");
        desk.publish(0x30, "t", None, "m3");
        let (said, offered) = desk.turn();
        assert!(said.is_empty());
        let expected = [(Some(0), "m1"), (Some(1), "m2"), (None, "m3")];
        assert_eq!(offered, expected.map(|(serial, payload)| (serial, payload.to_owned())));
        desk.session.settled(0, Ok(()), desk.now);
        assert_eq!(desk.says(), [[0x40, 2, 0, 7]]);
        let refused = NotAccepted::Stopping { bridge: "b".into() };
        assert!(desk.session.settled(1, Err(refused), desk.now).is_some());
        assert!(desk.says().is_empty());
        desk.now = at(1);
        let (_, offered) = desk.turn();
        assert_eq!(offered, [(Some(1), "m2".to_owned())]);
        desk.session.settled(1, Ok(()), desk.now);
        assert_eq!(desk.says(), [[0x50, 2, 0, 8]]);
        desk.hear(&[0x62, 2, 0, 8]);
        assert_eq!(desk.says(), [[0x70, 2, 0, 8]]);
    }
}

#[test]
fn of_a_broker_of_3_1_1_what_we_said_ourselves_does_not_go_up_again() {
    let mut desk = Desk::new(Version::V311, &["t"]);
    desk.connect(false);
    desk.spool.push(message("t", "m1", Qos::AtLeastOnce, false));
    assert_eq!(payloads(&desk.says()), ["m1"]);
    for pkid in 1..3 {
        desk.publish(0x32, "t", Some(pkid), "m1");
    }
    let (said, offered) = desk.turn();
    assert_eq!(said, [[0x40, 2, 0, 1]], "ours");
    assert_eq!(offered.len(), 1, "somebody else's");
    desk.publish(0x33, "t", Some(5), "m5");
    assert!(desk.turn().1.is_empty(), "kept from before the subscription");
    let mut desk = Desk::new(Version::V5, &["t"]);
    desk.connect(false);
    desk.publish(0x33, "t", Some(5), "m5");
    assert_eq!(desk.turn().1.len(), 1, "published as retained");
}

#[test]
fn it_is_asked_whether_it_is_there_and_given_up_when_it_does_not_answer() {
    let mut desk = Desk::new(Version::V5, &[]);
    desk.connect(false);
    desk.now = at(30);
    assert_eq!(desk.session.due(), Some(at(30)));
    assert_eq!(desk.says(), [[0xc0, 0]]);
    desk.now = at(40);
    assert_eq!(desk.session.turn(&mut desk.spool, desk.now, 0).close, Some(Close::Silent));
}

#[test]
fn it_leaves_once_all_is_said_and_acknowledged() {
    let mut desk = Desk::new(Version::V5, &[]);
    desk.connect(false);
    desk.spool.push(message("t", "m1", Qos::AtLeastOnce, false));
    desk.session.leave();
    let turn = desk.session.turn(&mut desk.spool, desk.now, 0);
    assert_eq!((kinds(&packets(&turn.bytes)), turn.close), (vec![PUBLISH], None));
    desk.hear(&[0x40, 2, 0, 101]);
    let turn = desk.session.turn(&mut desk.spool, desk.now, 0);
    assert_eq!((&turn.bytes[..], turn.close), (&[0xe0, 0][..], Some(Close::Left)));
}

#[test]
fn a_refusal_is_told_in_words() {
    let mut desk = Desk::new(Version::V5, &["a", "b"]);
    desk.session.connect(Version::V5, desk.now).unwrap();
    let close = desk.session.receive(&[0x20, 3, 0, 0x86, 0], &mut desk.spool, desk.now).unwrap_err();
    assert!(words(&close).starts_with("CONNACK 0x86 bad user name or password: `username`, `password`"), "{close:?}");
    let said = desk.connect(false);
    let pkid = &said[0][2..4];
    desk.hear(&[0x90, 5, pkid[0], pkid[1], 0, 0x87, 0x02]);
    assert_eq!(desk.session.complaint().unwrap(), "it refuses the subscription `a`: 0x87 not authorized");
    desk.session.apply(Arc::new(settings(&["b"])));
    assert_eq!(desk.session.complaint(), None);
}

#[test]
fn what_the_broker_does_not_take_is_dropped_and_counted() {
    let mut desk = Desk::new(Version::V5, &[]);
    desk.session.connect(Version::V5, desk.now).unwrap();
    // Maximum QoS 1, no retained messages, packets of 60 bytes.
    desk.hear(&[0x20, 12, 0, 0, 9, 0x24, 1, 0x25, 0, 0x27, 0, 0, 0, 60]);
    desk.spool.push(message("t", &"x".repeat(100), Qos::AtLeastOnce, false));
    desk.spool.push(message("t", "m1", Qos::ExactlyOnce, true));
    let said = desk.says();
    assert_eq!((said.len(), said[0][0]), (1, 0x32), "QoS 1, not retained");
    assert_eq!(desk.session.figures(), (0, 1, 1));
}

#[test]
fn a_full_inbound_neither_ends_the_connection_nor_keeps_the_next_one_from_its_welcome() {
    let mut desk = Desk::new(Version::V311, &["t"]);
    desk.connect(false);
    for pkid in 1..=EXTERNAL_RECEIVE {
        desk.publish(0x32, "t", Some(pkid), "m");
    }
    assert!(desk.session.listens(), "what it acknowledges is still read");
    desk.publish(0x32, "t", Some(EXTERNAL_RECEIVE + 1), "m");
    assert!(!desk.session.listens());
    for second in (0..600).step_by(5) {
        desk.now = at(second);
        let turn = desk.session.turn(&mut desk.spool, desk.now, 0);
        assert_eq!(turn.close, None, "at {second} s");
        assert_eq!(turn.bytes.ends_with(&[0xc0, 0]), second > 0 && second % 30 == 0, "at {second} s");
    }
    desk.session.disconnected(&mut desk.spool);
    desk.session.connect(Version::V311, desk.now).unwrap();
    assert!(desk.session.listens(), "for CONNACK");
    desk.hear(&[0x20, 2, 1, 0]);
    assert!(!desk.session.listens());
    desk.session.settled(0, Ok(()), desk.now);
    assert!(desk.session.listens());
}

#[test]
fn what_came_before_the_connection_ended_is_offered_and_nothing_is_said_for_it() {
    let mut desk = Desk::new(Version::V5, &["t"]);
    desk.connect(false);
    desk.publish(0x32, "t", Some(7), "m1");
    desk.session.disconnected(&mut desk.spool);
    assert_eq!(desk.turn().1, [(Some(0), "m1".to_owned())]);
    desk.session.settled(0, Ok(()), desk.now);
    desk.connect(true);
    desk.publish(0x3a, "t", Some(7), "m1");
    desk.publish(0x32, "t", Some(8), "m2");
    desk.spool.push(message("t", "q0", Qos::AtMostOnce, false));
    desk.session.receive(&[0xe0, 0], &mut desk.spool, desk.now).unwrap_err();
    assert_eq!(desk.session.take_offers().len(), 1);
    assert_eq!(desk.spool.len(), 1, "it waits for the next connection");
    desk.connect(true);
    desk.publish(0x3a, "t", Some(7), "m1");
    assert_eq!(desk.turn(), (vec![vec![0x40, 2, 0, 7]], Vec::new()), "still known: its PUBACK never left");
}

#[test]
fn a_session_after_a_fault_says_what_flew_and_the_gateway_s_own_states_again() {
    let mut desk = Desk::new(Version::V5, &[]);
    desk.spool.push(message("t", "s1", Qos::AtLeastOnce, true));
    let said = desk.connect(false);
    desk.hear(&[0x40, 2, said[0][5], said[0][6]]);
    desk.spool.push(message("t", "m1", Qos::AtLeastOnce, false));
    desk.spool.push(message("t", "m2", Qos::ExactlyOnce, false));
    assert_eq!(payloads(&desk.says()), ["m1", "m2"]);
    desk.hear(&[0x50, 2, 0, 1]);
    desk.session.give_back(&mut desk.spool);
    desk.session = Session::new(Arc::new(settings(&[])), [].into(), true);
    assert_eq!(payloads(&desk.connect(true)), ["s1", "m1"]);
    for pkid in 1..=100 {
        desk.hear(&[0x70, 3, 0, pkid, 0x92]);
    }
    assert!(desk.says().is_empty(), "the broker has m2");
}

#[test]
fn another_broker_knows_nothing_of_what_was_half_done_with_the_one_before() {
    let mut desk = Desk::new(Version::V5, &["t"]);
    let said = desk.connect(false);
    desk.hear(&[0x90, 4, said[0][2], said[0][3], 0, 0x87]);
    assert!(desk.session.complaint().is_some());
    for (payload, qos) in [("m1", Qos::AtLeastOnce), ("m2", Qos::ExactlyOnce)] {
        desk.spool.push(message("t", payload, qos, false));
    }
    assert_eq!(payloads(&desk.says()), ["m1", "m2"]);
    desk.hear(&[0x50, 2, 0, 1]);
    // One that is over, one that is not.
    for (serial, pkid) in [(0, 1), (1, 2)] {
        desk.publish(0x34, "t", Some(pkid), "d1");
        desk.session.settled(serial, Ok(()), desk.now);
    }
    desk.hear(&[0x62, 2, 0, 1]);
    desk.says();
    desk.session.moved(&mut desk.spool);
    assert_eq!(desk.session.complaint(), None);
    let said = desk.connect(true);
    let pubrels = said.iter().filter(|packet| packet[0] >> 4 == 6).count();
    let published: Vec<_> = said.into_iter().filter(|packet| packet[0] >> 4 == PUBLISH).collect();
    assert_eq!(pubrels, 100, "it may hold what an earlier life left there");
    assert_eq!((payloads(&published), published[0][0]), (vec!["m1".into()], 0x32), "new to it");
    for pkid in 1..=100 {
        desk.hear(&[0x70, 3, 0, pkid, 0x92]);
    }
    let said = desk.says();
    assert_eq!((payloads(&said), said[0][0]), (vec!["m2".into()], 0x34), "the one before had it, this one has not");
    for (first, pkid) in [(0x3c, 1), (0x34, 2)] {
        desk.publish(first, "t", Some(pkid), "d1");
        assert_eq!(desk.turn().1.len(), 1, "its packet id {pkid} is another's");
    }
    let mut desk = Desk::new(Version::V311, &["t"]);
    desk.connect(false);
    desk.spool.push(message("t", "m1", Qos::AtMostOnce, false));
    assert_eq!(payloads(&desk.says()), ["m1"]);
    desk.session.moved(&mut desk.spool);
    desk.connect(true);
    desk.publish(0x32, "t", Some(1), "m1");
    assert_eq!(desk.turn().1.len(), 1, "it was not said there");
}

#[test]
fn a_subscription_is_held_until_the_broker_says_that_it_is_gone() {
    let mut desk = Desk::new(Version::V5, &["a"]);
    desk.connect(false);
    let held = |desk: &Desk| desk.session.held().iter().cloned().collect::<Vec<_>>().join(" ");
    desk.session.apply(Arc::new(settings(&["b"])));
    let said = desk.says();
    assert_eq!((kinds(&said), held(&desk)), (vec![10, SUBSCRIBE], "a b".into()));
    assert!(desk.says().is_empty(), "asked once");
    assert_eq!(kinds(&desk.connect(true)), [10, SUBSCRIBE], "asked again: no answer came");
    desk.session.apply(Arc::new(settings(&["a", "b"])));
    assert_eq!(kinds(&desk.says()), [SUBSCRIBE], "wanted again before it is gone");
    desk.session.apply(Arc::new(settings(&["b"])));
    let said = desk.says();
    assert_eq!(kinds(&said), [10]);
    desk.hear(&[0xb0, 4, said[0][2], said[0][3], 0, 0]);
    assert_eq!((held(&desk), desk.says().len()), ("b".into(), 0));
}

#[test]
fn what_is_said_again_keeps_to_the_window_and_to_the_size_of_a_packet() {
    let mut desk = Desk::new(Version::V5, &[]);
    desk.connect(false);
    for payload in ["m1".to_owned(), "x".repeat(100), "m3".into(), "m4".into()] {
        desk.spool.push(message("t", &payload, Qos::AtLeastOnce, false));
    }
    assert_eq!(desk.says().len(), 4);
    desk.session.disconnected(&mut desk.spool);
    desk.session.connect(Version::V5, desk.now).unwrap();
    // Receive Maximum 2, packets of 60 bytes.
    desk.hear(&[0x20, 11, 1, 0, 8, 0x21, 0, 2, 0x27, 0, 0, 0, 60]);
    assert_eq!(payloads(&desk.says()), ["m1", "m3"]);
    assert!(desk.says().is_empty(), "two are unacknowledged");
    assert_eq!(desk.session.figures().2, 1);
    desk.hear(&[0x40, 2, 0, 101]);
    assert_eq!(payloads(&desk.says()), ["m4"]);
}

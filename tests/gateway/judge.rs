//! Does the strict receiver see what it is there to see? Every breach it is to report is committed here by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::receiver::session::{Answer, Session};
use crate::support::receiver::wire::{CONNECT, DISCONNECT, PUBCOMP, PUBREC, PUBREL, Packet, Publish, put_block};
use crate::support::receiver::{Deliver, Receiver, Sent, Terms, Verdict};
use crate::support::wait_until;

const LIMIT: Duration = Duration::from_secs(10);

fn connect(level: u8, clean: bool, client: &str) -> Packet {
    let mut body = Vec::new();
    put_block(&mut body, b"MQTT");
    body.extend_from_slice(&[level, u8::from(clean) << 1, 0, 60]);
    if level == 5 {
        // Session expiry: an hour.
        body.extend_from_slice(&[5, 0x11, 0, 0, 14, 16]);
    }
    put_block(&mut body, client.as_bytes());
    Packet { kind: CONNECT, flags: 0, body }
}

fn publish(qos: u8, id: u16, number: u64, dup: bool) -> Packet {
    let publish =
        Publish { topic: "t".to_owned(), qos, dup, retain: false, id, payload: number.to_string().into_bytes() };
    Packet::take(&mut publish.bytes()).unwrap().unwrap()
}

fn pubrel(id: u16) -> Packet {
    Packet { kind: PUBREL, flags: 2, body: id.to_be_bytes().to_vec() }
}

fn online(terms: Terms) -> Session {
    let mut session = Session::new(terms);
    session.handle(&connect(4, false, "a")).unwrap();
    session
}

fn reconnect(session: &mut Session) {
    session.disconnected(false);
    session.handle(&connect(4, false, "a")).unwrap();
}

fn sent(qos: u8, last: u64) -> [Sent; 1] {
    [Sent::new("t", qos, 1..=last)]
}

#[test]
fn a_faultless_client_gets_a_faultless_verdict() {
    let mut session = online(Terms::default());
    for number in 1..=3_u16 {
        session.handle(&publish(1, number, number.into(), false)).unwrap();
        session.handle(&publish(2, number, number.into(), false)).unwrap();
        session.handle(&pubrel(number)).unwrap();
    }
    let all = [Sent::new("t", 1, 1..=3), Sent::new("t", 2, 1..=3)];
    assert_eq!(session.ledger().verdict(&all), Verdict::faultless(0));
    assert_eq!(session.held(), 0);
}

#[test]
fn a_message_that_never_came_is_lost() {
    let mut session = online(Terms::default());
    session.handle(&publish(1, 1, 1, false)).unwrap();
    session.handle(&publish(1, 2, 3, false)).unwrap();
    assert_eq!(session.ledger().verdict(&sent(1, 3)), Verdict { lost: 1, ..Verdict::default() });
}

#[test]
fn a_qos_1_message_with_dup_is_repeated_and_without_it_a_breach_as_well() {
    let mut session = online(Terms::default());
    session.handle(&publish(1, 1, 1, false)).unwrap();
    reconnect(&mut session);
    session.handle(&publish(1, 1, 1, true)).unwrap();
    assert_eq!(session.ledger().verdict(&sent(1, 1)), Verdict::faultless(1));
    reconnect(&mut session);
    session.handle(&publish(1, 1, 1, false)).unwrap();
    let verdict = session.ledger().verdict(&sent(1, 1));
    assert_eq!(verdict.violations, ["1 on `t` came again without DUP [MQTT-3.3.1-1]"]);
}

#[test]
fn a_qos_2_message_under_a_fresh_packet_id_is_doubled() {
    let mut session = online(Terms::default());
    session.handle(&publish(2, 1, 1, false)).unwrap();
    reconnect(&mut session);
    session.handle(&publish(2, 2, 1, false)).unwrap();
    assert_eq!(session.ledger().verdict(&sent(2, 1)).doubled, 1);
}

#[test]
fn a_qos_2_message_under_its_own_packet_id_is_not_doubled() {
    for deliver in [Deliver::AtPublish, Deliver::AtRelease] {
        let mut session = online(Terms { deliver, ..Terms::default() });
        session.handle(&publish(2, 1, 1, false)).unwrap();
        reconnect(&mut session);
        session.handle(&publish(2, 1, 1, true)).unwrap();
        session.handle(&pubrel(1)).unwrap();
        reconnect(&mut session);
        session.handle(&pubrel(1)).unwrap();
        assert_eq!(session.ledger().verdict(&sent(2, 1)), Verdict::faultless(0));
    }
}

#[test]
fn a_packet_id_used_while_it_is_held_loses_what_it_carries() {
    let mut session = online(Terms::default());
    session.handle(&publish(2, 1, 1, false)).unwrap();
    session.handle(&publish(2, 1, 2, false)).unwrap();
    let verdict = session.ledger().verdict(&sent(2, 2));
    assert_eq!((verdict.lost, verdict.ids_reused), (1, 1));
}

#[test]
fn a_held_message_sent_again_without_dup_is_a_breach() {
    let mut session = online(Terms::default());
    session.handle(&publish(2, 1, 1, false)).unwrap();
    reconnect(&mut session);
    session.handle(&publish(2, 1, 1, false)).unwrap();
    assert_eq!(session.ledger().verdict(&sent(2, 1)).violations, ["packet id 1 sent again without DUP [MQTT-3.3.1-1]"]);
}

#[test]
fn a_number_that_does_not_rise_is_disorder() {
    let mut session = online(Terms::default());
    for (id, number) in [(1, 2), (2, 1), (3, 3)] {
        session.handle(&publish(1, id, number, false)).unwrap();
    }
    assert_eq!(session.ledger().verdict(&sent(1, 3)).disordered, 1);
    // Repeating what is unanswered, in order, on a new connection is none.
    reconnect(&mut session);
    session.handle(&publish(1, 1, 2, true)).unwrap();
    session.handle(&publish(1, 3, 3, true)).unwrap();
    assert_eq!(session.ledger().verdict(&sent(1, 3)).disordered, 1);
}

#[test]
fn a_release_of_nothing_is_answered_after_the_letter_of_each_version() {
    let mut session = online(Terms::default());
    let answer = |session: &mut Session| session.handle(&pubrel(7)).unwrap();
    let bytes = Packet::bytes(PUBCOMP, 0, &[0, 7]);
    assert_eq!(answer(&mut session), [Answer::Acknowledge { bytes, id: 7 }]);
    session.disconnected(true);
    session.handle(&connect(5, false, "a")).unwrap();
    let bytes = Packet::bytes(PUBCOMP, 0, &[0, 7, 0x92]);
    assert_eq!(answer(&mut session), [Answer::Acknowledge { bytes, id: 7 }]);
}

#[test]
fn more_in_flight_than_allowed_is_a_breach_at_5_and_a_hang_up_at_3_1_1() {
    let terms = Terms { receive_maximum: Some(2), ..Terms::default() };
    let mut session = Session::new(terms.clone());
    session.handle(&connect(5, false, "a")).unwrap();
    for id in 1..=2 {
        let mut packet = publish(1, id, id.into(), false);
        packet.body.insert(5, 0);
        session.handle(&packet).unwrap();
    }
    let mut third = publish(1, 3, 3, false);
    third.body.insert(5, 0);
    assert_eq!(session.handle(&third).unwrap_err(), "3 in flight where 2 were allowed [MQTT-3.3.4-9]");

    let mut session = online(terms);
    for id in 1..=2 {
        session.handle(&publish(1, id, id.into(), false)).unwrap();
    }
    assert_eq!(session.handle(&publish(1, 3, 3, false)).unwrap(), [Answer::Close { said_goodbye: false }]);
    assert_eq!(session.hung_up(), 1);
}

#[test]
fn what_the_specification_forbids_is_refused() {
    let refused = |packet: Packet| online(Terms::default()).handle(&packet).unwrap_err();
    assert_eq!(refused(publish(1, 0, 1, false)), "packet id 0 [MQTT-2.2.1-3]");
    assert_eq!(refused(publish(0, 0, 1, true)), "DUP at QoS 0 [MQTT-3.3.1-2]");
    assert_eq!(refused(publish(3, 1, 1, false)), "QoS 3 [MQTT-3.3.1-4]");
    assert_eq!(refused(connect(4, false, "a")), "a packet of type 1 that answers nothing");
    assert_eq!(
        refused(Packet { kind: PUBREL, flags: 0, body: vec![0, 1] }),
        "flags 0 on a packet of type 6 [MQTT-2.1.3-1]"
    );
    let first = Session::new(Terms::default()).handle(&publish(0, 0, 1, false)).unwrap_err();
    assert_eq!(first, "the first packet is of type 3 [MQTT-3.1.0-1]");
}

#[test]
fn a_session_lasts_unless_it_is_forgotten_or_asked_clean() {
    let present = |session: &mut Session, packet: Packet| {
        session.disconnected(true);
        let answers = session.handle(&packet).unwrap();
        let [Answer::Send(bytes)] = &answers[..] else { panic!("{answers:?}") };
        bytes[2] == 1
    };
    let mut session = Session::new(Terms::default());
    assert!(!present(&mut session, connect(4, false, "a")));
    assert!(present(&mut session, connect(4, false, "a")));
    session.forget();
    assert!(!present(&mut session, connect(5, false, "a")));
    assert!(present(&mut session, connect(5, false, "a")));
    assert!(!present(&mut session, connect(5, true, "a")));
    assert_eq!(session.forgotten(), 1);
}

#[test]
fn our_publisher_and_the_receiver_agree_over_a_socket() {
    let receiver = Receiver::start(Terms::default(), 1);
    let messages: Vec<_> =
        (1..=200_u64).map(|n| ("t".to_owned(), if n % 2 == 0 { 2 } else { 1 }, n.to_string())).collect();
    let outcome = Client::connect(receiver.port(), "publisher").unwrap().publish(&messages, 10);
    outcome.assert_complete(200);
    let all = [Sent::new("t", 1, 1..=200), Sent::new("t", 2, 1..=200)];
    assert_eq!(receiver.arrived(&all), 200);
    assert_eq!(receiver.verdict(&all), Verdict { lost: 200, ..Verdict::default() }, "each went at one QoS only");
}

#[test]
fn a_receiver_told_to_cut_cuts_so_often_and_no_more() {
    let receiver = Receiver::start(Terms::default(), 2);
    receiver.treat(|treatment| (treatment.cut_every, treatment.cuts_left) = (3, 5));
    let mut failures = 0;
    while receiver.cuts() < 5 {
        let messages = vec![("t".to_owned(), 1, "1".to_owned()); 20];
        let failed = match Client::connect(receiver.port(), "publisher") {
            Ok(mut client) => client.publish(&messages, 1).error.is_some(),
            Err(_) => true,
        };
        failures += u64::from(failed);
    }
    assert_eq!((receiver.cuts(), failures), (5, 5));
    Client::connect(receiver.port(), "publisher").unwrap();
}

#[test]
fn a_second_connection_takes_the_first_one_over() {
    let receiver = Receiver::start(Terms::default(), 3);
    let dial = || {
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port())).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let packet = connect(4, false, "a");
        stream.write_all(&Packet::bytes(packet.kind, packet.flags, &packet.body)).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        stream
    };
    let mut first = dial();
    let mut second = dial();
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0, "the first is closed");
    second.write_all(&publish_bytes(2, 1, 1)).unwrap();
    let mut answer = [0; 4];
    second.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..], Packet::bytes(PUBREC, 0, &[0, 1])[..]);
    assert_eq!(receiver.held(), 1);
    second.write_all(&Packet::bytes(DISCONNECT, 0, &[])).unwrap();
    wait_until(LIMIT, "the end of the second", || matches!(second.read(&mut [0; 1]), Ok(0)));
}

fn publish_bytes(qos: u8, id: u16, number: u64) -> Vec<u8> {
    let packet = publish(qos, id, number, false);
    Packet::bytes(packet.kind, packet.flags, &packet.body)
}

//! What is easily lost at the edges of a connection.

use super::*;

/// What a desk says, without its first subscriptions.
fn ready(version: Version, settings: External) -> Desk {
    let mut desk = Desk::new(version, &[]);
    desk.session = Session::new(Arc::new(settings), [].into(), false);
    desk.connect(false);
    desk
}

#[test]
fn while_the_broker_is_away_only_the_newest_of_a_state_waits() {
    let mut desk = ready(Version::V5, settings(&[]));
    desk.session.disconnected(&mut desk.spool);
    for payload in ["s1", "s2"] {
        desk.spool.push(message("t", payload, Qos::AtLeastOnce, true));
    }
    assert_eq!(desk.spool.len(), 1);
    assert_eq!(payloads(&desk.connect(true)), ["s2"]);
    for payload in ["s3", "s4"] {
        desk.spool.push(message("t", payload, Qos::AtLeastOnce, true));
    }
    assert_eq!(payloads(&desk.says()), ["s3", "s4"], "whoever is there hears each");
}

#[test]
fn what_was_over_before_the_connection_broke_and_is_marked_as_sent_again_is_not_new() {
    let mut desk = ready(Version::V5, settings(&["t"]));
    desk.publish(0x34, "t", Some(1), "m1");
    desk.session.settled(0, Ok(()), desk.now);
    desk.hear(&[0x62, 2, 0, 1]);
    desk.turn();
    desk.connect(true);
    desk.publish(0x3c, "t", Some(1), "m1");
    assert_eq!(desk.turn(), (vec![vec![0x50, 2, 0, 1]], Vec::new()));
    desk.hear(&[0x62, 2, 0, 1]);
    desk.publish(0x34, "t", Some(1), "m1");
    assert_eq!(desk.turn().1.len(), 1, "one that is not marked is new");
}

#[test]
fn what_is_larger_than_is_taken_here_is_acknowledged_and_counted() {
    let mut desk = ready(Version::V311, External { max_packet: 20, ..settings(&["t"]) });
    desk.publish(0x32, "t", Some(1), &"x".repeat(21));
    assert_eq!(desk.turn(), (vec![vec![0x40, 2, 0, 1]], Vec::new()));
    assert_eq!(desk.session.figures(), (0, 0, 1));
}

#[test]
fn what_went_up_by_this_gateway_and_came_back_does_not_go_up_again() {
    let mut desk = ready(Version::V5, settings(&["t"]));
    for (via, offered) in [(b'g', 0), (b'h', 1)] {
        let properties = [b"\x26\0\x06tg-via\0\x01".as_slice(), &[via]].concat();
        let length = u8::try_from(properties.len()).unwrap();
        let body = [b"\0\x01t\0\x01".as_slice(), &[length], &properties, b"m1"].concat();
        desk.hear(&[&[0x32, u8::try_from(body.len()).unwrap()], &body[..]].concat());
        assert_eq!(desk.turn().1.len(), offered, "through {}", char::from(via));
        desk.connect(false);
    }
}

#[test]
fn it_does_not_leave_before_what_came_is_handed_over() {
    let mut desk = ready(Version::V5, settings(&["t"]));
    desk.publish(0x30, "t", None, "m1");
    desk.session.leave();
    let turn = desk.session.turn(&mut desk.spool, desk.now, 0);
    assert_eq!((turn.offers.len(), turn.close), (1, None));
    assert_eq!(desk.session.turn(&mut desk.spool, desk.now, 0).close, Some(Close::Left));
}

#[test]
fn a_broker_that_owes_an_answer_to_unsubscribe_is_asked_whether_it_is_there() {
    let mut desk = ready(Version::V5, settings(&["t"]));
    let said = desk.connect(false);
    desk.hear(&[0x90, 4, said[0][2], said[0][3], 0, 2]);
    desk.says();
    assert_eq!(desk.session.due(), Some(at(30)));
    desk.session.apply(Arc::new(settings(&[])));
    assert_eq!(kinds(&desk.says()), [10]);
    assert_eq!(desk.session.due(), Some(at(0) + ANSWER_WAIT));
}

#[test]
fn an_answer_that_lies_unread_behind_a_full_inbound_is_no_silence() {
    let mut desk = ready(Version::V311, settings(&["t"]));
    for pkid in 1..=EXTERNAL_RECEIVE + 1 {
        desk.publish(0x32, "t", Some(pkid), "m");
    }
    desk.turn();
    desk.now = at(30);
    assert!(desk.session.turn(&mut desk.spool, desk.now, 0).bytes.ends_with(&[0xc0, 0]));
    desk.now = at(41);
    desk.session.settled(0, Ok(()), desk.now);
    assert!(desk.session.listens());
    assert_eq!(desk.session.turn(&mut desk.spool, desk.now, 0).close, None);
}

#[test]
fn the_broker_s_own_keep_alive_is_kept() {
    let mut desk = ready(Version::V5, settings(&[]));
    desk.session.disconnected(&mut desk.spool);
    desk.session.connect(Version::V5, desk.now).unwrap();
    desk.hear(&[0x20, 6, 0, 0, 3, 0x13, 0, 10]);
    desk.says();
    assert_eq!(desk.session.due(), Some(at(10)));
}

#[test]
fn the_packet_id_of_a_message_that_the_broker_takes_no_more_is_released_before_it_is_used_again() {
    let mut desk = ready(Version::V5, settings(&[]));
    desk.spool.push(message("t", &"x".repeat(100), Qos::ExactlyOnce, false));
    assert_eq!(desk.says().len(), 1);
    desk.session.disconnected(&mut desk.spool);
    desk.session.connect(Version::V5, desk.now).unwrap();
    // Packets of 60 bytes.
    desk.hear(&[0x20, 8, 1, 0, 5, 0x27, 0, 0, 0, 60]);
    assert_eq!(desk.says(), [[0x62, 2, 0, 1]]);
    desk.spool.push(message("t", "m1", Qos::ExactlyOnce, false));
    assert!(desk.says().is_empty());
    desk.hear(&[0x70, 3, 0, 1, 0x92]);
    assert_eq!(payloads(&desk.says()), ["m1"]);
}

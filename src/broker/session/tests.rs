use super::super::journal::{About, Receipt};
use super::super::keeper::Urgency;
use super::super::queue::Room;
use super::super::wire::Recorded;
use super::*;
use crate::model::Origin;
use std::time::Duration;

const NOW: Moment = Moment::at(Duration::from_secs(100));

fn attachment(window: usize, queued_max: usize) -> Attachment {
    Attachment {
        window,
        expiry_s: u32::MAX,
        room: Room { messages: queued_max, bytes: 1 << 20 },
        wake: Arc::new(Notify::new()),
    }
}

impl Session {
    fn push_plain(&mut self, delivery: Delivery) -> Pushed {
        self.push(delivery, &mut Receipt::lazy())
    }
}

fn online(window: usize, queued_max: usize) -> Session {
    let mut session = Session::new();
    session.attach(attachment(window, queued_max));
    session
}

fn delivery(text: &str, qos: Qos) -> Delivery {
    let topic = TopicName::parse("t").unwrap();
    let message = Arc::new(Message::new(topic, text.as_bytes(), qos, false, Origin::Client));
    Delivery {
        message,
        qos,
        retain: false,
        expires: None,
        subscription_ids: None,
        by_group: None,
        row: 0,
        weight: None,
    }
}

/// What is sent until nothing more may be: text, packet id and DUP, or the id of a PUBREL.
fn sent(session: &mut Session) -> Vec<String> {
    std::iter::from_fn(|| session.poll(NOW))
        .map(|action| match action {
            Action::Publish { delivery, packet_id, dup } => {
                let text = String::from_utf8_lossy(&delivery.message.payload).into_owned();
                format!("{text}:{packet_id}{}", if dup { ":dup" } else { "" })
            }
            Action::Release(id) => format!("rel:{id}"),
        })
        .collect()
}

#[test]
fn the_window_holds_messages_back_and_an_acknowledgement_lets_one_through() {
    let mut session = online(2, 10);
    for text in ["a", "b", "c"] {
        session.push_plain(delivery(text, Qos::AtLeastOnce));
    }
    assert_eq!(sent(&mut session), ["a:1", "b:2"]);
    session.puback(1);
    assert_eq!(sent(&mut session), ["c:3"]);
}

#[test]
fn the_window_is_one_of_bytes_too() {
    let mut session = online(256, 10);
    let large = "x".repeat(crate::limits::WIRE_BYTES_MAX * 3 / 5);
    let on_wire = |session: &mut Session| (sent(session).len(), session.in_flight());
    session.push_plain(delivery(&large, Qos::AtLeastOnce));
    assert_eq!(on_wire(&mut session), (1, 1));
    session.push_plain(delivery(&large, Qos::ExactlyOnce));
    assert_eq!(on_wire(&mut session), (1, 2));
    session.push_plain(delivery(&large, Qos::AtLeastOnce));
    assert_eq!(on_wire(&mut session), (0, 2));
    session.push_plain(delivery("loose", Qos::AtMostOnce));
    assert_eq!(sent(&mut session), ["loose:0"]);
    assert_eq!(session.pubrec(2, false), Recorded::Release);
    assert_eq!(on_wire(&mut session), (1, 3));
    session.push_plain(delivery("small", Qos::AtLeastOnce));
    session.puback(1);
    assert_eq!(sent(&mut session), ["small:4"]);
}

#[test]
fn qos_0_does_not_wait_for_the_window() {
    let mut session = online(1, 10);
    session.push_plain(delivery("a", Qos::AtLeastOnce));
    session.push_plain(delivery("b", Qos::AtLeastOnce));
    session.push_plain(delivery("c", Qos::AtMostOnce));
    assert_eq!(sent(&mut session), ["a:1", "c:0"]);
}

#[test]
fn what_was_not_acknowledged_is_resent_in_order_under_its_id() {
    let mut session = online(10, 10);
    for (text, qos) in [("a", Qos::AtLeastOnce), ("b", Qos::ExactlyOnce), ("c", Qos::ExactlyOnce)] {
        session.push_plain(delivery(text, qos));
    }
    assert_eq!(sent(&mut session), ["a:1", "b:2", "c:3"]);
    assert_eq!(session.pubrec(2, false), Recorded::Release);
    session.detach();
    session.push_plain(delivery("d", Qos::AtLeastOnce));
    assert_eq!(sent(&mut session), Vec::<String>::new());
    session.attach(attachment(10, 10));
    assert_eq!(sent(&mut session), ["a:1:dup", "rel:2", "c:3:dup", "d:4"]);
}

#[test]
fn a_smaller_window_after_a_resume_is_respected() {
    let mut session = online(10, 10);
    for text in ["a", "b", "c"] {
        session.push_plain(delivery(text, Qos::AtLeastOnce));
    }
    sent(&mut session);
    session.detach();
    session.attach(attachment(1, 10));
    assert_eq!(sent(&mut session), ["a:1:dup"]);
    session.puback(1);
    assert_eq!(sent(&mut session), ["b:2:dup"]);
}

#[test]
fn a_released_message_keeps_the_window_of_65535_open() {
    // The fault of mqtt-protocol-core 0.7.9 that this replaces: its count underflows here and nothing is sent any more.
    let mut session = online(65_535, 10);
    session.push_plain(delivery("a", Qos::ExactlyOnce));
    assert_eq!(sent(&mut session), ["a:1"]);
    session.pubrec(1, false);
    session.detach();
    session.attach(attachment(65_535, 10));
    assert_eq!(sent(&mut session), ["rel:1"]);
    session.pubcomp(1);
    session.push_plain(delivery("b", Qos::ExactlyOnce));
    assert_eq!(sent(&mut session), ["b:2"]);
}

#[test]
fn acknowledgements_nobody_waits_for_change_nothing() {
    let mut session = online(10, 10);
    session.push_plain(delivery("a", Qos::ExactlyOnce));
    sent(&mut session);
    session.puback(1);
    session.pubcomp(1);
    session.puback(77);
    assert_eq!(session.pubrec(77, false), Recorded::Release);
    assert_eq!(session.pubrec(1, false), Recorded::Release);
    assert_eq!(session.pubrec(1, false), Recorded::Release);
    assert_eq!(session.backlog(), 1);
    session.pubcomp(1);
    assert_eq!(session.backlog(), 0);
}

#[test]
fn a_full_queue_drops_the_oldest_qos_0_first() {
    let mut session = online(0, 3);
    session.push_plain(delivery("a", Qos::AtLeastOnce));
    session.push_plain(delivery("b", Qos::AtMostOnce));
    session.push_plain(delivery("c", Qos::AtLeastOnce));
    assert_eq!(session.push_plain(delivery("d", Qos::AtLeastOnce)), Pushed::Displaced(1));
    assert_eq!(session.push_plain(delivery("e", Qos::AtLeastOnce)), Pushed::Displaced(1));
    assert_eq!(session.push_plain(delivery("f", Qos::AtMostOnce)), Pushed::Dropped);
    session.attach(attachment(10, 3));
    assert_eq!(sent(&mut session), ["c:1", "d:2", "e:3"]);
    assert_eq!(session.take_recovery(), Some(3));
    assert_eq!(session.take_recovery(), None);
}

#[test]
fn a_packet_id_in_flight_is_not_given_out_a_second_time() {
    let mut session = online(2, 10);
    session.push_plain(delivery("stuck", Qos::AtLeastOnce));
    assert_eq!(sent(&mut session), ["stuck:1"]);
    let mut last = String::new();
    for turn in 0..65_535_u32 {
        session.push_plain(delivery("x", Qos::AtLeastOnce));
        let now = sent(&mut session);
        assert_ne!(now, ["x:1"], "after {turn}");
        last.clone_from(&now[0]);
        session.puback(last[2..].parse().unwrap());
    }
    assert_eq!(last, "x:2", "the turn was completed");
}

#[test]
fn an_expired_message_is_not_sent() {
    let mut session = online(10, 10);
    session.push_plain(Delivery { expires: Some(NOW), ..delivery("late", Qos::AtLeastOnce) });
    session.push_plain(delivery("fine", Qos::AtLeastOnce));
    assert_eq!(sent(&mut session), ["fine:1"]);
}

#[test]
fn a_session_that_ends_with_its_connection_keeps_nothing_while_away() {
    let mut session = Session::new();
    session.attach(Attachment { expiry_s: 0, ..attachment(10, 10) });
    session.detach();
    assert_eq!(session.push_plain(delivery("a", Qos::ExactlyOnce)), Pushed::Away);
    assert_eq!(session.backlog(), 0);
}

#[test]
fn whoever_asks_again_for_retained_messages_is_answered_when_the_disk_knows_that() {
    let mut session = online(8, 8);
    let about = About { client: "c".into(), user: None, peer: None, expiry_s: u32::MAX };
    session.become_durable(1, about);
    let asked = TopicFilter::parse("t").unwrap();
    let subscription = Subscription {
        filter: asked.clone(),
        group: None,
        qos: Qos::ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        identifier: None,
        since: 0,
    };
    for (wanted, waits) in [(true, true), (true, true), (false, false)] {
        let mut receipt = Receipt::new(Urgency::Now);
        session.subscribe(&asked, subscription.clone(), wanted, &mut receipt);
        assert_eq!(receipt.pending().is_some(), waits, "wanted: {wanted}");
    }
}

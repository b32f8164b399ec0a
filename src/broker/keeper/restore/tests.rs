use super::*;
use crate::clock::FakeClock;
use crate::model::{Qos, Timestamp};

const HOUR_MS: i64 = 3_600_000;

fn session(id: i64, expiry_s: u32, left_ms: Option<i64>) -> SessionChange<'static> {
    SessionChange::Session(SessionRow { id, client: "c", user: None, peer: None, expiry_s, left_ms })
}

#[allow(clippy::option_option)] // no session, and one without an end
/// What is left of a session's time, in seconds.
fn left(changes: &[SessionChange<'_>], clock: &FakeClock) -> Option<Option<u64>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    Sessions::open(&path).unwrap().0.write([], changes.iter().copied()).unwrap();
    let (_, past) = read(&path, clock, &Pulse::default()).unwrap();
    past.sessions.first().map(|found| found.left.map(|left| left.as_secs()))
}

#[test]
fn the_time_of_a_session_runs_on_while_the_gateway_is_down_and_begins_anew_where_it_is_not_known() {
    let clock = FakeClock::new(10 * HOUR_MS);
    let unset = FakeClock::new(10 * HOUR_MS);
    unset.set_wall(Timestamp { unix_ms: 10 * HOUR_MS, synced: false, at: None });
    let gone = |left_ms| [session(1, 7_200, left_ms)];
    assert_eq!(left(&gone(Some(9 * HOUR_MS)), &clock), Some(Some(3_600)));
    assert_eq!(left(&gone(Some(8 * HOUR_MS)), &clock), Some(Some(0)), "it ended while the gateway was down");
    assert_eq!(left(&gone(Some(8 * HOUR_MS)), &unset), Some(Some(7_200)), "nobody knows how long it has been");
    assert_eq!(
        left(&gone(None), &clock),
        Some(Some(7_200)),
        "it had a connection, or left it by a clock that was not set"
    );
    assert_eq!(left(&gone(Some(11 * HOUR_MS)), &clock), Some(Some(7_200)), "a clock that went back");
    assert_eq!(left(&[session(1, u32::MAX, Some(0))], &clock), Some(None), "for ever");
    assert_eq!(left(&[session(1, 0, None)], &clock), Some(Some(0)), "it was to end with its connection");
}

const LIFE_S: u32 = 60;

fn body(id: i64, expires_ms: Option<i64>, properties: &[u8]) -> SessionChange<'_> {
    let (qos, retain, properties) = (Qos::ExactlyOnce, false, Some(properties));
    SessionChange::Body(BodyRow { id, qos, retain, expires_ms, topic: "t", properties, payload: b"x" })
}

fn properties() -> bytes::Bytes {
    properties::to_block(&crate::model::Properties { expiry_s: Some(LIFE_S), ..Default::default() })
}

fn queued(session: i64, row: i64, body: i64) -> QueuedRow<'static> {
    let (qos, retain, ids, share, sent) = (Qos::ExactlyOnce, false, None, None, None);
    QueuedRow { session, row, body: Some(body), qos, retain, ids, share, sent }
}

fn bodies_and_rows(store: &Sessions) -> (Vec<i64>, Vec<(i64, i64)>) {
    let mut bodies = Vec::new();
    store.each_body(|row| bodies.push(row.id)).unwrap();
    let mut rows = Vec::new();
    store.each_queued(|row| rows.push((row.session, row.row))).unwrap();
    (bodies, rows)
}

#[test]
fn what_has_expired_or_is_for_nobody_is_taken_out_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let clock = FakeClock::new(10 * HOUR_MS);
    let properties = properties();
    let changes = [
        session(1, u32::MAX, None),
        body(1, Some(9 * HOUR_MS), &properties),
        body(2, Some(10 * HOUR_MS + 30_000), &properties),
        body(3, None, &properties),
        body(4, None, &properties),
        SessionChange::Queued(queued(1, 1, 1)),
        SessionChange::Queued(queued(1, 2, 2)),
        SessionChange::Queued(queued(1, 3, 3)),
    ];
    Sessions::open(&path).unwrap().0.write([], changes).unwrap();
    let (store, past) = read(&path, &clock, &Pulse::default()).unwrap();
    let lives: Vec<_> = past.sessions[0].queue.iter().map(|it| it.expires.unwrap() - clock.now()).collect();
    assert_eq!(
        lives,
        [Duration::from_secs(30), Duration::from_secs(60)],
        "the last one's is not known, and begins anew"
    );
    assert_eq!(past.bodies.len(), 2);
    assert!(past.stale.is_empty());
    assert_eq!(bodies_and_rows(&store), (vec![2, 3], vec![(1, 2), (1, 3)]));
}

#[test]
fn a_message_that_expired_on_the_wire_goes_on_so_that_its_packet_id_is_not_taken_for_another_one_s() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let clock = FakeClock::new(10 * HOUR_MS);
    let properties = properties();
    let sent = Some(crate::store::OnWire { packet_id: 3, turn: 3 });
    let changes = [
        session(1, u32::MAX, None),
        body(1, Some(9 * HOUR_MS), &properties),
        SessionChange::Queued(QueuedRow { sent, ..queued(1, 1, 1) }),
        SessionChange::Queued(queued(1, 2, 1)),
    ];
    Sessions::open(&path).unwrap().0.write([], changes).unwrap();
    let (store, past) = read(&path, &clock, &Pulse::default()).unwrap();
    let (row, delivery, sent) = &past.sessions[0].wire[0];
    assert_eq!((*row, sent.packet_id), (1, 3));
    assert!(delivery.as_ref().is_some_and(|delivery| delivery.is_expired(clock.now())));
    assert!(past.sessions[0].queue.is_empty(), "what was not sent is not worth sending");
    assert_eq!(bodies_and_rows(&store), (vec![1], vec![(1, 1)]));
}

#[test]
fn of_two_sessions_of_one_client_the_one_that_was_there_last_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let clock = FakeClock::new(10 * HOUR_MS);
    let changes =
        [session(1, 7_200, Some(5)), session(2, 7_200, Some(7)), session(3, 7_200, None), session(4, 60, Some(6))];
    Sessions::open(&path).unwrap().0.write([], changes).unwrap();
    let (_, past) = read(&path, &clock, &Pulse::default()).unwrap();
    let ids: Vec<_> = past.sessions.iter().map(|found| found.id).collect();
    assert_eq!(ids, [3, 2, 4, 1]);
}

#[test]
fn what_cannot_be_taken_out_costs_nothing_else_of_the_file_and_is_for_the_next_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let properties = properties();
    let changes = [session(1, u32::MAX, None), body(4, None, &properties)];
    Sessions::open(&path).unwrap().0.write([], changes).unwrap();
    crate::store::sessions::forbid(&path, "DELETE ON body");
    let (store, past) = read(&path, &FakeClock::new(10 * HOUR_MS), &Pulse::default()).unwrap();
    assert_eq!(past.sessions.len(), 1);
    assert_eq!(past.stale.sessions().collect::<Vec<_>>(), [SessionChange::BodyGone(4)]);
    assert_eq!(bodies_and_rows(&store).0, [4]);
}

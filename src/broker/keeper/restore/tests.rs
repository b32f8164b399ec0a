use super::*;
use crate::clock::FakeClock;
use crate::model::{Qos, Timestamp};

const HOUR_MS: i64 = 3_600_000;

fn session(id: i64, expiry_s: u32, left_ms: Option<i64>) -> SessionChange<'static> {
    SessionChange::Session(SessionRow { id, client: "c", user: None, peer: None, expiry_s, left_ms })
}

/// What is left of a session's time, in seconds.
fn left(changes: &[SessionChange<'_>], clock: &FakeClock) -> Option<Option<u64>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    Sessions::open(&path).unwrap().0.write([], changes.iter().copied()).unwrap();
    let (_, past) = read(&path, clock).unwrap();
    past.sessions.first().map(|found| found.left.map(|left| left.as_secs()))
}

#[test]
fn the_time_of_a_session_runs_on_while_the_gateway_is_down_and_begins_anew_where_it_is_not_known() {
    let clock = FakeClock::new(10 * HOUR_MS);
    let unset = FakeClock::new(10 * HOUR_MS);
    unset.set_wall(Timestamp { unix_ms: 10 * HOUR_MS, synced: false, at: None });
    let gone = |left_ms| [session(1, 7_200, left_ms)];
    assert_eq!(left(&gone(Some(9 * HOUR_MS)), &clock), Some(Some(3_600)));
    assert_eq!(left(&gone(Some(8 * HOUR_MS)), &clock), None, "it ended while the gateway was down");
    assert_eq!(left(&gone(Some(8 * HOUR_MS)), &unset), Some(Some(7_200)), "nobody knows how long it has been");
    assert_eq!(
        left(&gone(None), &clock),
        Some(Some(7_200)),
        "it had a connection, or left it by a clock that was not set"
    );
    assert_eq!(left(&gone(Some(11 * HOUR_MS)), &clock), Some(Some(7_200)), "a clock that went back");
    assert_eq!(left(&[session(1, u32::MAX, Some(0))], &clock), Some(None), "for ever");
    assert_eq!(left(&[session(1, 0, None)], &clock), None, "it was to end with its connection");
}

#[test]
fn what_has_expired_or_is_for_nobody_is_taken_out_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let clock = FakeClock::new(10 * HOUR_MS);
    let props = properties::to_block(&crate::model::Properties { expiry_s: Some(60), ..Default::default() });
    let body = |id, expires_ms| {
        let properties = Some(&props[..]);
        SessionChange::Body(BodyRow {
            id,
            qos: Qos::AtLeastOnce,
            retain: false,
            expires_ms,
            topic: "t",
            properties,
            payload: b"x",
        })
    };
    let queued = |session, row, body| {
        let (qos, retain, ids, share, sent) = (Qos::AtLeastOnce, false, None, None, None);
        SessionChange::Queued(QueuedRow { session, row, body: Some(body), qos, retain, ids, share, sent })
    };
    let changes = [
        session(1, u32::MAX, None),
        session(2, 60, Some(9 * HOUR_MS)),
        body(1, Some(9 * HOUR_MS)),
        body(2, Some(10 * HOUR_MS + 30_000)),
        body(3, None),
        body(4, None),
        queued(1, 1, 1),
        queued(1, 2, 2),
        queued(1, 3, 3),
        queued(2, 1, 4),
    ];
    Sessions::open(&path).unwrap().0.write([], changes).unwrap();
    let (store, past) = read(&path, &clock).unwrap();
    let lives: Vec<_> = past.sessions[0].queue.iter().map(|it| it.expires.unwrap() - clock.now()).collect();
    assert_eq!(
        lives,
        [Duration::from_secs(30), Duration::from_secs(60)],
        "the last one's is not known, and begins anew"
    );
    assert_eq!(past.bodies.len(), 2);
    let mut bodies = Vec::new();
    store.each_body(|row| bodies.push(row.id)).unwrap();
    let mut rows = Vec::new();
    store.each_queued(|row| rows.push((row.session, row.row))).unwrap();
    assert_eq!((bodies, rows), (vec![2, 3], vec![(1, 2), (1, 3)]));
}

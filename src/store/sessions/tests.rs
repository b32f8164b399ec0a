use rusqlite::{Connection, OpenFlags};

use super::*;

/// How many rows a table has, read beside its owner.
pub(crate) fn rows(path: &Path, table: &str) -> i64 {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// From here on the file does not do this, which its owner wants to do: `DELETE ON body`.
pub(crate) fn forbid(path: &Path, what: &str) {
    let refuse = format!("CREATE TRIGGER no BEFORE {what} BEGIN SELECT raise(ABORT, 'no'); END");
    Connection::open(path).unwrap().execute_batch(&refuse).unwrap();
}

/// Nothing can be read of the table any more, nor written to it.
pub(crate) fn damage(path: &Path, table: &str) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    let elsewhere = format!(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 99999 WHERE name = '{table}';
         PRAGMA schema_version = 99;"
    );
    connection.execute_batch(&elsewhere).unwrap();
}

/// It does by now.
pub(crate) fn allow(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    connection.execute_batch("DROP TRIGGER no").unwrap();
}

fn all(sessions: &Sessions) -> Vec<String> {
    let mut all = Vec::new();
    sessions.each_retained(|row| all.push(format!("{row:?}"))).unwrap();
    all.sort();
    all
}

#[test]
fn what_was_kept_is_there_after_a_reopen_and_what_was_cleared_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let row = |topic, payload| RetainedRow {
        topic,
        qos: Qos::ExactlyOnce,
        expires_ms: Some(77),
        properties: Some(&[0_u8][..]),
        payload,
    };
    let (mut sessions, opened) = Sessions::open(&path).unwrap();
    assert_eq!(opened, Opened::New);
    sessions
        .write(
            [
                RetainedChange::Keep(row("a", &b"1"[..])),
                RetainedChange::Keep(row("b", b"2")),
                RetainedChange::Keep(row("a", b"3")),
                RetainedChange::Clear("b"),
                RetainedChange::Clear("never there"),
            ],
            [],
        )
        .unwrap();
    // Not closed: as after a kill.
    drop(sessions);
    let (sessions, opened) = Sessions::open(&path).unwrap();
    assert_eq!((opened, all(&sessions)), (Opened::Existing, vec![format!("{:?}", row("a", b"3"))]));
}

#[test]
fn a_change_that_fails_leaves_nothing_of_its_commit() {
    let directory = tempfile::tempdir().unwrap();
    let (mut sessions, _) = Sessions::open(&directory.path().join("sessions.db")).unwrap();
    sessions
        .store
        .connection()
        .execute_batch("CREATE TRIGGER no BEFORE DELETE ON retained BEGIN SELECT raise(ABORT, 'no'); END")
        .unwrap();
    let row = RetainedRow { topic: "a", qos: Qos::AtMostOnce, expires_ms: None, properties: None, payload: b"1" };
    sessions.write([RetainedChange::Keep(row)], []).unwrap();
    let other = RetainedRow { topic: "b", ..row };
    assert!(sessions.write([RetainedChange::Keep(other), RetainedChange::Clear("a")], []).is_err());
    assert_eq!(all(&sessions), [format!("{row:?}")]);
}

#[test]
fn a_session_is_read_as_it_was_written_and_its_end_takes_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let session = SessionRow { id: 5, client: "c", user: Some("u"), peer: None, expiry_s: u32::MAX, left_ms: Some(77) };
    let subscription = SubscriptionRow {
        session: 5,
        asked: "$share/g/a/#",
        qos: Qos::ExactlyOnce,
        no_local: false,
        retain_as_published: true,
        hungry: true,
        after: Some("a/b"),
        identifier: Some(268_435_455),
    };
    let body = BodyRow {
        id: 9,
        qos: Qos::AtLeastOnce,
        retain: true,
        expires_ms: Some(3),
        topic: "a",
        properties: Some(&[0]),
        payload: b"x",
    };
    let waits = QueuedRow {
        session: 5,
        row: 1,
        body: Some(9),
        qos: Qos::AtLeastOnce,
        retain: true,
        ids: Some(&[0, 0, 0, 7]),
        share: Some("$share/g/a/#"),
        sent: None,
    };
    let sent = OnWire { packet_id: 65_535, turn: 12 };
    let flies = QueuedRow { row: 2, share: None, ids: None, retain: false, ..waits };
    let all = |store: &Sessions| {
        let mut all = Vec::new();
        store.each_session(|row| all.push(format!("{row:?}"))).unwrap();
        store.each_subscription(|row| all.push(format!("{row:?}"))).unwrap();
        store.each_body(|row| all.push(format!("{row:?}"))).unwrap();
        store.each_queued(|row| all.push(format!("{row:?}"))).unwrap();
        store.each_received(|session, id| all.push(format!("{session} {id}"))).unwrap();
        all
    };
    let (mut store, _) = Sessions::open(&path).unwrap();
    let changes = [
        SessionChange::Session(session),
        SessionChange::Subscribed(subscription),
        SessionChange::Body(body),
        SessionChange::Queued(waits),
        SessionChange::Queued(flies),
        SessionChange::Sent(5, 2, sent, false),
        SessionChange::Received(5, 9),
    ];
    store.write([], changes).unwrap();
    drop(store);
    let (mut store, _) = Sessions::open(&path).unwrap();
    let flies = QueuedRow { sent: Some(sent), ..flies };
    let expected = [
        format!("{session:?}"),
        format!("{subscription:?}"),
        format!("{body:?}"),
        format!("{waits:?}"),
        format!("{flies:?}"),
        "5 9".into(),
    ];
    assert_eq!(all(&store), expected);
    store.write([], [SessionChange::Sent(5, 2, sent, true), SessionChange::Forgotten(5, 9)]).unwrap();
    assert_eq!(all(&store)[4..], [format!("{:?}", QueuedRow { body: None, ..flies })]);
    store.write([], [SessionChange::Ended(5)]).unwrap();
    assert_eq!(all(&store), [format!("{body:?}")]);
}

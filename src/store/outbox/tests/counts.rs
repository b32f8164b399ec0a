//! How many there are, at once and in steps.

use super::*;

/// A file with more records in two classes than are counted at once, closed in order or not.
fn many(dir: &tempfile::TempDir, orderly: bool) -> Outbox {
    let mut outbox = super::outbox(dir);
    outbox.begin().unwrap();
    for n in 0..3 * COUNT_ROWS {
        let priority = if n % 2 == 0 { Priority::Urgent } else { Priority::Low };
        outbox.push(NewRecord { priority, ..new(b"x", at(1_000)) }).unwrap();
    }
    outbox.commit().unwrap();
    if orderly {
        outbox.close().unwrap();
    } else {
        drop(outbox);
    }
    super::outbox(dir)
}

const MANY: u64 = 3 * COUNT_ROWS as u64;

#[test]
fn a_count_is_known_at_once_after_a_close_and_a_lower_bound_after_a_crash_until_it_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = many(&dir, true);
    assert_eq!((outbox.count(), outbox.is_counted()), (MANY, true));
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = many(&dir, false);
    assert_eq!((outbox.count(), outbox.is_counted()), (COUNT_ROWS as u64, false));
    let mut steps = 0;
    while !outbox.is_counted() {
        outbox.count_on(COUNT_ROWS).unwrap();
        steps += 1;
        assert!(outbox.count() <= MANY);
    }
    assert_eq!((outbox.count(), steps), (MANY, 3));
}

#[test]
fn a_stored_count_goes_with_the_first_change_and_comes_back_with_a_rollback() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = many(&dir, true);
    outbox.begin().unwrap();
    outbox.push(new(b"x", at(0))).unwrap();
    outbox.rollback();
    drop(outbox);
    let mut outbox = super::outbox(&dir);
    assert_eq!((outbox.count(), outbox.is_counted()), (MANY, true), "nothing was changed");
    outbox.begin().unwrap();
    outbox.push(new(b"x", at(0))).unwrap();
    outbox.commit().unwrap();
    drop(outbox);
    let outbox = super::outbox(&dir);
    assert!(!outbox.is_counted() && outbox.count() <= COUNT_ROWS as u64, "a crash after a change: {}", outbox.count());
}

#[test]
fn what_comes_and_goes_while_a_file_is_counted_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = many(&dir, false);
    let mut truth = MANY;
    while !outbox.is_counted() {
        outbox.begin().unwrap();
        // From the head, which was counted; from the tail, which was not; and of those that are added meanwhile.
        for priority in [Priority::Urgent, Priority::Low] {
            let waiting = outbox.waiting(priority, usize::try_from(MANY).unwrap()).unwrap();
            for gone in [waiting.first(), waiting.last()].into_iter().flatten() {
                outbox.remove(priority, gone.seq).unwrap();
                truth -= 1;
            }
            outbox.remove(priority, Seq(u64::MAX / 2)).unwrap();
        }
        for _ in 0..3 {
            outbox.push(NewRecord { priority: Priority::Low, ..new(b"x", at(0)) }).unwrap();
            truth += 1;
        }
        outbox.commit().unwrap();
        outbox.begin().unwrap();
        outbox.push(new(b"x", at(0))).unwrap();
        outbox.rollback();
        outbox.count_on(COUNT_ROWS / 2).unwrap();
    }
    let rows = |table| -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        outbox.store.connection().query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    assert_eq!((outbox.count(), rows("q0") + rows("q2") + rows("q3")), (truth, truth));
    assert_eq!([outbox.count_of(Priority::Urgent), outbox.count_of(Priority::Low)], [rows("q0"), rows("q3")]);
}

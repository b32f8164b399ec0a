//! What a power cut may take, and what must not be forgotten of it.

use super::*;

#[test]
fn that_a_power_cut_may_have_taken_commits_is_known_though_somebody_opened_and_closed_the_store_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open_in(&dir, 1);
    outbox.wait_for_disk(false, None).unwrap();
    fill(&mut outbox, 1);
    drop(outbox);
    open_in(&dir, 2).close().unwrap();
    let mut outbox = open_in(&dir, 2);
    assert!(outbox.may_lack_commits().unwrap());
    outbox.wait_for_disk(false, Some(("told", "yes"))).unwrap();
    assert!(!outbox.may_lack_commits().unwrap());
    outbox.close().unwrap();
    let outbox = open_in(&dir, 3);
    assert_eq!((outbox.may_lack_commits().unwrap(), outbox.count()), (false, 1), "it was closed in order");
}

#[test]
fn a_lease_that_cannot_be_written_undoes_nothing_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open_in(&dir, 1);
    outbox.wait_for_disk(false, None).unwrap();
    fill(&mut outbox, 3);
    outbox.leased = outbox.next;
    let file = |sql| outbox.store.connection().execute_batch(sql).unwrap();
    file("CREATE TRIGGER full BEFORE INSERT ON meta BEGIN SELECT raise(ABORT, 'full'); END");
    let before = (outbox.next, outbox.count());
    outbox.begin().unwrap_err();
    outbox.rollback();
    assert_eq!((outbox.next, outbox.count()), before);
    outbox.store.connection().execute_batch("DROP TRIGGER full").unwrap();
    fill(&mut outbox, 1);
    assert_eq!((seqs(&outbox), outbox.count()), (vec![1, 2, 3, 4], 4));
}

#[test]
fn a_transaction_that_cannot_begin_is_not_left_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open_in(&dir, 1);
    fill(&mut outbox, 3);
    outbox.close().unwrap();
    let mut outbox = open_in(&dir, 1);
    // The first change takes the stored counts out.
    let file = |sql| outbox.store.connection().execute_batch(sql).unwrap();
    file("CREATE TRIGGER full BEFORE DELETE ON meta BEGIN SELECT raise(ABORT, 'full'); END");
    outbox.begin().unwrap_err();
    outbox.store.connection().execute_batch("DROP TRIGGER full").unwrap();
    fill(&mut outbox, 1);
    assert_eq!((seqs(&outbox), outbox.count()), (vec![1, 2, 3, 4], 4));
}

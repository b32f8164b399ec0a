//! Letters that the cloud will never take.

use super::*;

#[test]
fn a_dead_letter_leaves_its_class_whole_and_with_its_packet_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = super::outbox(&dir);
    let seq = push(&mut outbox, Priority::High, b"poison", at(5_000));
    outbox.begin().unwrap();
    outbox.claim(&Claim { priority: Priority::High, ..claim(7, seq, Stage::Publish) }).unwrap();
    outbox.commit().unwrap();
    outbox.begin().unwrap();
    assert_eq!(outbox.bury((Priority::High, seq), "refused-0x99", at(9_000)).unwrap(), Some(at(5_000)));
    assert_eq!(outbox.bury((Priority::High, seq), "refused-0x99", at(9_000)).unwrap(), None, "it is gone");
    outbox.rollback();
    assert_eq!((outbox.count(), outbox.dead_count(), outbox.claimed().unwrap().len()), (1, 0, 1));
    outbox.begin().unwrap();
    outbox.bury((Priority::High, seq), "refused-0x99", at(9_000)).unwrap();
    outbox.commit().unwrap();
    drop(outbox);
    let mut outbox = super::outbox(&dir);
    assert_eq!((outbox.count(), outbox.dead_count(), outbox.claimed().unwrap().len()), (0, 1, 0));
    let letter =
        outbox.store.connection().query_row("SELECT class, cause, at_ms, payload, ts_ms FROM dead", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        });
    assert_eq!(letter.unwrap(), (1, "refused-0x99".to_owned(), 9_000, b"poison".to_vec(), 5_000));
    assert!(push(&mut outbox, NORMAL, b"x", at(0)) > seq, "its number is not used again");
}

#[test]
fn of_too_many_dead_letters_or_too_large_ones_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = super::outbox(&dir);
    let seqs: Vec<Seq> = (0..6).map(|_| push(&mut outbox, NORMAL, &[0; 99], at(0))).collect();
    outbox.begin().unwrap();
    for seq in &seqs {
        outbox.bury((NORMAL, *seq), "too-large", at(0)).unwrap();
    }
    let left = |outbox: &Outbox| -> (i64, i64) {
        outbox
            .store
            .connection()
            .query_row("SELECT count(*), min(seq) FROM dead", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    assert_eq!((outbox.trim_dead(5, 1_000).unwrap(), left(&outbox)), (1, (5, 2)), "five are allowed");
    assert_eq!((outbox.trim_dead(5, 350).unwrap(), left(&outbox)), (2, (3, 4)), "each has 100 bytes");
    outbox.forget_letter(seqs[4]).unwrap();
    outbox.forget_letter(seqs[4]).unwrap();
    outbox.commit().unwrap();
    drop(outbox);
    let mut outbox = super::outbox(&dir);
    assert_eq!(outbox.dead_count(), 2);
    assert_eq!(
        (outbox.trim_dead(5, 150).unwrap(), left(&outbox)),
        (1, (1, 6)),
        "and they are remembered with their size"
    );
}

#[test]
fn a_letter_frees_the_packet_id_of_its_own_class_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&dir);
    let seq = push(&mut outbox, NORMAL, b"dies", at(1_000));
    let mut other = outbox.record(NORMAL, seq).unwrap().unwrap();
    other.priority = Priority::Urgent;
    outbox.begin().unwrap();
    // Of a damaged file, with the same number.
    assert!(outbox.bring(&other).unwrap());
    outbox.claim(&Claim { priority: Priority::Urgent, ..claim(7, seq, Stage::Publish) }).unwrap();
    outbox.bury((NORMAL, seq), "refused-0x87", at(2_000)).unwrap();
    outbox.commit().unwrap();
    assert_eq!(outbox.claimed().unwrap().iter().map(|claim| claim.pkid).collect::<Vec<_>>(), [7]);
}

//! Purge and retry: what a person has done with an outbox, a bounded piece in a transaction of its own.

use rusqlite::{Row, params};

use super::{Outbox, moment, priority, seq, signed, texts};
use crate::model::chore::{Chore, ChoreReport, Errand, Selection};
use crate::model::{Priority, Qos, RuleId, Seq, Timestamp};
use crate::store::{Dropped, NewRecord, StoreError};

/// A record as a choice sees it.
struct Seen {
    seq: Seq,
    priority: Priority,
    topic: String,
    accepted: Timestamp,
}

impl Outbox {
    /// Does one piece: looks at no more than `rows` records, and commits. Returns its report, and which waiting records were removed.
    ///
    /// # Errors
    /// In words; nothing was changed then.
    pub fn chore(&mut self, chore: &Chore, rows: usize, wall: Timestamp) -> Result<(ChoreReport, Dropped), String> {
        let selection = Selection::of(&chore.choice)?;
        let outcome = self.begin().and_then(|()| {
            let done = self.piece(chore, &selection, rows, wall)?;
            self.commit()?;
            Ok(done)
        });
        outcome.map_err(|error| {
            self.rollback();
            error.to_string()
        })
    }

    fn piece(
        &mut self,
        chore: &Chore,
        selection: &Selection,
        rows: usize,
        wall: Timestamp,
    ) -> Result<(ChoreReport, Dropped), StoreError> {
        let seen = self.seen(chore.errand == Errand::Purge, Seq(chore.after), rows)?;
        let mut next = seen.last().filter(|_| seen.len() >= rows).map(|last| last.seq.0);
        let (mut done, mut dropped) = (0, Dropped::default());
        for record in seen {
            let age = self.boots().age(record.seq, record.accepted, wall);
            if !selection.fits(record.seq, &record.topic, age) {
                continue;
            }
            if self.log_left() == 0 {
                // One behind where it stopped; the next piece begins there.
                next = Some(record.seq.0 - 1);
                break;
            }
            done += 1;
            if chore.dry_run {
                continue;
            }
            match chore.errand {
                Errand::Purge => {
                    self.remove(record.priority, record.seq)?;
                    dropped = dropped.and(Dropped::one(record.seq, self.boots().mended(record.seq, record.accepted)));
                }
                Errand::PurgeDead => self.forget_letter(record.seq)?,
                Errand::Retry => self.send_again(&record, wall)?,
            }
        }
        Ok((ChoreReport { done, next }, dropped))
    }

    /// The records behind a number, by number.
    fn seen(&self, waiting: bool, after: Seq, rows: usize) -> Result<Vec<Seen>, StoreError> {
        let sql = if waiting {
            texts::of_all_classes(
                "seq, {class}, topic, ts_ms, synced, up_ms",
                " AND seq NOT IN (SELECT seq FROM inflight)",
            )
        } else {
            DEAD.to_owned()
        };
        let mut statement = self.store.connection().prepare_cached(&sql)?;
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let found = statement.query_map(params![signed(after.0), rows], |row| {
            Ok(Seen {
                seq: seq(row, 0)?,
                priority: priority(row, 1)?,
                topic: row.get(2)?,
                accepted: Timestamp { unix_ms: row.get(3)?, synced: row.get(4)?, at: moment(row, 5)? },
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// A dead letter becomes a record again, at the end of its class. It counts as accepted anew: a person asked for it, so that the age it had
    /// does not count against it. What its publisher said of its life does.
    fn send_again(&mut self, letter: &Seen, wall: Timestamp) -> Result<(), StoreError> {
        type Letter = (Qos, bool, Option<i64>, Option<Vec<u8>>, Vec<u8>, Option<u32>);

        let read = |row: &Row<'_>| -> rusqlite::Result<Letter> {
            Ok((super::qos(row, 0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        };
        let sql = "SELECT qos, retain, exp_ms, props, payload, rule FROM dead WHERE seq = ?1";
        let found = self.store.connection().prepare_cached(sql)?.query_row([signed(letter.seq.0)], read);
        let (qos, retain, expires_ms, properties, payload, rule) = found?;
        // How long it had left is by the clock that it was accepted by.
        let left_ms = expires_ms.map(|expires_ms| {
            let age = self.boots().age(letter.seq, letter.accepted, wall).unwrap_or_default();
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            expires_ms.saturating_sub(letter.accepted.unix_ms).saturating_sub(age_ms).max(0)
        });
        self.push(NewRecord {
            priority: letter.priority,
            rule: rule.map(RuleId),
            topic: &letter.topic,
            payload: &payload,
            qos,
            retain,
            accepted: wall,
            expires_ms: left_ms.map(|left_ms| wall.unix_ms.saturating_add(left_ms)),
            properties: properties.as_deref(),
            stamp: None,
        })?;
        self.forget_letter(letter.seq)
    }
}

const DEAD: &str = "SELECT seq, class, topic, ts_ms, synced, up_ms FROM dead WHERE seq > ?1 ORDER BY seq LIMIT ?2";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::flight::{Claim, Stage};
    use crate::model::chore::Choice;
    use crate::model::{BootId, Moment};
    use crate::store::browse::{Browse, Shelf};

    fn at(unix_ms: i64) -> Timestamp {
        Timestamp { unix_ms, synced: true, at: Some(Moment::ZERO) }
    }

    /// Ten records, odd numbers urgent, the topic by the number; the first is in flight.
    fn filled(dir: &tempfile::TempDir) -> Outbox {
        let (mut outbox, _) = Outbox::open(&dir.path().join("outbox-cloud.db"), BootId::new([1; 16])).unwrap();
        outbox.begin().unwrap();
        for n in 1..=10 {
            let priority = if n % 2 == 1 { Priority::Urgent } else { Priority::Low };
            let topic = format!("t/{}", n % 3);
            let seq = outbox.push(NewRecord {
                priority,
                rule: None,
                topic: &topic,
                payload: n.to_string().as_bytes(),
                qos: Qos::ExactlyOnce,
                retain: true,
                accepted: at(n * 1_000),
                expires_ms: None,
                properties: None,
                stamp: None,
            });
            assert_eq!(seq.unwrap(), Seq(n.unsigned_abs()));
        }
        outbox
            .claim(&Claim {
                pkid: 9,
                seq: Seq(1),
                priority: Priority::Urgent,
                qos: Qos::ExactlyOnce,
                stage: Stage::Publish,
                nth: 1,
                bytes: 4,
            })
            .unwrap();
        outbox.commit().unwrap();
        outbox
    }

    fn listed(outbox: &Outbox, shelf: Shelf) -> Vec<(u64, String, String)> {
        let browse = Browse::open(outbox.path()).unwrap().unwrap();
        let page = browse.page(shelf, Seq(0), true).unwrap();
        let payload = |payload: Option<Vec<u8>>| String::from_utf8(payload.unwrap()).unwrap();
        page.into_iter().map(|listed| (listed.seq.0, listed.state, payload(listed.payload))).collect()
    }

    fn seqs(outbox: &Outbox, shelf: Shelf) -> Vec<u64> {
        listed(outbox, shelf).into_iter().map(|(seq, ..)| seq).collect()
    }

    /// Piece after piece until there is none.
    fn all(outbox: &mut Outbox, errand: Errand, choice: &Choice, rows: usize) -> (u64, Dropped) {
        let mut chore = Chore { errand, choice: choice.clone(), after: 0, dry_run: false };
        let (mut done, mut dropped) = (0, Dropped::default());
        loop {
            let (report, piece) = outbox.chore(&chore, rows, at(20_000)).unwrap();
            done += report.done;
            dropped = dropped.and(piece);
            match report.next {
                Some(next) => chore.after = next,
                None => return (done, dropped),
            }
        }
    }

    #[test]
    fn a_purge_takes_what_was_chosen_by_any_piece_and_never_what_is_in_flight() {
        for rows in [1, 3, 100] {
            let dir = tempfile::tempdir().unwrap();
            let mut outbox = filled(&dir);
            let choice = Choice { topic: Some("t/1".into()), ..Choice::default() };
            let (done, dropped) = all(&mut outbox, Errand::Purge, &choice, rows);
            assert_eq!(seqs(&outbox, Shelf::Waiting), [1, 2, 3, 5, 6, 8, 9], "by {rows}");
            assert_eq!((done, dropped.count, dropped.seqs, outbox.count()), (3, 3, (Seq(4), Seq(10)), 7));
            let (done, _) = all(&mut outbox, Errand::Purge, &Choice::default(), rows);
            assert_eq!((done, listed(&outbox, Shelf::Waiting)), (6, vec![(1, "sent".into(), "1".into())]));
        }
    }

    #[test]
    fn a_dry_run_counts_what_would_be_done_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = filled(&dir);
        let choice = Choice { topic: Some("t/1".into()), ..Choice::default() };
        let chore = Chore { errand: Errand::Purge, choice, after: 0, dry_run: true };
        let (report, dropped) = outbox.chore(&chore, 100, at(20_000)).unwrap();
        assert_eq!((report.done, dropped.count, outbox.count()), (3, 0, 10));
    }

    #[test]
    fn an_age_and_numbers_choose_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = filled(&dir);
        let old = Choice { older_ms: Some(15_500), ..Choice::default() };
        assert_eq!(all(&mut outbox, Errand::Purge, &old, 100).0, 3, "2 to 4; 1 is in flight");
        let some = Choice { seqs: vec![9, 6, 77], ..Choice::default() };
        assert_eq!(all(&mut outbox, Errand::Purge, &some, 100).0, 2);
        assert_eq!(seqs(&outbox, Shelf::Waiting), [1, 5, 7, 8, 10]);
    }

    fn bury(outbox: &mut Outbox, seq: u64, expires_ms: Option<i64>) {
        outbox.begin().unwrap();
        let sql = "INSERT INTO dead(seq, class, cause, at_ms, qos, retain, ts_ms, synced, exp_ms, topic, payload) \
                   VALUES (?1, 0, 'refused-0x87', 9, 2, 1, 1000, 1, ?2, 'dead', CAST('x' AS BLOB))";
        outbox.run(sql, params![signed(seq), expires_ms]).unwrap();
        outbox.commit().unwrap();
    }

    #[test]
    fn dead_letters_wait_again_under_new_numbers_or_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = filled(&dir);
        for seq in [101, 102, 103] {
            bury(&mut outbox, seq, None);
        }
        assert_eq!(listed(&outbox, Shelf::Dead)[0], (101, "refused-0x87".into(), "x".into()));
        let one = Choice { seqs: vec![102], ..Choice::default() };
        assert_eq!(all(&mut outbox, Errand::Retry, &one, 2).0, 1);
        assert_eq!((seqs(&outbox, Shelf::Dead), outbox.count()), (vec![101, 103], 11));
        let again = outbox.record(Priority::Urgent, Seq(11)).unwrap().expect("it waits at the end of its class");
        assert_eq!(
            (&*again.topic, &*again.payload, again.qos, again.retain),
            ("dead", &b"x"[..], Qos::ExactlyOnce, true)
        );
        assert_eq!(again.accepted.unix_ms, 20_000, "accepted anew");
        assert_eq!(all(&mut outbox, Errand::PurgeDead, &Choice::default(), 1).0, 2);
        assert_eq!((seqs(&outbox, Shelf::Dead), outbox.count()), (vec![], 11), "and nothing of what waits");
    }

    #[test]
    fn a_letter_s_own_life_is_not_made_longer() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = filled(&dir);
        bury(&mut outbox, 101, Some(31_000));
        bury(&mut outbox, 102, Some(5_000));
        all(&mut outbox, Errand::Retry, &Choice::default(), 100);
        let expires = |seq| outbox.record(Priority::Urgent, Seq(seq)).unwrap().unwrap().expires_ms;
        assert_eq!((expires(11), expires(12)), (Some(31_000), Some(20_000)), "11 s left of 30, and none");
    }

    #[test]
    fn a_wrong_choice_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = filled(&dir);
        let choice = Choice { topic: Some("#/x".into()), ..Choice::default() };
        let chore = Chore { errand: Errand::Purge, choice, after: 0, dry_run: false };
        assert!(outbox.chore(&chore, 10, at(0)).unwrap_err().contains("no topic filter"));
        assert_eq!(outbox.count(), 10);
    }
}

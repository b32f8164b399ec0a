//! QoS 2 messages of local clients that are said again: known where they are here, and never taken for another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::bench::Bench;
use super::durable::{after_a_power_cut, photograph, process};
use crate::bridge::held::Waiter;
use crate::bridge::intake::Offered;
use crate::clock::Clock;
use crate::limits::{COMMIT_ROWS_MAX, EXCHANGES_MAX, RELEASE_LINGER, STORE_RETRY};
use crate::model::{Era, ExchangeId, Message, Origin, Qos};
use crate::ports::NotAccepted;

type Told = oneshot::Receiver<Result<(), NotAccepted>>;

fn id(packet_id: u16) -> ExchangeId {
    ExchangeId { session: 5, packet_id }
}

fn era(before: Option<i64>, now: i64) -> Era {
    Era { before, now, sessions: None }
}

/// A bench in its first era.
fn bench() -> Bench {
    let mut bench = Bench::new();
    begin(&mut bench, era(None, 1));
    bench
}

fn begin(bench: &mut Bench, era: Era) {
    bench.core.begin_era(era);
    bench.turn(0);
}

/// As after a kill, in the era that follows the first.
fn killed(bench: Bench) -> Bench {
    let mut bench = bench.reopen(|_| ());
    begin(&mut bench, era(Some(1), 2));
    bench
}

fn client(bench: &Bench, exchange: ExchangeId, payload: &str) -> (Offered, Told) {
    let (answer, told) = oneshot::channel();
    let offered = bench.offered("t", payload, Qos::ExactlyOnce);
    let message = Message { origin: Origin::Client, exchange: Some(exchange), ..Message::clone(&offered.message) };
    (Offered { answer: Some(answer), message: Arc::new(message), ..offered }, told)
}

/// A client's message is taken in.
fn take_in(bench: &mut Bench, exchange: ExchangeId, payload: &str) {
    let (offered, mut told) = client(bench, exchange, payload);
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.turn(0);
    assert_eq!(told.try_recv(), Ok(Ok(())), "{payload} under {exchange:?}");
}

/// The packet id becomes free; not before its time.
fn release(bench: &mut Bench, exchange: ExchangeId) {
    let (waiter, _told) = Waiter::new(None);
    bench.core.release_exchange(exchange, waiter, bench.clock.now());
    bench.clock.advance(RELEASE_LINGER);
    bench.turn(0);
    assert_eq!(freed(bench), [exchange]);
}

fn freed(bench: &mut Bench) -> Vec<ExchangeId> {
    bench.core.take_freed().into_iter().map(|(exchange, _)| exchange).collect()
}

/// What the file holds at this moment: it is read as a life after a kill would read it.
fn in_file(bench: &Bench) -> usize {
    bench.core.outbox.as_ref().unwrap().exchanges().unwrap().len()
}

#[test]
fn a_message_that_is_said_again_after_a_kill_goes_up_once() {
    let mut bench = bench();
    take_in(&mut bench, id(7), "1");
    let mut bench = killed(bench);
    take_in(&mut bench, id(7), "1");
    take_in(&mut bench, id(8), "2");
    bench.connect();
    assert_eq!(bench.arrived(), ["1", "2"]);
}

#[test]
fn of_two_in_one_commit_one_is_stored_and_both_are_answered() {
    let mut bench = bench();
    let [(one, mut first), (other, mut second)] = [client(&bench, id(7), "1"), client(&bench, id(7), "1")];
    bench.core.offer(one, bench.clock.now(), 0);
    bench.core.offer(other, bench.clock.now(), 0);
    bench.turn(0);
    assert_eq!([first.try_recv(), second.try_recv()], [Ok(Ok(())), Ok(Ok(()))]);
    assert_eq!(bench.core.queued(), 1);
}

#[test]
fn a_message_that_was_delivered_and_dropped_by_a_rule_is_known_all_the_same() {
    let mut bench = Bench::with(|settings| settings.outbox.max_messages = 1);
    begin(&mut bench, era(None, 1));
    take_in(&mut bench, id(7), "dropped");
    take_in(&mut bench, id(8), "delivered");
    bench.connect();
    bench.clock.advance(Duration::from_secs(2));
    bench.turn(0);
    assert_eq!((bench.arrived(), bench.core.queued()), (vec!["delivered".to_owned()], 0));
    let mut bench = killed(bench);
    take_in(&mut bench, id(7), "dropped");
    take_in(&mut bench, id(8), "delivered");
    assert_eq!(bench.core.queued(), 0);
}

#[test]
fn a_packet_id_is_free_once_that_is_committed_and_the_same_message_is_a_new_one_then() {
    let mut bench = bench();
    take_in(&mut bench, id(7), "1");
    let (waiter, _told) = Waiter::new(None);
    bench.core.release_exchange(id(7), waiter, bench.clock.now());
    bench.turn(0);
    assert_eq!((freed(&mut bench), in_file(&bench)), (vec![], 1), "it waits for company");
    assert_eq!(bench.core.poll_timeout(), Some(bench.clock.now() + RELEASE_LINGER));
    bench.clock.advance(RELEASE_LINGER);
    bench.turn(0);
    assert_eq!((freed(&mut bench), in_file(&bench)), (vec![id(7)], 0));
    let mut bench = killed(bench);
    take_in(&mut bench, id(7), "1");
    assert_eq!((bench.core.queued(), in_file(&bench)), (2, 1));
}

#[test]
fn a_packet_id_is_not_free_while_the_store_cannot_be_written() {
    let mut bench = bench();
    take_in(&mut bench, id(7), "1");
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    let (waiter, _told) = Waiter::new(None);
    bench.core.release_exchange(id(7), waiter, bench.clock.now());
    bench.clock.advance(RELEASE_LINGER);
    for _ in 0..3 {
        bench.turn(0);
    }
    assert_eq!((freed(&mut bench), in_file(&bench)), (vec![], 1));
    assert!(!bench.core.has_more(bench.clock.now(), 0), "it is not tried without a pause");
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    bench.clock.advance(STORE_RETRY);
    bench.turn(0);
    assert_eq!((freed(&mut bench), in_file(&bench)), (vec![id(7)], 0));
}

#[test]
fn one_that_the_store_does_not_know_is_free_at_once() {
    let mut bench = bench();
    let (waiter, _told) = Waiter::new(None);
    bench.core.release_exchange(id(7), waiter, bench.clock.now());
    assert_eq!(freed(&mut bench), [id(7)]);
}

#[test]
fn another_message_under_the_same_packet_id_is_never_taken_for_the_one_before() {
    let mut bench = bench();
    take_in(&mut bench, id(7), "1");
    let mut bench = killed(bench);
    take_in(&mut bench, id(7), "2");
    take_in(&mut bench, id(7), "2");
    take_in(&mut bench, ExchangeId { session: 6, ..id(7) }, "2");
    bench.connect();
    assert_eq!(bench.arrived(), ["1", "2", "2"]);
}

#[test]
fn a_bridge_that_was_not_there_for_an_era_knows_nothing() {
    // The broker's file was replaced; packet ids became free meanwhile.
    for before in [None, Some(99)] {
        let mut bench = bench();
        take_in(&mut bench, id(7), "1");
        let mut bench = bench.reopen(|_| ());
        begin(&mut bench, era(before, 2));
        assert_eq!(in_file(&bench), 0, "also when it dies again");
        take_in(&mut bench, id(7), "1");
        assert_eq!(bench.core.queued(), 2);
    }
}

#[test]
fn an_era_that_the_broker_never_came_to_write_down_is_no_gap() {
    let mut bench = bench();
    take_in(&mut bench, id(7), "1");
    // The second dies before the broker writes it down.
    let mut bench = killed(bench).reopen(|_| ());
    begin(&mut bench, era(Some(1), 3));
    take_in(&mut bench, id(7), "1");
    assert_eq!(bench.core.queued(), 1);
    // Of those that follow each other nothing is forgotten either.
    begin(&mut bench, era(Some(3), 4));
    let mut bench = bench.reopen(|_| ());
    begin(&mut bench, era(Some(4), 5));
    take_in(&mut bench, id(7), "1");
    assert_eq!(bench.core.queued(), 1);
}

#[test]
fn where_an_era_cannot_be_written_down_nothing_counts_and_nobody_waits() {
    let mut bench = bench();
    take_in(&mut bench, id(7), "1");
    let mut bench = bench.reopen(|_| ());
    bench.core.outbox.as_mut().unwrap().break_commits(true);
    begin(&mut bench, era(Some(1), 2));
    assert_eq!(bench.core.exchanges().count(), 0);
    let (waiter, _told) = Waiter::new(None);
    bench.core.release_exchange(id(7), waiter, bench.clock.now());
    assert_eq!(freed(&mut bench), [id(7)], "the next message under it is no old one");
    bench.core.outbox.as_mut().unwrap().break_commits(false);
    bench.clock.advance(STORE_RETRY);
    take_in(&mut bench, id(7), "1");
    assert_eq!((bench.core.queued(), in_file(&bench)), (2, 1));
    // An engine that is made anew judges by the file.
    let mut bench = bench.reopen(|_| ());
    begin(&mut bench, era(None, 2));
    take_in(&mut bench, id(7), "1");
    assert_eq!(bench.core.queued(), 2);
}

#[test]
fn nothing_counts_before_the_broker_has_said_which_era_it_is() {
    let mut bench = bench();
    take_in(&mut bench, id(7), "1");
    let mut bench = bench.reopen(|_| ());
    take_in(&mut bench, id(7), "1");
    take_in(&mut bench, id(8), "2");
    assert_eq!((bench.core.queued(), in_file(&bench)), (3, 1));
}

#[test]
fn what_a_session_left_goes_with_it() {
    let mut bench = bench();
    take_in(&mut bench, id(7), "1");
    let (offered, _told) = client(&bench, id(8), "2");
    bench.core.offer(offered, bench.clock.now(), 0);
    bench.core.sessions_over(vec![5]);
    bench.turn(0);
    assert_eq!((in_file(&bench), bench.core.exchanges().count()), (0, 0));
    take_in(&mut bench, id(7), "1");
    assert_eq!(bench.core.queued(), 3);
    // The same at a start, of those that are not there any more.
    take_in(&mut bench, ExchangeId { session: 6, packet_id: 7 }, "1");
    let mut bench = bench.reopen(|_| ());
    begin(&mut bench, Era { before: Some(1), now: 2, sessions: Some(Arc::new([6].into())) });
    assert_eq!(bench.core.exchanges().collect::<Vec<_>>(), [ExchangeId { session: 6, packet_id: 7 }]);
    release(&mut bench, ExchangeId { session: 6, packet_id: 7 });
    assert_eq!(in_file(&bench), 0);
}

#[test]
fn one_whose_copy_was_fetched_before_is_known_when_it_is_said_again() {
    let mut bench = bench();
    bench.store(Qos::AtLeastOnce, &["1"]);
    let (offered, mut told) = client(&bench, id(7), "1");
    bench.core.offer(Offered { is_here: true, ..offered }, bench.clock.now(), 0);
    bench.turn(0);
    assert_eq!(told.try_recv(), Ok(Ok(())));
    let mut bench = killed(bench);
    take_in(&mut bench, id(7), "1");
    assert_eq!(bench.core.queued(), 1);
}

#[test]
fn a_power_cut_that_may_have_taken_commits_takes_what_was_known() {
    let mut bench = Bench::with(process);
    begin(&mut bench, era(None, 1));
    take_in(&mut bench, id(7), "1");
    bench.core.outbox.as_ref().unwrap().flush().unwrap();
    let photo = tempfile::tempdir().unwrap();
    photograph(bench.dir.path(), photo.path());
    // The client hears that it is free, and the disk does not.
    release(&mut bench, id(7));
    let mut bench = after_a_power_cut(bench, photo.path(), process);
    assert_eq!(in_file(&bench), 0);
    begin(&mut bench, era(Some(1), 2));
    take_in(&mut bench, id(7), "1");
    assert_eq!(bench.core.queued(), 2);
}

#[test]
fn what_is_known_is_bounded_and_one_too_many_is_stored_without_it() {
    let mut bench = bench();
    let count = u16::try_from(EXCHANGES_MAX).unwrap() + 1;
    for packet_id in 0..count {
        let (offered, _told) = client(&bench, id(packet_id), "1");
        bench.core.offer(offered, bench.clock.now(), 0);
        if usize::from(packet_id) % COMMIT_ROWS_MAX == 0 {
            bench.turn(0);
        }
    }
    bench.turn(0);
    bench.turn(0);
    assert_eq!((bench.core.queued(), in_file(&bench)), (u64::from(count), EXCHANGES_MAX));
    for packet_id in 0..count {
        let (waiter, _told) = Waiter::new(None);
        bench.core.release_exchange(id(packet_id), waiter, bench.clock.now());
    }
    bench.clock.advance(RELEASE_LINGER);
    while bench.core.has_more(bench.clock.now(), 0) {
        bench.turn(0);
    }
    assert_eq!((freed(&mut bench).len(), in_file(&bench)), (usize::from(count), 0));
    take_in(&mut bench, id(count), "2");
    assert_eq!(in_file(&bench), 1);
}

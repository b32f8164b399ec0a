use super::*;
use crate::broker::journal::{Diary, Op, Receipt};
use crate::broker::keeper::Urgency;
use crate::broker::session::Delivery;
use crate::clock::FakeClock;
use crate::model::{Message, Origin, Qos};

fn lay(desk: &Desk, op: Op, due: Due, receipt: Option<&mut Receipt>) -> u64 {
    let mut diary = Diary::default();
    diary.keep();
    diary.note(op, due, receipt);
    desk.lay(1, diary.take().unwrap().0, None)
}

fn queued(message: &Arc<Message>) -> Op {
    let (message, qos) = (message.clone(), Qos::AtLeastOnce);
    let (row, retain) = (1, false);
    Op::Queued(Delivery {
        message,
        qos,
        retain,
        expires: None,
        subscription_ids: None,
        by_group: None,
        row,
        weight: None,
    })
}

/// What the thread would do: wait, or write in this commit.
fn look(desk: &Desk) -> Option<u64> {
    match desk.look(&mut desk.tray()) {
        Look::Batch(batch) => Some(batch.commit),
        Look::Wait(_) => None,
        Look::Killed => panic!("nobody killed it"),
    }
}

fn bench() -> (FakeClock, Arc<Desk>, Arc<Message>) {
    let clock = FakeClock::new(0);
    let desk = Desk::new(Arc::new(clock.clone()), 1);
    let message = Message::new(TopicName::parse("t").unwrap(), *b"x", Qos::AtLeastOnce, false, Origin::Client);
    (clock, desk, Arc::new(message))
}

#[tokio::test]
async fn what_a_subscriber_acknowledges_within_the_linger_is_not_written_and_its_publisher_is_answered() {
    let (clock, desk, message) = bench();
    let mut receipt = Receipt::new(Urgency::Now);
    lay(&desk, queued(&message), Due::Linger, Some(&mut receipt));
    let pending = receipt.pending().expect("it may have to be written");
    assert_eq!(look(&desk), None);
    lay(&desk, Op::Gone(1, Some(message.clone())), Due::Lazy, None);
    pending.await.unwrap();
    clock.advance(limits::SESSION_LINGER + limits::SESSION_LAZY);
    assert_eq!(look(&desk), None, "nothing is left to write");
}

#[test]
fn what_is_not_acknowledged_within_the_linger_is_written_and_what_nobody_waits_for_later() {
    let (clock, desk, message) = bench();
    let mut receipt = Receipt::new(Urgency::Now);
    lay(&desk, queued(&message), Due::Linger, Some(&mut receipt));
    clock.advance(limits::SESSION_LINGER);
    assert_eq!(look(&desk), Some(1));
    lay(&desk, Op::Gone(1, Some(message)), Due::Lazy, None);
    assert_eq!(look(&desk), None);
    clock.advance(limits::SESSION_LAZY);
    assert_eq!(look(&desk), Some(2));
}

#[test]
fn what_belongs_together_is_not_taken_apart_and_does_not_keep_the_thread_waiting() {
    let (_clock, desk, message) = bench();
    let hold = Desk::hold(Some(&desk));
    let first = lay(&desk, queued(&message), Due::Now, None);
    assert_eq!(look(&desk), None, "it is not complete");
    let second = lay(&desk, Op::Received(7), Due::Now, None);
    drop(hold);
    // The next publication has begun before the thread looks again.
    let hold = Desk::hold(Some(&desk));
    let third = lay(&desk, Op::Received(8), Due::Now, None);
    assert_eq!((first, second, third), (1, 1, 2));
    assert_eq!(look(&desk), Some(1));
    drop(hold);
    assert_eq!(look(&desk), Some(2));
}

#[test]
fn a_hold_within_another_lasts_as_long_as_that() {
    let (_clock, desk, message) = bench();
    let outer = Desk::hold(Some(&desk));
    lay(&desk, queued(&message), Due::Now, None);
    drop(Desk::hold(Some(&desk)));
    assert_eq!(look(&desk), None);
    drop(Desk::hold(Some(&desk)));
    assert_eq!(look(&desk), None);
    drop(outer);
    assert_eq!(look(&desk), Some(1));
}

#[test]
fn after_a_failure_what_nobody_waits_for_is_tried_later_and_what_somebody_waits_for_at_once() {
    let (clock, desk, message) = bench();
    lay(&desk, queued(&message), Due::Now, None);
    let Look::Batch(batch) = desk.look(&mut desk.tray()) else { panic!("it is due") };
    desk.failed(batch, &Broken::Store("full".into()), true);
    lay(&desk, Op::Received(7), Due::Now, None);
    assert_eq!(look(&desk), None);
    let mut receipt = Receipt::new(Urgency::Now);
    lay(&desk, Op::Received(8), Due::Now, Some(&mut receipt));
    let Look::Batch(batch) = desk.look(&mut desk.tray()) else { panic!("somebody waits") };
    assert_eq!((batch.sessions.places.len(), batch.sessions.received.len()), (1, 2));
    desk.failed(batch, &Broken::Store("full".into()), true);
    assert_eq!(look(&desk), None);
    clock.advance(limits::RETAINED_RETRY);
    assert_eq!(look(&desk), Some(3));
}

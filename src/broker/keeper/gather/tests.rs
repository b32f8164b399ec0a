use super::*;
use crate::broker::journal::{Diary, Due, Receipt};
use crate::broker::keeper::Urgency;
use crate::clock::FakeClock;
use crate::model::{Origin, Qos, TopicName};

fn delivery(row: i64, message: &Arc<Message>) -> Delivery {
    let (message, qos) = (message.clone(), Qos::ExactlyOnce);
    Delivery { message, qos, retain: false, expires: None, subscription_ids: None, by_group: None, row, weight: None }
}

fn message() -> Arc<Message> {
    Arc::new(Message::new(TopicName::parse("t").unwrap(), *b"x", Qos::ExactlyOnce, false, Origin::Client))
}

struct Bench {
    gathered: Gathered,
    bodies: Bodies,
    clock: FakeClock,
}

impl Bench {
    fn new() -> Self {
        Self { gathered: Gathered::default(), bodies: Bodies::from(1), clock: FakeClock::new(0) }
    }

    fn lay(&mut self, session: i64, op: Op, receipt: Option<&mut Receipt>) {
        let mut diary = Diary::default();
        diary.keep();
        diary.note(op, Due::Now, receipt);
        for entry in diary.take().unwrap().0 {
            self.gathered.lay(session, entry, &mut self.bodies, &self.clock);
        }
    }

    /// Takes what is there, as a commit does.
    fn take(&mut self) -> Gathered {
        std::mem::take(&mut self.gathered)
    }
}

fn sent(packet_id: u16) -> Sent {
    Sent { packet_id, turn: 1 }
}

#[tokio::test]
async fn what_comes_and_goes_between_two_commits_leaves_nothing_and_nobody_waits_for_it() {
    let mut bench = Bench::new();
    let message = message();
    let mut receipt = Receipt::new(Urgency::Now);
    for session in [1, 2] {
        bench.lay(session, Op::Queued(delivery(1, &message)), Some(&mut receipt));
    }
    let pending = receipt.pending().expect("two have to be written");
    assert_eq!((bench.gathered.bodies.len(), bench.gathered.waiting), (1, 2));
    bench.lay(1, Op::Gone(1, Some(message.clone())), None);
    assert_eq!((bench.gathered.bodies.len(), bench.gathered.waiting), (1, 1), "the other still has it");
    bench.lay(2, Op::Gone(1, Some(message.clone())), None);
    assert!(bench.gathered.is_empty());
    pending.await.unwrap();
}

#[test]
fn a_body_that_was_written_goes_with_its_last_place() {
    let mut bench = Bench::new();
    let message = message();
    for session in [1, 2] {
        bench.lay(session, Op::Queued(delivery(1, &message)), None);
    }
    bench.take();
    bench.lay(1, Op::Released(1, sent(7), Some(message.clone())), None);
    assert!(bench.gathered.bodies.is_empty());
    bench.lay(2, Op::Gone(1, Some(message.clone())), None);
    assert!(matches!(bench.gathered.bodies[&1], Body::Gone));
    assert!(matches!(bench.gathered.places[&(1, 1)], Place::Sent { sent: it, released: true } if it == sent(7)));
    assert!(matches!(bench.gathered.places[&(2, 1)], Place::Gone));
}

#[tokio::test]
async fn what_could_not_be_written_comes_back_as_it_is_by_now() {
    let mut bench = Bench::new();
    let message = message();
    let mut receipt = Receipt::new(Urgency::Now);
    for row in 1..=3 {
        bench.lay(1, Op::Queued(delivery(row, &message)), Some(&mut receipt));
    }
    bench.lay(1, Op::Received(9), Some(&mut receipt));
    let pending = receipt.pending().unwrap();
    let mut failed = bench.take();
    bench.lay(1, Op::Sent(1, sent(7)), None);
    bench.lay(1, Op::Released(2, sent(8), Some(message.clone())), None);
    bench.lay(1, Op::Gone(3, Some(message.clone())), None);
    bench.lay(1, Op::Forgotten(9), None);
    let broken = Broken::Store("full".into());
    failed.break_promises(&broken);
    bench.gathered.put_back(failed, false);
    assert_eq!(pending.await, Err(broken));
    let places = &bench.gathered.places;
    assert!(matches!(&places[&(1, 1)], Place::New { body: Some(1), sent: Some(it), .. } if *it == sent(7)));
    assert!(matches!(&places[&(1, 2)], Place::New { body: None, delivery: None, sent: Some(_), .. }));
    assert!(matches!(&places[&(1, 3)], Place::Gone));
    assert!(!bench.gathered.received[&(1, 9)]);
    assert!(matches!(bench.gathered.bodies[&1], Body::Put { .. }));
}

#[test]
fn nothing_of_a_session_that_has_ended_comes_back() {
    let mut bench = Bench::new();
    let message = message();
    bench.lay(1, Op::Queued(delivery(1, &message)), None);
    bench.lay(1, Op::Received(9), None);
    let failed = bench.take();
    bench.lay(1, Op::Gone(1, Some(message.clone())), None);
    bench.lay(1, Op::End, None);
    bench.gathered.put_back(failed, false);
    assert!(bench.gathered.places.is_empty() && bench.gathered.received.is_empty());
    assert!(bench.gathered.sessions[&1].is_none());
}

#[tokio::test]
async fn what_went_while_a_disk_was_full_leaves_nothing_and_who_came_meanwhile_still_waits() {
    let mut bench = Bench::new();
    let (message, other) = (message(), message());
    bench.lay(1, Op::Queued(delivery(1, &message)), None);
    let failed = bench.take();
    bench.lay(1, Op::Gone(1, Some(message.clone())), None);
    let mut receipt = Receipt::new(Urgency::Now);
    bench.lay(1, Op::Queued(delivery(2, &other)), Some(&mut receipt));
    let mut pending = receipt.pending().unwrap();
    bench.gathered.put_back(failed, true);
    assert_eq!(bench.gathered.places.keys().collect::<Vec<_>>(), [&(1, 2)]);
    assert_eq!((bench.gathered.bodies.len(), bench.gathered.waiting), (1, 1));
    assert!(tokio::time::timeout(std::time::Duration::ZERO, &mut pending).await.is_err());
    bench.take().written();
    pending.await.unwrap();
}

use super::super::Urgency;
use super::super::gather::Place;
use super::*;
use crate::broker::core::Core;
use crate::broker::fanout::Trie;
use crate::broker::journal::Receipt;
use crate::broker::queue::Room;
use crate::broker::session::{Attachment, Subscription};
use crate::broker::subscribers::Slot;
use crate::clock::FakeClock;
use crate::model::{Message, Origin, Qos, TopicFilter};
use std::time::Duration;

const NOW: Moment = Moment::at(Duration::from_secs(100));

fn desk() -> Arc<Desk> {
    Desk::new(Arc::new(FakeClock::new(0)), 1)
}

fn join(core: &mut Core, client: &str) -> Arc<Slot> {
    let room = Room { messages: 1_000, bytes: 1 << 20 };
    let attachment = Attachment { window: 10, expiry_s: u32::MAX, room, wake: Arc::default() };
    let slot = core.attach(&client.into(), None, false, None, attachment, NOW).unwrap().slot;
    let subscription = Subscription {
        filter: TopicFilter::parse("t").unwrap(),
        group: Some("g".into()),
        qos: Qos::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        identifier: None,
        since: 0,
    };
    core.subscribe(&slot, &TopicFilter::parse("$share/g/t").unwrap(), subscription, 2, &mut Receipt::lazy());
    slot
}

/// A core with a member of a shared subscription for which so many messages wait, and another member that came later.
fn with_waiting(desk: &Arc<Desk>, count: i64, receipt: &mut Receipt) -> (Core, [Arc<Slot>; 2]) {
    let mut core = Core::new(Box::new(Trie::default()), u64::MAX);
    core.write_to(Some(desk));
    let leaves = join(&mut core, "leaves");
    for _ in 0..count {
        let topic = TopicName::parse("t").unwrap();
        let message = Message::new(topic, *b"x", Qos::AtLeastOnce, false, Origin::Client);
        core.publish(0, Arc::new(message), NOW, receipt);
    }
    let heir = join(&mut core, "heir");
    (core, [leaves, heir])
}

fn take(desk: &Desk) -> Batch {
    let Look::Batch(batch) = desk.look(&mut desk.tray()) else { panic!("nothing is due") };
    batch
}

#[tokio::test]
async fn the_publisher_of_what_a_member_bequeaths_waits_until_the_heir_has_it_on_disk() {
    let desk = desk();
    let mut receipt = Receipt::new(Urgency::Now);
    let (mut core, [leaves, _]) = with_waiting(&desk, 20, &mut receipt);
    let mut pending = receipt.pending().unwrap();
    core.kick("leaves", true, NOW).unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, &mut pending).await.is_err(), "nothing is on disk");
    let batch = take(&desk);
    assert_eq!(batch.sessions.places.len(), 20, "only the heir's");
    assert!(batch.sessions.places.keys().all(|(session, _)| *session != leaves.session().last_id()));
    desk.done(batch);
    pending.await.unwrap();
}

#[test]
fn what_a_member_bequeaths_goes_and_comes_in_one_commit_whenever_that_is_taken() {
    const COUNT: i64 = 500;
    let desk = desk();
    let (mut core, [leaves, heir]) = with_waiting(&desk, COUNT, &mut Receipt::new(Urgency::Now));
    let (leaves, heir) = (leaves.session().last_id(), heir.session().last_id());
    desk.done(take(&desk));
    let (taker, taken) = (desk.clone(), std::sync::mpsc::sync_channel(1));
    let taker = std::thread::spawn(move || {
        loop {
            let look = taker.look(&mut taker.tray());
            match look {
                Look::Killed => return,
                Look::Batch(batch) => taken.0.send(batch).unwrap(),
                Look::Wait(_) => std::thread::yield_now(),
            }
        }
    });
    core.kick("leaves", true, NOW).unwrap();
    let mut gone = 0;
    while gone < COUNT {
        let batch = taken.1.recv_timeout(Duration::from_secs(20)).unwrap();
        let places = &batch.sessions.places;
        let of = |id: i64, is_gone: bool| {
            let is_one = |(key, place): &(&(i64, i64), &Place)| key.0 == id && matches!(place, Place::Gone) == is_gone;
            i64::try_from(places.iter().filter(is_one).count()).unwrap()
        };
        let (left, came) = (of(leaves, true), of(heir, false));
        // The end of the session takes its rows with it.
        let is_over = matches!(batch.sessions.sessions.get(&leaves), Some(None));
        assert_eq!(if is_over { COUNT } else { left }, came);
        gone += came;
        if gone == 0 {
            assert_eq!(left, 0);
        }
    }
    desk.tray().is_killed = true;
    taker.join().unwrap();
}

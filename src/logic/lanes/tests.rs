use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A store in memory, read as the engine reads the real one.
struct Model {
    lanes: Lanes,
    next: u64,
    /// What is in the store, with its class and whether it is QoS 2.
    stored: Vec<(Seq, Priority, bool)>,
    flight: BTreeSet<Seq>,
    /// Everything accepted since the link came up.
    live: BTreeSet<Seq>,
}

impl Model {
    fn new(order: Order) -> Self {
        let (lanes, next) = (Lanes::new(order), 1);
        Self { lanes, next, stored: Vec::new(), flight: BTreeSet::new(), live: BTreeSet::new() }
    }

    fn add(&mut self, priority: Priority, qos2: bool) -> Seq {
        let seq = Seq(self.next);
        self.next += 1;
        self.stored.push((seq, priority, qos2));
        self.lanes.added(priority);
        self.live.insert(seq);
        seq
    }

    fn link_up(&mut self) {
        self.lanes.link_up(Seq(self.next));
        self.live.clear();
    }

    /// Sends one record more, as the engine's `fill` does; `None` when nothing may go.
    fn send(&mut self, qos2: bool) -> Option<Seq> {
        while let Some(look) = self.lanes.next(qos2) {
            let between = |seq: Seq| seq > look.after && seq < look.before;
            let found = self.stored.iter().find(|(seq, class, _)| *class == look.priority && between(*seq));
            match found.copied() {
                None => self.lanes.ended(look),
                Some((seq, ..)) if self.flight.contains(&seq) => self.lanes.passed(look, seq),
                Some((_, _, true)) if !qos2 => self.lanes.held(look),
                Some((seq, ..)) => {
                    self.lanes.passed(look, seq);
                    self.flight.insert(seq);
                    return Some(seq);
                }
            }
        }
        None
    }

    fn send_all(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.send(true)).map(|seq| seq.0).collect()
    }

    /// Of the records that may go, the one that should: the first of the most urgent class, what is live ahead of what is not.
    fn expected(&self, order: Order, qos2: bool) -> Option<Seq> {
        let live = |seq: &Seq| order == Order::LiveFirst && self.live.contains(seq);
        for priority in Priority::ALL {
            for part in [true, false] {
                let mut lane: Vec<_> =
                    self.stored.iter().filter(|(seq, class, _)| *class == priority && live(seq) == part).collect();
                lane.sort_by_key(|(seq, ..)| *seq);
                let first = lane.into_iter().find(|(seq, ..)| !self.flight.contains(seq));
                if let Some((seq, _, is_qos2)) = first
                    && (qos2 || !is_qos2)
                {
                    return Some(*seq);
                }
            }
        }
        None
    }
}

#[test]
fn the_more_urgent_goes_first_and_a_class_in_its_order() {
    let mut model = Model::new(Order::OldestFirst);
    for priority in [Priority::Low, Priority::Normal, Priority::Urgent, Priority::Normal, Priority::High] {
        model.add(priority, false);
    }
    model.link_up();
    assert_eq!(model.send_all(), [3, 5, 2, 4, 1]);
    model.add(Priority::Normal, false);
    model.add(Priority::Urgent, false);
    assert_eq!(model.send_all(), [7, 6]);
}

#[test]
fn with_live_first_what_is_new_goes_ahead_until_the_next_outage_makes_it_backlog() {
    let mut model = Model::new(Order::LiveFirst);
    for _ in 0..3 {
        model.add(Priority::Normal, false);
    }
    model.link_up();
    assert_eq!(model.send(true), Some(Seq(1)));
    model.add(Priority::Normal, false);
    model.add(Priority::Normal, false);
    assert_eq!([model.send(true), model.send(true)], [Some(Seq(4)), Some(Seq(5))]);
    model.add(Priority::Normal, false);
    // 1, 4 and 5 are on the wire, and will be said again; 2, 3 and 6 are backlog now.
    model.link_up();
    model.add(Priority::Normal, false);
    assert_eq!(model.send_all(), [7, 2, 3, 6]);
}

#[test]
fn qos_2_that_waits_for_its_window_holds_its_own_lane_and_no_other() {
    let mut model = Model::new(Order::OldestFirst);
    model.add(Priority::Urgent, true);
    model.add(Priority::Urgent, false);
    model.add(Priority::Normal, false);
    model.add(Priority::Normal, true);
    assert_eq!([model.send(false), model.send(false)], [Some(Seq(3)), None]);
    assert_eq!(model.send_all(), [1, 2, 4]);
}

#[test]
fn another_order_holds_from_then_on() {
    let mut model = Model::new(Order::OldestFirst);
    model.add(Priority::Normal, false);
    model.link_up();
    model.lanes.set_order(Order::LiveFirst, Seq(model.next));
    model.add(Priority::Normal, false);
    assert_eq!(model.send(true), Some(Seq(2)));
    model.lanes.set_order(Order::OldestFirst, Seq(model.next));
    model.add(Priority::Normal, false);
    assert_eq!(model.send_all(), [1, 3]);
}

#[derive(Debug, Clone)]
enum Step {
    Add(Priority, bool),
    Send(bool),
    /// A record on the wire is acknowledged and goes.
    Acknowledge(prop::sample::Index),
    LinkUp,
    /// The cloud forgot the session: what was on the wire waits again.
    Forget,
    /// A transaction that sends and is undone.
    Undone(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => ((0..4_usize), any::<bool>()).prop_map(|(class, qos2)| Step::Add(Priority::ALL[class], qos2)),
        8 => any::<bool>().prop_map(Step::Send),
        4 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        1 => Just(Step::LinkUp),
        1 => Just(Step::Forget),
        1 => (1..6_u8).prop_map(Step::Undone),
    ]
}

proptest! {
    #[test]
    fn the_record_that_goes_is_always_the_one_that_should(
        live_first in any::<bool>(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let order = if live_first { Order::LiveFirst } else { Order::OldestFirst };
        let mut model = Model::new(order);
        model.link_up();
        for step in steps {
            match step {
                Step::Add(priority, qos2) => drop(model.add(priority, qos2)),
                Step::Send(qos2) => {
                    let expected = model.expected(order, qos2);
                    prop_assert_eq!(model.send(qos2), expected);
                }
                Step::Acknowledge(index) => {
                    let flight: Vec<Seq> = model.flight.iter().copied().collect();
                    if !flight.is_empty() {
                        let seq = *index.get(&flight);
                        model.flight.remove(&seq);
                        model.stored.retain(|(stored, ..)| *stored != seq);
                    }
                }
                Step::LinkUp => model.link_up(),
                Step::Forget => {
                    model.flight.clear();
                    model.lanes.rewind();
                    model.link_up();
                }
                Step::Undone(count) => {
                    let before = (model.lanes, model.flight.clone());
                    for _ in 0..count {
                        model.send(true);
                    }
                    (model.lanes, model.flight) = before;
                }
            }
        }
        while let Some(expected) = model.expected(order, true) {
            prop_assert_eq!(model.send(true), Some(expected));
        }
        prop_assert_eq!(model.send(true), None);
    }
}

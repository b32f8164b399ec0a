//! What goes up before what.

use super::bench::Bench;
use crate::clock::Clock;
use crate::logic::lanes::Order;
use crate::model::{Priority, Qos};
use crate::mqtt::client::Version;

#[test]
fn what_is_more_urgent_goes_up_before_all_that_waited_longer() {
    let mut bench = Bench::new();
    bench.store(Qos::AtLeastOnce, &["1", "2"]);
    bench.store_as(Priority::Low, Qos::AtLeastOnce, "low");
    bench.store_as(Priority::High, Qos::ExactlyOnce, "high");
    bench.store_as(Priority::Urgent, Qos::AtLeastOnce, "alarm 1");
    bench.store_as(Priority::Urgent, Qos::AtLeastOnce, "alarm 2");
    bench.connect();
    assert_eq!(bench.arrived(), ["alarm 1", "alarm 2", "high", "1", "2", "low"]);
    assert!(bench.core.is_empty());
}

#[test]
fn what_is_said_again_keeps_the_order_it_was_sent_in_over_a_kill() {
    // A deaf cloud answers no subscription either, and the store would wait for that.
    let mut bench = Bench::with(|settings| settings.inward.clear());
    bench.store_as(Priority::Low, Qos::ExactlyOnce, "low");
    bench.store_as(Priority::Urgent, Qos::ExactlyOnce, "urgent");
    bench.cloud.deaf = true;
    bench.connect();
    bench.cut();
    bench.cloud.deaf = false;
    let mut bench = bench.reopen(|settings| settings.inward.clear());
    bench.store_as(Priority::Urgent, Qos::ExactlyOnce, "later");
    bench.connect();
    assert_eq!(bench.arrived(), ["urgent", "low", "later"]);
    assert!(bench.cloud.arrived[..2].iter().all(|arrival| arrival.dup), "they were not on the wire before");
}

#[test]
fn a_full_store_drops_the_least_urgent_first() {
    let mut bench = Bench::with(|settings| settings.outbox.max_messages = 3);
    for (priority, payload) in
        [(Priority::Urgent, "alarm"), (Priority::Normal, "1"), (Priority::Low, "low"), (Priority::Normal, "2")]
    {
        bench.store_as(priority, Qos::AtLeastOnce, payload);
    }
    bench.connect();
    assert_eq!(bench.arrived(), ["alarm", "1", "2"]);
}

#[test]
fn with_live_first_what_is_new_goes_ahead_of_a_backlog_which_goes_in_the_room_that_is_left() {
    let mut bench = Bench::with(|settings| {
        // The store would wait for the answer to a subscription.
        settings.inward.clear();
        // One of them is taken by the birth.
        settings.window = 3;
        settings.outbox.order = Order::LiveFirst;
    });
    bench.store(Qos::AtLeastOnce, &["1", "2", "3", "4", "5"]);
    bench.cloud.deaf = true;
    bench.connect();
    bench.store(Qos::AtLeastOnce, &["live 1", "live 2"]);
    // What it had put on the wire before is said again first.
    bench.cut();
    bench.cloud.deaf = false;
    bench.store(Qos::AtLeastOnce, &["6"]);
    bench.connect_without_reading();
    bench.core.offer(bench.offered("t", "live 3", Qos::AtLeastOnce), bench.clock.now(), 0);
    bench.exchange();
    let arrived = bench.arrived();
    assert_eq!(arrived[..2], ["1", "2"], "said again");
    let at = |payload: &str| arrived.iter().position(|arrived| arrived == payload).unwrap();
    assert!(at("live 3") < at("4"), "{arrived:?}");
    let backlog: Vec<_> = arrived.iter().filter(|payload| *payload != "live 3").collect();
    assert_eq!(
        backlog,
        ["1", "2", "3", "4", "5", "live 1", "live 2", "6"],
        "after an outage all that waits is backlog"
    );
}

#[test]
fn qos_2_that_waits_for_the_cloud_s_small_window_does_not_hold_what_is_less_urgent() {
    let mut bench = Bench::with(|settings| {
        settings.window = 60;
        settings.inward.clear();
    });
    bench.version = Version::V311;
    bench.cloud.inflight_max_311 = 100;
    for n in 0..30 {
        bench.store_as(Priority::Urgent, Qos::ExactlyOnce, &format!("urgent {n}"));
    }
    bench.store_as(Priority::Normal, Qos::AtLeastOnce, "normal");
    bench.connect();
    bench.cut();
    bench.connect_without_reading();
    let waits = bench.core.flight.qos2();
    assert!(bench.arrived().contains(&"normal".to_owned()) && waits < 30, "{waits} of QoS 2 are on the wire");
    bench.exchange();
    assert_eq!(bench.arrived().len(), 31);
}

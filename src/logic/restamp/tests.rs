use proptest::prelude::*;

use super::*;
use crate::model::{Origin, Qos, TopicName};

/// 2026-11-23T01:15:00.000Z.
const TRUE_MS: i64 = 1_795_396_500_000;

fn at(seconds: u64) -> Moment {
    Moment::at(Duration::from_secs(seconds))
}

fn set(unix_ms: i64, seconds: u64) -> Timestamp {
    Timestamp { unix_ms, synced: true, at: Some(at(seconds)) }
}

fn unset(unix_ms: i64, seconds: u64) -> Timestamp {
    Timestamp { synced: false, ..set(unix_ms, seconds) }
}

fn boot(number: u8) -> BootId {
    BootId::new([number; 16])
}

#[test]
fn a_time_from_before_the_clock_was_set_is_as_long_ago_as_the_monotonic_clock_says() {
    for wrong_ms in [0, TRUE_MS - 3_600_000, TRUE_MS + 3_600_000] {
        assert_eq!(mended(unset(wrong_ms, 20), set(TRUE_MS, 80)), set(TRUE_MS - 60_000, 20));
    }
    assert_eq!(mended(unset(0, 20), unset(TRUE_MS, 80)), unset(0, 20), "nobody knows the time yet");
    assert_eq!(mended(set(7, 20), set(TRUE_MS, 80)), set(7, 20), "it was known");
    let lost = Timestamp { at: None, ..unset(7, 20) };
    assert_eq!(mended(lost, set(TRUE_MS, 80)), lost, "nobody knows when that was");
}

#[test]
fn a_mended_time_is_off_by_two_milliseconds_at_most() {
    // Wall and monotonic clock tick at different fractions of a millisecond.
    for fraction_us in (0..1_000).step_by(13) {
        let measured = Moment::at(Duration::from_micros(20_000_000 + fraction_us));
        let now = Moment::at(Duration::from_micros(80_000_999));
        let true_us = i64::try_from(measured.since_start().as_micros()).unwrap() + TRUE_MS * 1_000 - 80_000_999;
        let wall = Timestamp { unix_ms: TRUE_MS, synced: true, at: Some(now) };
        let time = mended(Timestamp { unix_ms: 0, synced: false, at: Some(measured) }, wall);
        assert!(
            (time.unix_ms * 1_000 - true_us).abs() <= 2_000,
            "{fraction_us}: {} us",
            time.unix_ms * 1_000 - true_us
        );
    }
}

#[test]
fn a_payload_gets_its_time_loses_the_mark_and_keeps_the_rest() {
    let unsynced = br#"{"ts":"1970-01-01T00:00:20.000Z","tq":"unsynced","t":21.5,"q":"stale"}"#;
    assert_eq!(
        payload(unsynced, TRUE_MS).as_deref(),
        Some(br#"{"ts":"2026-11-23T01:15:00.000Z","t":21.5,"q":"stale"}"#.as_slice())
    );
    let bare = br#"{"ts":"1970-01-01T00:00:20.000Z","tq":"unsynced"}"#;
    assert_eq!(payload(bare, TRUE_MS).as_deref(), Some(br#"{"ts":"2026-11-23T01:15:00.000Z"}"#.as_slice()));
}

#[test]
fn what_does_not_begin_as_we_write_it_is_left_alone() {
    for text in [
        r#"{"ts":"2026-11-23T01:15:00.000Z","t":21.5}"#,
        r#"{"ts":"2026-11-23T01:15:00.000Z","t":21.5,"tq":"unsynced"}"#,
        r#"{"ts":"1970-01-01 00:00:20.000Z","tq":"unsynced","t":1}"#,
        r#"{"ts":"1970-01-01T00:00:2x.000Z","tq":"unsynced","t":1}"#,
        r#"{"ts":"+1970-01-01T00:00:20.00Z","tq":"unsynced","t":1}"#,
        r#"{"ts":"1970-01-01T00:00:20.000Z","tq":"unsynced" ,"t":1}"#,
        r#" {"ts":"1970-01-01T00:00:20.000Z","tq":"unsynced","t":1}"#,
        r#"{"ts":"1970-01-01T00:00:20.000Z","tq":"unsynced""#,
        "21.5",
        "",
    ] {
        assert_eq!(payload(text.as_bytes(), TRUE_MS), None, "{text}");
    }
}

#[test]
fn a_message_is_mended_only_where_it_has_a_stamp_and_only_once() {
    let text = object(unset(0, 20), Map::from_iter([("t".to_owned(), 21.5.into())]));
    let topic = TopicName::parse("t").unwrap();
    let ours = Message::new(topic, text.as_bytes(), Qos::AtLeastOnce, false, Origin::Sensor).stamped(unset(0, 20));
    let mended = |mut message: Message, wall| {
        super::message(&mut message, wall);
        message
    };
    assert_eq!(mended(ours.clone(), unset(TRUE_MS, 80)), ours, "nobody knows the time yet");
    let true_time = mended(ours.clone(), set(TRUE_MS, 80));
    assert_eq!(&*true_time.payload, br#"{"ts":"2026-11-23T01:14:00.000Z","t":21.5}"#);
    assert_eq!(mended(true_time.clone(), set(TRUE_MS + 7, 80)), true_time);
    let client = Message { stamp: None, ..ours };
    assert_eq!(mended(client.clone(), set(TRUE_MS, 80)), client, "what looks like ours is not");
}

proptest! {
    /// Whatever follows the time: the mended payload is what would have been written had the clock been set. No part of a payload is mended,
    /// and nothing is mended twice.
    #[test]
    fn a_mended_payload_is_what_a_clock_that_was_set_would_have_written(
        wrong_ms in 0..4_000_000_000_000_i64,
        true_ms in 0..4_000_000_000_000_i64,
        values in proptest::collection::btree_map("[a-z]{1,3}", any::<i32>(), 0..4),
        cut in 0..HEAD_BYTES,
    ) {
        let values: Map<String, Value> = values.into_iter().map(|(name, value)| (name, value.into())).collect();
        let written = object(unset(wrong_ms, 1), values.clone());
        let mended = payload(written.as_bytes(), true_ms).unwrap();
        prop_assert_eq!(std::str::from_utf8(&mended).unwrap(), &object(set(true_ms, 1), values));
        prop_assert_eq!(payload(&mended, wrong_ms), None);
        prop_assert_eq!(payload(&written.as_bytes()[..cut], true_ms), None);
        prop_assert_eq!(payload(&written.as_bytes()[cut + 1..], true_ms), None);
    }
}

#[test]
fn records_of_the_running_boot_are_mended_by_the_newest_word_of_a_set_clock() {
    let mut boots = Boots::restore(boot(1), Vec::new());
    assert_eq!(boots.accepting(Seq(5)), Some(Boot { first: Seq(5), id: boot(1), anchor: None }));
    assert_eq!(boots.accepting(Seq(6)), None, "one row a boot");
    assert_eq!(boots.learn(unset(0, 90)), None);
    assert_eq!(boots.mended(Seq(5), unset(0, 20)), unset(0, 20));
    assert!(boots.learn(set(TRUE_MS, 80)).is_some(), "to be stored");
    assert_eq!(boots.mended(Seq(5), unset(0, 20)), set(TRUE_MS - 60_000, 20));
    assert_eq!(boots.learn(set(TRUE_MS + 700, 80)), None, "not worth a write, and used all the same");
    assert_eq!(boots.mended(Seq(5), unset(0, 20)), set(TRUE_MS + 700 - 60_000, 20));
    assert!(boots.learn(set(TRUE_MS + 5_000, 80)).is_some(), "a step");
    // The clock counts as unset again after hours without NTP: what was known of this boot is still known.
    assert_eq!(boots.learn(unset(TRUE_MS, 90)), None);
    assert_eq!(boots.mended(Seq(5), unset(0, 20)), set(TRUE_MS + 5_000 - 60_000, 20));
    assert_eq!(boots.mended(Seq(6), set(7, 20)), set(7, 20), "a time by a clock that was set");
}

#[test]
fn records_of_an_earlier_boot_are_mended_if_its_clock_was_set_before_it_ended() {
    let anchor = Anchor::of(set(TRUE_MS, 80));
    let known = Boot { first: Seq(1), id: boot(1), anchor };
    let unknown = Boot { first: Seq(10), id: boot(2), anchor: None };
    let mut boots = Boots::restore(boot(3), vec![known, unknown]);
    boots.accepting(Seq(20));
    boots.learn(set(TRUE_MS + 86_400_000, 40));
    assert_eq!(boots.mended(Seq(9), unset(0, 20)), set(TRUE_MS - 60_000, 20));
    assert_eq!(boots.mended(Seq(10), unset(0, 20)), unset(0, 20));
    assert_eq!(boots.mended(Seq(20), unset(0, 20)), set(TRUE_MS + 86_400_000 - 20_000, 20));
    assert_eq!(boots.mended(Seq(0), unset(0, 20)), unset(0, 20), "from before boots were remembered");
}

#[test]
fn a_store_that_comes_back_to_a_boot_after_another_does_not_mix_them() {
    let rows = [(1, 1), (10, 2)].map(|(first, id)| Boot { first: Seq(first), id: boot(id), anchor: None });
    let mut boots = Boots::restore(boot(1), rows.to_vec());
    boots.accepting(Seq(20));
    boots.learn(set(TRUE_MS, 80));
    assert!(!boots.mended(Seq(15), unset(0, 20)).synced);
    assert!(boots.mended(Seq(20), unset(0, 20)).synced);
}

#[test]
fn an_age_is_known_within_a_boot_or_between_two_times_that_are() {
    let anchor = Anchor::of(set(TRUE_MS, 80));
    let mut boots = Boots::restore(boot(2), vec![Boot { first: Seq(1), id: boot(1), anchor }]);
    boots.accepting(Seq(10));
    let hour = 3_600_000;
    let age = |seq, accepted, wall| boots.age(Seq(seq), accepted, wall).map(|age| age.as_secs());
    assert_eq!(
        age(10, unset(0, 20), unset(TRUE_MS, 80)),
        Some(60),
        "of this boot, whatever the clock on the wall shows"
    );
    assert_eq!(age(10, unset(0, 20), set(TRUE_MS + hour, 80)), Some(60));
    assert_eq!(age(1, unset(0, 20), set(TRUE_MS + hour, 5)), Some(3_660), "of an earlier one, which is known");
    assert_eq!(age(1, unset(0, 20), unset(TRUE_MS + hour, 5)), None, "but what time is it now?");
    assert_eq!(age(0, unset(0, 20), set(TRUE_MS, 5)), None);
    assert_eq!(age(10, set(TRUE_MS, 20), set(TRUE_MS + 5_000, 5)), Some(5));
    assert_eq!(age(10, set(TRUE_MS, 20), unset(TRUE_MS + 5_000, 5)), None);
    assert_eq!(age(10, set(TRUE_MS, 20), set(TRUE_MS - 5_000, 5)), Some(0), "the clock was stepped back");
}

#[test]
fn boots_of_which_nothing_waits_are_forgotten() {
    let rows = [1, 2, 3].map(|n| Boot { first: Seq(u64::from(n) * 10), id: boot(n), anchor: None });
    let forget = |running: u8, oldest: Option<u64>| {
        let mut boots = Boots::restore(boot(running), rows.to_vec());
        let stays = boots.forget_before(oldest.map(Seq)).map(|seq| seq.0);
        (stays, boots.earlier.len())
    };
    assert_eq!(forget(3, Some(5)), (None, 2), "records from before boots were remembered");
    assert_eq!(forget(3, Some(10)), (None, 2));
    assert_eq!(forget(3, Some(25)), (Some(20), 1));
    assert_eq!(forget(3, Some(30)), (Some(30), 0), "all of the running one");
    assert_eq!(forget(3, None), (Some(30), 0));
    assert_eq!(forget(4, Some(35)), (Some(30), 1));
}

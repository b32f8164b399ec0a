//! Payloads and what they are taken for.

use super::*;
use crate::model::BridgeId;

const NOW: Moment = Moment::at(Duration::from_secs(100));
const WALL: Timestamp = Timestamp { unix_ms: 1_795_396_500_000, synced: true, at: None };

fn rules(vocabulary: Vocabulary) -> Rules {
    Rules { vocabulary, allow: vec![Side::Local, Side::Cloud], repeatable: true }
}

fn switch() -> Rules {
    rules(Vocabulary::Switch)
}

fn command(payload: &str) -> Command {
    Command {
        payload: payload.as_bytes().into(),
        origin: CommandOrigin::Local,
        qos: Qos::AtLeastOnce,
        retained: false,
        expires: None,
    }
}

/// The setting, or the outcome and the reason.
fn judged(payload: &str, rules: &Rules) -> Result<String, (Outcome, String)> {
    match judge(&command(payload), rules, WALL, NOW) {
        Ok(wish) => Ok(wish.setting.word().to_owned()),
        Err(ack) => Err((ack.outcome, ack.reason.unwrap().to_string())),
    }
}

fn rejected(payload: &str, rules: &Rules) -> String {
    match judged(payload, rules) {
        Err((Outcome::Rejected, reason)) => reason,
        other => panic!("`{payload}` is not rejected: {other:?}"),
    }
}

#[test]
fn a_switch_is_told_plainly_or_as_json() {
    for on in ["on", "ON", " On\n", "1", "true", r#"{"value":"on"}"#, r#"{"value":true}"#, r#"{"value":1}"#] {
        assert_eq!(judged(on, &switch()), Ok("on".into()), "{on}");
    }
    for off in ["off", "OFF", "0", "false", r#" {"value":false,"id":null}"#] {
        assert_eq!(judged(off, &switch()), Ok("off".into()), "{off}");
    }
}

#[test]
fn what_is_no_command_is_rejected_with_the_reason() {
    let known = "known: `id`, `value`, `expires`, `ts`, `ttl`";
    for (payload, reason) in [
        ("", "`` is not `on` or `off`".to_owned()),
        ("open", "`open` is not `on` or `off`".to_owned()),
        ("a\u{7}b", "`a?b` is not `on` or `off`".to_owned()),
        ("toggle", "`toggle` is no command: one that arrives twice would undo itself; say `on` or `off`".to_owned()),
        ("2", "`2` is not `on` or `off`".to_owned()),
        ("{\"value\":\"on\"", "it begins with `{` and is no JSON object".to_owned()),
        ("{}", "`value` is missing".to_owned()),
        (r#"{"value":["on"]}"#, "`value` must be a text, a number, true or false".to_owned()),
        (r#"{"value":"on","expire":"x"}"#, format!("`expire` is not known here; {known}")),
        (
            r#"{"value":"on","expires":"tomorrow"}"#,
            "`expires` must be a time as RFC 3339 writes it, such as 2026-11-23T01:15:00Z".to_owned(),
        ),
        (
            r#"{"value":"on","ttl":"5 parsecs"}"#,
            "`ttl` must be seconds, or a text with its unit, such as \"5s\"".to_owned(),
        ),
        (r#"{"value":"on","ttl":-1}"#, "`ttl` must be seconds, or a text with its unit, such as \"5s\"".to_owned()),
        (
            r#"{"value":"on","id":[7]}"#,
            "`id` must be a number, or a text of 1 to 128 bytes without control characters".to_owned(),
        ),
    ] {
        assert_eq!(rejected(payload, &switch()), reason, "{payload}");
    }
    let long = "x".repeat(COMMAND_BYTES_MAX + 1);
    assert!(rejected(&long, &switch()).contains("the longest command"));
    assert!(rejected(&"ä".repeat(100), &switch()).len() < 150, "an answer repeats little of what it was sent");
    let bytes = Command { payload: [0xff, 0xfe].as_slice().into(), ..command("") };
    assert_eq!(judge(&bytes, &switch(), WALL, NOW).unwrap_err().reason.as_deref(), Some("it is no text"));
}

#[test]
fn an_answer_carries_the_id_also_of_what_is_rejected() {
    for (payload, id) in [
        (r#"{"id":"a7","value":"open"}"#, Some("a7")),
        (r#"{"id":7,"value":"open"}"#, Some("7")),
        (r#"{"id":"a7"}"#, Some("a7")),
        ("open", None),
    ] {
        let ack = judge(&command(payload), &switch(), WALL, NOW).unwrap_err();
        assert_eq!(ack.id.as_ref().map(CommandId::as_str), id, "{payload}");
    }
}

#[test]
fn a_retained_command_is_rejected_whatever_it_says() {
    let retained = Command { retained: true, ..command(r#"{"id":"1","value":"on"}"#) };
    let ack = judge(&retained, &switch(), WALL, NOW).unwrap_err();
    assert_eq!((ack.outcome, ack.id), (Outcome::Rejected, CommandId::parse("1")));
}

#[test]
fn a_command_from_where_none_is_allowed_is_rejected() {
    let local = Rules { allow: vec![Side::Local], ..switch() };
    let cloud = CommandOrigin::Cloud(BridgeId::parse("cloud").unwrap());
    let from_cloud = Command { origin: cloud, ..command("on") };
    let ack = judge(&from_cloud, &local, WALL, NOW).unwrap_err();
    assert!(ack.reason.unwrap().contains("`cloud` is not in its `allow_from`"));
    assert!(judge(&Command::of_page(*b"on"), &local, WALL, NOW).is_ok());
    let none_local = Rules { allow: vec![Side::Cloud], ..switch() };
    assert!(judge(&Command::of_page(*b"on"), &none_local, WALL, NOW).is_err());
    assert!(judge(&from_cloud, &none_local, WALL, NOW).is_ok());
}

#[test]
fn what_may_arrive_twice_needs_an_id_where_twice_is_more_than_once() {
    let pulse = Rules { repeatable: false, ..rules(Vocabulary::Pulse) };
    assert!(rejected("press", &pulse).contains("give it an id"));
    assert_eq!(judged(r#"{"id":1,"value":"press"}"#, &pulse), Ok("on".into()));
    for qos in [Qos::AtMostOnce, Qos::ExactlyOnce] {
        assert!(judge(&Command { qos, ..command("press") }, &pulse, WALL, NOW).is_ok());
    }
    assert_eq!(judged("on", &switch()), Ok("on".into()));
}

#[test]
fn a_command_past_its_time_is_expired_to_the_millisecond() {
    // WALL is 2026-11-23T01:15:00Z.
    for (payload, late) in [
        (r#"{"value":"on","expires":"2026-11-23T01:15:00.001Z"}"#, None),
        (r#"{"value":"on","expires":"2026-11-23T01:15:00Z"}"#, Some("it expired 0.0 s ago")),
        (r#"{"value":"on","expires":"2026-11-23T02:14:59+01:00"}"#, Some("it expired 1.0 s ago")),
        (r#"{"value":"on","ts":"2026-11-23T01:14:50Z","ttl":"11s"}"#, None),
        (r#"{"value":"on","ts":"2026-11-23T01:14:50Z","ttl":9.5}"#, Some("it expired 0.5 s ago")),
        (
            r#"{"value":"on","ts":"2026-11-23T01:14:50Z","ttl":"9500ms","expires":"2027-01-01T00:00:00Z"}"#,
            Some("it expired 0.5 s ago"),
        ),
    ] {
        let expected = late.map_or(Ok("on".to_owned()), |reason| Err((Outcome::Expired, reason.to_owned())));
        assert_eq!(judged(payload, &switch()), expected, "{payload}");
    }
    let carried = Command { expires: Some(NOW), ..command("on") };
    assert_eq!(judge(&carried, &switch(), WALL, NOW).unwrap_err().outcome, Outcome::Expired);
    let in_time = Command { expires: Some(NOW + Duration::from_millis(1)), ..command("on") };
    assert!(judge(&in_time, &switch(), WALL, NOW).is_ok());
}

#[test]
fn a_life_without_a_time_it_was_written_counts_from_when_it_came() {
    let wish = judge(&command(r#"{"value":"on","ttl":"2s"}"#), &switch(), WALL, NOW).unwrap();
    assert_eq!(wish.late(WALL, NOW + Duration::from_millis(1_999)), None);
    let late = wish.late(WALL, NOW + Duration::from_secs(3)).unwrap();
    assert_eq!((late.outcome, late.reason.as_deref()), (Outcome::Expired, Some("it expired 1.0 s ago")));
}

#[test]
fn an_expiry_cannot_be_judged_by_a_clock_that_is_not_set() {
    let unset = Timestamp { synced: false, ..WALL };
    let judged = judge(&command(r#"{"value":"on","expires":"2030-01-01T00:00:00Z"}"#), &switch(), unset, NOW);
    let ack = judged.unwrap_err();
    assert_eq!(ack.outcome, Outcome::Refused);
    assert!(ack.reason.unwrap().contains("clock of the gateway is not set"));
    assert!(judge(&command(r#"{"value":"on","ttl":5}"#), &switch(), unset, NOW).is_ok(), "this needs no date");
}

#[test]
fn words_and_numbers_of_an_actuator_s_own() {
    let own = rules(Vocabulary::Words(vec!["on".into(), "off".into(), "Eco mode".into()], Some((0.0, 100.0))));
    assert_eq!(judged("eco mode", &own), Ok("Eco mode".into()));
    assert_eq!(judged(r#"{"value":true}"#, &own), Ok("on".into()));
    assert_eq!(judged("55.5", &own), Ok("55.5".into()));
    for (written, number) in [("1e1", "10"), ("+5", "5"), ("-0.0", "0"), ("05.50", "5.5"), (r#"{"value":7.0}"#, "7")] {
        assert_eq!(judged(written, &own), Ok(number.into()), "on the wire it is its own shortest text");
    }
    assert_eq!(judged("1", &own), Ok("on".into()), "a word goes before a number");
    assert_eq!(rejected("101", &own), "`101` is none of: `on`, `off`, `Eco mode`, a number from 0 to 100");
    assert_eq!(rejected("NaN", &own), "`NaN` is none of: `on`, `off`, `Eco mode`, a number from 0 to 100");
}

#[test]
fn spans_are_told_as_a_person_would() {
    for (ms, text) in [(0, "0.0 s"), (300, "0.3 s"), (12_345, "12 s"), (180_000, "3 min"), (7_200_000, "2 h")] {
        assert_eq!(seconds(Duration::from_millis(ms)), text);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(payload: Vec<u8>) {
        let command = Command { payload: payload.into(), ..command("") };
        let _ = judge(&command, &switch(), WALL, NOW);
    }

    #[test]
    fn any_json_is_judged_without_a_panic(id in ".*", value in ".*", expires in ".*", ttl: f64) {
        let payload = serde_json::json!({ "id": id, "value": value, "expires": expires, "ttl": ttl }).to_string();
        let _ = judge(&command(&payload), &switch(), WALL, NOW);
    }
}

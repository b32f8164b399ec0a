use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::Value;

fn at(seconds: u64) -> Moment {
    Moment::at(Duration::from_secs(seconds))
}

fn time(seconds: u64) -> Timestamp {
    Timestamp { unix_ms: i64::try_from(seconds).unwrap() * 1000, synced: true, at: None }
}

fn air() -> SensorId {
    SensorId::parse("air").unwrap()
}

fn value(name: &str) -> ValueSettings {
    ValueSettings { name: name.into(), ..ValueSettings::default() }
}

fn pipeline(values: Vec<ValueSettings>, max_age: Option<u64>) -> Pipeline {
    let patience = Duration::from_secs(30);
    Pipeline::new(air(), SensorSettings { values, max_age: max_age.map(Duration::from_secs), patience }, at(0))
}

fn sample(name: &str, value: Value) -> Sample {
    Sample { name: name.into(), value }
}

fn drain(pipeline: &mut Pipeline) -> Vec<Action> {
    std::iter::from_fn(|| pipeline.poll_action()).collect()
}

/// Feeds one frame at a second and tells what came of it.
fn frame(pipeline: &mut Pipeline, second: u64, values: &[(&str, f64)]) -> Vec<Action> {
    let samples = values.iter().map(|(name, number)| sample(name, Value::Number(*number))).collect();
    pipeline.handle(Input::Samples { samples, time: time(second) }, at(second));
    drain(pipeline)
}

fn tick(pipeline: &mut Pipeline, second: u64) -> Vec<Action> {
    pipeline.handle(Input::Tick, at(second));
    drain(pipeline)
}

fn tell(second: u64, values: &[(&str, f64)], quality: Quality) -> Action {
    let values = values.iter().map(|(name, number)| sample(name, Value::Number(*number))).collect();
    Action::Tell(Reading { sensor: air(), time: time(second), values, quality })
}

#[test]
fn the_steps_come_in_their_order() {
    let settings = ValueSettings {
        rename: Some("temperature".into()),
        scale: Some(0.1),
        offset: Some(-5.0),
        range: Some(Range { min: 0.0, max: 50.0 }),
        median: Some(3),
        round: Some(1),
        deadband: Some(0.5),
        ..value("t")
    };
    let mut pipeline = pipeline(vec![settings], None);
    // 200 * 0.1 - 5 = 15
    assert_eq!(
        frame(&mut pipeline, 1, &[("t", 200.0)]),
        [tell(1, &[("temperature", 15.0)], Quality::Good), Action::Online]
    );
    // 1000 is 95: out of range, told as it is, and in no median.
    assert_eq!(frame(&mut pipeline, 2, &[("t", 1000.0)]), [tell(2, &[("temperature", 95.0)], Quality::Range)]);
    // 210.4 is 16.04; the median of 15 and 16.04 is 15, and the quality changed.
    assert_eq!(frame(&mut pipeline, 3, &[("t", 210.4)]), [tell(3, &[("temperature", 15.0)], Quality::Good)]);
    // 208 is 15.8: the middle of 15, 16.04 and 15.8.
    assert_eq!(frame(&mut pipeline, 4, &[("t", 208.0)]), [tell(4, &[("temperature", 15.8)], Quality::Good)]);
    // The middle is 16.04, rounded 16.0: no change beyond 0.5.
    assert_eq!(frame(&mut pipeline, 5, &[("t", 230.0)]), []);
}

#[test]
fn values_without_settings_pass_and_always_tell() {
    let mut pipeline = pipeline(vec![ValueSettings { deadband: Some(10.0), ..value("t") }], None);
    frame(&mut pipeline, 1, &[("t", 1.0), ("x", 1.0)]);
    assert_eq!(frame(&mut pipeline, 2, &[("t", 1.0), ("x", 1.0)]), [tell(2, &[("t", 1.0), ("x", 1.0)], Quality::Good)]);
    assert_eq!(frame(&mut pipeline, 3, &[("t", 1.0)]), []);
}

#[test]
fn a_reading_is_told_whole_when_one_value_is_due() {
    let narrow = ValueSettings { deadband: Some(0.5), ..value("t") };
    let wide = ValueSettings { deadband: Some(10.0), ..value("h") };
    let mut pipeline = pipeline(vec![narrow, wide], None);
    frame(&mut pipeline, 1, &[("t", 20.0), ("h", 50.0)]);
    assert_eq!(frame(&mut pipeline, 2, &[("t", 20.5), ("h", 55.0)]), []);
    assert_eq!(
        frame(&mut pipeline, 3, &[("t", 20.6), ("h", 56.0)]),
        [tell(3, &[("t", 20.6), ("h", 56.0)], Quality::Good)]
    );
    // Both were told at 20.6 and 56, and are compared with that.
    assert_eq!(frame(&mut pipeline, 4, &[("t", 20.2), ("h", 65.0)]), []);
}

#[test]
fn the_heartbeat_tells_the_latest_reading_that_was_held() {
    let settings = ValueSettings { deadband: Some(5.0), heartbeat: Some(Duration::from_secs(60)), ..value("t") };
    let mut pipeline = pipeline(vec![settings], None);
    frame(&mut pipeline, 0, &[("t", 20.0)]);
    assert_eq!(pipeline.poll_timeout(), None, "nothing was measured since");
    assert_eq!(frame(&mut pipeline, 30, &[("t", 21.0)]), []);
    assert_eq!(frame(&mut pipeline, 40, &[("t", 22.0)]), []);
    assert_eq!(pipeline.poll_timeout(), Some(at(60)));
    assert_eq!(tick(&mut pipeline, 59), []);
    assert_eq!(tick(&mut pipeline, 60), [tell(40, &[("t", 22.0)], Quality::Good)]);
    assert_eq!(tick(&mut pipeline, 120), [], "nothing was measured since");
    assert_eq!(frame(&mut pipeline, 121, &[("t", 22.0)]), [tell(121, &[("t", 22.0)], Quality::Good)]);
}

#[test]
fn what_is_held_back_is_told_at_the_end() {
    let mut pipeline = pipeline(vec![ValueSettings { deadband: Some(5.0), ..value("t") }], None);
    frame(&mut pipeline, 0, &[("t", 20.0)]);
    frame(&mut pipeline, 30, &[("t", 21.0)]);
    pipeline.handle(Input::End, at(31));
    assert_eq!(drain(&mut pipeline), [tell(30, &[("t", 21.0)], Quality::Good)]);
    pipeline.handle(Input::End, at(32));
    assert_eq!(drain(&mut pipeline), []);
}

#[test]
fn a_reading_past_its_max_age_is_told_again_as_stale_after_the_sensor_went_offline() {
    let mut pipeline = pipeline(vec![], Some(30));
    assert_eq!(frame(&mut pipeline, 10, &[("t", 20.0)]), [tell(10, &[("t", 20.0)], Quality::Good), Action::Online]);
    assert_eq!(pipeline.poll_timeout(), Some(at(40)));
    assert_eq!(tick(&mut pipeline, 39), []);
    assert_eq!(tick(&mut pipeline, 40), [Action::Offline(Absence::Silent), tell(10, &[("t", 20.0)], Quality::Stale)]);
    assert_eq!(tick(&mut pipeline, 100), []);
    assert_eq!(pipeline.poll_timeout(), None);
    assert_eq!(frame(&mut pipeline, 110, &[("t", 20.0)]), [tell(110, &[("t", 20.0)], Quality::Good), Action::Online]);
}

#[test]
fn a_port_that_goes_away_makes_the_last_reading_a_fault() {
    let settings = ValueSettings { deadband: Some(5.0), ..value("t") };
    let mut pipeline = pipeline(vec![settings], Some(30));
    frame(&mut pipeline, 1, &[("t", 20.0)]);
    frame(&mut pipeline, 2, &[("t", 21.0)]);
    pipeline.handle(Input::PortAway, at(3));
    assert_eq!(drain(&mut pipeline), [Action::Offline(Absence::Port), tell(1, &[("t", 20.0)], Quality::Fault)]);
    pipeline.handle(Input::PortAway, at(4));
    assert_eq!(drain(&mut pipeline), []);
    assert_eq!(pipeline.poll_timeout(), None);
    // Back with nearly the same value: told, because what was told last is a fault.
    assert_eq!(frame(&mut pipeline, 9, &[("t", 20.0)]), [tell(9, &[("t", 20.0)], Quality::Good), Action::Online]);
}

#[test]
fn a_sensor_that_never_spoke_goes_offline_without_a_reading() {
    let mut pipeline = pipeline(vec![], Some(30));
    assert_eq!(tick(&mut pipeline, 30), [Action::Offline(Absence::Silent)]);
    assert_eq!(pipeline.online(), Some(false));
}

#[test]
fn a_median_forgets_what_was_before_a_gap() {
    let mut pipeline = pipeline(vec![ValueSettings { median: Some(3), ..value("t") }], None);
    frame(&mut pipeline, 1, &[("t", 1.0)]);
    frame(&mut pipeline, 2, &[("t", 1.0)]);
    pipeline.handle(Input::PortAway, at(3));
    drain(&mut pipeline);
    assert_eq!(frame(&mut pipeline, 4, &[("t", 9.0)])[0], tell(4, &[("t", 9.0)], Quality::Good));
}

#[test]
fn a_text_where_a_number_is_expected_is_a_fault() {
    let mut pipeline = pipeline(vec![ValueSettings { round: Some(1), ..value("t") }], None);
    let samples = vec![sample("t", Value::Text("ERR".into()))];
    pipeline.handle(Input::Samples { samples: samples.clone(), time: time(1) }, at(1));
    let reading = Reading { sensor: air(), time: time(1), values: samples, quality: Quality::Fault };
    assert_eq!(drain(&mut pipeline), [Action::Tell(reading), Action::Online]);
}

#[test]
fn a_value_that_cannot_be_calculated_is_left_out_and_the_reading_a_fault() {
    let mut pipeline = pipeline(vec![ValueSettings { scale: Some(1e300), ..value("t") }], None);
    assert_eq!(
        frame(&mut pipeline, 1, &[("t", 1e300), ("h", 1.0)]),
        [tell(1, &[("h", 1.0)], Quality::Fault), Action::Online]
    );
}

#[test]
fn the_heartbeat_of_a_value_that_is_not_there_hurries_no_other() {
    let quick = ValueSettings { deadband: Some(5.0), heartbeat: Some(Duration::from_secs(10)), ..value("t") };
    let slow = ValueSettings { deadband: Some(5.0), heartbeat: Some(Duration::from_secs(60)), ..value("h") };
    let mut pipeline = pipeline(vec![quick, slow], None);
    frame(&mut pipeline, 0, &[("t", 20.0), ("h", 50.0)]);
    assert_eq!(frame(&mut pipeline, 30, &[("h", 51.0)]), []);
    assert_eq!(pipeline.poll_timeout(), Some(at(60)));
}

#[derive(Debug, Clone)]
enum Step {
    Frame(bool, bool, f64),
    Away,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), any::<bool>(), -60.0..120.0).prop_map(|(t, h, number)| Step::Frame(t, h, number)),
        1 => Just(Step::Away),
        3 => (0..90u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever happens: no deadline is left behind (a task would spin on it), nothing good is told of a sensor that is away, and every change of
    /// availability is a change.
    #[test]
    fn its_promises_hold_whatever_happens(steps in steps(), max_age in proptest::option::of(1..60u64)) {
        let t = ValueSettings {
            range: Some(Range { min: -40.0, max: 85.0 }),
            median: Some(3),
            deadband: Some(20.0),
            heartbeat: Some(Duration::from_secs(45)),
            ..value("t")
        };
        let h = ValueSettings { deadband: Some(0.0), heartbeat: Some(Duration::from_secs(7)), ..value("h") };
        let mut pipeline = pipeline(vec![t, h], max_age);
        let (mut second, mut online, mut measured) = (0, None, 0);
        for step in steps {
            let mut fresh = false;
            match step {
                Step::Frame(t, h, number) => {
                    let values = [("t", t), ("h", h)].into_iter().filter(|(_, there)| *there);
                    let samples = values.map(|(name, _)| sample(name, Value::Number(number))).collect();
                    fresh = true;
                    measured = second;
                    pipeline.handle(Input::Samples { samples, time: time(second) }, at(second));
                }
                Step::Away => pipeline.handle(Input::PortAway, at(second)),
                Step::Wait(seconds) => {
                    second += seconds;
                    pipeline.handle(Input::Tick, at(second));
                }
            }
            for action in drain(&mut pipeline) {
                match action {
                    Action::Tell(reading) => {
                        prop_assert!(reading.time.unix_ms <= i64::try_from(measured).unwrap() * 1000);
                        let good = reading.quality <= Quality::Range;
                        prop_assert_eq!(good, fresh || online == Some(true), "{:?}", reading);
                    }
                    Action::Online => prop_assert_ne!(online.replace(true), Some(true)),
                    Action::Offline(_) => prop_assert_ne!(online.replace(false), Some(false)),
                }
            }
            prop_assert_eq!(pipeline.online(), online);
            pipeline.handle(Input::Tick, at(second));
            for action in drain(&mut pipeline) {
                match action {
                    Action::Offline(_) => online = Some(false),
                    Action::Online => prop_assert!(false, "time alone makes nobody online"),
                    Action::Tell(_) => {}
                }
            }
            prop_assert!(pipeline.poll_timeout().is_none_or(|timeout| timeout > at(second)), "a deadline is left behind");
        }
    }
}

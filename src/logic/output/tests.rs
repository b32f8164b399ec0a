//! The output on a fake clock.

use super::*;

fn at(seconds: u64) -> Moment {
    Moment::at(Duration::from_secs(1_000 + seconds))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings() -> OutputSettings {
    OutputSettings {
        safe: Some(Setting::Off),
        link_loss: None,
        max_on: None,
        min_off: None,
        pulse: None,
        readable: true,
    }
}

fn drain(output: &mut Output) -> Vec<Action> {
    std::iter::from_fn(|| output.poll_action()).collect()
}

fn told(value: Setting) -> Action {
    Action::Told { value, sound: true }
}

fn done(order: u64) -> Action {
    Action::Answer { order, outcome: Outcome::Done, reason: None }
}

fn answered(actions: &[Action], order: u64) -> Option<(Outcome, String)> {
    actions.iter().find_map(|action| match action {
        Action::Answer { order: answered, outcome, reason } if *answered == order => {
            Some((*outcome, reason.as_deref().unwrap_or_default().to_owned()))
        }
        _ => None,
    })
}

/// The device does at once what it is told, until nothing is left to do.
fn obey(output: &mut Output, now: Moment) -> Vec<Action> {
    let mut all = Vec::new();
    let mut holds = output.told().map_or(Setting::Off, |(value, _)| value.clone());
    loop {
        let actions = drain(output);
        if actions.is_empty() {
            return all;
        }
        for action in &actions {
            match action {
                Action::Move(setting) => {
                    holds = setting.clone();
                    output.handle(Input::Moved { read: Some(holds.clone()) }, now);
                }
                Action::Check => output.handle(Input::Moved { read: Some(holds.clone()) }, now),
                _ => {}
            }
        }
        all.extend(actions);
    }
}

fn started(settings: OutputSettings) -> Output {
    let mut output = Output::new(settings, at(0));
    obey(&mut output, at(0));
    output
}

fn order(output: &mut Output, order: u64, setting: Setting, now: Moment) -> Vec<Action> {
    output.handle(Input::Order { order, setting }, now);
    obey(output, now)
}

fn tick(output: &mut Output, now: Moment) -> Vec<Action> {
    output.handle(Input::Tick, now);
    obey(output, now)
}

fn failed(output: &mut Output, now: Moment) {
    output.handle(Input::Failed { reason: "no answer".into(), random: 1.0 }, now);
}

#[test]
fn it_begins_in_its_safe_state_and_is_online_when_that_is_read_back() {
    let mut output = Output::new(settings(), at(0));
    assert_eq!(drain(&mut output), [Action::Move(Setting::Off)]);
    assert_eq!(output.may(&Setting::On, at(0)).unwrap_err().0, Outcome::Failed, "its device was not heard of yet");
    output.handle(Input::Moved { read: Some(Setting::Off) }, at(0));
    let online = Action::Online { failed: 0, outage: Duration::ZERO };
    assert_eq!(drain(&mut output), [told(Setting::Off), online]);
}

#[test]
fn an_order_moves_it_once_and_is_answered_by_what_is_read_back() {
    let mut output = started(settings());
    assert_eq!(order(&mut output, 1, Setting::On, at(1)), [Action::Move(Setting::On), told(Setting::On), done(1)]);
    assert_eq!(order(&mut output, 2, Setting::On, at(2)), [Action::Move(Setting::On), done(2)]);
    output.handle(Input::Order { order: 3, setting: Setting::Off }, at(3));
    assert_eq!(drain(&mut output), [Action::Move(Setting::Off)]);
    output.handle(Input::Moved { read: Some(Setting::On) }, at(3));
    let actions = drain(&mut output);
    let (outcome, reason) = answered(&actions, 3).unwrap();
    assert_eq!((outcome, reason.as_str()), (Outcome::Failed, "set to `off`, it reads `on`"));
}

#[test]
fn an_order_that_failed_is_not_done_later_and_the_safe_state_is_tried_until_it_is_reached() {
    let mut output = started(settings());
    output.handle(Input::Order { order: 1, setting: Setting::On }, at(1));
    assert_eq!(drain(&mut output), [Action::Move(Setting::On)]);
    failed(&mut output, at(1));
    let actions = drain(&mut output);
    assert_eq!(answered(&actions, 1).unwrap().0, Outcome::Failed);
    assert!(actions.contains(&Action::Offline("no answer".into())));
    assert!(actions.contains(&Action::Told { value: Setting::Off, sound: false }));
    assert_eq!(output.may(&Setting::On, at(1)), Err((Outcome::Failed, "no answer".into())));
    let mut moves = 0;
    for second in 2..100 {
        output.handle(Input::Tick, at(second));
        for action in drain(&mut output) {
            assert_eq!(action, Action::Move(Setting::Off), "nothing else is told or tried");
            moves += 1;
            failed(&mut output, at(second));
        }
    }
    assert!((4..12).contains(&moves), "{moves} tries: it backs off");
    output.handle(Input::Tick, at(200));
    let actions = obey(&mut output, at(200));
    assert_eq!(actions[..2], [Action::Move(Setting::Off), told(Setting::Off)]);
    assert!(
        matches!(actions[2..], [Action::Online { failed, outage }] if failed > 4 && outage == secs(199)),
        "{actions:?}"
    );
}

#[test]
fn it_goes_off_after_max_on_and_a_repeated_order_does_not_prolong_that() {
    let mut output = started(OutputSettings { max_on: Some(secs(600)), ..settings() });
    order(&mut output, 1, Setting::On, at(1));
    order(&mut output, 2, Setting::On, at(500));
    tick(&mut output, at(600));
    assert_eq!(output.told(), Some(&(Setting::On, true)));
    assert!(output.poll_timeout().unwrap() <= at(601));
    let actions = tick(&mut output, at(601));
    assert_eq!(actions, [Action::Fell(Fall::MaxOn), Action::Move(Setting::Off), told(Setting::Off)]);
}

#[test]
fn it_stays_off_for_min_off_also_after_the_start() {
    let mut output = started(OutputSettings { min_off: Some(secs(30)), ..settings() });
    let refused = |output: &Output, second| output.may(&Setting::On, at(second)).unwrap_err();
    assert_eq!(refused(&output, 12), (Outcome::Refused, "it has to be off for 30 s: 18 s to go".into()));
    assert_eq!(output.may(&Setting::Off, at(12)), Ok(()));
    order(&mut output, 1, Setting::On, at(30));
    order(&mut output, 2, Setting::Off, at(40));
    assert_eq!(refused(&output, 69).0, Outcome::Refused);
    assert_eq!(output.may(&Setting::On, at(70)), Ok(()));
    let late = order(&mut output, 3, Setting::On, at(69));
    assert_eq!(answered(&late, 3).unwrap().0, Outcome::Refused, "also when the look before the commit said yes");
}

#[test]
fn a_link_that_is_down_for_its_grace_takes_it_to_its_safe_state_once() {
    let mut output = started(OutputSettings { link_loss: Some(secs(60)), ..settings() });
    output.handle(Input::Link(true), at(1));
    order(&mut output, 1, Setting::On, at(2));
    output.handle(Input::Link(false), at(100));
    output.handle(Input::Link(false), at(130));
    assert_eq!(tick(&mut output, at(159)), [Action::Check]);
    assert_eq!(output.poll_timeout(), Some(at(160)));
    let fell = [Action::Fell(Fall::LinkLoss), Action::Move(Setting::Off), told(Setting::Off)];
    assert_eq!(tick(&mut output, at(160)), fell);
    order(&mut output, 2, Setting::On, at(200));
    tick(&mut output, at(1_000));
    assert_eq!(output.told(), Some(&(Setting::On, true)), "a later command holds");
    output.handle(Input::Link(true), at(1_000));
    output.handle(Input::Link(false), at(1_001));
    output.handle(Input::Link(true), at(1_060));
    tick(&mut output, at(1_500));
    assert_eq!(output.told(), Some(&(Setting::On, true)), "a link that came back in time does nothing");
}

#[test]
fn a_link_that_never_came_up_counts_from_the_start() {
    let mut output = started(OutputSettings { link_loss: Some(secs(60)), ..settings() });
    order(&mut output, 1, Setting::On, at(10));
    assert!(tick(&mut output, at(60)).contains(&Action::Move(Setting::Off)));
}

#[test]
fn a_pulse_ends_by_itself_and_is_answered_when_it_has() {
    let mut output = started(OutputSettings { pulse: Some(secs(2)), ..settings() });
    assert_eq!(order(&mut output, 1, Setting::On, at(10)), [Action::Move(Setting::On), told(Setting::On)]);
    assert_eq!(output.poll_timeout(), Some(at(12)));
    assert_eq!(
        output.may(&Setting::On, at(11)),
        Err((Outcome::Refused, "a pulse is under way, for another 1.0 s".into()))
    );
    assert_eq!(tick(&mut output, at(12)), [Action::Move(Setting::Off), told(Setting::Off), done(1)]);
}

#[test]
fn a_pulse_that_is_ended_early_was_interrupted() {
    let mut output = started(OutputSettings { pulse: Some(secs(20)), ..settings() });
    order(&mut output, 1, Setting::On, at(10));
    let actions = order(&mut output, 2, Setting::Off, at(11));
    assert_eq!(answered(&actions, 1).unwrap().0, Outcome::Interrupted);
    assert_eq!(answered(&actions, 2).unwrap().0, Outcome::Done);
    assert_eq!(output.told(), Some(&(Setting::Off, true)));
    order(&mut output, 3, Setting::On, at(20));
    output.handle(Input::Stop, at(21));
    let actions = obey(&mut output, at(21));
    assert_eq!(answered(&actions, 3).unwrap().0, Outcome::Interrupted);
    assert_eq!(actions.last(), Some(&Action::Stopped));
}

#[test]
fn a_stop_is_the_safe_state_and_nothing_after_it() {
    let mut output = started(OutputSettings { safe: Some(Setting::On), ..settings() });
    order(&mut output, 1, Setting::Off, at(1));
    output.handle(Input::Order { order: 2, setting: Setting::Off }, at(2));
    assert_eq!(drain(&mut output), [Action::Move(Setting::Off)]);
    output.handle(Input::Stop, at(2));
    assert_eq!(drain(&mut output), [], "one move at a time");
    output.handle(Input::Moved { read: Some(Setting::Off) }, at(2));
    let actions = obey(&mut output, at(2));
    assert!(actions.contains(&Action::Move(Setting::On)), "{actions:?}");
    assert_eq!(actions.last(), Some(&Action::Stopped));
    assert_eq!(output.may(&Setting::Off, at(3)).unwrap_err().0, Outcome::Refused);
    assert_eq!(output.poll_timeout(), None);
    output.handle(Input::Tick, at(100));
    assert_eq!(drain(&mut output), []);
}

#[test]
fn a_device_that_fails_at_the_stop_is_tried_once() {
    let mut output = started(settings());
    output.handle(Input::Stop, at(2));
    assert_eq!(drain(&mut output), [Action::Move(Setting::Off)]);
    failed(&mut output, at(2));
    assert_eq!(drain(&mut output).last(), Some(&Action::Stopped));
}

#[test]
fn a_device_that_lost_its_setting_goes_to_its_safe_state() {
    let mut output = started(settings());
    order(&mut output, 1, Setting::On, at(1));
    output.handle(Input::Tick, at(30));
    assert_eq!(drain(&mut output), [Action::Check]);
    output.handle(Input::Moved { read: Some(Setting::Off) }, at(30));
    let actions = drain(&mut output);
    assert_eq!(actions[0], told(Setting::Off));
    assert_eq!(actions[1], Action::Offline("set to `on`, it reads `off`".into()));
    let actions = tick(&mut output, at(31));
    assert_eq!(actions[0], Action::Move(Setting::Off));
    assert_eq!(output.online(), Some(true));
}

#[test]
fn without_a_safe_state_it_is_opened_and_left_as_it_is() {
    let own = OutputSettings { safe: None, readable: false, ..settings() };
    let mut output = Output::new(own, at(0));
    assert_eq!(drain(&mut output), [Action::Check]);
    output.handle(Input::Moved { read: None }, at(0));
    assert_eq!(drain(&mut output), [Action::Online { failed: 0, outage: Duration::ZERO }]);
    let eco = Setting::Word("eco".into());
    output.handle(Input::Order { order: 1, setting: eco.clone() }, at(1));
    assert_eq!(drain(&mut output), [Action::Move(eco.clone())]);
    output.handle(Input::Moved { read: None }, at(1));
    assert_eq!(drain(&mut output), [told(eco), done(1)]);
    output.handle(Input::Stop, at(2));
    assert_eq!(drain(&mut output), [Action::Stopped]);
}

#[test]
fn a_device_that_is_at_hand_again_is_brought_to_its_safe_state_at_once() {
    let mut output = started(settings());
    output.handle(Input::Order { order: 1, setting: Setting::On }, at(1));
    drain(&mut output);
    failed(&mut output, at(3));
    drain(&mut output);
    output.handle(Input::Back, at(3));
    assert_eq!(drain(&mut output), [Action::Move(Setting::Off)]);
}

mod any_sequence {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Event {
        Order(bool),
        Ends(bool),
        Reads(bool),
        Link(bool),
        Wait(u64),
        Stop,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => any::<bool>().prop_map(Event::Order),
            8 => prop::bool::weighted(0.9).prop_map(Event::Ends),
            1 => any::<bool>().prop_map(Event::Reads),
            2 => any::<bool>().prop_map(Event::Link),
            4 => (0_u64..40).prop_map(Event::Wait),
            1 => Just(Event::Stop),
        ];
        prop::collection::vec(event, 1..80)
    }

    proptest! {
        /// Whatever happens: one answer an order, one move an order, one thing under way, off in time, safe at the end.
        #[test]
        fn every_order_has_one_answer_and_moves_the_output_at_most_once(events in events(), pulse: bool) {
            let own = OutputSettings {
                max_on: Some(secs(60)).filter(|_| !pulse),
                min_off: Some(secs(3)),
                link_loss: Some(secs(30)).filter(|_| !pulse),
                pulse: Some(secs(5)).filter(|_| pulse),
                ..settings()
            };
            let mut output = Output::new(own, at(0));
            let mut answers: BTreeMap<u64, u32> = BTreeMap::new();
            let (mut orders, mut now, mut moves_on) = (0_u64, at(0), 0_u64);
            let mut under_way: Option<Option<Setting>> = None;
            let mut device = Setting::Off;
            let mut stopped = false;
            for event in events.into_iter().chain([Event::Stop, Event::Ends(true), Event::Ends(true), Event::Ends(true)]) {
                match event {
                    Event::Order(on) => {
                        orders += 1;
                        let setting = if on { Setting::On } else { Setting::Off };
                        output.handle(Input::Order { order: orders, setting }, now);
                    }
                    Event::Ends(well) => {
                        let Some(work) = under_way.take() else { continue };
                        if well {
                            device = work.unwrap_or(device);
                            output.handle(Input::Moved { read: Some(device.clone()) }, now);
                        } else {
                            output.handle(Input::Failed { reason: "x".into(), random: 1.0 }, now);
                        }
                    }
                    Event::Reads(on) => {
                        if under_way.take().is_none() {
                            continue;
                        }
                        device = if on { Setting::On } else { Setting::Off };
                        output.handle(Input::Moved { read: Some(device.clone()) }, now);
                    }
                    Event::Link(up) => output.handle(Input::Link(up), now),
                    Event::Wait(seconds) => {
                        now = now + secs(seconds);
                        output.handle(Input::Tick, now);
                    }
                    Event::Stop => output.handle(Input::Stop, now),
                }
                while let Some(action) = output.poll_action() {
                    let is_answer = matches!(action, Action::Answer { .. });
                    prop_assert!(!stopped || is_answer, "{action:?} after the end");
                    match action {
                        Action::Move(setting) => {
                            moves_on += u64::from(setting == Setting::On);
                            prop_assert!(under_way.replace(Some(setting)).is_none(), "two things under way");
                        }
                        Action::Check => prop_assert!(under_way.replace(None).is_none(), "two things under way"),
                        Action::Answer { order, .. } => *answers.entry(order).or_default() += 1,
                        Action::Stopped => stopped = true,
                        _ => {}
                    }
                }
                prop_assert!(moves_on <= orders, "it went on more often than it was asked to");
                let asleep = under_way.is_none() && !stopped;
                prop_assert!(!asleep || output.poll_timeout().is_some(), "nothing wakes it");
            }
            prop_assert!(stopped);
            for order in 1..=orders {
                prop_assert_eq!(answers.get(&order), Some(&1), "order {}", order);
            }
        }
    }
}

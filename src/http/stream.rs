//! What an open page is told: everything once, then what changed, as server-sent events.
//!
//! `event: overview` carries an overview (docs/http.md), `event: change` the parts of one that are others than those told before. Sensors
//! are told whole, each with its age at that moment. The pace is [`PAGE_TICK`]; nothing is made while nobody looks.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::answer::{Answer, Content, busy};
use super::route::{overview, updates};
use super::{Settings, Shared};
use crate::limits::{PAGE_BEAT, PAGE_QUEUE, PAGE_TICK};
use crate::model::overview::{
    ActuatorOverview, BridgeOverview, BrokerOverview, Event, Overview, SensorOverview, StageOverview,
};

/// Begins to tell; refused when enough pages are open.
pub(super) fn open(shared: &Arc<Shared>, settings: Option<&Arc<Settings>>) -> Answer {
    let Ok(seat) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return busy("as many pages are open as there may be; close one");
    };
    let (sender, receiver) = mpsc::channel(PAGE_QUEUE);
    let (shared_, settings) = (Arc::clone(shared), settings.cloned());
    shared.tasks.spawn(async move {
        let _seat = seat;
        tokio::select! {
            () = tell(&shared_, settings.as_ref(), &sender) => {}
            () = sender.closed() => {}
            () = shared_.stop.cancelled() => {}
        }
    });
    updates(Content::Updates(receiver))
}

/// Tells until the page is gone, takes nothing any more, or the settings are others.
async fn tell(shared: &Shared, settings: Option<&Arc<Settings>>, page: &mpsc::Sender<Bytes>) {
    let mut told = Told::default();
    // Where the browser begins anew after a loss.
    let mut next = Bytes::from_static(b"retry: 1000\n\n");
    let mut ticks = tokio::time::interval(PAGE_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if !next.is_empty() && page.send_timeout(next, shared.patience.write).await.is_err() {
            return;
        }
        ticks.tick().await;
        if let Some(settings) = settings
            && !shared.settings().is_some_and(|now| Arc::ptr_eq(&now, settings))
        {
            return;
        }
        let now = shared.watch.overview();
        next = match told.news(&now) {
            News::All => event("overview", &overview(shared.watch.as_ref(), settings)),
            News::Some(change) => event("change", &change),
            News::None => Bytes::new(),
        };
        told.note(now);
    }
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    // A value of ours has text keys and finite numbers alone, so it can be written; and JSON holds no line end.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// The parts of an overview that are others than before.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Change {
    now_ms: i64,
    synced: bool,
    uptime_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sensors: Vec<SensorOverview>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actuators: Vec<ActuatorOverview>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bridges: Vec<BridgeOverview>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<BrokerOverview>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<StageOverview>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
}

#[derive(Debug, PartialEq)]
enum News {
    /// Nothing worth a packet.
    None,
    /// These parts.
    Some(Box<Change>),
    /// What there is is another than before: all of it.
    All,
}

/// What the page knows.
#[derive(Default)]
struct Told {
    before: Option<Overview>,
    /// When something was told last, by the gateway's uptime.
    at_ms: u64,
}

impl Told {
    fn note(&mut self, now: Overview) {
        self.before = Some(now);
    }

    fn news(&mut self, now: &Overview) -> News {
        let Some(before) = &self.before else {
            self.at_ms = now.uptime_ms;
            return News::All;
        };
        if shape(before) != shape(now) || now.uptime_ms < before.uptime_ms {
            self.at_ms = now.uptime_ms;
            return News::All;
        }
        let known: HashMap<&str, &SensorOverview> =
            sensors(before).map(|sensor| (sensor.id.as_str(), sensor)).collect();
        let last = before.events.last().map_or(0, |event| event.number);
        let change = Change {
            now_ms: now.now_ms,
            synced: now.synced,
            uptime_ms: now.uptime_ms,
            sensors: sensors(now)
                .filter(|sensor| known.get(sensor.id.as_str()).is_none_or(|known| !is_still(known, sensor)))
                .cloned()
                .collect(),
            actuators: others(&before.actuators, &now.actuators),
            bridges: others(&before.bridges, &now.bridges),
            broker: (before.broker != now.broker).then(|| now.broker.clone()),
            stage: (before.stage != now.stage).then(|| now.stage.clone()).flatten(),
            events: now.events.iter().filter(|event| event.number > last).cloned().collect(),
        };
        let nothing = Change {
            now_ms: now.now_ms,
            synced: now.synced,
            uptime_ms: now.uptime_ms,
            // The broker counts each message. By itself that is worth no packet of its own.
            broker: change.broker.clone(),
            ..Change::default()
        };
        let beat = u64::try_from(PAGE_BEAT.as_millis()).unwrap_or(u64::MAX);
        if change == nothing && before.synced == now.synced && now.uptime_ms - self.at_ms < beat {
            return News::None;
        }
        self.at_ms = now.uptime_ms;
        News::Some(Box::new(change))
    }
}

fn sensors(overview: &Overview) -> impl Iterator<Item = &SensorOverview> {
    overview.buses.iter().flat_map(|bus| &bus.sensors)
}

/// Whether the sensor has told nothing new: but for its age, which only grew, it is as it was.
fn is_still(before: &SensorOverview, now: &SensorOverview) -> bool {
    let aged = SensorOverview { age_ms: now.age_ms, ..before.clone() };
    aged == *now && before.age_ms <= now.age_ms
}

fn others<T: PartialEq + Clone>(before: &[T], now: &[T]) -> Vec<T> {
    before.iter().zip(now).filter(|(before, now)| before != now).map(|(_, now)| now.clone()).collect()
}

/// What a page is built by: who is there, on which bus, in which order.
fn shape(overview: &Overview) -> impl PartialEq + '_ {
    let ids = |bus: &'_ crate::model::overview::BusOverview| -> Vec<String> {
        bus.sensors.iter().map(|sensor| format!("{} {}", sensor.id, sensor.driver)).collect()
    };
    (
        &overview.gateway,
        overview.buses.iter().map(|bus| (bus.id.as_str(), bus.device.as_str(), ids(bus))).collect::<Vec<_>>(),
        overview.actuators.iter().map(|actuator| (&actuator.id, &actuator.words)).collect::<Vec<_>>(),
        overview.bridges.iter().map(|bridge| (&bridge.id, &bridge.url)).collect::<Vec<_>>(),
        overview.stage.is_some(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::overview::BusOverview;

    fn sensor(id: &str, good: u64, age_ms: u64) -> SensorOverview {
        SensorOverview {
            id: id.into(),
            quality: "good".into(),
            good,
            age_ms: Some(age_ms),
            ..SensorOverview::default()
        }
    }

    fn seen(uptime_ms: u64, sensors: &[SensorOverview]) -> Overview {
        let buses = vec![BusOverview { id: "usb".into(), sensors: sensors.to_vec(), ..BusOverview::default() }];
        Overview { gateway: "g".into(), uptime_ms, buses, ..Overview::default() }
    }

    fn news(told: &mut Told, now: Overview) -> News {
        let news = told.news(&now);
        told.note(now);
        news
    }

    #[test]
    fn the_first_is_told_whole_and_then_only_the_sensor_that_said_something() {
        let mut told = Told::default();
        assert_eq!(news(&mut told, seen(0, &[sensor("air", 1, 50), sensor("soil", 1, 50)])), News::All);
        let News::Some(change) = news(&mut told, seen(250, &[sensor("air", 2, 10), sensor("soil", 1, 300)])) else {
            panic!("air has spoken");
        };
        assert_eq!(change.sensors, [sensor("air", 2, 10)]);
    }

    #[test]
    fn growing_older_is_no_news_but_silence_is_not_left_without_a_beat() {
        let mut told = Told::default();
        news(&mut told, seen(0, &[sensor("air", 1, 0)]));
        let mut at = 0;
        let beat = loop {
            at += 250;
            match news(&mut told, seen(at, &[sensor("air", 1, at)])) {
                News::None => {}
                other => break other,
            }
        };
        assert_eq!(u128::from(at), PAGE_BEAT.as_millis());
        assert!(matches!(beat, News::Some(change) if change.sensors.is_empty()));
    }

    #[test]
    fn the_same_value_told_again_is_news_since_it_is_young_again() {
        let mut told = Told::default();
        news(&mut told, seen(0, &[sensor("air", 1, 900)]));
        assert!(matches!(news(&mut told, seen(250, &[sensor("air", 1, 20)])), News::Some(_)));
    }

    #[test]
    fn a_reload_that_brings_a_sensor_tells_all_anew() {
        let mut told = Told::default();
        news(&mut told, seen(0, &[sensor("air", 1, 0)]));
        assert_eq!(news(&mut told, seen(250, &[sensor("air", 1, 0), sensor("soil", 0, 0)])), News::All);
    }

    #[test]
    fn each_event_is_told_once() {
        let mut told = Told::default();
        let with = |uptime_ms, numbers: &[u64]| {
            let events = numbers.iter().map(|number| Event { number: *number, ..Event::default() }).collect();
            Overview { events, ..seen(uptime_ms, &[]) }
        };
        news(&mut told, with(0, &[1]));
        let News::Some(change) = news(&mut told, with(250, &[1, 2, 3])) else { panic!("two events") };
        assert_eq!(change.events.iter().map(|event| event.number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(news(&mut told, with(500, &[1, 2, 3])), News::None);
    }
}

//! Which reading becomes which messages.
//!
//! `json`: one object a reading, `{"ts":"2026-11-23T01:15:00.123Z","tq":"unsynced",<values>,"seq":7,"q":"stale"}`: the time of measurement in
//! UTC, marked where the clock was not set, the values in the order of the driver, then what is asked for (`seq`) and what is not as it
//! should be (`q`).
//! `value`: each value bare on `<topic>/<name>`, and the quality on `<topic>/q` whenever it changes, `good` included. It goes before values that
//! are not good and after those that are, so that no follower of both takes a bad value for a good one.
//!
//! What it does not promise: `seq` starts at 1 with each start of the sensor; it finds gaps and doubles, not restarts.

use std::borrow::Cow;

use super::restamp;
use crate::model::{Message, OWN_LEVELS, OWN_NAMES, Origin, Qos, Quality, Reading, TopicName, Value};

/// How one sensor is published.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishSettings {
    /// Topic of the readings (`tidegate/<gateway>/<sensor>`).
    pub topic: TopicName,
    /// Topic of `online` / `offline` (`…/availability`).
    pub availability_topic: TopicName,
    /// Quality of service of the readings.
    pub qos: Qos,
    /// Whether brokers keep the last reading.
    pub retain: bool,
    /// Form of the payload.
    pub payload: PayloadForm,
    /// Whether each payload carries a number that rises by one (`"seq"`).
    pub seq: bool,
}

/// Form of a reading's payload (docs/topics.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadForm {
    /// One JSON object with `ts`, the values, and `q` and `tq` where needed.
    #[default]
    Json,
    /// One bare value a topic: `<topic>/<value name>`.
    Value,
}

impl PayloadForm {
    /// Whether a name is the gateway's own where the values are published.
    pub fn reserves(self, name: &str) -> bool {
        OWN_NAMES.contains(&name) || (self == PayloadForm::Value && OWN_LEVELS.contains(&name))
    }

    /// What a value of this name is published as: its key, or its topic level. `_` stands behind a word of the gateway's own, and for a
    /// character that no level can have.
    pub fn published(self, name: &str) -> Cow<'_, str> {
        if self.reserves(name) {
            Cow::Owned(format!("{name}_"))
        } else if self == PayloadForm::Value && name.contains(is_no_level) {
            Cow::Owned(name.replace(is_no_level, "_"))
        } else {
            Cow::Borrowed(name)
        }
    }
}

/// Turns one sensor's readings and availability into messages.
#[derive(Debug)]
pub struct Route {
    settings: PublishSettings,
    /// Number of the reading told last.
    seq: u64,
    /// Quality told last on a topic of its own.
    quality: Option<Quality>,
}

impl Route {
    /// Before the first reading.
    pub fn new(settings: PublishSettings) -> Self {
        Self { settings, seq: 0, quality: None }
    }

    /// The messages of a reading, in the order they are to be published.
    pub fn reading(&mut self, reading: &Reading) -> Vec<Message> {
        self.seq += 1;
        match self.settings.payload {
            PayloadForm::Json => {
                let seq = self.settings.seq.then_some(self.seq);
                vec![self.message(self.settings.topic.clone(), json(reading, seq)).stamped(reading.time)]
            }
            PayloadForm::Value => self.bare_values(reading),
        }
    }

    /// The message that says whether the sensor is there. Retained always: it is a state.
    pub fn availability(&self, online: bool) -> Message {
        let word: &[u8] = if online { b"online" } else { b"offline" };
        Message::new(self.settings.availability_topic.clone(), word, self.settings.qos, true, Origin::Gateway)
    }

    fn bare_values(&mut self, reading: &Reading) -> Vec<Message> {
        let mut messages: Vec<Message> = reading
            .values
            .iter()
            .filter_map(|sample| {
                let topic = self.level(&PayloadForm::Value.published(&sample.name))?;
                Some(self.message(topic, bare(&sample.value)))
            })
            .collect();
        if self.quality.replace(reading.quality) != Some(reading.quality) {
            let word = reading.quality.word().unwrap_or("good").to_owned();
            if let Some(topic) = self.level("q") {
                let at = if reading.quality == Quality::Good { messages.len() } else { 0 };
                messages.insert(at, self.message(topic, word));
            }
        }
        messages
    }

    /// A topic below the sensor's; `None` when that would be too long for a topic.
    fn level(&self, name: &str) -> Option<TopicName> {
        TopicName::parse(&format!("{}/{name}", self.settings.topic)).ok()
    }

    fn message(&self, topic: TopicName, payload: String) -> Message {
        Message::new(topic, payload.into_bytes(), self.settings.qos, self.settings.retain, Origin::Sensor)
    }
}

/// What would end a level, or makes a topic invalid [MQTT-4.7.3].
fn is_no_level(c: char) -> bool {
    matches!(c, '/' | '+' | '#') || c.is_control()
}

fn json(reading: &Reading, seq: Option<u64>) -> String {
    let mut text = restamp::head(reading.time);
    let mut field = |name: &str, value: &str| {
        text.push(',');
        text.push_str(&quoted(name));
        text.push(':');
        text.push_str(value);
    };
    for sample in &reading.values {
        let value = match &sample.value {
            Value::Text(text) => quoted(text),
            other => bare(other),
        };
        field(&PayloadForm::Json.published(&sample.name), &value);
    }
    if let Some(seq) = seq {
        field("seq", &seq.to_string());
    }
    if let Some(word) = reading.quality.word() {
        field("q", &quoted(word));
    }
    text.push('}');
    text
}

/// A text as JSON writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value without anything around it.
fn bare(value: &Value) -> String {
    match value {
        Value::Integer(integer) => integer.to_string(),
        Value::Number(number) => decimal(*number),
        Value::Text(text) => text.to_string(),
        Value::Flag(flag) => flag.to_string(),
    }
}

/// The shortest decimal that reads back as the same number: 21.5, 22, -0.001, 1.5e300. Valid JSON for every finite number.
fn decimal(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 {
        // Not `-0`: no sensor means it.
        "0".to_owned()
    } else if (1e-5..1e16).contains(&size) {
        number.to_string()
    } else {
        format!("{number:e}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Moment, Sample, SensorId, Timestamp};

    fn settings(payload: PayloadForm, seq: bool) -> PublishSettings {
        PublishSettings {
            topic: TopicName::parse("tidegate/g/air").unwrap(),
            availability_topic: TopicName::parse("tidegate/g/air/availability").unwrap(),
            qos: Qos::AtLeastOnce,
            retain: true,
            payload,
            seq,
        }
    }

    fn reading(values: &[(&str, Value)], quality: Quality, synced: bool) -> Reading {
        Reading {
            sensor: SensorId::parse("air").unwrap(),
            time: Timestamp { unix_ms: 1_795_396_500_123, synced, at: None },
            values: values.iter().map(|(name, value)| Sample { name: (*name).into(), value: value.clone() }).collect(),
            quality,
        }
    }

    fn told(messages: &[Message]) -> Vec<(&str, &str)> {
        messages.iter().map(|m| (m.topic.as_str(), std::str::from_utf8(&m.payload).unwrap())).collect()
    }

    #[test]
    fn a_good_reading_is_its_time_and_its_values_in_order() {
        let mut route = Route::new(settings(PayloadForm::Json, false));
        let values =
            [("temperature", Value::Number(21.5)), ("humidity", Value::Number(48.2)), ("n", Value::Integer(7))];
        let messages = route.reading(&reading(&values, Quality::Good, true));
        let expected = r#"{"ts":"2026-11-23T01:15:00.123Z","temperature":21.5,"humidity":48.2,"n":7}"#;
        let topic = TopicName::parse("tidegate/g/air").unwrap();
        assert_eq!(messages, [Message::new(topic, expected.as_bytes(), Qos::AtLeastOnce, true, Origin::Sensor)]);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_said() {
        let mut route = Route::new(settings(PayloadForm::Json, true));
        let values = [("state", Value::Text("a \"b\"\n".into())), ("on", Value::Flag(true))];
        let first = route.reading(&reading(&values, Quality::Stale, false));
        assert_eq!(
            told(&first)[0].1,
            r#"{"ts":"2026-11-23T01:15:00.123Z","tq":"unsynced","state":"a \"b\"\n","on":true,"seq":1,"q":"stale"}"#
        );
        let second = route.reading(&reading(&[], Quality::Good, true));
        assert_eq!(told(&second)[0].1, r#"{"ts":"2026-11-23T01:15:00.123Z","seq":2}"#);
    }

    #[test]
    fn only_a_reading_timed_by_a_clock_that_was_not_set_can_be_mended() {
        let at = Some(Moment::at(Duration::from_secs(7)));
        let stamps = |form, synced| -> Vec<Option<Moment>> {
            let mut reading = reading(&[("t", Value::Number(21.5))], Quality::Good, synced);
            reading.time.at = at;
            Route::new(settings(form, false)).reading(&reading).iter().map(|message| message.stamp).collect()
        };
        assert_eq!(stamps(PayloadForm::Json, false), [at]);
        assert_eq!(stamps(PayloadForm::Json, true), [None]);
        assert_eq!(stamps(PayloadForm::Value, false), [None, None], "there is no time in it");
    }

    #[test]
    fn a_device_cannot_speak_the_gateways_own_words() {
        let mut route = Route::new(settings(PayloadForm::Json, false));
        let values = [("ts", Value::Integer(1)), ("q", Value::Text("good".into()))];
        let messages = route.reading(&reading(&values, Quality::Range, true));
        assert_eq!(told(&messages)[0].1, r#"{"ts":"2026-11-23T01:15:00.123Z","ts_":1,"q_":"good","q":"range"}"#);
    }

    #[test]
    fn bare_values_carry_their_quality_on_a_topic_of_its_own() {
        let mut route = Route::new(settings(PayloadForm::Value, true));
        let values = [("t", Value::Number(21.5)), ("a/b", Value::Text("x".into()))];
        let good = route.reading(&reading(&values, Quality::Good, true));
        assert_eq!(
            told(&good),
            [("tidegate/g/air/t", "21.5"), ("tidegate/g/air/a_b", "x"), ("tidegate/g/air/q", "good")]
        );
        let again = route.reading(&reading(&values[..1], Quality::Good, true));
        assert_eq!(told(&again), [("tidegate/g/air/t", "21.5")]);
        let fault = route.reading(&reading(&values[..1], Quality::Fault, true));
        assert_eq!(told(&fault), [("tidegate/g/air/q", "fault"), ("tidegate/g/air/t", "21.5")]);
    }

    #[test]
    fn a_bare_value_cannot_speak_on_the_gateways_own_topics() {
        let mut route = Route::new(settings(PayloadForm::Value, false));
        let names = ["availability", "set", "ack", "q", "a/set"];
        let values = names.map(|name| (name, Value::Text("online".into())));
        let messages = route.reading(&reading(&values, Quality::Good, true));
        let topics: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
        let levels = ["availability_", "set_", "ack_", "q_", "a_set", "q"];
        assert_eq!(topics, levels.map(|level| format!("tidegate/g/air/{level}")));

        let mut route = Route::new(settings(PayloadForm::Json, false));
        let messages = route.reading(&reading(&values[..1], Quality::Good, true));
        assert_eq!(told(&messages)[0].1, r#"{"ts":"2026-11-23T01:15:00.123Z","availability":"online"}"#);
    }

    #[test]
    fn availability_is_a_retained_word() {
        let route = Route::new(PublishSettings { retain: false, ..settings(PayloadForm::Json, false) });
        let topic = TopicName::parse("tidegate/g/air/availability").unwrap();
        let expected = |word: &[u8]| Message::new(topic.clone(), word, Qos::AtLeastOnce, true, Origin::Gateway);
        assert_eq!(route.availability(true), expected(b"online"));
        assert_eq!(route.availability(false), expected(b"offline"));
    }

    #[test]
    fn numbers_are_written_without_dust_and_read_back_the_same() {
        for (number, text) in [
            (21.5, "21.5"),
            (22.0, "22"),
            (-0.0, "0"),
            (-0.001, "-0.001"),
            (0.000_001, "1e-6"),
            (1e15, "1000000000000000"),
            (1.5e300, "1.5e300"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(decimal(number), text);
            let back: f64 = serde_json::from_str(text).unwrap();
            assert!((back - number).abs() <= 0.0, "{text} reads back as {back}");
        }
    }
}

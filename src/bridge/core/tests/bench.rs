//! A core and a cloud face to face, carried from one situation to the next by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::super::{Close, Core, Ended, Turn};
use super::cloud::Cloud;
use super::settings;
use crate::bridge::intake::Offered;
use crate::bridge::settings::Settings;
use crate::clock::{Clock, FakeClock};
use crate::model::{Message, Origin, Priority, Qos, TopicName};
use crate::mqtt::client::Version;

/// The two, and the clock they live by.
pub(super) struct Bench {
    pub(super) dir: tempfile::TempDir,
    pub(super) clock: FakeClock,
    pub(super) core: Core,
    pub(super) cloud: Cloud,
    pub(super) version: Version,
    /// What was published locally.
    pub(super) local: Vec<Message>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        // A flush costs nothing in memory, and here it is the order of things that counts.
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let clock = FakeClock::new(1_795_396_500_000);
        let mut settings = settings(dir.path());
        change(&mut settings);
        let core = Core::open(&Arc::new(settings), &clock).unwrap();
        Self { dir, clock, core, cloud: Cloud::new(100), version: Version::V5, local: Vec::new() }
    }

    /// As after a kill.
    pub(super) fn reopen(self, change: impl FnOnce(&mut Settings)) -> Self {
        let Self { dir, clock, core, mut cloud, version, .. } = self;
        drop(core);
        cloud.cut();
        let mut settings = settings(dir.path());
        change(&mut settings);
        let core = Core::open(&Arc::new(settings), &clock).unwrap();
        Self { dir, clock, core, cloud, version, local: Vec::new() }
    }

    pub(super) fn offered(&self, topic: &str, payload: &str, qos: Qos) -> Offered {
        let topic = TopicName::parse(topic).unwrap();
        let message = Message::new(topic.clone(), payload.as_bytes(), qos, false, Origin::Sensor);
        let at = self.clock.wall();
        let (message, priority) = (Arc::new(message), Priority::Normal);
        Offered { topic, qos, retain: false, priority, rule: None, message, at, is_here: false, answer: None }
    }

    /// Stores a message of this priority.
    pub(super) fn store_as(&mut self, priority: Priority, qos: Qos, payload: &str) {
        let offered = Offered { priority, ..self.offered("t", payload, qos) };
        self.core.offer(offered, self.clock.now(), 0);
        self.clock.advance(Duration::from_millis(60));
        self.turn(0);
    }

    /// Stores messages with these payloads.
    pub(super) fn store(&mut self, qos: Qos, payloads: &[&str]) {
        for payload in payloads {
            let offered = self.offered("t", payload, qos);
            self.core.offer(offered, self.clock.now(), 0);
        }
        self.clock.advance(Duration::from_millis(60));
        self.turn(0);
    }

    pub(super) fn turn(&mut self, unsent: usize) -> (BytesMut, Option<Close>) {
        let Turn { bytes, publish, close } = self.core.turn(self.clock.now(), self.clock.wall(), unsent);
        self.local.extend(publish);
        (bytes, close)
    }

    pub(super) fn connect(&mut self) -> Option<Close> {
        let connect = self.core.connect(self.version, self.clock.now(), self.clock.wall()).unwrap();
        self.cloud.feed(&connect);
        self.exchange()
    }

    /// The cloud welcomes us and hears what we then say, and its answers are still on the way.
    pub(super) fn connect_without_reading(&mut self) {
        let connect = self.core.connect(self.version, self.clock.now(), self.clock.wall()).unwrap();
        self.cloud.feed(&connect);
        let welcome = self.cloud.output.split();
        self.core.receive(&welcome, self.clock.now(), self.clock.wall()).unwrap();
        for _ in 0..3 {
            let (up, _) = self.turn(0);
            self.cloud.feed(&up);
            self.clock.advance(Duration::from_millis(2));
        }
    }

    pub(super) fn cut(&mut self) {
        self.core.disconnected(Ended::Here);
        self.cloud.cut();
    }

    /// Carries bytes both ways until nothing moves.
    pub(super) fn exchange(&mut self) -> Option<Close> {
        for _ in 0..1_000 {
            let down = self.cloud.output.split();
            self.core.receive(&down, self.clock.now(), self.clock.wall()).unwrap();
            let (up, close) = self.turn(0);
            self.cloud.feed(&up);
            if close.is_some() {
                return close;
            }
            if up.is_empty() && self.cloud.output.is_empty() {
                return None;
            }
            self.clock.advance(Duration::from_millis(2));
        }
        panic!("the exchange does not end");
    }

    pub(super) fn arrived(&self) -> Vec<String> {
        self.cloud.arrived.iter().map(|arrival| String::from_utf8(arrival.payload.clone()).unwrap()).collect()
    }

    pub(super) fn events(&self, kind: &str) -> Vec<String> {
        let texts = self.local.iter().map(|message| String::from_utf8(message.payload.to_vec()).unwrap());
        texts.filter(|text| text.contains(&format!(r#""kind":"{kind}""#))).collect()
    }
}

//! The engine's core against a cloud made by hand, without a socket.

mod bench;
mod broken;
mod cloud;
mod life;
mod sim;
mod slow;
mod time;

use std::path::Path;
use std::time::Duration;

use crate::bridge::settings::{
    CloudUrl, InRule, OnSessionLoss, OutRule, OutboxSettings, Reconnect, Settings, TopicTemplate, VersionChoice,
};
use crate::model::{BridgeId, GatewayId, Qos, TopicFilter, TopicName};

/// Settings of a bridge that sends everything up as it is, and `down/#` down to `local/#`.
pub(in crate::bridge) fn settings(dir: &Path) -> Settings {
    let topic = |text: &str| TopicName::parse(text).unwrap();
    Settings {
        id: BridgeId::parse("cloud").unwrap(),
        gateway: GatewayId::parse("g").unwrap(),
        url: CloudUrl { tls: false, host: "cloud".into(), port: 1883 },
        version: VersionChoice::Auto,
        client_id: "g".into(),
        username: None,
        password: None,
        keep_alive: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(10),
        reconnect: Reconnect {
            min: Duration::from_millis(10),
            max: Duration::from_millis(200),
            stable: Duration::from_secs(30),
        },
        window: 20,
        on_session_loss: OnSessionLoss::Resend,
        session_expiry: Duration::from_secs(600),
        will_delay: Duration::ZERO,
        tls: None,
        out: vec![OutRule { from: TopicFilter::parse("#").unwrap(), to: None, qos: None, retain: None }],
        inward: vec![InRule {
            from: TopicFilter::parse("down/#").unwrap(),
            to: Some(TopicTemplate("local/{1}".into())),
            qos: Qos::ExactlyOnce,
        }],
        outbox: OutboxSettings {
            dir: dir.to_path_buf(),
            max_bytes: 64 << 20,
            max_messages: 1_000_000,
            max_age: None,
            linger: Duration::from_millis(50),
        },
        state_topic: topic("tidegate/g/bridge/cloud"),
        event_topic: topic("tidegate/g/event"),
        local_status_topic: topic("tidegate/g/status"),
        cloud_status_topic: topic("tidegate/g/status"),
        never_out: vec![TopicFilter::parse("tidegate/g/bridge/#").unwrap()],
    }
}

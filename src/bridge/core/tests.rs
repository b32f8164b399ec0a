//! The engine's core against a cloud made by hand, without a socket.

mod aliases;
mod bench;
mod block;
mod broken;
mod cloud;
mod clouds;
mod dead;
mod durable;
mod exchanges;
mod forgets;
mod full;
mod lanes;
mod life;
mod marks;
mod pace;
mod refusals;
mod room;
mod salvage;
mod sim;
mod slow;
mod time;

use std::path::Path;
use std::time::Duration;

use crate::bridge::settings::{
    Auth, CloudLimits, CloudUrl, Durability, Full, InRule, OnSessionLoss, OutRule, OutboxSettings, Reconnect, Settings,
    Share, TopicTemplate, VersionChoice,
};
use crate::logic::lanes::Order;
use crate::model::{BridgeId, GatewayId, Priority, Qos, TopicFilter, TopicName};

/// Settings of a bridge that sends everything up as it is, and `down/#` down to `local/#`.
pub(in crate::bridge) fn settings(dir: &Path) -> Settings {
    let topic = |text: &str| TopicName::parse(text).unwrap();
    Settings {
        id: BridgeId::parse("cloud").unwrap(),
        gateway: GatewayId::parse("g").unwrap(),
        url: CloudUrl { tls: false, host: "cloud".into(), port: 1883, path: None },
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
        out: vec![OutRule {
            from: TopicFilter::parse("#").unwrap(),
            to: None,
            qos: None,
            retain: None,
            priority: Priority::Normal,
            share: Share::default(),
        }],
        inward: vec![InRule {
            from: TopicFilter::parse("down/#").unwrap(),
            to: Some(TopicTemplate("local/{1}".into())),
            qos: Qos::ExactlyOnce,
        }],
        auth: Auth::Password,
        limits: CloudLimits::default(),
        outbox: OutboxSettings {
            dir: dir.to_path_buf(),
            max_bytes: 64 << 20,
            max_messages: 1_000_000,
            max_age: None,
            full: Full::DropOldest,
            rate: None,
            durability: Durability::Power,
            order: Order::OldestFirst,
            linger: Duration::from_millis(50),
        },
        state_topic: topic("tidegate/g/bridge/cloud"),
        event_topic: topic("tidegate/g/event"),
        local_status_topic: topic("tidegate/g/status"),
        cloud_status_topic: topic("tidegate/g/status"),
        never_out: vec![TopicFilter::parse("tidegate/g/bridge/#").unwrap()],
    }
}

//! Black box: the real binary between a pty, a real Mosquitto, a link that can be cut, and a receiver that keeps to the letter of MQTT.
//!
//! `docs/testing.md` tells how to run one of them alone and what each needs.

// The tests stand outside the gateway: they measure real time, and panic where they cannot go on.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout)]

mod actuators;
mod ask;
mod bench;
mod bridge_test;
mod broker;
mod clients;
mod clouds;
mod commands;
mod config_errors;
mod crash;
mod damage;
mod demo;
mod denied;
mod disk_faults;
mod exact;
mod external;
mod far_side;
mod first_light;
mod http;
mod judge;
mod large;
mod life;
mod lines;
mod listeners;
mod loops;
mod manager;
mod names;
mod outbox;
mod quiet;
mod reload;
mod secrets;
mod serial;
mod sessions;
mod support;
mod sys;
mod takeover;
mod tls;
mod users;
mod websocket;
mod weight;

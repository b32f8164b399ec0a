//! Black box: the real binary between a pty, a real Mosquitto, a link that can be cut, and a receiver that keeps to the letter of MQTT.
//!
//! `docs/testing.md` tells how to run one of them alone and what each needs.

// The bench stands outside the gateway: it measures real time, panics where a test cannot go on, and prints what a failed one left behind.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout)]
// Its texts are short and made once; its figures are for people.
#![allow(clippy::format_push_string, clippy::format_collect, clippy::cast_precision_loss)]

mod bench;
mod crash;
mod first_light;
mod judge;
mod reload;
mod support;
mod tls;

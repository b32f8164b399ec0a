//! The bench: everything the black-box tests put around the gateway. Each part cleans up after itself when it is dropped, by process id,
//! and prints the end of its log when the test that owned it fails.

// Every file of tests uses its own part of the bench.
#![allow(dead_code, unused_imports)]
// It stands outside the gateway: it measures real time and prints what a failed test left behind. Its texts are short and made once.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::format_push_string, clippy::format_collect)]
#![allow(clippy::cast_precision_loss)]

pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod crowd;
pub(crate) mod disk;
pub(crate) mod gateway;
pub(crate) mod link;
pub(crate) mod mosquitto;
pub(crate) mod mount;
pub(crate) mod name_server;
pub(crate) mod pace;
pub(crate) mod preload;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod receiver;
pub(crate) mod tty;
pub(crate) mod web;

pub(crate) use certs::Certificates;
pub(crate) use clock::WallClock;
pub(crate) use disk::{Call, Disk};
pub(crate) use gateway::Gateway;
pub(crate) use link::{Cut, Link};
pub(crate) use mosquitto::{Door, Login, Mosquitto, Received, Subscriber, publish, publish_lines};
pub(crate) use pace::{Lateness, free_port, wait_for, wait_until};
pub(crate) use process::Process;
pub(crate) use receiver::{Receiver, Sent, Terms, Verdict};
pub(crate) use tty::Tty;
pub(crate) use web::Web;

/// Ends the calling test early, saying so, when Mosquitto is not there and its absence was agreed to.
///
/// Without `TIDEGATE_SKIP_MOSQUITTO=1` a missing Mosquitto fails the test: a suite that is green because it did nothing proves nothing.
#[macro_export]
macro_rules! need_mosquitto {
    () => {
        if !$crate::support::mosquitto::is_there() {
            return;
        }
    };
}

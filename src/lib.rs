//! Tidegate: an MQTT edge gateway in one daemon. The map of the house:
//!
//! - [`cli`] the commands; [`config`] text to file, with a place for every mistake; [`plan`] file to plan, checked as a whole
//! - [`app`] builds the rooms, joins them through [`ports`], supervises; [`demo`] the same without hardware
//! - [`model`] the words the rooms share; [`logic`] every decision, without I/O; [`limits`] every number; [`clock`] the time
//! - [`actuators`] one file a kind of output; [`actuating`] device, output and commands joined
//! - [`bus`] ports of the board; [`drivers`] one file a sensor; [`sensing`] bus, driver and pipeline joined
//! - [`mqtt`] the wire; [`broker`] the local broker; [`bridge`] the way to the cloud; [`store`] SQLite
//! - [`http`] the page, metrics, and the control socket of the command line
//! - [`health`] who makes progress and who does not; [`telemetry`] log, and the word to the service manager

pub mod actuating;
pub mod actuators;
pub mod app;
pub mod bridge;
pub mod broker;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod drivers;
pub mod exit;
pub mod health;
pub mod http;
pub mod limits;
pub mod logic;
pub mod model;
pub mod mqtt;
pub mod plan;
pub mod ports;
pub mod sensing;
pub mod store;
pub mod telemetry;

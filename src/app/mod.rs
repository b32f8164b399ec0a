//! Builds the rooms, joins them, supervises; decides nothing that a room could decide.

mod board;
mod eras;
mod gateway;
pub mod hub;
mod link;
mod local;
mod run;
mod signals;
mod totals;
mod watchdog;

pub use gateway::{Gateway, StartError};
pub use run::{Options, run};

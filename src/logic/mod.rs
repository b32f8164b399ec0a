//! The quiet room: every decision, made from its inputs alone. No clock, no socket, no file, no randomness of its own.

pub mod availability;
pub mod chronicle;
pub mod command;
pub mod counter;
pub mod debounce;
pub mod drain;
pub mod echo;
pub mod failures;
pub mod flight;
pub mod formula;
pub mod health;
pub mod keepalive;
pub mod lanes;
pub mod marks;
pub mod output;
pub mod pace;
pub mod pipeline;
pub mod refusal;
pub mod restamp;
pub mod retry;
pub mod route;
pub mod schedule;
pub mod status;
pub mod tell;
pub mod thin;
pub mod window;

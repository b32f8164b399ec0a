//! The rules of the house, held by tests: who may know whom, what a file may look like, that examples and pages are true.

#![allow(clippy::unwrap_used)] // a test that cannot go on ends here, with its place
#![allow(clippy::format_collect)] // texts are short and made once

mod clouds;
mod cross;
mod drivers;
mod drop_ins;
mod examples;
mod house;
mod manual;
mod pages;
mod source;
mod tidy;
mod unit;

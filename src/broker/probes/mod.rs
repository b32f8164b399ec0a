//! Raw packets over real TCP: what the broker answers, byte for byte, to polite and to rude clients.

mod basics;
mod caps;
mod denied;
mod doors;
mod durable;
mod exchanges;
mod failing;
mod full;
pub(super) mod harness;
mod large;
mod promises;
mod restored;
mod rude;
mod visitors;
mod weight;

//! The wills that are kept, and what all of them may weigh: a client sends its will before anything else, and it is held for as long as the client stays.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;
use crate::mqtt::server::Will;

/// What all wills together weigh, bytes, but for small ones.
#[derive(Debug, Default)]
pub(super) struct Wills(Arc<AtomicU64>);

/// A will that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    will: Will,
    /// What it takes of the room for large ones.
    charge: u64,
    all: Arc<AtomicU64>,
}

impl Wills {
    /// Whether there is room for it. For a small one there always is: a crowd of large ones keeps nobody out who has little to say.
    pub(super) fn has_room(&self, will: &Will) -> bool {
        self.0.load(Ordering::Relaxed) + charge(will) <= limits::WILLS_BYTES_MAX
    }

    /// Keeps it.
    pub(super) fn keep(&self, will: Will) -> Kept {
        let charge = charge(&will);
        self.0.fetch_add(charge, Ordering::Relaxed);
        Kept { will, charge, all: self.0.clone() }
    }
}

fn charge(will: &Will) -> u64 {
    let weight = will.message.weight() as u64;
    if weight <= limits::WILL_SMALL_BYTES { 0 } else { weight }
}

impl Deref for Kept {
    type Target = Will;

    fn deref(&self) -> &Will {
        &self.will
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Will {
        &mut self.will
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.charge, Ordering::Relaxed);
    }
}

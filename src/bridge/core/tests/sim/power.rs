//! What befalls the machine: power cuts, for commits that do not wait for the disk; a new start; a disk that is full or fails.

use tokio::sync::oneshot;

use super::{World, run};
use crate::bridge::core::tests::durable::{cut_power, photograph};
use crate::bridge::settings::Durability;
use crate::clock::Clock;

impl World {
    /// Everything that was committed is on disk.
    pub(super) fn photograph(&mut self) {
        if self.durability == Durability::Process {
            photograph(self.dir.path(), self.flushed.path());
            let accepted = self.sent.iter().enumerate().filter(|(_, sent)| sent.accepted);
            self.flushed_until = accepted.map(|(id, _)| id).collect();
        }
    }

    /// What nobody waited for is gone.
    pub(super) fn cut_power(&mut self) {
        if self.durability == Durability::Process {
            self.power_cuts += 1;
            cut_power(self.dir.path(), self.flushed.path());
            for (id, sent) in self.sent.iter_mut().enumerate() {
                sent.accepted &= self.flushed_until.contains(&id);
                if !sent.accepted {
                    sent.answer = Some(oneshot::channel().1);
                }
            }
        }
    }

    /// The machine starts anew: some time later, with the clock anywhere.
    pub(super) fn reboot(&mut self) {
        let now_ms = self.true_ms(self.clock.now()) + self.rng.i64(0..100_000);
        self.clock.reboot();
        self.boot += 1;
        self.began_ms = 0;
        self.began_ms = now_ms - self.true_ms(self.clock.now());
        self.jump();
    }

    /// A disk without room, or one that fails every write.
    pub(super) fn fill_disk(&mut self, full: bool) {
        self.disk_full = full;
        let dying = self.rng.bool();
        let outbox = self.core().outbox.as_mut().unwrap();
        outbox.limit_pages(if full && !dying { "1" } else { "4294967294" });
        outbox.break_commits(full && dying);
    }
}

#[test]
fn without_waiting_for_the_disk_a_kill_loses_nothing_and_a_power_cut_only_what_was_not_flushed() {
    let more: u64 = std::env::var("SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let (mut kills, mut power_cuts) = (0, 0);
    for seed in 1..=more {
        match std::panic::catch_unwind(|| run(seed, Durability::Process)) {
            Ok(world) => {
                kills += world.kills;
                power_cuts += world.power_cuts;
            }
            Err(panic) => {
                println!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{kills} kills, {power_cuts} power cuts");
    assert!(kills > power_cuts && power_cuts > 0, "the faults did not happen");
}

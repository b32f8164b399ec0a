//! What a store does at its limits, and what it survives.

use crate::config::block::choice;

choice! {
    /// What happens at `max_bytes` and `max_messages`. What is in flight never goes.
    pub enum Full {
        /// the oldest of the lowest priority go
        DropOldest = "drop-oldest",
        /// what comes in is acknowledged and dropped
        DropNewest = "drop-newest",
        /// of each topic's older half every second goes, so that a long outage keeps its shape; where that is not enough, the oldest
        Thin = "thin",
        /// nothing new of QoS 1 and 2 is taken in: local clients are not acknowledged, sensors' messages wait in memory, 1,024 of them, and are then dropped
        Block = "block",
    }
}

choice! {
    /// What an acknowledged message survives.
    pub enum Durability {
        /// a power cut: each commit waits for the disk
        Power = "power",
        /// a kill of the process: a power cut may take the last five seconds, and makes the cloud forget the session once
        Process = "process",
    }
}

//! What a bridge's store does at its limits, and how fast it speaks.

use std::time::Duration;

/// Time whose share of a bridge's `rate` may go at once, one message always: ten commits a second at most while a backlog goes out at its rate.
pub const RATE_BURST: Duration = Duration::from_millis(100);
/// While records wait, QoS 0 gets this part of a bridge's `rate` (one in so many): a backlog and what is new both move on.
pub const RATE_QOS0_PART: u32 = 2;
/// Topics of which a pass of `full = "thin"` remembers where it is, about 50 bytes each. Beyond, a topic's records are left alone in that pass, and
/// when that frees too little the oldest go.
pub const THIN_TOPICS: usize = 4_096;
/// A pass that frees less than one record in so many that it looks at is followed by one that thins more.
pub const THIN_YIELD: u64 = 8;
/// Records looked at for what may go, in one commit: `full = "thin"` and the limits of rules. What a store has too many of after that, the oldest
/// go for; what a rule has, with the next commit.
pub const LOOK_ROWS: usize = 4_096;
/// Records read at a time for the counts of rules with limits, after a start: a millisecond, with the link served in between.
pub const TALLY_ROWS: usize = 1_024;
/// Part of a limit that must be free again before a store that takes nothing in (`full = "block"`) takes in, one in so many: it must not open and shut
/// with each message.
pub const BLOCK_SLACK: u64 = 16;
/// Largest message for a store, one part in so many of its `max_bytes`: it needs its size twice, in the log and in the file, beside the tables, the
/// dead letters and the log's own share. A larger one is dropped and counted (`too-large`).
pub const MESSAGE_SHARE: u64 = 3;
/// With `durability = "process"`, how long what was committed may not be on disk: what a power cut takes, and one flush in so long.
pub const FLUSH_EVERY: Duration = Duration::from_secs(5);

//! What the local broker keeps on disk, and when it is written.

use std::time::Duration;

/// A retained message of QoS 0 from a client is on disk after so long at the latest; a crash before that loses it, as QoS 0 may be lost.
pub const RETAINED_SOON: Duration = Duration::from_millis(50);
/// Retained messages of the gateway itself are written so often at most: 20 sensors at 1/s cost one commit in 5 s, not 20 a second.
pub const RETAINED_LAZY: Duration = Duration::from_secs(5);
/// What was queued for a client that can have it at once is written after so long, if the client has not acknowledged it by then: a healthy
/// subscriber of QoS 1 costs no commits. So long at most an acknowledgement waits for one that does not answer.
pub const SESSION_LINGER: Duration = Duration::from_millis(5);
/// What of a session nobody waits for, such as that a message was acknowledged, is written after so long at the latest; a crash before that has the
/// message said again.
pub const SESSION_LAZY: Duration = Duration::from_secs(1);
/// Pages of `sessions.db` that are given back to the disk at a time, 4 MiB, when nothing is to be written.
pub const SESSIONS_SHRINK_PAGES: u32 = 1_024;
/// After a failed write (disk full) the next one is tried so much later, or with the next acknowledgement that waits.
pub const RETAINED_RETRY: Duration = Duration::from_secs(5);
/// Where all queues together are full, one part in so many is dropped beyond what has to be: else every message would look at every queue.
pub const QUEUED_SLACK: u64 = 16;

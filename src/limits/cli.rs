//! Limits of the command line.

use std::time::Duration;

/// How often `tidegate read` looks whether the sensor has spoken, and how long it waits for the bus to end.
pub const READ_LOOK: Duration = Duration::from_millis(20);
/// Longest `tidegate user` waits for another one that is changing the same file; then nothing is changed. A card may take seconds to write it.
pub const REPLACE_WAIT: Duration = Duration::from_secs(10);
/// How often it looks meanwhile.
pub const REPLACE_LOOK: Duration = Duration::from_millis(20);

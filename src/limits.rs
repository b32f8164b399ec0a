//! Every queue length, timeout, size and budget, each with the reason for its number and what happens when it is reached.
//! One section a room.

use std::time::Duration;

// ---- config ----

/// Largest config file, includes counted singly. A gateway of 2,000 sensors takes 600 kB; a larger file is refused with its size.
pub const CONFIG_FILE_BYTES_MAX: u64 = 8 << 20;
/// Most files one config may include. More are refused: a pattern that catches a whole disk is a mistake.
pub const CONFIG_FILES_MAX: usize = 256;

// ---- shutdown (house.md §3d: the stages and their budgets) ----

/// Sensors stop taking in and flush what is in their pipelines.
pub const STOP_SENSORS: Duration = Duration::from_secs(2);
/// Bridges say `offline` to the cloud and hand over what they can; the rest stays in the store.
pub const STOP_BRIDGES: Duration = Duration::from_secs(5);
/// The broker says goodbye to its clients and writes its retained messages.
pub const STOP_BROKER: Duration = Duration::from_secs(3);
/// `TimeoutStopSec` of the unit; the kill follows.
pub const STOP_TOTAL: Duration = Duration::from_secs(15);
const _: () = assert!(
    STOP_SENSORS.as_secs() + STOP_BRIDGES.as_secs() + STOP_BROKER.as_secs() < STOP_TOTAL.as_secs(),
    "the stages of a stop must end before systemd kills"
);

// ---- store ----

/// Statements kept prepared for each file: the outbox has about twenty; a miss costs a parse, nothing else.
pub const STATEMENTS_CACHED: usize = 32;
/// Largest file that is read whole at start when it was not closed in order: 64 MiB take about a second on an SD card. Of a larger one the
/// schema and the small tables are read, and damage further in is met when it is reached.
pub const STORE_CHECK_BYTES_MAX: u64 = 64 << 20;
/// Damaged files kept for a person to look at, for each store; the oldest goes first.
pub const QUARANTINES_MAX: usize = 2;
// ---- app ----

/// Worker threads of the runtime that broker and sensors share. Two keep a board of two to four cores responsive; each bridge and each store has its own.
pub const RUNTIME_THREADS: usize = 2;

// ---- demo, and the subscriber it counts with ----

/// Read buffer of a subscriber; larger packets are read in pieces.
pub const SUBSCRIBER_BUFFER: usize = 16 << 10;
/// Longest wait of a subscriber for TCP and for CONNACK; then it tries again.
pub const SUBSCRIBER_CONNECT: Duration = Duration::from_secs(5);
/// Pause of a subscriber between two tries: short, since it counts for a person who watches.
pub const SUBSCRIBER_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for a counter to be subscribed.
pub const DEMO_SEAT: Duration = Duration::from_secs(10);
/// Longest wait at the end for what is still on its way; then it is called lost.
pub const DEMO_DRAIN: Duration = Duration::from_secs(30);
/// Lines of the log that the screen keeps; older ones scroll out.
pub const DEMO_LOG_LINES: usize = 200;
/// How often the screen is drawn.
pub const DEMO_FRAME: Duration = Duration::from_millis(100);

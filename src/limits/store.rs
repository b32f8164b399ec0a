//! The stores on disk.

use std::time::Duration;

/// Statements kept prepared for each file: the outbox has some sixty, most of them one for each class; a miss costs a parse, nothing else.
pub const STATEMENTS_CACHED: usize = 80;
/// Largest file that is read whole at start when it was not closed in order: 64 MiB take about a second on an SD card. Of a larger one the
/// schema and the small tables are read, and damage further in is met when it is reached.
pub const STORE_CHECK_BYTES_MAX: u64 = 64 << 20;
/// Longest a look into a store from outside waits for its owner.
pub const PEEK_WAIT: Duration = Duration::from_secs(2);
/// Records that one piece of `tidegate outbox purge` or `retry` looks at. Whoever asks goes on with another piece; the engine serves the link
/// between two. 4,096 deletions are some 20 ms and one flush.
pub const CHORE_ROWS: usize = 4_096;
/// Numbers of records that can be named in one such call: they have to fit into a request's body.
pub const CHORE_SEQS: usize = 128;
/// Records that `tidegate outbox list` and `export` read at a time, with their payloads: a long read would hold the write-ahead log back.
pub const BROWSE_ROWS: usize = 64;
/// Free bytes on the disk that a store leaves to the rest of the system: with less, nothing new is taken in, as on a full disk. Enough for the
/// log, a login and a package's configuration; of a small disk it is the share below.
pub const DISK_FLOOR_BYTES: u64 = 64 << 20;
/// The share of a small disk that a store leaves free: one part in so many.
pub const DISK_FLOOR_SHARE: u64 = 16;
/// How often the disk is asked for its free space, and whether the store is still where it was opened, while records come in. In a second no
/// memory card takes more than is left free.
pub const DISK_LOOK: Duration = Duration::from_secs(1);
/// Pages of a damaged file that are read for records in one turn of the engine, 1 MiB; no more once the records come to as many bytes.
pub const SALVAGE_PAGES: u32 = 256;
/// Pages of a damaged file without a list of tables that are looked at before it is replaced, for the numbers it gave out: 8 MiB.
pub const SALVAGE_SAMPLE_PAGES: u32 = 2_048;
/// How long what is new waits for the records of a damaged file, which come before it: some 300 MiB on a good disk, some 20 MiB on a slow card.
/// What is brought over after that goes up out of its order.
pub const SALVAGE_HOLD: Duration = Duration::from_secs(10);
/// How long after a damaged file could not be opened, or its records not be written, that is tried again.
pub const SALVAGE_RETRY: Duration = Duration::from_secs(60);
/// How often the opening of a damaged file with the log beside it is tried, [`SALVAGE_RETRY`] apart: what lasts longer than these ten minutes is no want of
/// handles. Then its records are brought over without the log, and what was in that alone is lost; where the file itself does not open, none are. That is told
/// as one place that could not be read, and both stay in quarantine. Each start of the gateway counts anew.
pub const SALVAGE_TRIES: u32 = 10;
/// Of the log beside a damaged file, so much is looked at. It is a few MiB long, unless somebody read the store for hours.
pub const SALVAGE_LOG_BYTES_MAX: u64 = 256 << 20;
/// Longest row of a damaged file that is believed: longer than any message that the broker takes, shorter than what would fill the memory.
pub const SALVAGE_ROW_BYTES_MAX: usize = 32 << 20;
/// Damaged files kept for a person to look at, for each store; the oldest goes first. One whose records are yet to be brought over is not among them.
pub const QUARANTINES_MAX: usize = 2;
/// Damaged files of a store whose records are yet to be brought over: so many damages, each before the one before it was dealt with, are a disk
/// that is at its end. Beyond, the oldest goes with what was in it, and the log says so.
pub const QUARANTINES_UNSALVAGED_MAX: usize = 8;
/// Commands remembered for each actuator: a sender that tries again for a day, once every six minutes, still finds the answer it had.
/// Of the 257th back an id is a new command again.
pub const COMMANDS_KEPT: u32 = 256;
/// Longest a command is remembered. No queue of a broker or an app holds one for longer and still means it.
pub const COMMANDS_AGE: Duration = Duration::from_secs(7 * 86_400);
/// Pieces of work that wait for the disk of `state.db`. When full, the next is refused, and a command with it.
pub const STATE_QUEUE: usize = 256;
/// Pieces of work in one commit: what waited while the one before it ran.
pub const STATE_COMMIT_WORK: usize = 64;

/// Record numbers taken from the file at a time. After a crash the numbers go on behind the lease: a gap of at most this many, for one
/// write to `meta` in so many messages.
pub const SEQ_LEASE: u64 = 65_536;
/// Boots that a store remembers the clock of: one is added in each boot in which a record is accepted before the clock is set, and goes with
/// its last record. Of a thousand boots in one outage the records of the oldest would stay unsynced.
pub const BOOTS_MAX: u32 = 1_024;

/// Of a store's `max_bytes` the write-ahead log may have one part in so many, within the two bounds that follow; the file has the rest.
pub const LOG_SHARE: u64 = 4;
/// Least of that: a commit of a store that small takes some hundred records.
pub const LOG_BYTES_MIN: u64 = 256 << 10;
/// Most of that: a larger log saves no bytes on the card (measured: 2 % between 64 and 4,000 pages).
pub const LOG_BYTES_MAX: u64 = 4 << 20;

/// Records counted at a time after a crash: a third of a megabyte of leaves for small records, 8 MiB at most. What a store of no more has is known
/// when it is open, whatever happened; of a larger one the count is a lower bound at first.
pub const COUNT_ROWS: usize = 2_048;
/// Pause between two such steps: ten million records are counted after two minutes.
pub const COUNT_PAUSE: Duration = Duration::from_millis(20);
/// The same while there is other work to do.
pub const COUNT_PAUSE_BUSY: Duration = Duration::from_millis(200);
/// QoS 2 messages of local clients whose packet ids are not free yet, remembered in each outbox: as many as 60 clients of MQTT 5 with full windows have open, some
/// 400 KiB. One more is stored without it, and goes up twice if the gateway dies while it is half handed over.
pub const EXCHANGES_MAX: usize = 16_384;
/// Longest the removal of such a note waits for others and for a commit to ride along with; the publisher waits for it, and as long for the broker's own file.
pub const RELEASE_LINGER: Duration = Duration::from_millis(5);
/// Dead letters kept for each bridge: what a person can look through. Beyond, the oldest goes; it was counted as dropped when it died.
pub const DEAD_LETTERS_MAX: u64 = 1_000;
/// Bytes of topics and payloads of all dead letters, or an eighth of the store's `max_bytes` where that is less: what will not be taken must not cost what
/// will. Beyond, the oldest goes.
pub const DEAD_LETTERS_BYTES_MAX: u64 = 4 << 20;

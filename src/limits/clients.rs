//! The local broker's clients: what is told of them, and large messages from and to them.

/// A packet of so many bytes is gathered in a buffer of its own, and its payload is not copied. Smaller ones are copied out of the buffer that is
/// read into, which costs less than a buffer each.
pub const LARGE_PACKET_BYTES: usize = 64 << 10;
/// A payload of so many bytes is not copied for each client that gets it, but written from where all share it. Below, one more piece costs more
/// than the copy.
pub const SHARED_PAYLOAD_BYTES: usize = 16 << 10;
/// Bytes of topics, payloads and properties on the wire to one client and not acknowledged; with so many, or with one larger message, the next waits in its queue. What is on
/// the wire cannot be dropped, so that `max_inflight` messages of `max_packet` must not be: this is what a client can make the broker keep by
/// acknowledging nothing, and fills a link of 10 MB/s at 100 ms.
pub const WIRE_BYTES_MAX: usize = 1 << 20;

/// What a filter takes in its session and among all filters, bytes, beyond its text, which is there twice.
pub const FILTER_BYTES: usize = 512;
/// What each of its levels takes, bytes: between the 30 of one that other filters share and the 450 of one that it has alone.
pub const FILTER_LEVEL_BYTES: usize = 192;
/// What the filters of one session may weigh, bytes: 4,096 with ten levels and a hundred bytes. One more is refused in its SUBACK.
pub const SESSION_FILTERS_BYTES_MAX: usize = 12 << 20;
/// What the filters of all sessions may weigh, bytes: 80,000 with five levels and a hundred bytes. One more is refused in its SUBACK.
pub const FILTERS_BYTES_MAX: usize = 128 << 20;
/// Bytes of the topics that one connection has aliases for, each way: 64 of 2 KiB. A client that names longer ones is closed; from us they have none.
pub const ALIASED_BYTES_MAX: usize = 128 << 10;
/// What all wills together may weigh, bytes, but for those that are small. A client whose will finds no room is refused as "server busy".
pub const WILLS_BYTES_MAX: u64 = 32 << 20;
/// A will that weighs no more than that is small: those of 10,000 sessions weigh 40 MB.
pub const WILL_SMALL_BYTES: u64 = 4 << 10;

/// What a client is told in beyond its names, bytes of JSON.
pub const CLIENT_TOLD_BYTES: usize = 512;
/// A byte of a name is told in so many at most: a control character is `\\u001b` in JSON.
pub const CLIENT_NAME_FACTOR: usize = 6;
/// Most bytes of JSON that clients are told in at a time, below what the command line takes: ten thousand with names of 100 bytes. Of those beyond
/// it only the number is told; a pattern chooses fewer.
pub const CLIENTS_TOLD_BYTES: usize = 12 << 20;
/// Longest pattern that client ids are compared with, bytes; a longer one is refused.
pub const CLIENT_PATTERN_BYTES_MAX: usize = 1_024;

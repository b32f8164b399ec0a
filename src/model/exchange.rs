//! What a QoS 2 message of a local client is known by until the client has released its packet id, and the eras in which that counts.

use std::collections::HashSet;
use std::sync::Arc;

/// A publication that its client says again after a crash: under which packet id, in which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId {
    /// The session's number on disk: chosen by chance when it begins, and never that of another one.
    pub session: i64,
    /// Packet id. It is another message's once the client has been told that it is free.
    pub packet_id: u16,
}

/// A time in which the same bridges are there and hear of every packet id that becomes free. What a bridge noted counts for as long as it was there in
/// each era since. The number is chosen by chance.
#[derive(Debug, Clone)]
pub struct Era {
    /// The last one in which a client may have been told that a packet id is free; `None` for a bridge that was not there, or where that is not known.
    pub before: Option<i64>,
    /// The one that begins.
    pub now: i64,
    /// The sessions there are; `None` when nothing is said of them.
    pub sessions: Option<Arc<HashSet<i64>>>,
}

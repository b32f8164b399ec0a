//! Limits at the broker's doors: who comes in, how many, and what is taken from them before they are known.

use std::time::Duration;

/// CONNECT must have come by then, or the connection closes. Mosquitto waits as long as the keep alive; 10 s is ample on a slow radio link.
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// TLS and WebSocket must stand by then, or the connection closes; the wait for CONNECT begins after. As long as that: two round trips and
/// some arithmetic, on a slow radio link too.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// Most bytes taken before a client is known: a CONNECT whose client id, user, password, will topic and will payload are each of their largest
/// size, 64 KiB, with as much for properties. A larger one closes the connection.
pub const CONNECT_BYTES_MAX: usize = 6 * 65_536;
/// The same where the client comes by a WebSocket: its request, frames, and what it sends behind CONNECT before that is answered.
pub const WEBSOCKET_UNKNOWN_BYTES: usize = CONNECT_BYTES_MAX + (64 << 10);
/// First and longest pause after accept(2) fails (no file descriptors left); doubled in between.
pub const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Answer to a first failed login from an address, of IPv6 from its /64, waits so long, doubled with each further one up to the second figure.
pub const LOGIN_DELAY_MIN: Duration = Duration::from_millis(50);
/// See [`LOGIN_DELAY_MIN`]. A guesser gets one answer in this time and connection.
pub const LOGIN_DELAY_MAX: Duration = Duration::from_secs(5);
/// After so long without a failure a network is forgotten.
pub const LOGIN_FAILURE_MEMORY: Duration = Duration::from_secs(300);
/// Networks whose failures are remembered; those beyond wait the longest delay.
pub const LOGIN_FAILURE_NETWORKS_MAX: usize = 1_024;
/// A client that is shown out gets so long to take the last words, DISCONNECT among them.
pub const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest a login waits for the passwords before it to be verified, one at a time: forty of them on a board that takes half a second for each. Then
/// it is answered "server busy", and the client tries again.
pub const LOGIN_WAIT: Duration = Duration::from_secs(20);
/// Of `max_connections` so many are kept for plain connections from this machine, but a quarter of them at most: whatever comes from elsewhere, or by
/// TLS and WebSockets, a person at the board and what runs on it get in.
pub const LOCAL_SEATS: usize = 16;
/// What is told of a peer that is refused is told again of its network after so long: a device that is refused tries for ever.
pub const NOTICE_AGAIN: Duration = Duration::from_secs(3_600);
/// Such notices that are remembered, 50 bytes each. Beyond, nothing is told of further networks until the oldest are forgotten.
pub const NOTICES_MAX: usize = 1_024;
/// Networks whose connections are counted for `connects_per_minute`, 50 bytes each. Beyond, further ones are not counted until one has been quiet for a
/// minute: `max_connections` bounds what they can do.
pub const KNOCKS_NETWORKS_MAX: usize = 4_096;
/// Files of certificates or a key that could not be read are read again after so long, though they look the same: a disk that failed may have come
/// back. Before, no connection reads them.
pub const TLS_FILES_AGAIN: Duration = Duration::from_secs(10);
/// Largest file of certificates or a key; all authorities of a Debian are 220 kB. A larger one is refused.
pub const TLS_FILE_BYTES_MAX: u64 = 1 << 20;

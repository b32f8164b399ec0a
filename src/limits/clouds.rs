//! Tokens that end, and the clock they hang on.

use std::time::Duration;

/// A token is renewed a fifth of its life before its end, and not earlier than this: long enough for a few attempts behind a bad link, and a
/// small part of an hour. Beyond it the cloud ends the connection itself, and the next one has a new token.
pub const TOKEN_MARGIN_MAX: Duration = Duration::from_secs(300);
/// How long what is in flight may be waited for before the connection is made anew with a new token. What is not acknowledged by then is sent
/// again under its packet id, as after any other cut.
pub const TOKEN_GRACE: Duration = Duration::from_secs(5);
/// A clock that the kernel does not hold for set is trusted with a token from this time on: 2026-11-01T00:00:00Z, before which this program was
/// not there. A clock that shows less cannot be right, and an attempt would be refused.
pub const CLOCK_PLAUSIBLE_MS: i64 = 1_793_491_200_000;

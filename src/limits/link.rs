//! Limits of a bridge's conversation with its cloud: refusals, answers that are owed, what comes back.

use std::time::Duration;

/// Pause after a cloud refused a message for a reason that may pass (quota exceeded): doubled with every try, up to the second.
pub const REFUSED_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest such pause: a quota that is given by the minute is seen again within two.
pub const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often a message is offered that is refused without a cause (0x80, 0x83). With the pauses between them that is half a minute; then its
/// refusal counts as final, so that one message cannot hold up those behind it for ever.
pub const REFUSED_TRIES: u32 = 6;
/// Longest that what waits for the cloud waits for the answer to our subscriptions, so that replies find someone who listens. A cloud that
/// has not answered by then gets the messages all the same, and it is told.
pub const SUBSCRIBE_WAIT: Duration = Duration::from_secs(10);
/// The cloud owes an answer (to a PUBLISH, a SUBSCRIBE) and has said nothing for so long: it is asked with a PINGREQ, however long the keep
/// alive is. With [`super::PING_ANSWER`] a link that swallows what is sent is known after 30 s.
pub const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Connections in a row that ended before `reconnect.stable` from which on it is told as what it is: another client with our id, mostly.
pub const SHORT_CONNECTIONS: u32 = 3;
/// What messages from the cloud weigh, and answers to it, that wait for a commit which does not succeed. At that the connection is not read any
/// further: the cloud keeps the rest, and what has come is not acknowledged. What was read already may exceed it, by one packet at most.
pub const DOWN_WAITING_BYTES: usize = 1 << 20;
/// Messages sent to a 3.1.1 cloud that it will send back, since our own subscriptions match them: each is remembered by 16 bytes until it comes.
/// Beyond it the oldest is forgotten, and told locally when it comes after all.
pub const ECHOES_MAX: usize = 4_096;
/// Longest such a message is expected back. A cloud that does not send it back could otherwise cost another client an equal message, much later.
pub const ECHO_WAIT: Duration = Duration::from_secs(60);
/// TLS sessions that a bridge keeps to resume: the tickets of TLS 1.3 of one cloud, each good for one connection (RFC 8446 §C.4); a cloud gives one
/// or two with each. Beyond, the oldest goes. A ticket and the cloud's certificates beside it take some kilobytes. There is room for one session
/// of TLS 1.2 as well.
pub const TLS_SESSIONS: usize = 8;
/// Longest that TLS is kept as it was set up. Then the certificates of authorities are read anew, which the system's updates change, and the
/// cloud's own is judged again: a resumed session does not show it, and each gives a ticket for the next.
pub const TLS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long before a certificate expires `check`, the start and each day tell it. Authorities that issue for 90 days renew at 30.
pub const CERTIFICATE_NOTICE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Connections that may end with a message on its way by its topic's number, at a cloud that has never taken one so, before it gets no topic
/// aliases any more until the next start. The line may have broken as well: what that costs is bytes.
pub const ALIAS_ENDS: u32 = 3;
/// How often the certificates of a running gateway are looked at for that: a log gets a line a day for each.
pub const DAILY: Duration = Duration::from_secs(24 * 60 * 60);

//! The cloud's codes in words, for the state topic and the log.

use std::time::Duration;

use super::core::Close;
use crate::limits::SHORT_CONNECTIONS;
use crate::mqtt::client::{Elsewhere, Version};

/// Why a connection ended.
pub(super) fn of(close: &Close) -> String {
    match close {
        Close::Refused(version, code, elsewhere) => {
            format!("CONNACK 0x{code:02x} {}{}", connack(*version, *code), there(elsewhere))
        }
        Close::Dismissed(code, elsewhere) => {
            format!("the cloud ended the connection: 0x{code:02x} {}{}", reason(*code), there(elsewhere))
        }
        Close::Wire(error) => error.to_string(),
        Close::Mismatch => {
            "the cloud's session is not ours (0x91 packet identifier in use): it has to forget it".into()
        }
        Close::Silent => format!("no answer to ping within {} s", crate::limits::PING_ANSWER.as_secs()),
        Close::Purged => "an old session was ended".into(),
        Close::Renewed => "the token was renewed".into(),
        Close::Left => "left".into(),
        Close::Itself(gateway) => {
            format!(
                "the cloud is this gateway's own broker, or another gateway has its id `{gateway}`: nothing goes to it"
            )
        }
        Close::NewStore => "the store was replaced".into(),
    }
}

/// Which server the cloud would have us use. It is told and not followed: the config says which one is trusted.
fn there(elsewhere: &Elsewhere) -> String {
    let Some(server) = elsewhere else { return String::new() };
    format!(": `{}`", server.chars().take(SERVER_CHARACTERS).flat_map(char::escape_debug).collect::<String>())
}

/// More is no name of a server.
const SERVER_CHARACTERS: usize = 255;

fn connack(version: Version, code: u8) -> &'static str {
    // A 3.1.1 cloud answers a CONNECT of version 5 with its own codes, all of them below 6.
    match (version, code) {
        (_, 1) => "unacceptable protocol version",
        (_, 2) => "client id rejected",
        (_, 3) => "server unavailable",
        (_, 4) => "bad user name or password",
        (_, 5) => "not authorized",
        (_, code) => reason(code),
    }
}

/// A connection that the cloud ends again and again soon after it was made: mostly two clients take one session from each other, and only an
/// MQTT 5 cloud says so.
pub(super) fn again(reason: String, times: u32, stable: Duration, client_id: &str) -> String {
    if times < SHORT_CONNECTIONS {
        return reason;
    }
    let seconds = stable.as_secs();
    format!(
        "{reason}; within {seconds} s of connecting, {times} times in a row: is `{client_id}` another client's id too?"
    )
}

/// Reason codes of MQTT 5, table 2.4, as far as they are a failure.
pub(super) fn reason(code: u8) -> &'static str {
    match code {
        0x00 => "normal disconnection",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client id not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8a => "banned",
        0x8b => "server shutting down",
        0x8c => "bad authentication method",
        0x8d => "keep alive timeout",
        0x8e => "session taken over: another client has this client id",
        0x8f => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x93 => "receive maximum exceeded",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9a => "retain not supported",
        0x9b => "QoS not supported",
        0x9e => "shared subscriptions not supported",
        0x9c => "use another server",
        0x9d => "server moved",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time",
        0xa1 => "subscription identifiers not supported",
        0xa2 => "wildcard subscriptions not supported",
        _ => "unspecified error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_ends_again_and_again_asks_for_the_client_id() {
        let told = |times| again("closed".into(), times, Duration::from_secs(30), "box");
        assert_eq!(told(2), "closed");
        assert_eq!(told(3), "closed; within 30 s of connecting, 3 times in a row: is `box` another client's id too?");
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_its_version() {
        assert_eq!(of(&Close::Refused(Version::V5, 0x87, None)), "CONNACK 0x87 not authorized");
        assert_eq!(of(&Close::Refused(Version::V311, 4, None)), "CONNACK 0x04 bad user name or password");
        assert_eq!(
            of(&Close::Dismissed(0x8e, None)),
            "the cloud ended the connection: 0x8e session taken over: another client has this client id"
        );
        let elsewhere = Some("b.example.com:8883\n".into());
        assert_eq!(
            of(&Close::Refused(Version::V5, 0x9d, elsewhere)),
            "CONNACK 0x9d server moved: `b.example.com:8883\\n`"
        );
    }
}

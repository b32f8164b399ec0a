//! The cloud's codes in words, for the state topic and the log.

use super::core::Close;
use crate::mqtt::client::Version;

/// Why a connection ended.
pub(super) fn of(close: &Close) -> String {
    match close {
        Close::Refused(version, code) => format!("CONNACK 0x{code:02x} {}", connack(*version, *code)),
        Close::Dismissed(reason) => format!("the cloud ended the connection: 0x{reason:02x} {}", reason_words(*reason)),
        Close::Wire(error) => error.to_string(),
        Close::Silent => format!("no answer to ping within {} s", crate::limits::PING_ANSWER.as_secs()),
        Close::Purged => "an old session was ended".into(),
        Close::Left => "left".into(),
        Close::NewStore => "the store was replaced".into(),
    }
}

fn connack(version: Version, code: u8) -> &'static str {
    // A 3.1.1 cloud answers a CONNECT of version 5 with its own codes, all of them below 6.
    match (version, code) {
        (_, 1) => "unacceptable protocol version",
        (_, 2) => "client id rejected",
        (_, 3) => "server unavailable",
        (_, 4) => "bad user name or password",
        (_, 5) => "not authorized",
        (_, code) => reason_words(code),
    }
}

/// Reason codes of MQTT 5, table 2.4, as far as they are a failure.
fn reason_words(code: u8) -> &'static str {
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
        0x90 => "topic name invalid",
        0x93 => "receive maximum exceeded",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9a => "retain not supported",
        0x9b => "QoS not supported",
        0x9c => "use another server",
        0x9d => "server moved",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time",
        _ => "unspecified error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_words_of_its_version() {
        assert_eq!(of(&Close::Refused(Version::V5, 0x87)), "CONNACK 0x87 not authorized");
        assert_eq!(of(&Close::Refused(Version::V311, 4)), "CONNACK 0x04 bad user name or password");
        assert_eq!(
            of(&Close::Dismissed(0x8e)),
            "the cloud ended the connection: 0x8e session taken over: another client has this client id"
        );
    }
}

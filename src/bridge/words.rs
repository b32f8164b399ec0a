//! The cloud's codes in words, for the state topic and the log.

use std::time::Duration;

use super::core::Close;
use crate::limits::SHORT_CONNECTIONS;
use crate::mqtt::client::Elsewhere;
pub(super) use crate::mqtt::reason::{connack, in_words as reason};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::client::Version;

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

//! A rate: messages, bytes, or both, in a second, a minute or an hour.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::units::bytes;
use super::{form, text};
use crate::config::decode::{Refusal, Scalar};
use crate::config::tree::Value;
use crate::model::{self, Quota};

/// Most messages and bytes in a time.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(pub model::Rate);

/// Names of the times.
const TIMES: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3_600)];

impl Scalar for Rate {
    const EXPECTED: &'static str =
        "messages, bytes or both in a time, such as \"50/s\", \"30/min\" or \"50/s, 64KiB/s\"";
    const NAME: &'static str = "rate";

    fn schema() -> Json {
        let part = "[0-9]+(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?/(s|min|h)";
        json!({ "type": "string", "pattern": format!("^{part}(, *{part})?$"), "examples": ["50/s", "30/min", "50/s, 64KiB/s"] })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        if let Value::Integer(number) = value {
            return Err(form(format!("has no unit: `{number}`; write \"{number}/s\" for messages in a second")));
        }
        let text = text(value)?;
        let mut rate = model::Rate { messages: None, bytes: None };
        for part in text.split(',').map(str::trim) {
            let Some((amount, time)) = part.split_once('/') else {
                return Err(form(format!("has no time: `{part}`; a rate is written as \"50/s\" or \"64KiB/s\"")));
            };
            let Some((_, seconds)) = TIMES.iter().find(|(name, _)| *name == time) else {
                return Err(form(format!("has an unknown time: `{part}`; known: /s, /min, /h")));
            };
            let is_number = !amount.is_empty() && amount.bytes().all(|byte| byte.is_ascii_digit());
            let count = if is_number { amount.parse().map_err(|_| form("is too large"))? } else { bytes(amount)? };
            if count == 0 {
                return Err(form(format!("lets nothing through: `{part}`; leave it out for no limit")));
            }
            let quota = Quota { count, per: Duration::from_secs(*seconds) };
            let (place, what) = if is_number { (&mut rate.messages, "messages") } else { (&mut rate.bytes, "bytes") };
            if place.replace(quota).is_some() {
                return Err(form(format!("names {what} twice: `{text}`")));
            }
        }
        Ok(Self(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::read;
    use super::*;

    fn rate(text: &str) -> Result<String, String> {
        read::<Rate>(&format!("\"{text}\"")).map(|rate| rate.0.to_string())
    }

    #[test]
    fn a_rate_is_messages_or_bytes_or_both_in_a_time() {
        assert_eq!(rate("50/s"), Ok("50/s".into()));
        assert_eq!(rate("30/min"), Ok("30/min".into()));
        assert_eq!(rate("64KiB/s, 1000/h"), Ok("1000/h, 65536B/s".into()));
    }

    #[test]
    fn what_is_no_rate_is_said_in_words() {
        assert_eq!(rate("50"), Err("has no time: `50`; a rate is written as \"50/s\" or \"64KiB/s\"".into()));
        assert_eq!(rate("50/d"), Err("has an unknown time: `50/d`; known: /s, /min, /h".into()));
        assert_eq!(rate("0/s"), Err("lets nothing through: `0/s`; leave it out for no limit".into()));
        assert_eq!(rate("1/s, 2/s"), Err("names messages twice: `1/s, 2/s`".into()));
        assert_eq!(rate("99999999999999999999/s"), Err("is too large".into()));
        assert!(rate("5 KiB/s").is_err() && rate("").is_err() && rate("-1/s").is_err());
        assert_eq!(read::<Rate>("50").unwrap_err(), "has no unit: `50`; write \"50/s\" for messages in a second");
    }
}

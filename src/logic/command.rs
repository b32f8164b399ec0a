//! What a payload on a command topic means, and whether it may be done. The rest of the judgement, whether the id is known, is the store's
//! (`store::state`), and whether now is the time is the output's ([`super::output`]).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::limits::COMMAND_BYTES_MAX;
use crate::model::time::parse_rfc3339;
use crate::model::{Ack, Command, CommandId, CommandOrigin, Moment, Outcome, Qos, Setting, Timestamp};

/// From where commands are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This machine and the clients of the local broker.
    Local,
    /// A cloud, by an `in` rule.
    Cloud,
}

/// The words of an actuator.
#[derive(Debug, Clone, PartialEq)]
pub enum Vocabulary {
    /// `on` and `off`.
    Switch,
    /// `press`, and `off` to end it early.
    Pulse,
    /// Words of its own, and numbers within these bounds.
    Words(Vec<Arc<str>>, Option<(f64, f64)>),
}

/// What an actuator asks of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The words it takes.
    pub vocabulary: Vocabulary,
    /// From where.
    pub allow: Vec<Side>,
    /// Whether doing a command twice is no more than doing it once. Else one of QoS 1, which may arrive twice, needs an id.
    pub repeatable: bool,
}

/// A command that can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What its sender calls it.
    pub id: Option<CommandId>,
    /// What the output is to be set to.
    pub setting: Setting,
    /// Wall clock in milliseconds from which it is not worth doing.
    pub expires_ms: Option<i64>,
    /// The same on the monotonic clock.
    pub until: Option<Moment>,
}

impl Wish {
    /// Whether its time has passed, and since when; or that nobody can tell.
    pub fn late(&self, wall: Timestamp, now: Moment) -> Option<Ack> {
        let answer = |outcome, reason: String| Some(Ack::because(self.id.clone(), outcome, reason));
        if let Some(until) = self.until
            && now >= until
        {
            return answer(Outcome::Expired, format!("it expired {} ago", seconds(now.since(until))));
        }
        let expires_ms = self.expires_ms?;
        if !wall.synced {
            let reason = "the clock of the gateway is not set, so it cannot tell whether the command has expired";
            return answer(Outcome::Refused, reason.to_owned());
        }
        let late_ms = u64::try_from(wall.unix_ms.saturating_sub(expires_ms)).ok()?;
        answer(Outcome::Expired, format!("it expired {} ago", seconds(Duration::from_millis(late_ms))))
    }
}

/// Judges a command by all that does not change: itself, the actuator's rules and the clock.
///
/// # Errors
/// The answer to a command that is not to be done.
pub fn judge(command: &Command, rules: &Rules, wall: Timestamp, now: Moment) -> Result<Wish, Ack> {
    let read = read(&command.payload, rules, now);
    let id = read.as_ref().map_or_else(|(id, _)| id.clone(), |wish| wish.id.clone());
    let rejected = |reason: &str| Err(Ack::because(id.clone(), Outcome::Rejected, reason));
    if command.retained {
        return rejected("a retained command is not done: it would be done again at every start");
    }
    let mut wish = match read {
        Ok(wish) => wish,
        Err((_, reason)) => return rejected(&reason),
    };
    let (side, name) = match &command.origin {
        CommandOrigin::Local | CommandOrigin::Page => (Side::Local, "local"),
        CommandOrigin::Cloud(_) => (Side::Cloud, "cloud"),
    };
    if !rules.allow.contains(&side) {
        return rejected(&format!("it takes no commands from here: `{name}` is not in its `allow_from`"));
    }
    if wish.id.is_none() && !rules.repeatable && command.qos == Qos::AtLeastOnce {
        return rejected("a command of QoS 1 may arrive twice, and must not be done twice here: give it an id");
    }
    wish.until = [wish.until, command.expires].into_iter().flatten().min();
    wish.late(wall, now).map_or(Ok(wish), Err)
}

/// The id of a command that nobody has time to judge.
pub fn id_of(command: &Command, rules: &Rules) -> Option<CommandId> {
    read(&command.payload, rules, Moment::ZERO).map_or_else(|(id, _)| id, |wish| wish.id)
}

/// What is to be said of the answer that an id had before.
pub fn duplicate(id: Option<CommandId>, before: Option<(Outcome, Option<Arc<str>>)>) -> Ack {
    let reason = match before {
        None => "its id is known, and it is under way".to_owned(),
        Some((outcome, None)) => format!("its id is known; it was answered {}", outcome.word()),
        Some((outcome, Some(reason))) => format!("its id is known; it was answered {}: {reason}", outcome.word()),
    };
    Ack::because(id, Outcome::Duplicate, reason)
}

type Unread = (Option<CommandId>, String);

fn read(payload: &[u8], rules: &Rules, now: Moment) -> Result<Wish, Unread> {
    let unread = |reason: String| (None, reason);
    if payload.len() > COMMAND_BYTES_MAX {
        return Err(unread(format!("it is {} bytes long; the longest command is {COMMAND_BYTES_MAX}", payload.len())));
    }
    let text = std::str::from_utf8(payload).map_err(|_| unread("it is no text".to_owned()))?.trim();
    if text.starts_with('{') {
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| unread("it begins with `{` and is no JSON object".to_owned()))?;
        return read_object(&object, rules, now);
    }
    let setting = setting(text, rules).map_err(unread)?;
    Ok(Wish { id: None, setting, expires_ms: None, until: None })
}

const KEYS: [&str; 5] = ["id", "value", "expires", "ts", "ttl"];

fn read_object(object: &Map<String, Value>, rules: &Rules, now: Moment) -> Result<Wish, Unread> {
    let id = match object.get("id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => CommandId::parse(text).map(Some).ok_or(()),
        Some(Value::Number(number)) => CommandId::parse(&number.to_string()).map(Some).ok_or(()),
        Some(_) => Err(()),
    };
    let id = id.map_err(|()| {
        (None, "`id` must be a number, or a text of 1 to 128 bytes without control characters".to_owned())
    })?;
    let unread = |reason: String| (id.clone(), reason);
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        // A misspelt `expires` must not make a command without an end.
        return Err(unread(format!("`{key}` is not known here; known: `id`, `value`, `expires`, `ts`, `ttl`")));
    }
    let word = match object.get("value") {
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        None => return Err(unread("`value` is missing".to_owned())),
        Some(_) => return Err(unread("`value` must be a text, a number, true or false".to_owned())),
    };
    let setting = setting(word.trim(), rules).map_err(unread)?;
    let time = |key: &str| match object.get(key) {
        None => Ok(None),
        Some(value) => value.as_str().and_then(parse_rfc3339).map(Some).ok_or_else(|| {
            unread(format!("`{key}` must be a time as RFC 3339 writes it, such as 2026-11-23T01:15:00Z"))
        }),
    };
    let (ts, mut expires_ms) = (time("ts")?, time("expires")?);
    let ttl = object.get("ttl").map(|value| {
        span(value).ok_or_else(|| unread("`ttl` must be seconds, or a text with its unit, such as \"5s\"".to_owned()))
    });
    let mut until = None;
    if let Some(ttl) = ttl.transpose()? {
        match ts {
            // From when its sender wrote it.
            Some(ts) => {
                let end = ts.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
                expires_ms = Some(expires_ms.map_or(end, |expires| expires.min(end)));
            }
            // From when it came.
            None => until = Some(now + ttl),
        }
    }
    Ok(Wish { id, setting, expires_ms, until })
}

fn setting(word: &str, rules: &Rules) -> Result<Setting, String> {
    let small = word.to_ascii_lowercase();
    let switch = match small.as_str() {
        "on" | "1" | "true" => Some(Setting::On),
        "off" | "0" | "false" => Some(Setting::Off),
        _ => None,
    };
    match &rules.vocabulary {
        Vocabulary::Switch | Vocabulary::Pulse if small == "toggle" => {
            Err("`toggle` is no command: one that arrives twice would undo itself; say `on` or `off`".to_owned())
        }
        Vocabulary::Switch => switch.ok_or_else(|| format!("`{}` is not `on` or `off`", shown(word))),
        Vocabulary::Pulse => match small.as_str() {
            "press" | "pulse" => Ok(Setting::On),
            _ => switch.ok_or_else(|| format!("`{}` is not `press` or `off`", shown(word))),
        },
        Vocabulary::Words(words, bounds) => {
            let exact = words.iter().find(|known| known.as_ref() == word);
            if let Some(known) = exact.or_else(|| words.iter().find(|known| known.eq_ignore_ascii_case(word))) {
                return Ok(Setting::of(known));
            }
            // `true` and `1` are ways to say `on`, where there is such a word.
            if let Some(switch) = switch.filter(|switch| words.iter().any(|known| known.as_ref() == switch.word())) {
                return Ok(switch);
            }
            let known = words.iter().map(|word| format!("`{word}`"));
            let numbers = bounds.map(|(low, high)| format!("a number from {low} to {high}"));
            let expected = known.chain(numbers).collect::<Vec<_>>().join(", ");
            let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
            match (number, bounds) {
                (Some(number), Some((low, high))) if (*low..=*high).contains(&number) => {
                    // Its own shortest text: not every device reads `1e1` or `+5`. The sum has no negative zero.
                    Ok(Setting::Word((number + 0.0).to_string().into()))
                }
                _ => Err(format!("`{}` is none of: {expected}", shown(word))),
            }
        }
    }
}

/// A word as an answer may repeat it: what stands in a payload may be long, or no text for a person.
fn shown(word: &str) -> String {
    let short: String = word.chars().map(|c| if c.is_control() { '?' } else { c }).take(40).collect();
    if short.len() < word.len() && word.chars().count() > 40 { format!("{short}…") } else { short }
}

/// Reads a span of time: a number of seconds, or a text with its unit.
fn span(value: &Value) -> Option<Duration> {
    let (number, unit) = match value {
        Value::Number(number) => (number.as_f64()?, 1.0),
        Value::String(text) => {
            let text = text.trim();
            let split = text.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, unit) = text.split_at(split);
            let unit = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return None,
            };
            (number.trim().parse::<f64>().ok()?, unit)
        }
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok()
}

/// A span for people: 0.3 s, 12 s, 3 min.
pub fn seconds(span: Duration) -> String {
    let ms = span.as_millis();
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests;

//! Topic names (to publish to) and topic filters (to subscribe with) [MQTT-4.7].

use std::fmt;
use std::sync::Arc;

/// Longest topic on the wire: its length is a 16 bit number [MQTT-1.5.4].
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// Why a text is no topic name or no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// [MQTT-4.7.3-1]
    #[error("is empty")]
    Empty,
    /// [MQTT-4.7.3-3]
    #[error("is longer than {TOPIC_BYTES_MAX} bytes")]
    TooLong,
    /// [MQTT-4.7.3-2]
    #[error("contains the character U+0000")]
    Nul,
    /// [MQTT-4.7.1-1]
    #[error("contains a wildcard; a topic to publish to cannot")]
    Wildcard,
    /// [MQTT-4.7.1-2]
    #[error("has a `#` that is not its whole last level")]
    MisplacedHash,
    /// [MQTT-4.7.1-3]
    #[error("has a `+` that does not fill its level")]
    MisplacedPlus,
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    if text.contains('\0') {
        return Err(TopicError::Nul);
    }
    Ok(())
}

/// A topic a message is published to: no wildcards.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks the text and makes it a topic name.
    ///
    /// # Errors
    /// [`TopicError`] for an empty text, one over 65,535 bytes, U+0000 or a wildcard.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        if text.contains(['+', '#']) {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(text.into()))
    }

    /// The topic as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the topic begins with `$`: such topics are hidden from a leading wildcard [MQTT-4.7.2-1].
    pub fn is_dollar(&self) -> bool {
        self.0.starts_with('$')
    }

    /// Whether the topic is `$SYS` or below it: the broker's own.
    pub fn is_sys(&self) -> bool {
        self.0.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A pattern of topics: `+` stands for one level, a last `#` for any number of them, none included.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks the text and makes it a topic filter. `$share/…` is not taken apart here.
    ///
    /// # Errors
    /// [`TopicError`] for an empty text, one over 65,535 bytes, U+0000 or a misplaced wildcard.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicError::MisplacedHash);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicError::MisplacedPlus);
            }
        }
        Ok(Self(text.into()))
    }

    /// The filter as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a message with this topic is meant.
    pub fn matches(&self, topic: &TopicName) -> bool {
        self.capture(topic).is_some()
    }

    /// What the wildcards stand for, in order: one text for each `+`, and for `#` the rest of the levels (empty when there are none).
    /// `None` when the topic is not meant.
    pub fn capture<'t>(&self, topic: &'t TopicName) -> Option<Vec<&'t str>> {
        let name = topic.as_str();
        if name.starts_with('$') && self.0.starts_with(['+', '#']) {
            return None;
        }
        let mut captured = Vec::new();
        let mut rest = Some(name);
        for level in self.0.split('/') {
            if level == "#" {
                captured.push(rest.unwrap_or(""));
                return Some(captured);
            }
            let text = rest?;
            let (head, tail) = match text.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (text, None),
            };
            if level == "+" {
                captured.push(head);
            } else if level != head {
                return None;
            }
            rest = tail;
        }
        rest.is_none().then_some(captured)
    }

    /// How many wildcards the filter has: what `{1}`, `{2}`, … of a rule may refer to.
    pub fn wildcards(&self) -> usize {
        self.0.split('/').filter(|level| matches!(*level, "+" | "#")).count()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture<'t>(filter: &str, topic: &'t TopicName) -> Option<Vec<&'t str>> {
        TopicFilter::parse(filter).unwrap().capture(topic)
    }

    #[test]
    fn wildcards_match_as_the_specification_says() {
        let sport = TopicName::parse("sport").unwrap();
        let player = TopicName::parse("sport/tennis/player1").unwrap();
        let slash = TopicName::parse("/finance").unwrap();
        assert_eq!(capture("sport/#", &sport), Some(vec![""]));
        assert_eq!(capture("sport/tennis/player1/#", &player), Some(vec![""]));
        assert_eq!(capture("sport/+/#", &player), Some(vec!["tennis", "player1"]));
        assert_eq!(capture("#", &player), Some(vec!["sport/tennis/player1"]));
        assert_eq!(capture("sport/+", &sport), None);
        assert_eq!(capture("sport/+", &player), None);
        assert_eq!(capture("+/+", &slash), Some(vec!["", "finance"]));
        assert_eq!(capture("/+", &slash), Some(vec!["finance"]));
        assert_eq!(capture("+", &slash), None);
    }

    #[test]
    fn a_leading_wildcard_does_not_see_dollar_topics() {
        let uptime = TopicName::parse("$SYS/broker/uptime").unwrap();
        assert_eq!(capture("#", &uptime), None);
        assert_eq!(capture("+/broker/uptime", &uptime), None);
        assert_eq!(capture("$SYS/#", &uptime), Some(vec!["broker/uptime"]));
    }

    #[test]
    fn sys_is_a_whole_level() {
        for (text, expected) in
            [("$SYS", true), ("$SYS/x", true), ("$SYSTEM/x", false), ("$x", false), ("x/$SYS", false)]
        {
            assert_eq!(TopicName::parse(text).unwrap().is_sys(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_topics_and_filters_are_told_apart() {
        assert_eq!(TopicName::parse(""), Err(TopicError::Empty));
        assert_eq!(TopicName::parse("a/+"), Err(TopicError::Wildcard));
        assert_eq!(TopicName::parse("a\0"), Err(TopicError::Nul));
        assert_eq!(TopicName::parse(&"x".repeat(65_536)), Err(TopicError::TooLong));
        assert_eq!(TopicFilter::parse("a/#/b"), Err(TopicError::MisplacedHash));
        assert_eq!(TopicFilter::parse("a#"), Err(TopicError::MisplacedHash));
        assert_eq!(TopicFilter::parse("a+/b"), Err(TopicError::MisplacedPlus));
        assert!(TopicName::parse("über/x").is_ok());
        assert!(TopicFilter::parse("+/a/#").is_ok());
    }
}

//! Which message goes up or comes down, and under which topic.

use crate::bridge::settings::{InRule, OutRule, Settings, TopicTemplate};
use crate::model::{BridgeId, Message, Origin, Qos, TopicFilter, TopicName};

/// What goes up.
#[derive(Debug)]
pub struct OutRules {
    bridge: BridgeId,
    status: TopicName,
    never: Vec<TopicFilter>,
    rules: Vec<OutRule>,
}

/// How a message goes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upward {
    /// Topic at the cloud.
    pub topic: TopicName,
    /// QoS upstream.
    pub qos: Qos,
    /// Retain flag upstream.
    pub retain: bool,
}

impl OutRules {
    /// The rules of one bridge.
    pub fn new(settings: &Settings) -> Self {
        Self {
            bridge: settings.id.clone(),
            status: settings.local_status_topic.clone(),
            never: settings.never_out.clone(),
            rules: settings.out.clone(),
        }
    }

    /// The first rule that matches decides; `None` when none does, or when the message never goes up:
    /// the broker's own topics, what this bridge brought down, what was re-seeded at start, our status (the will and the birth speak for
    /// it), bridge states and commands.
    pub fn route(&self, message: &Message) -> Option<Upward> {
        let excluded = match &message.origin {
            Origin::Seed => true,
            Origin::Bridge(id) => *id == self.bridge,
            Origin::Sensor | Origin::Gateway | Origin::Client => false,
        };
        if excluded || message.topic.is_dollar() {
            return None;
        }
        let (rule, captured) = self.rules.iter().find_map(|rule| Some((rule, rule.from.capture(&message.topic)?)))?;
        if message.topic == self.status || self.never.iter().any(|filter| filter.matches(&message.topic)) {
            return None;
        }
        Some(Upward {
            topic: mapped(rule.to.as_ref(), &captured, &message.topic)?,
            qos: rule.qos.unwrap_or(message.qos),
            retain: rule.retain.unwrap_or(message.retain),
        })
    }
}

/// Where a message from the cloud goes: the first rule that matches decides.
pub fn downward<'r>(rules: &'r [InRule], topic: &TopicName) -> Option<(&'r InRule, TopicName)> {
    let (rule, captured) = rules.iter().find_map(|rule| Some((rule, rule.from.capture(topic)?)))?;
    Some((rule, mapped(rule.to.as_ref(), &captured, topic)?))
}

/// `None` when the outcome is no topic: an empty capture may leave nothing, or the sum may be too long.
fn mapped(template: Option<&TopicTemplate>, captured: &[&str], topic: &TopicName) -> Option<TopicName> {
    match template {
        None => Some(topic.clone()),
        Some(template) => TopicName::parse(&expand(&template.0, captured)).ok(),
    }
}

/// Fills `{1}` to `{9}`. What is no such hole stays as it is written.
fn expand(template: &str, captured: &[&str]) -> String {
    let mut text = String::with_capacity(template.len() + captured.iter().map(|part| part.len()).sum::<usize>());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let hole = match rest.as_bytes() {
            [b'{', digit @ b'1'..=b'9', b'}', ..] => captured.get(usize::from(digit - b'1')),
            _ => None,
        };
        if let Some(part) = hole {
            text.push_str(part);
            rest = &rest[3..];
        } else {
            text.push('{');
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: &str, to: Option<&str>) -> OutRule {
        OutRule {
            from: TopicFilter::parse(from).unwrap(),
            to: to.map(|to| TopicTemplate(to.into())),
            qos: None,
            retain: None,
        }
    }

    fn rules(rules: Vec<OutRule>) -> OutRules {
        OutRules {
            bridge: BridgeId::parse("cloud").unwrap(),
            status: TopicName::parse("tidegate/g/status").unwrap(),
            never: vec![TopicFilter::parse("tidegate/g/bridge/#").unwrap(), TopicFilter::parse("+/+/+/set").unwrap()],
            rules,
        }
    }

    fn message(topic: &str, origin: Origin) -> Message {
        Message::new(TopicName::parse(topic).unwrap(), b"1".as_slice(), Qos::AtLeastOnce, true, origin)
    }

    fn topic_up(rules: &OutRules, topic: &str) -> Option<String> {
        rules.route(&message(topic, Origin::Sensor)).map(|up| up.topic.to_string())
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let mut first = rule("a/+/#", Some("up/{2}/{1}"));
        first.qos = Some(Qos::ExactlyOnce);
        first.retain = Some(false);
        let rules = rules(vec![first, rule("#", None)]);
        let up = |topic: &str, qos, retain| Some(Upward { topic: TopicName::parse(topic).unwrap(), qos, retain });
        assert_eq!(rules.route(&message("a/b/c/d", Origin::Client)), up("up/c/d/b", Qos::ExactlyOnce, false));
        assert_eq!(rules.route(&message("x", Origin::Client)), up("x", Qos::AtLeastOnce, true));
    }

    #[test]
    fn what_is_not_to_go_up_does_not() {
        let rules = rules(vec![rule("#", None), rule("$SYS/#", None)]);
        for topic in ["$SYS/broker/uptime", "tidegate/g/status", "tidegate/g/bridge/cloud", "tidegate/g/pump/set"] {
            assert_eq!(topic_up(&rules, topic), None, "{topic}");
        }
        let came_down = |id| Origin::Bridge(BridgeId::parse(id).unwrap());
        assert_eq!(rules.route(&message("x", came_down("cloud"))), None);
        assert!(rules.route(&message("x", came_down("other"))).is_some());
        assert_eq!(rules.route(&message("x", Origin::Seed)), None);
        assert!(topic_up(&rules, "tidegate/g/event").is_some());
    }

    #[test]
    fn holes_are_filled_and_other_braces_stay() {
        assert_eq!(expand("a/{2}/{1}", &["x", "y/z"]), "a/y/z/x");
        assert_eq!(expand("{3}{0}{x}{", &["a"]), "{3}{0}{x}{");
        assert_eq!(expand("{1}", &["{1}"]), "{1}", "what was filled in is not looked at again");
    }

    #[test]
    fn a_mapping_that_leaves_no_topic_drops_the_message() {
        let rules = rules(vec![rule("a/#", Some("{1}"))]);
        assert_eq!(topic_up(&rules, "a"), None);
        assert_eq!(topic_up(&rules, "a/b"), Some("b".into()));
    }
}

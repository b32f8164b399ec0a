//! Which message goes up or comes down, and under which topic.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::bridge::settings::{InRule, OutRule, Settings, TopicTemplate};
use crate::logic::marks;
use crate::model::{BridgeId, GatewayId, Message, Origin, Priority, Qos, RuleId, TopicFilter, TopicName};

/// What goes up.
#[derive(Debug)]
pub struct OutRules {
    bridge: BridgeId,
    gateway: GatewayId,
    status: TopicName,
    never: Vec<TopicFilter>,
    rules: Vec<OutRule>,
    /// Whether it was told that messages come in again.
    circle_told: AtomicBool,
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
    /// What it goes before.
    pub priority: Priority,
    /// The rule that decided this.
    pub rule: RuleId,
}

impl OutRules {
    /// The rules of one bridge.
    pub fn new(settings: &Settings) -> Self {
        Self {
            bridge: settings.id.clone(),
            gateway: settings.gateway.clone(),
            status: settings.local_status_topic.clone(),
            never: settings.never_out.clone(),
            rules: settings.out.clone(),
            circle_told: AtomicBool::new(false),
        }
    }

    /// The first rule that matches decides; `None` when none does, or when the message never goes up:
    /// the broker's own topics, what this bridge brought down, what went through this gateway before, what was re-seeded at start, our status (the will and the birth speak for
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
        if marks::went_through(message.properties.as_deref(), self.gateway.as_str()) {
            if !self.circle_told.swap(true, Ordering::Relaxed) {
                let (bridge, topic, origin) = (self.bridge.as_str(), message.topic.as_str(), &message.origin);
                tracing::warn!(
                    bridge,
                    topic,
                    ?origin,
                    "messages of ours come in again, and are not sent up a second time"
                );
            }
            return None;
        }
        if message.topic == self.status || self.never.iter().any(|filter| filter.matches(&message.topic)) {
            return None;
        }
        Some(Upward {
            topic: mapped(rule.to.as_ref(), &captured, &message.topic)?,
            qos: rule.qos.unwrap_or(message.qos),
            retain: rule.retain.unwrap_or(message.retain),
            priority: rule.priority,
            rule: RuleId::of(&rule.from),
        })
    }
}

/// Where a message from the cloud goes: the first rule that matches decides.
pub fn downward<'r>(rules: &'r [InRule], topic: &TopicName) -> Option<(&'r InRule, TopicName)> {
    let (rule, captured) = rules.iter().find_map(|rule| Some((rule, rule.from.capture(topic)?)))?;
    Some((rule, mapped(rule.to.as_ref(), &captured, topic)?))
}

/// Whether what goes up as `topic` is what comes down from there as `local`: then the one is an echo of the other.
pub fn is_two_way(rules: &[OutRule], topic: &TopicName, local: &TopicName) -> bool {
    let first = rules.iter().find_map(|rule| Some((rule, rule.from.capture(local)?)));
    first.and_then(|(rule, captured)| mapped(rule.to.as_ref(), &captured, local)).is_some_and(|up| up == *topic)
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
    use crate::bridge::settings::Share;

    fn rule(from: &str, to: Option<&str>) -> OutRule {
        OutRule {
            from: TopicFilter::parse(from).unwrap(),
            to: to.map(|to| TopicTemplate(to.into())),
            qos: None,
            retain: None,
            priority: Priority::Normal,
            share: Share::default(),
        }
    }

    fn rules(rules: Vec<OutRule>) -> OutRules {
        OutRules {
            bridge: BridgeId::parse("cloud").unwrap(),
            gateway: GatewayId::parse("g").unwrap(),
            status: TopicName::parse("tidegate/g/status").unwrap(),
            never: vec![TopicFilter::parse("tidegate/g/bridge/#").unwrap(), TopicFilter::parse("+/+/+/set").unwrap()],
            rules,
            circle_told: AtomicBool::new(false),
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
        first.priority = Priority::Urgent;
        let rules = rules(vec![first, rule("#", None)]);
        let topic = |text| TopicName::parse(text).unwrap();
        let rule = |from| RuleId::of(&TopicFilter::parse(from).unwrap());
        let mapped = Upward {
            topic: topic("up/c/d/b"),
            qos: Qos::ExactlyOnce,
            retain: false,
            priority: Priority::Urgent,
            rule: rule("a/+/#"),
        };
        assert_eq!(rules.route(&message("a/b/c/d", Origin::Client)), Some(mapped));
        let plain = Upward {
            topic: topic("x"),
            qos: Qos::AtLeastOnce,
            retain: true,
            priority: Priority::Normal,
            rule: rule("#"),
        };
        assert_eq!(rules.route(&message("x", Origin::Client)), Some(plain));
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
    fn what_went_through_this_gateway_does_not_go_up_again() {
        let rules = rules(vec![rule("#", None)]);
        let passed = |gateway| {
            let origin = Origin::Bridge(BridgeId::parse("other").unwrap());
            let properties = marks::put(crate::model::Properties::default(), gateway, None);
            rules.route(&Message { properties: Some(properties.into()), ..message("x", origin) }).is_some()
        };
        assert_eq!([passed("g"), passed("another")], [false, true]);
    }

    #[test]
    fn only_what_would_go_up_to_where_it_came_from_is_two_way() {
        let rules = [rule("a/#", Some("up/{1}")), rule("#", None)];
        let two_way =
            |topic, local| is_two_way(&rules, &TopicName::parse(topic).unwrap(), &TopicName::parse(local).unwrap());
        assert_eq!([two_way("up/x", "a/x"), two_way("a/x", "a/x"), two_way("b", "b")], [true, false, true]);
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

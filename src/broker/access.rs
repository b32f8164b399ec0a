//! What a client may publish to and subscribe to.

use std::sync::Arc;

use super::settings::{FilterTemplate, User};
use crate::model::{TopicFilter, TopicName};

/// The permissions of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything but the broker's own `$SYS`.
    All,
    /// What these filters cover.
    Some { publish: Vec<TopicFilter>, subscribe: Vec<TopicFilter> },
}

impl Access {
    /// A user's permissions with the connection's own names filled in.
    pub(super) fn of(user: &User, client: &str) -> Arc<Self> {
        let fill = |templates: &[FilterTemplate]| {
            templates.iter().filter_map(|template| fill(&template.0, &user.name, client)).collect()
        };
        Arc::new(Self::Some { publish: fill(&user.publish), subscribe: fill(&user.subscribe) })
    }

    /// Whether a client may publish to the topic. Nobody may speak for the broker itself.
    pub(super) fn may_publish(&self, topic: &TopicName) -> bool {
        if topic.is_sys() {
            return false;
        }
        match self {
            Self::All => true,
            Self::Some { publish, .. } => publish.iter().any(|filter| filter.matches(topic)),
        }
    }

    /// Whether a client may subscribe: one of its filters must cover every topic the asked one means.
    pub(super) fn may_subscribe(&self, asked: &TopicFilter) -> bool {
        match self {
            Self::All => true,
            Self::Some { subscribe, .. } => subscribe.iter().any(|filter| covers(filter.as_str(), asked.as_str())),
        }
    }
}

/// Fills the names in. A name that would bring in a wildcard or a level of its own grants nothing.
pub(super) fn fill(template: &TopicFilter, user: &str, client: &str) -> Option<TopicFilter> {
    let mut levels = Vec::new();
    for level in template.as_str().split('/') {
        let name = match level {
            "{user}" => user,
            "{client}" => client,
            level => {
                levels.push(level);
                continue;
            }
        };
        if name.is_empty() || name.contains(['/', '+', '#']) {
            return None;
        }
        levels.push(name);
    }
    TopicFilter::parse(&levels.join("/")).ok()
}

/// Whether every topic that `asked` means is meant by `allowed` too.
fn covers(allowed: &str, asked: &str) -> bool {
    // A leading wildcard does not see topics that begin with `$` [MQTT-4.7.2-1].
    if asked.starts_with('$') && allowed.starts_with(['+', '#']) {
        return false;
    }
    let mut allowed = allowed.split('/');
    let mut asked = asked.split('/');
    loop {
        match (allowed.next(), asked.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(one), Some(other)) if one == other && one != "#" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::PasswordHash;
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn user(publish: &[&str], subscribe: &[&str]) -> User {
        let templates = |texts: &[&str]| texts.iter().map(|text| FilterTemplate(filter(text))).collect();
        User {
            name: "ha".into(),
            hash: Some(PasswordHash(String::new())),
            publish: templates(publish),
            subscribe: templates(subscribe),
        }
    }

    fn topic(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    #[test]
    fn names_are_filled_in_whole_levels() {
        let access = Access::of(&user(&["dev/{client}/{user}/+"], &["in/{client}/#"]), "c1");
        assert!(access.may_publish(&topic("dev/c1/ha/x")));
        assert!(!access.may_publish(&topic("dev/c2/ha/x")));
        assert!(access.may_subscribe(&filter("in/c1")));
        assert!(access.may_subscribe(&filter("in/c1/+/x")));
        assert!(!access.may_subscribe(&filter("in/+/x")));
    }

    #[test]
    fn a_client_id_with_a_wildcard_grants_nothing() {
        for client in ["+", "#", "a/b", ""] {
            let access = Access::of(&user(&["dev/{client}"], &["dev/{client}"]), client);
            assert!(!access.may_subscribe(&filter("dev/+")), "{client}");
            assert!(!access.may_publish(&topic("dev/a")), "{client}");
        }
    }

    #[test]
    fn a_filter_that_means_more_than_allowed_is_denied() {
        for (allowed, asked, expected) in [
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/+", "a/#", false),
            ("a/+", "a/+", true),
            ("a/b", "a/+", false),
            ("a/+", "a/b/c", false),
            ("#", "#", true),
            ("#", "$SYS/#", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/broker/uptime", true),
            ("a/b", "a", false),
            ("a", "a/#", false),
        ] {
            assert_eq!(covers(allowed, asked), expected, "{allowed} covers {asked}");
        }
    }

    #[test]
    fn nobody_publishes_to_sys() {
        assert!(!Access::All.may_publish(&topic("$SYS/broker/uptime")));
        assert!(Access::All.may_publish(&topic("$else/x")));
    }
}
